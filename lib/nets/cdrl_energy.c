/* cdrl_energy.c - the log density of a noised image: see cdrl.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   e        embedding of the level: sinusoids, map, act, map; plus a map of the
 *            one-hot label
 *   block    h = conv1(act(x)) + act(map(act(e)))      DRL: no outer act
 *            y = skip(x) + g conv2(act(h))             skip: conv where channels
 *                                                      change, else x
 *   N        conv, its blocks with halving between stages, ReLU, sum over space;
 *            the inner product with a map of act(e)
 *   points   the same without space; the last map does not know e
 *
 * All maps but the last are divided by their largest singular value. */
#include <stdio.h>
#include "cdrl.h"

/* What the authors call the parts. */
struct names {
    const char *embed[2], *label, *first, *conv1, *conv2, *level, *skip, *head;
};

static const struct names
cdrl_names = { { "temb_map1", "temb_map2" }, "y_map", "module_list.0",
               "conv1", "conv2", "temb_map", "short_cut", "temb_final" },
drl_names = { { "temb_dense_0", "temb_dense_1" }, "y_dense", "conv2d_in",
              "conv2d_1", "conv2d_2", "dense", "conv2d_shortcut", "temb_dense_2" };

struct build {
    ebm_net *net;
    ebm_graph *g;
    const struct cdrl_energy_spec *spec;
    const struct names *names;
    ebm_val e;                   /* [n,4 width], or [1,4 width] for all */
    int module;                  /* CDRL has blocks and poolings in one list */
};

static ebm_val act(struct build *b, ebm_val x)
{
    return b->spec->swish ? ebm_silu(b->g, x) : ebm_leaky_relu(b->g, x, 0.2);
}

/* Convolution of images, linear map of points and embeddings, normalised. */
static ebm_val map(struct build *b, const char *name, ebm_val x, int64_t out)
{
    return cdrl_mapped(b->g, cdrl_map(b->net, b->spec, name, x, out, CDRL_NORMED));
}

/* [n,c] to be added to images [n,h,w,c]. */
static ebm_val over_space(ebm_graph *g, ebm_val a, int rank)
{
    int64_t n[EBM_MAX_RANK];

    if (rank == 2 || ebm_shape(g, a, n) != 2)
        return a;
    return ebm_reshape(g, a, 4, (int64_t[]){ n[0], 1, 1, n[1] });
}

static ebm_val embedding(struct build *b, ebm_val level, ebm_val labels)
{
    ebm_graph *g = b->g;
    int64_t width = b->spec->width;
    ebm_val t = b->spec->drl ? ebm_cast(g, level, EBM_F32) : cdrl_noise_level(g, level);
    ebm_val e = map(b, b->names->embed[0], ebm_sinusoidal(g, t, width, 10000), 4 * width);

    e = map(b, b->names->embed[1], act(b, e), 4 * width);
    if (labels)
        e = ebm_add(g, e, map(b, b->names->label, ebm_one_hot(g, labels, b->spec->labels + 1),
                              4 * width));
    return e;
}

/* What is the same for all pixels is put together first: bias and level to one
 * addend, the two factors to one. */
static ebm_val first_conv(struct build *b, ebm_val x, int64_t out, int rank)
{
    ebm_graph *g = b->g;
    struct cdrl_map m = cdrl_map(b->net, b->spec, b->names->conv1, act(b, x), out, CDRL_NORMED);
    ebm_val told = map(b, b->names->level, act(b, b->e), out);

    if (!b->spec->drl)
        told = act(b, told);
    m.bias = over_space(g, ebm_add(g, told, m.bias), rank);
    return cdrl_mapped(g, m);
}

static ebm_val last_conv(struct build *b, ebm_val h, int64_t out)
{
    const ebm_init one = { EBM_INIT_CONST, 1, 0 };
    ebm_graph *g = b->g;
    struct cdrl_map m = cdrl_map(b->net, b->spec, b->names->conv2, h, out,
                                 b->spec->drl ? CDRL_SMALL : CDRL_NORMED);

    if (b->spec->drl)
        ebm_net_enter(b->net, b->names->conv2);
    ebm_val gain = ebm_net_param(b->net, "g", 1, &out, one);
    if (b->spec->drl)
        ebm_net_leave(b->net);
    m.factor = m.factor ? ebm_mul(g, gain, m.factor) : gain;
    m.bias = ebm_mul(g, gain, m.bias);
    return cdrl_mapped(g, m);
}

static ebm_val block(struct build *b, ebm_val x, int64_t out)
{
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(b->g, x, n);

    if (rank < 2)
        return 0;
    ebm_val h = last_conv(b, act(b, first_conv(b, x, out, rank)), out);
    return ebm_add(b->g, h, n[rank - 1] == out ? x : map(b, b->names->skip, x, out));
}

/* The block's scope: as one of a list, or by stage and number. */
static ebm_val named_block(struct build *b, int stage, int i, ebm_val x, int64_t out)
{
    char number[16];

    ebm_net_enter(b->net, b->spec->drl ? "res_levels" : "module_list");
    if (b->spec->drl) {
        snprintf(number, sizeof number, "%d", stage);
        ebm_net_enter(b->net, number);
    }
    snprintf(number, sizeof number, "%d", b->spec->drl ? i : b->module++);
    ebm_net_enter(b->net, number);
    x = block(b, x, out);
    ebm_net_leave(b->net);
    ebm_net_leave(b->net);
    if (b->spec->drl)
        ebm_net_leave(b->net);
    return x;
}

/* The authors know the attention of a stage by the size of the image. */
static ebm_val named_attention(struct build *b, int i, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];
    char number[24];

    if (ebm_shape(b->g, x, n) != 4)
        return x;
    ebm_net_enter(b->net, "attn_s");
    snprintf(number, sizeof number, "%lld", (long long)n[1]);
    ebm_net_enter(b->net, number);
    snprintf(number, sizeof number, "%d", i);
    ebm_net_enter(b->net, number);
    x = drl_attention(b->net, x);
    ebm_net_leave(b->net);
    ebm_net_leave(b->net);
    ebm_net_leave(b->net);
    return x;
}

static ebm_val halve(struct build *b, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];

    b->module += ebm_shape(b->g, x, n) == 4;
    return ebm_shape(b->g, x, n) == 4
         ? ebm_avg_pool(b->g, x, &(ebm_pool_spec){ .window = { 2, 2 } }) : x;
}

static ebm_val head(struct build *b, ebm_val h)
{
    ebm_graph *g = b->g;
    int64_t n[EBM_MAX_RANK];

    h = b->spec->swish && !b->spec->drl ? ebm_silu(g, h) : ebm_relu(g, h);
    if (ebm_shape(g, h, n) == 2) {
        h = ebm_linear(b->net, "final_dense", h, &(ebm_layer){ .out = 1, .no_bias = true });
        return ebm_reshape(g, h, 1, n);
    }
    if (ebm_shape(g, h, n) != 4)
        return 0;
    h = ebm_reshape(g, ebm_sum(g, h, 1u << 1 | 1u << 2), 2, (int64_t[]){ n[0], n[3] });
    ebm_val e = act(b, b->e);
    ebm_val v = b->spec->drl
              ? cdrl_mapped(g, cdrl_map(b->net, b->spec, b->names->head, e, n[3], CDRL_FREE))
              : ebm_linear(b->net, b->names->head, e, &(ebm_layer){ .out = n[3], .no_bias = true });
    return ebm_reshape(g, ebm_sum(g, ebm_mul(g, h, v), 1u << 1), 1, n);
}

static ebm_val half_square(ebm_graph *g, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (rank < 1)
        return 0;
    ebm_val sum = ebm_sum(g, ebm_square(g, x), ((1u << rank) - 1) & ~1u);
    return ebm_scale(g, ebm_reshape(g, sum, 1, n), 0.5);
}

/* The number of stages; 0, with the error latched, if there can be no such network. */
static int stages_of(ebm_graph *g, const struct cdrl_energy_spec *spec, ebm_val x)
{
    const int64_t widest = 1 << 16;
    int64_t n[EBM_MAX_RANK];
    int stages = 0, rank = ebm_shape(g, x, n);

    if (spec->width < 4 || spec->width % 2 || spec->width > widest) {
        graph_fail(g, EBM_ERR_ARG, "the width %lld of the network is not even and within 4 ... %lld",
                   (long long)spec->width, (long long)widest);
        return 0;
    }
    if (spec->blocks < 1 || spec->blocks > CDRL_BLOCKS) {
        graph_fail(g, EBM_ERR_ARG, "%d blocks in a stage, which has 1 ... %d", spec->blocks, CDRL_BLOCKS);
        return 0;
    }
    while (stages < CDRL_STAGES && spec->multipliers[stages] > 0)
        stages++;
    if (stages == 0 || (stages < CDRL_STAGES && spec->multipliers[stages] < 0)) {
        graph_fail(g, EBM_ERR_ARG, "a network has 1 ... %d stages with positive multipliers", CDRL_STAGES);
        return 0;
    }
    if (rank == 4 && (n[1] >> (stages - 1) < 1 || n[2] >> (stages - 1) < 1)) {
        graph_fail(g, EBM_ERR_ARG, "a network of %d stages needs images of at least %dx%d pixels",
                   stages, 1 << (stages - 1), 1 << (stages - 1));
        return 0;
    }
    return stages;
}

ebm_val cdrl_log_density(ebm_net *net, const struct cdrl_energy_spec *spec,
                         ebm_val x, ebm_val level, ebm_val labels)
{
    ebm_graph *g = net->graph;
    struct build b = { .net = net, .g = g, .spec = spec, .module = 1,
                       .names = spec->drl ? &drl_names : &cdrl_names };
    int stages = cdrl_told(g, x, level, labels, spec->labels) ? stages_of(g, spec, x) : 0;

    if (!stages)
        return 0;
    b.e = embedding(&b, level, labels);
    ebm_val h = map(&b, b.names->first, x, spec->width);
    for (int stage = 0; stage < stages; stage++) {
        if (stage > 0)
            h = halve(&b, h);
        for (int i = 0; i < spec->blocks; i++) {
            h = named_block(&b, stage, i, h, spec->width * spec->multipliers[stage]);
            if (spec->drl && spec->attention & 1u << stage)
                h = named_attention(&b, i, h);
        }
    }
    ebm_val n = head(&b, h);
    return spec->quadratic ? ebm_sub(g, n, half_square(g, x)) : n;
}
