/* guard.h - training that leaves the rails is noticed, and what is done then.
 *
 * SPDX-License-Identifier: ISC
 *
 *   every update   the update program itself decides, so that no bad update is
 *                  ever made and none waits for the host:
 *                    finite    loss, energies and gradient are numbers
 *                    gap       |E(data) - E(samples)| within guard.gap
 *                    gradient  norm within guard.gradient times its running mean
 *                  else nothing changes: the step is skipped
 *   guard.patience skips in a row: back to a good checkpoint, with another
 *                  stream of noise
 *   more than guard.rollbacks of those: EBM_ERR_DIVERGED */
#ifndef EBM_GUARD_H
#define EBM_GUARD_H

#include "recipe.h"

extern const struct recipe_key guard_keys[];
extern const int guard_n_keys;

/* What an update shows to its guard: scalars of the graph. */
struct guard_view {
    ebm_val loss, gap, gradient;
    ebm_val others;          /* must be finite too; 0: nothing */
};

/* 1 where the update may be made, else 0.  The running mean of the gradient's
 * norm, "guard.mean" and "guard.count", moves by effects added to outputs;
 * *mean (may be NULL) is the one that was compared with. */
ebm_val guard_enable(ebm_graph *g, struct recipe *recipe, const struct guard_view *view,
                     ebm_val *mean, ebm_outputs *outputs);

/* The host's side, part of a checkpoint. */
struct guard {
    double gap, gradient;            /* limits of the recipe; 0: none */
    int patience, limit;
    int skips;                       /* in a row */
    int rollbacks;                   /* in the whole run; also the noise stream */
};

struct guard guard_of(struct recipe *recipe);

enum guard_verdict { GUARD_GOOD, GUARD_SKIPPED, GUARD_ROLL_BACK };
enum guard_verdict guard_judge(struct guard *guard, bool accepted);

/* Why an update was refused, for the log. */
enum { GUARD_TEXT = 160 };
void guard_reason(const struct guard *guard, double loss, double gap, double gradient,
                  double mean, char text[GUARD_TEXT]);

#endif
