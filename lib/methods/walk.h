/* walk.h - chains on their way: steps with progress, and frames of them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   frame 0        1        2        3      of 4: the start, the end, and between
 *         +--------+--------+--------+      them at equal numbers of steps
 *
 * What is kept does not grow with the number of steps. */
#ifndef EBM_WALK_H
#define EBM_WALK_H

#include "method.h"
#include "settings.h"

/* sample.one_start. */
extern const struct key_table walk_table;

/* The states of chains. */
#define WALK_COUNTER "sample.rng"
#define WALK_CHAIN "sample.x"

/* x [n,...] as the chains start from it: each from its own, or all from the first. */
ebm_val walk_start(ebm_graph *g, struct recipe *recipe, ebm_val x);

struct walk {
    const struct method_site *site;
    const struct method_draw *draw;
    ebm_program *step;                   /* with the feeds "step" and "noise" */
    float *images;                       /* a batch: frames, at last the end */
    size_t bytes;
    int64_t all;                         /* steps of the whole way */
    int64_t done;                        /* set by these functions */
    int frame;
};

/* When the chains have started. */
int walk_begin(struct walk *walk);
int walk_steps(struct walk *walk, const struct phase *phase, int64_t steps);
/* Chains -> images. */
int walk_end(struct walk *walk);

#endif
