/* optimise.c - Adam, AdamW, SGD and moving averages, over a region at once.
 *
 * SPDX-License-Identifier: ISC
 *
 * The parameters of a region are one vector, so everything here is elementwise
 * on vectors of its length; formulas and letters are those of ebm.h.
 *
 * 1 - b^t, the bias correction, needs care in single precision: near t = 1 the
 * difference cancels (b = 0.999 loses 4 digits, and the rounding of b itself
 * as many), and products b b b ... drift.  With a = -t ln b, ln b taken in
 * double, it is 1 - e^-a: a has a relative error of 1e-7 whatever t is, and the
 * function does not enlarge it.  Below a = 1/2 its series is used, where the
 * difference would cancel. */
#include <math.h>
#include <stdio.h>
#include "graph.h"

enum { STATE_NAME = 256 };

/* 1 - e^-a for a >= 0. */
static ebm_val one_minus_exp(ebm_graph *g, ebm_val a)
{
    enum { TERMS = 9 };          /* 0.5^9 / 10! is below 1e-9 */
    ebm_val series = ebm_const(g, 1);

    /* a (1 - a/2 (1 - a/3 (1 - ...))) */
    for (int i = TERMS; i > 1; i--)
        series = ebm_offset(g, ebm_neg(g, ebm_scale(g, ebm_mul(g, a, series), 1.0 / i)), 1);
    series = ebm_mul(g, a, series);

    ebm_val plain = ebm_sub(g, ebm_const(g, 1), ebm_exp(g, ebm_neg(g, a)));
    return ebm_select(g, ebm_less(g, a, ebm_const(g, 0.5)), series, plain);
}

/* 1 - beta^t */
static ebm_val correction(ebm_graph *g, double beta, ebm_val t)
{
    if (beta == 0)
        return ebm_const(g, 1);
    return one_minus_exp(g, ebm_scale(g, t, -log(beta)));
}

static ebm_val state_of(ebm_graph *g, const char *region, const char *suffix, ebm_val like)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    char name[STATE_NAME];
    int64_t n[EBM_MAX_RANK] = { 0 };
    int rank = like ? ebm_shape(g, like, n) : 0;
    int length = snprintf(name, sizeof name, "%s.%s", region, suffix);

    if (g->status < 0)
        return 0;
    if (length < 0 || length >= STATE_NAME)
        return graph_fail(g, EBM_ERR_ARG, "the region's name '%s' is too long", region);
    return ebm_state(g, name, EBM_F32, rank, n, zero);
}

ebm_val ebm_steps(ebm_graph *g, const char *region)
{
    return state_of(g, region, "step", 0);
}

ebm_val ebm_average(ebm_graph *g, const char *region)
{
    return state_of(g, region, "ema", ebm_region(g, region));
}

ebm_optimiser ebm_adam_defaults(double rate)
{
    ebm_optimiser o = { .kind = EBM_ADAM, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8 };

    o.lr.rate = rate;
    return o;
}

ebm_optimiser ebm_keras_adam_defaults(double rate)
{
    ebm_optimiser o = ebm_adam_defaults(rate);

    o.epsilon = 1e-7;
    o.epsilon_hat = true;
    return o;
}

ebm_optimiser ebm_sgd_defaults(double rate, double momentum)
{
    ebm_optimiser o = { .kind = EBM_SGD, .momentum = momentum };

    o.lr.rate = rate;
    return o;
}

/* One step being built. */
struct step {
    ebm_graph *g;
    const char *region;
    const ebm_optimiser *o;
    ebm_val lr, t;               /* t = 1 in the first step */
    ebm_val enable;              /* 0: always */
    ebm_outputs *outputs;
};

/* state := a, or what it was in a skipped step; returns the new content. */
static ebm_val move(const struct step *s, ebm_val state, ebm_val a)
{
    if (s->enable)
        a = ebm_select(s->g, s->enable, a, state);
    ebm_output(s->g, s->outputs, ebm_assign(s->g, state, a));
    return a;
}

/* from + part (to - from) */
static ebm_val toward(ebm_graph *g, ebm_val from, ebm_val to, double part)
{
    return ebm_add(g, from, ebm_scale(g, ebm_sub(g, to, from), part));
}

static ebm_val adam(const struct step *s, ebm_val w, ebm_val d)
{
    ebm_graph *g = s->g;
    const ebm_optimiser *o = s->o;
    ebm_val m = state_of(g, s->region, "m", w), v = state_of(g, s->region, "v", w);
    ebm_val c1 = correction(g, o->beta1, s->t), c2 = correction(g, o->beta2, s->t);
    ebm_val root, rate;

    ebm_val m1 = o->beta1 == 0 ? d : toward(g, m, d, 1 - o->beta1);
    ebm_val v1 = ebm_add(g, ebm_scale(g, v, o->beta2), ebm_scale(g, ebm_square(g, d), 1 - o->beta2));
    if (o->epsilon_hat) {
        root = ebm_sqrt(g, v1);
        rate = ebm_div(g, ebm_mul(g, s->lr, ebm_sqrt(g, c2)), c1);
    } else {
        root = ebm_mul(g, ebm_sqrt(g, v1), ebm_div(g, ebm_const(g, 1), ebm_sqrt(g, c2)));
        rate = ebm_div(g, s->lr, c1);
    }
    move(s, m, m1);
    move(s, v, v1);
    return ebm_sub(g, w, ebm_mul(g, rate, ebm_div(g, m1, ebm_offset(g, root, o->epsilon))));
}

static ebm_val sgd(const struct step *s, ebm_val w, ebm_val d)
{
    ebm_graph *g = s->g;
    double momentum = s->o->momentum;

    if (momentum != 0) {
        ebm_val b = state_of(g, s->region, "momentum", w);
        ebm_val b1 = ebm_add(g, ebm_scale(g, b, momentum), d);

        move(s, b, b1);
        d = s->o->nesterov ? ebm_add(g, d, ebm_scale(g, b1, momentum)) : b1;
    }
    return ebm_sub(g, w, ebm_mul(g, s->lr, d));
}

/* The average starts from the weights before the first step, so that nothing
 * has to be copied when a run begins. */
static void average(const struct step *s, ebm_val before, ebm_val after)
{
    ebm_graph *g = s->g;
    ebm_val e = ebm_average(g, s->region), part = ebm_const(g, 1 - s->o->ema);

    if (s->o->ema_warmup) {      /* 1 - (1 + t) / (10 + t) = 9 / (10 + t) */
        ebm_val early = ebm_div(g, ebm_const(g, 9), ebm_offset(g, s->t, 10));
        part = ebm_max(g, part, early);
    }
    ebm_val from = ebm_select(g, ebm_less(g, s->t, ebm_const(g, 1.5)), before, e);
    ebm_val to = ebm_add(g, from, ebm_mul(g, part, ebm_sub(g, after, from)));
    move(s, e, to);
}

static bool possible(ebm_graph *g, const ebm_optimiser *o)
{
    bool adam_fits = o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1
                  && o->epsilon >= 0;

    if (g->status >= 0
        && (!adam_fits || !(o->ema >= 0 && o->ema < 1) || !(o->momentum >= 0 && o->momentum < 1)
            || !(o->weight_decay >= 0) || !(o->clip_norm >= 0) || !(o->clip_tensor >= 0)))
        graph_fail(g, EBM_ERR_ARG, "the optimiser is not possible: betas, momentum and average "
                   "lie in [0,1), epsilon, weight decay and limits are not negative");
    return g->status >= 0;
}

ebm_val ebm_optimise(ebm_graph *g, const char *region, ebm_val grad,
                     const ebm_optimiser *o, ebm_val enable, ebm_outputs *outputs)
{
    if (!possible(g, o))
        return 0;
    ebm_val n = ebm_steps(g, region), before = ebm_region(g, region), w = before, d = grad;
    struct step s = { .g = g, .region = region, .o = o, .enable = enable, .outputs = outputs };

    s.lr = ebm_schedule_at(g, n, &o->lr);
    s.t = ebm_offset(g, n, 1);
    if (o->clip_tensor > 0)
        d = ebm_clip_tensors(g, region, d, o->clip_tensor);
    if (o->clip_norm > 0)
        d = ebm_clip_norm(g, d, o->clip_norm);
    if (o->weight_decay > 0 && o->decoupled)
        w = ebm_mul(g, w, ebm_offset(g, ebm_scale(g, s.lr, -o->weight_decay), 1));
    else if (o->weight_decay > 0)
        d = ebm_add(g, d, ebm_scale(g, w, o->weight_decay));

    w = o->kind == EBM_ADAM ? adam(&s, w, d) : sgd(&s, w, d);
    if (o->ema > 0)
        average(&s, before, w);
    w = move(&s, before, w);
    move(&s, n, s.t);
    return w;
}
