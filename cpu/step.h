/* step.h - a step of the plan made ready: nothing is left to decide, to look up
 * or to allocate when it runs.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CPU_STEP_H
#define EBM_CPU_STEP_H

#include "contract.h"
#include "isa.h"
#include "kernels.h"

#ifdef _OPENMP
#include <omp.h>
/* Which thread this is: for its scratch memory, never for what it computes. */
static inline int thread_index(void) { return omp_get_thread_num(); }
#else
static inline int thread_index(void) { return 0; }
#endif

/* Below this many element operations a loop is not worth waking threads for. */
enum { PARALLEL_WORK = 1 << 17 };
static inline int threads_for(const struct cpu *cpu, int64_t work)
{
    return work < PARALLEL_WORK ? 1 : cpu->threads;
}

/* An elementwise group; see group.c. */
struct group;

/* Where a place lies in memory; NULL for none. */
struct memory {
    char *arena, *kept;
    char *const *slots, *const *feeds;
    char *strip;                 /* SPACE_STRIP: of the first thread */
    size_t strip_size;           /* of each thread */
};
void *memory_at(const struct memory *m, const struct place *p);

/* whole: elements of the results of which this is a part. */
int group_new(const struct cpu *cpu, const struct ew_group *plan, const struct memory *memory,
              const float *raw, int64_t whole, struct group **group);
void group_free(const struct cpu *cpu, struct group *group);
/* Bytes of scratch for each thread. */
size_t group_scratch(const struct group *group);
/* Move an operand or a result; those that lay on one another do so again. */
void group_set_input(struct group *group, int i, const void *at);
void group_set_output(struct group *group, int i, void *at);
/* Before elements are computed: read what is read once per run. */
void group_begin(struct group *group, char *scratch);
/* Elements [begin,end) of the outputs; the signature of an epilogue. */
void group_range(void *group, int64_t begin, int64_t end, int thread);
/* All of them. */
void group_run(const struct cpu *cpu, struct group *group, char *scratch);

/* A heavy operation. */
struct step_run {
    void (*run)(const struct cpu *cpu, const struct step_run *s);
    void (*release)(const struct cpu *cpu, struct step_run *s);   /* NULL: mem_free(own) */
    struct node node;        /* a copy; its operands are not to be followed */
    int n_in;
    struct shape *shape;     /* of the operands */
    const void **in;
    void *out;
    bool past;               /* the result, of which this may be a block, passes the caches by */
    void *own;               /* tables of the operation */
    char *scratch;           /* scratch_size bytes, shared with other steps */
    size_t scratch_size;
    struct group *group;     /* an epilogue, or all there is */
    bool contracts;          /* own is a struct contract */
    bool packed_before;      /* its second operand has been packed by an earlier step */
    bool same;               /* and as in the run before */
    int first;               /* the step of the plan, the first of a strip */
    bool timed;
    /* Several steps in one: add to theirs the seconds of a run that was timed. */
    void (*share)(const struct step_run *s, double *seconds, double total);
};

/* Axis 0 cut from `rows` to `n`. */
struct cut { int64_t rows, n; };

/* A step or, with a cut, a block of it, made ready; without memory a part is. */
int step_prepare(const struct cpu *cpu, const struct plan *plan, const struct step *step,
                 const struct memory *memory, const struct cut *cut, struct step_run *s);
void step_release(const struct cpu *cpu, struct step_run *s);
/* A strip as one step. */
int strip_prepare(const struct cpu *cpu, const struct plan *plan, const struct strip *strip,
                  const struct memory *memory, struct step_run *s);
void strip_share(const struct step_run *s, double *seconds, double total);
/* A sum whose result is not written: its elements in double. */
void reduce_part(const struct cpu *cpu, const struct step_run *s, double *sums);
/* A reduction while its operand is made: the number of pieces that take the operand's
 * elements in their order (0: they do not), where one begins, and its turn, which the
 * elements up to the next piece's begin are there for; at the end the result, or as
 * reduce_part has it.  Meanwhile the scratch is not to be touched. */
int64_t reduce_pieces(const struct step_run *s);
int64_t reduce_piece_begin(const struct step_run *s, int64_t piece);
void reduce_piece(const struct cpu *cpu, const struct step_run *s, int64_t piece);
void reduce_finish(const struct cpu *cpu, const struct step_run *s);
void reduce_finish_part(const struct step_run *s, double *sums);
/* A sum that finds its terms' squares about their means besides (false: not this one) and,
 * with `other`, the sums of operand 1, which is shaped as its own, and of its products with
 * what terms are off their means.  For that its scratch is to stay as it is.  Once it has run:
 * squares' and products' sums about numbers that lie as its results do, or operand 1's alone. */
enum about { ABOUT_SQUARES, ABOUT_PRODUCTS, ABOUT_NOTHING };
bool reduce_moments(struct step_run *s, bool other);
int64_t reduce_results(const struct step_run *s);
void reduce_about(const struct step_run *s, enum about what, const float *centre, float *out);
/* The clock that steps are timed by. */
double cpu_seconds(void);

/* Prepare a step whose node, operands and result are set: set run, own,
 * scratch_size.  Return EBM_OK or EBM_ERR_NOMEM. */
int move_prepare(const struct cpu *cpu, struct step_run *s);
int reduce_prepare(const struct cpu *cpu, struct step_run *s);
int window_prepare(const struct cpu *cpu, struct step_run *s);
int resample_prepare(const struct cpu *cpu, struct step_run *s);
int index_prepare(const struct cpu *cpu, struct step_run *s);
int random_prepare(const struct cpu *cpu, struct step_run *s);

/* Measure what the machine reaches at best.  EBM_OK or EBM_ERR_NOMEM. */
int cpu_peaks(const struct cpu *cpu, ebm_peaks *peaks);

#endif
