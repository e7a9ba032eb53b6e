/* test_langevin.c - the Langevin step against what is known in closed form.
 *
 * SPDX-License-Identifier: ISC
 *
 * For E(x) = x^2 / 2 a step is linear,  x' = (1 - s) x + sqrt(2 s) n,  and its
 * stationary variance is 1 / (1 - s/2) with noise last; noise first, the step
 * acts on the noise too: (1 - s)^2 / (1 - s/2). */
#include <math.h>
#include <string.h>
#include "ebm.h"
#include "tap.h"

enum { CHAINS = 4096, PIXELS = 4 };
static const double STEP = 0.2;

static ebm_context *ctx;
static ebm_backend *backend;

static ebm_val half_square(ebm_graph *g, ebm_val x, void *user)
{
    double scale = user ? *(double *)user : 1;

    return ebm_scale(g, ebm_sum(g, ebm_square(g, x), 2), 0.5 * scale);
}

/* Chains after `times` steps, from 3; noise: of a step. */
static int run_chains(const ebm_langevin_options *options, double energy_scale, double noise,
                      int times, float *x)
{
    const int64_t shape[2] = { CHAINS, PIXELS };
    uint32_t counter[4] = { 5, 0, 0, 0 };
    ebm_store *store = NULL;
    ebm_graph *g = NULL;
    ebm_program *p = NULL;
    int rc;

    if ((rc = ebm_store_new(backend, &store)) < 0 || (rc = ebm_graph_new(store, &g)) < 0)
        return rc;
    ebm_val rng = ebm_state(g, "rng", EBM_I32, 1, (int64_t[]){ 4 }, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val state = ebm_state(g, "x", EBM_F32, 2, shape, (ebm_init){ EBM_INIT_CONST, 3, 0 });
    ebm_val next = ebm_langevin(g, half_square, &energy_scale, state, ebm_const(g, STEP),
                                ebm_const(g, noise), rng, options);
    ebm_val effects[2] = { ebm_assign(g, state, next), ebm_assign(g, rng, ebm_tick(g, rng)) };
    if ((rc = ebm_graph_status(g)) >= 0
        && (rc = ebm_store_alloc(store, 1)) >= 0
        && (rc = ebm_store_write(store, "rng", counter, sizeof counter)) >= 0
        && (rc = ebm_compile(g, 2, effects, &p)) >= 0
        && (rc = ebm_program_run(p, times)) >= 0)
        rc = ebm_store_read(store, "x", x, sizeof(float) * CHAINS * PIXELS);
    ebm_program_free(p);
    ebm_graph_free(g);
    ebm_store_free(store);
    return rc;
}

static double variance(const float *x, double *mean)
{
    double s = 0, q = 0;
    int n = CHAINS * PIXELS;

    for (int i = 0; i < n; i++)
        s += x[i];
    *mean = s / n;
    for (int i = 0; i < n; i++)
        q += (x[i] - *mean) * (x[i] - *mean);
    return q / n;
}

static void test_stationary(void)
{
    static float x[CHAINS * PIXELS];
    static const struct { int order; const char *name; } orders[] = {
        { EBM_NOISE_LAST, "last" }, { EBM_NOISE_FIRST, "first" },
    };

    for (int i = 0; i < 2; i++) {
        ebm_langevin_options o = { .purpose = 1 };
        double expected = 1 / (1 - STEP / 2), mean, v;
        if (orders[i].order == EBM_NOISE_FIRST) {
            o.order = EBM_NOISE_FIRST;
            expected *= (1 - STEP) * (1 - STEP);
        } else {
            o.order = EBM_NOISE_LAST;
        }
        int rc = run_chains(&o, 1, sqrt(2 * STEP), 100, x);
        v = variance(x, &mean);
        /* 16384 numbers: the deviation of the variance is 1.1 %, of the mean 0.8 %. */
        tap_ok(rc == EBM_OK && fabs(v / expected - 1) < 0.05 && fabs(mean) < 0.04,
               "noise %s: variance %.3f, expected %.3f; mean %.3f", orders[i].name, v, expected, mean);
    }
}

static void test_limits(void)
{
    static float x[CHAINS * PIXELS];
    ebm_langevin_options o = { .clip = EBM_CLIP_ELEMENT, .limit = 0.5 };

    int rc = run_chains(&o, 100, 0, 1, x);
    tap_ok(rc == EBM_OK && fabs(x[0] - (3 - STEP * 0.5)) < 1e-6, "each element clipped: %.6f", (double)x[0]);
    o.clip = EBM_CLIP_NORM;
    rc = run_chains(&o, 100, 0, 1, x);
    tap_ok(rc == EBM_OK && fabs(x[0] - (3 - STEP * 0.5 / 2)) < 1e-5,
           "an image's norm clipped: %.6f", (double)x[0]);
    o = (ebm_langevin_options){ .clamp = true, .low = -1, .high = 1 };
    rc = run_chains(&o, 0, 0, 1, x);
    tap_ok(rc == EBM_OK && x[0] == 1, "clamped to the range");
    rc = run_chains(&o, 1, 5, 3, x);
    bool within = true;
    for (int i = 0; i < CHAINS * PIXELS; i++)
        within = within && x[i] >= -1 && x[i] <= 1;
    tap_ok(rc == EBM_OK && within, "whatever the noise");
    o.low = 2;
    tap_ok(run_chains(&o, 1, 0, 1, x) == EBM_ERR_ARG, "an empty range is refused");
    o = (ebm_langevin_options){ .clip = EBM_CLIP_NORM };
    tap_ok(run_chains(&o, 1, 0, 1, x) == EBM_ERR_ARG, "and a limit of nothing");
}

/* d/dw of sum x', E = w x^2 / 2, is -step x: through the gradient inside. */
static ebm_val weighted(ebm_graph *g, ebm_val x, void *user)
{
    return ebm_mul(g, ebm_sum(g, ebm_square(g, x), 2), ebm_scale(g, *(ebm_val *)user, 0.5));
}

static void test_through(void)
{
    const int64_t shape[2] = { 3, 2 };
    const float x[6] = { 1, -2, 3, 0.5f, -1, 4 };
    ebm_langevin_options o = { .order = EBM_NOISE_LAST };
    ebm_store *store;
    ebm_graph *g;
    ebm_program *p = NULL;
    float slope = 0;

    if (ebm_store_new(backend, &store) < 0 || ebm_graph_new(store, &g) < 0)
        return;
    ebm_val w = ebm_param(g, "energy", "w", 1, (int64_t[]){ 1 }, (ebm_init){ EBM_INIT_CONST, 2, 0 });
    ebm_val rng = ebm_state(g, "rng", EBM_I32, 1, (int64_t[]){ 4 }, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val next = ebm_langevin(g, weighted, &w, ebm_feed(g, "x", EBM_F32, 2, shape),
                                ebm_const(g, STEP), ebm_const(g, 0.1), rng, &o);
    ebm_val dw = ebm_grad(g, ebm_sum_all(g, next), w);
    int rc = ebm_store_alloc(store, 1);
    if (rc >= 0 && (rc = ebm_compile(g, 1, &dw, &p)) >= 0
        && (rc = ebm_program_set(p, "x", x, sizeof x)) >= 0
        && (rc = ebm_program_run(p, 1)) >= 0)
        rc = ebm_program_get(p, dw, &slope, sizeof slope);
    tap_ok(rc == EBM_OK && fabs(slope + STEP * 5.5) < 1e-5,
           "a step can be differentiated by the weights: %.5f", (double)slope);
    ebm_program_free(p);
    ebm_graph_free(g);
    ebm_store_free(store);
}

int main(void)
{
    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 99;
    test_stationary();
    test_limits();
    test_through();
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    return tap_done();
}
