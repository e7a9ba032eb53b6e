/* cdrl_proposal.c - the initializer of cooperative diffusion recovery likelihood:
 * see cdrl.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   block    h = conv1(resample(silu(norm1(x))))
 *            h = silu(norm2(h) (1 + scale(e)) + shift(e)), dropout
 *            y = skip(resample(x)) + conv2(h)          conv2 starts at 0
 *   down     at each stage: blocks; then one that halves
 *   up       at each stage: blocks of [h, what down had there], newest first;
 *            then one that doubles
 *   points   map, blocks, silu, map from 0
 *
 * The result is x plus what the network makes of it. */
#include <math.h>
#include <stdio.h>
#include "cdrl.h"

enum resample { HALVED = -1, KEPT, DOUBLED };

struct build {
    ebm_net *net;
    ebm_graph *g;
    const struct cdrl_proposal_spec *spec;
    int64_t groups;
    ebm_val e;
    ebm_val skips[CDRL_STAGES * (CDRL_BLOCKS + 1) + 1];
    int n_skips;
};

static const double EPSILON = 1e-6;      /* of normalisations */

/* 3x3 convolution of images, linear map of points. */
static ebm_val map(struct build *b, const char *name, ebm_val x, int64_t out, bool from_zero)
{
    ebm_layer layer = { .out = out };
    int64_t n[EBM_MAX_RANK];

    if (from_zero) {
        layer.init = EBM_SCHEME_ZERO;
        layer.bias_init = EBM_SCHEME_PYTORCH;
    }
    if (ebm_shape(b->g, x, n) == 2)
        return ebm_linear(b->net, name, x, &layer);
    layer.kernel = 3;
    layer.pad = 1;
    return ebm_conv_layer(b->net, name, x, &layer);
}

static ebm_val norm(struct build *b, const char *name, ebm_val x)
{
    return ebm_group_norm(b->net, name, x, b->groups, EPSILON);
}

static ebm_val resample(ebm_graph *g, ebm_val x, enum resample how)
{
    int64_t n[EBM_MAX_RANK];

    if (how == KEPT || ebm_shape(g, x, n) != 4)
        return x;
    return how == HALVED ? ebm_avg_pool(g, x, &(ebm_pool_spec){ .window = { 2, 2 } })
                         : ebm_resample(g, x, EBM_NEAREST, 2 * n[1], 2 * n[2]);
}

static ebm_val block(struct build *b, ebm_val x, enum resample how)
{
    ebm_graph *g = b->g;
    int64_t n[EBM_MAX_RANK], c = b->spec->width;
    int rank = ebm_shape(g, x, n);

    if (rank < 2)
        return 0;
    ebm_val h = resample(g, ebm_silu(g, norm(b, "norm1", x)), how);
    x = resample(g, x, how);
    h = norm(b, "norm2", map(b, "conv1", h, c, false));
    h = ebm_silu(g, ebm_film(b->net, "mlp.1", h, ebm_silu(g, b->e), 1));
    h = map(b, "conv2", ebm_dropout(b->net, "dropout", h, b->spec->dropout), c, true);
    if (n[rank - 1] != c)
        x = ebm_linear(b->net, "res_conv", x, &(ebm_layer){ .out = c });
    return ebm_add(g, h, x);
}

static ebm_val attention(struct build *b, ebm_val x)
{
    ebm_graph *g = b->g;
    int64_t n[EBM_MAX_RANK], from[3] = { 0 };
    ebm_val qkv[3];

    if (ebm_shape(g, x, n) != 4)
        return 0;
    int64_t size[3] = { n[0], n[1] * n[2], n[3] };
    ebm_val pixels = ebm_reshape(g, norm(b, "norm", x), 3, size);
    ebm_val all = ebm_linear(b->net, "to_qkv", pixels, &(ebm_layer){ .out = 3 * n[3] });
    for (int i = 0; i < 3; i++) {
        from[2] = i * n[3];
        qkv[i] = ebm_slice(g, all, from, size, NULL);
    }
    ebm_val y = ebm_attend(g, qkv[0], qkv[1], qkv[2], 1 / sqrt((double)n[3]));
    y = ebm_linear(b->net, "to_out", y, &(ebm_layer){
        .out = n[3], .init = EBM_SCHEME_ZERO, .bias_init = EBM_SCHEME_PYTORCH });
    return ebm_add(g, x, ebm_reshape(g, y, 4, n));
}

/* A block, or its attention, in the scope list.number. */
static ebm_val listed(struct build *b, const char *list, int number, ebm_val x,
                      bool attend, enum resample how)
{
    char text[16];

    snprintf(text, sizeof text, "%d", number);
    if (list)
        ebm_net_enter(b->net, list);
    ebm_net_enter(b->net, text);
    x = attend ? attention(b, x) : block(b, x, how);
    ebm_net_leave(b->net);
    if (list)
        ebm_net_leave(b->net);
    return x;
}

static ebm_val middle(struct build *b, ebm_val x)
{
    static const char *const names[] = { "mid_block1", "mid_attn", "mid_block2" };

    for (int i = 0; i < 3; i++) {
        ebm_net_enter(b->net, names[i]);
        x = i == 1 ? attention(b, x) : block(b, x, KEPT);
        ebm_net_leave(b->net);
    }
    return x;
}

static ebm_val embedding(struct build *b, ebm_val level, ebm_val labels, int64_t from,
                         int64_t to, const char *const names[2])
{
    const ebm_layer layer = { .out = to };
    ebm_graph *g = b->g;
    ebm_val e = ebm_sinusoidal(g, cdrl_noise_level(g, level), from, 10000);

    e = ebm_silu(g, ebm_linear(b->net, names[0], e, &layer));
    e = ebm_linear(b->net, names[1], e, &layer);
    if (labels)
        e = ebm_add(g, e, ebm_linear(b->net, "y_mlp.0", ebm_one_hot(g, labels, b->spec->labels + 1),
                                     &layer));
    return e;
}

static ebm_val down(struct build *b, int stage, ebm_val h)
{
    const struct cdrl_proposal_spec *spec = b->spec;
    char list[16];
    int number = 0;

    snprintf(list, sizeof list, "%d", stage);
    ebm_net_enter(b->net, "downs");
    for (int i = 0; i < spec->blocks; i++) {
        h = listed(b, list, number++, h, false, KEPT);
        if (spec->attention & 1u << stage)
            h = listed(b, list, number++, h, true, KEPT);
        b->skips[b->n_skips++] = h;
    }
    if (stage < spec->stages - 1) {
        h = listed(b, list, number, h, false, HALVED);
        b->skips[b->n_skips++] = h;
    }
    ebm_net_leave(b->net);
    return h;
}

/* turn: counts from the smallest stage, as the authors' list does. */
static ebm_val up(struct build *b, int turn, ebm_val h)
{
    const struct cdrl_proposal_spec *spec = b->spec;
    int stage = spec->stages - 1 - turn, number = 0;
    char list[16];

    snprintf(list, sizeof list, "%d", turn);
    ebm_net_enter(b->net, "ups");
    for (int i = 0; i <= spec->blocks; i++) {
        h = ebm_concat(b->g, 3, 2, (ebm_val[]){ h, b->skips[--b->n_skips] });
        h = listed(b, list, number++, h, false, KEPT);
        if (spec->attention & 1u << stage)
            h = listed(b, list, number++, h, true, KEPT);
    }
    if (stage > 0)
        h = listed(b, list, number, h, false, DOUBLED);
    ebm_net_leave(b->net);
    return h;
}

static ebm_val of_image(struct build *b, ebm_val x, int64_t channels, ebm_val level, ebm_val labels)
{
    static const char *const names[2] = { "time_mlp.1", "time_mlp.3" };
    int64_t width = b->spec->width;
    ebm_val h = map(b, "init_conv", x, width, false);

    b->e = embedding(b, level, labels, width, 4 * width, names);
    b->skips[b->n_skips++] = h;
    for (int stage = 0; stage < b->spec->stages; stage++)
        h = down(b, stage, h);
    h = middle(b, h);
    for (int turn = 0; turn < b->spec->stages; turn++)
        h = up(b, turn, h);
    return map(b, "final_conv", ebm_silu(b->g, norm(b, "norm", h)), channels, true);
}

static ebm_val of_point(struct build *b, ebm_val x, int64_t d, ebm_val level, ebm_val labels)
{
    static const char *const names[2] = { "temb_map.0", "temb_map.2" };
    int64_t width = b->spec->width;
    ebm_val h = map(b, "h1", x, width, false);

    b->e = embedding(b, level, labels, 2 * width, 2 * width, names);
    ebm_net_enter(b->net, "module_list");
    for (int i = 0; i < b->spec->blocks; i++)
        h = listed(b, NULL, i, h, false, KEPT);
    ebm_net_leave(b->net);
    return ebm_linear(b->net, "final_dense", ebm_silu(b->g, h), &(ebm_layer){
        .out = d, .no_bias = true, .init = EBM_SCHEME_ZERO });
}

static bool possible(ebm_graph *g, const struct cdrl_proposal_spec *spec, int64_t groups, ebm_val x)
{
    const int64_t widest = 1 << 16;
    int64_t n[EBM_MAX_RANK];
    bool image = ebm_shape(g, x, n) == 4;

    if (spec->width < 4 || spec->width % 2 || spec->width > widest || groups < 1
        || spec->width % groups) {
        graph_fail(g, EBM_ERR_ARG, "the width %lld of the initializer is not an even number within "
                   "4 ... %lld that %lld groups divide", (long long)spec->width, (long long)widest,
                   (long long)groups);
        return false;
    }
    if (spec->blocks < 1 || spec->blocks > CDRL_BLOCKS) {
        graph_fail(g, EBM_ERR_ARG, "%d blocks in a stage, which has 1 ... %d", spec->blocks, CDRL_BLOCKS);
        return false;
    }
    if (image && (spec->stages < 1 || spec->stages > CDRL_STAGES)) {
        graph_fail(g, EBM_ERR_ARG, "%d stages, where there are 1 ... %d", spec->stages, CDRL_STAGES);
        return false;
    }
    int64_t smallest = image ? (int64_t)1 << (spec->stages - 1) : 1;
    if (image && (n[1] % smallest || n[2] % smallest)) {
        graph_fail(g, EBM_ERR_ARG, "an initializer of %d stages needs images whose sides are "
                   "multiples of %lld", spec->stages, (long long)smallest);
        return false;
    }
    return true;
}

ebm_val cdrl_proposal(ebm_net *net, const struct cdrl_proposal_spec *spec,
                      ebm_val x, ebm_val level, ebm_val labels)
{
    ebm_graph *g = net->graph;
    struct build b = { .net = net, .g = g, .spec = spec, .groups = spec->groups ? spec->groups : 32 };
    int64_t n[EBM_MAX_RANK];

    if (!cdrl_told(g, x, level, labels, spec->labels) || !possible(g, spec, b.groups, x))
        return 0;
    bool image = ebm_shape(g, x, n) == 4;
    return ebm_add(g, x, image ? of_image(&b, x, n[3], level, labels)
                               : of_point(&b, x, n[1], level, labels));
}
