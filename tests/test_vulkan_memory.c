/* test_vulkan_memory.c - what a run is said to take of the device is what it then takes.
 *
 * SPDX-License-Identifier: ISC
 *
 * Held against each other: bytes of stores and programs as needs.h adds them up before
 * there is any memory, and the blocks that were allocated on the device.  The backend's
 * heap gives small buffers blocks of 4 MiB: runs are large enough for these to be
 * nothing.  Others than plain contrastive divergence have many more pipelines to
 * compile: with EBM_TEST_LONG. */
#include "config.h"
#include <math.h>
#include <stdlib.h>

#include "../vulkan/vk.h"
#include "device.h"
#include "source.h"
#include "tap.h"
#include "train.h"

static const double ERROR = 0.05;
enum { SETTINGS_MAX = 8 };

static const struct job {
    const char *name, *recipe;
    const char *settings[SETTINGS_MAX];
} jobs[] = {
    { "plain contrastive divergence", "digits",
      { "data.height=32", "data.width=32", "data.channels=3", "batch=64", "buffer.size=4000",
        "energy.net=conv:64 silu conv:64 silu conv:64,s2 silu sum linear:1" } },
    { "improved", "icd-digits", { "batch=192", "buffer.size=10000" } },
    { "recovery likelihood", "cdrl-digits", { "batch=192" } },
};

/* Of one run, opened and not stepped. */
static void compare(ebm_backend *backend, const struct job *job, bool exact)
{
    struct vk *vk = (struct vk *)backend;
    const struct winograd_rules usual = vk->winograd;
    ebm_train_options options = { .recipe = job->recipe, .settings = job->settings, .seed = 1 };
    uint64_t before = vk->taken;
    ebm_train *train;

    while (options.n_settings < SETTINGS_MAX && job->settings[options.n_settings])
        options.n_settings++;
    if (exact)
        vk->winograd.share = 0;
    int rc = ebm_train_open(backend, &options, &train);
    vk->winograd = usual;
    if (rc < 0) {
        tap_ok(false, "%s: %s", job->name, ebm_message(vk->ctx));
        return;
    }
    double said = (double)(train->needs.stores + train->needs.programs), took = (double)(vk->taken - before);
    tap_ok(fabs(said / took - 1) <= ERROR, "%s%s: %.1f MiB were said, %.1f taken: %+.1f %%", job->name,
           exact ? ", without Winograd" : "", said / 1048576, took / 1048576, 100 * (said / took - 1));
    ebm_train_free(train);
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *backend;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    use_source_folders();
    for (int minimal = 0; minimal < 2; minimal++) {
        if (minimal)
            setenv("EBM_VULKAN_LIMITS", "minimum", 1);
        backend = device_backend(ctx, "vulkan:0");
        for (size_t i = 0; i < (getenv("EBM_TEST_LONG") ? COUNT(jobs) : 1); i++)
            compare(backend, &jobs[i], minimal);
        ebm_backend_free(backend);
    }
    ebm_context_free(ctx);
    return tap_done();
}
