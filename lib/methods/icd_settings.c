/* icd_settings.c - see icd_settings.h.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "icd_settings.h"

static const struct recipe_key keys[] = {
    { "icd.net", KEY_TEXT, "32", 0, 0, "the network made for images of this size; larger ones will do; "
      "or any: that of energy.net, which is told no labels", "28|32|128|any" },
    { "icd.width", KEY_INTEGER, "64", 4, 4096, "channels of its first blocks", NULL },
    { "icd.labels", KEY_INTEGER, "0", 0, 100000, "classes that it is told; 0: none", NULL },
    { "icd.label_width", KEY_INTEGER, "0", 0, 65536,
      "of four layers between labels and blocks; 0: none", NULL },
    { "icd.scales", KEY_BOOL, "true", 0, 0, "energies of the halved and quartered image too", NULL },
    { "icd.attention", KEY_BOOL, "true", 0, 0, "self-attention in the large scale", NULL },
    { "icd.norm", KEY_BOOL, "true", 0, 0, "instance and group normalisation", NULL },
    { "icd.spectral_norm", KEY_BOOL, "false", 0, 0, "in place of standardised weights", NULL },
    { "icd.published", KEY_BOOL, "false", 0, 0,
      "scales made and joined as the authors' published weights want it", NULL },
    { "icd.penalty", KEY_NUMBER, "1", 0, 1e6, "weight of the squared energies", NULL },
    { "icd.kl", KEY_NUMBER, "1", 0, 1e6, "weight of the samples' energy, by way of the last step; "
      "0: none", NULL },
    { "icd.entropy", KEY_NUMBER, "0.3", 0, 1e6,
      "weight of the log distance to past samples; 0: none", NULL },
    { "icd.kl_images", KEY_INTEGER, "0", 0, 65536, "samples that these two count; 0: all", NULL },
    { "icd.past", KEY_INTEGER, "100", 1, 65536, "past samples in which the nearest is sought", NULL },
    { "icd.past_after", KEY_INTEGER, "1000", 0, 1 << 24,
      "and only when the buffer has more than so many", NULL },
    { "langevin.steps", KEY_INTEGER, "40", 1, 1e6, "of a chain in one update", NULL },
    { "langevin.step", KEY_NUMBER, "100", 0, 1e9, "factor of the gradient", NULL },
    { "langevin.noise", KEY_NUMBER, "0.001", 0, 1e3, "deviation of the noise of a step", NULL },
    { "buffer.size", KEY_INTEGER, "10000", 1, 1 << 23, "ends of chains kept as starts", NULL },
    { "buffer.fresh", KEY_NUMBER, "0.001", 0, 1, "part of the chains that start anew", NULL },
    { "buffer.keep", KEY_TEXT, "ring", 0, 0,
      "the newest ends, or each with the same probability (the authors' default)", "ring|reservoir" },
    { "augment.area", KEY_NUMBERS, "0.08, 1", 0, 1,
      "part of an image that chains go on from; 1, 1: all", NULL },
    { "augment.flip", KEY_BOOL, "true", 0, 0, "mirror every other one, by chance", NULL },
    { "augment.colour", KEY_NUMBER, "1", 0, 1, "strength of changes of colour; 0: none", NULL },
    { "augment.grey", KEY_NUMBER, "0.2", 0, 1, "part that loses its colours", NULL },
    { "augment.blur", KEY_INTEGER, "0", 0, 63, "pixels of a filter for every other one; 0: none", NULL },
};
const struct key_table icd_table = { keys, COUNT(keys) };

static const struct recipe_key sample_keys[] = {
    { "sample.rounds", KEY_INTEGER, "10", 0, 1e6, "before the phases of sample.steps: steps, then an "
      "augmentation as in training", NULL },
    { "sample.round_steps", KEY_INTEGER, "20", 1, 1e6, "steps of a round, as those of the first phase", NULL },
    { "sample.area", KEY_NUMBERS, "0.08, 1", 0, 1, "as augment.area, between rounds", NULL },
    { "sample.flip", KEY_BOOL, "true", 0, 0, "mirror between rounds, where augment.flip does", NULL },
    { "sample.colour", KEY_NUMBER, "1", 0, 1, "as augment.colour", NULL },
    { "sample.grey", KEY_NUMBER, "-1", -1, 1, "as augment.grey; below 0: the same", NULL },
    { "sample.blur", KEY_INTEGER, "0", 0, 63, "as augment.blur", NULL },
    { "sample.label", KEY_INTEGER, "-1", -2, 100000, "class that is drawn; -1: any, by chance; -2: none, "
      "as if it were told nothing", NULL },
};
const struct key_table icd_sample_table = { sample_keys, COUNT(sample_keys) };

/* ---- the network ---- */

static struct icd_spec spec_of(struct recipe *recipe)
{
    const char *size = recipe_text(recipe, "icd.net");

    return (struct icd_spec){
        .size = strcmp(size, "28") == 0 ? ICD_28 : strcmp(size, "128") == 0 ? ICD_128 : ICD_32,
        .width = recipe_integer(recipe, "icd.width"),
        .labels = recipe_integer(recipe, "icd.labels"),
        .label_width = recipe_integer(recipe, "icd.label_width"),
        .one_scale = !recipe_bool(recipe, "icd.scales"),
        .no_attention = !recipe_bool(recipe, "icd.attention"),
        .no_norm = !recipe_bool(recipe, "icd.norm"),
        .spectral_norm = recipe_bool(recipe, "icd.spectral_norm"),
        .published = recipe_bool(recipe, "icd.published"),
    };
}

static bool is_given(struct recipe *recipe)
{
    return strcmp(recipe_text(recipe, "icd.net"), "any") == 0;
}

struct icd_net icd_net_of(struct recipe *recipe, ebm_graph *g, bool training, ebm_outputs *effects)
{
    if (is_given(recipe)) {
        struct energy energy = energy_of(recipe, g, training, effects);
        return (struct icd_net){ .net = energy.net, .given = energy.text };
    }
    return (struct icd_net){
        .net = { .graph = g, .region = "energy", .training = training, .effects = effects },
        .spec = spec_of(recipe),
    };
}

/* Of one scale: [n,1]. */
static ebm_val given_energies(ebm_net *net, const void *text, ebm_val x, ebm_val labels)
{
    int64_t n[EBM_MAX_RANK];
    ebm_val e = ebm_energy_net(net, text, x);

    (void)labels;
    return ebm_shape(net->graph, e, n) < 1 ? 0 : ebm_reshape(net->graph, e, 2, (int64_t[]){ n[0], 1 });
}

struct icd_trained icd_net_trained(struct icd_net *net)
{
    return net->given ? (struct icd_trained){ &net->net, given_energies, net->given }
                      : icd_trained_of(&net->net, &net->spec);
}

ebm_val icd_energy_at(ebm_graph *g, ebm_val x, void *user)
{
    struct icd_net *net = user;
    struct icd_trained t = icd_net_trained(net);
    int64_t n[EBM_MAX_RANK];
    ebm_val e = t.energies(t.net, t.spec, x, net->labels);

    return ebm_shape(g, e, n) < 1 ? 0 : ebm_reshape(g, ebm_sum(g, e, 1u << 1), 1, n);
}

ebm_val icd_labels(ebm_graph *g, struct recipe *recipe, ebm_val labels)
{
    int64_t classes = recipe_integer(recipe, "icd.labels");

    return classes ? ebm_one_hot(g, labels, classes) : 0;
}

static ebm_val energy_of_region(struct recipe *recipe, ebm_graph *g, const char *region, ebm_val x,
                                ebm_val labels)
{
    struct icd_net net = icd_net_of(recipe, g, false, NULL);

    net.net.region = region;
    net.labels = labels ? icd_labels(g, recipe, labels) : 0;
    return icd_energy_at(g, x, &net);
}

static int64_t classes_of(struct recipe *recipe)
{
    return recipe_integer(recipe, "icd.labels");
}

const struct method_energy icd_energy = { energy_of_region, classes_of };

/* The gradient is that at the noised image, which is not clamped: ebm_langevin
 * would clamp it. */
ebm_val icd_langevin(ebm_graph *g, ebm_energy_fn *energy, void *user, ebm_val x, ebm_val step, ebm_val noise,
                     ebm_val counter, uint32_t purpose)
{
    const ebm_langevin_options free = { .order = EBM_NOISE_FIRST, .purpose = purpose };

    return ebm_clamp(g, ebm_langevin(g, energy, user, x, step, noise, counter, &free), 0, 1);
}

/* ---- augmentation ---- */

struct augment icd_augment_of(struct recipe *recipe, bool sampling)
{
    double grey = sampling ? recipe_number(recipe, "sample.grey") : -1;
    struct augment a = {
        .flip = recipe_bool(recipe, "augment.flip") && (!sampling || recipe_bool(recipe, "sample.flip")),
        .colour = recipe_number(recipe, sampling ? "sample.colour" : "augment.colour"),
        .grey = grey < 0 ? recipe_number(recipe, "augment.grey") : grey,
        .blur = (int)recipe_integer(recipe, sampling ? "sample.blur" : "augment.blur"),
    };
    const double *area;

    if (recipe_numbers(recipe, sampling ? "sample.area" : "augment.area", &area) == 2)
        memcpy(a.area, area, sizeof a.area);
    return a;
}

int icd_check(const struct method_site *site)
{
    struct recipe *recipe = site->recipe;
    const double *area;
    int status;

    if (recipe_numbers(recipe, "augment.area", &area) != 2 || recipe_numbers(recipe, "sample.area", &area) != 2)
        return ebm_fail(site->ctx, EBM_ERR_ARG, "augment.area and sample.area are two numbers, as in 0.08, 1");
    if (recipe_number(recipe, "data.low") != 0 || recipe_number(recipe, "data.high") != 1)
        return ebm_fail(site->ctx, EBM_ERR_ARG, "this method sees pixels in [0,1]: set data.low = 0 "
                        "and data.high = 1, not %g and %g", recipe_number(recipe, "data.low"),
                        recipe_number(recipe, "data.high"));
    if (is_given(recipe) && recipe_integer(recipe, "icd.labels"))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "icd.net = any is told no labels: set icd.labels = 0");
    if (recipe_integer(recipe, "sample.label") >= 0
        && recipe_integer(recipe, "sample.label") >= recipe_integer(recipe, "icd.labels"))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "sample.label = %lld is none of the %lld classes of "
                        "icd.labels", (long long)recipe_integer(recipe, "sample.label"),
                        (long long)recipe_integer(recipe, "icd.labels"));
    for (int sampling = 0; sampling < 2; sampling++) {
        struct augment a = icd_augment_of(recipe, sampling);
        if ((status = augment_check(site->ctx, &a, site->image)) < 0)
            return status;
    }
    return EBM_OK;
}

ebm_val icd_levels(ebm_graph *g, ebm_val x)
{
    return ebm_floor(g, ebm_scale(g, x, 255));
}

ebm_val icd_spread(ebm_graph *g, ebm_val levels, ebm_val counter, uint32_t purpose)
{
    int64_t n[EBM_MAX_RANK];
    int rank = ebm_shape(g, levels, n);

    return rank < 1 ? 0 : ebm_scale(g, ebm_add(g, levels, ebm_uniform(g, counter, purpose, rank, n)), 1. / 256);
}
