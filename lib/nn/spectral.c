/* spectral.c - weights with a bound: spectral norm, weight standardisation.
 *
 * SPDX-License-Identifier: ISC
 *
 * Spectral norm (Miyato et al. 2018): the weight as a matrix W [out,rest] is
 * divided by an estimate of its largest singular value,
 *
 *   v = W'u / |W'u|,  u = W v / |W v|      once a training step, on the states
 *   sigma = u' W v                         u and v are constants to gradients
 *
 * so that dL/dW = (G - <G, W/sigma> u v') / sigma with G = dL/d(W/sigma).  All
 * uses of the weight in one program share one iteration. */
#include "build.h"
#include "net.h"

static ebm_val unit(ebm_graph *g, ebm_val a)
{
    return ebm_div(g, a, ebm_max(g, ebm_norm(g, a), ebm_const(g, 1e-12)));
}

ebm_val largest_singular(ebm_net *net, const char *name, ebm_val weight, int out)
{
    static const int out_last[] = { 3, 0, 1, 2 };
    const ebm_init random_unit = { EBM_INIT_UNIT, 0, 0 };
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK], rest = 1;
    ebm_val w = out ? ebm_transpose(g, weight, out_last) : weight;
    int rank = ebm_shape(g, w, n);

    for (int i = 1; i < rank; i++)
        rest *= n[i];
    ebm_val u = net_state(net, name, "weight_u", 1, &n[0], random_unit);
    ebm_val v = net_state(net, name, "weight_v", 1, &rest, random_unit);
    ebm_val row = ebm_reshape(g, u, 2, (int64_t[]){ 1, n[0] });
    ebm_val column = ebm_reshape(g, v, 2, (int64_t[]){ rest, 1 });

    w = ebm_reshape(g, w, 2, (int64_t[]){ n[0], rest });
    if (net_learns(net)) {
        ebm_val still = ebm_stop(g, w);
        column = ebm_reshape(g, unit(g, build_matmul(g, row, still, false, false, true)),
                             2, (int64_t[]){ rest, 1 });
        row = ebm_reshape(g, unit(g, build_matmul(g, still, column, false, false, true)),
                          2, (int64_t[]){ 1, n[0] });
        net_assign(net, u, ebm_reshape(g, row, 1, &n[0]));
        net_assign(net, v, ebm_reshape(g, column, 1, &rest));
    }
    ebm_val wv = ebm_reshape(g, build_matmul(g, w, ebm_stop(g, column), false, false, true),
                             2, (int64_t[]){ 1, n[0] });
    return ebm_sum_all(g, ebm_mul(g, ebm_stop(g, row), wv));
}

/* (w - mean) / (deviation + 1e-5) by filter, the unbiased deviation (Qiao et
 * al. 2019, as networks with group norm use it). */
ebm_val weight_standard(ebm_net *net, const char *name, ebm_val weight)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK], count = 1;
    int rank = ebm_shape(g, weight, n);
    unsigned axes = (1u << (rank > 0 ? rank : 0)) - 2;

    for (int i = 1; i < rank; i++)
        count *= n[i];
    if (count == 1)
        return graph_fail(g, EBM_ERR_ARG, "%s%s: filters of one weight cannot be standardised",
                          net->scope, name);
    ebm_val centred = ebm_sub(g, weight, ebm_mean(g, weight, axes));
    ebm_val variance = ebm_scale(g, ebm_sum(g, ebm_square(g, centred), axes),
                                 1 / (double)(count - 1));
    return ebm_div(g, centred, ebm_offset(g, ebm_sqrt(g, variance), 1e-5));
}
