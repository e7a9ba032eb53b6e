/* plane.h - a model of points of the plane, as a picture.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_PLANE_H
#define EBM_PLANE_H

#include <stdbool.h>
#include <stdint.h>
#include "ebm.h"

/* Are these images points? */
bool plane_is(int height, int width, int channels);
/* Draw data of `source`, samples of the model and its energies, of each level if
 * there are several, to the PNG `path`.  An exit status. */
int plane_save(ebm_context *context, ebm_backend *device, const char *model, const char *source,
               uint64_t seed, const char *path);

#endif
