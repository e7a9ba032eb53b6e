/* made.h - foreign images that are made rather than read.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_MADE_H
#define EBM_MADE_H

#include <stdbool.h>
#include "ebm.h"

/* interpolations   the mean of each image of a set and the next one; the last's
 *                  next is the first (Du and Mordatch 2019; Du et al. 2021)
 * noise            each number uniform in [0,1)
 * constant         each image of one colour, uniform in [0,1) */
enum made { MADE_NONE, MADE_INTERPOLATIONS, MADE_NOISE, MADE_CONSTANT };

enum made made_of_name(const char *source);
/* Image `index` of such as the set `data` has, a function of the set and the index;
 * pixels has room for two. */
int made_read(enum made made, ebm_data *data, size_t index, float *pixels);

#endif
