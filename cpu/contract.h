/* contract.h - matrix products and convolutions on the CPU.
 *
 * SPDX-License-Identifier: ISC
 *
 * Each is planned once and run many times.  The result is row-major; with an
 * epilogue, run(self, begin, end, thread) is called as soon as elements
 * [begin,end) of the result are complete and in cache, exactly once for each
 * element, in ranges that do not depend on the number of threads. */
#ifndef EBM_CPU_CONTRACT_H
#define EBM_CPU_CONTRACT_H

#include "plan.h"

struct cpu {                  /* the open device; see cpu.c */
    ebm_context *ctx;
    int threads;
    unsigned flags;           /* isa.h: CPU_* the machine has, less the masked */
    bool exact;               /* no algorithm that rounds more than sums of products */
    enum ebm_precision precision;    /* of the program */
    const struct bf16_kernels *bf16; /* bf16.h, or NULL */
    const struct kernels *kernels;   /* isa.h: vector kernels of the chosen ISA */
    const struct ukernel *ukernel;   /* gemm micro-kernel: BLIS or own */
};

struct epilogue {
    void (*run)(void *self, int64_t begin, int64_t end, int thread);
    void *self;
};

struct contract;

/* Plan node (CONV, CONV_DATA, CONV_FILTER or MATMUL) for its operands' shapes.
 * Returns EBM_OK, EBM_ERR_NOMEM or, naming it, what cannot be done. */
int contract_new(const struct cpu *cpu, const struct node *node,
                 const struct shape *a, const struct shape *b,
                 struct contract **contract);
/* The algorithm chosen: "product", "rows", "few", "filter", "winograd", "winograd filter", "bf16 rows",
 * "bf16 filter", "bf16 round"; "" for an empty result. */
const char *contract_algorithm(const struct contract *contract);
void contract_free(const struct cpu *cpu, struct contract *contract);
/* Bytes of b as it is packed, where packing is felt and would be spared by keeping
 * them from a run to the next with the same b; else 0. */
size_t contract_keeps(const struct contract *contract);
/* From now on pack b there: as many bytes. */
void contract_keep(struct contract *contract, float *at);
/* Does either make the same bytes of one b? */
bool contract_packs_alike(const struct contract *a, const struct contract *b);
/* Bytes of scratch that run needs (all threads together), 64-byte aligned. */
size_t contract_scratch(const struct contract *contract);
/* same: b is packed already where it is kept.  epilogue: NULL for none. */
void contract_run(const struct cpu *cpu, const struct contract *contract,
                  const float *a, const float *b, bool same, float *out, void *scratch,
                  const struct epilogue *epilogue);

#endif
