/* test_model.c - trained models: energies and samples that depend on what they
 * should, files that are not models.
 *
 * SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "io.h"
#include "run.h"
#include "safetensors.h"
#include "tap.h"

#define ROOT "test_model.tmp"
#define MODEL ROOT "/run/model.safetensors"
enum { PIXELS = 16 * 16 * 3, N = 21 };       /* batches of 8: two and a part */

static ebm_context *ctx;
static ebm_backend *backend;

static bool open_with(const char *setting, ebm_model **model)
{
    ebm_model_options options = { .settings = &setting, .n_settings = 1 };

    return ebm_model_open(backend, MODEL, &options, model) == EBM_OK;
}

static void test_inspect(void)
{
    const ebm_model_info *info;

    if (!tap_ok(ebm_model_inspect(ctx, MODEL, &info) == EBM_OK, "a model says what it is: %s",
                ebm_message(ctx)))
        return;
    tap_ok(strcmp(info->method, "cd") == 0 && info->height == 16 && info->width == 16
           && info->channels == 3 && info->steps == 12 && info->seed == 1, "method, size, steps, seed");
    tap_ok(info->parameters == 2033, "parameters: %" PRId64, info->parameters);
    tap_ok(strcmp(info->data, "shapes:64") == 0 && strlen(info->fingerprint) == 16
           && strlen(info->digest) == 64 && strcmp(info->library, ebm_version()) == 0, "provenance");
    int weights = 0, raw = 0;
    for (int i = 0; i < info->n_tensors; i++) {
        weights += strncmp(info->tensors[i].name, "energy/", 7) == 0;
        raw += strncmp(info->tensors[i].name, "raw/energy/", 11) == 0;
    }
    tap_ok(weights == 6 && raw == 6 && info->n_tensors == 12, "six tensors, averaged and raw");
    ebm_model_info_free(ctx, info);
    ebm_model_info_free(ctx, NULL);
}

static void test_energy(ebm_model *model, const float *images)
{
    float all[N], one, some[5];
    bool same = true;

    tap_ok(ebm_model_energy(model, N, images, all) == EBM_OK, "energies of %d images", N);
    for (int i = 0; i < N; i++)
        same = same && ebm_model_energy(model, 1, images + i * PIXELS, &one) == EBM_OK && one == all[i];
    tap_ok(same, "an energy does not depend on the images beside it");
    tap_ok(ebm_model_energy(model, 5, images + 11 * PIXELS, some) == EBM_OK
           && memcmp(some, all + 11, sizeof some) == 0, "nor on its place");
    tap_ok(ebm_model_energy(model, 0, NULL, NULL) == EBM_OK, "none of none");

    ebm_model_options raw = { .raw = true };
    ebm_model *other;
    float last[N];
    bool ok = ebm_model_open(backend, MODEL, &raw, &other) == EBM_OK
           && ebm_model_energy(other, N, images, last) == EBM_OK;
    tap_ok(ok && memcmp(last, all, sizeof all) != 0, "the last weights are not their average");
    if (ok)
        ebm_model_free(other);
}

static int stop_soon(void *user, double done)
{
    (void)done;
    return ++*(int *)user >= 2;
}

static int rising(void *user, double done)
{
    double *last = user;

    if (done < *last || done > 1 + 1e-9)
        *last = 99;
    else
        *last = done;
    return 0;
}

static void test_samples(ebm_model *model)
{
    static float all[N * PIXELS], part[N * PIXELS];
    double done = 0;
    int calls = 0;
    bool within = true;

    tap_ok(ebm_model_sample(model, 7, 0, N, all, rising, &done) == EBM_OK && fabs(done - 1) < 1e-9,
           "%d samples; progress rises to 1", N);
    for (size_t i = 0; i < COUNT(all); i++)
        within = within && all[i] >= 0 && all[i] <= 1;
    tap_ok(within, "pixels in [0,1]");
    tap_ok(ebm_model_sample(model, 7, 0, N, part, NULL, NULL) == EBM_OK
           && memcmp(all, part, sizeof all) == 0, "the same again");
    tap_ok(ebm_model_sample(model, 7, 0, 3, part, NULL, NULL) == EBM_OK
           && memcmp(all, part, 3 * PIXELS * sizeof *all) == 0, "an image does not depend on how many");
    tap_ok(ebm_model_sample(model, 7, 5, 14, part, NULL, NULL) == EBM_OK
           && memcmp(all + 5 * PIXELS, part, 14 * PIXELS * sizeof *all) == 0, "nor on the first");
    tap_ok(memcmp(all, all + 8 * PIXELS, 8 * PIXELS * sizeof *all) != 0, "batches differ");
    tap_ok(ebm_model_sample(model, 8, 0, N, part, NULL, NULL) == EBM_OK
           && memcmp(all, part, sizeof all) != 0, "another seed, other images");
    tap_ok(ebm_model_sample(model, 7, 0, N, part, stop_soon, &calls) == EBM_ERR_STOPPED,
           "the caller can stop it");
    tap_ok(ebm_model_sample(model, 7, -1, 1, part, NULL, NULL) == EBM_ERR_ARG, "there is no image -1");
}

static void test_settings(ebm_model *model)
{
    static float a[PIXELS], b[PIXELS];
    ebm_model *other;
    const char *steps = ebm_model_setting(model, "sample.steps");

    tap_ok(steps && strcmp(steps, "6, 2") == 0, "a setting is told: %s", steps ? steps : "none");
    tap_ok(ebm_model_setting(model, "sample.ste") == NULL, "and one that is not there is not");
    if (tap_ok(open_with("sample.noise=0.3", &other), "settings of sampling can be changed")) {
        ebm_model_sample(model, 7, 0, 1, a, NULL, NULL);
        ebm_model_sample(other, 7, 0, 1, b, NULL, NULL);
        tap_ok(memcmp(a, b, sizeof a) != 0, "and count");
        ebm_model_free(other);
    }
    if (tap_ok(open_with("precision=bf16", &other), "so can the precision")) {
        float full[1], less[1];
        const char *told = ebm_model_setting(other, "precision");
        tap_ok(told && strcmp(told, "bf16") == 0, "which is told");
        ebm_model_sample(model, 7, 0, 1, a, NULL, NULL);
        ebm_model_energy(model, 1, a, full);
        ebm_model_energy(other, 1, a, less);
        tap_ok(*full != *less && fabsf(*full - *less) < 0.02f * fabsf(*full) + 0.01f,
               "an energy with bf16 is another (%g), but nearly the same as in float32 (%g)", *less, *full);
        ebm_model_free(other);
    }
    if (tap_ok(open_with("precision=bf16x3", &other), "and be three products")) {
        float full[1], three[1];
        ebm_model_sample(model, 7, 0, 1, a, NULL, NULL);
        ebm_model_energy(model, 1, a, full);
        ebm_model_energy(other, 1, a, three);
        tap_ok(fabsf(*full - *three) < 1e-4f * fabsf(*full) + 1e-4f,
               "an energy with bf16x3 (%g) is nearly that in float32 (%g)", *three, *full);
        ebm_model_free(other);
    }
    tap_ok(!open_with("precision=fp8", &other) && strstr(ebm_message(ctx), "bf16"),
           "no other precision than there is");
    tap_ok(!open_with("langevin.order=noise-last", &other) && strstr(ebm_message(ctx), "sample.*"),
           "others cannot");
    tap_ok(!open_with("sample.stpes=3", &other) && strstr(ebm_message(ctx), "sample.steps"),
           "a misspelt one is told its name");
}

/* What a run shows of its samples is what its model draws. */
static void test_same_as_run(ebm_model *model)
{
    static float a[N * PIXELS], b[N * PIXELS];
    ebm_train_options options = { .folder = ROOT "/run", .resume = true };
    ebm_train *train;
    bool ok = ebm_train_open(backend, &options, &train) == EBM_OK;

    ok = ok && ebm_train_samples(train, 7, N, a, NULL, NULL) == EBM_OK
         && ebm_model_sample(model, 7, 0, N, b, NULL, NULL) == EBM_OK;
    tap_ok(ok && memcmp(a, b, sizeof a) == 0, "a run's samples are those of its model");
    ebm_train_free(train);
}

/* ---- files that are no models ---- */

/* The model's file with one metadata entry replaced, or one tensor left out. */
static int write_changed(const char *path, const char *key, const char *value, const char *without)
{
    struct safetensors *file;
    struct safetensors_writer *w;
    static float data[20][4096];
    const char *k, *text;
    int rc = safetensors_open(ctx, MODEL, &file);

    if (rc < 0 || (rc = safetensors_writer_new(ctx, &w)) < 0)
        return rc;
    for (int i = 0; safetensors_metadata_at(file, i, &k, &text); i++)
        if (strcmp(k, "sha256") != 0 && (strcmp(k, key) != 0 || value))
            safetensors_add_metadata(w, k, strcmp(k, key) == 0 ? value : text);
    for (int i = 0; rc >= 0 && i < safetensors_count(file); i++) {
        const struct safetensor *t = safetensors_at(file, i);
        if (strcmp(t->name, without) == 0)
            continue;
        rc = safetensors_read(file, t, EBM_F32, data[i], (size_t)t->elements * sizeof(float));
        safetensors_add(w, t->name, EBM_F32, t->rank, t->shape, data[i]);
    }
    if (rc >= 0)
        rc = safetensors_write(w, path, NULL);
    safetensors_writer_free(w);
    safetensors_close(file);
    return rc;
}

static void test_malformed(void)
{
    static const struct { const char *key, *value, *without, *says; } cases[] = {
        { "format", NULL, "", "format" },
        { "format", "libebm model 99", "", "libebm model 99" },
        { "format", "libebm checkpoint 1", "", "checkpoint" },
        { "recipe", NULL, "", "recipe" },
        { "recipe", "", "", "data.height" },
        { "recipe", "method = telepathy\n", "", "telepathy" },
        { "recipe", "method = cd\nwings = 2\n", "", "wings" },
        { "recipe", "method cd\n", "", "settings" },
        { "seed", "minus one", "", "seed" },
        { "parameters", NULL, "", "parameters" },
        { "-", NULL, "energy/conv1.weight", "energy/conv1.weight" },
        { "recipe", "data.height=16\ndata.width=16\ndata.channels=3\n", "", "energy/" },
        { "recipe", "data.height=16\ndata.width=16\ndata.channels=3\nenergy.net=conv:8 ((\n", "", "net" },
    };
    const char *path = ROOT "/bad.safetensors";
    ebm_model *model;

    for (size_t i = 0; i < COUNT(cases); i++) {
        bool made = write_changed(path, cases[i].key, cases[i].value, cases[i].without) == EBM_OK;
        int rc = ebm_model_open(backend, path, NULL, &model);
        if (!tap_ok(made && rc == EBM_ERR_FORMAT && model == NULL && strstr(ebm_message(ctx), cases[i].says),
                    "malformed file %zu is refused; '%s' is named", i, cases[i].says))
            tap_note("%d: %s", rc, ebm_message(ctx));
    }

    char *text;
    size_t size;
    if (io_read_whole(ctx, MODEL, 1 << 24, &text, &size) == EBM_OK) {
        text[size - 5] ^= 1;
        bool written = io_write_whole(ctx, path, text, size) == EBM_OK;
        tap_ok(written && ebm_model_open(backend, path, NULL, &model) == EBM_ERR_FORMAT,
               "one bit altered: %s", ebm_message(ctx));
        written = io_write_whole(ctx, path, text, size / 2) == EBM_OK;
        tap_ok(written && ebm_model_open(backend, path, NULL, &model) == EBM_ERR_FORMAT,
               "cut in half: %s", ebm_message(ctx));
        mem_free(ctx, text);
    }
    tap_ok(ebm_model_open(backend, ROOT "/none", NULL, &model) == EBM_ERR_IO, "a missing file");
    tap_ok(ebm_model_open(backend, ROOT "/tiny.recipe", NULL, &model) == EBM_ERR_FORMAT,
           "a file of another kind");
}

int main(void)
{
    ebm_model *model = NULL;
    ebm_data *data;
    static float images[N * PIXELS];

    if (ebm_context_new(NULL, &ctx) < 0 || !run_folder(ctx, ROOT)
        || ebm_backend_open(ctx, "cpu", 2, &backend) < 0)
        return 99;
    ebm_data_options sizes = { .height = 16, .width = 16 };
    bool ready = run(backend, &(struct run){ ROOT "/run", NULL, false, 0, false }) == EBM_OK
              && ebm_data_open(ctx, "shapes:100", &sizes, &data) == EBM_OK;
    for (int i = 0; ready && i < N; i++)
        ready = ebm_data_read(data, (size_t)i, images + i * PIXELS, NULL) == EBM_OK;
    if (tap_ok(ready && ebm_model_open(backend, MODEL, NULL, &model) == EBM_OK,
               "a trained model opens: %s", ebm_message(ctx))) {
        test_inspect();
        test_energy(model, images);
        test_samples(model);
        test_settings(model);
        test_same_as_run(model);
        test_malformed();
        ebm_data_free(data);
        ebm_model_free(model);
    }
    ebm_backend_free(backend);
    run_remove(ctx, ROOT);
    ebm_context_free(ctx);
    return tap_done();
}
