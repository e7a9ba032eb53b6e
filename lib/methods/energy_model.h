/* energy_model.h - a model that is one energy, drawn from by Langevin dynamics:
 * the model side of every method that trains such an energy.
 *
 * SPDX-License-Identifier: ISC
 *
 * The functions are those of struct method, but for building: how chains start
 * and step differs.  energy_model_build() is that of a network as energy.net has
 * it; the keys used are the tables energy, langevin, start and sample. */
#ifndef EBM_ENERGY_MODEL_H
#define EBM_ENERGY_MODEL_H

#include "joint.h"

extern const struct method_energy energy_model_term;

/* How chains x [n,h,w,c] go: all of them from noise, step by step, and, between
 * the rounds of sample.rounds, by a turn. */
struct chain_rule {
    int (*check)(const struct method_site *site);        /* settings; NULL: all are good */
    ebm_val (*start)(struct recipe *recipe, ebm_graph *g, ebm_val counter, const int64_t shape[4]);
    ebm_val (*step)(struct recipe *recipe, ebm_graph *g, struct joint *energy, ebm_val x, ebm_val step,
                    ebm_val noise, ebm_val counter);
    ebm_val (*turn)(struct recipe *recipe, ebm_graph *g, ebm_val x, ebm_val counter);   /* NULL: no rounds */
};
int energy_model_new(const struct method_site *site, const struct chain_rule *rule, void **state);

int energy_model_build(const struct method_site *site, void **state);
int energy_model_compile(void *state);
int energy_model_energy(void *state, const float *images, float *energies);
int energy_model_sample(void *state, const struct method_draw *draw, float *images);
void energy_model_free(void *state);

#endif
