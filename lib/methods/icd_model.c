/* icd_model.c - see icd_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   start    sample.x := noise; labels := classes, chosen or by chance
 *   step     sample.x := one Langevin step
 *   turn     sample.x := an augmentation of its bytes
 *
 *   start, { step ... step, turn } for every round but the last, whose steps are
 *   followed by those of the phases. */
#include "icd_model.h"
#include "icd_settings.h"
#include "joint.h"
#include "profile.h"
#include "walk.h"

enum { START, STEP, TURN, PROGRAMS };

struct icd_model {
    struct method_site site;
    int64_t batch;
    size_t bytes;                        /* of a batch of images */
    struct phases phases;
    int64_t rounds, round_steps;
    ebm_graph *g;
    struct joint *joint;                 /* the energy */
    struct { ebm_outputs out; ebm_program *program; } programs[PROGRAMS];
};

static void build(struct icd_model *m, const int64_t shape[4])
{
    struct recipe *recipe = m->site.recipe;
    ebm_graph *g = m->g;
    ebm_outputs *start = &m->programs[START].out, *step = &m->programs[STEP].out,
                *turn = &m->programs[TURN].out;
    struct augment augment = icd_augment_of(recipe, true);
    ebm_val counter = counter_state(g, WALK_COUNTER);
    ebm_val tick = ebm_assign(g, counter, ebm_tick(g, counter));
    ebm_val x = ebm_state(g, WALK_CHAIN, EBM_F32, 4, shape, (ebm_init){ EBM_INIT_CONST, 0, 0 });

    ebm_val noise = ebm_uniform(g, counter, DRAW_SAMPLE_START, 4, shape);
    ebm_output(g, start, ebm_assign(g, x, walk_start(g, recipe, noise)));
    joint_begin(m->joint, counter, start);
    ebm_output(g, start, tick);

    ebm_val next = icd_langevin(g, joint_at, m->joint, x, ebm_feed(g, "step", EBM_F32, 0, NULL),
                                ebm_feed(g, "noise", EBM_F32, 0, NULL), counter, DRAW_SAMPLE_LANGEVIN);
    ebm_output(g, step, ebm_assign(g, x, next));
    ebm_output(g, step, tick);

    ebm_val turned = augment_images(g, &augment, counter, DRAW_CUT, icd_levels(g, x));
    ebm_output(g, turn, ebm_assign(g, x, icd_spread(g, turned, counter, DRAW_SPREAD)));
    ebm_output(g, turn, tick);
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
    m->rounds = recipe_integer(recipe, "sample.rounds");
    m->round_steps = recipe_integer(recipe, "sample.round_steps");
    if (!size_mul((size_t)(shape[1] * shape[2] * shape[3]), (size_t)m->batch * sizeof(float), &m->bytes))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "sample.batch = %lld images are too many",
                        (long long)m->batch);
    if ((status = icd_check(site)) < 0
        || (status = phases_of(site->ctx, recipe, &m->phases)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0
        || (status = joint_new(&m->site, m->g, shape, &m->joint)) < 0)
        return status;
    build(m, shape);
    return ebm_graph_status(m->g);
}

int icd_model_compile(void *state)
{
    static const char *const labels[PROGRAMS] = { "begin", "draw", "augment" };
    struct icd_model *m = state;
    int status = joint_compile(m->joint);

    for (int i = 0; i < PROGRAMS && status >= 0; i++) {
        const ebm_outputs *out = &m->programs[i].out;
        if ((status = ebm_compile(m->g, out->count, out->list, &m->programs[i].program)) >= 0)
            program_label(m->programs[i].program, labels[i]);
    }
    return status;
}

int icd_model_energy(void *state, const float *images, float *energies)
{
    struct icd_model *m = state;

    return joint_energy(m->joint, images, energies);
}

int icd_model_sample(void *state, const struct method_draw *draw, float *images)
{
    struct icd_model *m = state;
    const struct phase *phases = m->phases.list;
    struct walk walk = { &m->site, draw, m->programs[STEP].program, images, m->bytes,
                         m->rounds * m->round_steps, 0, 0 };
    int status;

    for (int i = 0; i < m->phases.count; i++)
        walk.all += phases[i].steps;
    if ((status = counter_write(m->site.store, WALK_COUNTER, draw->seed, 0, draw->batch)) < 0
        || (status = ebm_program_run(m->programs[START].program, 1)) < 0
        || (status = walk_begin(&walk)) < 0)
        return status;
    for (int64_t round = 0; round < m->rounds; round++)
        if ((round > 0 && (status = ebm_program_run(m->programs[TURN].program, 1)) < 0)
            || (status = walk_steps(&walk, &phases[0], m->round_steps)) < 0)
            return status;
    for (int i = 0; i < m->phases.count; i++)
        if ((status = walk_steps(&walk, &phases[i], phases[i].steps)) < 0)
            return status;
    return walk_end(&walk);
}

void icd_model_free(void *state)
{
    struct icd_model *m = state;

    if (!m)
        return;
    for (int i = 0; i < PROGRAMS; i++)
        ebm_program_free(m->programs[i].program);
    joint_free(m->joint);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m);
}
