/* energy_model.c - see energy_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   start    sample.x := noise; labels of models that are told them
 *   step     sample.x := one Langevin step, its size and noise being feeds
 *   turn     sample.x := what a round starts from
 *
 *   start, { step ... step, turn } for every round but the last, whose steps are
 *   followed by those of the phases.
 *
 * The batch is always whole, and its counter starts from {seed, 0, batch}, so
 * that an image depends on the seed and its number alone. */
#include "energy_model.h"
#include "programs.h"
#include "walk.h"

enum { START, STEP, TURN, PROGRAMS };
static const char *const labels[] = { "begin", "draw", "turn" };

struct energy_model {
    struct method_site site;
    const struct chain_rule *rule;
    size_t bytes;                /* of a batch of images */
    struct phases phases;
    int64_t rounds, round_steps;
    ebm_graph *g;
    struct joint *joint;         /* the energy */
    struct program programs[PROGRAMS];
};

/* ---- a network as energy.net has it ---- */

static ebm_val energy_of_region(struct recipe *recipe, ebm_graph *g, const char *region, ebm_val x,
                                ebm_val classes)
{
    struct energy energy = energy_of(recipe, g, false, NULL);

    (void)classes;
    energy.net.region = region;
    return energy_at(g, x, &energy);
}

const struct method_energy energy_model_term = { energy_of_region, NULL };

static ebm_val start(struct recipe *recipe, ebm_graph *g, ebm_val counter, const int64_t shape[4])
{
    return start_of(recipe, g, counter, DRAW_SAMPLE_START, 4, shape);
}

static ebm_val step(struct recipe *recipe, ebm_graph *g, struct joint *energy, ebm_val x, ebm_val size,
                    ebm_val noise, ebm_val counter)
{
    ebm_langevin_options options = langevin_of(recipe);

    options.purpose = DRAW_SAMPLE_LANGEVIN;
    return ebm_langevin(g, joint_at, energy, x, size, noise, counter, &options);
}

int energy_model_build(const struct method_site *site, void **state)
{
    static const struct chain_rule rule = { NULL, start, step, NULL };

    return energy_model_new(site, &rule, state);
}

/* ---- graphs ---- */

static void build(struct energy_model *m, const int64_t shape[4])
{
    struct recipe *recipe = m->site.recipe;
    ebm_graph *g = m->g;
    ebm_outputs *out[PROGRAMS];
    ebm_val counter = counter_state(g, WALK_COUNTER);
    ebm_val x = ebm_state(g, WALK_CHAIN, EBM_F32, 4, shape, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val tick = ebm_assign(g, counter, ebm_tick(g, counter));
    ebm_val size = ebm_feed(g, "step", EBM_F32, 0, NULL), noise = ebm_feed(g, "noise", EBM_F32, 0, NULL);

    for (int i = 0; i < PROGRAMS; i++)
        out[i] = &m->programs[i].out;
    ebm_output(g, out[START], ebm_assign(g, x, walk_start(g, recipe, m->rule->start(recipe, g, counter, shape))));
    joint_begin(m->joint, counter, out[START]);
    ebm_output(g, out[START], tick);

    ebm_output(g, out[STEP], ebm_assign(g, x, m->rule->step(recipe, g, m->joint, x, size, noise, counter)));
    ebm_output(g, out[STEP], tick);

    if (m->rounds > 1) {
        ebm_output(g, out[TURN], ebm_assign(g, x, m->rule->turn(recipe, g, x, counter)));
        ebm_output(g, out[TURN], tick);
    }
}

int energy_model_new(const struct method_site *site, const struct chain_rule *rule, void **state)
{
    struct energy_model *m = mem_new(site->ctx, 1, sizeof *m);
    struct recipe *recipe = site->recipe;
    int64_t shape[4] = { 0, site->image[0], site->image[1], site->image[2] };
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    m->rule = rule;
    shape[0] = recipe_integer(recipe, "sample.batch");
    if (rule->turn) {
        m->rounds = recipe_integer(recipe, "sample.rounds");
        m->round_steps = recipe_integer(recipe, "sample.round_steps");
    }
    if ((status = batch_bytes(site, "sample.batch", &m->bytes)) < 0
        || (rule->check && (status = rule->check(site)) < 0)
        || (status = phases_of(site->ctx, recipe, &m->phases)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0
        || (status = joint_new(&m->site, m->g, shape, &m->joint)) < 0)
        return status;
    build(m, shape);
    return ebm_graph_status(m->g);
}

/* ---- running ---- */

int energy_model_compile(void *state)
{
    struct energy_model *m = state;
    int status = joint_compile(m->joint);

    return status < 0 ? status : programs_compile(m->g, m->programs, PROGRAMS, labels);
}

int energy_model_energy(void *state, const float *images, float *energies)
{
    struct energy_model *m = state;

    return joint_energy(m->joint, images, energies);
}

int energy_model_sample(void *state, const struct method_draw *draw, float *images)
{
    struct energy_model *m = state;
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

void energy_model_free(void *state)
{
    struct energy_model *m = state;

    if (!m)
        return;
    programs_free(m->programs, PROGRAMS);
    joint_free(m->joint);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m);
}
