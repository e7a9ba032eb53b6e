/* data.h - a set of images, as the loader sees it.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_DATA_H
#define EBM_DATA_H

#include "context.h"

/* ebm_data_read for several threads at a time, each with its context. */
int data_read(ebm_context *ctx, ebm_data *data, size_t index, float *pixels,
              int32_t *label);
ebm_context *data_context(const ebm_data *data);

/* Bytes that a loader with the default queue takes. */
size_t loader_bytes(const ebm_data_info *info, int64_t batch);

#endif
