/* cdrl.c - diffusion recovery likelihood, plain and cooperative.
 *
 * SPDX-License-Identifier: ISC
 *
 * A ladder of energies, each for one noise level: that of level t is learned from
 * pairs of states x_t and x_{t+1}, as the density of the former given the latter,
 * which is nearly Gaussian and easy to sample.  The cooperative form starts the
 * chains from what a second network, the initializer, proposes for x_t, and the
 * initializer learns to propose where they ended.
 *
 *   begin      levels by chance; images -> pairs; chains := proposals; spectral
 *              norm moves on
 *   langevin   chains := one step; run langevin.steps times
 *   update     loss -> gradient -> guard -> optimiser, of both networks
 *
 * Every image of a batch has its own level.  The initializer's loss is computed in
 * `update` from its inputs and the random counter that it had in `begin`, so that it
 * drops and draws the same again.
 *
 * Sources: Gao, Song, Poole, Wu and Kingma 2021; Zhu, Xie, Wu and Gao 2024. */
#include <string.h>
#include "cdrl_model.h"
#include "cdrl_settings.h"
#include "context.h"
#include "guard.h"
#include "programs.h"

static const struct key_table *const tables[] = {
    &cdrl_table, &cdrl_proposal_table, &optimiser_table, &cdrl_sample_table, NULL
};

/* Beyond the common: of the initializer. */
static const char *const more[] = { "proposal.loss", "proposal.gradient", "proposal.rate" };
enum { SHOWN_PROPOSAL = SHOWN_COMMON, SHOWN_PROPOSAL_GRADIENT, SHOWN_PROPOSAL_RATE };

/* What update fetches, in one vector. */
enum {
    F_LOSS, F_DATA, F_SAMPLES, F_GRADIENT, F_RATE, F_ACCEPTED, F_USUAL,
    F_PROPOSAL, F_PROPOSAL_GRADIENT, F_PROPOSAL_RATE, F_COUNT
};

enum { BEGIN, LANGEVIN, UPDATE, PROBE, PROGRAMS };
static const char *const program_names[] = { "begin", "langevin", "update", "probe" };

struct cdrl {
    struct method_site site;
    struct cdrl_schedule schedule;
    int64_t batch, classes;
    bool cooperative;
    int steps;
    size_t bytes;                        /* of a batch of images */
    ebm_optimiser optimiser, proposal_optimiser;
    ebm_graph *g;
    ebm_val fetched, noise_energy;
    struct program programs[PROGRAMS];

    /* Leaves. */
    int64_t shape[4];                    /* of a batch */
    ebm_val counter, tick, begun;        /* begun: the counter of the proposals */
    ebm_val level, labels;               /* [batch]; labels 0: none */
    ebm_val data, above, chains;         /* y of the data, x_{t+1}; chains: y, and
                                          * after the update x_t */
};

/* ---- graphs ---- */

static void make_leaves(struct cdrl *m)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    ebm_graph *g = m->g;

    m->counter = counter_state(g, METHOD_RNG);
    m->tick = ebm_assign(g, m->counter, ebm_tick(g, m->counter));
    if (m->cooperative)
        m->begun = counter_state(g, "proposals.rng");
    m->level = ebm_state(g, "level", EBM_F32, 1, &m->batch, zero);
    if (m->classes)
        m->labels = ebm_state(g, "labels", EBM_F32, 1, &m->batch, zero);
    m->data = ebm_state(g, "pair.below", EBM_F32, 4, m->shape, zero);
    m->above = ebm_state(g, "pair.above", EBM_F32, 4, m->shape, zero);
    m->chains = ebm_state(g, METHOD_CHAINS, EBM_F32, 4, m->shape, zero);
}

/* The networks, told the labels.  Their settings for training are the caller's. */
static struct cdrl_nets networks(struct cdrl *m, ebm_val labels)
{
    struct cdrl_nets nets = cdrl_nets_of(&m->site, m->g);

    if (labels) {
        nets.n_terms = 1;
        nets.terms[0] = (struct cdrl_term){ labels, 1 };
    }
    return nets;
}

static ebm_val draw_levels(struct cdrl *m)
{
    ebm_graph *g = m->g;
    double levels = m->schedule.levels;
    ebm_val u = ebm_uniform(g, m->counter, DRAW_LEVEL, 1, &m->batch);

    return ebm_min(g, ebm_floor(g, ebm_scale(g, u, levels)), ebm_const(g, levels - 1));
}

/* Classes 0, 1 ... become 1, 2 ...; some by chance 0, which tells none. */
static ebm_val draw_labels(struct cdrl *m)
{
    ebm_graph *g = m->g;
    double drop = recipe_number(m->site.recipe, "cdrl.label_drop");
    ebm_val labels = ebm_cast(g, ebm_feed(g, "labels", EBM_I32, 1, &m->batch), EBM_F32);
    ebm_val u = ebm_uniform(g, m->counter, DRAW_DROP, 1, &m->batch);

    return ebm_select(g, ebm_less(g, u, ebm_const(g, drop)), ebm_const(g, 0), ebm_offset(g, labels, 1));
}

/* What the initializer proposes for states above, with the draws of a counter. */
static ebm_val proposals(struct cdrl *m, struct cdrl_nets *nets, const struct cdrl_place *place,
                         ebm_val above, ebm_val counter)
{
    ebm_graph *g = m->g;

    nets->proposal.training = true;
    nets->proposal.counter = counter;
    return cdrl_propose(g, place, cdrl_mean(g, above, place, nets),
                        ebm_normal(g, counter, DRAW_PROPOSAL, 4, m->shape));
}

static void build_begin(struct cdrl *m)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[BEGIN].out;
    bool shared = strcmp(recipe_text(m->site.recipe, "cdrl.pair"), "shared") == 0;
    ebm_val next = ebm_tick(g, m->counter), level = draw_levels(m), labels = m->classes ? draw_labels(m) : 0;
    struct cdrl_place place = cdrl_place(g, &m->schedule, level);
    struct cdrl_nets nets = networks(m, labels);
    ebm_val noise = ebm_normal(g, m->counter, DRAW_NOISE, 4, m->shape);
    ebm_val again = shared ? 0 : ebm_normal(g, m->counter, DRAW_AGAIN, 4, m->shape);
    struct cdrl_pair pair = cdrl_pair(g, &place, ebm_feed(g, "data", EBM_F32, 4, m->shape), noise, again);

    if (cdrl_frozen_norm(m->site.recipe)) {      /* its effects alone are computed */
        nets.energy.training = true;
        nets.energy.effects = out;
        cdrl_density(g, pair.below, &place, &nets);
    }
    ebm_output(g, out, ebm_assign(g, m->level, level));
    if (labels)
        ebm_output(g, out, ebm_assign(g, m->labels, labels));
    ebm_output(g, out, ebm_assign(g, m->data, ebm_mul(g, cdrl_beside(g, place.of[LEVEL_SCALE], pair.below),
                                                      pair.below)));
    ebm_output(g, out, ebm_assign(g, m->above, pair.above));
    ebm_output(g, out, ebm_assign(g, m->chains, m->cooperative
        ? proposals(m, &nets, &place, pair.above, next) : pair.above));
    if (m->cooperative)
        ebm_output(g, out, ebm_assign(g, m->begun, next));
    ebm_output(g, out, m->tick);
}

static void build_langevin(struct cdrl *m)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[LANGEVIN].out;
    struct cdrl_place place = cdrl_place(g, &m->schedule, m->level);
    struct cdrl_nets nets = networks(m, m->labels);
    const struct cdrl_step step = { cdrl_density, &nets, 1, 1, m->counter, DRAW_LANGEVIN };

    if (!cdrl_frozen_norm(m->site.recipe))
        nets.energy.effects = out;
    ebm_output(g, out, ebm_assign(g, m->chains, cdrl_step(g, &step, &place, m->chains, m->above)));
    ebm_output(g, out, m->tick);
}

/* Averages are of the vectors of spectral norm too, as in the code of Gao et al.: the
 * part of the way that those of the weights go in this update, or 0. */
static ebm_val part_of_average(struct cdrl *m)
{
    ebm_graph *g = m->g;
    ebm_val part = ebm_const(g, 1 - m->optimiser.ema);

    if (m->optimiser.ema == 0)
        return 0;
    if (m->optimiser.ema_warmup)      /* 1 - (1 + t) / (10 + t) of t = steps + 1 */
        part = ebm_max(g, part, ebm_div(g, ebm_const(g, 9), ebm_offset(g, ebm_steps(g, "energy"), 11)));
    return part;
}

/* N of the data and of the chains.  One pass for both, unless spectral norm moves
 * on between them. */
static void both_densities(struct cdrl *m, const struct cdrl_place *place, ebm_val n[2])
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[UPDATE].out;

    if (!cdrl_frozen_norm(m->site.recipe)) {
        struct cdrl_nets first = networks(m, m->labels), second = first;
        second.energy.effects = out;
        second.energy_spec.calls = 2;
        second.energy_spec.average = part_of_average(m);
        second.energy_spec.steps = ebm_steps(g, "energy");
        n[0] = cdrl_density(g, m->data, place, &first);
        n[1] = cdrl_density(g, m->chains, place, &second);
        return;
    }
    ebm_val labels = m->labels ? ebm_concat(g, 0, 2, (ebm_val[]){ m->labels, m->labels }) : 0;
    struct cdrl_nets nets = networks(m, labels);
    struct cdrl_place twice;
    for (int k = 0; k < LEVEL_CONSTANTS; k++)
        twice.of[k] = ebm_concat(g, 0, 2, (ebm_val[]){ place->of[k], place->of[k] });
    ebm_val all = cdrl_density(g, ebm_concat(g, 0, 2, (ebm_val[]){ m->data, m->chains }), &twice, &nets);
    for (int64_t i = 0; i < 2; i++)
        n[i] = ebm_slice(g, all, &(int64_t){ i * m->batch }, &m->batch, NULL);
}

/* The initializer's part of an update, and its numbers. */
static void update_proposal(struct cdrl *m, ebm_val loss, ebm_val grad,
                            ebm_val enable, ebm_val numbers[F_COUNT])
{
    ebm_graph *g = m->g;

    ebm_optimise(g, "proposal", grad, &m->proposal_optimiser, enable, &m->programs[UPDATE].out);
    numbers[F_PROPOSAL] = loss;
    numbers[F_PROPOSAL_GRADIENT] = ebm_norm(g, grad);
    numbers[F_PROPOSAL_RATE] = ebm_schedule_at(g, ebm_steps(g, "proposal"), &m->proposal_optimiser.lr);
}

static void build_update(struct cdrl *m)
{
    ebm_graph *g = m->g;
    ebm_outputs *out = &m->programs[UPDATE].out;
    struct cdrl_place place = cdrl_place(g, &m->schedule, m->level);
    ebm_val n[2], usual, proposal_loss = 0, proposal_grad = 0;

    both_densities(m, &place, n);
    struct cdrl_loss l = cdrl_loss(g, &place, n[0], n[1]);
    ebm_val grad = ebm_grad_region(g, l.loss, "energy"), norm = ebm_norm(g, grad);
    struct guard_view view = { .loss = l.loss, .gap = ebm_sub(g, l.data, l.samples), .gradient = norm };
    if (m->cooperative) {
        struct cdrl_nets nets = networks(m, m->labels);
        proposal_loss = cdrl_proposal_loss(g, proposals(m, &nets, &place, m->above, m->begun), m->chains);
        proposal_grad = ebm_grad_region(g, proposal_loss, "proposal");
        view.others = ebm_norm(g, proposal_grad);
    }
    ebm_val enable = guard_enable(g, m->site.recipe, &view, &usual, out);
    ebm_val numbers[F_COUNT] = {
        [F_LOSS] = l.loss, [F_DATA] = l.data, [F_SAMPLES] = l.samples, [F_GRADIENT] = norm,
        [F_RATE] = ebm_schedule_at(g, ebm_steps(g, "energy"), &m->optimiser.lr),
        [F_ACCEPTED] = enable, [F_USUAL] = usual,
    };
    ebm_optimise(g, "energy", grad, &m->optimiser, enable, out);
    if (m->cooperative)
        update_proposal(m, proposal_loss, proposal_grad, enable, numbers);
    ebm_output(g, out, ebm_assign(g, m->chains, cdrl_unscale(g, &place, m->chains)));
    ebm_output(g, out, m->tick);
    for (int i = 0; i < F_COUNT; i++)
        numbers[i] = ebm_reshape(g, numbers[i] ? numbers[i] : ebm_const(g, 0), 1, (const int64_t[]){ 1 });
    m->fetched = ebm_concat(g, 0, F_COUNT, numbers);
    ebm_output(g, out, m->fetched);
}

/* The energy of noise, as the top level sees it. */
static void build_probe(struct cdrl *m)
{
    ebm_graph *g = m->g;
    ebm_val top = ebm_fill(g, m->level, m->schedule.levels - 1);
    struct cdrl_place place = cdrl_place(g, &m->schedule, top);
    struct cdrl_nets nets = networks(m, m->labels);
    ebm_val x = ebm_normal(g, m->counter, DRAW_PROBE, 4, m->shape);

    m->noise_energy = ebm_neg(g, ebm_mean_all(g, cdrl_density(g, x, &place, &nets)));
    ebm_output(g, &m->programs[PROBE].out, m->noise_energy);
}

static int take_optimisers(struct cdrl *m)
{
    struct recipe *recipe = m->site.recipe;
    int status = optimiser_of(m->site.ctx, recipe, &m->optimiser);

    m->optimiser.lr.warmup_offset = recipe_number(recipe, "cdrl.rate_from");
    m->proposal_optimiser = m->optimiser;
    m->proposal_optimiser.lr.rate = recipe_number(recipe, "proposal.rate");
    m->proposal_optimiser.lr.warmup = recipe_number(recipe, "proposal.warmup");
    m->proposal_optimiser.lr.warmup_offset = recipe_number(recipe, "proposal.rate_from");
    m->proposal_optimiser.clip_norm = recipe_number(recipe, "proposal.clip");
    return status;
}

static int train_build(const struct method_site *site, void **state)
{
    struct recipe *recipe = site->recipe;
    struct cdrl *m = mem_new(site->ctx, 1, sizeof *m);
    int status;

    *state = m;
    if (!m)
        return EBM_ERR_NOMEM;
    m->site = *site;
    m->batch = m->shape[0] = recipe_integer(recipe, "batch");
    memcpy(&m->shape[1], site->image, sizeof site->image);
    m->classes = recipe_integer(recipe, "cdrl.labels");
    m->cooperative = cdrl_cooperative(recipe);
    m->steps = (int)recipe_integer(recipe, "langevin.steps");
    if (m->classes && (site->classes < 1 || site->classes > m->classes))
        return ebm_fail(site->ctx, EBM_ERR_ARG, "cdrl.labels = %lld, and the data have %d classes",
                        (long long)m->classes, site->classes);
    if ((status = batch_bytes(site, "batch", &m->bytes)) < 0
        || (status = cdrl_schedule_of(site, &m->schedule)) < 0
        || (status = take_optimisers(m)) < 0
        || (status = ebm_graph_new(site->store, &m->g)) < 0)
        return status;
    make_leaves(m);
    build_begin(m);
    build_langevin(m);
    build_update(m);
    build_probe(m);
    return ebm_graph_status(m->g);
}

/* ---- running ---- */

static int train_compile(void *state)
{
    struct cdrl *m = state;

    return programs_compile(m->g, m->programs, PROGRAMS, program_names);
}

static int give_batch(struct cdrl *m, const struct batch_source *source)
{
    ebm_program *begin = m->programs[BEGIN].program;
    const float *images;
    const int32_t *labels = NULL;
    int status;

    if ((status = source->next(source->user, &images, m->classes ? &labels : NULL)) < 0
        || (status = ebm_program_set(begin, "data", images, m->bytes)) < 0)
        return status;
    return m->classes ? ebm_program_set(begin, "labels", labels, (size_t)m->batch * sizeof *labels) : EBM_OK;
}

static int run_probe(struct cdrl *m, double *energy)
{
    ebm_program *p = m->programs[PROBE].program;
    float e;
    int status;

    if ((status = ebm_program_run(p, 1)) < 0
        || (status = ebm_program_get(p, m->noise_energy, &e, sizeof e)) < 0)
        return status;
    *energy = e;
    return EBM_OK;
}

static int train_step(void *state, const struct batch_source *source, bool probe,
                      struct method_shown *shown)
{
    static const struct { int shown, fetched; } what[] = {
        { SHOWN_LOSS, F_LOSS }, { SHOWN_DATA, F_DATA }, { SHOWN_SAMPLES, F_SAMPLES },
        { SHOWN_GRADIENT, F_GRADIENT }, { SHOWN_RATE, F_RATE }, { SHOWN_PROPOSAL, F_PROPOSAL },
        { SHOWN_PROPOSAL_GRADIENT, F_PROPOSAL_GRADIENT }, { SHOWN_PROPOSAL_RATE, F_PROPOSAL_RATE },
    };
    struct cdrl *m = state;
    ebm_program *update = m->programs[UPDATE].program;
    float f[F_COUNT];
    int status;

    if ((status = give_batch(m, source)) < 0
        || (status = ebm_program_run(m->programs[BEGIN].program, 1)) < 0
        || (probe && (status = run_probe(m, &shown->values[SHOWN_NOISE])) < 0)
        || (status = ebm_program_run(m->programs[LANGEVIN].program, m->steps)) < 0
        || (status = ebm_program_run(update, 1)) < 0
        || (status = ebm_program_get(update, m->fetched, f, sizeof f)) < 0)
        return status;
    for (size_t i = 0; i < COUNT(what); i++)
        if (m->cooperative || what[i].shown < SHOWN_PROPOSAL)
            shown->values[what[i].shown] = f[what[i].fetched];
    shown->accepted = f[F_ACCEPTED] != 0;
    shown->usual_gradient = f[F_USUAL];
    return EBM_OK;
}

static double train_work(const void *state)
{
    const struct cdrl *m = state;
    const double times[PROGRAMS] = { [BEGIN] = 1, [LANGEVIN] = m->steps, [UPDATE] = 1 };

    return programs_work(m->g, m->programs, PROGRAMS, times);
}

static void train_free(void *state)
{
    struct cdrl *m = state;

    if (!m)
        return;
    programs_free(m->programs, PROGRAMS);
    ebm_graph_free(m->g);
    mem_free(m->site.ctx, m);
}

const struct method method_cdrl = {
    .name = "cdrl",
    .summary = "diffusion recovery likelihood: an energy for each noise level",
    .tables = tables, .more = more, .n_more = COUNT(more),
    .train_build = train_build, .train_compile = train_compile, .train_step = train_step,
    .train_work = train_work, .train_free = train_free,
    .model_build = cdrl_model_build, .model_compile = cdrl_model_compile,
    .model_energy = cdrl_model_energy, .model_sample = cdrl_model_sample,
    .model_stages = cdrl_model_stages, .model_free = cdrl_model_free,
};
