/* weighted.c - the layers with a weight: linear, convolution, transposed
 * convolution; how their weights start.
 *
 * SPDX-License-Identifier: ISC
 *
 *   layer       weight              fan_in       fan_out
 *   linear      [out,c]             c            out
 *   conv        [out,r,s,c/g]       r s c/g      r s out/g
 *   transposed  [c,r,s,out/g]       r s out/g    r s c/g    (as PyTorch counts)
 */
#include <math.h>
#include "net.h"

static ebm_init start(enum ebm_scheme scheme, double gain, double fan_in, double fan_out)
{
    ebm_init init = { EBM_INIT_CONST, 0, 0 };

    switch (scheme) {
    case EBM_SCHEME_NET:
    case EBM_SCHEME_PYTORCH:
        init.kind = EBM_INIT_UNIFORM;
        init.a = (float)(gain / sqrt(fan_in));
        break;
    case EBM_SCHEME_XAVIER:
        init.kind = EBM_INIT_UNIFORM;
        init.a = (float)(gain * sqrt(6 / (fan_in + fan_out)));
        break;
    case EBM_SCHEME_HE:
        init.kind = EBM_INIT_NORMAL;
        init.b = (float)(gain * sqrt(2 / fan_in));
        break;
    case EBM_SCHEME_NORMAL:
        init.kind = EBM_INIT_NORMAL;
        init.b = (float)gain;
        break;
    case EBM_SCHEME_ZERO:
        break;
    }
    return init;
}

/* The layer with the network's settings where it has none. */
static ebm_layer settle(const ebm_net *net, const ebm_layer *layer)
{
    ebm_layer l = *layer;

    l.kernel = l.kernel ? l.kernel : 1;
    l.stride = l.stride ? l.stride : 1;
    l.dilation = l.dilation ? l.dilation : 1;
    l.groups = l.groups ? l.groups : 1;
    if (l.init == EBM_SCHEME_NET) {
        l.init = net->init ? net->init : EBM_SCHEME_PYTORCH;
        l.gain = l.gain != 0 ? l.gain : net->gain;
    }
    l.gain = l.gain != 0 ? l.gain : 1;
    if (l.bias_init == EBM_SCHEME_NET)
        l.bias_init = net->bias_init ? net->bias_init
                    : l.init == EBM_SCHEME_PYTORCH ? EBM_SCHEME_PYTORCH : EBM_SCHEME_ZERO;
    l.spectral_norm = !l.plain && (l.spectral_norm || net->spectral_norm);
    l.weight_standard = !l.plain && (l.weight_standard || net->weight_standard);
    return l;
}

static bool possible(ebm_net *net, const char *name, const ebm_layer *l, int64_t c)
{
    const int most = 1 << 20;

    if (net->graph->status < 0)
        return false;
    if (l->out < 1 || l->kernel < 1 || l->kernel > most || l->stride < 1 || l->stride > most
        || l->dilation < 1 || l->dilation > most || l->pad < EBM_PAD_SAME || l->pad > most
        || l->out_pad < 0 || l->out_pad > most) {
        graph_fail(net->graph, EBM_ERR_ARG, "%s%s: outputs, kernel, stride and dilation must "
                   "be positive", net->scope, name);
        return false;
    }
    if (l->groups < 1 || c % l->groups || l->out % l->groups) {
        graph_fail(net->graph, EBM_ERR_ARG, "%s%s: %d groups do not divide %lld channels in and "
                   "%lld out", net->scope, name, l->groups, (long long)c, (long long)l->out);
        return false;
    }
    return true;
}

static ebm_val weight_of(ebm_net *net, const char *name, const ebm_layer *l,
                         int rank, const int64_t *shape, double fan_in, double fan_out, int out_axis)
{
    ebm_val w = net_param(net, name, "weight", rank, shape,
                          start(l->init, l->gain, fan_in, fan_out));

    if (l->weight_standard)
        w = weight_standard(net, name, w);
    return l->spectral_norm ? ebm_div(net->graph, w, largest_singular(net, name, w, out_axis)) : w;
}

static ebm_val add_bias(ebm_net *net, const char *name, const ebm_layer *l, ebm_val y, double fan_in)
{
    if (l->no_bias)
        return y;
    return ebm_add(net->graph, y, net_param(net, name, "bias", 1, &l->out,
                                            start(l->bias_init, 1, fan_in, fan_in)));
}

ebm_val ebm_linear(ebm_net *net, const char *name, ebm_val x, const ebm_layer *layer)
{
    ebm_graph *g = net->graph;
    ebm_layer l = settle(net, layer);
    int64_t n[EBM_MAX_RANK];
    int rank = net_shape(net, name, x, 1, EBM_MAX_RANK, n);

    if (!rank || !possible(net, name, &l, n[rank - 1]))
        return 0;
    int64_t c = n[rank - 1];
    ebm_val w = weight_of(net, name, &l, 2, (int64_t[]){ l.out, c }, (double)c, (double)l.out, 0);
    ebm_val y = ebm_matmul(g, ebm_reshape(g, x, 2, (int64_t[]){ -1, c }), w, false, true);

    n[rank - 1] = l.out;
    return ebm_reshape(g, add_bias(net, name, &l, y, (double)c), rank, n);
}

/* Zeros around an axis: "same" as PyTorch and Keras place them at stride 1, the
 * odd one at the end. */
static void padding(const ebm_layer *l, int *before, int *after)
{
    int total = l->dilation * (l->kernel - 1);

    *before = l->pad == EBM_PAD_SAME ? total / 2 : l->pad;
    *after = l->pad == EBM_PAD_SAME ? total - total / 2 : l->pad;
}

static ebm_conv_spec conv_spec(const ebm_layer *l)
{
    ebm_conv_spec v = {
        .stride = { l->stride, l->stride },
        .dilation = { l->dilation, l->dilation },
        .groups = l->groups,
    };

    padding(l, &v.pad[0], &v.pad[2]);
    padding(l, &v.pad[1], &v.pad[3]);
    return v;
}

ebm_val ebm_conv_layer(ebm_net *net, const char *name, ebm_val x, const ebm_layer *layer)
{
    ebm_layer l = settle(net, layer);
    int64_t n[EBM_MAX_RANK];

    if (!net_shape(net, name, x, 4, 4, n) || !possible(net, name, &l, n[3]))
        return 0;
    ebm_conv_spec spec = conv_spec(&l);
    int64_t k = l.kernel, c = n[3] / l.groups;
    double taps = (double)k * (double)k, fan_in = taps * (double)c;
    ebm_val w = weight_of(net, name, &l, 4, (int64_t[]){ l.out, k, k, c },
                          fan_in, taps * (double)(l.out / l.groups), 0);

    return add_bias(net, name, &l, ebm_conv(net->graph, x, w, &spec), fan_in);
}

ebm_val ebm_conv_transpose_layer(ebm_net *net, const char *name, ebm_val x,
                                 const ebm_layer *layer)
{
    ebm_graph *g = net->graph;
    ebm_layer l = settle(net, layer);
    int64_t n[EBM_MAX_RANK], size[2];

    if (!net_shape(net, name, x, 4, 4, n) || !possible(net, name, &l, n[3]))
        return 0;
    ebm_conv_spec spec = conv_spec(&l);
    int64_t k = l.kernel, out = l.out / l.groups;
    double taps = (double)k * (double)k, fan_in = taps * (double)out;
    ebm_val w = weight_of(net, name, &l, 4, (int64_t[]){ n[3], k, k, out },
                          fan_in, taps * (double)(n[3] / l.groups), 3);

    for (int i = 0; i < 2; i++)
        size[i] = (n[1 + i] - 1) * l.stride - spec.pad[i] - spec.pad[i + 2]
                + (int64_t)l.dilation * (k - 1) + l.out_pad + 1;
    return add_bias(net, name, &l, ebm_conv_data(g, x, w, &spec, size[0], size[1]), fan_in);
}
