/* cdrl_model.h - energies and samples of a model trained by diffusion recovery
 * likelihood.
 *
 * SPDX-License-Identifier: ISC
 *
 * The functions are those of struct method. */
#ifndef EBM_CDRL_MODEL_H
#define EBM_CDRL_MODEL_H

#include "method.h"

int cdrl_model_build(const struct method_site *site, void **state);
int cdrl_model_compile(void *state);
int cdrl_model_energy(void *state, const float *images, float *energies);
int cdrl_model_sample(void *state, const struct method_draw *draw, float *images);
int cdrl_model_stages(const void *state);
void cdrl_model_free(void *state);

#endif
