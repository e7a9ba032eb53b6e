/* attention.c - softmax attention (Vaswani et al. 2017), over the pixels of an
 * image (Zhang et al. 2019).
 *
 * SPDX-License-Identifier: ISC
 *
 * Heads are batch entries: [n,t,heads d] becomes [n heads,t,d] and back. */
#include <math.h>
#include "net.h"

ebm_val ebm_attend(ebm_graph *g, ebm_val q, ebm_val k, ebm_val v, double scale)
{
    ebm_val scores = ebm_matmul(g, ebm_scale(g, q, scale), k, false, true);

    return ebm_matmul(g, ebm_softmax(g, scores, 2), v, false, false);
}

static ebm_val split_heads(ebm_graph *g, ebm_val x, int64_t n, int64_t t, int64_t heads, int64_t d)
{
    static const int heads_first[] = { 0, 2, 1, 3 };

    x = ebm_reshape(g, x, 4, (int64_t[]){ n, t, heads, d });
    return ebm_reshape(g, ebm_transpose(g, x, heads_first), 3, (int64_t[]){ n * heads, t, d });
}

static ebm_val join_heads(ebm_graph *g, ebm_val x, int64_t n, int64_t t, int64_t heads, int64_t d)
{
    static const int heads_last[] = { 0, 2, 1, 3 };

    x = ebm_reshape(g, x, 4, (int64_t[]){ n, heads, t, d });
    return ebm_reshape(g, ebm_transpose(g, x, heads_last), 3, (int64_t[]){ n, t, heads * d });
}

ebm_val ebm_attention(ebm_net *net, const char *name, ebm_val x, const ebm_attention_spec *spec)
{
    ebm_graph *g = net->graph;
    int64_t shape[EBM_MAX_RANK];

    if (!net_shape(net, name, x, 4, 4, shape))
        return 0;
    int64_t n = shape[0], t = shape[1] * shape[2], c = shape[3];
    int64_t heads = spec->heads ? spec->heads : 1;
    int64_t key = spec->key ? spec->key : c, value = spec->value ? spec->value : c;

    if (heads < 1 || key < 1 || value < 1 || key % heads || value % heads)
        return graph_fail(g, EBM_ERR_ARG, "%s%s: %lld heads do not divide %lld key and %lld value "
                          "channels", net->scope, name, (long long)heads, (long long)key,
                          (long long)value);
    if (spec->no_out && value != c)
        return graph_fail(g, EBM_ERR_ARG, "%s%s: without an output map the value channels must "
                          "be %lld, not %lld", net->scope, name, (long long)c, (long long)value);

    ebm_val pixels = ebm_reshape(g, x, 3, (int64_t[]){ n, t, c });
    ebm_layer to_key = { .out = key, .no_bias = spec->no_bias };
    ebm_layer to_value = { .out = value, .no_bias = spec->no_bias };
    ebm_layer to_out = { .out = c, .no_bias = spec->no_bias };

    ebm_net_enter(net, name);
    ebm_val q = split_heads(g, ebm_linear(net, "query", pixels, &to_key), n, t, heads, key / heads);
    ebm_val k = split_heads(g, ebm_linear(net, "key", pixels, &to_key), n, t, heads, key / heads);
    ebm_val v = split_heads(g, ebm_linear(net, "value", pixels, &to_value), n, t, heads, value / heads);
    double scale = spec->unscaled ? 1 : 1 / sqrt((double)(key / heads));
    ebm_val y = join_heads(g, ebm_attend(g, q, k, v, scale), n, t, heads, value / heads);

    if (!spec->no_out)
        y = ebm_linear(net, "out", y, &to_out);
    if (spec->gamma)
        y = ebm_mul(g, y, ebm_net_param(net, "gamma", 1, (int64_t[]){ 1 },
                                        (ebm_init){ EBM_INIT_CONST, 0, 0 }));
    ebm_net_leave(net);
    y = ebm_reshape(g, y, 4, shape);
    return spec->no_residual ? y : ebm_add(g, x, y);
}
