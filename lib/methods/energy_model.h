/* energy_model.h - a model that is one energy network, drawn from by Langevin
 * dynamics: the model side of every method that trains such a network.
 *
 * SPDX-License-Identifier: ISC
 *
 * The functions are those of struct method; the keys used are the tables
 * energy, langevin, start and sample. */
#ifndef EBM_ENERGY_MODEL_H
#define EBM_ENERGY_MODEL_H

#include "method.h"

extern const struct method_energy energy_model_term;

int energy_model_build(const struct method_site *site, void **state);
int energy_model_compile(void *state);
int energy_model_energy(void *state, const float *images, float *energies);
int energy_model_sample(void *state, const struct method_draw *draw, float *images);
void energy_model_free(void *state);

#endif
