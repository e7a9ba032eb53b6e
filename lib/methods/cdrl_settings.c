/* cdrl_settings.c - see cdrl_settings.h.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "cdrl_settings.h"

static const struct recipe_key keys[] = {
    { "cdrl.start", KEY_TEXT, "proposal", 0, 0,
      "chains start from what a second network proposes, or from the noisier image", "proposal|above" },
    { "cdrl.schedule", KEY_TEXT, "tan-cosine", 0, 0,
      "noise levels: of Zhu et al. 2024, or the six of Gao et al. 2021", "tan-cosine|linear" },
    { "cdrl.levels", KEY_INTEGER, "6", 1, CDRL_LEVELS, "energies, from the nearly clean images up", NULL },
    { "cdrl.log_snr", KEY_NUMBERS, "9.8, -5.1", -30, 30,
      "of tan-cosine: log signal-to-noise ratio of the first state and of the last", NULL },
    { "cdrl.pair", KEY_TEXT, "shared", 0, 0,
      "two states of an image have the same noise, or each step its own", "shared|independent" },
    { "cdrl.step", KEY_NUMBER, "4e-4", 1e-12, 1e3, "square of a Langevin step, by level noise and sigma^2", NULL },
    { "cdrl.step_grows", KEY_BOOL, "true", 0, 0, "with the noise of the level, from 1 at the first; "
      "else divided by the noise of the first everywhere", NULL },
    { "cdrl.net", KEY_TEXT, "cdrl", 0, 0, "the energy network of Zhu et al. 2024 or of Gao et al. 2021", "cdrl|drl" },
    { "cdrl.width", KEY_INTEGER, "128", 4, 4096, "its channels where the multiplier is 1", NULL },
    { "cdrl.blocks", KEY_INTEGER, "8", 1, CDRL_BLOCKS, "of each stage", NULL },
    { "cdrl.multipliers", KEY_NUMBERS, "1, 2, 2, 2", 1, 64, "of the channels, a stage each; "
      "between stages an image is halved", NULL },
    { "cdrl.swish", KEY_BOOL, "false", 0, 0, "in place of leaky ReLU", NULL },
    { "cdrl.quadratic", KEY_BOOL, "false", 0, 0, "half the square of the image added to the energy", NULL },
    { "cdrl.labels", KEY_INTEGER, "0", 0, 100000, "classes that both networks are told; 0: none", NULL },
    { "cdrl.label_drop", KEY_NUMBER, "0.1", 0, 1, "part of the images without their label", NULL },
    { "cdrl.rate_from", KEY_NUMBER, "0", 0, 1e12,
      "optimiser.warmup begins as if so many steps had been made; 0: the first has rate 0", NULL },
    { "langevin.steps", KEY_INTEGER, "15", 1, 1e6, "of a chain in one update", NULL },
};
const struct key_table cdrl_table = { keys, COUNT(keys) };

static const struct recipe_key proposal_keys[] = {
    { "proposal.width", KEY_INTEGER, "64", 4, 4096, "channels of the second network, a U-Net", NULL },
    { "proposal.stages", KEY_INTEGER, "3", 1, CDRL_STAGES, "its resolutions", NULL },
    { "proposal.blocks", KEY_INTEGER, "3", 1, CDRL_BLOCKS, "of each stage going down; one more going up", NULL },
    { "proposal.attention", KEY_NUMBERS, "2, 3", 0, CDRL_STAGES, "stages with attention, the first is 1; 0: none", NULL },
    { "proposal.groups", KEY_INTEGER, "32", 1, 4096, "of its normalisations", NULL },
    { "proposal.dropout", KEY_NUMBER, "0.1", 0, 0.99, "part of its inner values dropped in training", NULL },
    { "proposal.rate", KEY_NUMBER, "1e-5", 0, 100, "its learning rate; otherwise as optimiser.*", NULL },
    { "proposal.warmup", KEY_NUMBER, "10000", 0, 1e12, "steps in which the rate rises", NULL },
    { "proposal.rate_from", KEY_NUMBER, "500", 0, 1e12, "as if so many steps had been made", NULL },
    { "proposal.clip", KEY_NUMBER, "1", 0, 1e30, "largest norm of its gradient; 0: any", NULL },
};
const struct key_table cdrl_proposal_table = { proposal_keys, COUNT(proposal_keys) };

static const struct recipe_key sample_keys[] = {
    { "sample.steps", KEY_INTEGER, "0", 0, 1e6, "of a chain at each level; 0: langevin.steps", NULL },
    { "sample.step", KEY_NUMBER, "0", 0, 1e3,
      "factor of s; 0: sqrt(langevin.steps / sample.steps)", NULL },
    { "sample.noise", KEY_NUMBER, "1", 0, 1e3, "factor of the noise of a step", NULL },
    { "sample.denoise", KEY_NUMBER, "2", 0, 1e3,
      "factor of the last correction; 1 as theory has it, 0: none", NULL },
    { "sample.label", KEY_NUMBERS, "-1", -2, 100000,
      "class that is drawn, or several that must hold at once; -1: any, by chance; -2: none", NULL },
    { "sample.guidance", KEY_NUMBER, "0", -1, 1e3, "weight of guidance towards it", NULL },
    { "sample.level", KEY_INTEGER, "0", 0, CDRL_LEVELS - 1, "level whose energies are evaluated", NULL },
    { "sample.batch", KEY_INTEGER, "64", 1, 65536,
      "images drawn at once; another number gives other images", NULL },
};
const struct key_table cdrl_sample_table = { sample_keys, COUNT(sample_keys) };

/* ---- the schedule ---- */

bool cdrl_cooperative(struct recipe *recipe)
{
    return strcmp(recipe_text(recipe, "cdrl.start"), "proposal") == 0;
}

static bool linear(struct recipe *recipe)
{
    return strcmp(recipe_text(recipe, "cdrl.schedule"), "linear") == 0;
}

static bool is_drl(struct recipe *recipe)
{
    return strcmp(recipe_text(recipe, "cdrl.net"), "drl") == 0;
}

bool cdrl_frozen_norm(struct recipe *recipe)
{
    return !is_drl(recipe);
}

static int check_images(const struct method_site *site)
{
    struct recipe *recipe = site->recipe;
    const double *list;
    int stages = recipe_numbers(recipe, "cdrl.multipliers", &list);
    bool points = site->image[0] == 1 && site->image[2] == 1;
    int64_t halved = (int64_t)1 << (recipe_integer(recipe, "proposal.stages") - 1);

    if (stages < 1 || stages > CDRL_STAGES)
        return ebm_fail(site->ctx, EBM_ERR_ARG, "cdrl.multipliers are 1 to %d numbers, not %d", CDRL_STAGES, stages);
    if (points || !cdrl_cooperative(recipe))
        return EBM_OK;
    if (site->image[0] % halved || site->image[1] % halved)
        return ebm_fail(site->ctx, EBM_ERR_ARG, "images of %lld x %lld cannot be halved as often as "
                        "proposal.stages = %lld wants: set data.height and data.width to multiples of %lld",
                        (long long)site->image[0], (long long)site->image[1],
                        (long long)recipe_integer(recipe, "proposal.stages"), (long long)halved);
    return EBM_OK;
}

int cdrl_schedule_of(const struct method_site *site, struct cdrl_schedule *schedule)
{
    struct recipe *recipe = site->recipe;
    int levels = (int)recipe_integer(recipe, "cdrl.levels");
    const double *snr;

    if (recipe_numbers(recipe, "cdrl.log_snr", &snr) != 2 || !(snr[0] > snr[1]))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "cdrl.log_snr are two numbers, the larger first, as in 9.8, -5.1");
    if (linear(recipe))
        cdrl_linear(schedule);
    else
        cdrl_tan_cosine(schedule, levels, snr[0], snr[1]);
    if (levels != schedule->levels)
        return ebm_fail(site->ctx, EBM_ERR_ARG, "cdrl.schedule = linear has %d levels, not cdrl.levels = %d",
                        schedule->levels, levels);
    cdrl_set_steps(schedule, recipe_number(recipe, "cdrl.step"), recipe_bool(recipe, "cdrl.step_grows"));
    return check_images(site);
}

/* ---- networks ---- */

static unsigned stages_of(struct recipe *recipe, const char *key)
{
    const double *list;
    int n = recipe_numbers(recipe, key, &list);
    unsigned mask = 0;

    for (int i = 0; i < n; i++)
        if (list[i] >= 1)
            mask |= 1u << ((int)list[i] - 1);
    return mask;
}

struct cdrl_nets cdrl_nets_of(const struct method_site *site, ebm_graph *g)
{
    struct recipe *recipe = site->recipe;
    const double *multipliers;
    int stages = recipe_numbers(recipe, "cdrl.multipliers", &multipliers);
    int64_t labels = recipe_integer(recipe, "cdrl.labels");
    struct cdrl_nets nets = {
        .energy = { .graph = g, .region = "energy" },
        .proposal = { .graph = g, .region = "proposal", .purpose = DRAW_DROPOUT },
        .energy_spec = {
            .width = recipe_integer(recipe, "cdrl.width"),
            .blocks = (int)recipe_integer(recipe, "cdrl.blocks"),
            .labels = labels,
            .swish = recipe_bool(recipe, "cdrl.swish"),
            .quadratic = recipe_bool(recipe, "cdrl.quadratic"),
            .drl = is_drl(recipe),
        },
        .proposal_spec = {
            .width = recipe_integer(recipe, "proposal.width"),
            .stages = (int)recipe_integer(recipe, "proposal.stages"),
            .blocks = (int)recipe_integer(recipe, "proposal.blocks"),
            .attention = stages_of(recipe, "proposal.attention"),
            .groups = (int)recipe_integer(recipe, "proposal.groups"),
            .labels = labels,
            .dropout = recipe_number(recipe, "proposal.dropout"),
        },
        .points = site->image[0] == 1 && site->image[2] == 1,
    };

    for (int i = 0; i < stages && i < CDRL_STAGES; i++)
        nets.energy_spec.multipliers[i] = (int)multipliers[i];
    return nets;
}

/* What one of the networks makes of x, its label and its level. */
typedef ebm_val apply_fn(struct cdrl_nets *nets, ebm_val x, ebm_val level, ebm_val labels);

static ebm_val apply_energy(struct cdrl_nets *nets, ebm_val x, ebm_val level, ebm_val labels)
{
    return cdrl_log_density(&nets->energy, &nets->energy_spec, x, level, labels);
}

static ebm_val apply_proposal(struct cdrl_nets *nets, ebm_val x, ebm_val level, ebm_val labels)
{
    return cdrl_proposal(&nets->proposal, &nets->proposal_spec, x, level, labels);
}

/* [n], whether a has n elements or one. */
static ebm_val for_each(ebm_graph *g, ebm_val a, int64_t n)
{
    return ebm_broadcast(g, a, 1, &n);
}

/* The weighted sum over terms, in one pass of the network: the larger the batch,
 * the better the device is used. */
static ebm_val sum_terms(struct cdrl_nets *nets, apply_fn *apply, ebm_graph *g, ebm_val x, ebm_val level)
{
    ebm_val xs[CDRL_TERMS], levels[CDRL_TERMS], labels[CDRL_TERMS], sum = 0;
    int64_t n[EBM_MAX_RANK], begin[EBM_MAX_RANK] = { 0 };
    int count = nets->n_terms;

    if (count == 0)
        return apply(nets, x, level, 0);
    if (count == 1 && nets->terms[0].weight == 1)
        return apply(nets, x, level, nets->terms[0].labels);
    if (ebm_shape(g, x, n) < 1)
        return 0;
    for (int i = 0; i < count; i++) {
        xs[i] = x;
        levels[i] = for_each(g, level, n[0]);
        labels[i] = for_each(g, nets->terms[i].labels, n[0]);
    }
    ebm_val all = apply(nets, ebm_concat(g, 0, count, xs), ebm_concat(g, 0, count, levels),
                        ebm_concat(g, 0, count, labels));
    int64_t rows = n[0];
    if (ebm_shape(g, all, n) < 1)
        return 0;
    n[0] = rows;
    for (int i = 0; i < count; i++, begin[0] += rows) {
        ebm_val part = ebm_scale(g, ebm_slice(g, all, begin, n, NULL), nets->terms[i].weight);
        sum = i ? ebm_add(g, sum, part) : part;
    }
    return sum;
}

/* Images of one row and one channel as points [n,d]. */
static ebm_val as_points(const struct cdrl_nets *nets, ebm_graph *g, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];

    if (!nets->points || ebm_shape(g, x, n) != 4)
        return x;
    return ebm_reshape(g, x, 2, (int64_t[]){ n[0], n[2] });
}

ebm_val cdrl_density(ebm_graph *g, ebm_val y, const struct cdrl_place *place, void *user)
{
    struct cdrl_nets *nets = user;
    ebm_val level = place->of[nets->energy_spec.drl ? LEVEL_NUMBER : LEVEL_LOG_SNR];

    return sum_terms(nets, apply_energy, g, as_points(nets, g, y), level);
}

ebm_val cdrl_mean(ebm_graph *g, ebm_val x, const struct cdrl_place *place, void *user)
{
    struct cdrl_nets *nets = user;
    int64_t n[EBM_MAX_RANK];
    ebm_val mean = sum_terms(nets, apply_proposal, g, as_points(nets, g, x), place->of[LEVEL_LOG_SNR_ABOVE]);
    int rank = ebm_shape(g, x, n);

    return rank < 1 ? 0 : ebm_reshape(g, mean, rank, n);
}
