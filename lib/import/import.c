/* import.c - see import.h.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "import.h"
#include "model.h"
#include "store.h"

static const struct family *const families[] = { &family_icd_28, &family_icd, &family_cdrl };

enum { DICTS_MAX = 16 };

/* ---- state dicts ---- */

/* Spectral norm's vectors are no parameters, and in no list of averages. */
static bool is_parameter(const char *name)
{
    size_t n = strlen(name);

    return n < 9 || (strcmp(name + n - 9, ".weight_u") != 0 && strcmp(name + n - 9, ".weight_v") != 0);
}

bool state_has(const struct state_dict *dict, const char *name)
{
    return strncmp(name, dict->prefix, strlen(dict->prefix)) == 0;
}

/* Parameters of a state dict before a tensor. */
static size_t parameters_before(const struct import *im, const struct state_dict *dict,
                                const struct foreign_tensor *end)
{
    size_t n = 0;

    for (const struct foreign_tensor *t = im->file->tensors; t < end; t++)
        n += state_has(dict, t->name) && is_parameter(t->name);
    return n;
}

size_t state_parameters(const struct import *im, const struct state_dict *dict)
{
    return parameters_before(im, dict, im->file->tensors + im->file->n_tensors);
}

const struct foreign_tensor *state_named(const struct import *im, const struct state_dict *dict,
                                         const char *name)
{
    char full[FOREIGN_NAME];
    size_t n = (size_t)snprintf(full, sizeof full, "%s%s", dict->prefix, name);

    return n < sizeof full ? foreign_find(im->file, full) : NULL;
}

const struct foreign_tensor *state_find(const struct import *im, const struct state_dict *dict,
                                        const char *name)
{
    const struct foreign_tensor *t = state_named(im, dict, name);
    char place[sizeof dict->shadow + 24];

    if (!t || !*dict->shadow || !is_parameter(name))
        return t;
    snprintf(place, sizeof place, "%s/%zu", dict->shadow, parameters_before(im, dict, t));
    return foreign_find(im->file, place);
}

int64_t state_size(const struct import *im, const struct state_dict *dict, const char *name, int i)
{
    const struct foreign_tensor *t = state_find(im, dict, name);

    return t && i < t->rank ? t->shape[i] : 0;
}

bool name_ends(const char *name, const char *mark, size_t *prefix)
{
    size_t n = strlen(name), m = strlen(mark);

    *prefix = n - m;
    return n >= m && n < FOREIGN_NAME && strcmp(name + n - m, mark) == 0
        && (n == m || name[n - m - 1] == '/' || name[n - m - 1] == '.');
}

static int count_marks(const struct import *im, const struct family *family,
                       const struct state_dict *dict, const char **missing)
{
    int n = 0;

    *missing = NULL;
    for (const char *const *mark = family->marks; *mark; mark++) {
        bool there = state_find(im, dict, *mark);
        n += there;
        if (!there && !*missing)
            *missing = *mark;
    }
    return n;
}

int state_dicts(const struct import *im, const char *name, struct state_dict *dicts, int most)
{
    const ebm_foreign *f = im->file;
    int count = 0;
    size_t prefix;

    for (size_t i = 0; i < f->n_tensors && count < most; i++)
        if (name_ends(f->tensors[i].name, name, &prefix)) {
            struct state_dict *d = &dicts[count++];
            memcpy(d->prefix, f->tensors[i].name, prefix);
            d->prefix[prefix] = '\0';
            d->shadow[0] = '\0';
        }
    return count;
}

/* ---- which network it is ---- */

struct nearest {
    const struct family *family;
    const char *missing;
    int marks;
};

/* All dicts of the family; fewer marks than all make it a candidate for nearest. */
static int match(const struct import *im, const struct family *family,
                 struct state_dict dicts[DICTS_MAX], struct nearest *nearest)
{
    int kept = 0;

    for (const char *const *mark = family->marks; *mark && kept == 0; mark++) {
        int found = state_dicts(im, *mark, dicts, DICTS_MAX);
        for (int i = 0; i < found; i++) {
            const char *missing;
            int marks = count_marks(im, family, &dicts[i], &missing);
            if (!missing)
                dicts[kept++] = dicts[i];
            else if (marks > nearest->marks)
                *nearest = (struct nearest){ family, missing, marks };
        }
    }
    return kept;
}

static int not_recognised(const struct import *im, const struct nearest *nearest)
{
    const ebm_foreign *f = im->file;

    if (f->n_tensors == 0)
        return ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s: no tensors in dictionaries; save a state dict",
                        f->path);
    if (nearest->family)
        return ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s: its %zu tensors are no known network; the nearest is "
                        "%s, which has '%s' too", f->path, f->n_tensors, nearest->family->name,
                        nearest->missing);
    struct text known = { im->ctx, NULL, 0, 0, false };
    for (size_t i = 0; i < COUNT(families); i++)
        text_printf(&known, "%s%s", i ? "; " : "", families[i]->name);
    char *names = text_take(&known);
    if (!names)
        return EBM_ERR_NOMEM;
    int status = ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s: its %zu tensors, as '%s', are of no known network; "
                          "there are: %s", f->path, f->n_tensors, f->tensors[0].name, names);
    mem_free(im->ctx, names);
    return status;
}

static int recognise(struct import *im)
{
    struct nearest nearest = { NULL, NULL, 0 };
    struct state_dict *dicts = mem_new(im->ctx, DICTS_MAX, sizeof *dicts);
    int status = dicts ? EBM_OK : EBM_ERR_NOMEM;

    for (size_t i = 0; status >= 0 && im->n_nets == 0 && i < COUNT(families); i++) {
        int n = match(im, families[i], dicts, &nearest);
        if (n > 0)
            status = families[i]->describe(im, dicts, n);
    }
    if (status >= 0 && im->n_nets == 0)
        status = not_recognised(im, &nearest);
    mem_free(im->ctx, dicts);
    return status;
}

/* "ema" in any case. */
static bool is_average(const char *prefix)
{
    for (; *prefix; prefix++)
        if (tolower((unsigned char)prefix[0]) == 'e' && tolower((unsigned char)prefix[1]) == 'm'
            && tolower((unsigned char)prefix[2]) == 'a')
            return true;
    return false;
}

/* "model_state_dict_1" of the prefix "model_state_dict_1/module." */
static bool is_dict(const char *prefix, const char *path)
{
    size_t n = strlen(path);

    return strncmp(prefix, path, n) == 0 && (prefix[n] == '\0' || prefix[n] == '/' || prefix[n] == '.');
}

int choose_weights(struct import *im, const struct state_dict *dicts, int count, struct import_net *net)
{
    const char *asked = im->options ? im->options->weights : NULL;
    const struct state_dict *average = NULL, *last = NULL, *named = NULL;
    bool raw = asked && strcmp(asked, "raw") == 0;

    for (int i = count; i-- > 0; ) {
        if (is_average(dicts[i].prefix))
            average = &dicts[i];
        else
            last = &dicts[i];
        if (asked && !raw && is_dict(dicts[i].prefix, asked))
            named = &dicts[i];
    }
    if (asked && !(raw ? last : named))
        return ebm_fail(im->ctx, EBM_ERR_ARG, "%s has no weights '%s'; there are '%s'%s%s%s", im->file->path,
                        asked, dicts[0].prefix, count > 1 ? " and '" : "",
                        count > 1 ? dicts[1].prefix : "", count > 1 ? "'" : "");
    net->weights = asked ? *(raw ? last : named) : *(average ? average : last);
    net->has_raw = !asked && average && last;
    if (net->has_raw)
        net->raw = *last;
    return EBM_OK;
}

/* ---- what was saved beside ---- */

bool flag_is(const struct import *im, const char *path, bool otherwise)
{
    const struct pickle_value *v = foreign_value(im->file, path);

    return v && (v->kind == PICKLE_BOOL || v->kind == PICKLE_INTEGER) ? v->integer != 0 : otherwise;
}

double flag_number(const struct import *im, const char *path, double otherwise)
{
    const struct pickle_value *v = foreign_value(im->file, path);
    double number = !v ? 0 : v->kind == PICKLE_NUMBER ? v->number
                  : v->kind == PICKLE_INTEGER ? (double)v->integer : 0;

    return number > 0 && number < 1e9 ? number : otherwise;
}

bool flag_is_text(const struct import *im, const char *path, const char *text)
{
    return pickle_is_text(foreign_value(im->file, path), text);
}

/* ---- the model ---- */

static void add_metadata(const struct import *im, const ebm_store *store, const char *method,
                         const char *settings, struct safetensors_writer *w)
{
    const char *slash = strrchr(im->file->path, '/');
    char text[300];

    safetensors_add_metadata(w, "format", MODEL_FORMAT);
    safetensors_add_metadata(w, "library", ebm_version());
    safetensors_add_metadata(w, "method", method);
    safetensors_add_metadata(w, "recipe", settings);
    snprintf(text, sizeof text, "imported from %.200s, %s", slash ? slash + 1 : im->file->path,
             im->file->format);
    safetensors_add_metadata(w, "data", text);
    safetensors_add_metadata(w, "fingerprint", "unknown");
    safetensors_add_metadata(w, "seed", "0");
    snprintf(text, sizeof text, "%" PRId64, im->steps);
    safetensors_add_metadata(w, "steps", text);
    snprintf(text, sizeof text, "%" PRId64, weights_parameters(store));
    safetensors_add_metadata(w, "parameters", text);
}

static int write_model(struct import *im, ebm_store *store, const char *method, const char *settings,
                       const char *path)
{
    struct safetensors_writer *w = NULL;
    struct mapping *mapping = NULL;
    int status;

    if ((status = mapping_new(im, store, &mapping)) >= 0
        && (status = safetensors_writer_new(im->ctx, &w)) >= 0) {
        add_metadata(im, store, method, settings, w);
        mapping_add(mapping, w);
        status = safetensors_write(w, path, NULL);
    }
    safetensors_writer_free(w);
    mapping_free(mapping);
    return status;
}

/* What was inferred and does not go is the file's fault, not an argument's. */
static int blame(const struct import *im, int status)
{
    if (status != EBM_ERR_ARG || (im->options && im->options->n_settings))
        return status;
    char *why = mem_strdup(im->ctx, ebm_message(im->ctx));
    if (!why)
        return EBM_ERR_NOMEM;
    status = ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s is near to %s, but there is none: %s", im->file->path,
                      im->network, why);
    mem_free(im->ctx, why);
    return status;
}

static int read_settings(struct import *im, struct recipe *recipe, const struct method **method,
                         int64_t image[3])
{
    const char *text = text_take(&im->settings);
    int status;

    if (!text)
        return EBM_ERR_NOMEM;
    status = recipe_parse(recipe, text, strlen(text), im->file->path);
    for (int i = 0; status >= 0 && im->options && i < im->options->n_settings; i++)
        status = recipe_set(recipe, im->options->settings[i]);
    if (status < 0 || (status = method_declare(im->ctx, recipe, method)) < 0)
        return status;
    return model_image(im->ctx, recipe, image);
}

static int import_with(struct import *im, struct recipe *recipe, ebm_store *store, const char *path)
{
    struct method_site site = { .ctx = im->ctx, .store = store, .recipe = recipe };
    const struct method *method = NULL;
    char *settings = NULL;
    void *state = NULL;
    int status;

    if ((status = read_settings(im, recipe, &method, site.image)) < 0)
        return blame(im, status);
    site.method = method;
    if ((status = method->model_build(&site, &state)) < 0)
        status = blame(im, status);
    else if (!(settings = recipe_write(recipe, false)))
        status = EBM_ERR_NOMEM;
    else
        status = write_model(im, store, method->name, settings, path);
    method->model_free(state);
    mem_free(im->ctx, settings);
    return status;
}

int ebm_foreign_import(ebm_foreign *file, const ebm_import_options *options, const char *path)
{
    struct import im = { .ctx = file->ctx, .file = file, .options = options,
                         .settings = { .ctx = file->ctx } };
    struct ebm_backend nothing = { .ctx = file->ctx };      /* graphs need no device */
    struct recipe *recipe = NULL;
    ebm_store *store = NULL;
    int status;

    if ((status = recognise(&im)) >= 0
        && (status = recipe_new(file->ctx, &recipe)) >= 0
        && (status = ebm_store_new(&nothing, &store)) >= 0
        && (status = import_with(&im, recipe, store, path)) >= 0)
        ebm_note(file->ctx, EBM_LOG_INFO, "%s, %s: %s", file->path, file->format, im.network);
    mem_free(file->ctx, im.settings.s);
    ebm_store_free(store);
    recipe_free(recipe);
    return status;
}
