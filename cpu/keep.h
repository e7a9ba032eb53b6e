/* keep.h - weights that stay packed from run to run.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CPU_KEEP_H
#define EBM_CPU_KEEP_H

#include "step.h"
#include "store.h"

/* The steps of a program, and where there is how much room; at NULL: it is only
 * asked how much is wanted of that. */
struct keeping {
    const struct plan *plan;
    int n_steps;
    struct step_run *steps;
    char *at;
    size_t room;
    unsigned char *written;      /* by slot: while it works */
};

/* Have steps keep what they pack, as far as there is room.  Returns the bytes that
 * takes, or EBM_ERR_NOMEM. */
int64_t keep_packed(ebm_context *ctx, struct keeping *keeping);

#endif
