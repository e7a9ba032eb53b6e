/* train.c - a run: from a recipe to a trained model.
 *
 * SPDX-License-Identifier: ISC
 *
 *   open    recipe -> data -> method's graphs -> store -> programs -> run folder
 *   step    batch -> the method's step -> guard -> log -> checkpoint
 *   finish  last checkpoint, model.safetensors */
#include "config.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "data/data.h"
#include "safetensors.h"
#include "store.h"
#include "train.h"

/* ---- the recipe ---- */

/* That of the run that is resumed. */
static int read_former(ebm_train *t, const char *text)
{
    const struct method *method;
    int status;

    if ((status = recipe_new(t->ctx, &t->former)) < 0
        || (status = recipe_parse(t->former, text, strlen(text), "the run's recipe")) < 0)
        return status;
    return method_declare(t->ctx, t->former, &method);
}

static int read_sources(ebm_train *t, const ebm_train_options *o, const char *former)
{
    int status;

    if (o->recipe)
        status = recipe_read(t->recipe, o->recipe);
    else if (former)
        status = recipe_parse(t->recipe, former, strlen(former), "the run's recipe");
    else
        status = ebm_fail(t->ctx, EBM_ERR_ARG, "training needs a recipe: a name, as \"digits\", or a file");
    for (int i = 0; status >= 0 && i < o->n_settings; i++)
        status = recipe_set(t->recipe, o->settings[i]);
    return status;
}

static int set_integer(ebm_train *t, const char *key, uint64_t value)
{
    char setting[64];

    snprintf(setting, sizeof setting, "%s=%" PRIu64, key, value);
    return recipe_set(t->recipe, setting);
}

static int read_recipe(ebm_train *t, const ebm_train_options *o, const char *former)
{
    uint64_t seed = o->seed;
    int status;

    if ((former && (status = read_former(t, former)) < 0)
        || (status = recipe_new(t->ctx, &t->recipe)) < 0
        || (status = read_sources(t, o, former)) < 0
        || (status = method_declare(t->ctx, t->recipe, &t->method)) < 0)
        return status;
    if (former)
        seed = (uint64_t)recipe_integer(t->former, "seed");
    if (!recipe_given(t->recipe, "seed") && seed != 0
        && (status = set_integer(t, "seed", seed)) < 0)
        return status;
    t->seed = (uint64_t)recipe_integer(t->recipe, "seed");
    t->steps = recipe_integer(t->recipe, "steps");
    t->batch = recipe_integer(t->recipe, "batch");
    t->save_every = recipe_integer(t->recipe, "save.every");
    t->log_every = recipe_integer(t->recipe, "log.every");
    t->low = (float)recipe_number(t->recipe, "data.low");
    t->high = (float)recipe_number(t->recipe, "data.high");
    t->guard = guard_of(t->recipe);
    return EBM_OK;
}

/* ---- the data ---- */

static int next_batch(void *user, const float **images, const int32_t **labels)
{
    ebm_train *t = user;
    int status = ebm_loader_next(t->loader, t->images, t->labels);

    *images = t->images;
    if (labels)
        *labels = t->labels;
    return status;
}

static int open_data(ebm_train *t)
{
    static const struct { const char *name; enum ebm_fit fit; } fits[] = {
        { "crop", EBM_FIT_CROP }, { "pad", EBM_FIT_PAD }, { "stretch", EBM_FIT_STRETCH },
    };
    struct recipe *r = t->recipe;
    ebm_data_options options = {
        .split = recipe_text(r, "data.split"),
        .height = (int)recipe_integer(r, "data.height"),
        .width = (int)recipe_integer(r, "data.width"),
        .channels = (int)recipe_integer(r, "data.channels"),
        .limit = (size_t)recipe_integer(r, "data.limit"),
        .seed = t->seed,
    };
    int status;

    for (size_t i = 0; i < COUNT(fits); i++)
        if (strcmp(fits[i].name, recipe_text(r, "data.fit")) == 0)
            options.fit = fits[i].fit;
    if ((status = ebm_data_open(t->ctx, recipe_text(r, "data.source"), &options, &t->data)) < 0)
        return status;
    ebm_data_describe(t->data, &t->set);
    /* The recipe in force names the sizes: a model is rebuilt from it alone. */
    if ((status = set_integer(t, "data.height", (uint64_t)t->set.height)) < 0
        || (status = set_integer(t, "data.width", (uint64_t)t->set.width)) < 0
        || (status = set_integer(t, "data.channels", (uint64_t)t->set.channels)) < 0
        || (status = recipe_check(r)) < 0)
        return status;
    status = model_image(t->ctx, r, t->image);
    t->pixels = t->image[0] * t->image[1] * t->image[2];
    return status;
}

static int open_loader(ebm_train *t)
{
    ebm_loader_options options = {
        .flip = recipe_bool(t->recipe, "data.flip"),
        .crop = (int)recipe_integer(t->recipe, "data.shift"),
        .dequantise = recipe_bool(t->recipe, "data.dequantise"),
        .low = t->low, .high = t->high,
    };

    t->images = mem_new(t->ctx, (size_t)t->batch, (size_t)t->pixels * sizeof *t->images);
    t->labels = mem_new(t->ctx, (size_t)t->batch, sizeof *t->labels);
    if (!t->images || !t->labels)
        return EBM_ERR_NOMEM;
    t->source = (struct batch_source){ next_batch, t };
    return ebm_loader_open(t->data, (int)t->batch, t->seed, &options, &t->loader);
}

/* ---- graphs and memory ---- */

static void unplan(ebm_train *t)
{
    ebm_model_free(t->model);
    t->method->train_free(t->state);
    ebm_store_free(t->store);
    t->model = NULL;
    t->state = NULL;
    t->store = NULL;
}

static int build(ebm_train *t, int64_t part)
{
    struct method_site site = {
        .ctx = t->ctx, .recipe = t->recipe,
        .image = { t->image[0], t->image[1], t->image[2] }, .classes = t->set.classes, .method = t->method,
    };
    int status;

    if ((status = ebm_store_new(t->backend, &t->store)) < 0)
        return status;
    ebm_store_precision(t->store, method_precision(t->recipe));
    t->store->batch = t->batch;
    t->store->part = part;
    site.store = t->store;
    if ((status = t->method->train_build(&site, &t->state)) < 0)
        return status;
    return t->method->train_compile(t->state);
}

static int build_model(ebm_train *t, int64_t part)
{
    char *settings = recipe_write(t->recipe, false);
    int status = settings ? model_new(t->backend, settings, "the run's recipe", NULL, &t->model)
                          : EBM_ERR_NOMEM;

    mem_free(t->ctx, settings);
    return status < 0 ? status : model_plan(t->model, part);
}

/* All that the run will take.  Batches; to draw and to export, weights and their
 * averages are copied. */
static struct needs needs_now(const ebm_train *t)
{
    ebm_store *const stores[] = { t->store, model_store(t->model) };
    size_t images = (size_t)t->batch * (size_t)t->pixels * sizeof(float);

    return needs_of(t->backend, COUNT(stores), stores,
                    loader_bytes(&t->set, t->batch) + images
                    + 2 * (size_t)weights_parameters(t->store) * sizeof(float));
}

static int plan_part(void *user, int64_t part, struct needs *needs)
{
    ebm_train *t = user;
    int status;

    unplan(t);
    if ((status = set_integer(t, "batch.part", (uint64_t)part)) < 0
        || (status = build(t, part)) < 0
        || (status = build_model(t, part)) < 0)
        return status;
    *needs = needs_now(t);
    return EBM_OK;
}

/* batch.part as it is given, or as the memory asks for. */
static int plan(ebm_train *t, size_t limit)
{
    bool given = recipe_given(t->recipe, "batch.part");
    int64_t part = recipe_integer(t->recipe, "batch.part");
    const struct needs_fit fit = {
        .backend = t->backend, .limit = limit, .batch = t->batch, .whose = "the run",
        .advice = "a smaller batch, sample.batch or buffer.size may need less",
        .make = plan_part, .user = t, .needs = &t->needs,
    };
    int status;

    if (part && t->batch % part)
        return ebm_fail(t->ctx, EBM_ERR_ARG, "batch.part = %" PRId64 " does not divide batch = %" PRId64,
                        part, t->batch);
    if (!given)
        return needs_fit(&fit);
    t->backend->withheld = 0;
    if ((status = plan_part(t, part, &t->needs)) < 0)
        return status;
    return needs_check(&fit, part, &t->needs);
}

static int take_memory(ebm_train *t)
{
    uint32_t counter[4] = { (uint32_t)t->seed, (uint32_t)(t->seed >> 32), 0, 0 };
    int status;

    if ((status = ebm_store_alloc(t->store, t->seed)) < 0
        || (status = ebm_store_write(t->store, METHOD_RNG, counter, sizeof counter)) < 0)
        return status;
    return ebm_store_alloc(model_store(t->model), 0);
}

static int describe(ebm_train *t)
{
    size_t store = ebm_store_bytes(t->store);

    if (!(t->text = recipe_write(t->recipe, true)))
        return EBM_ERR_NOMEM;
    t->info = (ebm_train_info){
        .recipe = t->text, .method = t->method->name,
        .source = recipe_text(t->recipe, "data.source"), .images = t->set.count,
        .height = (int)t->image[0], .width = (int)t->image[1], .channels = (int)t->image[2],
        .seed = t->seed, .steps = t->steps,
        .parameters = weights_parameters(t->store),
        .work = t->method->train_work(t->state),
        .weight_bytes = weights_bytes(t->store),
        .state_bytes = store - weights_bytes(t->store),
        .program_bytes = t->needs.programs,
        .other_bytes = needs_all(&t->needs) - store - t->needs.programs,
        .grid_every = recipe_integer(t->recipe, "grid.every"),
        .grid_images = (int)recipe_integer(t->recipe, "grid.images"),
    };
    for (int i = 0; i < SHOWN_COMMON; i++)
        t->names[t->n_shown++] = shown_common[i];
    for (int i = 0; i < t->method->n_more && t->n_shown < SHOWN_MAX; i++)
        t->names[t->n_shown++] = t->method->more[i];
    return recipe_check(t->recipe);          /* latched errors of the getters */
}

/* ---- open ---- */

static int open_run(ebm_train *t, const ebm_train_options *o, const char *former)
{
    int status;

    if ((status = read_recipe(t, o, former)) < 0
        || (status = open_data(t)) < 0
        || (former && (status = run_same(t)) < 0)
        || (status = plan(t, o->max_memory)) < 0
        || (status = open_loader(t)) < 0
        || (status = describe(t)) < 0)
        return status;
    if (o->dry)
        return EBM_OK;
    if ((status = take_memory(t)) < 0 || !t->folder)
        return status;
    return o->resume ? run_resume(t) : run_start(t);
}

int ebm_train_open(ebm_backend *backend, const ebm_train_options *options, ebm_train **train)
{
    ebm_context *ctx = backend->ctx;
    ebm_train *t = mem_new(ctx, 1, sizeof *t);
    char *former = NULL;
    int status = EBM_OK;

    *train = NULL;
    if (!t)
        return EBM_ERR_NOMEM;
    t->ctx = ctx;
    t->backend = backend;
    t->dry = options->dry;
    t->saved = -1;
    if (options->folder && !(t->folder = mem_strdup(ctx, options->folder)))
        status = EBM_ERR_NOMEM;
    else if (options->resume && !options->folder)
        status = ebm_fail(ctx, EBM_ERR_ARG, "resuming needs the folder of a run");
    else if (options->resume)
        status = run_recipe(t, &former);
    if (status >= 0)
        status = open_run(t, options, former);
    mem_free(ctx, former);
    if (status < 0) {
        ebm_train_free(t);
        return status;
    }
    *train = t;
    return EBM_OK;
}

void ebm_train_free(ebm_train *t)
{
    if (!t)
        return;
    journal_close(t->journal);
    safetensors_close(t->newest);
    ebm_model_free(t->model);
    if (t->method)
        t->method->train_free(t->state);
    ebm_store_free(t->store);
    ebm_loader_free(t->loader);
    ebm_data_free(t->data);
    recipe_free(t->recipe);
    recipe_free(t->former);
    mem_free(t->ctx, t->images);
    mem_free(t->ctx, t->labels);
    mem_free(t->ctx, t->text);
    mem_free(t->ctx, t->folder);
    mem_free(t->ctx, t);
}

const ebm_train_info *ebm_train_describe(ebm_train *t)
{
    t->info.step = t->step;
    return &t->info;
}

/* ---- steps ---- */

double ebm_train_metric(const ebm_train_metrics *metrics, const char *name)
{
    for (int i = 0; i < metrics->n; i++)
        if (strcmp(metrics->names[i], name) == 0)
            return metrics->values[i];
    return NAN;
}

static int train_once(ebm_train *t)
{
    bool probe = (t->step + 1) % t->log_every == 0;
    int status;

    for (int i = 0; i < SHOWN_MAX; i++)
        t->shown.values[i] = NAN;
    t->shown.usual_gradient = 0;
    if ((status = t->method->train_step(t->state, &t->source, probe, &t->shown)) < 0)
        return status;
    t->step++;
    return EBM_OK;
}

static int log_step(ebm_train *t, enum guard_verdict verdict, bool *logged)
{
    int status = EBM_OK;

    *logged = t->step % t->log_every == 0;
    if (!t->journal)
        return EBM_OK;
    if (*logged)
        status = journal_values(t->journal, t->step, t->n_shown, t->names, t->shown.values);
    if (status >= 0 && verdict != GUARD_GOOD)
        status = journal_event(t->journal, t->step, "skipped", -1, t->reason);
    return status;
}

static void word_reason(ebm_train *t)
{
    const double *v = t->shown.values;

    guard_reason(&t->guard, v[SHOWN_LOSS], v[SHOWN_DATA] - v[SHOWN_SAMPLES], v[SHOWN_GRADIENT],
                 t->shown.usual_gradient, t->reason);
}

/* Checkpoints of a run are of good steps; the last one is written by finish. */
static int save_when_due(ebm_train *t, bool *saved)
{
    int status;

    *saved = false;
    if (!t->folder || t->step % t->save_every != 0 || t->guard.skips > 0)
        return EBM_OK;
    if ((status = run_save(t)) < 0)
        return status;
    *saved = true;
    return EBM_OK;
}

int ebm_train_step(ebm_train *t, ebm_train_metrics *metrics)
{
    enum guard_verdict verdict = GUARD_GOOD;
    bool logged = false, saved = false;
    int status;

    t->reason[0] = 0;
    if (t->dry)
        return ebm_fail(t->ctx, EBM_ERR_ARG, "a dry run takes no steps");
    if (t->step < t->steps) {
        if ((status = train_once(t)) < 0)
            return status;
        if ((verdict = guard_judge(&t->guard, t->shown.accepted)) != GUARD_GOOD)
            word_reason(t);
        if ((status = log_step(t, verdict, &logged)) < 0)
            return status;
        if (verdict == GUARD_ROLL_BACK)
            status = run_back(t);
        else
            status = save_when_due(t, &saved);
        if (status < 0)
            return status;
    }
    if (metrics)
        *metrics = (ebm_train_metrics){
            .step = t->step, .n = t->n_shown, .names = t->names, .values = t->shown.values,
            .event = verdict == GUARD_GOOD ? EBM_EVENT_NONE
                   : verdict == GUARD_SKIPPED ? EBM_EVENT_SKIPPED : EBM_EVENT_ROLLED_BACK,
            .reason = t->reason, .logged = logged, .saved = saved,
        };
    return EBM_OK;
}

/* ---- saving ---- */

static int need_folder(ebm_train *t, const char *what)
{
    if (t->dry || !t->folder)
        return ebm_fail(t->ctx, EBM_ERR_ARG, "%s needs a run with a folder", what);
    return EBM_OK;
}

int ebm_train_save(ebm_train *t)
{
    int status = need_folder(t, "a checkpoint");

    if (status < 0 || t->saved == t->step)
        return status;
    return run_save(t);
}

static int write_model(ebm_train *t, const struct weights *weights, struct safetensors_writer *w,
                       const char *path)
{
    char *settings = recipe_write(t->recipe, false), print[20];
    int status;

    if (!settings)
        return EBM_ERR_NOMEM;
    snprintf(print, sizeof print, "%016" PRIx64, t->set.fingerprint);
    safetensors_add_metadata(w, "format", MODEL_FORMAT);
    safetensors_add_metadata(w, "library", ebm_version());
    safetensors_add_metadata(w, "method", t->method->name);
    safetensors_add_metadata(w, "recipe", settings);
    safetensors_add_metadata(w, "data", recipe_text(t->recipe, "data.source"));
    safetensors_add_metadata(w, "fingerprint", print);
    run_add_count(w, "seed", t->seed);
    run_add_count(w, "steps", (uint64_t)t->step);
    run_add_count(w, "parameters", (uint64_t)t->info.parameters);
    if ((status = weights_add(weights, w)) >= 0)
        status = safetensors_write(w, path, NULL);
    mem_free(t->ctx, settings);
    return status;
}

int ebm_train_export(ebm_train *t, const char *path)
{
    struct weights *weights = NULL;
    struct safetensors_writer *w = NULL;
    int status;

    if ((status = weights_new(t->store, &weights)) >= 0
        && (status = safetensors_writer_new(t->ctx, &w)) >= 0)
        status = write_model(t, weights, w, path);
    safetensors_writer_free(w);
    weights_free(weights);
    return status;
}

int ebm_train_finish(ebm_train *t)
{
    int status = need_folder(t, "finishing");
    char *path;

    if (status < 0 || (status = ebm_train_save(t)) < 0)
        return status;
    if (!(path = io_join(t->ctx, t->folder, "model.safetensors")))
        return EBM_ERR_NOMEM;
    status = ebm_train_export(t, path);
    mem_free(t->ctx, path);
    return status;
}

/* ---- images ---- */

int ebm_train_chains(ebm_train *t, int64_t n, float *images)
{
    size_t bytes = (size_t)(t->batch * t->pixels) * sizeof(float);
    int status;

    if (n < 0 || n > t->batch)
        return ebm_fail(t->ctx, EBM_ERR_ARG, "there are %" PRId64 " chains, not %" PRId64, t->batch, n);
    float *chains = mem_new(t->ctx, bytes, 1);
    if (!chains)
        return EBM_ERR_NOMEM;
    if ((status = ebm_store_read(t->store, METHOD_CHAINS, chains, bytes)) >= 0)
        for (int64_t i = 0; i < n * t->pixels; i++) {
            float v = (chains[i] - t->low) / (t->high - t->low);
            images[i] = v < 0 ? 0 : v > 1 ? 1 : v;
        }
    mem_free(t->ctx, chains);
    return status;
}

int ebm_train_samples(ebm_train *t, uint64_t seed, int64_t n, float *images,
                      ebm_progress *progress, void *user)
{
    struct weights *weights;
    int status;

    if ((status = weights_new(t->store, &weights)) < 0)
        return status;
    status = weights_copy(weights, model_store(t->model));
    weights_free(weights);
    if (status < 0)
        return status;
    return ebm_model_sample(t->model, seed, 0, n, images, progress, user);
}
