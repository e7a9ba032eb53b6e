/* test_grad.c - every gradient rule against finite differences.
 *
 * SPDX-License-Identifier: ISC
 *
 * Around each case y(x) of an operation stand two losses:
 *
 *   first    L = sum w y(x)                  w a random feed
 *   second   M = sum u dL/dx (x, w)          u random feeds, one per x
 *
 * The gradients of L by x, and of M by x and w, evaluated by the oracle, must
 * agree with the slope of L and M along random directions: differences of
 * fourth order with step h have an error of h^4, far below the tolerance. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "cases.h"
#include "tap.h"

static const double H = 2e-5, TOLERANCE = 1e-7;
enum { DIRECTIONS = 3, CASES_MAX = 200 };

/* Cases of larger inputs are for backends; a rule shows in the smaller ones. */
enum { ELEMENTS_MAX = 5000 };

static const char *const rule[OP_COUNT] = {
#define OP(name, operands, class, gradient, meaning) [OP_##name] = #gradient,
#include "ops.def"
#undef OP
};

static int64_t count_of(const struct trial *t, ebm_val a)
{
    return shape_count(&node_of(t->g, a)->shape);
}

/* A random feed shaped like a value. */
static ebm_val weights(struct trial *t, ebm_val like)
{
    struct shape s = node_of(t->g, like)->shape;

    return trial_input(t, EBM_F32, s.rank, s.n, -1, 1);
}

/* The loss with input k moved by `by` along direction. */
static double moved(struct oracle *o, struct trial_input *in, const double *direction,
                    double by, ebm_val loss)
{
    for (int64_t i = 0; i < in->count; i++)
        in->data[i] += by * direction[i];
    oracle_forget(o);
    double y = oracle_value(o, loss)[0];
    for (int64_t i = 0; i < in->count; i++)
        in->data[i] -= by * direction[i];
    return y;
}

/* The larger error; NaN is the largest. */
static double worse(double a, double b)
{
    return b <= a || isnan(a) ? a : b;
}

/* The largest relative difference between the slope of the loss by input k and
 * its gradient. */
static double disagreement(struct trial *t, ebm_val loss, int k, ebm_val gradient)
{
    struct trial_input *in = &t->in[k];
    struct oracle *o = trial_oracle(t);
    double *v = calloc((size_t)in->count, sizeof *v), worst = 0;

    for (int d = 0; d < DIRECTIONS; d++) {
        for (int64_t i = 0; i < in->count; i++)
            v[i] = draw_bits(&t->random) & 1 ? 1 : -1;
        double slope = (8 * (moved(o, in, v, H, loss) - moved(o, in, v, -H, loss))
                        - (moved(o, in, v, 2 * H, loss) - moved(o, in, v, -2 * H, loss)))
                     / (12 * H);
        oracle_forget(o);
        const double *dx = oracle_value(o, gradient);
        double sum = 0, scale = 1;
        for (int64_t i = 0; i < in->count; i++) {
            sum += dx[i] * v[i];
            scale += fabs(dx[i]);
        }
        double error = fabs(slope - sum) / scale;
        worst = worse(worst, error);
    }
    free(v);
    oracle_free(o);
    return worst;
}

static bool all_zero(struct trial *t, ebm_val a)
{
    struct oracle *o = trial_oracle(t);
    const double *x = oracle_value(o, a);
    bool zero = true;

    for (int64_t i = 0; i < count_of(t, a); i++)
        zero &= x[i] == 0;
    oracle_free(o);
    return zero;
}

/* What became of one case. */
struct verdict {
    double first, second;    /* disagreement */
    bool covered;            /* the operation itself is in the graph */
    bool zeros;              /* its gradients are zero */
};

static bool contains(const ebm_graph *g, enum op op)
{
    for (ebm_val a = 1; a < g->count; a++)
        if (node_of(g, a)->op == op)
            return true;
    return false;
}

static bool is_large(const struct trial *t)
{
    for (int k = 0; k < t->n_in; k++)
        if (t->in[k].count > ELEMENTS_MAX)
            return true;
    return false;
}

static struct verdict examine(struct trial *t, enum op op, ebm_val y)
{
    struct verdict v = { 0, 0, contains(t->g, op), true };
    ebm_val x[TRIAL_INPUTS], dx[TRIAL_INPUTS], loss, second;
    int of[TRIAL_INPUTS], n = 0;

    for (int k = 0; k < t->n_in; k++)
        if (t->in[k].type == EBM_F32)
            x[n] = t->in[k].val, of[n++] = k;
    if (node_of(t->g, y)->type != EBM_F32)
        y = ebm_cast(t->g, y, EBM_F32);
    int w = t->n_in;
    loss = ebm_sum_all(t->g, ebm_mul(t->g, y, weights(t, y)));
    ebm_gradients(t->g, loss, n, x, dx);
    if (t->g->status < 0)
        return v;
    for (int i = 0; i < n; i++) {
        v.zeros &= all_zero(t, dx[i]);
        if (strcmp(rule[op], "zero") != 0 || op == OP_FEED)
            v.first = worse(v.first, disagreement(t, loss, of[i], dx[i]));
    }
    if (strcmp(rule[op], "zero") == 0 || n == 0)
        return v;

    second = ebm_const(t->g, 0);
    for (int i = 0; i < n; i++)
        second = ebm_add(t->g, second, ebm_sum_all(t->g, ebm_mul(t->g, dx[i], weights(t, dx[i]))));
    x[n] = t->in[w].val, of[n++] = w;
    ebm_gradients(t->g, second, n, x, dx);
    for (int i = 0; i < n && t->g->status >= 0; i++)
        v.second = worse(v.second, disagreement(t, second, of[i], dx[i]));
    return v;
}

static void test_rule(ebm_store *store, enum op op)
{
    const char *name = op_info[op].name;
    bool none = strcmp(rule[op], "none") == 0;
    bool zero = strcmp(rule[op], "zero") == 0 && op != OP_FEED;   /* a feed is x itself */
    bool covered = false, zeros = true, clean = true, refused = true;
    double first = 0, second = 0;
    int i;

    for (i = 0; i < CASES_MAX; i++) {
        struct trial t;
        trial_open(&t, store, 1000 * (uint64_t)op + (uint64_t)i);
        ebm_val y = case_build(&t, op, i);
        if (y == NO_CASE) {
            trial_close(&t);
            break;
        }
        if (is_large(&t)) {
            trial_close(&t);
            continue;
        }
        struct verdict v = { 0, 0, false, false };
        if (y)
            v = examine(&t, op, y);
        if (none) {
            refused &= t.g->status == EBM_ERR_ARG && strstr(ebm_message(t.ctx), name);
        } else if (t.g->status < 0) {
            tap_note("%s, case %d: %s", name, i, ebm_message(t.ctx));
            clean = false;
        } else if (!(v.first <= TOLERANCE) || !(v.second <= TOLERANCE) || (zero && !v.zeros)) {
            tap_note("%s, case %d: first order %.1e, second %.1e%s", name, i, v.first, v.second,
                     zero ? ", should be zero" : "");
        }
        first = worse(first, v.first);
        second = worse(second, v.second);
        covered |= v.covered;
        zeros &= v.zeros;
        trial_close(&t);
    }
    tap_ok(i > 0, "%s: there are cases (%d)", name, i);
    tap_ok(covered, "%s: a case contains it", name);
    if (none) {
        tap_ok(refused, "%s: asking for a gradient is an error that names it", name);
        return;
    }
    tap_ok(clean, "%s: gradients can be built", name);
    if (zero) {
        tap_ok(zeros, "%s: gradients are zero", name);
        return;
    }
    tap_ok(first <= TOLERANCE, "%s: gradient (worst %.1e)", name, first);
    tap_ok(second <= TOLERANCE, "%s: gradient of the gradient (worst %.1e)", name, second);
}

int main(void)
{
    ebm_context *ctx;
    ebm_store *store;
    struct ebm_backend nothing = { .v = NULL };     /* graphs need no device */

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    nothing.ctx = ctx;
    if (ebm_store_new(&nothing, &store) < 0)
        return 99;
    for (enum op op = OP_NONE + 1; op < OP_COUNT; op++)
        test_rule(store, op);
    ebm_store_free(store);
    ebm_context_free(ctx);
    return tap_done();
}
