/* energy_model.c - see energy_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   start    sample.x := noise, and labels of models that are told them
 *   step     sample.x := one Langevin step, its size and noise being feeds
 *
 * The batch is always whole, and its counter starts from {seed, 0, batch}, so
 * that an image depends on the seed and its number alone. */
#include "energy_model.h"
#include "joint.h"
#include "profile.h"
#include "walk.h"

enum { START, STEP, PROGRAMS };

struct energy_model {
    struct method_site site;
    int64_t batch;
    size_t bytes;                /* of a batch of images */
    struct phases phases;
    ebm_graph *g;
    struct joint *joint;         /* the energy */
    struct { ebm_outputs out; ebm_program *program; } programs[PROGRAMS];
};

static ebm_val energy_of_region(struct recipe *recipe, ebm_graph *g, const char *region, ebm_val x,
                                ebm_val labels)
{
    struct energy energy = energy_of(recipe, g, false, NULL);

    (void)labels;
    energy.net.region = region;
    return energy_at(g, x, &energy);
}

const struct method_energy energy_model_term = { energy_of_region, NULL };

static void build(struct energy_model *m, const int64_t shape[4])
{
    struct recipe *recipe = m->site.recipe;
    ebm_graph *g = m->g;
    ebm_outputs *start = &m->programs[START].out, *step = &m->programs[STEP].out;
    ebm_langevin_options options = langevin_of(recipe);
    ebm_val counter = counter_state(g, WALK_COUNTER);
    ebm_val x = ebm_state(g, WALK_CHAIN, EBM_F32, 4, shape, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val tick = ebm_assign(g, counter, ebm_tick(g, counter));
    ebm_val first = start_of(recipe, g, counter, DRAW_SAMPLE_START, 4, shape);

    ebm_output(g, start, ebm_assign(g, x, walk_start(g, recipe, first)));
    joint_begin(m->joint, counter, start);
    ebm_output(g, start, tick);

    options.purpose = DRAW_SAMPLE_LANGEVIN;
    ebm_val next = ebm_langevin(g, joint_at, m->joint, x,
                                ebm_feed(g, "step", EBM_F32, 0, NULL),
                                ebm_feed(g, "noise", EBM_F32, 0, NULL), counter, &options);
    ebm_output(g, step, ebm_assign(g, x, next));
    ebm_output(g, step, tick);
}

int energy_model_build(const struct method_site *site, void **state)
{
    struct energy_model *m = mem_new(site->ctx, 1, sizeof *m);
    int64_t shape[4] = { 0, site->image[0], site->image[1], site->image[2] };
    size_t pixels;
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    m->batch = shape[0] = recipe_integer(site->recipe, "sample.batch");
    pixels = (size_t)(site->image[0] * site->image[1] * site->image[2]);
    if (!size_mul(pixels, (size_t)m->batch * sizeof(float), &m->bytes))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "sample.batch = %lld images are too many",
                        (long long)m->batch);
    if ((status = phases_of(site->ctx, site->recipe, &m->phases)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0
        || (status = joint_new(&m->site, m->g, shape, &m->joint)) < 0)
        return status;
    build(m, shape);
    return ebm_graph_status(m->g);
}

int energy_model_compile(void *state)
{
    static const char *const labels[PROGRAMS] = { "begin", "draw" };
    struct energy_model *m = state;
    int status = joint_compile(m->joint);

    for (int i = 0; i < PROGRAMS && status >= 0; i++) {
        const ebm_outputs *out = &m->programs[i].out;
        if ((status = ebm_compile(m->g, out->count, out->list, &m->programs[i].program)) >= 0)
            program_label(m->programs[i].program, labels[i]);
    }
    return status;
}

int energy_model_energy(void *state, const float *images, float *energies)
{
    struct energy_model *m = state;

    return joint_energy(m->joint, images, energies);
}

int energy_model_sample(void *state, const struct method_draw *draw, float *images)
{
    struct energy_model *m = state;
    struct walk walk = { &m->site, draw, m->programs[STEP].program, images, m->bytes, 0, 0, 0 };
    int status;

    for (int i = 0; i < m->phases.count; i++)
        walk.all += m->phases.list[i].steps;
    if ((status = counter_write(m->site.store, WALK_COUNTER, draw->seed, 0, draw->batch)) < 0
        || (status = ebm_program_run(m->programs[START].program, 1)) < 0
        || (status = walk_begin(&walk)) < 0)
        return status;
    for (int i = 0; i < m->phases.count; i++)
        if ((status = walk_steps(&walk, &m->phases.list[i], m->phases.list[i].steps)) < 0)
            return status;
    return walk_end(&walk);
}

void energy_model_free(void *state)
{
    struct energy_model *m = state;

    if (!m)
        return;
    for (int i = 0; i < PROGRAMS; i++)
        ebm_program_free(m->programs[i].program);
    joint_free(m->joint);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m);
}
