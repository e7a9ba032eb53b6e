/* test_icd_train.c - runs of improved contrastive divergence: the same bytes
 * whatever the threads and interruptions, its buffers, its models.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "context.h"
#include "faults.h"
#include "io.h"
#include "methods/icd_settings.h"
#include "run.h"
#include "safetensors.h"
#include "tap.h"

#define ROOT "test_icd_train.tmp"

static ebm_context *ctx;
static ebm_backend *backend;

static const char tiny[] =
    "method = icd\n"
    "steps = 5\n"
    "batch = 4\n"
    "data.source = shapes:64\n"
    "data.height = 20\n"
    "data.width = 20\n"
    "data.low = 0\n"
    "data.high = 1\n"
    "data.dequantise = true\n"
    "icd.width = 4\n"
    "icd.past = 6\n"
    "icd.past_after = 10\n"
    "buffer.size = 10\n"
    "augment.blur = 5\n"
    "langevin.steps = 3\n"
    "optimiser.rate = 2e-4\n"
    "optimiser.clip = 0.5\n"
    "ema.decay = 0.9\n"
    "sample.rounds = 2\n"
    "sample.round_steps = 3\n"
    "sample.steps = 2\n"
    "sample.step = 100\n"
    "sample.noise = 0.001\n"
    "sample.batch = 4\n"
    "save.every = 2\n"
    "grid.every = 0\n"
    "log.every = 1\n";

static bool same_end(const char *folder)
{
    return run_same_file(ctx, ROOT "/whole", folder, "model.safetensors")
        && run_same_file(ctx, ROOT "/whole", folder, "metrics.jsonl");
}

static bool log_has(const char *folder, const char *text)
{
    char path[200], *log;
    size_t size;

    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    if (io_read_whole(ctx, path, 1 << 24, &log, &size) < 0)
        return false;
    bool has = strstr(log, text) != NULL;
    mem_free(ctx, log);
    return has;
}

static void test_whole(void)
{
    tap_ok(run(backend, &(struct run){ ROOT "/whole", NULL, false, 0, false }) == EBM_OK,
           "a run ends: %s", ebm_message(ctx));
    tap_ok(log_has(ROOT "/whole", "\"gradient.kl\":") && !log_has(ROOT "/whole", "null")
           && !log_has(ROOT "/whole", "\"gradient.kl\":0,"), "the KL term has a gradient");
}

static void test_same(void)
{
    ebm_backend *other;

    for (int64_t stop = 1; stop < 5; stop += 2) {
        int first = run(backend, &(struct run){ ROOT "/cut", NULL, false, stop, true });
        int second = run(backend, &(struct run){ ROOT "/cut", NULL, true, 0, false });
        tap_ok(first == EBM_OK && second == EBM_OK && same_end(ROOT "/cut"),
               "stopped after step %d and resumed: the same model and log", (int)stop);
        run_remove(ctx, ROOT "/cut");
    }
    bool ok = ebm_backend_open(ctx, "cpu", 2, &other) == EBM_OK
           && run(other, &(struct run){ ROOT "/threads", NULL, false, 0, false }) == EBM_OK;
    tap_ok(ok && same_end(ROOT "/threads"), "two threads: the same model and log");
    ebm_backend_free(other);
}

/* After five batches of four a ring of ten rows begins again at its first, and
 * its last four are the bytes of the chains' ends, truncated. */
static void test_ring(void)
{
    enum { BATCH = 4, ROWS = 10, PIXELS = 20 * 20 * 3 };
    static const int64_t chains_shape[4] = { BATCH, 20, 20, 3 }, rows_shape[4] = { ROWS + 1, 20, 20, 3 };
    static float chains[BATCH * PIXELS];
    static unsigned char rows[(ROWS + 1) * PIXELS];
    struct safetensors *file = NULL;
    float next = -1, batches = -1;
    int wrong = 0;

    bool read = safetensors_open(ctx, ROOT "/whole/checkpoint-000000005.safetensors", &file) >= 0
        && safetensors_read_shaped(file, "chains", EBM_F32, 4, chains_shape, chains) >= 0
        && safetensors_read_shaped(file, "buffer", EBM_U8, 4, rows_shape, rows) >= 0
        && safetensors_read_shaped(file, "buffer.next", EBM_F32, 0, NULL, &next) >= 0
        && safetensors_read_shaped(file, "buffer.batches", EBM_F32, 0, NULL, &batches) >= 0;
    safetensors_close(file);
    for (int i = 0; read && i < BATCH * PIXELS; i++)
        wrong += rows[(ROWS - BATCH) * PIXELS + i] != (int)floorf(255 * chains[i]);
    tap_ok(read && wrong == 0 && next == 0 && batches == 5,
           "the buffer is written in order, and holds the chains' ends%s%s", read ? "" : ": ",
           read ? "" : ebm_message(ctx));
}

/* Each switch by itself; what it leaves in the log. */
static void test_switches(void)
{
    static const struct { const char *name, *settings[3]; const char *log; } parts[] = {
        { "a reservoir", { "buffer.keep=reservoir" }, "\"step\":5" },
        { "no KL term", { "icd.kl=0", "icd.entropy=0" }, "\"gradient.kl\":0,\"distance\":0}" },
        { "the KL term of some images", { "icd.kl_images=2" }, "\"step\":5" },
        { "no entropy", { "icd.entropy=0" }, "\"distance\":0}" },
        { "one scale", { "icd.scales=false" }, "\"step\":5" },
        { "no attention, no norm", { "icd.attention=false", "icd.norm=false" }, "\"step\":5" },
        { "spectral norm", { "icd.spectral_norm=true" }, "\"step\":5" },
        { "labels", { "icd.labels=6", "data.source=shapes:64" }, "\"step\":5" },
        { "any network", { "icd.net=any", "energy.net=\"conv:4,s2 silu flatten linear:1\"" }, "\"step\":5" },
        { "no augmentation", { "augment.area=1, 1", "augment.colour=0", "augment.blur=0" }, "\"step\":5" },
    };

    for (size_t i = 0; i < COUNT(parts); i++) {
        const char *const settings[] = { parts[i].settings[0], parts[i].settings[1],
                                         parts[i].settings[2], NULL };
        int rc = run(backend, &(struct run){ ROOT "/part", settings, false, 0, false });
        tap_ok(rc == EBM_OK && log_has(ROOT "/part", parts[i].log), "it trains with %s%s%s", parts[i].name,
               rc < 0 ? ": " : "", rc < 0 ? ebm_message(ctx) : "");
        run_remove(ctx, ROOT "/part");
    }
}

/* Between rounds of sampling images are changed as in training, but for what is
 * set otherwise. */
static void test_turns(void)
{
    static const struct { const char *text; bool flip; double grey; } cases[] = {
        { "method = icd\n", true, 0.2 },
        { "method = icd\naugment.flip = false\naugment.grey = 0.5\n", false, 0.5 },
        { "method = icd\nsample.flip = false\nsample.grey = 0\n", false, 0 },
        { "method = icd\naugment.grey = 0\nsample.grey = 0.1\n", true, 0.1 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct method *method;
        struct recipe *recipe = NULL;
        struct augment a = { 0 };
        if (recipe_new(ctx, &recipe) >= 0
            && recipe_parse(recipe, cases[i].text, strlen(cases[i].text), "it") >= 0
            && method_declare(ctx, recipe, &method) >= 0)
            a = icd_augment_of(recipe, true);
        tap_ok(a.flip == cases[i].flip && fabs(a.grey - cases[i].grey) < 1e-12, "between rounds, case %zu: %s, grey %g",
               i, a.flip ? "mirrored" : "not mirrored", a.grey);
        recipe_free(recipe);
    }
}

/* All settings of a built-in recipe, a line each, to be freed; NULL: it is none. */
static char *built_in(const char *name)
{
    const char *folder = getenv("srcdir");
    const struct method *method;
    struct recipe *recipe = NULL;
    char path[600], *text = NULL;

    snprintf(path, sizeof path, "%s/recipes/%s.recipe", folder ? folder : ".", name);
    if (recipe_new(ctx, &recipe) >= 0 && recipe_read(recipe, path) >= 0
        && method_declare(ctx, recipe, &method) >= 0)
        text = recipe_write(recipe, false);
    recipe_free(recipe);
    return text;
}

/* The rows of the paper's table of ablations differ from the whole method by what
 * they leave out, and by nothing else. */
static void test_ablations(void)
{
    static const char *const out[] = { "icd.entropy", "icd.kl", "icd.scales", "augment.", "sample.rounds" };
    static const int leaves[] = { 5, 3, 2, 1 };      /* so many of them, by row */
    char *whole = built_in("icd-cifar10");

    for (int row = 0; row < 4; row++) {
        char name[40];
        snprintf(name, sizeof name, "icd-ablation-%d", row + 1);
        char *text = built_in(name), *a = whole, *b = text;
        int wrong = 0, changed = 0;
        while (a && b && *a && *b) {
            size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
            if (n != m || strncmp(a, b, n) != 0) {
                bool named = false;
                for (int i = 0; i < leaves[row]; i++)
                    named = named || strncmp(b, out[i], strlen(out[i])) == 0;
                changed++;
                wrong += !named;
            }
            a += n + (a[n] == '\n');
            b += m + (b[m] == '\n');
        }
        tap_ok(a && b && !*a && !*b && wrong == 0 && changed >= leaves[row], "%s: %d settings are not the whole "
               "method's%s%s", name, changed, text ? "" : ": ", text ? "" : ebm_message(ctx));
        mem_free(ctx, text);
    }
    mem_free(ctx, whole);
}

static void test_refusals(void)
{
    static const char *const wrong[] = { "data.low=-1", "augment.blur=4", "augment.area=0.5", "buffer.size=3",
                                         "sample.label=0", "icd.labels=2", "data.height=16" };

    for (size_t i = 0; i < COUNT(wrong); i++) {
        const char *const settings[] = { wrong[i], NULL };
        int rc = run(backend, &(struct run){ ROOT "/wrong", settings, false, 0, false });
        tap_ok(rc == EBM_ERR_ARG, "%s is refused: %s", wrong[i], ebm_message(ctx));
        run_remove(ctx, ROOT "/wrong");
    }
}

/* Energies of any label are -log sum exp of those of each; samples depend on the
 * seed and their number alone. */
static void test_model(void)
{
    enum { LABELS = 6, PIXELS = 20 * 20 * 3 };
    static float images[3 * PIXELS], again[PIXELS];
    const char *const settings[] = { "icd.labels=6", NULL };
    const char *path = ROOT "/told/model.safetensors";
    double sum[2] = { 0 };
    float any[2];
    ebm_model *m;

    if (!tap_ok(run(backend, &(struct run){ ROOT "/told", settings, false, 0, false }) == EBM_OK
                && ebm_model_open(backend, path, NULL, &m) == EBM_OK, "a model that is told labels: %s",
                ebm_message(ctx)))
        return;
    bool drawn = ebm_model_sample(m, 3, 0, 3, images, NULL, NULL) == EBM_OK
              && ebm_model_sample(m, 3, 2, 1, again, NULL, NULL) == EBM_OK;
    tap_ok(drawn && memcmp(again, images + 2 * PIXELS, sizeof again) == 0, "a sample has its number");
    tap_ok(ebm_model_energy(m, 2, images, any) == EBM_OK, "energies without a label");
    ebm_model_free(m);
    for (int label = 0; label < LABELS; label++) {
        char text[32];
        const char *const chosen[] = { text };
        float e[2] = { 0 };
        snprintf(text, sizeof text, "sample.label=%d", label);
        if (ebm_model_open(backend, path, &(ebm_model_options){ .settings = chosen, .n_settings = 1 }, &m) < 0)
            break;
        ebm_model_energy(m, 2, images, e);
        for (int i = 0; i < 2; i++)
            sum[i] += exp((double)-e[i]);
        ebm_model_free(m);
    }
    tap_ok(fabs(-log(sum[0]) - (double)any[0]) < 1e-4 && fabs(-log(sum[1]) - (double)any[1]) < 1e-4,
           "that is -log of the sum of e^-E over the labels: %g, %g", -log(sum[0]), (double)any[0]);
}

/* Train two steps with an allocation failing. */
static int train_once(const ebm_host *host)
{
    static const char *const settings[] = {
        "icd.net=28", "icd.labels=6", "data.height=9", "data.width=9", "data.channels=1", "langevin.steps=2",
    };
    const ebm_train_options options = { .recipe = ROOT "/tiny.recipe", .folder = ROOT "/faulty",
                                        .settings = settings, .n_settings = COUNT(settings) };
    ebm_context *c;
    ebm_backend *b = NULL;
    ebm_train *t = NULL;
    int rc = ebm_context_new(host, &c);

    if (rc < 0)
        return rc;
    if ((rc = ebm_backend_open(c, "cpu", 1, &b)) >= 0
        && (rc = ebm_train_open(b, &options, &t)) >= 0
        && (rc = ebm_train_step(t, NULL)) >= 0
        && (rc = ebm_train_step(t, NULL)) >= 0)
        rc = ebm_train_finish(t);
    ebm_train_free(t);
    ebm_backend_free(b);
    ebm_context_free(c);
    run_remove(ctx, ROOT "/faulty");
    return rc;
}

/* Each of the first forty, and ever fewer of those that follow. */
static void test_faults(void)
{
    struct faults faults = { 0 };
    ebm_host host = fault_host(&faults);
    long n, wrong = 0;

    for (n = 0; ; n += 1 + n / 40) {
        fault_arm(&faults, n);
        int rc = train_once(&host);
        if (!faults.fired)
            break;
        bool good = faults.live == 0 && fault_told(&faults, rc);
        if (!good)
            tap_note("allocation %ld: %d, %ld blocks left", n, rc, faults.live);
        wrong += !good;
    }
    tap_ok(wrong == 0 && n > 1000 && faults.live == 0, "up to allocation %ld failing: said, and nothing leaks", n);
}

int main(void)
{
    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 1;
    if (!run_folder(ctx, ROOT)
        || io_write_whole(ctx, ROOT "/tiny.recipe", tiny, sizeof tiny - 1) < 0) {
        tap_ok(false, "a folder for the test: %s", ebm_message(ctx));
        return tap_done();
    }
    test_whole();
    test_ring();
    test_same();
    test_switches();
    test_turns();
    test_ablations();
    test_refusals();
    test_model();
    test_faults();
    run_remove(ctx, ROOT);
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    return tap_done();
}
