/* icd.c - see icd.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   block    h = swish(cond1(norm1(conv1(x))))       conv1, conv2: standardised
 *            h = swish(cond2(norm2(conv2(h))))       weights
 *            y = x + h
 *            down: y = swish(pool(conv_downsample(y)))
 *   cond     gain h + bias, both linear in the label vector
 *   scale    swish(conv(x)), its blocks, swish, mean over space, linear to 1
 *
 * The scales of a network are rows of a table: what a row says is all by which
 * they differ. */
#include <stdio.h>
#include "icd.h"

/* A block: channels by the width, doubled `twice` times (-1: halved). */
struct block {
    const char *name;
    int twice;
    bool down, rescale;          /* smaller by two; then with twice the channels */
    bool attention;              /* follows the block */
};

struct scale {
    const char *prefix;          /* of its first convolution and its last map */
    int first;                   /* channels of the first convolution, as in block */
    int halvings;                /* of the image */
    struct block blocks[9];
};

static const struct scale
large_28 = { "", 0, 0, {
    { "res1", 0, true, true, false }, { "res2", 1, true, true, false },
    { "res3", 2, true, true, false } } },
large_32 = { "", 0, 0, {
    { "res_1a", 0, false, false, false }, { "res_1b", 0, true, false, false },
    { "res_2a", 0, false, false, false }, { "res_2b", 0, true, true, true },
    { "res_3a", 1, false, false, false }, { "res_3b", 1, true, true, false },
    { "res_4a", 2, false, false, false }, { "res_4b", 2, true, true, false } } },
large_128 = { "", -1, 0, {
    { "res_1a", -1, true, true, false }, { "res_1b", 0, true, false, false },
    { "res_2a", 0, true, false, false }, { "res_2b", 0, true, true, false },
    { "res_3a", 1, false, false, false }, { "res_3b", 1, true, true, true },
    { "res_4a", 2, false, false, false }, { "res_4b", 2, true, true, false } } },
mid_32 = { "mid_", 0, 1, {
    { "mid_res_1a", 0, false, false, false }, { "mid_res_1b", 0, true, false, false },
    { "mid_res_2a", 0, false, false, false }, { "mid_res_2b", 0, true, true, false },
    { "mid_res_3a", 1, false, false, false }, { "mid_res_3b", 1, true, true, false } } },
mid_128 = { "mid_", 0, 1, {
    { "mid_res_1a", 0, true, false, false }, { "mid_res_1b", 0, true, false, false },
    { "mid_res_2a", 0, true, false, false }, { "mid_res_2b", 0, true, true, false },
    { "mid_res_3a", 1, false, false, false }, { "mid_res_3b", 1, true, true, false } } },
small_32 = { "small_", 0, 2, {
    { "small_res_1a", 0, false, false, false }, { "small_res_1b", 0, true, false, false },
    { "small_res_2a", 0, false, false, false }, { "small_res_2b", 0, true, true, false } } },
small_128 = { "small_", 0, 2, {
    { "small_res_1a", 0, true, false, false }, { "small_res_1b", 0, true, false, false },
    { "small_res_2a", 0, true, false, false }, { "small_res_2b", 0, true, true, false } } };

/* The largest number of channels that are normalised one by one. */
enum { INSTANCE_MOST = 128, GROUPS = 32 };

struct build {
    ebm_net *net;
    ebm_graph *g;
    const struct icd_spec *spec;
    ebm_val labels;
    bool spectral_norm;          /* of this scale's blocks */
};

ebm_val icd_pool(ebm_graph *g, ebm_val x)
{
    return ebm_avg_pool(g, x, &(ebm_pool_spec){ { 3, 3 }, { 2, 2 }, { 1, 1, 1, 1 } });
}

/* One more element at both ends of an axis, mirrored about the outermost. */
static ebm_val reflect(ebm_graph *g, ebm_val x, int axis)
{
    int64_t n[EBM_MAX_RANK], begin[4] = { 0 }, size[4];

    if (ebm_shape(g, x, n) != 4)
        return 0;
    for (int i = 0; i < 4; i++)
        size[i] = i == axis ? 1 : n[i];
    begin[axis] = n[axis] > 1;
    ebm_val before = ebm_slice(g, x, begin, size, NULL);
    begin[axis] = n[axis] > 1 ? n[axis] - 2 : 0;
    ebm_val after = ebm_slice(g, x, begin, size, NULL);
    return ebm_concat(g, axis, 3, (ebm_val[]){ before, x, after });
}

/* 2 - |i - 1| along an axis: 1 2 1. */
static ebm_val tent(ebm_graph *g, const int64_t shape[4], int axis)
{
    ebm_val i = ebm_offset(g, ebm_iota(g, 4, shape, axis), -1);

    return ebm_offset(g, ebm_neg(g, ebm_abs(g, i)), 2);
}

ebm_val icd_blur_down(ebm_graph *g, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, x, n) != 4)
        return graph_fail(g, EBM_ERR_ARG, "only images [n,h,w,c] can be blurred");
    const int64_t filter[4] = { n[3], 3, 3, 1 };
    ebm_val f = ebm_scale(g, ebm_mul(g, tent(g, filter, 1), tent(g, filter, 2)), 1. / 16);

    return ebm_conv(g, reflect(g, reflect(g, x, 1), 2), f,
                    &(ebm_conv_spec){ .stride = { 2, 2 }, .groups = (int)n[3] });
}

static int64_t channels(const struct icd_spec *spec, int twice)
{
    return twice < 0 ? spec->width / 2 : spec->width << twice;
}

static ebm_val norm(struct build *b, const char *name, ebm_val x, int64_t c)
{
    if (b->spec->no_norm)
        return x;
    return c <= INSTANCE_MOST ? ebm_instance_norm(b->net, name, x, 1e-5)
                              : ebm_group_norm(b->net, name, x, GROUPS, 1e-5);
}

/* Gain and bias of the label vector; where there is none the map is declared,
 * so that a network has its weights whether it is told labels or not. */
static ebm_val cond(struct build *b, const char *name, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];

    if (b->labels)
        return ebm_film(b->net, name, x, b->labels, 0);
    if (b->spec->labels && ebm_shape(b->g, x, n) == 4) {
        int64_t length = b->spec->label_width ? b->spec->label_width : b->spec->labels;
        ebm_linear(b->net, name, ebm_fill(b->g, ebm_iota(b->g, 2, (int64_t[]){ 1, length }, 1), 0),
                   &(ebm_layer){ .out = 2 * n[3] });
    }
    return x;
}

static ebm_val residual_conv(struct build *b, const char *name, ebm_val x, int64_t c)
{
    return ebm_conv_layer(b->net, name, x, &(ebm_layer){
        .out = c, .kernel = 3, .pad = 1,
        .spectral_norm = b->spectral_norm, .weight_standard = !b->spectral_norm });
}

static ebm_val build_block(struct build *b, const struct block *block, ebm_val x)
{
    ebm_graph *g = b->g;
    int64_t c = channels(b->spec, block->twice);

    ebm_net_enter(b->net, block->name);
    ebm_val h = norm(b, "bn1", residual_conv(b, "conv1", x, c), c);
    h = ebm_silu(g, cond(b, "latent_map", h));
    h = norm(b, "bn2", residual_conv(b, "conv2", h, c), c);
    h = ebm_silu(g, cond(b, "latent_map_2", h));
    ebm_val y = ebm_add(g, x, h);
    if (block->down) {
        y = ebm_conv_layer(b->net, "conv_downsample", y, &(ebm_layer){
            .out = block->rescale ? 2 * c : c, .kernel = 3, .pad = 1, .plain = true });
        y = ebm_silu(g, icd_pool(g, y));
    }
    ebm_net_leave(b->net);
    return y;
}

/* Self-attention with an eighth of the channels as keys, scores not scaled. */
static ebm_val attention(struct build *b, ebm_val x)
{
    ebm_graph *g = b->g;
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, x, n) != 4)
        return 0;
    const ebm_layer key = { .out = n[3] / 8, .plain = true }, value = { .out = n[3], .plain = true };
    ebm_val pixels = ebm_reshape(g, x, 3, (int64_t[]){ n[0], n[1] * n[2], n[3] });

    ebm_net_enter(b->net, "self_attn");
    ebm_val gamma = ebm_net_param(b->net, "gamma", 1, (int64_t[]){ 1 }, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val q = ebm_linear(b->net, "query_conv", pixels, &key);
    ebm_val k = ebm_linear(b->net, "key_conv", pixels, &key);
    ebm_val v = ebm_linear(b->net, "value_conv", pixels, &value);
    ebm_net_leave(b->net);
    ebm_val y = ebm_mul(g, ebm_attend(g, q, k, v, 1), gamma);
    return ebm_add(g, x, ebm_reshape(g, y, 4, n));
}

static ebm_val build_scale(struct build *b, const struct scale *scale, ebm_val x)
{
    ebm_graph *g = b->g;
    const struct icd_spec *spec = b->spec;
    int64_t n[EBM_MAX_RANK];
    char name[32];

    for (int i = 0; i < scale->halvings; i++)
        x = spec->published ? icd_blur_down(g, x) : icd_pool(g, x);
    snprintf(name, sizeof name, "%sconv1", scale->prefix);
    x = ebm_silu(g, ebm_conv_layer(b->net, name, x, &(ebm_layer){
        .out = channels(spec, scale->first), .kernel = 3, .pad = 1, .plain = true }));
    for (const struct block *block = scale->blocks; block->name; block++) {
        x = build_block(b, block, x);
        if (block->attention && !spec->no_attention)
            x = attention(b, x);
    }
    x = ebm_silu(g, x);
    if (ebm_shape(g, x, n) != 4)
        return 0;
    x = ebm_reshape(g, ebm_mean(g, x, 1u << 1 | 1u << 2), 2, (int64_t[]){ n[0], n[3] });
    snprintf(name, sizeof name, "%senergy_map", scale->prefix);
    return ebm_linear(b->net, name, x, &(ebm_layer){ .out = 1, .plain = true });
}

/* Four layers between labels and the maps of the blocks. */
static ebm_val label_network(struct build *b, ebm_val y)
{
    static const char *const names[] = { "map_fc1", "map_fc2", "map_fc3", "map_fc4" };

    for (size_t i = 0; i < COUNT(names); i++)
        y = ebm_silu(b->g, ebm_linear(b->net, names[i], y,
                                      &(ebm_layer){ .out = b->spec->label_width, .plain = true }));
    return y;
}

/* The smallest image of which every block keeps more than one pixel. */
static bool fits(ebm_graph *g, const struct icd_spec *spec, ebm_val x)
{
    static const int64_t least[] = { [ICD_28] = 9, [ICD_32] = 17, [ICD_128] = 65 };
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, x, n);

    if (g->status < 0)
        return false;
    if (rank != 4 || n[1] < least[spec->size] || n[2] < least[spec->size]) {
        graph_fail(g, EBM_ERR_ARG, "this network needs images of at least %lldx%lld pixels",
                   (long long)least[spec->size], (long long)least[spec->size]);
        return false;
    }
    if (spec->width < 4 || spec->width % 4) {
        graph_fail(g, EBM_ERR_ARG, "the width %lld of the network is not a multiple of 4",
                   (long long)spec->width);
        return false;
    }
    for (int twice = 0; twice <= 2; twice++)
        if (channels(spec, twice) > INSTANCE_MOST && channels(spec, twice) % GROUPS) {
            graph_fail(g, EBM_ERR_ARG, "width %lld: %lld channels do not fall into %d groups",
                       (long long)spec->width, (long long)channels(spec, twice), GROUPS);
            return false;
        }
    return true;
}

ebm_val icd_energies(ebm_net *net, const struct icd_spec *spec, ebm_val x, ebm_val labels)
{
    ebm_graph *g = net->graph;
    struct build b = { .net = net, .g = g, .spec = spec, .labels = labels };
    bool scales = !spec->one_scale && spec->size != ICD_28;
    ebm_val weights = 0;

    if (!fits(g, spec, x))
        return 0;
    if (spec->published)
        weights = ebm_net_param(net, "heir_weight", 1, (int64_t[]){ 3 }, (ebm_init){ EBM_INIT_CONST, 1, 0 });
    if (spec->label_width && labels)
        b.labels = label_network(&b, labels);
    b.spectral_norm = spec->spectral_norm;
    ebm_val large = build_scale(&b, spec->size == ICD_28 ? &large_28 : spec->size == ICD_32
                                ? &large_32 : &large_128, x);
    if (!scales)
        return large;
    b.spectral_norm = spec->spectral_norm && spec->size == ICD_32;
    ebm_val mid = build_scale(&b, spec->size == ICD_32 ? &mid_32 : &mid_128, x);
    ebm_val small = build_scale(&b, spec->size == ICD_32 ? &small_32 : &small_128, x);

    if (!spec->published)
        return ebm_concat(g, 1, 3, (ebm_val[]){ small, mid, large });
    ebm_val all = ebm_concat(g, 1, 3, (ebm_val[]){ large, mid, small });
    return ebm_sum(g, ebm_mul(g, all, weights), 1u << 1);
}
