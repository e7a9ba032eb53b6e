/* test_train.c - runs: the same bytes whatever the threads and interruptions,
 * refusals, divergence.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "io.h"
#include "run.h"
#include "tap.h"

#define ROOT "test_train.tmp"

static ebm_context *ctx;
static ebm_backend *backend;

static bool same_end(const char *folder)
{
    return run_same_file(ctx, ROOT "/whole", folder, "model.safetensors")
        && run_same_file(ctx, ROOT "/whole", folder, "metrics.jsonl");
}

static int count_of(const char *folder, const char *text)
{
    char path[200], *log, *at;
    size_t size;
    int n = 0;

    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    if (io_read_whole(ctx, path, 1 << 24, &log, &size) < 0)
        return -1;
    for (at = log; (at = strstr(at, text)); at++)
        n++;
    mem_free(ctx, log);
    return n;
}

/* ---- the same bytes ---- */

static void test_whole(void)
{
    tap_ok(run(backend, &(struct run){ ROOT "/whole", NULL, false, 0, false }) == EBM_OK,
           "a run ends: %s", ebm_message(ctx));
    tap_ok(io_exists(ROOT "/whole/model.safetensors") && io_exists(ROOT "/whole/recipe")
           && io_exists(ROOT "/whole/checkpoint-000000012.safetensors"), "it leaves its files");
    tap_ok(count_of(ROOT "/whole", "\"energy.noise\":") == 6, "a line of the log every second step");
    tap_ok(run(backend, &(struct run){ ROOT "/whole", NULL, true, 0, false }) == EBM_OK
           && same_end(ROOT "/whole"), "resuming what is finished changes nothing");
}

static void test_threads(void)
{
    for (int threads = 2; threads <= 3; threads++) {
        ebm_backend *other;
        bool ok = ebm_backend_open(ctx, "cpu", threads, &other) == EBM_OK
               && run(other, &(struct run){ ROOT "/threads", NULL, false, 0, false }) == EBM_OK;
        tap_ok(ok && same_end(ROOT "/threads"), "%d threads: the same model and log", threads);
        ebm_backend_free(other);
        run_remove(ctx, ROOT "/threads");
    }
}

static void test_interrupted(bool save)
{
    for (int64_t stop = 1; stop < 12; stop++) {
        int first = run(backend, &(struct run){ ROOT "/cut", NULL, false, stop, save });
        int second = run(backend, &(struct run){ ROOT "/cut", NULL, true, 0, false });
        tap_ok(first == EBM_OK && second == EBM_OK && same_end(ROOT "/cut"),
               "%s after step %" PRId64 " and resumed: the same model and log",
               save ? "stopped" : "killed", stop);
        run_remove(ctx, ROOT "/cut");
    }
}

/* In a process of its own, killed at some instant or other. */
static void test_sigkill(void)
{
    enum { INSTANTS = 10, SPREAD_US = 12000 };

    for (int i = 0; i < INSTANTS; i++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            _exit(run(backend, &(struct run){ ROOT "/cut", NULL, false, 0, false }) < 0);
        struct timespec delay = { 0, 1000L * SPREAD_US * (i + 1) };
        nanosleep(&delay, NULL);
        kill(child, SIGKILL);
        int how;
        waitpid(child, &how, 0);
        bool begun = io_exists(ROOT "/cut/recipe");
        int rc = run(backend, &(struct run){ ROOT "/cut", NULL, begun, 0, false });
        if (!tap_ok(rc == EBM_OK && same_end(ROOT "/cut"),
                    "%s after %d ms and resumed: the same model and log",
                    WIFSIGNALED(how) ? "SIGKILL" : "ended", SPREAD_US * (i + 1) / 1000))
            tap_note("%d: %s", rc, ebm_message(ctx));
        run_remove(ctx, ROOT "/cut");
    }
}

static void test_longer(void)
{
    static const char *const shorter[] = { "steps=7", NULL }, *const longer[] = { "steps=12", NULL };
    int first = run(backend, &(struct run){ ROOT "/cut", shorter, false, 0, false });
    int second = run(backend, &(struct run){ ROOT "/cut", longer, true, 0, false });

    tap_ok(first == EBM_OK && second == EBM_OK && same_end(ROOT "/cut"),
           "a run that ended goes on when it is given more steps");
    run_remove(ctx, ROOT "/cut");
}

static void test_damaged(void)
{
    run(backend, &(struct run){ ROOT "/cut", NULL, false, 11, false });
    bool cut = truncate(ROOT "/cut/checkpoint-000000010.safetensors", 5000) == 0;
    int rc = run(backend, &(struct run){ ROOT "/cut", NULL, true, 0, false });

    tap_ok(cut && rc == EBM_OK && same_end(ROOT "/cut"),
           "the newest checkpoint cut short: the one before is used, the end is the same");
    run_remove(ctx, ROOT "/cut");
}

/* ---- refusals ---- */

static void test_refusals(void)
{
    static const struct { const char *settings[2]; int status; const char *says; } cases[] = {
        { { "langevin.stpes=3", NULL }, EBM_ERR_ARG, "langevin.steps" },
        { { "method=guess", NULL }, EBM_ERR_ARG, "guess" },
        { { "buffer.size=4", NULL }, EBM_ERR_ARG, "buffer.size" },
        { { "energy.net=conv:8 mystery", NULL }, EBM_ERR_ARG, "mystery" },
        { { "optimiser.betas=0.9", NULL }, EBM_ERR_ARG, "optimiser.betas" },
        { { "sample.noise=1, 2, 3", NULL }, EBM_ERR_ARG, "sample.noise" },
        { { "data.low=2", NULL }, EBM_ERR_ARG, "data.low" },
        { { "data.source=nowhere", NULL }, EBM_ERR_IO, "nowhere" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        int rc = run(backend, &(struct run){ ROOT "/no", cases[i].settings, false, 1, false });
        if (!tap_ok(rc == cases[i].status && strstr(ebm_message(ctx), cases[i].says),
                    "%s is refused by its name", cases[i].settings[0]))
            tap_note("%d: %s", rc, ebm_message(ctx));
        tap_ok(!io_exists(ROOT "/no"), "and nothing is written");
    }

    tap_ok(run(backend, &(struct run){ ROOT "/whole", NULL, false, 1, false }) == EBM_ERR_ARG,
           "a folder that holds a run is refused");
    tap_ok(run(backend, &(struct run){ ROOT "/none", NULL, true, 1, false }) < 0,
           "a folder without a run cannot be resumed");
    static const char *const other[] = { "batch=16", NULL }, *const data[] = { "data.source=shapes:60", NULL };
    tap_ok(run(backend, &(struct run){ ROOT "/whole", other, true, 0, false }) == EBM_ERR_ARG
           && strstr(ebm_message(ctx), "batch"), "resuming with another batch is refused");
    tap_ok(run(backend, &(struct run){ ROOT "/whole", data, true, 0, false }) == EBM_ERR_FORMAT
           && strstr(ebm_message(ctx), "shapes:60"), "and with other data");
}

static void test_dry(void)
{
    ebm_train_options options = { .recipe = ROOT "/tiny.recipe", .folder = ROOT "/dry", .dry = true };
    ebm_train *train;
    int rc = ebm_train_open(backend, &options, &train);

    if (!tap_ok(rc == EBM_OK, "a dry run opens"))
        return;
    const ebm_train_info *info = ebm_train_describe(train);
    /* conv 8x5x5x3 + 8, conv 16x3x3x8 + 16, linear 4x4x16 + 1 */
    tap_ok(info->parameters == 608 + 1168 + 257, "parameters: %" PRId64, info->parameters);
    /* forward, of an image: 8x8x8x75, 4x4x16x72, 256 */
    double forward = 8 * 8 * 8 * 75 + 4 * 4 * 16 * 72 + 256;
    tap_ok(info->work > 8 * forward * (4 * 2 + 4) && info->work < 8 * forward * (4 * 2 + 6),
           "work of a step: %.0f, %.2f forward passes of the batch", info->work, info->work / forward / 8);
    tap_ok(info->images == 64 && info->height == 16 && info->channels == 3, "the data's sizes");
    tap_ok(info->weight_bytes == 4 * 4 * (size_t)info->parameters, "weights, two moments, average");
    tap_ok(info->state_bytes >= (32 + 8) * 768 * 4 && info->program_bytes > 0, "other memory");
    tap_ok(strstr(info->recipe, "data.height") && strstr(info->recipe, "guard.patience"),
           "the whole recipe");
    tap_ok(ebm_train_step(train, NULL) == EBM_ERR_ARG && !io_exists(ROOT "/dry"), "nothing is done");
    ebm_train_free(train);

    options.max_memory = 1000;
    tap_ok(ebm_train_open(backend, &options, &train) == EBM_ERR_NOMEM && train == NULL,
           "too little memory is known beforehand: %s", ebm_message(ctx));
}

/* ---- divergence ---- */

static void test_guard(void)
{
    /* No update passes: 3 skips, back to step 0, three times over. */
    static const char *const never[] = { "guard.gap=1e-12", "guard.patience=3", "guard.rollbacks=2", NULL };
    int rc = run(backend, &(struct run){ ROOT "/never", never, false, 0, false });

    tap_ok(rc == EBM_ERR_DIVERGED && strstr(ebm_message(ctx), "guard.gap"),
           "what always diverges is given up: %s", ebm_message(ctx));
    tap_ok(count_of(ROOT "/never", "\"skipped\"") == 9 && count_of(ROOT "/never", "\"rolled back\"") == 2,
           "after 3 x 3 skips and 2 returns, all in the log");

    run(backend, &(struct run){ ROOT "/later", never, false, 2, false });
    rc = run(backend, &(struct run){ ROOT "/later", NULL, true, 0, false });
    tap_ok(rc == EBM_ERR_DIVERGED && run_same_file(ctx, ROOT "/never", ROOT "/later", "metrics.jsonl"),
           "the same when it was killed meanwhile");

    /* Steps that throw pixels to infinity: energies are not finite. */
    static const char *const wild[] = { "langevin.step=1e9", "langevin.clip=none", "langevin.clamp=false",
        "langevin.steps=40", "energy.gain=100", "guard.patience=2", "guard.rollbacks=1",
        "energy.net=conv:8,k5,s2 softplus flatten linear:1 affine:1e9,0", NULL };
    rc = run(backend, &(struct run){ ROOT "/wild", wild, false, 0, false });
    if (!tap_ok(rc == EBM_ERR_DIVERGED, "infinite energies are given up: %s", ebm_message(ctx)))
        tap_note("status %d", rc);
    run_remove(ctx, ROOT "/never");
    run_remove(ctx, ROOT "/later");
    run_remove(ctx, ROOT "/wild");
}

/* A gradient out of line is skipped and changes nothing; the run goes on. */
static void test_outlier(void)
{
    static const char *const settings[] = { "guard.gradient=1.0001", "steps=130", "save.every=1000",
        "langevin.steps=1", "guard.patience=1000", NULL };
    int rc = run(backend, &(struct run){ ROOT "/outlier", settings, false, 0, false });

    tap_ok(rc == EBM_OK && count_of(ROOT "/outlier", "running mean") > 0,
           "outlying gradients are skipped: %d", count_of(ROOT "/outlier", "running mean"));
    run_remove(ctx, ROOT "/outlier");
}

/* With no patience each outlier is a return to a checkpoint, and another stream
 * of noise lets the run pass.  The course of it is the same when it is cut. */
static void test_return(void)
{
    static const char *const settings[] = { "guard.gradient=1.3", "guard.patience=1",
        "guard.rollbacks=1000", "steps=125", "save.every=10", "langevin.steps=1", NULL };
    int rc = run(backend, &(struct run){ ROOT "/back", settings, false, 0, false });
    int returns = count_of(ROOT "/back", "\"rolled back\"");

    tap_ok(rc == EBM_OK && returns > 0, "%d returns to a checkpoint, and the run ends", returns);
    for (int64_t stop = 101; stop < 125; stop += 6) {
        int first = run(backend, &(struct run){ ROOT "/cut", settings, false, stop, stop % 4 == 1 });
        int second = run(backend, &(struct run){ ROOT "/cut", NULL, true, 0, false });
        tap_ok(first == EBM_OK && second == EBM_OK
               && run_same_file(ctx, ROOT "/back", ROOT "/cut", "metrics.jsonl")
               && run_same_file(ctx, ROOT "/back", ROOT "/cut", "model.safetensors"),
               "%s after step %" PRId64 ": the same returns, model and log",
               stop % 4 == 1 ? "stopped" : "killed", stop);
        run_remove(ctx, ROOT "/cut");
    }
    run_remove(ctx, ROOT "/back");
}

/* ---- learning ---- */

static void test_learning(void)
{
    static const char *const settings[] = { "steps=60", "optimiser.rate=0.01", "langevin.steps=8", NULL };
    ebm_train_options options = { .recipe = ROOT "/tiny.recipe", .settings = settings, .n_settings = 3 };
    ebm_train_metrics m = { 0 };
    ebm_train *train;

    if (!tap_ok(ebm_train_open(backend, &options, &train) == EBM_OK, "a run without a folder opens"))
        return;
    while (m.step < 60 && ebm_train_step(train, &m) == EBM_OK)
        ;
    double data = ebm_train_metric(&m, "energy.data"), noise = ebm_train_metric(&m, "energy.noise");
    tap_ok(m.step == 60 && data < noise, "data end below noise: %.3f, %.3f", data, noise);
    tap_ok(isnan(ebm_train_metric(&m, "nothing")), "a metric that is not there is NaN");
    tap_ok(ebm_train_save(train) == EBM_ERR_ARG, "without a folder it cannot be saved");
    static float images[8 * 768];
    tap_ok(ebm_train_chains(train, 8, images) == EBM_OK && ebm_train_chains(train, 9, images) == EBM_ERR_ARG,
           "chains can be seen, as many as there are");
    bool within = true;
    for (size_t i = 0; i < COUNT(images); i++)
        within = within && images[i] >= 0 && images[i] <= 1;
    tap_ok(within, "as pixels in [0,1]");
    ebm_train_free(train);
}

int main(void)
{
    if (ebm_context_new(NULL, &ctx) < 0 || !run_folder(ctx, ROOT)
        || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 99;
    test_whole();
    test_sigkill();          /* before there are threads, which fork() would lose */
    test_threads();
    test_interrupted(true);
    test_interrupted(false);
    test_longer();
    test_damaged();
    test_refusals();
    test_dry();
    test_guard();
    test_outlier();
    test_return();
    test_learning();
    ebm_backend_free(backend);
    run_remove(ctx, ROOT);
    ebm_context_free(ctx);
    return tap_done();
}
