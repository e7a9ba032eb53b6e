/* strip.h - a strip made ready, as its files see it.
 *
 * SPDX-License-Identifier: ISC
 *
 *   strip.c           blocks, one after the other
 *   strip_moments.c   sums that an earlier sum finds on its way */
#ifndef EBM_CPU_STRIP_H
#define EBM_CPU_STRIP_H

#include "step.h"

struct operand {
    char *at;                    /* of the first row */
    size_t row;                  /* bytes of a row; 0: stays */
};

enum { MOST_SUMS = 4 };

/* A step for blocks of one size in one thread. */
struct part {
    struct step_run run;
    int n_in, n_out;
    struct operand *in, *out;
    int n_sums;                  /* steps that sum its results while it makes them, */
    int sum[MOST_SUMS], of[MOST_SUMS];   /* and which result each does */
    unsigned passing;            /* a bit for each result that nothing else reads */
    bool early;                  /* it is such a sum */
    struct part *moments;        /* a sum whose moments have the sums of what it makes, or sums; or NULL */
    struct part *maker;          /* a sum: what made that; NULL: it is the other array of the moments */
    int of_maker;                /* which of its results */
    int centre;                  /* the operand that these are about */
    float *found;                /* their sums, one result's after the other's */
    enum about about[EW_MAX_OUTPUTS];
    bool pairs;                  /* a sum: its moments are of two arrays, the other of which is here */
    struct operand other;
    struct part *ahead;          /* and made by this, a group, as they are taken; or NULL: it is there */
    bool keeps;                  /* its scratch has to stay as it is */
    char *own;                   /* so it has its own */
};

/* A sum over axis 0. */
struct closing {
    int step;
    int64_t count;               /* elements of the result */
    double *parts;               /* by block */
    float *out;
};

struct strip_run {
    struct cpu one;              /* the same with one thread */
    int n, n_closing, threads;
    int64_t rows, block, blocks;
    size_t scratch;              /* bytes of a thread's */
    struct part *parts;          /* by thread, by size of block (whole, last), by step */
    struct closing *closing;
    double *seconds;             /* by thread, by step; of the last run, if it was timed */
};

/* A step of the strip for blocks of `rows` rows in the thread whose memory this is. */
int part_new(const struct strip_run *r, const struct plan *plan, const struct step *step,
             const struct memory *memory, int64_t rows, struct part *p);
void part_free(const struct cpu *cpu, struct part *p);
/* The root of what a step other than a group reads. */
ebm_val strip_reads(const struct plan *plan, const struct step *step, int i);

/* Find sums that moments of earlier sums have, of what step i, a group, makes.  EBM_OK or
 * EBM_ERR_NOMEM. */
int strip_find_moments(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                       const struct memory *memory, int64_t rows, struct part *parts, int i);

#endif
