/* group.h - elementwise groups, as their files see them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   group_plan.c   from the plan's group: how inputs are read, what is in place
 *   group_read.c   the elements that an input gives a tile
 *   group.c        the tiles */
#ifndef EBM_CPU_GROUP_H
#define EBM_CPU_GROUP_H

#include "step.h"

/* An input, its axes merged.  From outer to inner, axis i has size n[i] and
 * steps of stride[i] elements. */
enum reading {
    READ_LINEAR,       /* float: used in place */
    READ_ONE,          /* one number: LANES copies of it, made once per run */
    READ_PERIOD,       /* repeats after `period`: written out once per run */
    READ_WINDOW,       /* the same with a long period, float: used in place */
    READ_REPEAT,       /* as PERIOD within a block, anew in each: by range and thread */
    READ_ROWS          /* anything else, and conversions */
};

struct input {
    enum reading reading;
    enum ebm_type type;
    const void *at;
    bool far;                    /* from memory: fetched ahead */
    int rank;
    int64_t n[EBM_MAX_RANK], stride[EBM_MAX_RANK], period;
    int again;                   /* ROWS: the innermost axis but one with stride 0, or -1 */
    int64_t inside;              /* elements inside that axis: they repeat */
    int64_t block;               /* REPEAT: elements over which they do */
    size_t slot;                 /* REPEAT: where a thread's scratch has them */
    size_t copied;               /* where it has elements that cannot be used in place */
    float *made;                 /* ONE, PERIOD */
};

struct output {
    void *at;
    enum ebm_type type;
    int reg;
    bool lifted;                 /* it is memory that another output overwrites */
    bool streamed;               /* too large for caches: written past them */
};

struct instruction {
    uint8_t op, dst, a, b, c;
    int8_t output;               /* the output written in place, or -1 */
    bool waits;                  /* done along with the next that is no leaf, which alone reads it */
    bool takes, second;          /* this is that: as its first operand, or the second */
    int64_t inner, size;         /* IOTA: elements per index, indices */
    size_t copied;               /* IOTA: where a thread's scratch has a tile of it */
    float imm[LANES];
};

struct group {
    const struct kernels *k;
    int64_t count, work;         /* elements; element operations in all */
    int tile, piece;             /* elements; of a register */
    int span;                    /* what is written out is for as many: a tile, unless tiles are longer */
    int n_in, n_out, n_instr;
    bool far;                    /* operands come from memory */
    size_t thread_scratch;       /* bytes: registers, numbers, slots and copies */
    size_t numbers, raw_copied;  /* where it has LANES for each instruction, and RAW's */
    struct input *in;
    struct output *out;
    struct instruction *instr;
    float *made;                 /* what inputs' `made` point into */
    const float *raw;
    char *scratch;
};

/* What a register stands for while a tile is computed. */
struct reg {
    char *at;
    int64_t step;                /* bytes of an element; 0: all pieces have one place; or ONE: */
};
enum { ONE = -1 };               /* LANES copies of one number */

/* Floats that an input's `made` takes. */
static inline int64_t made_size(const struct group *g, const struct input *in)
{
    return in->reading == READ_ONE ? LANES
         : in->reading == READ_PERIOD ? (in->period + g->span + 2 * LANES - 1) & -LANES
         : 0;
}

/* A slot of a thread's scratch: the elements of one block, repeated so that any
 * tile within it is a window of them. */
struct slot {
    int64_t block;               /* which one; NOT_YET; NEVER: the range is too short */
    int64_t unused[7];           /* elements begin with a cache line */
    float at[];
};
enum { NOT_YET = -1, NEVER = -2 };

/* Once per run; once per range of n elements and thread. */
void inputs_begin(struct group *g);
void inputs_begin_range(const struct group *g, char *scratch, int64_t n);
/* Is memory as long as vector loops take it?  Then it may be used in place. */
static inline bool fills_lanes(int64_t n)
{
    return n % LANES == 0;
}

/* The n elements that one input gives a tile. */
struct reg input_load(const struct group *g, const struct input *in, char *scratch,
                      int64_t begin, int64_t n);

#endif
