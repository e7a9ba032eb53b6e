/* checkpoint.h - the saved states of a run.
 *
 * SPDX-License-Identifier: ISC
 *
 *   run/checkpoint-000001000.safetensors   one atomic file each, holding all:
 *   run/checkpoint-000002000.safetensors   weights, moments, averages, replay
 *                                          buffer, counters, the recipe
 *
 * Invariant: once checkpoint_save() has returned, a kill at any instant leaves
 * a state at least as new as the saved one. */
#ifndef EBM_CHECKPOINT_H
#define EBM_CHECKPOINT_H

#include "safetensors.h"

struct checkpoint_keep {
    int last;          /* the newest so many; at least 1 */
    int64_t every;     /* and those whose step is a multiple of it; 0: none */
    int64_t regular;   /* the others, written out of turn, do not count, and are
                        * removed when a newer one is there; 0: all count */
};

/* Write writer's tensors and metadata (to which "step" is added) as the
 * checkpoint of a step; then remove older ones that `keep` does not name and
 * any of later steps, which belong to an abandoned course of the run. */
int checkpoint_save(ebm_context *ctx, const char *folder, int64_t step,
                    struct safetensors_writer *writer, const struct checkpoint_keep *keep);

/* Only the removing, of what a killed run left. */
int checkpoint_prune(ebm_context *ctx, const char *folder, int64_t step,
                     const struct checkpoint_keep *keep);

/* The steps that have a checkpoint, ascending, valid or not; mem_free them. */
int checkpoint_list(ebm_context *ctx, const char *folder, int64_t **steps, int *count);

/* Open the newest checkpoint whose checksum is right.  Each newer one that is
 * truncated or altered is named in a warning of the log, with the one used
 * instead.  Temporaries that a killed run left are removed.
 * Returns 1, or 0 when the folder has no checkpoint at all; EBM_ERR_FORMAT when
 * it has some and none is valid. */
int checkpoint_open(ebm_context *ctx, const char *folder,
                    struct safetensors **file, int64_t *step);
/* The same for one step. */
int checkpoint_open_step(ebm_context *ctx, const char *folder, int64_t step,
                         struct safetensors **file);

#endif
