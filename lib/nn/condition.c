/* condition.c - what a network is told besides its image: levels and labels, by
 * embeddings and FiLM; and dropout.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include "net.h"

ebm_val ebm_film(ebm_net *net, const char *name, ebm_val x, ebm_val e, double offset)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK], d[EBM_MAX_RANK], each[EBM_MAX_RANK];
    int rank = net_shape(net, name, x, 2, EBM_MAX_RANK, n);

    if (!rank || !net_shape(net, name, e, 2, 2, d))
        return 0;
    int64_t c = n[rank - 1];
    for (int i = 0; i < rank; i++)
        each[i] = i == 0 ? d[0] : i == rank - 1 ? c : 1;

    ebm_val both = ebm_linear(net, name, e, &(ebm_layer){ .out = 2 * c });
    ebm_val gain = ebm_slice(g, both, (int64_t[]){ 0, 0 }, (int64_t[]){ d[0], c }, NULL);
    ebm_val bias = ebm_slice(g, both, (int64_t[]){ 0, c }, (int64_t[]){ d[0], c }, NULL);

    gain = ebm_offset(g, ebm_reshape(g, gain, rank, each), offset);
    return ebm_add(g, ebm_mul(g, x, gain), ebm_reshape(g, bias, rank, each));
}

ebm_val ebm_sinusoidal(ebm_graph *g, ebm_val t, int64_t dim, double period)
{
    int64_t n[EBM_MAX_RANK], half = dim / 2;

    if (ebm_shape(g, t, n) != 1 || dim < 4 || dim % 2 || !(period > 0))
        return graph_fail(g, EBM_ERR_ARG, "the sinusoidal embedding takes numbers [n] to an even "
                          "size of at least 4, not %lld", (long long)dim);
    ebm_val j = ebm_iota(g, 1, &half, 0);
    ebm_val f = ebm_exp(g, ebm_scale(g, j, -log(period) / (double)(half - 1)));
    ebm_val angle = ebm_mul(g, ebm_reshape(g, t, 2, (int64_t[]){ n[0], 1 }), f);
    return ebm_concat(g, 1, 2, (ebm_val[]){ ebm_sin(g, angle), ebm_cos(g, angle) });
}

/* The draws of a name: FNV-1a, so that a layer draws the same whatever is built
 * around it. */
static uint32_t purpose_of(const ebm_net *net, const char *name)
{
    uint32_t h = 2166136261u ^ net->purpose;

    for (const char *s = net->region; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

ebm_val ebm_dropout(ebm_net *net, const char *name, ebm_val x, double p)
{
    ebm_graph *g = net->graph;
    char full[NET_NAME];
    int64_t n[EBM_MAX_RANK];

    if (!net_name(net, name, NULL, full))
        return 0;
    if (!(p >= 0 && p < 1))
        return graph_fail(g, EBM_ERR_ARG, "%s: the dropout probability %g is not within [0,1)",
                          full, p);
    if (!net->training || !net->counter || p == 0)
        return x;
    int rank = ebm_shape(g, x, n);
    ebm_val u = ebm_uniform(g, net->counter, purpose_of(net, full), rank, n);
    ebm_val kept = ebm_less(g, u, ebm_const(g, 1 - p));
    return ebm_mul(g, x, ebm_scale(g, kept, 1 / (1 - p)));
}
