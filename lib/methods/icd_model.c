/* icd_model.c - see icd_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   energy   images, labels (feeds) -> the sum of the energies of all scales
 *   start    sample.x := noise; sample.labels := classes by chance
 *   step     sample.x := one Langevin step
 *   turn     sample.x := an augmentation of its bytes
 *
 *   start, { step ... step, turn } for every round but the last, whose steps are
 *   followed by those of the phases.
 *
 * With labels and no particular one chosen, an energy is -log sum exp(-E) over all of them. */
#include <math.h>
#include "icd_model.h"
#include "icd_settings.h"

enum { ENERGY, START, STEP, TURN, PROGRAMS };

struct icd_model {
    struct method_site site;
    int64_t batch, classes, label;       /* label: -1: any, NO_LABEL: none */
    size_t bytes;                        /* of a batch of images */
    struct phases phases;
    int64_t rounds, round_steps;
    ebm_graph *g;
    ebm_val energies;
    struct { ebm_val list[3]; int count; ebm_program *program; } programs[PROGRAMS];
    float *labels, *part;                /* a batch: what is fed, energies of one label */
};

enum { NO_LABEL = -2 };

#define COUNTER "sample.rng"
#define CHAIN "sample.x"
#define LABELS "sample.labels"

static void want(struct icd_model *m, int program, ebm_val output)
{
    m->programs[program].list[m->programs[program].count++] = output;
}

static void build_energy(struct icd_model *m, const int64_t shape[4])
{
    ebm_graph *g = m->g;
    struct icd_net net = icd_net_of(m->site.recipe, g, false, NULL);

    if (m->classes)
        net.labels = icd_labels(g, m->site.recipe, ebm_feed(g, "labels", EBM_F32, 1, &m->batch));
    m->energies = icd_energy_at(g, ebm_feed(g, "images", EBM_F32, 4, shape), &net);
    want(m, ENERGY, m->energies);
}

static void build_chains(struct icd_model *m, const int64_t shape[4])
{
    struct recipe *recipe = m->site.recipe;
    ebm_graph *g = m->g;
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    struct icd_net net = icd_net_of(recipe, g, false, NULL);
    struct augment augment = icd_augment_of(recipe, true);
    ebm_val counter = counter_state(g, COUNTER);
    ebm_val tick = ebm_assign(g, counter, ebm_tick(g, counter));
    ebm_val x = ebm_state(g, CHAIN, EBM_F32, 4, shape, zero);

    want(m, START, ebm_assign(g, x, ebm_uniform(g, counter, DRAW_SAMPLE_START, 4, shape)));
    want(m, START, tick);
    if (m->classes) {
        ebm_val labels = ebm_state(g, LABELS, EBM_F32, 1, &m->batch, zero);
        ebm_val any = ebm_scale(g, ebm_uniform(g, counter, DRAW_LABEL, 1, &m->batch), (double)m->classes);
        any = ebm_min(g, ebm_floor(g, any), ebm_const(g, (double)(m->classes - 1)));
        want(m, START, ebm_assign(g, labels, m->label < 0 ? any : ebm_fill(g, any, (double)m->label)));
        net.labels = icd_labels(g, recipe, labels);
    }
    want(m, STEP, ebm_assign(g, x, icd_langevin(g, &net, x, ebm_feed(g, "step", EBM_F32, 0, NULL),
                                                ebm_feed(g, "noise", EBM_F32, 0, NULL), counter,
                                                DRAW_SAMPLE_LANGEVIN)));
    want(m, STEP, tick);
    ebm_val turned = augment_images(g, &augment, counter, DRAW_CUT, icd_levels(g, x));
    want(m, TURN, ebm_assign(g, x, icd_spread(g, turned, counter, DRAW_SPREAD)));
    want(m, TURN, tick);
}

int icd_model_build(const struct method_site *site, void **state)
{
    struct icd_model *m = mem_new(site->ctx, 1, sizeof *m);
    struct recipe *recipe = site->recipe;
    int64_t shape[4] = { 0, site->image[0], site->image[1], site->image[2] };
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    m->batch = shape[0] = recipe_integer(recipe, "sample.batch");
    m->label = recipe_integer(recipe, "sample.label");
    m->classes = m->label == NO_LABEL ? 0 : recipe_integer(recipe, "icd.labels");
    m->rounds = recipe_integer(recipe, "sample.rounds");
    m->round_steps = recipe_integer(recipe, "sample.round_steps");
    if (!size_mul((size_t)(shape[1] * shape[2] * shape[3]), (size_t)m->batch * sizeof(float), &m->bytes))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "sample.batch = %lld images are too many",
                        (long long)m->batch);
    m->labels = mem_new(site->ctx, (size_t)m->batch, sizeof *m->labels);
    m->part = mem_new(site->ctx, (size_t)m->batch, sizeof *m->part);
    if (!m->labels || !m->part)
        return EBM_ERR_NOMEM;
    if ((status = icd_check(site)) < 0
        || (status = phases_of(site->ctx, recipe, &m->phases)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0)
        return status;
    build_energy(m, shape);
    build_chains(m, shape);
    return ebm_graph_status(m->g);
}

int icd_model_compile(void *state)
{
    struct icd_model *m = state;
    int status = EBM_OK;

    for (int i = 0; i < PROGRAMS && status >= 0; i++)
        status = ebm_compile(m->g, m->programs[i].count, m->programs[i].list, &m->programs[i].program);
    return status;
}

static int energy_of_label(struct icd_model *m, int64_t label, float *energies)
{
    ebm_program *p = m->programs[ENERGY].program;
    int status;

    if (m->classes) {
        for (int64_t i = 0; i < m->batch; i++)
            m->labels[i] = (float)label;
        if ((status = ebm_program_set(p, "labels", m->labels, (size_t)m->batch * sizeof *m->labels)) < 0)
            return status;
    }
    if ((status = ebm_program_run(p, 1)) < 0)
        return status;
    return ebm_program_get(p, m->energies, energies, (size_t)m->batch * sizeof *energies);
}

int icd_model_energy(void *state, const float *images, float *energies)
{
    struct icd_model *m = state;
    int64_t first = m->label < 0 ? 0 : m->label;
    int status;

    if ((status = ebm_program_set(m->programs[ENERGY].program, "images", images, m->bytes)) < 0
        || (status = energy_of_label(m, first, energies)) < 0)
        return status;
    for (int64_t label = 1; m->label < 0 && label < m->classes; label++) {
        if ((status = energy_of_label(m, label, m->part)) < 0)
            return status;
        for (int64_t i = 0; i < m->batch; i++) {
            double low = fmin(energies[i], m->part[i]), far = fabs((double)energies[i] - m->part[i]);
            energies[i] = (float)(low - log1p(exp(-far)));
        }
    }
    return EBM_OK;
}

/* Steps between two calls of progress. */
enum { STRIDE = 16 };

struct way {
    const struct method_draw *draw;
    int64_t done, all;
};

static int run_steps(struct icd_model *m, int64_t steps, const struct phase *how, struct way *way)
{
    ebm_program *p = m->programs[STEP].program;
    int status;

    if ((status = ebm_program_set(p, "step", &how->step, sizeof how->step)) < 0
        || (status = ebm_program_set(p, "noise", &how->noise, sizeof how->noise)) < 0)
        return status;
    for (int64_t left = steps; left > 0; left -= STRIDE) {
        int times = (int)(left < STRIDE ? left : STRIDE);
        if ((status = ebm_program_run(p, times)) < 0)
            return status;
        way->done += times;
        if (way->draw->progress && way->draw->progress(way->draw->user, (double)way->done / (double)way->all))
            return ebm_fail(m->site.ctx, EBM_ERR_STOPPED, "sampling was stopped");
    }
    return EBM_OK;
}

int icd_model_sample(void *state, const struct method_draw *draw, float *images)
{
    struct icd_model *m = state;
    struct way way = { draw, 0, m->rounds * m->round_steps };
    int status;

    for (int i = 0; i < m->phases.count; i++)
        way.all += m->phases.list[i].steps;
    if ((status = counter_write(m->site.store, COUNTER, draw->seed, 0, draw->batch)) < 0
        || (status = ebm_program_run(m->programs[START].program, 1)) < 0)
        return status;
    for (int64_t round = 0; round < m->rounds; round++)
        if ((round > 0 && (status = ebm_program_run(m->programs[TURN].program, 1)) < 0)
            || (status = run_steps(m, m->round_steps, &m->phases.list[0], &way)) < 0)
            return status;
    for (int i = 0; i < m->phases.count; i++)
        if ((status = run_steps(m, m->phases.list[i].steps, &m->phases.list[i], &way)) < 0)
            return status;
    return ebm_store_read(m->site.store, CHAIN, images, m->bytes);
}

size_t icd_model_bytes(const void *state)
{
    const struct icd_model *m = state;
    size_t bytes = 0;

    for (int i = 0; i < PROGRAMS; i++)
        bytes += ebm_program_bytes(m->programs[i].program);
    return bytes;
}

void icd_model_free(void *state)
{
    struct icd_model *m = state;

    if (!m)
        return;
    for (int i = 0; i < PROGRAMS; i++)
        ebm_program_free(m->programs[i].program);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m->labels);
    mem_free(m->site.ctx, m->part);
    mem_free(m->site.ctx, m);
}
