/* icd_model.h - improved contrastive divergence: the model side of the method.
 *
 * SPDX-License-Identifier: ISC
 *
 * The functions are those of struct method. */
#ifndef EBM_ICD_MODEL_H
#define EBM_ICD_MODEL_H

#include "method.h"

int icd_model_build(const struct method_site *site, void **state);
int icd_model_compile(void *state);
int icd_model_energy(void *state, const float *images, float *energies);
int icd_model_sample(void *state, const struct method_draw *draw, float *images);
void icd_model_free(void *state);

#endif
