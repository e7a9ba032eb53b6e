/* cdrl_chain.c - see cdrl_chain.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * The network gives N and the log density is N / s^2, so that in a Langevin step,
 * whose gradient has the factor s^2 / 2, no division is left (Gao et al. 2021).
 * Sources: Gao, Song, Poole, Wu and Kingma 2021; Zhu, Xie, Wu and Gao 2024. */
#include "cdrl_chain.h"

/* a x + b e, constants by image. */
static ebm_val mix(ebm_graph *g, ebm_val a, ebm_val x, ebm_val b, ebm_val e)
{
    return ebm_add(g, ebm_mul(g, cdrl_beside(g, a, x), x), ebm_mul(g, cdrl_beside(g, b, e), e));
}

struct cdrl_pair cdrl_pair(ebm_graph *g, const struct cdrl_place *place, ebm_val x, ebm_val noise,
                           ebm_val again)
{
    const ebm_val *of = place->of;
    ebm_val below = mix(g, of[LEVEL_SIGNAL], x, of[LEVEL_NOISE], noise);

    return (struct cdrl_pair){
        below,
        again ? mix(g, of[LEVEL_ALPHA], below, of[LEVEL_SIGMA], again)
              : mix(g, of[LEVEL_SIGNAL_ABOVE], x, of[LEVEL_NOISE_ABOVE], noise),
    };
}

ebm_val cdrl_propose(ebm_graph *g, const struct cdrl_place *place, ebm_val mean, ebm_val noise)
{
    return ebm_add(g, mean, ebm_mul(g, cdrl_beside(g, place->of[LEVEL_PROPOSAL], mean), noise));
}

/* Sums over all axes but the first: [n]. */
static ebm_val row_sums(ebm_graph *g, ebm_val a)
{
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, a, n);

    return rank < 1 ? 0 : ebm_reshape(g, ebm_sum(g, a, ((1u << rank) - 1) & ~1u), 1, n);
}

struct conditional {
    const struct cdrl_step *step;
    const struct cdrl_place *place;
    ebm_val above;
};

/* -N(y) + s^2 / (2 sigma^2) |y - above|^2, an ebm_energy_fn. */
static ebm_val conditional_energy(ebm_graph *g, ebm_val y, void *user)
{
    const struct conditional *c = user;
    ebm_val far = row_sums(g, ebm_square(g, ebm_sub(g, y, c->above)));
    ebm_val n = c->step->density(g, y, c->place, c->step->user);

    return ebm_sub(g, ebm_mul(g, c->place->of[LEVEL_PULL], far), n);
}

ebm_val cdrl_step(ebm_graph *g, const struct cdrl_step *step, const struct cdrl_place *place,
                  ebm_val y, ebm_val above)
{
    const ebm_langevin_options options = { .order = EBM_NOISE_LAST, .purpose = step->purpose };
    struct conditional c = { step, place, above };
    ebm_val noise = ebm_scale(g, place->of[LEVEL_STEP], step->factor * step->noise);

    return ebm_langevin(g, conditional_energy, &c, y,
                        ebm_const(g, step->factor * step->factor / 2),
                        cdrl_beside(g, noise, y), step->counter, &options);
}

ebm_val cdrl_unscale(ebm_graph *g, const struct cdrl_place *place, ebm_val y)
{
    return ebm_div(g, y, cdrl_beside(g, place->of[LEVEL_SCALE], y));
}

ebm_val cdrl_denoise(ebm_graph *g, cdrl_density_fn *density, void *user,
                     const struct cdrl_place *place, ebm_val x, double factor)
{
    const ebm_val *of = place->of;
    ebm_val y = ebm_mul(g, cdrl_beside(g, of[LEVEL_SCALE], x), x);
    ebm_val slope = ebm_grad(g, ebm_sum_all(g, density(g, y, place, user)), x);
    ebm_val part = ebm_square(g, ebm_div(g, of[LEVEL_NOISE], of[LEVEL_STEP]));

    slope = ebm_mul(g, cdrl_beside(g, ebm_scale(g, part, factor), x), slope);
    return ebm_div(g, ebm_add(g, x, slope), cdrl_beside(g, of[LEVEL_SIGNAL], x));
}

struct cdrl_loss cdrl_loss(ebm_graph *g, const struct cdrl_place *place, ebm_val n_data,
                           ebm_val n_samples)
{
    ebm_val gap = ebm_sub(g, n_samples, n_data);

    return (struct cdrl_loss){
        .loss = ebm_mean_all(g, ebm_mul(g, place->of[LEVEL_WEIGHT], gap)),
        .data = ebm_neg(g, ebm_mean_all(g, n_data)),
        .samples = ebm_neg(g, ebm_mean_all(g, n_samples)),
    };
}

ebm_val cdrl_proposal_loss(ebm_graph *g, ebm_val proposed, ebm_val end)
{
    return ebm_mean_all(g, row_sums(g, ebm_square(g, ebm_sub(g, ebm_stop(g, end), proposed))));
}
