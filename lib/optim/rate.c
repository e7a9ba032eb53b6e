/* rate.c - learning rates as values of the graph.
 *
 * SPDX-License-Identifier: ISC
 *
 *   rate |      ____              warm-up, then constant, linear, a half cosine,
 *        |    /     \__           or steps
 *        |  /          \___
 *        +--------------------- n
 */
#include <math.h>
#include "graph.h"

static const double PI = 3.14159265358979323846;

/* min(1, max(0, (n - begin) / (end - begin))) */
static ebm_val progress(ebm_graph *g, ebm_val n, double begin, double end)
{
    return ebm_clamp(g, ebm_scale(g, ebm_offset(g, n, -begin), 1 / (end - begin)), 0, 1);
}

/* drop^k */
static ebm_val power(ebm_graph *g, double drop, ebm_val k)
{
    return drop == 1 ? ebm_const(g, 1) : ebm_exp(g, ebm_scale(g, k, log(drop)));
}

static ebm_val decay(ebm_graph *g, ebm_val n, const ebm_schedule *s)
{
    ebm_val k;

    switch (s->kind) {
    case EBM_LINEAR:
        return ebm_offset(g, ebm_scale(g, progress(g, n, s->begin, s->end), s->end_factor - 1), 1);
    case EBM_COSINE:
        k = ebm_cos(g, ebm_scale(g, progress(g, n, s->begin, s->end), PI));
        return ebm_offset(g, ebm_scale(g, k, (1 - s->end_factor) / 2), (1 + s->end_factor) / 2);
    case EBM_STEP:
        /* half a step inside, so that rounding of the quotient cannot move a drop */
        k = ebm_floor(g, ebm_scale(g, ebm_offset(g, n, 0.5 - s->begin), 1 / s->every));
        return power(g, s->drop, ebm_max(g, k, ebm_const(g, 0)));
    case EBM_DROPS:
        k = ebm_const(g, 0);
        for (size_t i = 0; i < COUNT(s->drops) && s->drops[i] > 0; i++)
            k = ebm_add(g, k, ebm_less(g, ebm_const(g, s->drops[i] - 0.5), n));
        return power(g, s->drop, k);
    case EBM_CONSTANT:
        break;
    }
    return ebm_const(g, 1);
}

ebm_val ebm_schedule_at(ebm_graph *g, ebm_val n, const ebm_schedule *s)
{
    bool spans = s->kind == EBM_LINEAR || s->kind == EBM_COSINE;
    bool drops = s->kind == EBM_STEP || s->kind == EBM_DROPS;

    if (!(s->rate >= 0) || !(s->warmup >= 0) || (spans && !(s->end > s->begin))
        || (s->kind == EBM_STEP && !(s->every >= 1)) || (drops && !(s->drop > 0)))
        return graph_fail(g, EBM_ERR_ARG, "the learning rate's schedule is not possible: rate %g, "
                          "warm-up %g, from %g to %g, every %g, drop %g", s->rate, s->warmup,
                          s->begin, s->end, s->every, s->drop);

    ebm_val rate = ebm_scale(g, decay(g, n, s), s->rate);
    if (s->warmup > 0) {
        ebm_val part = ebm_scale(g, ebm_offset(g, n, s->warmup_offset), 1 / s->warmup);
        rate = ebm_mul(g, rate, ebm_min(g, part, ebm_const(g, 1)));
    }
    return rate;
}
