/* isa.h - what the processor can do, and the kernels chosen for it.
 *
 * SPDX-License-Identifier: ISC
 *
 * Files of vectorised loops are compiled once per instruction set, with ISA
 * defined to its name; each exports one table, kernels_base, kernels_avx2,
 * kernels_avx512 (and ukernel_base ...).  isa.c chooses the best that the
 * processor has and the environment variable EBM_CPU_MASK (a list:
 * "avx512,avx2", "amx") does not mask. */
#ifndef EBM_CPU_ISA_H
#define EBM_CPU_ISA_H

enum cpu_flag {
    CPU_AVX2       = 1 << 0,      /* with FMA */
    CPU_AVX512     = 1 << 1,      /* F, DQ, BW, VL */
    CPU_AVX512BF16 = 1 << 2,
    CPU_AMX        = 1 << 3       /* tiles, for bfloat16; the system lends them */
};

struct bf16_kernels;
struct kernels;
struct ukernel;

unsigned cpu_flags(void);         /* detected, less EBM_CPU_MASK */

/* The best for the flags; never NULL. */
const struct kernels *kernels_best(unsigned flags);
const struct ukernel *ukernel_best(unsigned flags);
const char *kernels_name(const struct kernels *k);

/* Products of bfloat16; NULL: no instructions for them. */
const struct bf16_kernels *bf16_best(unsigned flags);
const char *bf16_name(const struct bf16_kernels *kernels);

/* The i-th that the flags allow, from the plainest; NULL behind the last. */
const struct ukernel *ukernel_nth(unsigned flags, int i);

#endif
