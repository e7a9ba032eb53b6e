/* settings.c - see settings.h.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "graph.h"
#include "settings.h"

#define TABLE(keys) { keys, COUNT(keys) }

/* ---- energy.* ---- */

static const struct recipe_key energy_keys[] = {
    { "energy.net", KEY_TEXT,
      "conv:16,k5,s2 silu conv:32,s2 silu conv:64,s2 silu conv:64,s2 silu flatten linear:64 silu linear:1",
      0, 0, "the network, layer by layer: see ebm_sequential in ebm.h", NULL },
    { "energy.spectral_norm", KEY_BOOL, "false", 0, 0,
      "divide each weight by its largest singular value (Miyato et al. 2018)", NULL },
    { "energy.init", KEY_TEXT, "pytorch", 0, 0, "first weights", "pytorch|xavier|he|normal" },
    { "energy.gain", KEY_NUMBER, "1", 0, 100, "factor of the first weights", NULL },
};
const struct key_table energy_table = TABLE(energy_keys);

static enum ebm_scheme scheme_of(const char *name)
{
    static const struct { const char *name; enum ebm_scheme scheme; } schemes[] = {
        { "pytorch", EBM_SCHEME_PYTORCH }, { "xavier", EBM_SCHEME_XAVIER },
        { "he", EBM_SCHEME_HE }, { "normal", EBM_SCHEME_NORMAL },
    };

    for (size_t i = 0; i < COUNT(schemes); i++)
        if (strcmp(schemes[i].name, name) == 0)
            return schemes[i].scheme;
    return EBM_SCHEME_NET;
}

struct energy energy_of(struct recipe *recipe, ebm_graph *g, bool training, ebm_outputs *outputs)
{
    double gain = recipe_number(recipe, "energy.gain");

    return (struct energy){
        .text = recipe_text(recipe, "energy.net"),
        .net = {
            .graph = g, .region = "energy", .training = training, .effects = outputs,
            .spectral_norm = recipe_bool(recipe, "energy.spectral_norm"),
            .init = scheme_of(recipe_text(recipe, "energy.init")),
            .gain = gain > 0 ? (float)gain : 1,
        },
    };
}

ebm_val energy_at(ebm_graph *g, ebm_val x, void *user)
{
    struct energy *energy = user;

    (void)g;
    return ebm_energy_net(&energy->net, energy->text, x);
}

/* ---- optimiser.*, ema.* ---- */

static const struct recipe_key optimiser_keys[] = {
    { "optimiser.kind", KEY_TEXT, "adam", 0, 0, "what moves the weights", "adam|sgd" },
    { "optimiser.rate", KEY_NUMBER, "0.001", 0, 100, "learning rate", NULL },
    { "optimiser.betas", KEY_NUMBERS, "0.9, 0.999", 0, 0.9999999,
      "Adam's two memories (Kingma and Ba 2015)", NULL },
    { "optimiser.epsilon", KEY_NUMBER, "1e-8", 0, 1, "Adam's epsilon", NULL },
    { "optimiser.epsilon_hat", KEY_BOOL, "false", 0, 0, "Adam as Keras has it: epsilon is not corrected for the start", NULL },
    { "optimiser.momentum", KEY_NUMBER, "0", 0, 0.9999999, "of sgd", NULL },
    { "optimiser.weight_decay", KEY_NUMBER, "0", 0, 1, "decoupled from the gradient, as AdamW", NULL },
    { "optimiser.clip", KEY_NUMBER, "0", 0, 1e30, "largest norm of the gradient; 0: any", NULL },
    { "optimiser.warmup", KEY_NUMBER, "0", 0, 1e12, "steps in which the rate rises from 0", NULL },
    { "optimiser.decay", KEY_TEXT, "constant", 0, 0, "how the rate falls", "constant|linear|cosine" },
    { "optimiser.decay_from", KEY_NUMBER, "0", 0, 1, "part of the run where it begins to fall", NULL },
    { "optimiser.decay_to", KEY_NUMBER, "0", 0, 1, "part of the rate that is left at the end", NULL },
    { "ema.decay", KEY_NUMBER, "0.999", 0, 0.9999999, "of the weights' moving average; 0: none", NULL },
    { "ema.warmup", KEY_BOOL, "true", 0, 0, "a shorter memory at first: (1 + n) / (10 + n)", NULL },
};
const struct key_table optimiser_table = TABLE(optimiser_keys);

int optimiser_of(ebm_context *ctx, struct recipe *recipe, ebm_optimiser *o)
{
    double rate = recipe_number(recipe, "optimiser.rate");
    double steps = (double)recipe_integer(recipe, "steps");
    const char *decay = recipe_text(recipe, "optimiser.decay");
    const double *betas;

    if (recipe_numbers(recipe, "optimiser.betas", &betas) != 2)
        return ebm_fail(ctx, EBM_ERR_ARG, "optimiser.betas are two numbers, as in 0.9, 0.999");
    *o = strcmp(recipe_text(recipe, "optimiser.kind"), "adam") == 0
       ? ebm_adam_defaults(rate)
       : ebm_sgd_defaults(rate, recipe_number(recipe, "optimiser.momentum"));
    o->beta1 = betas[0];
    o->beta2 = betas[1];
    o->epsilon = recipe_number(recipe, "optimiser.epsilon");
    o->epsilon_hat = recipe_bool(recipe, "optimiser.epsilon_hat");
    o->weight_decay = recipe_number(recipe, "optimiser.weight_decay");
    o->decoupled = true;
    o->clip_norm = recipe_number(recipe, "optimiser.clip");
    o->ema = recipe_number(recipe, "ema.decay");
    o->ema_warmup = recipe_bool(recipe, "ema.warmup");
    o->lr.warmup = recipe_number(recipe, "optimiser.warmup");
    o->lr.warmup_offset = 1;
    o->lr.kind = strcmp(decay, "linear") == 0 ? EBM_LINEAR
               : strcmp(decay, "cosine") == 0 ? EBM_COSINE : EBM_CONSTANT;
    o->lr.begin = steps * recipe_number(recipe, "optimiser.decay_from");
    o->lr.end = steps;
    o->lr.end_factor = recipe_number(recipe, "optimiser.decay_to");
    if (o->lr.kind != EBM_CONSTANT && !(o->lr.begin < o->lr.end))
        return ebm_fail(ctx, EBM_ERR_ARG, "optimiser.decay_from = 1 leaves no step for the decay");
    return EBM_OK;
}

/* ---- langevin.* ---- */

static const struct recipe_key langevin_keys[] = {
    { "langevin.steps", KEY_INTEGER, "40", 1, 1e6, "of a chain in one update", NULL },
    { "langevin.step", KEY_NUMBER, "10", 0, 1e9, "factor of the gradient", NULL },
    { "langevin.noise", KEY_NUMBER, "0.005", 0, 1e3, "deviation of the noise of a step", NULL },
    { "langevin.order", KEY_TEXT, "noise-first", 0, 0,
      "noise before the gradient is taken, or with it", "noise-first|noise-last" },
    { "langevin.clip", KEY_TEXT, "none", 0, 0,
      "limit the gradient: each element, or each image's norm", "none|element|norm" },
    { "langevin.limit", KEY_NUMBER, "0.03", 0, 1e9, "to so much", NULL },
    { "langevin.clamp", KEY_BOOL, "true", 0, 0, "pixels stay within data.low and data.high", NULL },
};
const struct key_table langevin_table = TABLE(langevin_keys);

ebm_langevin_options langevin_of(struct recipe *recipe)
{
    const char *clip = recipe_text(recipe, "langevin.clip");

    return (ebm_langevin_options){
        .order = strcmp(recipe_text(recipe, "langevin.order"), "noise-last") == 0
               ? EBM_NOISE_LAST : EBM_NOISE_FIRST,
        .clip = strcmp(clip, "element") == 0 ? EBM_CLIP_ELEMENT
              : strcmp(clip, "norm") == 0 ? EBM_CLIP_NORM : EBM_CLIP_NONE,
        .limit = recipe_number(recipe, "langevin.limit"),
        .clamp = recipe_bool(recipe, "langevin.clamp"),
        .low = recipe_number(recipe, "data.low"),
        .high = recipe_number(recipe, "data.high"),
        .purpose = DRAW_LANGEVIN,
    };
}

/* ---- start.* ---- */

static const struct recipe_key start_keys[] = {
    { "start.kind", KEY_TEXT, "uniform", 0, 0,
      "first pixels of a new chain: uniform over the range of the data, or normal", "uniform|normal" },
    { "start.mean", KEY_NUMBER, "0", -1e3, 1e3, "of normal ones", NULL },
    { "start.deviation", KEY_NUMBER, "1", 0, 1e3, "of normal ones, which are clamped like a step", NULL },
};
const struct key_table start_table = TABLE(start_keys);

ebm_val start_of(struct recipe *recipe, ebm_graph *g, ebm_val counter, uint32_t purpose,
                 int rank, const int64_t *shape)
{
    double low = recipe_number(recipe, "data.low"), high = recipe_number(recipe, "data.high");

    if (strcmp(recipe_text(recipe, "start.kind"), "uniform") == 0) {
        ebm_val u = ebm_uniform(g, counter, purpose, rank, shape);
        return ebm_offset(g, ebm_scale(g, u, high - low), low);
    }
    ebm_val z = ebm_normal(g, counter, purpose, rank, shape);
    ebm_val x = ebm_offset(g, ebm_scale(g, z, recipe_number(recipe, "start.deviation")),
                           recipe_number(recipe, "start.mean"));
    return recipe_bool(recipe, "langevin.clamp") ? ebm_clamp(g, x, low, high) : x;
}

/* ---- sample.* ---- */

static const struct recipe_key sample_keys[] = {
    { "sample.steps", KEY_NUMBERS, "256", 0, 1e6,
      "steps of a chain from its start, of each phase: 900, 100", NULL },
    { "sample.step", KEY_NUMBERS, "10", 0, 1e9, "factor of the gradient, in each phase or one for all", NULL },
    { "sample.noise", KEY_NUMBERS, "0.005", 0, 1e3, "noise of a step, in each phase or one for all", NULL },
    { "sample.batch", KEY_INTEGER, "64", 1, 65536,
      "images drawn at once; another number gives other images", NULL },
};
const struct key_table sample_table = TABLE(sample_keys);

int phases_of(ebm_context *ctx, struct recipe *recipe, struct phases *phases)
{
    const double *steps, *step, *noise;
    int n = recipe_numbers(recipe, "sample.steps", &steps);
    int n_step = recipe_numbers(recipe, "sample.step", &step);
    int n_noise = recipe_numbers(recipe, "sample.noise", &noise);

    if (n < 1 || n > PHASES_MAX)
        return ebm_fail(ctx, EBM_ERR_ARG, "sample.steps names %d phases; 1 to %d are possible",
                        n, PHASES_MAX);
    if ((n_step != 1 && n_step != n) || (n_noise != 1 && n_noise != n))
        return ebm_fail(ctx, EBM_ERR_ARG, "sample.steps names %d phases, sample.step %d and "
                        "sample.noise %d: give one number for all, or one for each",
                        n, n_step, n_noise);
    phases->count = n;
    for (int i = 0; i < n; i++)
        phases->list[i] = (struct phase){ (int64_t)steps[i], (float)step[n_step == 1 ? 0 : i],
                                          (float)noise[n_noise == 1 ? 0 : i] };
    return EBM_OK;
}

/* ---- random counters ---- */

ebm_val counter_state(ebm_graph *g, const char *name)
{
    return ebm_state(g, name, EBM_I32, 1, (const int64_t[]){ 4 }, (ebm_init){ EBM_INIT_CONST, 0, 0 });
}

int counter_write(ebm_store *store, const char *name, uint64_t seed, uint32_t step, uint32_t stream)
{
    uint32_t counter[4] = { (uint32_t)seed, (uint32_t)(seed >> 32), step, stream };

    return ebm_store_write(store, name, counter, sizeof counter);
}
