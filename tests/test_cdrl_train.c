/* test_cdrl_train.c - diffusion recovery likelihood: an update against PyTorch,
 * runs, and what its models can draw.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "golden.h"
#include "io.h"
#include "methods/method.h"
#include "recipe.h"
#include "run.h"
#include "store.h"
#include "tap.h"

#define ROOT "test_cdrl_train.tmp"

static ebm_context *ctx;
static ebm_backend *backend;

/* ---- one update: golden/make_cdrl_step.py ---- */

enum { BATCH = 6, PIXELS = 4 * 6 * 3, CLASSES = 3 };

static const char step_recipe[] =
    "method = cdrl\nbatch = 6\n"
    "cdrl.width = 4\ncdrl.blocks = 1\ncdrl.multipliers = 1, 2\ncdrl.labels = 3\ncdrl.label_drop = 0.5\n"
    "langevin.steps = 3\ncdrl.rate_from = 1\n"
    "proposal.width = 4\nproposal.stages = 2\nproposal.blocks = 1\nproposal.attention = 2\n"
    "proposal.groups = 2\nproposal.dropout = 0.25\nproposal.rate = 0.02\nproposal.warmup = 0\n"
    "optimiser.rate = 0.01\noptimiser.epsilon = 1e-3\noptimiser.clip = 1\nema.decay = 0.9999\n";

struct batch {
    float images[BATCH * PIXELS];
    int32_t labels[BATCH];
};

static int next_batch(void *user, const float **images, const int32_t **labels)
{
    struct batch *b = user;

    for (int i = 0; i < BATCH * PIXELS; i++)
        b->images[i] = (float)golden_number("data", (uint64_t)i);
    for (int i = 0; i < BATCH; i++)
        b->labels[i] = i % CLASSES;
    *images = b->images;
    *labels = b->labels;
    return EBM_OK;
}

static bool is_gain(const char *name)
{
    size_t n = strlen(name);
    const char *norm = strstr(name, "norm");

    return (n > 2 && strcmp(name + n - 2, ".g") == 0)
        || (norm && n > 7 && strcmp(name + n - 7, ".weight") == 0);
}

static void put_made(ebm_store *store, const char *name, const char *own, const struct shape *shape)
{
    int64_t count = shape_count(shape);
    float *data = malloc((size_t)count * sizeof *data);
    double factor = shape->rank == 1 ? 0.5 : sqrt(3 * (double)shape->n[0] / (double)count);
    bool vector = strstr(own, "weight_u") || strstr(own, "weight_v");

    for (int64_t i = 0; data && i < count; i++)
        data[i] = (float)((vector ? 1 : factor) * golden_number(own, (uint64_t)i)
                          + (shape->rank == 1 && is_gain(own)));
    ebm_store_write(store, name, data, (size_t)count * sizeof *data);
    free(data);
}

/* Weights of both networks and the vectors of spectral norm, as the script has them. */
static void put_weights(ebm_store *store)
{
    for (int i = 0; i < store->count; i++) {
        const struct tensor *t = &store->tensors[i];
        char full[300];
        for (int j = 0; t->region && j < t->n_parts; j++) {
            snprintf(full, sizeof full, "%s/%s", t->name, t->parts[j].name);
            put_made(store, full, t->parts[j].name, &t->parts[j].shape);
        }
        if (!t->region && strncmp(t->name, "energy/", 7) == 0)
            put_made(store, t->name, t->name + 7, &t->shape);
    }
}

/* The largest difference of a region's vector (suffix: of its moments or average)
 * from the file, by the largest element. */
static double region_error(ebm_store *store, struct safetensors *file, const char *region,
                           const char *suffix, const char *prefix, double factor)
{
    const struct tensor *t = &store->tensors[store_find(store, region)];
    int64_t count = shape_count(&t->shape), found = 0;
    float *all = malloc((size_t)count * sizeof *all), *expected = malloc((size_t)count * sizeof *all);
    double largest = 0, worst = 0;
    char name[300];

    snprintf(name, sizeof name, "%s%s", region, suffix);
    if (ebm_store_read(store, name, all, (size_t)count * sizeof *all) < 0)
        worst = NAN;
    for (int j = 0; j < t->n_parts; j++) {
        const struct part *part = &t->parts[j];
        snprintf(name, sizeof name, "%s%s/%s", prefix, region, part->name);
        const struct safetensor *s = safetensors_find(file, name);
        int64_t n = shape_count(&part->shape);
        if (!s || safetensors_read(file, s, EBM_F32, expected, (size_t)n * sizeof *expected) < 0) {
            tap_note("the file has no %s", name);
            worst = NAN;
            continue;
        }
        found += n;
        for (int64_t k = 0; k < n; k++) {
            largest = fmax(largest, fabs(expected[k]));
            double d = fabs(factor * all[part->offset + k] - expected[k]);
            worst = d > worst || d != d ? d : worst;
        }
    }
    free(all);
    free(expected);
    return found == count ? worst / largest : NAN;
}

static void compare_step(ebm_store *store, const struct method_shown *shown)
{
    static const int64_t images[4] = { BATCH, 4, 6, 3 }, batch = BATCH;
    struct safetensors *file;
    float loss, proposal, level[2][BATCH], chains[2][BATCH * PIXELS];
    char path[300];
    double worst = 0, largest = 0;
    int wrong = 0;
    const char *folder = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/golden/cdrl-step.safetensors", folder ? folder : ".");
    if (safetensors_open(ctx, path, &file) < 0
        || safetensors_read_shaped(file, "loss", EBM_F32, 0, NULL, &loss) < 0
        || safetensors_read_shaped(file, "proposal.loss", EBM_F32, 0, NULL, &proposal) < 0
        || safetensors_read_shaped(file, "level", EBM_F32, 1, &batch, level[0]) < 0
        || safetensors_read_shaped(file, "chains", EBM_F32, 4, images, chains[0]) < 0
        || ebm_store_read(store, "level", level[1], sizeof level[1]) < 0
        || ebm_store_read(store, METHOD_CHAINS, chains[1], sizeof chains[1]) < 0) {
        tap_ok(false, "an update's file: %s", ebm_message(ctx));
        return;
    }
    for (int i = 0; i < BATCH; i++)
        wrong += level[0][i] != level[1][i];
    for (int i = 0; i < BATCH * PIXELS; i++) {
        worst = fmax(worst, fabs(chains[0][i] - chains[1][i]));
        largest = fmax(largest, fabs(chains[0][i]));
    }
    worst /= largest;
    tap_ok(wrong == 0 && worst < 2e-5, "an update: the levels, and the ends of the chains to %.0e", worst);
    double of_loss = fabs(shown->values[SHOWN_LOSS] - loss) / fabs(loss);
    double of_proposal = fabs(shown->values[SHOWN_COMMON] - proposal) / fabs(proposal);
    tap_ok(of_loss < 2e-4 && of_proposal < 2e-5, "losses of both networks: %.0e, %.0e", of_loss, of_proposal);
    for (int i = 0; i < 2; i++) {
        const char *region = i ? "proposal" : "energy";
        /* after one step m = (1 - beta1) of the clipped gradient */
        double of_grad = region_error(store, file, region, ".m", "grad.", 10);
        double of_w = region_error(store, file, region, "", "", 1);
        tap_ok(of_grad < 2e-4 && of_w < 2e-5, "%s: all gradients to %.0e, weights after the update to %.0e",
               region, of_grad, of_w);
    }
    safetensors_close(file);
}

/* The average after one step: of decay 2/11 from the first weights. */
static void check_average(ebm_store *store, const float *before, int64_t count)
{
    float *w = malloc((size_t)count * sizeof *w), *e = malloc((size_t)count * sizeof *e);
    double worst = 0;

    if (ebm_store_read(store, "proposal", w, (size_t)count * sizeof *w) < 0
        || ebm_store_read(store, "proposal.ema", e, (size_t)count * sizeof *e) < 0)
        worst = NAN;
    for (int64_t i = 0; i < count && worst == worst; i++)
        worst = fmax(worst, fabs(before[i] * 2. / 11 + w[i] * 9. / 11 - e[i]));
    tap_ok(worst < 1e-6, "the average begins with a decay of 2/11");
    free(w);
    free(e);
}

static void test_step(void)
{
    static struct batch batch;
    struct batch_source source = { next_batch, &batch };
    struct method_shown shown = { { 0 }, false, 0 };
    struct method_site site = { .ctx = ctx, .image = { 4, 6, 3 }, .classes = CLASSES };
    const struct method *method = NULL;
    uint32_t counter[4] = { 5, 0, 0, 0 };
    void *state = NULL;
    float *before = NULL;
    int64_t count = 0;
    int rc;

    if ((rc = recipe_new(ctx, &site.recipe)) >= 0
        && (rc = recipe_parse(site.recipe, step_recipe, sizeof step_recipe - 1, "test")) >= 0
        && (rc = method_declare(ctx, site.recipe, &method)) >= 0
        && (rc = ebm_store_new(backend, &site.store)) >= 0
        && (rc = method->train_build(&site, &state)) >= 0
        && (rc = ebm_store_alloc(site.store, 1)) >= 0
        && (rc = ebm_store_write(site.store, METHOD_RNG, counter, sizeof counter)) >= 0
        && (rc = method->train_compile(state)) >= 0) {
        put_weights(site.store);
        count = shape_count(&site.store->tensors[store_find(site.store, "proposal")].shape);
        before = malloc((size_t)count * sizeof *before);
        rc = ebm_store_read(site.store, "proposal", before, (size_t)count * sizeof *before);
        if (rc >= 0)
            rc = method->train_step(state, &source, false, &shown);
    }
    if (tap_ok(rc >= 0 && shown.accepted, "an update is made: %s", rc < 0 ? ebm_message(ctx) : "")) {
        compare_step(site.store, &shown);
        check_average(site.store, before, count);
    }
    free(before);
    if (method)
        method->train_free(state);
    ebm_store_free(site.store);
    recipe_free(site.recipe);
}

/* ---- runs ---- */

static const char tiny[] =
    "method = cdrl\nsteps = 4\nbatch = 4\n"
    "data.source = shapes:64\ndata.height = 8\ndata.width = 8\n"
    "cdrl.width = 4\ncdrl.blocks = 1\ncdrl.multipliers = 1, 2\n"
    "cdrl.labels = 6\ncdrl.rate_from = 1\nlangevin.steps = 3\n"
    "proposal.width = 4\nproposal.stages = 2\nproposal.blocks = 1\nproposal.groups = 2\n"
    "proposal.rate_from = 1\nproposal.warmup = 0\n"
    "optimiser.rate = 1e-3\noptimiser.clip = 1\nema.decay = 0.9\n"
    "sample.batch = 4\nsave.every = 2\ngrid.every = 0\nlog.every = 1\n";

static const char *const drl[] = {
    "cdrl.start=above", "cdrl.schedule=linear", "cdrl.pair=independent", "cdrl.net=drl", "cdrl.step=2e-4",
    "cdrl.labels=0", "sample.noise=0.99", "sample.denoise=0", NULL
};

static bool same_end(const char *folder, const char *other)
{
    return run_same_file(ctx, folder, other, "model.safetensors")
        && run_same_file(ctx, folder, other, "metrics.jsonl");
}

static void test_runs(void)
{
    ebm_backend *two;

    for (int plain = 0; plain < 2; plain++) {
        const char *name = plain ? "plain" : "cooperative", *whole = plain ? ROOT "/plain" : ROOT "/whole";
        const char *const *settings = plain ? drl : NULL;
        tap_ok(run(backend, &(struct run){ whole, settings, false, 0, false }) == EBM_OK, "%s: a run ends: %s",
               name, ebm_message(ctx));
        int first = run(backend, &(struct run){ ROOT "/cut", settings, false, 3, true });
        int second = run(backend, &(struct run){ ROOT "/cut", NULL, true, 0, false });
        tap_ok(first == EBM_OK && second == EBM_OK && same_end(whole, ROOT "/cut"),
               "%s: stopped and resumed, the same model and log", name);
        run_remove(ctx, ROOT "/cut");
        bool ok = ebm_backend_open(ctx, "cpu", 2, &two) == EBM_OK
               && run(two, &(struct run){ ROOT "/cut", settings, false, 0, false }) == EBM_OK;
        tap_ok(ok && same_end(whole, ROOT "/cut"), "%s: two threads, the same model and log", name);
        ebm_backend_free(two);
        run_remove(ctx, ROOT "/cut");
    }
}

/* Points have networks of their own. */
static void test_points(void)
{
    static const char *const settings[] = {
        "data.source=squares:64", "data.height=1", "data.width=2", "cdrl.labels=8", "cdrl.step_grows=false",
        "cdrl.step=2e-3", "sample.denoise=0", NULL
    };
    float points[2 * 5], e[5];
    ebm_model *model = NULL;
    int rc = run(backend, &(struct run){ ROOT "/points", settings, false, 0, false });

    tap_ok(rc == EBM_OK && ebm_model_open(backend, ROOT "/points/model.safetensors", NULL, &model) == EBM_OK
           && ebm_model_sample(model, 3, 0, 5, points, NULL, NULL) == EBM_OK
           && ebm_model_energy(model, 5, points, e) == EBM_OK && isfinite(e[4]), "points are learned and drawn%s%s",
           rc < 0 ? ": " : "", rc < 0 ? ebm_message(ctx) : "");
    ebm_model_free(model);
}

static void test_refusals(void)
{
    static const struct { const char *settings[3], *why; } wrong[] = {
        { { "cdrl.log_snr=-5.1, 9.8" }, "the larger first" },
        { { "cdrl.schedule=linear", "cdrl.levels=4" }, "6 levels" },
        { { "cdrl.labels=5" }, "6 classes" },
        { { "data.height=9" }, "multiples of 2" },
        { { "sample.label=6" }, "none of the 6 classes" },
        { { "sample.label=1, -1" }, "whole numbers of classes" },
        { { "cdrl.labels=0", "sample.guidance=1" }, "towards a class" },
        { { "sample.level=6" }, "levels are 0 to 5" },
    };

    for (size_t i = 0; i < COUNT(wrong); i++) {
        const char *const settings[] = { wrong[i].settings[0], wrong[i].settings[1], wrong[i].settings[2], NULL };
        int rc = run(backend, &(struct run){ ROOT "/wrong", settings, false, 0, false });
        tap_ok(rc == EBM_ERR_ARG && strstr(ebm_message(ctx), wrong[i].why), "refused: %s", ebm_message(ctx));
        run_remove(ctx, ROOT "/wrong");
    }
}

/* ---- models ---- */

enum { SIZE = 8 * 8 * 3, N = 6, LEVELS = 6, STAGES = LEVELS + 1 };

static ebm_model *open_model(const char *folder, const char *first, const char *second)
{
    const char *settings[2] = { first, second };
    ebm_model_options options = { .settings = settings, .n_settings = !!first + !!second };
    ebm_model *model = NULL;
    char path[100];

    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (ebm_model_open(backend, path, &options, &model) < 0)
        tap_ok(false, "a model opens: %s", ebm_message(ctx));
    return model;
}

/* N images of seed 3 with two settings. */
static bool drawn(const char *first, const char *second, float *images)
{
    ebm_model *model = open_model(ROOT "/whole", first, second);
    bool ok = model && ebm_model_sample(model, 3, 0, N, images, NULL, NULL) == EBM_OK;

    ebm_model_free(model);
    return ok;
}

static bool energies(const char *first, const char *second, const float *images, float *e)
{
    ebm_model *model = open_model(ROOT "/whole", first, second);
    bool ok = model && ebm_model_energy(model, N, images, e) == EBM_OK;

    ebm_model_free(model);
    return ok;
}

/* As ebm-sample --label has it. */
static bool told(int label, float *images)
{
    const ebm_model_part part = { ROOT "/whole/model.safetensors", 1, label };
    ebm_model *model = NULL;
    bool ok = ebm_model_join(backend, 1, &part, 0, NULL, &model) == EBM_OK
           && ebm_model_sample(model, 3, 0, N, images, NULL, NULL) == EBM_OK;

    ebm_model_free(model);
    return ok;
}

static bool same_images(const float *a, const float *b)
{
    return memcmp(a, b, N * SIZE * sizeof *a) == 0;
}

static void test_identities(void)
{
    static float usual[N * SIZE], other[N * SIZE], one[N * SIZE];
    float c[N], none[N], twice[N], guided[N], zero[N];
    double of_two = 0, of_guide = 0, scale = 0;

    tap_ok(drawn(NULL, NULL, usual) && drawn("sample.steps=3", "sample.step=1", other)
           && same_images(usual, other), "the steps of training, said: the same images");
    tap_ok(drawn("sample.steps=2", NULL, other) && !same_images(usual, other)
           && drawn("sample.steps=2", "sample.step=1.2247448713915890", one) && same_images(one, other),
           "two steps for three: longer by sqrt(3/2)");
    tap_ok(drawn("sample.label=1", NULL, one) && drawn("sample.label=1", "sample.guidance=0", other)
           && same_images(one, other), "guidance of weight 0 draws of the class");
    tap_ok(drawn("sample.label=1", "sample.guidance=2", other) && !same_images(one, other)
           && drawn("sample.label=-2", NULL, other) && !same_images(one, other),
           "guidance, and no class, draw others");
    tap_ok(drawn("sample.denoise=0", NULL, other) && !same_images(usual, other), "the last correction does something");
    tap_ok(told(1, other) && same_images(one, other), "the class may be said as of a model to be joined");
    tap_ok(!told(6, other) && strstr(ebm_message(ctx), "none of the 6 classes"), "%s", ebm_message(ctx));
    if (!tap_ok(energies("sample.label=1", NULL, usual, c) && energies("sample.label=-2", NULL, usual, none)
                && energies("sample.label=1, 1", NULL, usual, twice)
                && energies("sample.label=1", "sample.guidance=0.5", usual, guided)
                && energies("sample.label=1", "sample.guidance=-1", usual, zero), "energies of classes"))
        return;
    for (int i = 0; i < N; i++) {
        scale = fmax(scale, fabs(c[i] - none[i]));
        of_two = fmax(of_two, fabs(2. * c[i] - none[i] - twice[i]) / fabs(none[i]));
        of_guide = fmax(of_guide, fabs(1.5 * c[i] - 0.5 * none[i] - guided[i]) / fabs(none[i]));
        of_guide = fmax(of_guide, fabs(zero[i] - none[i]) / fabs(none[i]));
    }
    tap_ok(scale > 0 && of_two < 1e-5, "a class twice: 2 E(class) - E(none) (%.0e)", of_two);
    tap_ok(of_guide < 1e-5, "guidance w: (1 + w) E(class) - w E(none) (%.0e)", of_guide);
}

/* Energies of a level other than the first. */
static void test_levels(void)
{
    static float usual[N * SIZE];
    float low[N], high[N];

    tap_ok(drawn(NULL, NULL, usual) && energies(NULL, NULL, usual, low)
           && energies("sample.level=5", NULL, usual, high) && low[0] != high[0] && low[0] == low[0],
           "each level has an energy");
}

static void test_stages(void)
{
    static float images[N * SIZE], stages[STAGES * N * SIZE], some[2 * SIZE], some_stages[STAGES * 2 * SIZE];
    ebm_model *model = open_model(ROOT "/whole", NULL, NULL);
    ebm_draw all = { .seed = 3, .n = N, .stages = stages }, part = { .seed = 3, .first = 3, .n = 2, .stages = some_stages };
    static float usual[N * SIZE];
    bool same = true;

    tap_ok(model && ebm_model_stages(model) == STAGES && ebm_model_draw(model, &all, images) == EBM_OK
           && drawn(NULL, NULL, usual) && same_images(images, usual)
           && memcmp(stages + (STAGES - 1) * N * SIZE, images, sizeof images) == 0,
           "stages are shown, the last is the image");
    if (!model || ebm_model_draw(model, &part, some) < 0)
        same = false;
    for (int k = 0; k < STAGES && same; k++)
        same = memcmp(some_stages + k * 2 * SIZE, stages + (k * N + 3) * SIZE, 2 * SIZE * sizeof *some) == 0;
    tap_ok(same, "and do not depend on what else is drawn");
    double spread[2] = { 0, 0 };         /* of pixels beyond the range: noise has many */
    for (int i = 0; i < N * SIZE; i++) {
        spread[0] += stages[i] == 0 || stages[i] == 1;
        spread[1] += fabs(stages[i] - stages[N * SIZE + i]);
    }
    tap_ok(spread[0] > 0.2 * N * SIZE && spread[1] > 0, "the first is noise");
    ebm_model_free(model);
}

static void test_completing(void)
{
    static float usual[N * SIZE], images[N * SIZE], picture[SIZE], mask[64];
    ebm_model *model = open_model(ROOT "/whole", NULL, NULL);
    ebm_draw draw = { .seed = 3, .n = N, .picture = picture, .mask = mask };
    int kept = 0, changed = 0;

    for (int i = 0; i < SIZE; i++)
        picture[i] = (float)(i % 17) / 16;
    for (int i = 0; i < 64; i++)
        mask[i] = i % 8 >= 4;
    bool ok = model && ebm_model_draw(model, &draw, images) == EBM_OK && drawn(NULL, NULL, usual);
    for (int i = 0; ok && i < N * SIZE; i++) {
        bool given = mask[i % SIZE / 3] == 0;
        kept += given && fabsf(images[i] - picture[i % SIZE]) < 1e-6f;
        changed += !given && images[i] != usual[i];
    }
    tap_ok(ok && kept == N * SIZE / 2 && changed > 50, "a picture is completed: half of it kept, "
           "the rest drawn given that (%d, %d)", kept, changed);
    for (int i = 0; i < 64; i++)
        mask[i] = 1;
    ok = model && ebm_model_draw(model, &draw, images) == EBM_OK;
    tap_ok(ok && same_images(images, usual), "with nothing kept: as without a picture");
    draw.mask = NULL;
    tap_ok(model && ebm_model_draw(model, &draw, images) == EBM_ERR_ARG, "a picture without a mask is refused: %s",
           ebm_message(ctx));
    ebm_model_free(model);
}

static bool read_vector(struct safetensors *file, const char *name, float *to, int n)
{
    const struct safetensor *t = safetensors_find(file, name);

    return t && safetensors_read(file, t, EBM_F32, to, (size_t)n * sizeof *to) == EBM_OK;
}

/* Noise above 0.99 of the usual has another result; the plain model has one
 * network, and draws the same again. */
static void test_plain_model(void)
{
    static float a[N * SIZE], b[N * SIZE];
    ebm_model *model = open_model(ROOT "/plain", NULL, NULL), *louder = open_model(ROOT "/plain", "sample.noise=1", NULL);
    bool proposal = false, ok = model && louder && ebm_model_sample(model, 3, 0, N, a, NULL, NULL) == EBM_OK
        && ebm_model_sample(model, 3, 0, N, b, NULL, NULL) == EBM_OK && same_images(a, b)
        && ebm_model_sample(louder, 3, 0, N, b, NULL, NULL) == EBM_OK && !same_images(a, b);
    const ebm_model_info *info = model ? ebm_model_describe(model) : NULL;

    for (int i = 0; info && i < info->n_tensors; i++)
        proposal |= strncmp(info->tensors[i].name, "proposal", 8) == 0;
    tap_ok(ok && !proposal, "plain: one network, its noise as said, the same images again");
    ebm_model_free(model);
    ebm_model_free(louder);
}

/* The plain model's file has averages of the vectors of spectral norm, and the
 * last ones raw; the average moves by a tenth (ema.decay = 0.9) in each update. */
static void test_vectors(void)
{
    enum { OUT = 16 };                   /* of temb_dense_0: four widths */
    static const char name[] = "energy/temb_dense_0.u";
    struct safetensors *file[3] = { 0 };
    float u[3][OUT], mean[3][OUT];
    double apart = 0, worst = 0;
    bool ok = true;

    for (int i = 0; i < 3; i++) {        /* after 2 and 3 updates, and the model of 4 */
        static const char *const settings[] = { "save.every=1", "save.last=4", "ema.warmup=false", NULL };
        const char *all[16] = { settings[0], settings[1], settings[2] };
        for (int k = 0; drl[k]; k++)
            all[3 + k] = drl[k];
        if (i == 0)
            ok = run(backend, &(struct run){ ROOT "/vectors", all, false, 0, false }) == EBM_OK;
        static const char *const paths[] = { "checkpoint-000000003", "checkpoint-000000004", "model" };
        char path[100];
        snprintf(path, sizeof path, ROOT "/vectors/%s.safetensors", paths[i]);
        ok = ok && safetensors_open(ctx, path, &file[i]) == EBM_OK
          && read_vector(file[i], i < 2 ? name : "raw/energy/temb_dense_0.u", u[i], OUT)
          && read_vector(file[i], i < 2 ? "energy/temb_dense_0.u.ema" : name, mean[i], OUT);
        safetensors_close(file[i]);
    }
    for (int k = 0; k < OUT && ok; k++) {
        apart = fmax(apart, fabs(mean[2][k] - u[2][k]));
        worst = fmax(worst, fabs(mean[0][k] + 0.1 * (u[1][k] - mean[0][k]) - mean[1][k]));
    }
    tap_ok(ok && worst < 1e-6 && apart > 0, "plain: vectors of spectral norm are averaged (%.0e) %s", worst,
           ok ? "" : ebm_message(ctx));
    tap_ok(ok && memcmp(mean[1], mean[2], sizeof mean[1]) == 0 && memcmp(u[1], u[2], sizeof u[1]) == 0,
           "and its model has the averages, and the last ones raw");
}

int main(void)
{
    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 1;
    run_remove(ctx, ROOT);
    if (io_make_folder(ctx, ROOT) < 0 || io_write_whole(ctx, ROOT "/tiny.recipe", tiny, sizeof tiny - 1) < 0)
        return 1;
    test_step();
    test_runs();
    test_points();
    test_refusals();
    test_identities();
    test_levels();
    test_stages();
    test_completing();
    test_plain_model();
    test_vectors();
    run_remove(ctx, ROOT);
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    return tap_done();
}
