/* test_optim.c - optimisers against PyTorch and against their formulas;
 * schedules, clipping, averages, skipped steps.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "tap.h"

static const char *who(const ebm_backend *backend)
{
    return backend ? "the CPU" : "the oracle";
}

/* ---- 20 steps of PyTorch's optimisers ---- */

static ebm_optimiser adam_ema(void)
{
    ebm_optimiser o = ebm_adam_defaults(1e-2);
    o.clip_norm = 0.5;
    o.ema = 0.9;
    return o;
}

static ebm_optimiser adam_beta0(void)
{
    ebm_optimiser o = ebm_adam_defaults(2e-3);
    o.beta1 = 0;
    o.beta2 = 0.99;
    o.lr.warmup = 8;
    o.ema = 0.999;
    o.ema_warmup = true;
    return o;
}

static ebm_optimiser adam_decay(void)
{
    ebm_optimiser o = ebm_adam_defaults(1e-2);
    o.weight_decay = 0.1;
    return o;
}

static ebm_optimiser adamw(void)
{
    ebm_optimiser o = adam_decay();
    o.decoupled = true;
    o.lr.kind = EBM_COSINE;
    o.lr.end = 16;
    o.lr.end_factor = 0.1;
    return o;
}

static ebm_optimiser sgd_momentum(void)
{
    ebm_optimiser o = ebm_sgd_defaults(0.1, 0.9);
    o.weight_decay = 0.01;
    return o;
}

static ebm_optimiser sgd_nesterov(void)
{
    ebm_optimiser o = ebm_sgd_defaults(0.1, 0.9);
    o.nesterov = true;
    o.lr.kind = EBM_STEP;
    o.lr.every = 6;
    o.lr.drop = 0.5;
    return o;
}

static ebm_optimiser keras_adam(void)
{
    return ebm_keras_adam_defaults(1e-2);
}

static const struct {
    const char *name;
    ebm_optimiser (*make)(void);
} optimisers[] = {
    { "adam-ema", adam_ema },
    { "adam-beta0-warmup-ema", adam_beta0 },
    { "adam-decay", adam_decay },
    { "adamw", adamw },
    { "sgd-momentum", sgd_momentum },
    { "sgd-nesterov", sgd_nesterov },
    { "keras-adam", keras_adam },
};

enum { STEPS = 20, A = 15, B = 7, P = A + B };

/* Rows of the tensors "what.a" and "what.b" side by side, as the region has
 * them; NULL where the file has none. */
static double *both(struct golden *t, const char *what, int rows)
{
    char name[2][64];
    int64_t n;

    snprintf(name[0], sizeof name[0], "%s.a", what);
    snprintf(name[1], sizeof name[1], "%s.b", what);
    double *a = golden_tensor(t, name[0], &n), *b = golden_tensor(t, name[1], &n);
    double *joined = a && b ? malloc((size_t)rows * P * sizeof *joined) : NULL;
    for (int i = 0; joined && i < rows; i++) {
        memcpy(joined + i * P, a + i * A, A * sizeof *joined);
        memcpy(joined + i * P + A, b + i * B, B * sizeof *joined);
    }
    free(a);
    free(b);
    return joined;
}

static void check_file(ebm_context *ctx, ebm_backend *backend, const char *name,
                       ebm_optimiser optimiser, double tolerance)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    struct golden t;
    ebm_outputs out = { 0 };
    double of_w = 0, of_e = 0;

    golden_open(&t, ctx, backend, name);
    ebm_param(t.g, "net", "a", 2, (int64_t[]){ 3, 5 }, zero);
    ebm_param(t.g, "net", "b", 1, (int64_t[]){ B }, zero);
    ebm_val grad = ebm_feed(t.g, "grad", EBM_F32, 1, (int64_t[]){ P });
    ebm_optimise(t.g, "net", grad, &optimiser, 0, &out);
    golden_ready(&t, &out);

    double *w = both(&t, "w", 1), *g = both(&t, "grad", STEPS);
    double *after = both(&t, "after", STEPS), *ema = both(&t, "ema", STEPS);
    golden_put(&t, "net", w, P);
    for (int i = 0; i < STEPS; i++) {
        golden_feed(&t, "grad", g + i * P, P);
        golden_run(&t, &out);
        double *now = golden_state(&t, "net");
        of_w = fmax(of_w, relative_error(now, after + i * P, P, 0));
        free(now);
        if (ema) {
            double *e = golden_state(&t, "net.ema");
            of_e = fmax(of_e, relative_error(e, ema + i * P, P, 0));
            free(e);
        }
    }
    tap_ok(of_w < tolerance && of_e < tolerance, "%s by %s, %d steps: weights %.1e, average %.1e",
           name, who(backend), STEPS, of_w, of_e);
    free(w);
    free(g);
    free(after);
    free(ema);
    golden_close(&t);
}

/* ---- bias correction after many steps ---- */

/* With m = 1 - b1^n, v = 1 - b2^n and the gradient 1, Adam's step n + 1 is lr
 * whatever n is, if the corrections are right. */
static void check_correction(ebm_context *ctx, ebm_backend *backend, double tolerance)
{
    static const double steps[] = { 0, 1, 2, 9, 99, 499, 999, 9999, 99999, 999999 };
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    struct golden t;
    ebm_outputs out = { 0 };
    ebm_optimiser o = ebm_adam_defaults(1);
    double worst = 0, at = 0, one = 1;

    golden_open(&t, ctx, backend, NULL);
    o.beta2 = 0.9999;
    ebm_param(t.g, "net", "w", 1, (int64_t[]){ 1 }, zero);
    ebm_val grad = ebm_feed(t.g, "grad", EBM_F32, 1, (int64_t[]){ 1 });
    ebm_optimise(t.g, "net", grad, &o, 0, &out);
    golden_ready(&t, &out);
    for (size_t i = 0; i < COUNT(steps); i++) {
        double w = 0, m = -expm1(steps[i] * log(0.9)), v = -expm1(steps[i] * log(0.9999));
        golden_put(&t, "net", &w, 1);
        golden_put(&t, "net.m", &m, 1);
        golden_put(&t, "net.v", &v, 1);
        golden_put(&t, "net.step", &steps[i], 1);
        golden_feed(&t, "grad", &one, 1);
        golden_run(&t, &out);
        double *moved = golden_state(&t, "net");
        if (!(fabs(*moved + 1) <= worst)) {
            worst = fabs(*moved + 1);
            at = steps[i];
        }
        free(moved);
    }
    tap_ok(worst < tolerance, "Adam's correction by %s, to a million steps: %.1e, at step %g",
           who(backend), worst, at + 1);
    golden_close(&t);
}

/* ---- schedules ---- */

static void check_schedule(ebm_context *ctx, ebm_backend *backend, const char *name,
                           ebm_schedule s, int n, const double (*expected)[2])
{
    struct golden t;
    ebm_outputs out = { 0 };
    double worst = 0;

    golden_open(&t, ctx, backend, NULL);
    ebm_val step = ebm_feed(t.g, "n", EBM_F32, 0, NULL);
    ebm_val rate = ebm_schedule_at(t.g, step, &s);
    ebm_output(t.g, &out, rate);
    golden_ready(&t, &out);
    for (int i = 0; i < n; i++) {
        if (s.kind != EBM_CONSTANT || s.warmup > 0)      /* else it reads no step */
            golden_feed(&t, "n", &expected[i][0], 1);
        golden_run(&t, &out);
        double *r = golden_value(&t, rate);
        worst = fmax(worst, fabs(*r - expected[i][1]) / s.rate);
        free(r);
    }
    tap_ok(worst < 1e-6, "%s rate by %s: %.1e", name, who(backend), worst);
    golden_close(&t);
}

static void check_schedules(ebm_context *ctx, ebm_backend *backend)
{
    static const double constant[][2] = { { 0, 3e-4 }, { 1e6, 3e-4 } };
    /* of the fact sheets: warm-ups over 10,000 steps, one from 500 on */
    static const double warmup[][2] = { { 0, 0 }, { 5000, 5e-5 }, { 10000, 1e-4 }, { 20000, 1e-4 } };
    static const double offset[][2] = { { 0, 5e-7 }, { 5000, 5.5e-6 }, { 10000, 1e-5 } };
    static const double linear[][2] = { { 0, 1 }, { 100, 1 }, { 150, 0.6 }, { 200, 0.2 }, { 900, 0.2 } };
    static const double cosine[][2] = { { 0, 2 }, { 50, 1.1 }, { 25, 1.1 + 0.9 * 0.70710678118654752 },
                                        { 100, 0.2 }, { 101, 0.2 } };
    static const double step[][2] = { { 0, 1 }, { 9, 1 }, { 10, 1 }, { 12, 1 }, { 13, 0.5 },
                                      { 15, 0.5 }, { 16, 0.25 }, { 19, 0.125 } };
    static const double drops[][2] = { { 0, 1e-4 }, { 229999, 1e-4 }, { 230000, 1e-5 },
                                       { 259999, 1e-5 }, { 260000, 1e-6 }, { 1e6, 1e-6 } };
#define CHECK(name, values, ...) \
    check_schedule(ctx, backend, name, (ebm_schedule){ __VA_ARGS__ }, (int)COUNT(values), values)
    CHECK("constant", constant, .rate = 3e-4);
    CHECK("warmed-up", warmup, .rate = 1e-4, .warmup = 10000);
    CHECK("warmed-up from 500", offset, .rate = 1e-5, .warmup = 10000, .warmup_offset = 500);
    CHECK("linear", linear, .rate = 1, .kind = EBM_LINEAR, .begin = 100, .end = 200, .end_factor = 0.2);
    CHECK("cosine", cosine, .rate = 2, .kind = EBM_COSINE, .end = 100, .end_factor = 0.1);
    CHECK("stepped", step, .rate = 1, .kind = EBM_STEP, .begin = 10, .every = 3, .drop = 0.5);
    CHECK("dropped", drops, .rate = 1e-4, .kind = EBM_DROPS, .drop = 0.1, .drops = { 230000, 260000 });
#undef CHECK
}

/* ---- clipping ---- */

static void check_clipping(ebm_context *ctx, ebm_backend *backend)
{
    static const double x[] = { 3, 4, 0, 0.3, 0.4, 0, 0, 0, 0 };
    static const double by_row[] = { 1.5, 2, 0, 0.3, 0.4, 0, 0, 0, 0 };
    static const double by_tensor[] = { 1.5, 2, 0, 0.3, 0.4, 0, 0, 0, 0 };
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };
    struct golden t;
    ebm_outputs out = { 0 };

    golden_open(&t, ctx, backend, NULL);
    for (int i = 0; i < 3; i++)
        ebm_param(t.g, "net", (const char *[]){ "a", "b", "c" }[i], 1, (int64_t[]){ 3 }, zero);
    ebm_val rows = ebm_feed(t.g, "x", EBM_F32, 2, (int64_t[]){ 3, 3 });
    ebm_val vector = ebm_reshape(t.g, rows, 1, (int64_t[]){ 9 });
    ebm_val r = ebm_clip_rows(t.g, rows, 2.5), w = ebm_clip_tensors(t.g, "net", vector, 2.5);
    ebm_val a = ebm_clip_norm(t.g, vector, 1), same = ebm_clip_norm(t.g, vector, 10);
    ebm_val norm = ebm_norm(t.g, vector);
    ebm_val list[] = { r, w, a, same, norm };
    for (size_t i = 0; i < COUNT(list); i++)
        ebm_output(t.g, &out, list[i]);
    golden_ready(&t, &out);
    golden_feed(&t, "x", x, 9);
    golden_run(&t, &out);

    double *cr = golden_value(&t, r), *cw = golden_value(&t, w), *ca = golden_value(&t, a);
    double *cs = golden_value(&t, same), *cn = golden_value(&t, norm);
    double scaled[9], length = sqrt(25.25);
    for (int i = 0; i < 9; i++)
        scaled[i] = x[i] / (length + 1e-6);
    tap_ok(relative_error(cr, by_row, 9, 0) < 1e-6 && cr[3] == (backend ? (double)0.3f : 0.3),
           "rows are clipped one by one, short and zero ones unchanged (%s)", who(backend));
    tap_ok(relative_error(cw, by_tensor, 9, 0) < 1e-6, "tensors of a region likewise (%s)", who(backend));
    tap_ok(relative_error(ca, scaled, 9, 0) < 1e-6 && relative_error(cs, x, 9, 0) < 1e-7
           && fabs(*cn - length) < 1e-5, "a vector is clipped as PyTorch does it (%s)", who(backend));
    free(cr);
    free(cw);
    free(ca);
    free(cs);
    free(cn);
    golden_close(&t);
}

/* ---- skipped steps ---- */

static void check_skipping(ebm_context *ctx, ebm_backend *backend)
{
    static const char *const states[] = { "net", "net.m", "net.v", "net.ema", "net.step" };
    const ebm_init half = { EBM_INIT_CONST, 0.5f, 0 };
    struct golden t;
    ebm_outputs out = { 0 };
    ebm_optimiser o = adam_ema();
    double g[3] = { 1, -2, 0.5 }, bad[3] = { NAN, 1, INFINITY }, on = 1, off = 0, w[3] = { 1, 2, 3 };
    bool kept = true, moved = true;

    golden_open(&t, ctx, backend, NULL);
    ebm_param(t.g, "net", "w", 1, (int64_t[]){ 3 }, half);
    ebm_val grad = ebm_feed(t.g, "grad", EBM_F32, 1, (int64_t[]){ 3 });
    ebm_val enable = ebm_feed(t.g, "enable", EBM_F32, 0, NULL);
    ebm_optimise(t.g, "net", grad, &o, enable, &out);
    golden_ready(&t, &out);
    golden_put(&t, "net", w, 3);
    for (int run = 0; run < 3; run++) {
        double *before[COUNT(states)];
        for (size_t i = 0; i < COUNT(states); i++)
            before[i] = golden_state(&t, states[i]);
        golden_feed(&t, "grad", run == 1 ? bad : g, 3);
        golden_feed(&t, "enable", run == 1 ? &off : &on, 1);
        golden_run(&t, &out);
        for (size_t i = 0; i < COUNT(states); i++) {
            double *now = golden_state(&t, states[i]);
            if (run == 1)
                kept = kept && memcmp(now, before[i], (i < 4 ? 3 : 1) * sizeof *now) == 0;
            else
                moved = moved && now[0] != before[i][0] && isfinite(now[0]);
            free(now);
            free(before[i]);
        }
    }
    tap_ok(kept, "a step that is not enabled changes nothing, NaN or not (%s)", who(backend));
    tap_ok(moved, "the steps around it do (%s)", who(backend));
    golden_close(&t);
}

/* ---- refusals ---- */

static void check_refusals(ebm_context *ctx)
{
    const ebm_init zero = { EBM_INIT_CONST, 0, 0 };

    for (int i = 0; i < 5; i++) {
        struct golden t;
        ebm_outputs out = { 0 };
        ebm_optimiser o = ebm_adam_defaults(1e-3);

        golden_open(&t, ctx, NULL, NULL);
        if (i == 0)
            o.beta2 = 1;
        if (i == 1)
            o.lr.rate = NAN;
        if (i == 2)
            o.lr.kind = EBM_COSINE;      /* no end */
        if (i != 3)
            ebm_param(t.g, "net", "w", 1, (int64_t[]){ 3 }, zero);
        ebm_val grad = ebm_feed(t.g, "grad", EBM_F32, 1, (int64_t[]){ 3 });
        ebm_optimise(t.g, "net", grad, &o, 0, &out);
        if (i == 4)                      /* a second one on the same region */
            ebm_optimise(t.g, "net", ebm_scale(t.g, grad, 2), &o, 0, &out);
        tap_ok(ebm_graph_status(t.g) == EBM_ERR_ARG, "refused: %s", ebm_message(ctx));
        golden_close(&t);
    }
}

static void check_all(ebm_context *ctx, ebm_backend *backend)
{
    for (size_t i = 0; i < COUNT(optimisers); i++)
        check_file(ctx, backend, optimisers[i].name, optimisers[i].make(), 1e-6);
    check_correction(ctx, backend, 1e-6);
    check_schedules(ctx, backend);
    check_clipping(ctx, backend);
    check_skipping(ctx, backend);
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *cpu;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    check_refusals(ctx);
    check_all(ctx, NULL);
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0) {
        tap_ok(false, "the CPU opens: %s", ebm_message(ctx));
        return tap_done();
    }
    check_all(ctx, cpu);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
