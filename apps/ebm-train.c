/* ebm-train.c - train a model from a recipe.
 *
 * SPDX-License-Identifier: ISC
 *
 * The library makes the steps, the log and the checkpoints; this tool draws what
 * a person looks at - progress, grids of samples, curves - and listens for
 * signals. */
#include "config.h"
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "chart.h"
#include "idle.h"
#include "options.h"
#include "output.h"
#include "plane.h"
#include "profile.h"
#include "progress.h"
#include "stop.h"
#include "tool.h"

static struct {
    const char *recipe, *data, *out, *backend, *precision;
    struct texts settings;
    struct integer steps, seed, threads;
    size_t max_memory;
    bool resume, dry, profile, quiet, json;
} given = { .backend = "auto" };

static const struct option_row rows[] = {
    { "recipe", 'r', OPTION_TEXT, "NAME|FILE", "what to train: a built-in recipe or a file",
      &given.recipe, 0, 0 },
    { "data", 'd', OPTION_TEXT, "SOURCE", "images: digits, shapes, a file or a folder",
      &given.data, 0, 0 },
    { "out", 'o', OPTION_TEXT, "DIR", "folder of the run, made anew", &given.out, 0, 0 },
    { "set", 's', OPTION_TEXTS, "KEY=VALUE", "change a setting; again for others",
      &given.settings, 0, 0 },
    { "steps", 0, OPTION_INTEGER, "N", "updates of the weights, in all", &given.steps, 1, INT64_MAX },
    { "seed", 0, OPTION_INTEGER, "N", "of all random numbers; drawn and shown if not given",
      &given.seed, 0, 9007199254740992 },
    { "backend", 'b', OPTION_TEXT, "NAME", "auto, cpu, vulkan or vulkan:N: what computes", &given.backend, 0, 0 },
    { "precision", 0, OPTION_TEXT, "NAME", "fp32, bf16 or bf16x3: how layers' products are computed",
      &given.precision, 0, 0 },
    { "threads", 't', OPTION_INTEGER, "N", "of the CPU; all processors if not given",
      &given.threads, 1, 4096 },
    { "max-mem", 0, OPTION_SIZE, "SIZE", "take no more memory, as in 2G: smaller parts of a batch", &given.max_memory, 0, 0 },
    { "resume", 0, OPTION_FLAG, NULL, "go on with the run in DIR", &given.resume, 0, 0 },
    { "dry-run", 0, OPTION_FLAG, NULL, "show settings and memory, and train nothing", &given.dry, 0, 0 },
    { "profile", 0, OPTION_FLAG, NULL, "show at the end where the time went", &given.profile, 0, 0 },
    { "quiet", 'q', OPTION_FLAG, NULL, "no progress", &given.quiet, 0, 0 },
    { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 },
};
static const struct tool tool = {
    "ebm-train", NULL, "", "Train an energy-based model of images.", rows, COUNT(rows)
};

/* What the tool holds while it works. */
struct work {
    ebm_context *context;
    ebm_backend *device;
    ebm_train *train;
    const ebm_train_info *info;
    struct series series;
    char **made;                       /* settings made of options */
    int n_made;
    double seconds;
    int64_t first_step;
};

/* --- settings --- */

/* key="text", quoted as recipes have it. */
static char *quoted_setting(const char *key, const char *text)
{
    char *s = malloc(strlen(key) + 2 * strlen(text) + 4), *p = s;

    if (!s)
        return NULL;
    p += sprintf(p, "%s=\"", key);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            *p++ = '\\';
        *p++ = *text;
    }
    strcpy(p, "\"");
    return s;
}

static char *number_setting(const char *key, int64_t value)
{
    char *s = malloc(strlen(key) + 24);

    if (s)
        sprintf(s, "%s=%" PRId64, key, value);
    return s;
}

/* Add a made setting to those given; false without memory. */
static bool add_setting(struct work *w, char *s)
{
    if (!s)
        return false;
    w->made[w->n_made++] = s;
    given.settings.v[given.settings.n++] = s;
    return true;
}

/* --data, --steps, --seed and --precision are settings too, and come after --set. */
static bool make_settings(struct work *w)
{
    enum { MADE = 4 };
    const char **all = calloc((size_t)given.settings.n + MADE, sizeof *all);

    w->made = calloc(MADE, sizeof *w->made);
    if (!all || !w->made) {
        free(all);
        return false;
    }
    memcpy(all, given.settings.v, (size_t)given.settings.n * sizeof *all);
    free(given.settings.v);
    given.settings.v = all;
    return (!given.data || add_setting(w, quoted_setting("data.source", given.data)))
        && (!given.steps.given || add_setting(w, number_setting("steps", given.steps.value)))
        && (!given.seed.given || add_setting(w, number_setting("seed", given.seed.value)))
        && (!given.precision || add_setting(w, quoted_setting("precision", given.precision)));
}

/* --- pictures --- */

static const struct panel panels[] = {
    { "energy", { "energy.data", "energy.samples", "energy.noise" },
      { "data", "samples", "noise" }, NULL },
    { "energy of data - of samples", { "energy.data" }, { NULL }, "energy.samples" },
    { "gradient norm, before clipping", { "gradient", "gradient.cd", "gradient.kl" },
      { "all", "cd", "kl" }, NULL },
    { "loss", { "loss" }, { NULL }, NULL },
};

static int save_curves(struct work *w)
{
    char path[PATH_MAX];
    struct canvas canvas;

    if (!chart_draw(&canvas, &w->series, panels, COUNT(panels)))
        return tool_fail_memory();
    snprintf(path, sizeof path, "%s/curves.png", given.out);
    int rc = canvas_save(&canvas, w->context, path);
    canvas_free(&canvas);
    return rc == EBM_ERR_NOMEM ? tool_fail_memory() : rc < 0 ? tool_fail(w->context, rc) : 0;
}

static int stop_progress(void *user, double done)
{
    (void)user;
    (void)done;
    return stop_asked();
}

/* Points of the plane: with data and energies, from a copy of the model. */
static int save_plane(struct work *w, const char *path, uint64_t seed)
{
    char model[PATH_MAX];

    snprintf(model, sizeof model, "%s/samples/model.tmp", given.out);
    int rc = ebm_train_export(w->train, model);
    int status = rc < 0 ? tool_fail(w->context, rc)
                        : plane_save(w->context, w->device, model, w->info->source, seed, path);
    remove(model);
    return status;
}

/* A grid of n images drawn by the model as it is now. */
static int save_samples(struct work *w, const char *path, int64_t n, uint64_t seed, int64_t step)
{
    const ebm_train_info *info = w->info;
    size_t size = (size_t)info->height * (size_t)info->width * (size_t)info->channels;
    float *images = calloc((size_t)n, size * sizeof *images);
    char steps[32], seeds[32];
    const char *text[] = { "Software", "ebm-train", "Steps", steps, "Seed", seeds };

    if (plane_is(info->height, info->width, info->channels)) {
        free(images);
        return save_plane(w, path, seed);
    }
    if (!images)
        return tool_fail_memory();
    snprintf(steps, sizeof steps, "%" PRId64, step);
    snprintf(seeds, sizeof seeds, "%" PRIu64, seed);
    int rc = ebm_train_samples(w->train, seed, n, images, stop_progress, NULL);
    if (rc == EBM_OK) {
        const ebm_picture picture = {
            .images = images, .n = n, .height = info->height, .width = info->width,
            .channels = info->channels, .text = text, .n_text = COUNT(text),
        };
        rc = ebm_picture_write(w->context, path, &picture);
    }
    free(images);
    /* a signal: the checkpoint is more urgent than the picture */
    return rc == EBM_ERR_STOPPED || rc >= 0 ? 0 : tool_fail(w->context, rc);
}

static int save_grid(struct work *w, int64_t step)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/samples/step-%09" PRId64 ".png", given.out, step);
    int rc = save_samples(w, path, w->info->grid_images, w->info->seed, step);
    return rc ? rc : save_curves(w);
}

/* --- results --- */

static int print_plan(const struct work *w)
{
    const ebm_train_info *i = w->info;
    const size_t total = i->weight_bytes + i->state_bytes + i->program_bytes + i->other_bytes;

    if (given.json)
        return tool_print_json(json_pack("{s:s, s:s, s:s, s:I, s:[i,i,i], s:I, s:I, s:I, s:f, s:{s:I, s:I, s:I, s:I, s:I}}",
            "recipe", i->recipe, "method", i->method, "data", i->source,
            "images", (json_int_t)i->images, "shape", i->height, i->width, i->channels,
            "seed", (json_int_t)i->seed, "steps", (json_int_t)i->steps,
            "parameters", (json_int_t)i->parameters, "multiply_adds_per_step", i->work,
            "bytes", "weights", (json_int_t)i->weight_bytes, "state", (json_int_t)i->state_bytes,
            "programs", (json_int_t)i->program_bytes, "others",
            (json_int_t)i->other_bytes, "all", (json_int_t)total));
    printf("%s\n", i->recipe);
    printf("# data          %zu images of %d x %d x %d\n", i->images, i->height, i->width,
           i->channels);
    printf("# parameters    %" PRId64 "\n", i->parameters);
    printf("# work          %.3g multiply-adds a step\n", i->work);
    printf("# memory        %.1f MiB: weights and moments %.1f, buffers %.1f, programs %.1f, others %.1f\n",
           (double)total / 1048576, (double)i->weight_bytes / 1048576,
           (double)i->state_bytes / 1048576, (double)i->program_bytes / 1048576,
           (double)i->other_bytes / 1048576);
    return 0;
}

static int print_results(const struct work *w)
{
    const ebm_train_info *i = w->info;
    const struct series *s = &w->series;

    if (!given.json) {
        printf("model    %s/model.safetensors\n", given.out);
        if (i->grid_every > 0)
            printf("samples  %s/samples.png\n", given.out);
        printf("curves   %s/curves.png\n", given.out);
        printf("steps    %" PRId64 "\n", i->step);
        printf("seed     %" PRIu64 "\n", i->seed);
        return 0;
    }
    json_t *last = json_object();
    for (int c = 0; s->rows && c < s->columns; c++)
        json_object_set_new(last, s->names[c],
                            tool_json_number(series_value(s, s->rows - 1, c)));
    json_t *all = json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:f, s:o}",
        "model", json_sprintf("%s/model.safetensors", given.out),
        "samples", i->grid_every > 0 ? json_sprintf("%s/samples.png", given.out) : json_null(),
        "curves", json_sprintf("%s/curves.png", given.out),
        "seed", (json_int_t)i->seed, "steps", (json_int_t)i->step,
        "steps_now", (json_int_t)(i->step - w->first_step), "seconds", w->seconds,
        "last", last);
    return tool_print_json(given.profile && all ? profile_add_json(all, w->device) : all);
}

/* --- the run --- */

static int take_step(struct work *w, struct progress *bar)
{
    ebm_train_metrics m;
    char note[64];
    int rc = ebm_train_step(w->train, &m);

    if (rc < 0)
        return tool_fail(w->context, rc);
    if (m.event != EBM_EVENT_NONE)
        tool_inform("step %" PRId64 ": %s: %s", m.step,
                    m.event == EBM_EVENT_SKIPPED ? "update skipped" : "rolled back", m.reason);
    if (m.logged && !series_add(&w->series, m.step, m.n, m.names, m.values))
        return tool_fail_memory();
    snprintf(note, sizeof note, "E data %.3g, samples %.3g",
             ebm_train_metric(&m, "energy.data"), ebm_train_metric(&m, "energy.samples"));
    progress_show(bar, (double)m.step, note);
    if (w->info->grid_every > 0 && m.step % w->info->grid_every == 0 && m.step < w->info->steps
        && m.event == EBM_EVENT_NONE)
        return save_grid(w, m.step);
    return 0;
}

static int finish(struct work *w)
{
    char path[PATH_MAX];
    int rc = ebm_train_finish(w->train);

    if (rc < 0)
        return tool_fail(w->context, rc);
    w->info = ebm_train_describe(w->train);
    int status = 0;
    snprintf(path, sizeof path, "%s/samples.png", given.out);
    if (w->info->grid_every > 0)
        status = save_samples(w, path, w->info->grid_images, w->info->seed, w->info->step);
    if (!status)
        status = save_curves(w);
    if (!status && stop_asked()) {
        tool_say("stopped; %s/model.safetensors is written", given.out);
        return EXIT_STOPPED;
    }
    if (!status)
        status = print_results(w);
    return !status && given.profile && !given.json ? profile_print(w->context, w->device) : status;
}

static int stop(struct work *w)
{
    int rc = ebm_train_save(w->train);

    if (rc < 0)
        return tool_fail(w->context, rc);
    tool_say("stopped at step %" PRId64 " of %" PRId64 "; go on with: ebm-train --resume "
             "--out %s", ebm_train_describe(w->train)->step, w->info->steps, given.out);
    return EXIT_STOPPED;
}

static int train(struct work *w)
{
    char path[PATH_MAX];
    struct progress bar;
    int status = 0;

    snprintf(path, sizeof path, "%s/metrics.jsonl", given.out);
    if (w->info->step > 0 && !series_read(&w->series, path))
        return tool_fail_memory();
    snprintf(path, sizeof path, "%s/samples", given.out);
    if ((status = output_folder(path)) != 0)
        return status;
    w->first_step = w->info->step;
    if (w->first_step)
        tool_inform("going on from step %" PRId64, w->first_step);
    double begun = progress_seconds();
    progress_begin(&bar, "training", (double)w->info->step, (double)w->info->steps, given.quiet);
    while (!status && !stop_asked() && w->info->step < w->info->steps) {
        status = take_step(w, &bar);
        w->info = ebm_train_describe(w->train);
    }
    progress_end(&bar);
    w->seconds = progress_seconds() - begun;
    if (status)
        return status;
    return w->info->step < w->info->steps ? stop(w) : finish(w);
}

static int run(struct work *w)
{
    ebm_train_options options = {
        .recipe = given.recipe, .folder = given.dry && !given.resume ? NULL : given.out,
        .seed = tool_random_seed(), .resume = given.resume, .dry = given.dry,
        .max_memory = given.max_memory,
    };
    int rc;

    if (!make_settings(w))
        return tool_fail_memory();
    options.settings = given.settings.v;
    options.n_settings = given.settings.n;
    if ((rc = ebm_backend_open(w->context, given.backend, (int)given.threads.value,
                               &w->device)) < 0
        || (given.profile && (rc = ebm_backend_profile(w->device)) < 0)
        || (rc = ebm_train_open(w->device, &options, &w->train)) < 0)
        return tool_fail(w->context, rc);
    w->info = ebm_train_describe(w->train);
    tool_inform("%s; seed %" PRIu64, ebm_backend_describe(w->device), w->info->seed);
    if (given.dry)
        return print_plan(w);
    stop_on_signals();
    return train(w);
}

static void clean(struct work *w)
{
    ebm_train_free(w->train);
    ebm_backend_free(w->device);
    if (w->context)
        ebm_context_free(w->context);
    series_free(&w->series);
    for (int i = 0; i < w->n_made; i++)
        free(w->made[i]);
    free(w->made);
    options_free(&tool);
}

int main(int argc, char **argv)
{
    struct work w = { 0 };
    int operand, status = EXIT_USAGE;

    idle_soon(argv);
    if (!(w.context = tool_start(tool.name)))
        return EXIT_MEMORY;
    int rc = options_read(&tool, argc, argv, &operand);
    tool_be_quiet(given.quiet);
    if (rc >= 0)
        status = rc;
    else if (operand < argc)
        tool_say("'%s' stands alone; data are given as --data %s", argv[operand], argv[operand]);
    else if (!given.recipe && !given.resume)
        tool_say("--recipe is missing, as in: ebm-train --recipe digits --out run");
    else if (!given.out && (!given.dry || given.resume))
        tool_say("--out is missing: the folder of the run, as in: --out run");
    else
        status = tool_end(run(&w));
    clean(&w);
    return status;
}
