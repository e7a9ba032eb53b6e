/* resume.c - the run folder: starting it, checkpoints, going on, going back.
 *
 * SPDX-License-Identifier: ISC
 *
 * A checkpoint holds the store, the loader's place, the guard's counts and the
 * length of the log.  The log is made durable before the checkpoint, so that it
 * is never shorter than a checkpoint says; going on cuts it to that length.
 *
 * Invariant: what a run does after a checkpoint is a function of that
 * checkpoint.  So a return to one, after divergence, chooses among those that
 * any course of the run has: of steps that are multiples of save.every, and none
 * written while the guard was refusing updates. */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "checkpoint.h"
#include "number.h"
#include "train.h"

#define CHECKPOINT_FORMAT "libebm checkpoint 1"
enum { MAX_RECIPE_BYTES = 1 << 20 };

/* ---- writing ---- */

void run_add_count(struct safetensors_writer *w, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRIu64, value);
    safetensors_add_metadata(w, key, text);
}

/* A checkpoint of a stop, or of the end, does not push out one that a diverged
 * run may return to. */
static struct checkpoint_keep keep_of(ebm_train *t)
{
    return (struct checkpoint_keep){
        .last = (int)recipe_integer(t->recipe, "save.last"),
        .every = recipe_integer(t->recipe, "save.each"),
        .regular = t->save_every,
    };
}

static int write_checkpoint(ebm_train *t, struct safetensors_writer *w)
{
    struct checkpoint_keep keep = keep_of(t);
    char *settings = recipe_write(t->recipe, false), print[20];
    int status;

    if (!settings)
        return EBM_ERR_NOMEM;
    snprintf(print, sizeof print, "%016" PRIx64, t->set.fingerprint);
    safetensors_add_metadata(w, "format", CHECKPOINT_FORMAT);
    safetensors_add_metadata(w, "library", ebm_version());
    safetensors_add_metadata(w, "recipe", settings);
    safetensors_add_metadata(w, "fingerprint", print);
    run_add_count(w, "batches", ebm_loader_tell(t->loader));
    run_add_count(w, "skips", (uint64_t)t->guard.skips);
    run_add_count(w, "rollbacks", (uint64_t)t->guard.rollbacks);
    run_add_count(w, "back", (uint64_t)t->back);
    run_add_count(w, "log", journal_size(t->journal));
    status = weights_add_all(t->store, w);
    if (status >= 0)
        status = checkpoint_save(t->ctx, t->folder, t->step, w, &keep);
    mem_free(t->ctx, settings);
    return status;
}

int run_save(ebm_train *t)
{
    struct safetensors_writer *w;
    int status;

    if (t->guard.skips == 0 && t->step % t->save_every == 0)
        t->back = 0;             /* one more that can be returned to */
    if ((status = journal_sync(t->journal)) < 0
        || (status = safetensors_writer_new(t->ctx, &w)) < 0)
        return status;
    status = write_checkpoint(t, w);
    safetensors_writer_free(w);
    if (status >= 0)
        t->saved = t->step;
    return status;
}

/* ---- reading ---- */

static int integer(ebm_train *t, struct safetensors *file, const char *key, int64_t *value)
{
    const char *text = safetensors_metadata(file, key);

    if (text && number_read_integer(text, strlen(text), value) && *value >= 0)
        return EBM_OK;
    return ebm_fail(t->ctx, EBM_ERR_FORMAT, "%s: its metadata has no count '%s'",
                    safetensors_path(file), key);
}

static int check_kind(ebm_context *ctx, struct safetensors *file)
{
    const char *format = safetensors_metadata(file, "format");

    if (format && strcmp(format, CHECKPOINT_FORMAT) == 0)
        return EBM_OK;
    return ebm_fail(ctx, EBM_ERR_FORMAT, "%s is a '%.40s', not a '%s'", safetensors_path(file),
                    format ? format : "?", CHECKPOINT_FORMAT);
}

static int check_data(ebm_train *t, struct safetensors *file)
{
    const char *before = safetensors_metadata(file, "fingerprint");
    char now[20];

    snprintf(now, sizeof now, "%016" PRIx64, t->set.fingerprint);
    if (before && strcmp(before, now) == 0)
        return EBM_OK;
    return ebm_fail(t->ctx, EBM_ERR_FORMAT, "the data '%s' (%s) are not those the run began "
                    "with (%s): give these to data.source, or start anew",
                    recipe_text(t->recipe, "data.source"), now, before ? before : "?");
}

/* What a checkpoint says beside its tensors. */
struct position {
    int64_t batches, skips, rollbacks, back, log;
};

static int read_position(ebm_train *t, struct safetensors *file, struct position *p)
{
    int status;

    if ((status = check_kind(t->ctx, file)) < 0
        || (status = check_data(t, file)) < 0
        || (status = integer(t, file, "batches", &p->batches)) < 0
        || (status = integer(t, file, "skips", &p->skips)) < 0
        || (status = integer(t, file, "rollbacks", &p->rollbacks)) < 0
        || (status = integer(t, file, "back", &p->back)) < 0
        || (status = integer(t, file, "log", &p->log)) < 0)
        return status;
    return EBM_OK;
}

static int put_in_force(ebm_train *t, struct safetensors *file, const struct position *p, int64_t step)
{
    int status;

    if ((status = weights_read_all(t->store, file)) < 0
        || (status = ebm_loader_seek(t->loader, (uint64_t)p->batches)) < 0)
        return status;
    t->step = step;
    t->saved = step;
    return EBM_OK;
}

static int recipe_of(ebm_train *t, struct safetensors *file, char **text)
{
    const char *settings = safetensors_metadata(file, "recipe");
    int status = check_kind(t->ctx, file);

    if (status < 0)
        return status;
    if (!settings)
        return ebm_fail(t->ctx, EBM_ERR_FORMAT, "%s holds no recipe", safetensors_path(file));
    return (*text = mem_strdup(t->ctx, settings)) ? EBM_OK : EBM_ERR_NOMEM;
}

int run_recipe(ebm_train *t, char **text)
{
    int status;

    *text = NULL;
    if ((status = checkpoint_open(t->ctx, t->folder, &t->newest, &t->newest_step)) < 0)
        return status;
    if (t->newest)
        return recipe_of(t, t->newest, text);
    char *path = io_join(t->ctx, t->folder, "recipe");
    size_t size;
    if (!path)
        return EBM_ERR_NOMEM;
    if (io_exists(path))
        status = io_read_whole(t->ctx, path, MAX_RECIPE_BYTES, text, &size);
    else
        status = ebm_fail(t->ctx, EBM_ERR_ARG, "%s holds no run to resume", t->folder);
    mem_free(t->ctx, path);
    return status;
}

/* ---- what may change ---- */

static bool may_change(const char *line, size_t n)
{
    static const char *const free_keys[] = { "steps ", "save.", "log.", "grid.", "data.source " };

    for (size_t i = 0; i < COUNT(free_keys); i++) {
        size_t k = strlen(free_keys[i]);
        if (n >= k && strncmp(line, free_keys[i], k) == 0)
            return true;
    }
    return false;
}

/* Is the line in the text? */
static bool has_line(const char *text, const char *line, size_t n)
{
    while (text) {
        if (strncmp(text, line, n) == 0 && (text[n] == '\n' || text[n] == 0))
            return true;
        text = strchr(text, '\n');
        text += text != NULL;
    }
    return false;
}

int run_same(ebm_train *t)
{
    char *now = recipe_write(t->recipe, false), *before = recipe_write(t->former, false);
    int status = now && before ? EBM_OK : EBM_ERR_NOMEM;

    for (const char *line = now, *end; status >= 0 && line && *line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        size_t n = end ? (size_t)(end - line) : strlen(line);
        if (n > 0 && !may_change(line, n) && !has_line(before, line, n))
            status = ebm_fail(t->ctx, EBM_ERR_ARG, "the run was begun with another setting than "
                              "'%.*s'; resuming can change steps, save.*, log.*, grid.* and "
                              "data.source only", (int)n, line);
    }
    mem_free(t->ctx, now);
    mem_free(t->ctx, before);
    return status;
}

/* ---- the folder ---- */

static int open_journal(ebm_train *t, uint64_t keep)
{
    char *path = io_join(t->ctx, t->folder, "metrics.jsonl");
    int status = path ? EBM_OK : EBM_ERR_NOMEM;

    journal_close(t->journal);
    t->journal = NULL;
    if (path)
        status = journal_open(t->ctx, path, keep, &t->journal);
    mem_free(t->ctx, path);
    return status;
}

static int write_recipe(ebm_train *t)
{
    char *path = io_join(t->ctx, t->folder, "recipe");
    int status = path ? io_write_whole(t->ctx, path, t->text, strlen(t->text)) : EBM_ERR_NOMEM;

    mem_free(t->ctx, path);
    return status;
}

static int refuse_used(ebm_train *t)
{
    static const char *const signs[] = { "recipe", "metrics.jsonl", "model.safetensors" };
    bool used = false;

    for (size_t i = 0; i < COUNT(signs) && !used; i++) {
        char *path = io_join(t->ctx, t->folder, signs[i]);
        if (!path)
            return EBM_ERR_NOMEM;
        used = io_exists(path);
        mem_free(t->ctx, path);
    }
    return !used ? EBM_OK
         : ebm_fail(t->ctx, EBM_ERR_ARG, "%s holds a run already: resume it, or name another folder",
                    t->folder);
}

/* The first checkpoint, of step 0, is what a run that diverges early returns to. */
static int start_anew(ebm_train *t)
{
    int status;

    if ((status = write_recipe(t)) < 0 || (status = open_journal(t, 0)) < 0)
        return status;
    return run_save(t);
}

int run_start(ebm_train *t)
{
    int status;

    if ((status = io_make_folder(t->ctx, t->folder)) < 0 || (status = refuse_used(t)) < 0)
        return status;
    return start_anew(t);
}

int run_resume(ebm_train *t)
{
    struct checkpoint_keep keep = keep_of(t);
    struct position p;
    int status;

    if (!t->newest)
        return start_anew(t);
    if ((status = read_position(t, t->newest, &p)) < 0
        || (status = put_in_force(t, t->newest, &p, t->newest_step)) < 0
        || (status = open_journal(t, (uint64_t)p.log)) < 0
        || (status = checkpoint_prune(t->ctx, t->folder, t->step, &keep)) < 0)
        return status;
    t->guard.skips = (int)p.skips;
    t->guard.rollbacks = (int)p.rollbacks;
    t->back = (int)p.back;
    safetensors_close(t->newest);
    t->newest = NULL;
    return write_recipe(t);
}

/* ---- going back ---- */

/* Put the checkpoint of a step in force if it may be returned to: 1, or 0. */
static int try_back(ebm_train *t, int64_t step)
{
    struct safetensors *file;
    struct position p;
    int status;

    status = checkpoint_open_step(t->ctx, t->folder, step, &file);
    if (status == EBM_ERR_FORMAT)
        return 0;
    if (status < 0)
        return status;
    if ((status = read_position(t, file, &p)) >= 0 && p.skips == 0
        && (status = put_in_force(t, file, &p, step)) >= 0)
        status = 1;
    safetensors_close(file);
    return status;
}

/* Those of one divergence go further back each time. */
static int go_back(ebm_train *t)
{
    int64_t *steps;
    int count, wanted = t->back, status = checkpoint_list(t->ctx, t->folder, &steps, &count);
    int64_t oldest = -1;

    if (status < 0)
        return status;
    for (int i = count; i-- > 0 && status == 0; ) {
        if (steps[i] > t->saved || steps[i] % t->save_every != 0)
            continue;            /* of an abandoned course, or of a stop */
        oldest = steps[i];
        if (wanted-- > 0)
            continue;
        status = try_back(t, steps[i]);
    }
    if (status == 0 && oldest >= 0)
        status = try_back(t, oldest);
    mem_free(t->ctx, steps);
    return status;
}

int run_back(ebm_train *t)
{
    int64_t from = t->step;
    int status;

    if (!t->folder)
        return ebm_fail(t->ctx, EBM_ERR_DIVERGED, "training diverged at step %" PRId64 " (%s), "
                        "and there is no run folder with a checkpoint to return to", from, t->reason);
    if (t->guard.rollbacks >= t->guard.limit)
        return ebm_fail(t->ctx, EBM_ERR_DIVERGED, "training diverged at step %" PRId64 " (%s); "
                        "%d returns to a checkpoint were in vain: a lower optimiser.rate or "
                        "langevin.step, or a larger cd.penalty may help", from, t->reason,
                        t->guard.rollbacks);
    if ((status = go_back(t)) < 0)
        return status;
    if (status == 0)
        return ebm_fail(t->ctx, EBM_ERR_DIVERGED, "training diverged at step %" PRId64 " (%s), and "
                        "%s has no good checkpoint to return to", from, t->reason, t->folder);
    t->back++;
    t->guard.rollbacks++;
    t->guard.skips = 0;

    /* The step of the counter is the checkpoint's; its stream is new. */
    uint32_t counter[4];
    if ((status = ebm_store_read(t->store, METHOD_RNG, counter, sizeof counter)) < 0)
        return status;
    counter[3] = (uint32_t)t->guard.rollbacks;
    if ((status = ebm_store_write(t->store, METHOD_RNG, counter, sizeof counter)) < 0)
        return status;
    return journal_event(t->journal, from, "rolled back", t->step, t->reason);
}
