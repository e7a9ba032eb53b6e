/* cdrl_model.c - see cdrl_model.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   energy    images (feed) -> -log density of one level
 *   start     x := noise; labels := classes by chance
 *   propose   y := a proposal for the level below x
 *   step      y := one Langevin step
 *   descend   x := y as a state
 *   end       x := the last correction
 *
 *   start, { propose, step ... step, descend } from the top level down, end.
 *
 * All programs but start have the constants of the level as a feed.  Where pixels
 * are given, they are noised as their level has it and put in place after
 * every step; so that what is drawn is drawn given them. */
#include <math.h>
#include <string.h>
#include "cdrl_model.h"
#include "cdrl_settings.h"
#include "programs.h"

enum { ENERGY, START, PROPOSE, STEP, DESCEND, END, PROGRAMS };
static const char *const program_names[] = { "energy", "begin", "propose", "draw", "descend", "end" };

struct cdrl_model {
    struct method_site site;
    struct cdrl_schedule schedule;
    int64_t batch, classes;
    int64_t shape[4];
    size_t bytes;                        /* of a batch of images */
    int steps;                           /* of a chain at one level */
    ebm_graph *g;
    ebm_val energies;
    struct program programs[PROGRAMS];
    float *mask;                         /* of a picture: 1 is drawn, 0 given */
    float *picture;                      /* which is given, or zeros */

    /* Leaves. */
    ebm_val counter, tick, x, y, known, labels;
    ebm_val of_image, of_mask;           /* feeds */
    struct cdrl_place place;
};

#define COUNTER "sample.rng"
#define CHAIN "sample.x"
#define LABELS "sample.labels"

/* ---- labels ---- */

static bool any_label(struct cdrl_model *m)
{
    const double *list;

    return recipe_numbers(m->site.recipe, "sample.label", &list) == 1 && list[0] == -1;
}

static void add_term(struct cdrl_nets *nets, ebm_val labels, double weight)
{
    if (weight != 0)
        nets->terms[nets->n_terms++] = (struct cdrl_term){ labels, weight };
}

/* For classes c_1 ... c_k and guidance w: (1+w) f(c_i) each, and of f(none) what
 * makes the weights sum to 1 (Ho and Salimans 2022; Zhu et al. 2024). */
static struct cdrl_nets networks(struct cdrl_model *m, ebm_val drawn)
{
    ebm_graph *g = m->g;
    struct cdrl_nets nets = cdrl_nets_of(&m->site, g);
    double w = recipe_number(m->site.recipe, "sample.guidance"), rest = 1;
    const int64_t one = 1;
    const double *list;
    int n = recipe_numbers(m->site.recipe, "sample.label", &list);

    if (!m->classes)
        return nets;
    for (int i = 0; i < n && (drawn || !any_label(m)); i++) {
        ebm_val label = ebm_reshape(g, ebm_const(g, list[i] + 1), 1, &one);
        if (list[i] >= -1)
            add_term(&nets, list[i] < 0 ? drawn : label, 1 + w);
        rest -= list[i] >= -1 ? 1 + w : 0;
    }
    add_term(&nets, ebm_reshape(g, ebm_const(g, 0), 1, &one), rest);
    return nets;
}

static int check_labels(struct cdrl_model *m)
{
    struct recipe *recipe = m->site.recipe;
    const double *list;
    int n = recipe_numbers(recipe, "sample.label", &list);

    if (n < 1 || n >= CDRL_TERMS)
        return ebm_fail(m->site.ctx, EBM_ERR_ARG, "sample.label names %d classes; 1 to %d can be joined",
                        n, CDRL_TERMS - 1);
    for (int i = 0; i < n; i++) {
        if (list[i] != floor(list[i]) || (list[i] < 0 && n > 1))
            return ebm_fail(m->site.ctx, EBM_ERR_ARG, "sample.label is -1, -2, or whole numbers of classes");
        if (list[i] >= 0 && list[i] >= (double)m->classes)
            return ebm_fail(m->site.ctx, EBM_ERR_ARG, "sample.label = %g is none of the %lld classes of "
                            "cdrl.labels", list[i], (long long)m->classes);
    }
    if (recipe_number(recipe, "sample.guidance") != 0 && (!m->classes || list[0] == -2))
        return ebm_fail(m->site.ctx, EBM_ERR_ARG, "sample.guidance is towards a class: this needs "
                        "cdrl.labels and a sample.label");
    return EBM_OK;
}

/* ---- graphs ---- */

static void want(struct cdrl_model *m, int program, ebm_val output)
{
    ebm_output(m->g, &m->programs[program].out, output);
}

static void make_leaves(struct cdrl_model *m)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    const int64_t constants = LEVEL_CONSTANTS, *n = m->shape;
    ebm_graph *g = m->g;

    m->counter = counter_state(g, COUNTER);
    m->tick = ebm_assign(g, m->counter, ebm_tick(g, m->counter));
    m->x = ebm_state(g, CHAIN, EBM_F32, 4, n, zero);
    m->y = ebm_state(g, "sample.y", EBM_F32, 4, n, zero);
    m->known = ebm_state(g, "sample.known", EBM_F32, 4, n, zero);
    if (m->classes)
        m->labels = ebm_state(g, LABELS, EBM_F32, 1, &m->batch, zero);
    m->of_image = ebm_feed(g, "picture", EBM_F32, 4, (int64_t[]){ 1, n[1], n[2], n[3] });
    m->of_mask = ebm_feed(g, "mask", EBM_F32, 4, (int64_t[]){ 1, n[1], n[2], 1 });
    m->place = cdrl_place_of(g, ebm_feed(g, "level", EBM_F32, 1, &constants));
}

/* -log density of x_t: that of y = scale x_t. */
static void build_energy(struct cdrl_model *m)
{
    ebm_graph *g = m->g;
    struct cdrl_nets nets = networks(m, 0);
    ebm_val x = ebm_feed(g, "images", EBM_F32, 4, m->shape);
    ebm_val y = ebm_mul(g, cdrl_beside(g, m->place.of[LEVEL_SCALE], x), x);
    ebm_val density = cdrl_density(g, y, &m->place, &nets);

    m->energies = ebm_neg(g, ebm_div(g, density, ebm_square(g, m->place.of[LEVEL_STEP])));
    want(m, ENERGY, m->energies);
}

static void build_start(struct cdrl_model *m)
{
    ebm_graph *g = m->g;

    want(m, START, ebm_assign(g, m->x, ebm_normal(g, m->counter, DRAW_SAMPLE_START, 4, m->shape)));
    if (m->classes) {
        double classes = (double)m->classes;
        ebm_val u = ebm_scale(g, ebm_uniform(g, m->counter, DRAW_CLASS, 1, &m->batch), classes);
        ebm_val any = ebm_min(g, ebm_floor(g, u), ebm_const(g, classes - 1));
        want(m, START, ebm_assign(g, m->labels, ebm_offset(g, any, 1)));
    }
    want(m, START, m->tick);
}

/* drawn where the mask is 1, else given */
static ebm_val masked(struct cdrl_model *m, ebm_val drawn, ebm_val given)
{
    return ebm_select(m->g, m->of_mask, drawn, given);
}

static void build_propose(struct cdrl_model *m)
{
    ebm_graph *g = m->g;
    struct cdrl_nets nets = networks(m, m->labels);
    ebm_val fresh = ebm_normal(g, m->counter, DRAW_KNOWN, 4, m->shape), y = m->x;
    ebm_val known = cdrl_pair(g, &m->place, m->of_image, fresh, 0).below;

    known = ebm_mul(g, cdrl_beside(g, m->place.of[LEVEL_SCALE], known), known);
    if (cdrl_cooperative(m->site.recipe))
        y = cdrl_propose(g, &m->place, cdrl_mean(g, m->x, &m->place, &nets),
                         ebm_normal(g, m->counter, DRAW_PROPOSAL, 4, m->shape));
    want(m, PROPOSE, ebm_assign(g, m->known, known));
    want(m, PROPOSE, ebm_assign(g, m->y, masked(m, y, known)));
    want(m, PROPOSE, m->tick);
}

static void build_steps(struct cdrl_model *m)
{
    ebm_graph *g = m->g;
    struct recipe *recipe = m->site.recipe;
    struct cdrl_nets nets = networks(m, m->labels);
    double learned = (double)recipe_integer(recipe, "langevin.steps"), factor = recipe_number(recipe, "sample.step");
    const struct cdrl_step step = {
        cdrl_density, &nets, factor > 0 ? factor : sqrt(learned / m->steps),
        recipe_number(recipe, "sample.noise"), m->counter, DRAW_SAMPLE_LANGEVIN,
    };

    want(m, STEP, ebm_assign(g, m->y, masked(m, cdrl_step(g, &step, &m->place, m->y, m->x), m->known)));
    want(m, STEP, m->tick);
    want(m, DESCEND, ebm_assign(g, m->x, cdrl_unscale(g, &m->place, m->y)));
}

static void build_end(struct cdrl_model *m)
{
    ebm_graph *g = m->g;
    struct cdrl_nets nets = networks(m, m->labels);
    double factor = recipe_number(m->site.recipe, "sample.denoise");
    ebm_val x = factor > 0 ? cdrl_denoise(g, cdrl_density, &nets, &m->place, m->x, factor) : m->x;

    want(m, END, ebm_assign(g, m->x, masked(m, x, m->of_image)));
}

static int take_settings(struct cdrl_model *m)
{
    struct recipe *recipe = m->site.recipe;
    const int64_t *image = m->site.image;
    size_t pixels = (size_t)(image[0] * image[1] * image[2]);
    int status;

    m->batch = m->shape[0] = recipe_integer(recipe, "sample.batch");
    memcpy(&m->shape[1], image, sizeof m->site.image);
    m->classes = recipe_integer(recipe, "cdrl.labels");
    m->steps = (int)recipe_integer(recipe, "sample.steps");
    if (m->steps == 0)
        m->steps = (int)recipe_integer(recipe, "langevin.steps");
    if ((status = batch_bytes(&m->site, "sample.batch", &m->bytes)) < 0)
        return status;
    m->picture = mem_new(m->site.ctx, pixels, sizeof *m->picture);
    m->mask = mem_new(m->site.ctx, (size_t)(image[0] * image[1]), sizeof *m->mask);
    if (!m->picture || !m->mask)
        return EBM_ERR_NOMEM;
    if ((status = cdrl_schedule_of(&m->site, &m->schedule)) < 0)
        return status;
    if (recipe_integer(recipe, "sample.level") >= m->schedule.levels)
        return ebm_fail(m->site.ctx, EBM_ERR_ARG, "sample.level = %lld: the levels are 0 to %d",
                        (long long)recipe_integer(recipe, "sample.level"), m->schedule.levels - 1);
    return check_labels(m);
}

int cdrl_model_build(const struct method_site *site, void **state)
{
    struct cdrl_model *m = mem_new(site->ctx, 1, sizeof *m);
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    if ((status = take_settings(m)) < 0 || (status = ebm_graph_new(site->store, &m->g)) < 0)
        return status;
    make_leaves(m);
    build_energy(m);
    build_start(m);
    build_propose(m);
    build_steps(m);
    build_end(m);
    return ebm_graph_status(m->g);
}

/* ---- running ---- */

/* Tell a program the constants of a level. */
static int set_level(struct cdrl_model *m, int program, int64_t level)
{
    float constants[LEVEL_CONSTANTS];

    for (int k = 0; k < LEVEL_CONSTANTS; k++)
        constants[k] = (float)m->schedule.of[level][k];
    return ebm_program_set(m->programs[program].program, "level", constants, sizeof constants);
}

int cdrl_model_compile(void *state)
{
    struct cdrl_model *m = state;

    return programs_compile(m->g, m->programs, PROGRAMS, program_names);
}

int cdrl_model_energy(void *state, const float *images, float *energies)
{
    struct cdrl_model *m = state;
    ebm_program *p = m->programs[ENERGY].program;
    int status;

    if ((status = set_level(m, ENERGY, recipe_integer(m->site.recipe, "sample.level"))) < 0
        || (status = ebm_program_set(p, "images", images, m->bytes)) < 0
        || (status = ebm_program_run(p, 1)) < 0)
        return status;
    return ebm_program_get(p, m->energies, energies, (size_t)m->batch * sizeof *energies);
}

int cdrl_model_stages(const void *state)
{
    return ((const struct cdrl_model *)state)->schedule.levels + 1;
}

/* What is given of the picture, if anything is. */
static int give_picture(struct cdrl_model *m, const struct method_draw *draw)
{
    static const int told[] = { PROPOSE, STEP, END };
    size_t area = (size_t)(m->shape[1] * m->shape[2]), channels = (size_t)m->shape[3];
    int status = EBM_OK;

    for (size_t i = 0; i < area; i++)
        m->mask[i] = !draw->picture || draw->mask[i] != 0;
    for (size_t i = 0; i < area * channels; i++)
        m->picture[i] = draw->picture ? draw->picture[i] : 0;
    for (size_t i = 0; i < COUNT(told) && status >= 0; i++) {
        ebm_program *p = m->programs[told[i]].program;
        status = ebm_program_set(p, "mask", m->mask, area * sizeof *m->mask);
        if (status >= 0 && told[i] != STEP)
            status = ebm_program_set(p, "picture", m->picture, area * channels * sizeof *m->picture);
    }
    return status;
}

/* Steps between two calls of progress. */
enum { STRIDE = 16 };

static int run_steps(struct cdrl_model *m, int level, const struct method_draw *draw)
{
    double all = (double)m->steps * m->schedule.levels;
    int done = m->steps * (m->schedule.levels - 1 - level), status;

    for (int left = m->steps; left > 0; left -= STRIDE) {
        int times = left < STRIDE ? left : STRIDE;
        if ((status = ebm_program_run(m->programs[STEP].program, times)) < 0)
            return status;
        done += times;
        if (draw->progress && draw->progress(draw->user, done / all))
            return ebm_fail(m->site.ctx, EBM_ERR_STOPPED, "sampling was stopped");
    }
    return EBM_OK;
}

static int run_level(struct cdrl_model *m, int level, const struct method_draw *draw)
{
    static const int told[] = { PROPOSE, STEP, DESCEND };
    int status = EBM_OK;

    for (size_t i = 0; i < COUNT(told) && status >= 0; i++)
        status = set_level(m, told[i], level);
    if (status < 0
        || (status = ebm_program_run(m->programs[PROPOSE].program, 1)) < 0
        || (status = run_steps(m, level, draw)) < 0)
        return status;
    return ebm_program_run(m->programs[DESCEND].program, 1);
}

int cdrl_model_sample(void *state, const struct method_draw *draw, float *images)
{
    struct cdrl_model *m = state;
    size_t count = m->bytes / sizeof *draw->stages;
    int top = m->schedule.levels - 1, status;

    if ((status = counter_write(m->site.store, COUNTER, draw->seed, 0, draw->batch)) < 0
        || (status = give_picture(m, draw)) < 0
        || (status = ebm_program_run(m->programs[START].program, 1)) < 0)
        return status;
    for (int level = top; level >= 0; level--)
        if ((draw->stages && (status = ebm_store_read(m->site.store, CHAIN,
                 draw->stages + (size_t)(top - level) * count, m->bytes)) < 0)
            || (status = run_level(m, level, draw)) < 0)
            return status;
    if ((status = set_level(m, END, 0)) < 0
        || (status = ebm_program_run(m->programs[END].program, 1)) < 0
        || (status = ebm_store_read(m->site.store, CHAIN, images, m->bytes)) < 0)
        return status;
    if (draw->stages)
        memcpy(draw->stages + (size_t)(top + 1) * count, images, m->bytes);
    return EBM_OK;
}

void cdrl_model_free(void *state)
{
    struct cdrl_model *m = state;

    if (!m)
        return;
    programs_free(m->programs, PROGRAMS);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m->mask);
    mem_free(m->site.ctx, m->picture);
    mem_free(m->site.ctx, m);
}
