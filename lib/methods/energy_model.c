/* energy_model.c - see energy_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   energy   images (feed) -> E(images)
 *   start    sample.x := noise
 *   step     sample.x := one Langevin step, its size and noise being feeds
 *
 * The batch is always whole, and its counter starts from {seed, 0, batch}, so
 * that an image depends on the seed and its number alone. */
#include "context.h"
#include "energy_model.h"
#include "profile.h"
#include "settings.h"

struct energy_model {
    struct method_site site;
    int64_t batch;
    size_t bytes;                /* of a batch of images */
    struct phases phases;
    ebm_graph *g;
    ebm_val energies, x, start_effects[2], step_effects[2];
    ebm_program *energy, *start, *step;
};

#define COUNTER "sample.rng"
#define CHAIN "sample.x"

static void build(struct energy_model *m)
{
    struct recipe *recipe = m->site.recipe;
    const int64_t *hwc = m->site.image;
    int64_t shape[4] = { m->batch, hwc[0], hwc[1], hwc[2] };
    ebm_graph *g = m->g;
    struct energy energy = energy_of(recipe, g, false, NULL);
    ebm_langevin_options options = langevin_of(recipe);

    m->energies = energy_at(g, ebm_feed(g, "images", EBM_F32, 4, shape), &energy);

    ebm_val counter = counter_state(g, COUNTER);
    ebm_val x = ebm_state(g, CHAIN, EBM_F32, 4, shape, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val tick = ebm_assign(g, counter, ebm_tick(g, counter));

    m->start_effects[0] = ebm_assign(g, x, start_of(recipe, g, counter, DRAW_SAMPLE_START, 4, shape));
    m->start_effects[1] = tick;

    options.purpose = DRAW_SAMPLE_LANGEVIN;
    ebm_val next = ebm_langevin(g, energy_at, &energy, x,
                                ebm_feed(g, "step", EBM_F32, 0, NULL),
                                ebm_feed(g, "noise", EBM_F32, 0, NULL), counter, &options);
    m->step_effects[0] = ebm_assign(g, x, next);
    m->step_effects[1] = tick;
}

int energy_model_build(const struct method_site *site, void **state)
{
    struct energy_model *m = mem_new(site->ctx, 1, sizeof *m);
    size_t pixels;
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    m->batch = recipe_integer(site->recipe, "sample.batch");
    pixels = (size_t)(site->image[0] * site->image[1] * site->image[2]);
    if (!size_mul(pixels, (size_t)m->batch * sizeof(float), &m->bytes))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "sample.batch = %lld images are too many",
                        (long long)m->batch);
    if ((status = phases_of(site->ctx, site->recipe, &m->phases)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0)
        return status;
    build(m);
    return ebm_graph_status(m->g);
}

int energy_model_compile(void *state)
{
    struct energy_model *m = state;
    int status;

    if ((status = ebm_compile(m->g, 1, &m->energies, &m->energy)) < 0
        || (status = ebm_compile(m->g, 2, m->start_effects, &m->start)) < 0
        || (status = ebm_compile(m->g, 2, m->step_effects, &m->step)) < 0)
        return status;
    program_label(m->energy, "energy");
    program_label(m->start, "begin");
    program_label(m->step, "draw");
    return EBM_OK;
}

int energy_model_energy(void *state, const float *images, float *energies)
{
    struct energy_model *m = state;
    int status;

    if ((status = ebm_program_set(m->energy, "images", images, m->bytes)) < 0
        || (status = ebm_program_run(m->energy, 1)) < 0)
        return status;
    return ebm_program_get(m->energy, m->energies, energies, (size_t)m->batch * sizeof(float));
}

/* Steps between two calls of progress. */
enum { STRIDE = 16 };

static int run_phase(struct energy_model *m, const struct phase *phase, int64_t *done,
                     int64_t all, const struct method_draw *draw)
{
    int status;

    if ((status = ebm_program_set(m->step, "step", &phase->step, sizeof phase->step)) < 0
        || (status = ebm_program_set(m->step, "noise", &phase->noise, sizeof phase->noise)) < 0)
        return status;
    for (int64_t left = phase->steps; left > 0; left -= STRIDE) {
        int times = (int)(left < STRIDE ? left : STRIDE);
        if ((status = ebm_program_run(m->step, times)) < 0)
            return status;
        *done += times;
        if (draw->progress && draw->progress(draw->user, (double)*done / (double)all))
            return ebm_fail(m->site.ctx, EBM_ERR_STOPPED, "sampling was stopped");
    }
    return EBM_OK;
}

int energy_model_sample(void *state, const struct method_draw *draw, float *images)
{
    struct energy_model *m = state;
    int64_t done = 0, all = 0;
    int status;

    if ((status = counter_write(m->site.store, COUNTER, draw->seed, 0, draw->batch)) < 0
        || (status = ebm_program_run(m->start, 1)) < 0)
        return status;
    for (int i = 0; i < m->phases.count; i++)
        all += m->phases.list[i].steps;
    for (int i = 0; i < m->phases.count; i++)
        if ((status = run_phase(m, &m->phases.list[i], &done, all, draw)) < 0)
            return status;
    return ebm_store_read(m->site.store, CHAIN, images, m->bytes);
}

size_t energy_model_bytes(const void *state)
{
    const struct energy_model *m = state;

    return ebm_program_bytes(m->energy) + ebm_program_bytes(m->start) + ebm_program_bytes(m->step);
}

void energy_model_free(void *state)
{
    struct energy_model *m = state;

    if (!m)
        return;
    ebm_program_free(m->energy);
    ebm_program_free(m->start);
    ebm_program_free(m->step);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m);
}
