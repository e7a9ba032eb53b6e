/* langevin.c - one step of Langevin dynamics, as values of a graph.
 *
 * SPDX-License-Identifier: ISC
 *
 * The energy is built here, at the point where its gradient is wanted: noise
 * first needs it at the noised images.  Nothing is stopped, so a method may
 * differentiate through the step (improved contrastive divergence does).
 * Source: Welling and Teh 2011; short chains for images: Nijkamp et al. 2019,
 * Du and Mordatch 2019. */
#include "graph.h"

static ebm_val within(ebm_graph *g, ebm_val x, const ebm_langevin_options *o)
{
    return o->clamp ? ebm_clamp(g, x, o->low, o->high) : x;
}

static ebm_val slope(ebm_graph *g, ebm_energy_fn *energy, void *user, ebm_val x,
                     const ebm_langevin_options *o)
{
    ebm_val dx = ebm_grad(g, energy(g, x, user), x);

    switch (o->clip) {
    case EBM_CLIP_ELEMENT:
        return ebm_clamp(g, dx, -o->limit, o->limit);
    case EBM_CLIP_NORM:
        return ebm_clip_rows(g, dx, o->limit);
    case EBM_CLIP_NONE:
        break;
    }
    return dx;
}

ebm_val ebm_langevin(ebm_graph *g, ebm_energy_fn *energy, void *user,
                     ebm_val x, ebm_val step, ebm_val noise, ebm_val counter,
                     const ebm_langevin_options *o)
{
    int64_t shape[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, shape);

    if (rank < 1)
        return graph_fail(g, EBM_ERR_ARG, "a Langevin step needs images [n,...]");
    if (o->clip != EBM_CLIP_NONE && !(o->limit > 0))
        return graph_fail(g, EBM_ERR_ARG, "a Langevin step clips at %g: give a limit above 0",
                          o->limit);
    if (o->clamp && !(o->low < o->high))
        return graph_fail(g, EBM_ERR_ARG, "a Langevin step clamps to [%g,%g]", o->low, o->high);

    ebm_val jump = ebm_mul(g, noise, ebm_normal(g, counter, o->purpose, rank, shape));

    if (o->order == EBM_NOISE_FIRST) {
        x = within(g, ebm_add(g, x, jump), o);
        return within(g, ebm_sub(g, x, ebm_mul(g, step, slope(g, energy, user, x, o))), o);
    }
    ebm_val moved = ebm_sub(g, x, ebm_mul(g, step, slope(g, energy, user, x, o)));
    return within(g, ebm_add(g, moved, jump), o);
}
