/* test_cdrl_vulkan.c - diffusion recovery likelihood on the Vulkan backend: runs
 * and draws beside those of the CPU.
 *
 * SPDX-License-Identifier: ISC
 *
 * The device is the first; a processor that plays a GPU will do. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "device.h"
#include "io.h"
#include "run.h"
#include "tap.h"

#define ROOT "test_cdrl_vulkan.tmp"

enum { SIZE = 8 * 8 * 3, N = 5, STEPS = 4 };

static ebm_context *ctx;
static ebm_backend *cpu, *vulkan;

static const char tiny[] =
    "method = cdrl\nsteps = 4\nbatch = 4\nseed = 5\n"
    "data.source = shapes:64\ndata.height = 8\ndata.width = 8\n"
    "cdrl.levels = 3\ncdrl.width = 4\ncdrl.blocks = 1\ncdrl.multipliers = 1, 2\n"
    "cdrl.labels = 6\ncdrl.rate_from = 1\nlangevin.steps = 3\n"
    "proposal.width = 4\nproposal.stages = 2\nproposal.blocks = 1\nproposal.groups = 2\n"
    "proposal.attention = 2\nproposal.rate = 1e-3\nproposal.rate_from = 1\nproposal.warmup = 0\n"
    "optimiser.rate = 1e-3\noptimiser.epsilon = 1e-3\noptimiser.clip = 1\nema.decay = 0.9\n"
    "sample.batch = 5\nsave.every = 4\ngrid.every = 0\nlog.every = 1\n";

static const char *const drl[] = {
    "cdrl.start=above", "cdrl.schedule=linear", "cdrl.levels=6", "cdrl.pair=independent", "cdrl.net=drl",
    "cdrl.step=2e-4", "cdrl.labels=0", "sample.noise=0.99", "sample.denoise=0", NULL
};

static ebm_model *open_model(ebm_backend *backend, const char *folder, int n, const char *const *settings)
{
    ebm_model_options options = { .settings = settings, .n_settings = n };
    ebm_model *model = NULL;
    char path[100];

    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (ebm_model_open(backend, path, &options, &model) < 0)
        tap_note("%s", ebm_message(ctx));
    return model;
}

static double difference(const float *a, const float *b, int n)
{
    double worst = 0;

    for (int i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        worst = d > worst || d != d ? d : worst;
    }
    return worst;
}

/* What a model draws and what energies it gives to given images. */
static bool answers(ebm_backend *backend, const char *folder, int n, const char *const *settings,
                    float *drawn, float *energies)
{
    static float images[N * SIZE];
    ebm_model *model = open_model(backend, folder, n, settings);

    for (int i = 0; i < N * SIZE; i++)
        images[i] = (float)(i % 23) / 22;
    bool ok = model && ebm_model_sample(model, 3, 0, N, drawn, NULL, NULL) == EBM_OK
           && ebm_model_energy(model, N, images, energies) == EBM_OK;
    if (!ok)
        tap_note("%s", ebm_message(ctx));
    ebm_model_free(model);
    return ok;
}

/* One model, both backends. */
static void same_answers(const char *name, const char *folder, int n, const char *const *settings)
{
    static float drawn[2][N * SIZE];
    float energies[2][N];
    double largest = 0;
    bool ok = answers(cpu, folder, n, settings, drawn[0], energies[0])
           && answers(vulkan, folder, n, settings, drawn[1], energies[1]);

    for (int i = 0; i < N; i++)
        largest = fmax(largest, fabs(energies[0][i]));
    double far = difference(drawn[0], drawn[1], N * SIZE);
    double apart = difference(energies[0], energies[1], N) / largest;
    tap_ok(ok && far < 1e-3 && apart < 1e-4, "%s: images within %.0e and energies within %.0e of the CPU's",
           name, far, apart);
}

static void test_runs(const char *name, const char *const *settings, const char *on_cpu, const char *on_vulkan)
{
    static float drawn[2][N * SIZE];
    float energies[2][N];
    double largest = 0;

    if (!tap_ok(run(cpu, &(struct run){ on_cpu, settings, false, 0, false }) == EBM_OK
                && run(vulkan, &(struct run){ on_vulkan, settings, false, 0, false }) == EBM_OK,
                "%s: %d updates on both", name, STEPS)) {
        tap_note("%s", ebm_message(ctx));
        return;
    }
    bool ok = answers(cpu, on_cpu, 0, NULL, drawn[0], energies[0])
           && answers(cpu, on_vulkan, 0, NULL, drawn[1], energies[1]);
    for (int i = 0; i < N; i++)
        largest = fmax(largest, fabs(energies[0][i]));
    double far = difference(drawn[0], drawn[1], N * SIZE);
    double apart = difference(energies[0], energies[1], N) / largest;
    tap_ok(ok && far < 1e-3 && apart < 1e-3, "%s: models that draw the same within %.0e, energies within %.0e",
           name, far, apart);
    same_answers(name, on_cpu, 0, NULL);
}

int main(void)
{
    static const char *const composed[] = {
        "sample.label=1, 4", "sample.guidance=1", "sample.steps=2", "sample.level=2", "sample.denoise=1"
    };

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    vulkan = device_backend(ctx, "vulkan:0");
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0)
        return 99;
    run_remove(ctx, ROOT);
    if (io_make_folder(ctx, ROOT) < 0 || io_write_whole(ctx, ROOT "/tiny.recipe", tiny, sizeof tiny - 1) < 0)
        return 99;
    test_runs("cooperative", NULL, ROOT "/cpu", ROOT "/vulkan");
    same_answers("two classes at once, guided, in two steps", ROOT "/cpu", 5, composed);
    test_runs("plain", drl, ROOT "/plain-cpu", ROOT "/plain-vulkan");
    run_remove(ctx, ROOT);
    ebm_backend_free(vulkan);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
