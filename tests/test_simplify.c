/* test_simplify.c - simplification changes no value.
 *
 * SPDX-License-Identifier: ISC
 *
 * Each graph is built twice from one seed, with and without simplification;
 * the oracle must find the same numbers in both.  This program's simplify()
 * stands before the library's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "random_graph.h"
#include "store.h"
#include "tap.h"

ebm_val simplify_real(ebm_graph *g, const struct node *n);

static bool off;

ebm_val simplify(ebm_graph *g, const struct node *n)
{
    return off ? 0 : simplify_real(g, n);
}

/* Folded constants are rounded to float32. */
static const double TOLERANCE = 1e-6;
enum { SEEDS = 300, OUTPUTS_MAX = RANDOM_OUTPUTS + 2 * TRIAL_INPUTS, CASES_MAX = 200 };

/* Values of a graph, one after the other. */
struct values {
    double *x;
    int64_t count;
    int nodes;               /* of the graph */
};

static struct values evaluate(struct trial *t, int n, const ebm_val *outputs)
{
    struct values v = { NULL, 0, t->g->count };
    struct oracle *o = trial_oracle(t);
    double r[7 * 3 * 3 * 7], s[2 * 6 * 5 * 7];
    uint64_t random = 5;

    if (t->g->status < 0) {
        tap_note("%s", ebm_message(t->ctx));
        oracle_free(o);
        return v;
    }
    for (size_t i = 0; i < COUNT(r); i++)
        r[i] = draw_between(&random, -0.2, 0.2);
    for (size_t i = 0; i < COUNT(s); i++)
        s[i] = draw_between(&random, -1, 1);
    for (int i = 0; i < t->store->count; i++)
        if (strcmp(t->store->tensors[i].name, "counter") != 0)
            oracle_slot(o, i, t->store->tensors[i].region ? r : s);
    for (int i = 0; i < n; i++) {
        int64_t count = shape_count(&node_of(t->g, outputs[i])->shape);
        const double *x = oracle_value(o, outputs[i]);
        v.x = realloc(v.x, (size_t)(v.count + count) * sizeof *v.x);
        memcpy(v.x + v.count, x, (size_t)count * sizeof *x);
        v.count += count;
    }
    oracle_free(o);
    return v;
}

static int with_gradients(struct trial *t, int n, ebm_val *outputs)
{
    ebm_val x[TRIAL_INPUTS], y = outputs[0];
    int n_x = 0;

    for (int k = 0; k < t->n_in && n_x < 4; k++)
        if (t->in[k].type == EBM_F32)
            x[n_x++] = t->in[k].val;
    if (n_x == 0 || node_of(t->g, y)->type != EBM_F32)
        return n;
    ebm_gradients(t->g, ebm_sum_all(t->g, ebm_square(t->g, y)), n_x, x, outputs + n);
    ebm_gradients(t->g, ebm_sum_all(t->g, ebm_square(t->g, outputs[n])), n_x, x, outputs + n + n_x);
    return n + 2 * n_x;
}

/* The gradient of what depends on a value by both sides of a choice, and by `more`. */
static ebm_val choice_gradient(struct trial *t, bool more)
{
    const int64_t shape[] = { 3, 4, 5 };
    ebm_val x = trial_input(t, EBM_F32, 3, shape, -1, 1);
    ebm_val w = trial_input(t, EBM_F32, 3, shape, -1, 1);
    ebm_val y = ebm_leaky_relu(t->g, x, 0.2), dx;

    if (more)
        y = ebm_add(t->g, ebm_square(t->g, x), y);
    ebm_gradients(t->g, ebm_sum_all(t->g, ebm_mul(t->g, y, w)), 1, &x, &dx);
    return dx;
}

/* Whether there is one choice left, with the numbers of two. */
static bool choices_merge(ebm_store *store, bool more)
{
    double x[2][3 * 4 * 5];
    bool one = false;

    for (int k = 0; k < 2; k++) {
        struct trial t;
        off = k;
        trial_open(&t, store, 7);
        ebm_val dx = choice_gradient(&t, more);
        const struct node *n = node_of(t.g, dx);
        struct oracle *o = trial_oracle(&t);
        memcpy(x[k], oracle_value(o, dx), sizeof x[k]);
        oracle_free(o);
        if (!off)
            one = n->op == OP_SELECT
                || (n->op == OP_ADD && (node_of(t.g, n->in[0])->op == OP_SELECT)
                                       != (node_of(t.g, n->in[1])->op == OP_SELECT));
        trial_close(&t);
    }
    for (size_t i = 0; i < COUNT(x[0]); i++)
        one &= fabs(x[0][i] - x[1][i]) <= TOLERANCE;
    return one;
}

/* The sum of x is taken, and so is that of t = (x - m) f + w k. */
static bool sum_splits(ebm_store *store, bool varies)
{
    const int64_t shape[] = { 3, 4, 5 }, few[] = { 3, 1, 5 }, row[] = { 3, 4, 1 };
    double s[2][3 * 5];
    bool good = true;

    for (int k = 0; k < 2; k++) {
        struct trial t;
        off = k;
        trial_open(&t, store, 8);
        ebm_val x = trial_input(&t, EBM_F32, 3, shape, -1, 1), w = trial_input(&t, EBM_F32, 3, shape, -1, 1);
        ebm_val f = trial_input(&t, EBM_F32, 3, varies ? row : few, -1, 1), m = ebm_mean(t.g, x, 2);
        ebm_val factor = trial_input(&t, EBM_F32, 3, few, -1, 1);
        ebm_val sum = ebm_sum(t.g, ebm_add(t.g, ebm_mul(t.g, ebm_sub(t.g, x, m), f), ebm_mul(t.g, w, factor)), 2);
        struct oracle *o = trial_oracle(&t);
        memcpy(s[k], oracle_value(o, sum), sizeof s[k]);
        oracle_free(o);
        good &= (node_of(t.g, sum)->op == OP_SUM) == (off || varies);
        trial_close(&t);
    }
    for (size_t i = 0; i < COUNT(s[0]); i++)
        good &= fabs(s[0][i] - s[1][i]) <= TOLERANCE;
    return good;
}

/* What a claim is about: case i of an operation, or a random graph. */
static bool build(struct trial *t, enum op op, int i, struct values *v)
{
    ebm_val outputs[OUTPUTS_MAX];
    int n = 1;

    if (op == OP_NONE) {
        n = random_graph(t, i % 2, outputs);
    } else if ((outputs[0] = case_build(t, op, i)) == NO_CASE) {
        return false;
    }
    if (op == OP_NONE ? i % 2 : op != OP_UPDATE && op_info[op].class != EFFECT)
        n = with_gradients(t, n, outputs);
    *v = evaluate(t, n, outputs);
    return true;
}

/* The difference of case i, or -1 past the last. */
static double difference(struct ebm_backend *nothing, enum op op, int i, int nodes[2])
{
    struct values v[2] = { { NULL, 0, 0 }, { NULL, 0, 0 } };
    double worst = 0;
    bool past = false;

    for (int k = 0; k < 2 && !past; k++) {
        struct trial t;
        ebm_store *store;
        if (ebm_store_new(nothing, &store) < 0)
            exit(99);
        off = k;
        trial_open(&t, store, 1000 * (uint64_t)op + (uint64_t)i);
        past = !build(&t, op, i, &v[k]);
        trial_close(&t);
        ebm_store_free(store);
        nodes[k] += v[k].nodes;
    }
    if (!past && (!v[0].x || v[0].count != v[1].count))
        worst = NAN;
    for (int64_t j = 0; j < v[0].count && !isnan(worst); j++) {
        double e = v[0].x[j] == v[1].x[j] ? 0 : fabs(v[0].x[j] - v[1].x[j]) / (1 + fabs(v[1].x[j]));
        worst = e <= worst ? worst : e;
    }
    free(v[0].x);
    free(v[1].x);
    return past ? -1 : worst;
}

int main(void)
{
    ebm_context *ctx;
    struct ebm_backend nothing = { .v = NULL };

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    nothing.ctx = ctx;
    for (enum op op = OP_NONE; op < OP_COUNT; op++) {
        int cases = op == OP_NONE ? SEEDS : CASES_MAX, nodes[2] = { 0, 0 }, i;
        double worst = 0, d = 0;
        for (i = 0; i < cases && (d = difference(&nothing, op, i, nodes)) != -1; i++) {
            if (!(d <= TOLERANCE))
                tap_note("%s, case %d: %.1e", op_info[op].name, i, d);
            worst = d <= worst || isnan(worst) ? worst : d;
        }
        tap_ok(worst <= TOLERANCE, "%s: simplified or not, the same values (worst %.1e); "
               "%d of %d nodes are left", op == OP_NONE ? "random graphs" : op_info[op].name, worst,
               nodes[0], nodes[1]);
    }
    for (int more = 0; more < 2; more++) {
        ebm_store *store;
        if (ebm_store_new(&nothing, &store) < 0)
            return 99;
        tap_ok(choices_merge(store, more), "the gradient of a leaky ReLU%s is one choice",
               more ? " and of more" : "");
        ebm_store_free(store);
    }
    for (int varies = 0; varies < 2; varies++) {
        ebm_store *store;
        if (ebm_store_new(&nothing, &store) < 0)
            return 99;
        tap_ok(sum_splits(store, varies), "a sum known in part is %s",
               varies ? "taken where a factor varies" : "that of the other part, and what is known");
        ebm_store_free(store);
    }
    ebm_context_free(ctx);
    return tap_done();
}
