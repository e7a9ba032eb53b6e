/* model.c - trained models: what a file says, energies, samples.
 *
 * SPDX-License-Identifier: ISC
 *
 *   file -> settings -> method -> graphs -> store -> weights -> programs
 *
 * A method's programs take whole batches; here calls of any size are cut into
 * them.  Callers' pixels lie in [0,1], a network's in [data.low,data.high]. */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "members.h"
#include "model.h"
#include "needs.h"
#include "number.h"

struct ebm_model {
    ebm_context *ctx;
    ebm_backend *backend;
    struct recipe *recipe;
    const struct method *method;
    void *state;                     /* the method's */
    ebm_store *store;
    int64_t image[3], pixels, batch;
    float low, high;
    float *images, *energies;        /* a batch */
    const ebm_model_info *info;
    struct members *members;         /* of a composed model; NULL */
    char *setting;                   /* the last answer of ebm_model_setting() */
};

/* ---- what a file says ---- */

/* An info and all that it points to. */
struct info {
    ebm_model_info is;               /* first: what the caller has */
    ebm_context *ctx;
    struct safetensors *file;
    struct recipe *recipe;
    ebm_model_tensor *tensors;
    char digest[SHA256_TEXT];
};

static void info_free(struct info *info)
{
    if (!info)
        return;
    recipe_free(info->recipe);
    safetensors_close(info->file);
    mem_free(info->ctx, info->tensors);
    mem_free(info->ctx, info);
}

static const char *entry(struct info *info, const char *key, int *status)
{
    const char *text = safetensors_metadata(info->file, key);

    if (!text && *status >= 0)
        *status = ebm_fail(info->ctx, EBM_ERR_FORMAT, "%s is no model: its metadata has no '%s'",
                           safetensors_path(info->file), key);
    return text;
}

static int64_t entry_integer(struct info *info, const char *key, int *status)
{
    const char *text = entry(info, key, status);
    int64_t value = 0;

    if (text && (!number_read_integer(text, strlen(text), &value) || value < 0) && *status >= 0)
        *status = ebm_fail(info->ctx, EBM_ERR_FORMAT, "%s: '%s' of its metadata is not a count: %.40s",
                           safetensors_path(info->file), key, text);
    return value;
}

/* Settings that came from a file are its fault, not an argument's. */
static int as_format(ebm_context *ctx, const char *path, int status)
{
    if (status != EBM_ERR_ARG)
        return status;
    char *why = mem_strdup(ctx, ebm_message(ctx));
    if (!why)
        return EBM_ERR_NOMEM;
    status = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: its settings do not fit this version: %s", path, why);
    mem_free(ctx, why);
    return status;
}

static enum ebm_fit fit_of(struct recipe *recipe)
{
    const char *fit = recipe_text(recipe, "data.fit");

    return strcmp(fit, "pad") == 0 ? EBM_FIT_PAD
         : strcmp(fit, "stretch") == 0 ? EBM_FIT_STRETCH : EBM_FIT_CROP;
}

int model_image(ebm_context *ctx, struct recipe *recipe, int64_t image[3])
{
    static const char *const keys[3] = { "data.height", "data.width", "data.channels" };

    for (int i = 0; i < 3; i++)
        if ((image[i] = recipe_integer(recipe, keys[i])) < 1)
            return ebm_fail(ctx, EBM_ERR_ARG, "%s is not known", keys[i]);
    return EBM_OK;
}

int model_settings(ebm_context *ctx, const char *settings, const char *name,
                   struct recipe **recipe, const struct method **method, int64_t image[3])
{
    int status;

    if ((status = recipe_new(ctx, recipe)) < 0
        || (status = recipe_parse(*recipe, settings, strlen(settings), name)) < 0
        || (status = method_declare(ctx, *recipe, method)) < 0)
        return status;
    return model_image(ctx, *recipe, image);
}

static int read_tensors(struct info *info)
{
    int n = safetensors_count(info->file);

    if (!(info->tensors = mem_new(info->ctx, (size_t)n, sizeof *info->tensors)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        const struct safetensor *t = safetensors_at(info->file, i);
        ebm_model_tensor *to = &info->tensors[i];
        if (t->rank > EBM_MAX_RANK)
            return ebm_fail(info->ctx, EBM_ERR_FORMAT, "%s: tensor '%s' has %d axes; up to %d are known",
                            safetensors_path(info->file), t->name, t->rank, EBM_MAX_RANK);
        to->name = t->name;
        to->type = safetensors_dtype_name(t->dtype);
        to->rank = t->rank;
        memcpy(to->shape, t->shape, (size_t)t->rank * sizeof *to->shape);
    }
    info->is.n_tensors = n;
    info->is.tensors = info->tensors;
    return EBM_OK;
}

static int read_info(struct info *info, const char *path)
{
    ebm_model_info *is = &info->is;
    const struct method *method;
    const char *format;
    int64_t image[3];
    int status;

    if ((status = safetensors_open(info->ctx, path, &info->file)) < 0)
        return status;
    if ((format = entry(info, "format", &status)) && strcmp(format, MODEL_FORMAT) != 0)
        return ebm_fail(info->ctx, EBM_ERR_FORMAT, "%s is a '%.40s', not a '%s'", path, format,
                        MODEL_FORMAT);
    is->recipe = entry(info, "recipe", &status);
    is->library = entry(info, "library", &status);
    is->data = entry(info, "data", &status);
    is->fingerprint = entry(info, "fingerprint", &status);
    is->seed = (uint64_t)entry_integer(info, "seed", &status);
    is->steps = entry_integer(info, "steps", &status);
    is->parameters = entry_integer(info, "parameters", &status);
    if (status < 0)
        return status;
    if ((status = model_settings(info->ctx, is->recipe, path, &info->recipe, &method, image)) < 0)
        return as_format(info->ctx, path, status);
    is->method = method->name;
    is->height = (int)image[0];
    is->width = (int)image[1];
    is->channels = (int)image[2];
    is->fit = fit_of(info->recipe);
    is->digest = info->digest;
    if ((status = read_tensors(info)) < 0)
        return status;
    return safetensors_digest(info->file, info->digest);
}

int ebm_model_inspect(ebm_context *ctx, const char *path, const ebm_model_info **result)
{
    struct info *info = mem_new(ctx, 1, sizeof *info);
    int status;

    *result = NULL;
    if (!info)
        return EBM_ERR_NOMEM;
    info->ctx = ctx;
    if ((status = read_info(info, path)) < 0) {
        info_free(info);
        return status;
    }
    *result = &info->is;
    return EBM_OK;
}

void ebm_model_info_free(ebm_context *ctx, const ebm_model_info *is)
{
    (void)ctx;
    info_free((struct info *)is);
}

/* ---- opening ---- */

static bool may_change(const char *setting)
{
    static const char *const allowed[] = { "sample.", "precision=" };

    for (size_t i = 0; i < COUNT(allowed); i++)
        if (strncmp(setting, allowed[i], strlen(allowed[i])) == 0)
            return true;
    return false;
}

static int change_settings(ebm_model *m, const ebm_model_options *options)
{
    int status;

    for (int i = 0; options && i < options->n_settings; i++) {
        if (!may_change(options->settings[i]))
            return ebm_fail(m->ctx, EBM_ERR_ARG, "'%s': of a trained model, only the settings "
                            "sample.* and precision can be changed", options->settings[i]);
        if ((status = recipe_set(m->recipe, options->settings[i])) < 0)
            return status;
    }
    return recipe_check(m->recipe);
}

static int take_batch(ebm_model *m)
{
    m->batch = recipe_integer(m->recipe, "sample.batch");
    m->low = (float)recipe_number(m->recipe, "data.low");
    m->high = (float)recipe_number(m->recipe, "data.high");
    m->pixels = m->image[0] * m->image[1] * m->image[2];
    m->images = mem_new(m->ctx, (size_t)m->batch, (size_t)m->pixels * sizeof *m->images);
    m->energies = mem_new(m->ctx, (size_t)m->batch, sizeof *m->energies);
    return m->images && m->energies ? EBM_OK : EBM_ERR_NOMEM;
}

/* Graphs and programs; what there was before goes. */
static int build(ebm_model *m, int64_t part)
{
    int status;

    m->method->model_free(m->state);
    ebm_store_free(m->store);
    m->state = NULL;
    m->store = NULL;
    if ((status = ebm_store_new(m->backend, &m->store)) < 0)
        return status;
    ebm_store_precision(m->store, method_precision(m->recipe));
    m->store->batch = m->batch;
    m->store->part = part;
    m->store->blank = true;
    struct method_site site = { .ctx = m->ctx, .store = m->store, .recipe = m->recipe,
                                .image = { m->image[0], m->image[1], m->image[2] },
                                .method = m->method, .joint = members_joint(m->members) };
    if ((status = m->method->model_build(&site, &m->state)) < 0)
        return status;
    return m->method->model_compile(m->state);
}

/* members: NULL, or those of a composed model, which owns them from here on. */
static int new_model(ebm_backend *backend, const char *settings, const char *name,
                     const ebm_model_options *options, struct members *members, ebm_model **model)
{
    ebm_model *m = mem_new(backend->ctx, 1, sizeof *m);
    int status;

    *model = NULL;
    if (!m) {
        members_free(members);
        return EBM_ERR_NOMEM;
    }
    m->ctx = backend->ctx;
    m->backend = backend;
    m->members = members;
    if ((status = model_settings(m->ctx, settings, name, &m->recipe, &m->method, m->image)) < 0
        || (status = change_settings(m, options)) < 0
        || (members && (status = members_begin(members, m->recipe, m->image)) < 0)
        || (status = take_batch(m)) < 0) {
        ebm_model_free(m);
        return status;
    }
    *model = m;
    return EBM_OK;
}

int model_new(ebm_backend *backend, const char *settings, const char *name,
              const ebm_model_options *options, ebm_model **model)
{
    return new_model(backend, settings, name, options, NULL, model);
}

int model_plan(ebm_model *m, int64_t most)
{
    int64_t part = most;

    while (most && m->batch % part)
        part--;
    return build(m, part);
}

static int plan_part(void *user, int64_t part, struct needs *needs)
{
    ebm_model *m = user;
    int status = build(m, part);

    if (status >= 0)
        *needs = needs_of(m->backend, 1, &m->store, 0);
    return status;
}

static int take_memory(ebm_model *m, size_t limit)
{
    const struct needs_fit fit = {
        .backend = m->backend, .limit = limit, .batch = m->batch, .whose = "the model",
        .advice = "a smaller sample.batch may need less", .make = plan_part, .user = m,
    };
    int status = needs_fit(&fit);

    return status < 0 ? status : ebm_store_alloc(m->store, 0);
}

/* Weights of the file that the info was read from, and is the digest of. */
static int load(ebm_model *m, bool raw)
{
    const struct info *info = (const struct info *)m->info;
    int status = safetensors_compare(info->file, info->digest);

    return status < 0 ? status : weights_load(info->file, raw, m->store);
}

int ebm_model_open(ebm_backend *backend, const char *path, const ebm_model_options *options,
                   ebm_model **model)
{
    const ebm_model_info *info;
    int status;

    *model = NULL;
    if ((status = ebm_model_inspect(backend->ctx, path, &info)) < 0)
        return status;
    if ((status = model_new(backend, info->recipe, path, options, model)) < 0) {
        ebm_model_info_free(backend->ctx, info);
        return options && options->n_settings ? status : as_format(backend->ctx, path, status);
    }
    (*model)->info = info;
    if ((status = take_memory(*model, options ? options->max_memory : 0)) < 0 && !(options && options->n_settings))
        status = as_format(backend->ctx, path, status);
    if (status < 0 || (status = load(*model, options && options->raw)) < 0) {
        ebm_model_free(*model);
        *model = NULL;
    }
    return status;
}

/* Weights of one of the models: what is its file's region "energy"; without a region,
 * of a model that is alone, all. */
static int load_member(ebm_model *m, const char *path, bool raw, const char *region)
{
    struct safetensors *file;
    int status;

    if ((status = safetensors_open(m->ctx, path, &file)) < 0)
        return status;
    if ((status = safetensors_verify(file)) >= 0)
        status = region ? weights_load_region(file, raw, "energy", m->store, region)
                        : weights_load(file, raw, m->store);
    safetensors_close(file);
    return status;
}

int ebm_model_join(ebm_backend *backend, int n, const ebm_model_part *parts, double any,
                   const ebm_model_options *options, ebm_model **model)
{
    struct members *members;
    int status;

    *model = NULL;
    if ((status = members_open(backend->ctx, n, parts, any, &members)) < 0
        || (status = new_model(backend, members_info(members, 0)->recipe, parts[0].path, options,
                               members, model)) < 0)
        return status;
    status = take_memory(*model, options ? options->max_memory : 0);
    for (int i = 0; i < n && status >= 0; i++)
        status = load_member(*model, parts[i].path, options && options->raw,
                             n > 1 ? members_joint(members)->parts[i].region : NULL);
    if (status < 0) {
        ebm_model_free(*model);
        *model = NULL;
    }
    return status;
}

void ebm_model_free(ebm_model *m)
{
    if (!m)
        return;
    if (m->method)
        m->method->model_free(m->state);
    ebm_store_free(m->store);
    recipe_free(m->recipe);
    ebm_model_info_free(m->ctx, m->info);
    members_free(m->members);
    mem_free(m->ctx, m->images);
    mem_free(m->ctx, m->energies);
    mem_free(m->ctx, m->setting);
    mem_free(m->ctx, m);
}

const ebm_model_info *ebm_model_describe(const ebm_model *m)
{
    return ebm_model_member(m, 0);
}

const ebm_model_info *ebm_model_member(const ebm_model *m, int index)
{
    if (m->members)
        return members_info(m->members, index);
    return index == 0 ? m->info : NULL;
}

/* "key = value" in the lines of a recipe; NULL where it is not. */
static const char *line_of(const char *text, const char *key, size_t *length)
{
    size_t n = strlen(key);

    while (text && *text) {
        const char *end = strchr(text, '\n');
        const char *at = text + n;
        if (strncmp(text, key, n) == 0 && (*at == ' ' || *at == '=')) {
            at += strspn(at, " =");
            *length = end ? (size_t)(end - at) : strlen(at);
            return at;
        }
        text = end ? end + 1 : NULL;
    }
    return NULL;
}

const char *ebm_model_setting(ebm_model *m, const char *key)
{
    char *all = recipe_write(m->recipe, false);
    size_t n;
    const char *value = all ? line_of(all, key, &n) : NULL;

    mem_free(m->ctx, m->setting);
    m->setting = value ? mem_printf(m->ctx, "%.*s", (int)n, value) : NULL;
    mem_free(m->ctx, all);
    return m->setting;
}

ebm_store *model_store(ebm_model *m)
{
    return m->store;
}

/* ---- energies ---- */

static void to_network(const ebm_model *m, const float *from, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = m->low + (m->high - m->low) * from[i];
}

int ebm_model_energy(ebm_model *m, int64_t n, const float *images, float *energies)
{
    int status;

    if (n < 0)
        return ebm_fail(m->ctx, EBM_ERR_ARG, "%" PRId64 " images", n);
    for (int64_t at = 0; at < n; at += m->batch) {
        int64_t count = n - at < m->batch ? n - at : m->batch;
        to_network(m, images + at * m->pixels, m->images, count * m->pixels);
        /* The rest of the last batch: anything finite. */
        memset(m->images + count * m->pixels, 0,
               (size_t)((m->batch - count) * m->pixels) * sizeof *m->images);
        if ((status = m->method->model_energy(m->state, m->images, m->energies)) < 0)
            return status;
        memcpy(energies + at, m->energies, (size_t)count * sizeof *energies);
    }
    return EBM_OK;
}

/* ---- samples ---- */

static void to_caller(const ebm_model *m, const float *from, float *to, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float v = (from[i] - m->low) / (m->high - m->low);
        to[i] = v < 0 ? 0 : v > 1 ? 1 : v;
    }
}

/* A batch's progress as that of the whole call. */
struct share {
    ebm_progress *progress;
    void *user;
    double done, part;
};

static int pass_on(void *user, double done)
{
    const struct share *s = user;

    return s->progress ? s->progress(s->user, s->done + s->part * done) : 0;
}

/* Where a batch's frames go: those of the images that the caller asked for. */
struct shots {
    const ebm_model *m;
    int64_t begin, count;            /* of the batch */
    int frames;
    float *images;                   /* [count,frames,pixels], or NULL */
};

static void take_shot(void *user, int frame)
{
    const struct shots *s = user;

    for (int64_t i = 0; i < s->count; i++)
        to_caller(s->m, s->m->images + (s->begin + i) * s->m->pixels,
                  s->images + (i * s->frames + frame) * s->m->pixels, s->m->pixels);
}

/* Rows begin ... end of a batch, of each stage, to their places in the result. */
static void hand_over(const ebm_model *m, const ebm_draw *draw, const float *stages, float *images,
                      int64_t begin, int64_t end, int64_t at)
{
    to_caller(m, m->images + begin * m->pixels, images + at * m->pixels, (end - begin) * m->pixels);
    for (int64_t k = 0; stages && k < ebm_model_stages(m); k++)
        to_caller(m, stages + (k * m->batch + begin) * m->pixels,
                  draw->stages + (k * draw->n + at) * m->pixels, (end - begin) * m->pixels);
}

static int draw_batches(ebm_model *m, const ebm_draw *draw, struct method_draw batch, float *images)
{
    int64_t from = draw->first / m->batch, to = (draw->first + draw->n - 1) / m->batch;
    struct share share = { draw->progress, draw->user, 0, 1. / (double)(to - from + 1) };
    struct shots shots = { .m = m, .frames = draw->frames };
    int status;

    batch.progress = pass_on;
    batch.user = &share;
    batch.frames = draw->frames;
    batch.show = take_shot;
    batch.shots = &shots;
    for (int64_t b = from; b <= to; b++) {
        int64_t begin = b == from ? draw->first - b * m->batch : 0;
        int64_t end = b == to ? draw->first + draw->n - b * m->batch : m->batch;
        batch.batch = (uint32_t)b;
        share.done = share.part * (double)(b - from);
        shots.begin = begin;
        shots.count = end - begin;
        if (draw->frames)
            shots.images = draw->chains
                         + (b * m->batch + begin - draw->first) * draw->frames * m->pixels;
        if ((status = m->method->model_sample(m->state, &batch, m->images)) < 0)
            return status;
        hand_over(m, draw, batch.stages, images, begin, end, b * m->batch + begin - draw->first);
    }
    return EBM_OK;
}

/* A picture to complete and room for the stages of a batch. */
static int draw_more(ebm_model *m, const ebm_draw *draw, struct method_draw batch, float *images)
{
    float *picture = mem_new(m->ctx, (size_t)m->pixels, sizeof *picture), *stages = NULL;
    int status = picture ? EBM_OK : EBM_ERR_NOMEM;

    if (picture && draw->stages
        && !(stages = mem_new(m->ctx, (size_t)ebm_model_stages(m) * (size_t)m->batch,
                              (size_t)m->pixels * sizeof *stages)))
        status = EBM_ERR_NOMEM;
    if (status >= 0) {
        if (draw->picture)
            to_network(m, draw->picture, picture, m->pixels);
        batch.picture = draw->picture ? picture : NULL;
        batch.mask = draw->mask;
        batch.stages = stages;
        status = draw_batches(m, draw, batch, images);
    }
    mem_free(m->ctx, picture);
    mem_free(m->ctx, stages);
    return status;
}

int ebm_model_stages(const ebm_model *m)
{
    return m->method->model_stages ? m->method->model_stages(m->state) : 1;
}

int ebm_model_draw(ebm_model *m, const ebm_draw *draw, float *images)
{
    struct method_draw batch = { .seed = draw->seed };
    int64_t first = draw->first, n = draw->n;

    if (first < 0 || n < 0 || n > INT64_MAX - first || (first + n) / m->batch > UINT32_MAX)
        return ebm_fail(m->ctx, EBM_ERR_ARG, "images %" PRId64 " and the next %" PRId64
                        " are beyond the series of a seed", first, n);
    if ((draw->picture || draw->stages) && !m->method->model_stages)
        return ebm_fail(m->ctx, EBM_ERR_ARG, "models of method %s draw images as a whole: no stages, "
                        "and no picture completed", m->method->name);
    if (draw->frames < 0 || !draw->frames != !draw->chains)
        return ebm_fail(m->ctx, EBM_ERR_ARG, "%d frames of chains, and %s for them", draw->frames,
                        draw->chains ? "room" : "no room");
    if (draw->frames && !m->method->model_frames)
        return ebm_fail(m->ctx, EBM_ERR_ARG, "models of method %s do not show their chains", m->method->name);
    if (!draw->picture != !draw->mask)
        return ebm_fail(m->ctx, EBM_ERR_ARG, "completing takes a picture and a mask");
    if (n == 0)
        return EBM_OK;
    return draw->picture || draw->stages ? draw_more(m, draw, batch, images)
                                         : draw_batches(m, draw, batch, images);
}

int ebm_model_sample(ebm_model *m, uint64_t seed, int64_t first, int64_t n, float *images,
                     ebm_progress *progress, void *user)
{
    const ebm_draw draw = { .seed = seed, .first = first, .n = n, .progress = progress, .user = user };

    return ebm_model_draw(m, &draw, images);
}
