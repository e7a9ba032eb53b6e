/* icd_settings.h - what training by improved contrastive divergence and its
 * models share: keys, images in bytes, one Langevin step.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_ICD_SETTINGS_H
#define EBM_ICD_SETTINGS_H

#include "augment.h"
#include "icd_loss.h"
#include "settings.h"

extern const struct key_table icd_table, icd_sample_table;

/* The network on a graph, an ebm_energy_fn's user: energies summed over scales. */
struct icd_net {
    ebm_net net;
    struct icd_spec spec;
    const char *given;           /* a network as energy.net has it, in place of spec; NULL: none */
    ebm_val labels;              /* [n,l], or 0 */
};
struct icd_net icd_net_of(struct recipe *recipe, ebm_graph *g, bool training, ebm_outputs *effects);
struct icd_trained icd_net_trained(struct icd_net *net);       /* lives as long as net */
extern const struct method_energy icd_energy;
ebm_val icd_energy_at(ebm_graph *g, ebm_val x, void *icd_net);

/* Labels [n] of any type as the network takes them; 0 where it takes none. */
ebm_val icd_labels(ebm_graph *g, struct recipe *recipe, ebm_val labels);

/* x after noise, and then down the gradient of the energy, in [0,1]. */
ebm_val icd_langevin(ebm_graph *g, ebm_energy_fn *energy, void *user, ebm_val x, ebm_val step, ebm_val noise,
                     ebm_val counter, uint32_t purpose);

/* Of chains going on: sampling or training. */
struct augment icd_augment_of(struct recipe *recipe, bool sampling);
/* Settings that contradict one another or the images: EBM_ERR_ARG. */
int icd_check(const struct method_site *site);

/* Images in [0,1] to whole levels, truncated; levels of 256 to [0,1], each spread
 * over its interval. */
ebm_val icd_levels(ebm_graph *g, ebm_val x);
ebm_val icd_spread(ebm_graph *g, ebm_val levels, ebm_val counter, uint32_t purpose);

/* Draws besides those of enum purpose. */
enum {
    DRAW_ROW = 64, DRAW_CUT, DRAW_SPREAD, DRAW_NOISED, DRAW_SLOT,
    DRAW_PAST_ROW, DRAW_PAST_CUT, DRAW_PAST_SPREAD
};

#endif
