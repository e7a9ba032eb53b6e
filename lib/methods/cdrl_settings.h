/* cdrl_settings.h - what training by diffusion recovery likelihood and its models
 * share: keys, the schedule, the two networks on a graph.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CDRL_SETTINGS_H
#define EBM_CDRL_SETTINGS_H

#include "cdrl_chain.h"
#include "nets/cdrl.h"
#include "settings.h"

extern const struct key_table cdrl_table, cdrl_proposal_table, cdrl_sample_table;

/* EBM_ERR_ARG where settings contradict one another or the images. */
int cdrl_schedule_of(const struct method_site *site, struct cdrl_schedule *schedule);
/* Chains start from what the initializer proposes; else from the state above. */
bool cdrl_cooperative(struct recipe *recipe);
/* Spectral norm has moved on before a program runs, and stays while it does. */
bool cdrl_frozen_norm(struct recipe *recipe);

/* Of one label set: rows [n] or [1], 0 none, else class + 1; its weight. */
struct cdrl_term {
    ebm_val labels;
    double weight;
};
enum { CDRL_TERMS = 16 };

/* Both networks on a graph, user of the two functions below, which give the
 * weighted sum over terms; without any term the networks are told no labels.
 * Images of 1 x w x 1 are points. */
struct cdrl_nets {
    ebm_net energy, proposal;
    struct cdrl_energy_spec energy_spec;
    struct cdrl_proposal_spec proposal_spec;
    bool points;
    int n_terms;
    struct cdrl_term terms[CDRL_TERMS];
};
struct cdrl_nets cdrl_nets_of(const struct method_site *site, ebm_graph *g);
ebm_val cdrl_density(ebm_graph *g, ebm_val y, const struct cdrl_place *place, void *cdrl_nets);
ebm_val cdrl_mean(ebm_graph *g, ebm_val x, const struct cdrl_place *place, void *cdrl_nets);

/* Draws besides those of enum purpose. */
enum { DRAW_LEVEL = 128, DRAW_NOISE, DRAW_AGAIN, DRAW_PROPOSAL, DRAW_DROP, DRAW_CLASS, DRAW_KNOWN };

#endif
