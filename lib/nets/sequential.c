/* sequential.c - networks from their descriptions.
 *
 * SPDX-License-Identifier: ISC
 *
 * Every kind of layer is a row of a table: its name, the function that builds
 * it, and whether it has layers within.  A sequence counts its layers by kind,
 * which names them: conv1, conv2, res1.conv1 ... */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "item.h"

enum { KINDS = 40, MAX_DEPTH = 16, MAX_LAYERS = 10000 };

/* A sequence being built: the network and how many layers of a kind it has. */
struct sequence {
    ebm_net *net;
    const char *text;
    int depth;
    int *layers;                 /* built in all: repetitions within repetitions
                                  * could ask for too many */
    int built[KINDS];
};

struct build {                   /* what a layer is built from */
    struct sequence *in;
    ebm_net *net;
    ebm_graph *g;
    struct item *item;
    char name[32];
    ebm_val x;
    int rank;                    /* of x */
    int64_t n[EBM_MAX_RANK];
};

static ebm_val sequence(struct sequence *s, struct span text, ebm_val x);

static bool image(const struct build *b)
{
    if (b->rank == 4)
        return true;
    item_fail(b->item, b->item->kind.begin, "'%s' needs an image, and its input has rank %d",
              b->name, b->rank);
    return false;
}

/* ---- layers with weights ---- */

static ebm_layer weighted(struct build *b, int kernel, int stride, int pad)
{
    struct item *i = b->item;
    ebm_layer l = {
        .out = item_whole(i, 0, 1, 0),
        .kernel = item_whole(i, 'k', 1, kernel),
        .stride = item_whole(i, 's', 1, stride),
        .pad = item_whole(i, 'p', 0, 0),
        .dilation = item_whole(i, 'd', 1, 1),
        .groups = item_whole(i, 'g', 1, 1),
        .no_bias = item_flag(i, "nobias"),
        .spectral_norm = item_flag(i, "sn"),
        .weight_standard = item_flag(i, "ws"),
        .plain = item_flag(i, "plain"),
    };
    double given;

    if (!item_keyed(i, 'p', 0, &given))
        l.pad = pad;
    if (item_flag(i, "zero"))
        l.init = l.bias_init = EBM_SCHEME_ZERO;
    return l;
}

static ebm_val build_conv(struct build *b)
{
    ebm_layer l = weighted(b, 3, 1, EBM_PAD_SAME);

    return image(b) ? ebm_conv_layer(b->net, b->name, b->x, &l) : 0;
}

static ebm_val build_deconv(struct build *b)
{
    ebm_layer l = weighted(b, 4, 2, 1);

    l.out_pad = item_whole(b->item, 'o', 0, 0);
    return image(b) ? ebm_conv_transpose_layer(b->net, b->name, b->x, &l) : 0;
}

static ebm_val build_linear(struct build *b)
{
    struct item *i = b->item;
    ebm_layer l = {
        .out = item_whole(i, 0, 1, 0),
        .no_bias = item_flag(i, "nobias"),
        .spectral_norm = item_flag(i, "sn"),
        .weight_standard = item_flag(i, "ws"),
        .plain = item_flag(i, "plain"),
    };

    if (item_flag(i, "zero"))
        l.init = l.bias_init = EBM_SCHEME_ZERO;
    return ebm_linear(b->net, b->name, b->x, &l);
}

static ebm_val build_attention(struct build *b)
{
    struct item *i = b->item;
    ebm_attention_spec spec = {
        .heads = item_whole(i, 0, 1, 1),
        .key = item_whole(i, 'k', 0, 0),
        .value = item_whole(i, 'v', 0, 0),
        .unscaled = item_flag(i, "unscaled"),
        .gamma = item_flag(i, "gamma"),
        .no_out = item_flag(i, "noout"),
        .no_residual = item_flag(i, "nores"),
        .no_bias = item_flag(i, "nobias"),
    };

    return image(b) ? ebm_attention(b->net, b->name, b->x, &spec) : 0;
}

/* ---- normalisation ---- */

static double epsilon_of(struct build *b)
{
    double epsilon;

    item_keyed(b->item, 'e', 1e-5, &epsilon);
    return epsilon;
}

static ebm_val build_groupnorm(struct build *b)
{
    int groups = item_whole(b->item, 0, 1, 0);

    return ebm_group_norm(b->net, b->name, b->x, groups, epsilon_of(b));
}

static ebm_val build_instnorm(struct build *b)
{
    return image(b) ? ebm_instance_norm(b->net, b->name, b->x, epsilon_of(b)) : 0;
}

static ebm_val build_layernorm(struct build *b)
{
    return ebm_layer_norm(b->net, b->name, b->x, ((1u << b->rank) - 1) & ~1u, epsilon_of(b));
}

static ebm_val build_batchnorm(struct build *b)
{
    bool frozen = item_flag(b->item, "frozen");

    return ebm_batch_norm(b->net, b->name, b->x, frozen, 0.1, epsilon_of(b));
}

/* ---- layers without weights ---- */

#define PLAIN(kind) \
    static ebm_val build_##kind(struct build *b) { return ebm_##kind(b->g, b->x); }
PLAIN(relu)
PLAIN(silu)
PLAIN(elu)
PLAIN(gelu)
PLAIN(tanh)
PLAIN(sigmoid)
PLAIN(softplus)
#undef PLAIN

static ebm_val build_leaky(struct build *b)
{
    double slope;

    item_number(b->item, 0, 0.2, &slope);
    return ebm_leaky_relu(b->g, b->x, slope);
}

static ebm_pool_spec window(struct build *b)
{
    struct item *i = b->item;
    int k = item_whole(i, 0, 1, 0), s = item_whole(i, 's', 1, k), p = item_whole(i, 'p', 0, 0);

    return (ebm_pool_spec){ { k, k }, { s, s }, { p, p, p, p } };
}

static ebm_val build_avgpool(struct build *b)
{
    ebm_pool_spec spec = window(b);

    return image(b) ? ebm_avg_pool(b->g, b->x, &spec) : 0;
}

static ebm_val build_maxpool(struct build *b)
{
    ebm_pool_spec spec = window(b);

    return image(b) ? ebm_max_pool(b->g, b->x, &spec) : 0;
}

static ebm_val build_sumpool(struct build *b)
{
    ebm_pool_spec spec = window(b);

    return image(b) ? ebm_sum_pool(b->g, b->x, &spec) : 0;
}

static ebm_val build_up(struct build *b)
{
    int factor = item_whole(b->item, 0, 1, 0);
    enum ebm_resample mode = item_flag(b->item, "bilinear") ? EBM_BILINEAR : EBM_NEAREST;

    return image(b) ? ebm_resample(b->g, b->x, mode, b->n[1] * factor, b->n[2] * factor) : 0;
}

static ebm_val build_dropout(struct build *b)
{
    double p;

    item_number(b->item, 0, 0.5, &p);
    return ebm_dropout(b->net, b->name, b->x, p);
}

static ebm_val build_affine(struct build *b)
{
    double factor, add;

    item_number(b->item, 0, 1, &factor);
    item_number(b->item, 1, 0, &add);
    return ebm_offset(b->g, ebm_scale(b->g, b->x, factor), add);
}

static ebm_val build_flatten(struct build *b)
{
    return ebm_reshape(b->g, b->x, 2, (int64_t[]){ b->n[0], -1 });
}

static ebm_val build_reshape(struct build *b)
{
    int64_t n[4] = { b->n[0] };

    for (int i = 0; i < 3; i++) {
        double size;
        item_number(b->item, i, 0, &size);
        n[i + 1] = size >= 1 && size <= 1 << 20 ? (int64_t)size : 0;
    }
    return ebm_reshape(b->g, b->x, 4, n);
}

static ebm_val build_mean(struct build *b)
{
    if (!image(b))
        return 0;
    return ebm_reshape(b->g, ebm_mean(b->g, b->x, 1u << 1 | 1u << 2), 2,
                       (int64_t[]){ b->n[0], b->n[3] });
}

static ebm_val build_sum(struct build *b)
{
    if (!image(b))
        return 0;
    return ebm_reshape(b->g, ebm_sum(b->g, b->x, 1u << 1 | 1u << 2), 2,
                       (int64_t[]){ b->n[0], b->n[3] });
}

/* ---- settings of later layers ---- */

static enum ebm_scheme scheme_of(struct build *b)
{
    static const struct { const char *name; enum ebm_scheme scheme; } schemes[] = {
        { "pytorch", EBM_SCHEME_PYTORCH }, { "xavier", EBM_SCHEME_XAVIER },
        { "he", EBM_SCHEME_HE }, { "normal", EBM_SCHEME_NORMAL }, { "zero", EBM_SCHEME_ZERO },
    };
    struct span word = item_word(b->item, 0);

    for (size_t i = 0; i < COUNT(schemes); i++)
        if (span_is(word, schemes[i].name))
            return schemes[i].scheme;
    item_fail(b->item, word.begin, "weights start by pytorch, xavier, he, normal or zero");
    return EBM_SCHEME_NET;
}

static ebm_val build_init(struct build *b)
{
    double gain;

    b->net->init = scheme_of(b);
    item_number(b->item, 0, 1, &gain);
    b->net->gain = (float)gain;
    return b->x;
}

static ebm_val build_bias(struct build *b)
{
    b->net->bias_init = scheme_of(b);
    return b->x;
}

static ebm_val build_sn(struct build *b)
{
    b->net->spectral_norm = !item_flag(b->item, "off");
    return b->x;
}

static ebm_val build_ws(struct build *b)
{
    b->net->weight_standard = !item_flag(b->item, "off");
    return b->x;
}

/* ---- layers of layers ---- */

/* The layers of a text by themselves, under the names of `scope`. */
static ebm_val within(struct build *b, const char *scope, struct span text)
{
    struct sequence inner = {
        .net = b->net, .text = b->in->text, .depth = b->in->depth + 1, .layers = b->in->layers,
    };

    ebm_net_enter(b->net, scope);
    ebm_val y = sequence(&inner, text, b->x);
    ebm_net_leave(b->net);
    return y;
}

/* Space by averages over whole blocks, with zeros beyond the end where the size
 * was rounded up. */
static ebm_val shrink(struct build *b, ebm_val x, const int64_t from[2], const int64_t to[2])
{
    ebm_pool_spec spec = { .window = { 0 } };

    for (int i = 0; i < 2; i++) {
        spec.window[i] = (int)((from[i] + to[i] - 1) / to[i]);
        spec.pad[i + 2] = (int)(spec.window[i] * to[i] - from[i]);
    }
    return ebm_avg_pool(b->g, x, &spec);
}

/* The input of a residual block in the shape of its output.  A 1x1 convolution
 * commutes with averages and repetition, so it is done where it is cheaper. */
static ebm_val shortcut(struct build *b, ebm_val like, bool no_bias)
{
    int64_t n[EBM_MAX_RANK];
    ebm_val x = b->x;

    if (ebm_shape(b->g, like, n) != b->rank)
        return item_fail(b->item, b->item->kind.begin, "the residual branch changes the rank of "
                         "its input");
    bool smaller = b->rank == 4 && (n[1] < b->n[1] || n[2] < b->n[2]);
    bool larger = b->rank == 4 && (n[1] > b->n[1] || n[2] > b->n[2]);
    int64_t c = n[b->rank - 1];

    if (smaller && !larger)
        x = shrink(b, x, &b->n[1], &n[1]);
    if (c != b->n[b->rank - 1]) {
        ebm_layer l = { .out = c, .no_bias = no_bias };
        ebm_net_enter(b->net, b->name);
        x = b->rank == 4 ? ebm_conv_layer(b->net, "shortcut", x, &l)
                         : ebm_linear(b->net, "shortcut", x, &l);
        ebm_net_leave(b->net);
    }
    return larger && !smaller ? ebm_resample(b->g, x, EBM_NEAREST, n[1], n[2]) : x;
}

static ebm_val build_res(struct build *b)
{
    bool half = item_flag(b->item, "half"), no_bias = item_flag(b->item, "nobias");
    ebm_val y = within(b, b->name, b->item->body);

    if (b->g->status < 0)
        return 0;
    y = ebm_add(b->g, shortcut(b, y, no_bias), y);
    return half ? ebm_scale(b->g, y, sqrt(0.5)) : y;
}

/* Branches from one input; each has its scope: add1.1, add1.2 ... */
static int branches(struct build *b, int most, ebm_val *parts)
{
    const char *at = b->item->body.begin;
    struct span branch;
    int n = 0;

    ebm_net_enter(b->net, b->name);
    for (; next_branch(&b->item->body, &at, &branch); n++) {
        char number[16];
        if (n == most) {
            item_fail(b->item, branch.begin, "more than %d branches", most);
            break;
        }
        snprintf(number, sizeof number, "%d", n + 1);
        parts[n] = within(b, number, branch);
    }
    ebm_net_leave(b->net);
    return n;
}

enum { MAX_BRANCHES = 32 };

static ebm_val build_add(struct build *b)
{
    ebm_val parts[MAX_BRANCHES] = { 0 };
    int n = branches(b, MAX_BRANCHES, parts);
    ebm_val sum = parts[0];

    for (int i = 1; i < n; i++)
        sum = ebm_add(b->g, sum, parts[i]);
    return sum;
}

static ebm_val build_concat(struct build *b)
{
    ebm_val parts[MAX_BRANCHES] = { 0 };
    int64_t n[EBM_MAX_RANK];
    int count = branches(b, MAX_BRANCHES, parts), rank = ebm_shape(b->g, parts[0], n);

    return rank > 0 ? ebm_concat(b->g, rank - 1, count, parts) : 0;
}

static ebm_val build_repeat(struct build *b)
{
    int times = item_whole(b->item, 0, 1, 0);
    ebm_val x = b->x;

    b->in->depth++;
    for (int i = 0; i < times && b->g->status >= 0; i++)
        x = sequence(b->in, b->item->body, x);
    b->in->depth--;
    return x;
}

/* ---- sequences ---- */

static const struct kind {
    const char *name;
    ebm_val (*build)(struct build *b);
    bool has_body;
} kinds[] = {
    { "conv", build_conv, false },
    { "deconv", build_deconv, false },
    { "linear", build_linear, false },
    { "attention", build_attention, false },
    { "groupnorm", build_groupnorm, false },
    { "instnorm", build_instnorm, false },
    { "layernorm", build_layernorm, false },
    { "batchnorm", build_batchnorm, false },
    { "relu", build_relu, false },
    { "silu", build_silu, false },
    { "elu", build_elu, false },
    { "gelu", build_gelu, false },
    { "tanh", build_tanh, false },
    { "sigmoid", build_sigmoid, false },
    { "softplus", build_softplus, false },
    { "leaky", build_leaky, false },
    { "avgpool", build_avgpool, false },
    { "maxpool", build_maxpool, false },
    { "sumpool", build_sumpool, false },
    { "up", build_up, false },
    { "dropout", build_dropout, false },
    { "affine", build_affine, false },
    { "flatten", build_flatten, false },
    { "reshape", build_reshape, false },
    { "mean", build_mean, false },
    { "sum", build_sum, false },
    { "init", build_init, false },
    { "bias", build_bias, false },
    { "sn", build_sn, false },
    { "ws", build_ws, false },
    { "res", build_res, true },
    { "add", build_add, true },
    { "concat", build_concat, true },
    { "repeat", build_repeat, true },
};
typedef char every_kind_is_counted[COUNT(kinds) <= KINDS ? 1 : -1];

static const struct kind *find_kind(const struct item *item)
{
    for (size_t i = 0; i < COUNT(kinds); i++)
        if (span_is(item->kind, kinds[i].name))
            return &kinds[i];
    item_fail(item, item->kind.begin, "there is no layer '%.*s'",
              (int)(item->kind.end - item->kind.begin), item->kind.begin);
    return NULL;
}

static ebm_val layer(struct sequence *s, struct item *item, ebm_val x)
{
    const struct kind *kind = find_kind(item);
    struct build b = { .in = s, .net = s->net, .g = s->net->graph, .item = item, .x = x };

    if (!kind)
        return 0;
    if (++*s->layers > MAX_LAYERS)
        return item_fail(item, item->kind.begin, "more than %d layers", MAX_LAYERS);
    if (kind->has_body != (item->body.begin != NULL))
        return item_fail(item, item->kind.begin, kind->has_body
                         ? "'%s' needs layers in parentheses" : "'%s' takes no layers", kind->name);
    snprintf(b.name, sizeof b.name, "%s%d", kind->name, ++s->built[kind - kinds]);
    b.rank = ebm_shape(b.g, x, b.n);
    if (b.rank < 2)
        return item_fail(item, item->kind.begin, "the input has no features: rank %d", b.rank);
    ebm_val y = kind->build(&b);
    return item_spent(item) ? y : 0;
}

static ebm_val sequence(struct sequence *s, struct span text, ebm_val x)
{
    ebm_graph *g = s->net->graph;
    const char *at = text.begin;

    if (s->depth > MAX_DEPTH)
        return graph_fail(g, EBM_ERR_ARG, "network description, column %d: more than %d levels of "
                          "parentheses", (int)(at - s->text) + 1, MAX_DEPTH);
    while (g->status >= 0) {
        struct item item;

        while (at < text.end && isspace((unsigned char)*at))
            at++;
        if (at == text.end)
            return x;
        if (!item_read(g, s->text, &at, text.end, &item))
            return 0;
        x = layer(s, &item, x);
    }
    return 0;
}

ebm_val ebm_sequential(ebm_net *net, const char *text, ebm_val x)
{
    ebm_net settings = *net;     /* init, sn and ws of the text end with it */
    int layers = 0;
    struct sequence s = { .net = &settings, .text = text, .layers = &layers };

    return sequence(&s, (struct span){ text, text + strlen(text) }, x);
}

ebm_val ebm_energy_net(ebm_net *net, const char *text, ebm_val x)
{
    ebm_graph *g = net->graph;
    int64_t n[EBM_MAX_RANK], count = 1;
    ebm_val y = ebm_sequential(net, text, x);
    int rank = ebm_shape(g, y, n);

    for (int i = 1; i < rank; i++)
        count *= n[i];
    if (rank > 0 && count != 1)
        return graph_fail(g, EBM_ERR_ARG, "the energy network ends with %lld numbers for an image; "
                          "end it with one, as by 'mean linear:1' or 'flatten linear:1'",
                          (long long)count);
    return ebm_reshape(g, y, 1, n);
}
