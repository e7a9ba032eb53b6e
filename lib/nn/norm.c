/* norm.c - group, instance, layer and batch normalisation.
 *
 * SPDX-License-Identifier: ISC
 *
 *   y = (x - mean) / sqrt(variance + epsilon) * weight + bias
 *
 *             mean and variance over           weight and bias
 *   group     space and a group's channels     [c]
 *   layer     the axes of a mask               these axes
 *   batch     all axes but channels            [c]
 *
 * Ioffe and Szegedy 2015; Ba, Kiros and Hinton 2016; Ulyanov, Vedaldi and
 * Lempitsky 2016; Wu and He 2018. */
#include "net.h"

/* weight and bias of a layer; 0 without a name. */
struct affine { ebm_val weight, bias; };

static struct affine affine_of(ebm_net *net, const char *name, int rank, const int64_t *shape)
{
    const ebm_init one = { EBM_INIT_CONST, 1, 0 }, zero = { EBM_INIT_CONST, 0, 0 };
    struct affine a = { 0, 0 };

    if (name) {
        a.weight = net_param(net, name, "weight", rank, shape, one);
        a.bias = net_param(net, name, "bias", rank, shape, zero);
    }
    return a;
}

/* The roots are divided by while they are few. */
static ebm_val inverse_deviation(ebm_graph *g, ebm_val variance, double epsilon)
{
    return ebm_div(g, ebm_const(g, 1), ebm_sqrt(g, ebm_offset(g, variance, epsilon)));
}

/* Weights by channel and what whitens channels are one factor, so that of the
 * image's size there is one product, and one sum in its gradient. */
static ebm_val whiten_channels(ebm_net *net, const char *name, ebm_val centred, ebm_val variance,
                               double epsilon, int64_t channels)
{
    ebm_graph *g = net->graph;
    struct affine a = affine_of(net, name, 1, &channels);
    ebm_val factor = inverse_deviation(g, variance, epsilon);

    if (!name)
        return ebm_mul(g, centred, factor);
    return ebm_add(g, ebm_mul(g, centred, ebm_mul(g, factor, a.weight)), a.bias);
}

/* The means over space and over the channels of each group, for each channel:
 * [n,...,c] to [n,1,...,c].  Groups are made of the means of channels, which are
 * few, so that all that has the image's size keeps its shape and becomes one
 * pass, in gradients too. */
static ebm_val group_means(ebm_graph *g, ebm_val x, int rank, const int64_t *n, int64_t groups)
{
    int64_t split[EBM_MAX_RANK], mean[EBM_MAX_RANK];
    const unsigned space = ((1u << (rank - 1)) - 1) & ~1u;

    for (int i = 0; i < rank - 1; i++)
        split[i] = mean[i] = i ? 1 : n[0];
    split[rank - 1] = groups;
    split[rank] = n[rank - 1] / groups;
    mean[rank - 1] = n[rank - 1];

    x = ebm_reshape(g, ebm_mean(g, x, space), rank + 1, split);
    x = ebm_broadcast(g, ebm_mean(g, x, 1u << rank), rank + 1, split);
    return ebm_reshape(g, x, rank, mean);
}

ebm_val ebm_group_norm(ebm_net *net, const char *name, ebm_val x, int64_t groups, double epsilon)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK];
    int rank = net_shape(net, name ? name : "group norm", x, 2, EBM_MAX_RANK - 1, n);

    if (!rank)
        return 0;
    int64_t c = n[rank - 1];
    if (groups < 1 || c % groups)
        return graph_fail(g, EBM_ERR_ARG, "%s%s: %lld groups do not divide %lld channels",
                          net->scope, name ? name : "group norm", (long long)groups, (long long)c);
    ebm_val centred = ebm_sub(g, x, group_means(g, x, rank, n, groups));
    ebm_val variance = group_means(g, ebm_square(g, centred), rank, n, groups);
    return whiten_channels(net, name, centred, variance, epsilon, c);
}

ebm_val ebm_instance_norm(ebm_net *net, const char *name, ebm_val x, double epsilon)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK];
    int rank = net_shape(net, name ? name : "instance norm", x, 3, EBM_MAX_RANK, n);

    if (!rank)
        return 0;
    unsigned space = ((1u << (rank - 1)) - 1) & ~1u;
    ebm_val centred = ebm_sub(g, x, ebm_mean(g, x, space));
    ebm_val variance = ebm_mean(g, ebm_square(g, centred), space);
    return whiten_channels(net, name, centred, variance, epsilon, n[rank - 1]);
}

ebm_val ebm_layer_norm(ebm_net *net, const char *name, ebm_val x, unsigned axes, double epsilon)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK], shape[EBM_MAX_RANK];
    int rank = net_shape(net, name ? name : "layer norm", x, 1, EBM_MAX_RANK, n), used = 0;

    if (!rank)
        return 0;
    for (int i = 0; i < rank; i++)       /* from the first axis of the mask on */
        if (used || axes & 1u << i)
            shape[used++] = axes & 1u << i ? n[i] : 1;
    struct affine a = affine_of(net, name, used, shape);
    ebm_val centred = ebm_sub(g, x, ebm_mean(g, x, axes));
    ebm_val variance = ebm_mean(g, ebm_square(g, centred), axes);
    ebm_val y = ebm_mul(g, centred, inverse_deviation(g, variance, epsilon));
    return name ? ebm_add(g, ebm_mul(g, y, a.weight), a.bias) : y;
}

ebm_val ebm_batch_norm(ebm_net *net, const char *name, ebm_val x, bool frozen,
                       double momentum, double epsilon)
{
    const ebm_init one = { EBM_INIT_CONST, 1, 0 }, zero = { EBM_INIT_CONST, 0, 0 };
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK], count = 1;
    const char *title = name ? name : "batchnorm";
    int rank = net_shape(net, title, x, 2, EBM_MAX_RANK, n);

    if (!rank)
        return 0;
    for (int i = 0; i < rank - 1; i++)
        count *= n[i];
    int64_t c = n[rank - 1];
    ebm_val running_mean = net_state(net, title, "running_mean", 1, &c, zero);
    ebm_val running_var = net_state(net, title, "running_var", 1, &c, one);
    ebm_val centred, variance;

    if (frozen || !net->training) {
        centred = ebm_sub(g, x, running_mean);
        variance = running_var;
    } else {
        unsigned axes = (1u << (rank - 1)) - 1;
        ebm_val mean = ebm_mean(g, x, axes);
        centred = ebm_sub(g, x, mean);
        variance = ebm_mean(g, ebm_square(g, centred), axes);
        if (net_learns(net)) {
            /* the running variance is the unbiased one, as in PyTorch */
            double unbias = count > 1 ? (double)count / (double)(count - 1) : 1;
            ebm_val m = ebm_reshape(g, mean, 1, &c);
            ebm_val v = ebm_scale(g, ebm_reshape(g, variance, 1, &c), unbias);
            net_assign(net, running_mean,
                       ebm_add(g, ebm_scale(g, running_mean, 1 - momentum), ebm_scale(g, m, momentum)));
            net_assign(net, running_var,
                       ebm_add(g, ebm_scale(g, running_var, 1 - momentum), ebm_scale(g, v, momentum)));
        }
    }
    return whiten_channels(net, name, centred, variance, epsilon, c);
}
