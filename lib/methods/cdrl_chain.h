/* cdrl_chain.h - what happens at one level of diffusion recovery likelihood, for
 * any log density and any proposal.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CDRL_CHAIN_H
#define EBM_CDRL_CHAIN_H

#include "cdrl_schedule.h"

/* N [n] = s^2 log p of y [n,...] at its level: the network's output. */
typedef ebm_val cdrl_density_fn(ebm_graph *g, ebm_val y, const struct cdrl_place *place, void *user);
/* The mean of y proposed for x [n,...], the state above. */
typedef ebm_val cdrl_proposal_fn(ebm_graph *g, ebm_val x, const struct cdrl_place *place, void *user);

/* Images x and normal noise to the two states of their level.  again 0: both
 * have the same noise (their difference varies less); else the state above is
 * reached from the one below by noise of its own. */
struct cdrl_pair {
    ebm_val below, above;
};
struct cdrl_pair cdrl_pair(ebm_graph *g, const struct cdrl_place *place, ebm_val x, ebm_val noise,
                           ebm_val again);

/* mean + deviation noise */
ebm_val cdrl_propose(ebm_graph *g, const struct cdrl_place *place, ebm_val mean, ebm_val noise);

/* One Langevin step for y given the state above:
 *   y + m^2 / 2 grad( N(y) - s^2 / (2 sigma^2) |y - above|^2 ) + m s noise
 * factor    m: 1 as the level says; what is drawn in fewer steps takes longer ones
 * noise     of temperature 1 times its square */
struct cdrl_step {
    cdrl_density_fn *density;
    void *user;
    double factor, noise;
    ebm_val counter;
    uint32_t purpose;
};
ebm_val cdrl_step(ebm_graph *g, const struct cdrl_step *step, const struct cdrl_place *place,
                  ebm_val y, ebm_val above);

/* y to the state itself. */
ebm_val cdrl_unscale(ebm_graph *g, const struct cdrl_place *place, ebm_val y);

/* Tweedie's formula at state 0, whose noise is small but not 0:
 *   (x + factor noise^2 grad log p(x)) / signal */
ebm_val cdrl_denoise(ebm_graph *g, cdrl_density_fn *density, void *user,
                     const struct cdrl_place *place, ebm_val x, double factor);

/* What training minimises, of means over images. */
struct cdrl_loss {
    ebm_val loss;                /* mean of weight (N(samples) - N(data)) */
    ebm_val data, samples;       /* mean energies -N, of equal weights */
};
/* data, samples: y [n,...].  n_data and n_samples are their N. */
struct cdrl_loss cdrl_loss(ebm_graph *g, const struct cdrl_place *place, ebm_val n_data,
                           ebm_val n_samples);
/* Mean over images of |end - proposed|^2. */
ebm_val cdrl_proposal_loss(ebm_graph *g, ebm_val proposed, ebm_val end);

#endif
