/* checkpoint.c - the saved states of a run.
 *
 * SPDX-License-Identifier: ISC
 *
 * The step is in the name, so that the folder is its own index.  Old ones are
 * removed only after the new one is durable. */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "checkpoint.h"
#include "number.h"

static const char prefix[] = "checkpoint-", suffix[] = ".safetensors";
enum { DIGITS = 9 };          /* more are used where a run is that long */

static char *path_of(ebm_context *ctx, const char *folder, int64_t step)
{
    char name[64];

    snprintf(name, sizeof name, "%s%0*" PRId64 "%s", prefix, DIGITS, step, suffix);
    return io_join(ctx, folder, name);
}

/* The step in a checkpoint's name, -1 for other names. */
static int64_t step_of(const char *name)
{
    size_t n = strlen(name), p = sizeof prefix - 1, s = sizeof suffix - 1;
    int64_t step;

    if (n < p + s + DIGITS || strncmp(name, prefix, p) || strcmp(name + n - s, suffix)
        || strspn(name + p, "0123456789") != n - p - s
        || !number_read_integer(name + p, n - p - s, &step))
        return -1;
    return step;
}

static int ascending(const void *a, const void *b)
{
    int64_t s = *(const int64_t *)a, t = *(const int64_t *)b;

    return (s > t) - (s < t);
}

int checkpoint_list(ebm_context *ctx, const char *folder, int64_t **steps, int *count)
{
    char **names;
    int n, rc = io_names(ctx, folder, &names, &n);

    *steps = NULL;
    *count = 0;
    if (rc < 0)
        return rc;
    if (n && !(*steps = mem_new(ctx, (size_t)n, sizeof **steps)))
        rc = EBM_ERR_NOMEM;
    for (int i = 0; rc == EBM_OK && i < n; i++) {
        int64_t step = step_of(names[i]);
        if (step >= 0)
            (*steps)[(*count)++] = step;
    }
    if (*count)
        qsort(*steps, (size_t)*count, sizeof **steps, ascending);
    io_free_names(ctx, names, n);
    return rc;
}

static int remove_step(ebm_context *ctx, const char *folder, int64_t step)
{
    char *path = path_of(ctx, folder, step);
    int rc = path ? io_remove(ctx, path) : EBM_ERR_NOMEM;

    mem_free(ctx, path);
    return rc;
}

/* newer: how many that count are kept already. */
static bool kept(const struct checkpoint_keep *keep, int64_t at, int64_t step, int *newer)
{
    if (at > step)
        return false;
    if (keep->regular > 0 && at % keep->regular != 0)
        return at == step;
    return (*newer)++ < (keep->last > 1 ? keep->last : 1)
        || (keep->every > 0 && at % keep->every == 0);
}

int checkpoint_prune(ebm_context *ctx, const char *folder, int64_t step,
                     const struct checkpoint_keep *keep)
{
    int64_t *steps;
    int count, newer = 0, rc = checkpoint_list(ctx, folder, &steps, &count);

    for (int i = count; rc == EBM_OK && i-- > 0; )
        if (!kept(keep, steps[i], step, &newer))
            rc = remove_step(ctx, folder, steps[i]);
    mem_free(ctx, steps);
    return rc;
}

int checkpoint_save(ebm_context *ctx, const char *folder, int64_t step,
                    struct safetensors_writer *writer, const struct checkpoint_keep *keep)
{
    char text[32], *path = path_of(ctx, folder, step);
    int rc = path ? EBM_OK : EBM_ERR_NOMEM;

    snprintf(text, sizeof text, "%" PRId64, step);
    safetensors_add_metadata(writer, "step", text);
    if (rc == EBM_OK)
        rc = safetensors_write(writer, path, NULL);
    mem_free(ctx, path);
    return rc < 0 ? rc : checkpoint_prune(ctx, folder, step, keep);
}

int checkpoint_open_step(ebm_context *ctx, const char *folder, int64_t step,
                         struct safetensors **file)
{
    char *path = path_of(ctx, folder, step);
    const char *text;
    int64_t inside;
    int rc;

    *file = NULL;
    if (!path)
        return EBM_ERR_NOMEM;
    rc = safetensors_open(ctx, path, file);
    if (rc == EBM_OK)
        rc = safetensors_verify(*file);
    if (rc == EBM_OK && (!(text = safetensors_metadata(*file, "step"))
        || !number_read_integer(text, strlen(text), &inside) || inside != step))
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s holds step %.20s: it was renamed",
                      path, text ? text : "?");
    if (rc < 0) {
        safetensors_close(*file);
        *file = NULL;
    }
    mem_free(ctx, path);
    return rc;
}

int checkpoint_open(ebm_context *ctx, const char *folder,
                    struct safetensors **file, int64_t *step)
{
    int64_t *steps;
    int count, rc, at;

    *file = NULL;
    *step = 0;
    if ((rc = io_sweep(ctx, folder)) < 0
        || (rc = checkpoint_list(ctx, folder, &steps, &count)) < 0)
        return rc;
    for (at = count; at-- > 0; ) {
        rc = checkpoint_open_step(ctx, folder, steps[at], file);
        if (rc != EBM_ERR_FORMAT)
            break;                  /* a good one, or no fault of the file's */
        if (at > 0)
            ebm_note(ctx, EBM_LOG_WARN, "%s; the checkpoint of step %" PRId64 " is tried "
                     "instead", ebm_message(ctx), steps[at - 1]);
    }
    if (count > 0 && rc == EBM_OK) {
        *step = steps[at];
        if (at < count - 1)
            ebm_note(ctx, EBM_LOG_WARN, "going on from the checkpoint of step %" PRId64
                     ", as newer ones are damaged", *step);
        rc = 1;
    } else if (rc == EBM_ERR_FORMAT) {
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "none of the %d checkpoints in %s is intact; "
                      "start anew in another folder", count, folder);
    }
    mem_free(ctx, steps);
    return rc;
}
