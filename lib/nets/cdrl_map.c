/* cdrl_map.c - the maps of diffusion recovery likelihood's log densities, whose
 * weights are divided by their largest singular value: see cdrl.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * CDRL has the library's spectral norm.  DRL has its own:
 *
 *   v = unit(u W),  u = unit(W v)       before every use, in sampling too;
 *   sigma = u' W v                      u and v are constants to gradients
 *   unit(a) = a / sqrt(max(|a|^2, 1e-12))
 *
 * W is divided by sigma, or, if it is to start near 0, by max(sigma, 1), nearly.
 *
 * The quotient belongs to the weight where that learns, as its gradient is
 * shorter so.  Of a frozen weight it belongs to the result: a weight that does
 * not change from one Langevin step to the next stays prepared in the backend,
 * and no copy of it is made. */
#include <math.h>
#include "cdrl.h"
#include "nn/net.h"

static ebm_val unit(ebm_graph *g, ebm_val a)
{
    ebm_val square = ebm_sum_all(g, ebm_square(g, a));

    return ebm_div(g, a, ebm_sqrt(g, ebm_max(g, square, ebm_const(g, 1e-12))));
}

/* A normal truncated at two deviations of 0.02 has this one; only its direction
 * counts. */
static const ebm_init vector_init = { EBM_INIT_NORMAL, 0, 0.0176f };

/* The moving average of a vector, from its state to what it becomes. */
static void move_average(ebm_net *net, const struct cdrl_energy_spec *spec, ebm_val state, ebm_val to)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, state, n) != 1)
        return;
    ebm_val mean = ebm_net_state(net, "u.ema", 1, n, vector_init);
    ebm_val from = ebm_select(g, ebm_less(g, spec->steps, ebm_const(g, 0.5)), state, mean);
    ebm_output(g, net->effects,
               ebm_assign(g, mean, ebm_add(g, from, ebm_mul(g, spec->average, ebm_sub(g, to, from)))));
}

/* By what DRL multiplies W [out,rest], in the scope of its map. */
static ebm_val drl_factor(ebm_net *net, const struct cdrl_energy_spec *spec, ebm_val w, int64_t out,
                          enum cdrl_kind kind)
{
    ebm_graph *g = net->graph;
    ebm_val state = ebm_net_state(net, "u", 1, &out, vector_init);
    ebm_val still = ebm_stop(g, w), v = 0;
    ebm_val u = ebm_reshape(g, state, 2, (int64_t[]){ 1, out });

    for (int i = 0; i < (spec->calls > 1 ? spec->calls : 1); i++) {
        v = unit(g, ebm_matmul(g, u, still, false, false));
        u = unit(g, ebm_matmul(g, v, still, false, true));
    }
    if (net->effects) {
        ebm_val to = ebm_reshape(g, u, 1, &out);
        ebm_output(g, net->effects, ebm_assign(g, state, to));
        if (spec->average)
            move_average(net, spec, state, to);
    }
    ebm_val wv = ebm_matmul(g, ebm_stop(g, v), w, false, true);
    ebm_val sigma = ebm_sum_all(g, ebm_mul(g, ebm_stop(g, u), wv));

    if (kind == CDRL_NORMED)
        return ebm_div(g, ebm_const(g, 1), sigma);
    sigma = ebm_offset(g, sigma, 1e-6);
    return ebm_div(g, ebm_min(g, sigma, ebm_const(g, 1)), sigma);
}

/* The weight and bias of a map, and by what the weight is to be multiplied. */
struct parts { ebm_val w, bias, factor; };

/* Weights uniform, of a variance by the mean of fan-in and fan-out. */
static struct parts drl_parts(ebm_net *net, const struct cdrl_energy_spec *spec, const char *name,
                              int rank, const int64_t *shape, enum cdrl_kind kind)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    double taps = rank == 4 ? (double)shape[1] * (double)shape[2] : 1;
    double fans = taps * (double)(shape[0] + shape[rank - 1]);
    double scale = kind == CDRL_SMALL || kind == CDRL_SMALL_FREE ? 1e-10 : 1;
    struct parts p = { 0 };

    ebm_net_enter(net, name);
    p.w = ebm_net_param(net, "W", rank, shape,
                        (ebm_init){ EBM_INIT_UNIFORM, (float)sqrt(6 * scale / fans), 0 });
    p.bias = ebm_net_param(net, "b", 1, shape, zero);
    if (kind == CDRL_NORMED || kind == CDRL_SMALL)
        p.factor = drl_factor(net, spec, ebm_reshape(net->graph, p.w, 2, (int64_t[]){ shape[0], -1 }),
                              shape[0], kind);
    ebm_net_leave(net);
    return p;
}

/* Weights and biases as PyTorch has them. */
static struct parts cdrl_parts(ebm_net *net, const char *name, int rank, const int64_t *shape,
                               enum cdrl_kind kind)
{
    double fan_in = (rank == 4 ? (double)shape[1] * (double)shape[2] : 1) * (double)shape[rank - 1];
    const ebm_init uniform = { EBM_INIT_UNIFORM, (float)(1 / sqrt(fan_in)), 0 };
    ebm_graph *g = net->graph;
    struct parts p = { 0 };

    p.w = net_param(net, name, "weight", rank, shape, uniform);
    p.bias = net_param(net, name, "bias", 1, shape, uniform);
    if (kind != CDRL_FREE)
        p.factor = ebm_div(g, ebm_const(g, 1), largest_singular(net, name, p.w, 0));
    return p;
}

struct cdrl_map cdrl_map(ebm_net *net, const struct cdrl_energy_spec *spec, const char *name,
                         ebm_val x, int64_t out, enum cdrl_kind kind)
{
    ebm_graph *g = net->graph;
    struct cdrl_map map = { 0 };
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (rank != 2 && rank != 4)
        return map;
    const int64_t shape[4] = { out, rank == 4 ? 3 : n[1], 3, n[rank - 1] };
    struct parts p = spec->drl ? drl_parts(net, spec, name, rank, shape, kind)
                               : cdrl_parts(net, name, rank, shape, kind);

    if (p.factor && !net->frozen)
        p.w = ebm_mul(g, p.w, p.factor);
    else
        map.factor = p.factor;
    map.bias = p.bias;
    map.y = rank == 4 ? ebm_conv(g, x, p.w, &(ebm_conv_spec){ .pad = { 1, 1, 1, 1 } })
                      : ebm_matmul(g, x, p.w, false, true);
    return map;
}

ebm_val cdrl_mapped(ebm_graph *g, struct cdrl_map map)
{
    ebm_val y = map.factor ? ebm_mul(g, map.y, map.factor) : map.y;

    return ebm_add(g, y, map.bias);
}

/* The attention of DRL's networks, of which published ones have none. */
ebm_val drl_attention(ebm_net *net, ebm_val x)
{
    static const char *const names[] = { "nin_q", "nin_k", "nin_v" };
    const struct cdrl_energy_spec drl = { .drl = true };
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK];
    ebm_val qkv[3];

    if (ebm_shape(g, x, n) != 4)
        return 0;
    ebm_val pixels = ebm_reshape(g, x, 2, (int64_t[]){ -1, n[3] });
    for (int i = 0; i < 3; i++) {
        struct cdrl_map map = cdrl_map(net, &drl, names[i], pixels, n[3], CDRL_FREE);
        qkv[i] = ebm_reshape(g, cdrl_mapped(g, map), 3, (int64_t[]){ n[0], n[1] * n[2], n[3] });
    }
    ebm_val y = ebm_attend(g, qkv[0], qkv[1], qkv[2], 1 / sqrt((double)n[3]));
    y = ebm_reshape(g, y, 2, (int64_t[]){ -1, n[3] });
    struct cdrl_map map = cdrl_map(net, &drl, "nin_proj_out", y, n[3], CDRL_SMALL_FREE);
    return ebm_add(g, x, ebm_reshape(g, cdrl_mapped(g, map), 4, n));
}
