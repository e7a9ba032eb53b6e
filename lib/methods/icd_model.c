/* icd_model.c - see icd_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * Chains start from uniform noise; a turn is an augmentation of their bytes. */
#include "energy_model.h"
#include "icd_model.h"
#include "icd_settings.h"

static ebm_val start(struct recipe *recipe, ebm_graph *g, ebm_val counter, const int64_t shape[4])
{
    (void)recipe;
    return ebm_uniform(g, counter, DRAW_SAMPLE_START, 4, shape);
}

static ebm_val step(struct recipe *recipe, ebm_graph *g, struct joint *energy, ebm_val x, ebm_val size,
                    ebm_val noise, ebm_val counter)
{
    (void)recipe;
    return icd_langevin(g, joint_at, energy, x, size, noise, counter, DRAW_SAMPLE_LANGEVIN);
}

static ebm_val turn(struct recipe *recipe, ebm_graph *g, ebm_val x, ebm_val counter)
{
    struct augment augment = icd_augment_of(recipe, true);

    x = augment_images(g, &augment, counter, DRAW_CUT, icd_levels(g, x));
    return icd_spread(g, x, counter, DRAW_SPREAD);
}

int icd_model_build(const struct method_site *site, void **state)
{
    static const struct chain_rule rule = { icd_check, start, step, turn };

    return energy_model_new(site, &rule, state);
}
