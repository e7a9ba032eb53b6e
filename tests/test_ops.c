/* test_ops.c - every operation on the CPU against the oracle.
 *
 * SPDX-License-Identifier: ISC
 *
 * Each case runs alone, and once more with its first and second gradients in
 * one program; on every instruction set; and with 2 and 3 threads, which must
 * give the bits that 1 gives; contractions with precision bf16 too.  Functions are tried at their extremes too.  On
 * another backend (device.h) each case runs twice, which must give the same bits.
 *
 * Errors are relative to the largest magnitude of the result (or to 1). */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "cases.h"
#include "backend.h"
#include "device.h"
#include "each_isa.h"
#include "tap.h"

static const double tolerance[] = {
    [LEAF]     = 0,          /* nothing is rounded */
    [EW]       = 1e-6,       /* functions are good to about 4 units in the last place */
    [MOVE]     = 0,
    [REDUCE]   = 2e-6,       /* thousands of terms that cancel */
    [CONTRACT] = 5e-6,       /* Winograd F(4x4,3x3) has up to 3.6e-6 */
    [WINDOW]   = 1e-6,
    [INDEX]    = 1e-6,       /* repeated rows are added */
    [EFFECT]   = 0
};
static const double GRADIENT_TOLERANCE = 3e-5;   /* chains of all of these */
enum { THREADS_MAX = 3, CASES_MAX = 200 };

struct bench {
    ebm_context *ctx;
    int n;
    ebm_backend *backend[THREADS_MAX];       /* with 1, 2, 3 threads */
    enum ebm_precision precision;
};

/* The outputs of a case: its result, and if asked for its gradients. */
enum { OUTPUTS_MAX = 2 + 2 * TRIAL_INPUTS };

static ebm_val random_sum(struct trial *t, ebm_val a)
{
    struct shape s = node_of(t->g, a)->shape;
    ebm_val w = trial_input(t, EBM_F32, s.rank, s.n, -1, 1);

    return ebm_sum_all(t->g, ebm_mul(t->g, a, w));
}

static int gradients_of(struct trial *t, ebm_val y, ebm_val *outputs)
{
    ebm_val x[TRIAL_INPUTS], dx[TRIAL_INPUTS], loss;
    int n = 0, n_out = 0;

    for (int k = 0; k < t->n_in; k++)
        if (t->in[k].type == EBM_F32)
            x[n++] = t->in[k].val;
    if (node_of(t->g, y)->type != EBM_F32 || n == 0)
        return 0;
    ebm_gradients(t->g, random_sum(t, y), n, x, dx);
    loss = ebm_const(t->g, 0);
    for (int i = 0; i < n && t->g->status >= 0; i++) {
        outputs[n_out++] = dx[i];
        loss = ebm_add(t->g, loss, random_sum(t, dx[i]));
    }
    ebm_gradients(t->g, loss, n, x, dx);
    for (int i = 0; i < n; i++)
        outputs[n_out++] = dx[i];
    return t->g->status < 0 ? 0 : n_out;
}

/* Run case i with each number of threads; false when there is no such case.
 * error: of one thread; same: do all threads agree? */
static bool run_case(struct bench *b, enum op op, int i, bool gradients,
                     double *error, bool *same)
{
    struct answer first = { NULL, 0 };

    *error = NAN;
    *same = true;
    for (int k = 0; k < b->n; k++) {
        ebm_val outputs[OUTPUTS_MAX];
        struct trial t;
        ebm_store *store;
        int n = 1;

        if (ebm_store_new(b->backend[k], &store) < 0)
            exit(99);
        ebm_store_precision(store, b->precision);
        trial_open(&t, store, 1000 * (uint64_t)op + (uint64_t)i);
        outputs[0] = case_build(&t, op, i);
        bool past = outputs[0] == NO_CASE;
        if (!past && gradients)
            n += gradients_of(&t, outputs[0], outputs + 1);
        if (!past) {
            struct answer answer = device_run(&t, n, outputs);
            if (k == 0 && answer.bytes)
                *error = device_error(&t, n, outputs, &answer, NULL);
            if (k == 0)
                first = answer;
            else {
                *same &= first.bytes && answer.bytes && first.size == answer.size
                      && memcmp(first.bytes, answer.bytes, first.size) == 0;
                free(answer.bytes);
            }
        }
        trial_close(&t);
        ebm_store_free(store);
        if (past)
            return false;
    }
    free(first.bytes);
    return true;
}

static void test_op(struct bench *b, const char *isa, enum op op, bool gradients)
{
    double limit = gradients ? GRADIENT_TOLERANCE : tolerance[op_info[op].class], worst = 0, error;
    const char *what = gradients ? " and its gradients" : b->precision == EBM_BF16 ? " with bf16" : "";
    bool close = true, all_same = true, same;
    int i;

    for (i = 0; i < CASES_MAX && run_case(b, op, i, gradients, &error, &same); i++) {
        if (!(error <= limit) || !same)
            tap_note("%s%s, case %d: error %.1e%s", op_info[op].name, what, i, error,
                     same ? "" : ", depends on threads");
        worst = fmax(worst, error);
        close &= error <= limit;
        all_same &= same;
    }
    tap_ok(i > 0 && close, "%s: %s%s, %d cases (worst %.1e)", isa, op_info[op].name, what, i, worst);
    tap_ok(all_same, "%s: %s%s, any number of threads", isa, op_info[op].name, what);
}

/* Where functions overflow, vanish or have no value. */
static void test_extremes(struct bench *b, const char *isa, enum op op)
{
    static const double x[] = { 0, 1e-30, -1e-30, 1, -1, 20, -20, 87, -87, 88.7, 100, -103, 1000,
                                -1000, 1e30, -1e30, HUGE_VAL, -HUGE_VAL, NAN };
    bool wave = op == OP_SIN || op == OP_COS;
    int64_t n = wave ? 14 : (int64_t)COUNT(x);
    struct trial t;
    ebm_store *store;
    int bad = 0;

    if (ebm_store_new(b->backend[0], &store) < 0)
        exit(99);
    trial_open(&t, store, 1);
    trial_input(&t, EBM_F32, 1, &n, 0, 1);
    for (int64_t i = 0; i < n; i++)
        t.in[0].data[i] = (float)x[i];
    ebm_val y = build_ew1(t.g, op, t.in[0].val);
    struct answer answer = device_run(&t, 1, &y);
    struct oracle *o = trial_oracle(&t);
    const double *want = oracle_value(o, y);
    for (int64_t i = 0; i < n; i++) {
        float w = (float)want[i], g = answer.bytes ? ((const float *)(const void *)answer.bytes)[i] : 0;
        if (!(g == w || (isnan(g) && isnan(w)) || fabsf(g - w) <= 1e-6f * fmaxf(1, fabsf(w)))) {
            tap_note("%s(%g) is %g, not %g", op_info[op].name, t.in[0].data[i], g, w);
            bad++;
        }
    }
    tap_ok(bad == 0, "%s: %s at its extremes", isa, op_info[op].name);
    free(answer.bytes);
    oracle_free(o);
    trial_close(&t);
    ebm_store_free(store);
}

static void test_all(struct bench *b, const char *isa)
{
    tap_note("%s", ebm_backend_describe(b->backend[0]));
    for (enum op op = OP_NONE + 1; op < OP_COUNT; op++) {
        if (op_info[op].class == EFFECT)     /* see test_fuse.c */
            continue;
        test_op(b, isa, op, false);
        if (op != OP_UPDATE && op_info[op].class != LEAF)
            test_op(b, isa, op, true);
        /* Its gradients would round what the oracle has not rounded to float. */
        if (op_info[op].class == CONTRACT && b->backend[0]->v->bf16) {
            b->precision = EBM_BF16;
            test_op(b, isa, op, false);
            b->precision = EBM_FP32;
        }
        if (op_info[op].class == EW && op_info[op].operands == 1 && op != OP_CAST)
            test_extremes(b, isa, op);
    }
}

static void test_isa(const char *isa)
{
    struct bench b = { .n = THREADS_MAX };

    if (ebm_context_new(NULL, &b.ctx) < 0)
        exit(99);
    for (int k = 0; k < THREADS_MAX; k++)
        if (ebm_backend_open(b.ctx, "cpu", k + 1, &b.backend[k]) < 0) {
            tap_ok(false, "%s: %s", isa, ebm_message(b.ctx));
            return;
        }
    test_all(&b, isa);
    for (int k = 0; k < THREADS_MAX; k++)
        ebm_backend_free(b.backend[k]);
    ebm_context_free(b.ctx);
}

static void test_device(const char *name)
{
    struct bench b = { .n = 2 };

    if (ebm_context_new(NULL, &b.ctx) < 0)
        exit(99);
    b.backend[0] = b.backend[1] = device_backend(b.ctx, name);
    test_all(&b, name);
    ebm_backend_free(b.backend[0]);
    ebm_context_free(b.ctx);
}

int main(void)
{
    if (device_name())
        test_device(device_name());
    else
        each_isa(test_isa);
    return tap_done();
}
