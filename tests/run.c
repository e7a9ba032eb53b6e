/* run.c - see run.h.
 *
 * SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "io.h"
#include "run.h"

static const char tiny[] =
    "method = cd\n"
    "steps = 12\n"
    "batch = 8\n"
    "data.source = shapes:64\n"
    "data.height = 16\n"
    "data.width = 16\n"
    "energy.net = conv:8,k5,s2 silu conv:16,s2 silu flatten linear:1\n"
    "buffer.size = 32\n"
    "langevin.steps = 4\n"
    "langevin.clip = element\n"
    "optimiser.clip = 0.5\n"
    "ema.decay = 0.9\n"
    "sample.steps = 6, 2\n"
    "sample.noise = 0.01, 0\n"
    "sample.batch = 8\n"
    "save.every = 5\n"
    "log.every = 2\n";

bool run_folder(ebm_context *ctx, const char *name)
{
    char path[200];

    run_remove(ctx, name);
    snprintf(path, sizeof path, "%s/tiny.recipe", name);
    return io_make_folder(ctx, name) == EBM_OK
        && io_write_whole(ctx, path, tiny, sizeof tiny - 1) == EBM_OK;
}

void run_remove(ebm_context *ctx, const char *folder)
{
    char **names, path[600];
    int count;

    if (!io_is_folder(folder) || io_names(ctx, folder, &names, &count) < 0)
        return;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (io_is_folder(path))
            run_remove(ctx, path);
        else
            unlink(path);
    }
    io_free_names(ctx, names, count);
    rmdir(folder);
}

/* The recipe beside the run's folder. */
static const char *recipe_beside(const char *folder, char path[300])
{
    const char *slash = strrchr(folder, '/');

    snprintf(path, 300, "%.*s/tiny.recipe", (int)(slash ? slash - folder : 1), slash ? folder : ".");
    return path;
}

int run(ebm_backend *backend, const struct run *r)
{
    char recipe[300];
    ebm_train_options options = { .folder = r->folder, .resume = r->resume, .settings = r->settings };
    ebm_train_metrics metrics = { 0 };
    ebm_train *train;
    int status;

    options.recipe = r->resume ? NULL : recipe_beside(r->folder, recipe);
    while (r->settings && r->settings[options.n_settings])
        options.n_settings++;
    if ((status = ebm_train_open(backend, &options, &train)) < 0)
        return status;
    const ebm_train_info *info = ebm_train_describe(train);
    int64_t last = r->stop ? r->stop : info->steps;
    for (int64_t at = info->step; at < last && status >= 0; at = metrics.step)
        status = ebm_train_step(train, &metrics);
    if (status >= 0 && !r->stop)
        status = ebm_train_finish(train);
    else if (status >= 0 && r->save)
        status = ebm_train_save(train);
    ebm_train_free(train);
    return status;
}

bool run_same_file(ebm_context *ctx, const char *a, const char *b, const char *name)
{
    char path[300], *text[2] = { NULL, NULL };
    size_t size[2];
    bool same = true;

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", i ? b : a, name);
        same = same && io_read_whole(ctx, path, 1 << 26, &text[i], &size[i]) == EBM_OK;
    }
    same = same && size[0] == size[1] && memcmp(text[0], text[1], size[0]) == 0;
    mem_free(ctx, text[0]);
    mem_free(ctx, text[1]);
    return same;
}
