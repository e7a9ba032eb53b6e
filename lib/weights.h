/* weights.h - tensors between stores and files.
 *
 * SPDX-License-Identifier: ISC
 *
 *   checkpoint   every tensor of the training store, by its name; those of a
 *                region one by one: "energy/conv1.weight", "energy.m", "rng"
 *   model        of each region the moving average, or the region itself where
 *                none is kept: "energy/conv1.weight"; the region itself beside
 *                its average: "raw/energy/conv1.weight"; and the states of its
 *                layers: "energy/conv1.weight_u", likewise averaged where the
 *                training has "energy/conv1.weight_u.ema" */
#ifndef EBM_WEIGHTS_H
#define EBM_WEIGHTS_H

#include "safetensors.h"
#include "store.h"

/* A checkpoint's tensors.  Adding reads them when the file is written, and then
 * refuses what is not finite with EBM_ERR_DIVERGED: a checkpoint is always good. */
int weights_add_all(ebm_store *store, struct safetensors_writer *writer);
int weights_read_all(ebm_store *store, struct safetensors *file);

/* The trained weights, copied from a training store. */
struct weights;
int weights_new(ebm_store *store, struct weights **weights);
void weights_free(struct weights *weights);            /* NULL is allowed */
int weights_add(const struct weights *weights, struct safetensors_writer *writer);
/* Into the store of a model, whose regions and layers' states must be there. */
int weights_copy(const struct weights *weights, ebm_store *model);
int weights_load(struct safetensors *file, bool raw, ebm_store *model);
/* The file's region `from` into the store's region `to` alone. */
int weights_load_region(struct safetensors *file, bool raw, const char *from, ebm_store *model,
                        const char *to);

/* Elements of all regions. */
int64_t weights_parameters(const ebm_store *store);
/* Bytes of the regions and of what optimisers keep of them, "region.m". */
size_t weights_bytes(const ebm_store *store);

#endif
