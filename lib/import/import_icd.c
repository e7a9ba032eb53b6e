/* import_icd.c - checkpoints of improved contrastive divergence (Du, Li, Tenenbaum
 * and Mordatch 2021).
 *
 * SPDX-License-Identifier: ISC
 *
 *   {"model_state_dict_0": ..., "ema_model_state_dict_0": ..., "FLAGS": ...}
 *
 * Which of the networks it is, the tensors tell:
 *
 *   28          res1 ... res3
 *   32          the first block does not halve
 *   128         it does
 *   published   four layers map the labels
 *
 * Not whether it is told labels: the maps for them are there in any case.  FLAGS
 * say it.  Where there are none, the maps are kept, and sample.label chooses. */
#include <stdio.h>
#include <string.h>
#include "import.h"
#include "number.h"

static const char *const marks_28[] = {
    "energy_map.weight", "res1.conv2.bias", "res2.conv2.bias", "res3.conv_downsample.weight", NULL
};
static const char *const marks[] = {
    "energy_map.weight", "res_1a.conv2.bias", "res_2b.conv_downsample.weight", "res_3a.conv2.bias",
    "res_4b.conv_downsample.weight", NULL
};

/* What is saved whether the network uses it or not. */
static const char *const unused[] = {
    "downsample.filt", "avg_pool.filt", "heir_weight",
    "latent_map.weight", "latent_map.bias", "latent_map_2.weight", "latent_map_2.bias",
    "map_fc1.weight", "map_fc1.bias", "map_fc2.weight", "map_fc2.bias",
    "map_fc3.weight", "map_fc3.bias", "map_fc4.weight", "map_fc4.bias",
    "self_attn.gamma", "self_attn.query_conv.weight", "self_attn.query_conv.bias",
    "self_attn.key_conv.weight", "self_attn.key_conv.bias", "self_attn.value_conv.weight",
    "self_attn.value_conv.bias", NULL
};

/* How the authors sample, by image and labels. */
struct sampling {
    int rounds, round_steps, steps, blur;
    double step, area, colour;
};
static const struct sampling
sampling_32 = { 10, 20, 200, 5, 100, 0.08, 1 },
sampling_128 = { 20, 15, 120, 5, 500, 0.3, 0.5 },
sampling_attribute = { 10, 20, 80, 0, 500, 0.08, 1 },
sampling_imagenet = { 5, 60, 150, 0, 500, 0.3, 0.5 };

struct found {
    int size;                    /* 28, 32 or 128 */
    bool published, mid, attention, norm, spectral;
    int64_t width, channels, labels, label_width;
    int side;                    /* of an image */
    enum { TOLD, TOLD_NOTHING, NOT_SAID } labelled;
};

static int refuse(struct import *im, const char *what)
{
    return ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s: a network of improved contrastive divergence, but its "
                    "FLAGS ask for %s, which is not known", im->file->path, what);
}

static int look(struct import *im, const struct state_dict *d, int size, struct found *n)
{
    const char *first = size == 28 ? "res1" : "res_1a";
    char name[64];

    *n = (struct found){ .size = size };
    if (size != 28 && state_find(im, d, "res_1a.conv_downsample.weight"))
        n->size = 128;
    n->published = n->size != 28 && state_find(im, d, "map_fc4.weight");
    n->mid = state_find(im, d, "mid_energy_map.weight");
    n->attention = state_find(im, d, "self_attn.gamma") && flag_is(im, "FLAGS/self_attn", true);
    snprintf(name, sizeof name, "%s.bn1.weight", first);
    n->norm = state_find(im, d, name);
    snprintf(name, sizeof name, "%s.conv1.weight_orig", first);
    n->spectral = state_find(im, d, name);
    n->width = state_size(im, d, "conv1.weight", 0) * (n->size == 128 ? 2 : 1);
    n->channels = state_size(im, d, "conv1.weight", 1);
    n->label_width = n->published ? state_size(im, d, "map_fc1.weight", 0) : 0;
    snprintf(name, sizeof name, "%s.latent_map.weight", first);
    n->labels = state_size(im, d, n->published ? "map_fc1.weight" : name, 1);
    n->side = flag_is_text(im, "FLAGS/dataset", "stl") ? 48 : n->size;
    if (flag_is(im, "FLAGS/square_energy", false))
        return refuse(im, "squared energies");
    if (flag_is(im, "FLAGS/sigmoid", false))
        return refuse(im, "a sigmoid of the energy");
    if (flag_is(im, "FLAGS/alias", false))
        return refuse(im, "anti-aliased pooling");
    return EBM_OK;
}

static int look_for_labels(struct import *im, struct found *n)
{
    bool said = foreign_value(im->file, "FLAGS/cond");

    n->labelled = said ? (flag_is(im, "FLAGS/cond", false) ? TOLD : TOLD_NOTHING)
                : n->published ? TOLD : NOT_SAID;
    if (n->size == 28 && n->labelled == TOLD)
        return refuse(im, "labels, for which the sizes of its maps do not agree");
    if (n->size == 28 || n->labels == 0)
        n->labelled = TOLD_NOTHING;
    if (n->labelled == TOLD_NOTHING)
        n->labels = n->label_width = 0;
    return EBM_OK;
}

static const struct sampling *sampling_of(const struct found *n)
{
    if (n->size != 128)
        return &sampling_32;
    return n->labelled != TOLD ? &sampling_128 : n->labels > 2 ? &sampling_imagenet : &sampling_attribute;
}

static void set_truth(struct text *t, const char *key, bool b)
{
    text_printf(t, "%s = %s\n", key, b ? "true" : "false");
}

/* One number, or more after it: "0.08, 1". */
static void set_number(struct text *t, const char *key, double number, const char *more)
{
    char written[NUMBER_TEXT];

    number_write(number, written);
    text_printf(t, "%s = %s%s\n", key, written, more);
}

static void write_network(struct import *im, const struct found *n)
{
    struct text *t = &im->settings;

    snprintf(im->network, sizeof im->network, "improved contrastive divergence, %s%d: width %lld, %lld "
             "labels%s%s%s%s%s", n->published ? "published " : "", n->size, (long long)n->width,
             (long long)n->labels, n->mid || n->size == 28 ? "" : ", one scale",
             n->attention || n->size == 28 ? "" : ", no attention", n->norm ? "" : ", no norm",
             n->spectral ? ", spectral norm" : "",
             n->labelled == NOT_SAID ? " (not told any: sample.label = -2)" : "");
    text_printf(t, "icd.net = %d\nicd.width = %lld\nicd.labels = %lld\nicd.label_width = %lld\n",
                n->size, (long long)n->width, (long long)n->labels, (long long)n->label_width);
    set_truth(t, "icd.scales", n->mid || n->size == 28);
    set_truth(t, "icd.attention", n->attention || n->size == 28);
    set_truth(t, "icd.norm", n->norm);
    set_truth(t, "icd.spectral_norm", n->spectral);
    set_truth(t, "icd.published", n->published);
}

static void write_sampling(struct text *t, const struct found *n, const struct sampling *s, double step)
{
    set_number(t, "langevin.step", step, "");
    set_number(t, "sample.step", step, "");
    set_number(t, "sample.noise", 0.001, "");
    text_printf(t, "sample.rounds = %d\nsample.round_steps = %d\nsample.steps = %d\n", s->rounds,
                s->round_steps, s->steps);
    set_number(t, "sample.area", s->area, ", 1");
    set_number(t, "sample.colour", n->channels == 1 ? 0 : s->colour, "");
    text_printf(t, "sample.blur = %d\n", s->blur);
    if (n->channels == 1)
        text_put(t, "augment.colour = 0\naugment.grey = 0\n");
    if (n->labelled == NOT_SAID)
        text_put(t, "sample.label = -2\n");
}

static void write_settings(struct import *im, const struct found *n)
{
    const struct sampling *s = sampling_of(n);

    text_printf(&im->settings, "method = icd\ndata.low = 0\ndata.high = 1\ndata.dequantise = true\n"
                "data.height = %d\ndata.width = %d\ndata.channels = %lld\n",
                n->side, n->side, (long long)n->channels);
    write_network(im, n);
    write_sampling(&im->settings, n, s, flag_number(im, "FLAGS/step_lr", s->step));
}

static int describe(struct import *im, const struct state_dict *dicts, int count, int size)
{
    struct import_net *net = &im->nets[im->n_nets++];
    struct found n;
    int status;

    net->region = "energy";
    if ((status = choose_weights(im, dicts, count, net)) < 0
        || (status = look(im, &net->weights, size, &n)) < 0
        || (status = look_for_labels(im, &n)) < 0)
        return status;
    net->unused = unused;
    if (n.published && n.size == 32) {
        /* Its large scale ends with a sum over space in place of a mean. */
        net->scaled = "energy_map.weight";
        net->scale = (float)((n.side / 16) * (n.side / 16));
    }
    write_settings(im, &n);
    return EBM_OK;
}

static int describe_28(struct import *im, const struct state_dict *dicts, int count)
{
    return describe(im, dicts, count, 28);
}

static int describe_larger(struct import *im, const struct state_dict *dicts, int count)
{
    return describe(im, dicts, count, 32);
}

const struct family family_icd_28 = { "improved contrastive divergence, 28x28", marks_28, describe_28 };
const struct family family_icd = { "improved contrastive divergence", marks, describe_larger };
