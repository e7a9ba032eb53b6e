/* drl.c - the layers of diffusion recovery likelihood (Gao et al. 2021), which
 * has its own spectral norm:
 *
 *   v = unit(u W),  u = unit(W v)       before every use, in sampling too;
 *   sigma = u' W v                      u and v are constants to gradients
 *   unit(a) = a / sqrt(max(|a|^2, 1e-12))
 *
 * W is divided by sigma, or, if it is to start near 0, by max(sigma, 1), nearly.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include "cdrl.h"

static ebm_val unit(ebm_graph *g, ebm_val a)
{
    ebm_val square = ebm_sum_all(g, ebm_square(g, a));

    return ebm_div(g, a, ebm_sqrt(g, ebm_max(g, square, ebm_const(g, 1e-12))));
}

/* By what W [out,rest] is multiplied. */
static ebm_val factor(ebm_net *net, ebm_val w, int64_t out, enum drl_kind kind, int calls)
{
    /* a normal truncated at two deviations of 0.02 has this one; only its
     * direction counts */
    const ebm_init start = { EBM_INIT_NORMAL, 0, 0.0176f };
    ebm_graph *g = net->graph;
    ebm_val state = ebm_net_state(net, "u", 1, &out, start);
    ebm_val still = ebm_stop(g, w), v = 0;
    ebm_val u = ebm_reshape(g, state, 2, (int64_t[]){ 1, out });

    for (int i = 0; i < (calls > 1 ? calls : 1); i++) {
        v = unit(g, ebm_matmul(g, u, still, false, false));
        u = unit(g, ebm_matmul(g, v, still, false, true));
    }
    if (net->effects)
        ebm_output(g, net->effects, ebm_assign(g, state, ebm_reshape(g, u, 1, &out)));
    ebm_val wv = ebm_matmul(g, ebm_stop(g, v), w, false, true);
    ebm_val sigma = ebm_sum_all(g, ebm_mul(g, ebm_stop(g, u), wv));

    if (kind != DRL_SMALL)
        return ebm_div(g, ebm_const(g, 1), sigma);
    sigma = ebm_offset(g, sigma, 1e-6);
    return ebm_div(g, ebm_min(g, sigma, ebm_const(g, 1)), sigma);
}

/* Variance scaling by the mean of fan-in and fan-out, uniform. */
static ebm_val weight(ebm_net *net, int rank, const int64_t *shape, enum drl_kind kind)
{
    double taps = rank == 4 ? (double)shape[1] * (double)shape[2] : 1;
    double fans = taps * (double)(shape[0] + shape[rank - 1]);
    double scale = kind == DRL_SMALL ? 1e-10 : 1;

    return ebm_net_param(net, "W", rank, shape,
                         (ebm_init){ EBM_INIT_UNIFORM, (float)sqrt(6 * scale / fans), 0 });
}

ebm_val drl_map(ebm_net *net, const char *name, ebm_val x, int64_t out,
                enum drl_kind kind, int calls)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 }, one = { EBM_INIT_CONST, 1, 0 };
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (rank < 2)
        return 0;
    ebm_net_enter(net, name);
    ebm_val w = rank == 4 ? weight(net, 4, (int64_t[]){ out, 3, 3, n[3] }, kind)
                          : weight(net, 2, (int64_t[]){ out, n[1] }, kind);
    if (kind != DRL_FREE)
        w = ebm_mul(g, w, factor(net, ebm_reshape(g, w, 2, (int64_t[]){ out, -1 }), out, kind, calls));
    ebm_val y = rank == 4 ? ebm_conv(g, x, w, &(ebm_conv_spec){ .pad = { 1, 1, 1, 1 } })
                          : ebm_matmul(g, x, w, false, true);
    y = ebm_add(g, y, ebm_net_param(net, "b", 1, &out, zero));
    if (kind == DRL_SMALL)
        y = ebm_mul(g, y, ebm_net_param(net, "g", 1, &out, one));
    ebm_net_leave(net);
    return y;
}

ebm_val drl_attention(ebm_net *net, ebm_val x)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    static const char *const names[] = { "nin_q", "nin_k", "nin_v" };
    ebm_graph *g = net->graph;
    ebm_val qkv[3];
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, x, n) != 4)
        return 0;
    int64_t c = n[3];
    ebm_val pixels = ebm_reshape(g, x, 2, (int64_t[]){ -1, c });
    for (int i = 0; i < 3; i++)
        qkv[i] = ebm_reshape(g, drl_map(net, names[i], pixels, c, DRL_FREE, 0),
                             3, (int64_t[]){ n[0], n[1] * n[2], c });
    ebm_val y = ebm_attend(g, qkv[0], qkv[1], qkv[2], 1 / sqrt((double)c));
    ebm_net_enter(net, "nin_proj_out");
    ebm_val w = weight(net, 2, (int64_t[]){ c, c }, DRL_SMALL);
    y = ebm_matmul(g, ebm_reshape(g, y, 2, (int64_t[]){ -1, c }), w, false, true);
    y = ebm_add(g, y, ebm_net_param(net, "b", 1, &c, zero));
    ebm_net_leave(net);
    return ebm_add(g, x, ebm_reshape(g, y, 4, n));
}
