/* test_vulkan.c - the Vulkan backend beside the CPU: draws have the same bits, a
 * training gives the same curve, and what does not open says why.
 *
 * SPDX-License-Identifier: ISC
 *
 * Operations and random programs: test_ops_vulkan.sh, test_fuse_vulkan.sh.  The
 * device is the first; a processor that plays a GPU will do. */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "philox.h"
#include "run.h"
#include "store.h"
#include "tap.h"

static const char DEVICE[] = "vulkan:0";
enum { STEPS = 100, DRAWS = 100003 };

static void claim_refused(ebm_context *ctx, const char *name, int status)
{
    ebm_backend *backend;
    int rc = ebm_backend_open(ctx, name, 0, &backend);

    tap_ok(rc == status && !backend, "%s: %s", name, ebm_message(ctx));
}

static void test_draws(ebm_context *ctx, ebm_backend *backend)
{
    struct philox rng = { { 5, 6 }, 7, 8 };
    static float want[DRAWS], got[DRAWS];
    const int64_t n = DRAWS;
    ebm_store *store;
    ebm_program *program = NULL;
    ebm_graph *g;
    int64_t four = 4;

    if (ebm_store_new(backend, &store) < 0 || ebm_graph_new(store, &g) < 0)
        exit(99);
    ebm_val counter = ebm_feed(g, "counter", EBM_I32, 1, &four);
    ebm_val y = ebm_normal(g, counter, 9, 1, &n);
    bool ok = ebm_store_alloc(store, 1) >= 0 && ebm_compile(g, 1, &y, &program) >= 0
           && ebm_program_set(program, "counter", &rng, sizeof rng) >= 0
           && ebm_program_run(program, 3) >= 0 && ebm_program_get(program, y, got, sizeof got) >= 0;
    if (!ok)
        tap_note("%s", ebm_message(ctx));
    philox_normal(want, 0, n, &rng, 9);
    tap_ok(ok && memcmp(want, got, sizeof got) == 0, "%d normal numbers have the CPU's bits", DRAWS);
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
}

/* The energies of a short training. */
static bool train(ebm_context *ctx, ebm_backend *backend, const char *folder, double *loss)
{
    char recipe[100];
    ebm_train_options options = { .folder = folder, .recipe = recipe };
    ebm_train_metrics metrics = { 0 };
    ebm_train *t = NULL;

    if (!run_folder(ctx, folder))
        exit(99);
    snprintf(recipe, sizeof recipe, "%s/tiny.recipe", folder);
    char run_in[100];
    snprintf(run_in, sizeof run_in, "%s/run", folder);
    options.folder = run_in;
    int rc = ebm_train_open(backend, &options, &t);
    for (int i = 0; i < STEPS && rc >= 0; i++) {
        rc = ebm_train_step(t, &metrics);
        loss[i] = ebm_train_metric(&metrics, "loss");
    }
    if (rc < 0)
        tap_note("%s", ebm_message(ctx));
    ebm_train_free(t);
    run_remove(ctx, folder);
    return rc >= 0;
}

static void test_training(ebm_context *ctx, ebm_backend *vulkan)
{
    double a[STEPS], b[STEPS], worst = 0;
    ebm_backend *cpu;

    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0)
        exit(99);
    bool ok = train(ctx, cpu, "test_vulkan_cpu.tmp", a);
    ok = train(ctx, vulkan, "test_vulkan.tmp", b) && ok;
    for (int i = 0; i < STEPS && ok; i++)
        worst = fmax(worst, fabs(a[i] - b[i]) / fmax(1, fabs(a[i])));
    tap_ok(ok && worst < 1e-3, "%d steps of training are those of the CPU (within %.1e)", STEPS, worst);
    ebm_backend_free(cpu);
}

int main(void)
{
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        exit(99);
    ebm_backend *backend = device_backend(ctx, DEVICE);
    tap_note("%s", ebm_backend_describe(backend));
    claim_refused(ctx, "vulkan:x", EBM_ERR_ARG);
    claim_refused(ctx, "vulkan:63", EBM_ERR_DEVICE);
    test_draws(ctx, backend);
    test_training(ctx, backend);
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    return tap_done();
}
