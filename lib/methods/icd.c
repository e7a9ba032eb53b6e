/* icd.c - improved contrastive divergence (Du, Li, Tenenbaum, Mordatch 2021).
 *
 * SPDX-License-Identifier: ISC
 *
 *   start      chains := augmented rows of the buffer, some noise instead
 *   langevin   chains := one step of them, K - 1 times
 *   update     the K-th step, through which the loss is differentiated too;
 *              weights, moments, averages; ends of chains -> buffer
 *
 * The buffer holds bytes.  Its last row is for what is not kept: ends that the
 * reservoir or the guard refuses are written there, and none is drawn from it.
 * The past samples of the loss are drawn from the buffer as it is after the ends
 * have come in, so those rows are computed whether the guard agrees or not. */
#include <math.h>
#include <string.h>
#include "context.h"
#include "energy_model.h"
#include "guard.h"
#include "icd_model.h"
#include "icd_settings.h"
#include "programs.h"
#include "walk.h"

static const struct key_table *const tables[] = {
    &icd_table, &energy_table, &optimiser_table, &sample_table, &icd_sample_table, &walk_table, NULL
};

/* Beyond the common: norms of the two parts of the gradient, the mean log
 * distance to past samples. */
static const char *const more[] = { "gradient.cd", "gradient.kl", "distance" };
enum { SHOWN_CD = SHOWN_COMMON, SHOWN_KL, SHOWN_DISTANCE };

/* What update fetches, in one vector. */
enum { F_LOSS, F_DATA, F_SAMPLES, F_GRADIENT, F_RATE, F_ACCEPTED, F_USUAL, F_CD, F_KL, F_DISTANCE, F_COUNT };

enum { START, LANGEVIN, UPDATE, PROBE, PROGRAMS };
static const char *const labels[] = { "start", "langevin", "update", "probe" };

struct icd {
    struct method_site site;
    int64_t batch, rows, classes;        /* rows of the buffer, without the last */
    bool reservoir;
    int steps;
    size_t bytes;                        /* of a batch of images */
    ebm_optimiser optimiser;
    ebm_graph *g;
    ebm_val fetched, noise_energy;
    struct program programs[PROGRAMS];

    /* Leaves. */
    int64_t shape[4];                    /* of a batch */
    ebm_val counter, tick, chains, labels, buffer;
    ebm_val next, batches;               /* row that is written next; batches seen */
};

/* ---- graphs ---- */

static void make_leaves(struct icd *m)
{
    ebm_graph *g = m->g;
    int64_t rows[4] = { m->rows + 1, m->shape[1], m->shape[2], m->shape[3] };
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };

    m->counter = counter_state(g, METHOD_RNG);
    m->tick = ebm_assign(g, m->counter, ebm_tick(g, m->counter));
    m->chains = ebm_state(g, METHOD_CHAINS, EBM_F32, 4, m->shape, zero);
    m->buffer = ebm_state(g, "buffer", EBM_U8, 4, rows, zero);
    m->next = ebm_state(g, "buffer.next", EBM_F32, 0, NULL, zero);
    m->batches = ebm_state(g, "buffer.batches", EBM_F32, 0, NULL, zero);
    if (m->classes)
        m->labels = icd_labels(g, m->site.recipe, ebm_feed(g, "labels", EBM_I32, 1, &m->batch));
}

static struct icd_net network(struct icd *m, bool training, ebm_outputs *effects)
{
    struct icd_net net = icd_net_of(m->site.recipe, m->g, training, effects);

    net.labels = m->labels;
    return net;
}

/* Images of the buffer after so many batches. */
static ebm_val filled(struct icd *m, ebm_val batches)
{
    return ebm_min(m->g, ebm_scale(m->g, batches, (double)m->batch), ebm_const(m->g, (double)m->rows));
}

/* `count` rows drawn with replacement, augmented, spread to [0,1]. */
static ebm_val draw_images(struct icd *m, ebm_val buffer, ebm_val batches, int64_t count, bool past)
{
    ebm_graph *g = m->g;
    struct augment augment = icd_augment_of(m->site.recipe, false);
    ebm_val full = filled(m, batches);
    ebm_val u = ebm_uniform(g, m->counter, past ? DRAW_PAST_ROW : DRAW_ROW, 1, &count);
    ebm_val row = ebm_min(g, ebm_floor(g, ebm_mul(g, u, full)), ebm_offset(g, full, -1));
    ebm_val x = ebm_gather(g, buffer, ebm_cast(g, row, EBM_I32));

    x = augment_images(g, &augment, m->counter, past ? DRAW_PAST_CUT : DRAW_CUT, ebm_cast(g, x, EBM_F32));
    return icd_spread(g, x, m->counter, past ? DRAW_PAST_SPREAD : DRAW_SPREAD);
}

static void build_start(struct icd *m)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[START].out;
    ebm_val noise = ebm_uniform(g, m->counter, DRAW_START, 4, m->shape);
    ebm_val u = ebm_uniform(g, m->counter, DRAW_FRESH, 4, (const int64_t[]){ m->batch, 1, 1, 1 });
    ebm_val old = ebm_less(g, ebm_const(g, 0.5), m->batches);      /* there are some */

    old = ebm_mul(g, old, ebm_sub(g, ebm_const(g, 1),
                                  ebm_less(g, u, ebm_const(g, recipe_number(m->site.recipe, "buffer.fresh")))));
    ebm_val x = ebm_select(g, old, draw_images(m, m->buffer, m->batches, m->batch, false), noise);
    ebm_output(g, out, ebm_assign(g, m->chains, x));
    ebm_output(g, out, m->tick);
}

static void build_langevin(struct icd *m)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[LANGEVIN].out;
    struct icd_net net = network(m, false, NULL);
    ebm_val x = icd_langevin(g, icd_energy_at, &net, m->chains, ebm_const(g, recipe_number(m->site.recipe, "langevin.step")),
                             ebm_const(g, recipe_number(m->site.recipe, "langevin.noise")),
                             m->counter, DRAW_LANGEVIN);

    ebm_output(g, out, ebm_assign(g, m->chains, x));
    ebm_output(g, out, m->tick);
}

/* The rows that the ends of this update's chains go to.  Reservoir sampling: the
 * n-th image that was ever seen stays with probability rows/n. */
static ebm_val rows_to_write(struct icd *m)
{
    ebm_graph *g = m->g;
    ebm_val i = ebm_iota(g, 1, &m->batch, 0), size = ebm_const(g, (double)m->rows);
    ebm_val row = ebm_add(g, m->next, i);

    row = ebm_select(g, ebm_less(g, row, size), row, ebm_sub(g, row, size));
    if (!m->reservoir)
        return row;
    ebm_val seen = ebm_scale(g, m->batches, (double)m->batch), n = ebm_offset(g, ebm_add(g, seen, i), 1);
    ebm_val u = ebm_uniform(g, m->counter, DRAW_SLOT, 2, (const int64_t[]){ 2, m->batch });
    ebm_val halves[2];
    for (int k = 0; k < 2; k++)
        halves[k] = ebm_reshape(g, ebm_slice(g, u, (int64_t[]){ k, 0 }, (int64_t[]){ 1, m->batch }, NULL),
                                1, &m->batch);
    ebm_val stays = ebm_less(g, ebm_mul(g, halves[0], n), size);
    ebm_val slot = ebm_min(g, ebm_floor(g, ebm_mul(g, halves[1], size)), ebm_offset(g, size, -1));
    return ebm_select(g, ebm_less(g, seen, size), row, ebm_select(g, stays, slot, size));
}

static ebm_val write_rows(struct icd *m, ebm_val row, ebm_val ends)
{
    ebm_graph *g = m->g;

    return ebm_update(g, m->buffer, ebm_cast(g, row, EBM_I32), ebm_cast(g, icd_levels(g, ends), EBM_U8));
}

/* Effects on the buffer, where the guard agrees. */
static void keep_ends(struct icd *m, ebm_val row, ebm_val ends, ebm_val enable)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[UPDATE].out;
    ebm_val last = ebm_const(g, (double)m->rows);
    ebm_val next = ebm_offset(g, m->next, (double)m->batch);

    next = ebm_select(g, ebm_less(g, next, last), next, ebm_sub(g, next, last));
    ebm_output(g, out, ebm_assign(g, m->buffer, write_rows(m, ebm_select(g, enable, row, last), ends)));
    ebm_output(g, out, ebm_assign(g, m->next, ebm_select(g, enable, next, m->next)));
    ebm_output(g, out, ebm_assign(g, m->batches, ebm_add(g, m->batches, enable)));
}

static struct icd_loss_spec loss_of(struct icd *m)
{
    struct recipe *recipe = m->site.recipe;
    int64_t images = recipe_integer(recipe, "icd.kl_images");

    return (struct icd_loss_spec){
        .step = recipe_number(recipe, "langevin.step"),
        .penalty = recipe_number(recipe, "icd.penalty"),
        .kl = recipe_number(recipe, "icd.kl"),
        .entropy = recipe_number(recipe, "icd.entropy"),
        .kl_images = images > 0 && images < m->batch ? images : m->batch,
    };
}

/* The loss needs past samples, these the ends of chains, and these are part of
 * the loss: they are built first, and found again there as equal values. */
static struct icd_loss build_loss(struct icd *m, struct icd_net *net, ebm_val *row)
{
    ebm_graph *g = m->g;
    struct recipe *recipe = m->site.recipe;
    struct icd_loss_spec spec = loss_of(m), without = spec;
    struct icd_trained trained = icd_net_trained(net);
    ebm_val noise = ebm_normal(g, m->counter, DRAW_NOISED, 4, m->shape);
    ebm_val after = ebm_offset(g, m->batches, 1);
    struct icd_loss_in in = {
        .data = ebm_feed(g, "data", EBM_F32, 4, m->shape),
        .noised = ebm_add(g, m->chains, ebm_scale(g, noise, recipe_number(recipe, "langevin.noise"))),
        .labels = net->labels,
    };

    *row = rows_to_write(m);
    if (spec.entropy != 0) {
        without.entropy = 0;
        ebm_val ends = icd_loss(&trained, &without, &in).ends;
        in.past = draw_images(m, write_rows(m, *row, ends), after, recipe_integer(recipe, "icd.past"), true);
        in.active = ebm_less(g, ebm_const(g, (double)recipe_integer(recipe, "icd.past_after")),
                             filled(m, after));
    }
    return icd_loss(&trained, &spec, &in);
}

static void build_update(struct icd *m)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[UPDATE].out;
    struct icd_net net = network(m, true, out);
    ebm_val row, zero = ebm_const(g, 0), usual;
    struct icd_loss l = build_loss(m, &net, &row);
    ebm_val loss = l.kl ? ebm_add(g, l.cd, l.kl) : l.cd;
    ebm_val cd = ebm_grad_region(g, l.cd, "energy"), kl = l.kl ? ebm_grad_region(g, l.kl, "energy") : 0;
    ebm_val grad = kl ? ebm_add(g, cd, kl) : cd, norm = ebm_norm(g, grad);
    struct guard_view view = { .loss = loss, .gap = ebm_sub(g, l.data, l.samples), .gradient = norm,
                               .others = ebm_mean_all(g, l.ends) };
    ebm_val enable = guard_enable(g, m->site.recipe, &view, &usual, out);
    ebm_val rate = ebm_schedule_at(g, ebm_steps(g, "energy"), &m->optimiser.lr);

    ebm_optimise(g, "energy", grad, &m->optimiser, enable, out);
    keep_ends(m, row, l.ends, enable);
    ebm_output(g, out, ebm_assign(g, m->chains, l.ends));
    ebm_output(g, out, m->tick);

    ebm_val numbers[F_COUNT] = {
        [F_LOSS] = loss, [F_DATA] = l.data, [F_SAMPLES] = l.samples, [F_GRADIENT] = norm,
        [F_RATE] = rate, [F_ACCEPTED] = enable, [F_USUAL] = usual, [F_CD] = ebm_norm(g, cd),
        [F_KL] = kl ? ebm_norm(g, kl) : zero, [F_DISTANCE] = l.entropy ? l.entropy : zero,
    };
    for (int i = 0; i < F_COUNT; i++)
        numbers[i] = ebm_reshape(g, numbers[i], 1, (const int64_t[]){ 1 });
    m->fetched = ebm_concat(g, 0, F_COUNT, numbers);
    ebm_output(g, out, m->fetched);
}

static void build_probe(struct icd *m)
{
    ebm_graph *g = m->g;
    struct icd_net net = network(m, false, NULL);
    ebm_val x = ebm_uniform(g, m->counter, DRAW_PROBE, 4, m->shape);

    m->noise_energy = ebm_mean_all(g, icd_energy_at(g, x, &net));
    ebm_output(g, &m->programs[PROBE].out, m->noise_energy);
}

static int check(struct icd *m)
{
    struct recipe *recipe = m->site.recipe;
    int64_t size = recipe_integer(recipe, "buffer.size");

    if (size < m->batch)
        return ebm_fail(m->site.ctx, EBM_ERR_ARG, "buffer.size = %lld is less than batch = %lld: every "
                        "update adds a batch to it", (long long)size, (long long)m->batch);
    if (m->classes && (m->site.classes < 1 || m->site.classes > m->classes))
        return ebm_fail(m->site.ctx, EBM_ERR_ARG, "icd.labels = %lld, and the data have %d classes",
                        (long long)m->classes, m->site.classes);
    return icd_check(&m->site);
}

static int train_build(const struct method_site *site, void **state)
{
    struct recipe *recipe = site->recipe;
    struct icd *m = mem_new(site->ctx, 1, sizeof *m);
    int64_t size;
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    m->batch = m->shape[0] = recipe_integer(recipe, "batch");
    memcpy(&m->shape[1], site->image, sizeof site->image);
    m->classes = recipe_integer(recipe, "icd.labels");
    m->steps = (int)recipe_integer(recipe, "langevin.steps");
    m->reservoir = strcmp(recipe_text(recipe, "buffer.keep"), "reservoir") == 0;
    size = recipe_integer(recipe, "buffer.size");
    /* While it fills, whole batches come in. */
    m->rows = m->reservoir ? (size + m->batch - 1) / m->batch * m->batch : size;
    if ((status = batch_bytes(site, "batch", &m->bytes)) < 0
        || (status = check(m)) < 0
        || (status = optimiser_of(site->ctx, recipe, &m->optimiser)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0)
        return status;
    make_leaves(m);
    build_start(m);
    build_langevin(m);
    build_update(m);
    build_probe(m);
    return ebm_graph_status(m->g);
}

/* ---- running ---- */

static int train_compile(void *state)
{
    struct icd *m = state;

    return programs_compile(m->g, m->programs, PROGRAMS, labels);
}

static int give_labels(struct icd *m, const int32_t *classes)
{
    static const int told[] = { LANGEVIN, UPDATE, PROBE };
    int status = EBM_OK;

    if (m->classes && !classes)
        return ebm_fail(m->site.ctx, EBM_ERR_ARG, "icd.labels = %lld, and the data have no labels",
                        (long long)m->classes);
    for (size_t i = 0; m->classes && i < COUNT(told) && status >= 0; i++)
        status = ebm_program_set(m->programs[told[i]].program, "labels", classes,
                                 (size_t)m->batch * sizeof *classes);
    return status;
}

static int run_probe(struct icd *m, double *energy)
{
    float e;
    int status;

    if ((status = ebm_program_run(m->programs[PROBE].program, 1)) < 0
        || (status = ebm_program_get(m->programs[PROBE].program, m->noise_energy, &e, sizeof e)) < 0)
        return status;
    *energy = e;
    return EBM_OK;
}

static int train_step(void *state, const struct batch_source *source, bool probe,
                      struct method_shown *shown)
{
    static const struct { int shown, fetched; } what[] = {
        { SHOWN_LOSS, F_LOSS }, { SHOWN_DATA, F_DATA }, { SHOWN_SAMPLES, F_SAMPLES },
        { SHOWN_GRADIENT, F_GRADIENT }, { SHOWN_RATE, F_RATE }, { SHOWN_CD, F_CD },
        { SHOWN_KL, F_KL }, { SHOWN_DISTANCE, F_DISTANCE },
    };
    struct icd *m = state;
    ebm_program *update = m->programs[UPDATE].program;
    const float *images;
    const int32_t *classes = NULL;
    float f[F_COUNT];
    int status;

    if ((status = source->next(source->user, &images, m->classes ? &classes : NULL)) < 0
        || (status = ebm_program_set(update, "data", images, m->bytes)) < 0
        || (status = give_labels(m, classes)) < 0
        || (probe && (status = run_probe(m, &shown->values[SHOWN_NOISE])) < 0)
        || (status = ebm_program_run(m->programs[START].program, 1)) < 0
        || (m->steps > 1 && (status = ebm_program_run(m->programs[LANGEVIN].program, m->steps - 1)) < 0)
        || (status = ebm_program_run(update, 1)) < 0
        || (status = ebm_program_get(update, m->fetched, f, sizeof f)) < 0)
        return status;
    for (size_t i = 0; i < COUNT(what); i++)
        shown->values[what[i].shown] = f[what[i].fetched];
    shown->accepted = f[F_ACCEPTED] != 0;
    shown->usual_gradient = f[F_USUAL];
    return EBM_OK;
}

static double train_work(const void *state)
{
    const struct icd *m = state;
    const double times[PROGRAMS] = { [START] = 1, [LANGEVIN] = m->steps - 1, [UPDATE] = 1 };

    return programs_work(m->g, m->programs, PROGRAMS, times);
}

static void train_free(void *state)
{
    struct icd *m = state;

    if (!m)
        return;
    programs_free(m->programs, PROGRAMS);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m);
}

const struct method method_icd = {
    .name = "icd",
    .summary = "contrastive divergence with its gradient through the sampler",
    .tables = tables, .more = more, .n_more = COUNT(more),
    .train_build = train_build, .train_compile = train_compile, .train_step = train_step,
    .train_work = train_work, .train_free = train_free,
    .energy = &icd_energy, .model_frames = true,
    .model_build = icd_model_build, .model_compile = energy_model_compile,
    .model_energy = energy_model_energy, .model_sample = energy_model_sample,
    .model_free = energy_model_free,
};
