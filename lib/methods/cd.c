/* cd.c - maximum likelihood by contrastive divergence.
 *
 * SPDX-License-Identifier: ISC
 *
 * The gradient of the log-likelihood is a difference of two means,
 *   E_data[dE/dw] - E_model[dE/dw],
 * and the model's side is estimated by short Langevin chains, which start from a
 * buffer of earlier ends (persistent) or from noise (short-run).
 *
 * One update is a few programs on one store:
 *
 *   birth      newborn := noise                          } where buffer.burn_in
 *   raise      newborn := one step; run burn_in times    } is not 0
 *   start      chains := rows of the buffer, some replaced by noise or newborn
 *   langevin   chains := one step; run langevin.steps times
 *   update     loss -> gradient -> guard -> optimiser;  buffer rows := chains
 *
 * Only the numbers of the log come back to the host.
 *
 * Burning in: with few steps an update, chains fresh from noise are so far from
 * the data that the network need only tell noise from images.  Steps of their
 * own before they join the others keep the comparison hard.
 *
 *   loss = mean E(data) - mean E(chains)
 *        + cd.penalty (mean E(data)^2 + mean E(chains)^2)
 *
 * Sources: Hinton 2002 (contrastive divergence), Tieleman 2008 (persistent
 * chains), Nijkamp et al. 2019 (short runs), Du and Mordatch 2019 (buffer with
 * fresh noise, penalty). */
#include <float.h>
#include <math.h>
#include <string.h>
#include "context.h"
#include "energy_model.h"
#include "guard.h"
#include "programs.h"
#include "settings.h"
#include "walk.h"

static const struct recipe_key cd_keys[] = {
    { "cd.penalty", KEY_NUMBER, "0.1", 0, 1e6, "weight of the squared energies", NULL },
    { "cd.data_noise", KEY_NUMBER, "0.005", 0, 1e3, "deviation of noise added to the data", NULL },
    { "buffer.size", KEY_INTEGER, "4096", 0, 1 << 24, "ends of chains kept as starts; 0: none", NULL },
    { "buffer.fresh", KEY_NUMBER, "0.05", 0, 1, "part of the chains that start anew", NULL },
    { "buffer.burn_in", KEY_INTEGER, "0", 0, 1 << 20, "steps of new chains before they join the others; "
      "if not 0, buffer.fresh is rounded to whole chains", NULL },
};
static const struct key_table cd_table = { cd_keys, COUNT(cd_keys) };
static const struct key_table *const tables[] = {
    &energy_table, &optimiser_table, &cd_table, &start_table, &langevin_table, &sample_table, &walk_table, NULL
};

/* What update fetches, in one vector. */
enum { F_LOSS, F_DATA, F_SAMPLES, F_GRADIENT, F_RATE, F_ACCEPTED, F_USUAL, F_COUNT };

enum { BIRTH, RAISE, START, LANGEVIN, UPDATE, PROBE, PROGRAMS };
static const char *const labels[] = { "birth", "raise", "start", "langevin", "update", "probe" };

struct cd {
    struct method_site site;
    int64_t batch, buffer, newborn;      /* chains; newborn: burnt in each update */
    int steps, burn_in;
    size_t bytes;                /* of a batch of images */
    ebm_optimiser optimiser;
    ebm_graph *g;
    ebm_val fetched, noise_energy;
    struct program programs[PROGRAMS];
};

/* ---- graphs ---- */

struct leaves {
    ebm_val counter, tick, chains, newborn, buffer, index;
    int64_t shape[4];            /* of a batch */
    int64_t newborn_shape[4];
};

static struct leaves leaves_of(struct cd *cd)
{
    ebm_graph *g = cd->g;
    const int64_t *hwc = cd->site.image;
    struct leaves l = { .shape = { cd->batch, hwc[0], hwc[1], hwc[2] },
                        .newborn_shape = { cd->newborn, hwc[0], hwc[1], hwc[2] } };
    int64_t rows[4] = { cd->buffer, hwc[0], hwc[1], hwc[2] };
    ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    float low = (float)recipe_number(cd->site.recipe, "data.low");
    float high = (float)recipe_number(cd->site.recipe, "data.high");
    /* An upper bound of 0 would mean [-a,a). */
    ebm_init noise = { EBM_INIT_UNIFORM, low, high != 0 ? high : -FLT_MIN };

    l.counter = counter_state(g, METHOD_RNG);
    l.tick = ebm_assign(g, l.counter, ebm_tick(g, l.counter));
    l.chains = ebm_state(g, METHOD_CHAINS, EBM_F32, 4, l.shape, zero);
    if (cd->newborn > 0)
        l.newborn = ebm_state(g, "newborn", EBM_F32, 4, l.newborn_shape, zero);
    if (cd->buffer > 0) {
        l.buffer = ebm_state(g, "buffer", EBM_F32, 4, rows, noise);
        l.index = ebm_state(g, "buffer.index", EBM_I32, 1, &cd->batch, zero);
    }
    return l;
}

/* The buffer is cut in `batch` equal parts and each chain starts from a row drawn
 * from one of them, so that no two chains share a row and each row is as likely.
 * Which chain has which part is turned by chance: newborn chains come first, and
 * must reach every row. */
static ebm_val draw_rows(struct cd *cd, const struct leaves *l)
{
    ebm_graph *g = cd->g;
    ebm_val batch = ebm_const(g, (double)cd->batch);
    ebm_val u = ebm_uniform(g, l->counter, DRAW_INDEX, 1, &cd->batch);
    ebm_val turn = ebm_uniform(g, l->counter, DRAW_TURN, 1, (const int64_t[]){ 1 });
    ebm_val part = ebm_add(g, ebm_iota(g, 1, &cd->batch, 0), ebm_floor(g, ebm_mul(g, turn, batch)));

    part = ebm_select(g, ebm_less(g, part, batch), part, ebm_sub(g, part, batch));
    ebm_val row = ebm_scale(g, ebm_add(g, part, u), (double)cd->buffer / (double)cd->batch);
    row = ebm_min(g, ebm_floor(g, row), ebm_const(g, (double)(cd->buffer - 1)));
    return ebm_cast(g, row, EBM_I32);
}

/* Newborn chains, then old ones; or each chain anew by chance. */
static ebm_val mix_starts(struct cd *cd, const struct leaves *l, ebm_val old)
{
    ebm_graph *g = cd->g;

    if (cd->newborn > 0) {
        int64_t begin[4] = { cd->newborn }, size[4];
        memcpy(size, l->shape, sizeof size);
        size[0] -= cd->newborn;
        return size[0] == 0 ? l->newborn : ebm_concat(g, 0, 2, (ebm_val[]){
            l->newborn, ebm_slice(g, old, begin, size, NULL) });
    }
    ebm_val noise = start_of(cd->site.recipe, g, l->counter, DRAW_START, 4, l->shape);
    ebm_val u = ebm_uniform(g, l->counter, DRAW_FRESH, 4, (const int64_t[]){ cd->batch, 1, 1, 1 });
    ebm_val fresh = ebm_less(g, u, ebm_const(g, recipe_number(cd->site.recipe, "buffer.fresh")));
    return ebm_select(g, fresh, noise, old);
}

static void build_start(struct cd *cd, const struct leaves *l)
{
    ebm_graph *g = cd->g;
    ebm_outputs *out = &cd->programs[START].out;
    ebm_val x;

    if (cd->buffer > 0) {
        ebm_val index = draw_rows(cd, l);
        x = mix_starts(cd, l, ebm_gather(g, l->buffer, index));
        ebm_output(g, out, ebm_assign(g, l->index, index));
    } else {
        x = start_of(cd->site.recipe, g, l->counter, DRAW_START, 4, l->shape);
    }
    ebm_output(g, out, ebm_assign(g, l->chains, x));
    ebm_output(g, out, l->tick);
}

/* chains := one step of them. */
static void build_langevin(struct cd *cd, const struct leaves *l, ebm_val chains, ebm_outputs *out)
{
    ebm_graph *g = cd->g;
    struct recipe *recipe = cd->site.recipe;
    struct energy energy = energy_of(recipe, g, false, NULL);
    ebm_langevin_options options = langevin_of(recipe);
    ebm_val x = ebm_langevin(g, energy_at, &energy, chains,
                             ebm_const(g, recipe_number(recipe, "langevin.step")),
                             ebm_const(g, recipe_number(recipe, "langevin.noise")),
                             l->counter, &options);

    ebm_output(g, out, ebm_assign(g, chains, x));
    ebm_output(g, out, l->tick);
}

static void build_newborn(struct cd *cd, const struct leaves *l)
{
    ebm_outputs *out = &cd->programs[BIRTH].out;
    ebm_val noise = start_of(cd->site.recipe, cd->g, l->counter, DRAW_START, 4, l->newborn_shape);

    ebm_output(cd->g, out, ebm_assign(cd->g, l->newborn, noise));
    ebm_output(cd->g, out, l->tick);
    build_langevin(cd, l, l->newborn, &cd->programs[RAISE].out);
}

static ebm_val noised_data(struct cd *cd, const struct leaves *l)
{
    ebm_graph *g = cd->g;
    struct recipe *recipe = cd->site.recipe;
    double noise = recipe_number(recipe, "cd.data_noise");
    ebm_val x = ebm_feed(g, "data", EBM_F32, 4, l->shape);

    if (noise == 0)
        return x;
    x = ebm_add(g, x, ebm_scale(g, ebm_normal(g, l->counter, DRAW_DATA, 4, l->shape), noise));
    return recipe_bool(recipe, "langevin.clamp")
         ? ebm_clamp(g, x, recipe_number(recipe, "data.low"), recipe_number(recipe, "data.high")) : x;
}

static ebm_val mean_square(ebm_graph *g, ebm_val a)
{
    return ebm_mean_all(g, ebm_square(g, a));
}

/* Chains that passed the guard go back to the rows they came from. */
static void return_rows(struct cd *cd, const struct leaves *l, ebm_val enable)
{
    ebm_graph *g = cd->g;
    ebm_val rows = ebm_select(g, enable, l->chains, ebm_gather(g, l->buffer, l->index));

    ebm_output(g, &cd->programs[UPDATE].out, ebm_assign(g, l->buffer, ebm_update(g, l->buffer, l->index, rows)));
}

static void build_update(struct cd *cd, const struct leaves *l)
{
    ebm_graph *g = cd->g;
    struct recipe *recipe = cd->site.recipe;
    ebm_outputs *out = &cd->programs[UPDATE].out;
    struct energy energy = energy_of(recipe, g, true, out);
    double penalty = recipe_number(recipe, "cd.penalty");
    int64_t half[2] = { 0, cd->batch };

    /* One pass for both: the larger the batch, the better the device is used. */
    ebm_val x = ebm_concat(g, 0, 2, (ebm_val[]){ noised_data(cd, l), l->chains });
    ebm_val e = energy_at(g, x, &energy);
    ebm_val e_data = ebm_slice(g, e, &half[0], &cd->batch, NULL);
    ebm_val e_chains = ebm_slice(g, e, &half[1], &cd->batch, NULL);
    ebm_val data = ebm_mean_all(g, e_data), samples = ebm_mean_all(g, e_chains);
    ebm_val gap = ebm_sub(g, data, samples), loss = gap;

    if (penalty > 0)
        loss = ebm_add(g, loss, ebm_scale(g, ebm_add(g, mean_square(g, e_data),
                                                     mean_square(g, e_chains)), penalty));

    ebm_val grad = ebm_grad_region(g, loss, "energy");
    ebm_val norm = ebm_norm(g, grad), usual;
    struct guard_view view = { .loss = loss, .gap = gap, .gradient = norm,
                               .others = ebm_mean_all(g, l->chains) };
    ebm_val enable = guard_enable(g, recipe, &view, &usual, out);
    ebm_val rate = ebm_schedule_at(g, ebm_steps(g, "energy"), &cd->optimiser.lr);

    ebm_optimise(g, "energy", grad, &cd->optimiser, enable, out);
    if (cd->buffer > 0)
        return_rows(cd, l, enable);
    ebm_output(g, out, l->tick);

    ebm_val numbers[F_COUNT] = {
        [F_LOSS] = loss, [F_DATA] = data, [F_SAMPLES] = samples, [F_GRADIENT] = norm,
        [F_RATE] = rate, [F_ACCEPTED] = enable, [F_USUAL] = usual,
    };
    for (int i = 0; i < F_COUNT; i++)
        numbers[i] = ebm_reshape(g, numbers[i], 1, (const int64_t[]){ 1 });
    cd->fetched = ebm_concat(g, 0, F_COUNT, numbers);
    ebm_output(g, out, cd->fetched);
}

/* The energy of noise as chains start from: what data end far below. */
static void build_probe(struct cd *cd, const struct leaves *l)
{
    ebm_graph *g = cd->g;
    struct energy energy = energy_of(cd->site.recipe, g, false, NULL);
    ebm_val x = start_of(cd->site.recipe, g, l->counter, DRAW_PROBE, 4, l->shape);

    cd->noise_energy = ebm_mean_all(g, energy_at(g, x, &energy));
    ebm_output(g, &cd->programs[PROBE].out, cd->noise_energy);
}

static int train_build(const struct method_site *site, void **state)
{
    struct recipe *recipe = site->recipe;
    struct cd *cd = mem_new(site->ctx, 1, sizeof *cd);
    int status;

    *state = cd;
    if (!cd)
        return EBM_ERR_NOMEM;
    cd->site = *site;
    cd->batch = recipe_integer(recipe, "batch");
    cd->buffer = recipe_integer(recipe, "buffer.size");
    cd->steps = (int)recipe_integer(recipe, "langevin.steps");
    cd->burn_in = (int)recipe_integer(recipe, "buffer.burn_in");
    if (cd->buffer > 0 && cd->burn_in > 0)
        cd->newborn = llround(recipe_number(recipe, "buffer.fresh") * (double)cd->batch);
    if (cd->buffer > 0 && cd->buffer < cd->batch)
        return ebm_fail(site->ctx, EBM_ERR_ARG, "buffer.size = %lld is less than batch = %lld: "
                        "a buffer gives each chain a row of its own (0: no buffer)",
                        (long long)cd->buffer, (long long)cd->batch);
    if ((status = batch_bytes(site, "batch", &cd->bytes)) < 0
        || (status = optimiser_of(site->ctx, recipe, &cd->optimiser)) < 0
        || (status = ebm_graph_new(site->store, &cd->g)) < 0)
        return status;

    struct leaves l = leaves_of(cd);
    if (cd->newborn > 0)
        build_newborn(cd, &l);
    build_start(cd, &l);
    build_langevin(cd, &l, l.chains, &cd->programs[LANGEVIN].out);
    build_update(cd, &l);
    build_probe(cd, &l);
    return ebm_graph_status(cd->g);
}

/* ---- running ---- */

static int train_compile(void *state)
{
    struct cd *cd = state;

    return programs_compile(cd->g, cd->programs, PROGRAMS, labels);
}

static int run(struct cd *cd, int program, int times)
{
    ebm_program *p = cd->programs[program].program;

    return p && times ? ebm_program_run(p, times) : EBM_OK;
}

static int run_probe(struct cd *cd, double *energy)
{
    float e;
    int status;

    if ((status = run(cd, PROBE, 1)) < 0
        || (status = ebm_program_get(cd->programs[PROBE].program, cd->noise_energy, &e, sizeof e)) < 0)
        return status;
    *energy = e;
    return EBM_OK;
}

static int train_step(void *state, const struct batch_source *source, bool probe,
                      struct method_shown *shown)
{
    struct cd *cd = state;
    const float *images;
    float f[F_COUNT];
    int status;

    if ((status = source->next(source->user, &images, NULL)) < 0
        || (status = ebm_program_set(cd->programs[UPDATE].program, "data", images, cd->bytes)) < 0
        || (probe && (status = run_probe(cd, &shown->values[SHOWN_NOISE])) < 0)
        || (status = run(cd, BIRTH, 1)) < 0
        || (status = run(cd, RAISE, cd->burn_in)) < 0
        || (status = run(cd, START, 1)) < 0
        || (status = run(cd, LANGEVIN, cd->steps)) < 0
        || (status = run(cd, UPDATE, 1)) < 0
        || (status = ebm_program_get(cd->programs[UPDATE].program, cd->fetched, f, sizeof f)) < 0)
        return status;

    shown->values[SHOWN_LOSS] = f[F_LOSS];
    shown->values[SHOWN_DATA] = f[F_DATA];
    shown->values[SHOWN_SAMPLES] = f[F_SAMPLES];
    shown->values[SHOWN_GRADIENT] = f[F_GRADIENT];
    shown->values[SHOWN_RATE] = f[F_RATE];
    shown->accepted = f[F_ACCEPTED] != 0;
    shown->usual_gradient = f[F_USUAL];
    return EBM_OK;
}

static double train_work(const void *state)
{
    const struct cd *cd = state;
    const double times[PROGRAMS] = { 1, cd->burn_in, 1, cd->steps, 1, 0 };

    return programs_work(cd->g, cd->programs, PROGRAMS, times);
}

static void train_free(void *state)
{
    struct cd *cd = state;

    if (!cd)
        return;
    programs_free(cd->programs, PROGRAMS);
    ebm_graph_free(cd->g);
    mem_free(cd->site.ctx, cd);
}

const struct method method_cd = {
    .name = "cd",
    .summary = "maximum likelihood by contrastive divergence with Langevin chains",
    .tables = tables,
    .train_build = train_build, .train_compile = train_compile, .train_step = train_step,
    .train_work = train_work, .train_free = train_free,
    .energy = &energy_model_term, .model_frames = true,
    .model_build = energy_model_build, .model_compile = energy_model_compile,
    .model_energy = energy_model_energy, .model_sample = energy_model_sample,
    .model_free = energy_model_free,
};
