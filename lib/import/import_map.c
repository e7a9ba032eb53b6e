/* import_map.c - tensors of a model from those of a checkpoint.
 *
 * SPDX-License-Identifier: ISC
 *
 * Names are the authors' on both sides.  Filters change their layout, [o,i,r,s] to
 * [o,r,s,i], and so do the vectors of spectral norm that belong to them; maps by
 * 1x1 filters are matrices here.  A tensor is read when it is written. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "import.h"

enum layout {
    PLAIN,                       /* the same order; axes of one element do not count */
    FILTER,                      /* [o,i,r,s] to [o,r,s,i] */
    VECTOR                       /* of a matrix [o,irs] to one of a matrix [o,rsi] */
};

struct item {
    struct import *im;
    char *name;                  /* in the model's file */
    const struct shape *shape;
    const struct foreign_tensor *from;
    enum layout layout;
    int64_t n[4];                /* FILTER, VECTOR: o, i, r, s */
    float scale;
    float *values;               /* while they are written */
};

struct mapping {
    struct import *im;
    ebm_store *store;
    struct item *items;
    size_t count, capacity;
    bool *used;                  /* of the file's tensors */
    size_t wanted, missing, misshapen;
    char first[480];             /* the first that is missing or misshapen */
};

static bool same_but_ones(const struct shape *ours, const struct foreign_tensor *t)
{
    int i = 0, j = 0;

    for (;;) {
        while (i < ours->rank && ours->n[i] == 1)
            i++;
        while (j < t->rank && t->shape[j] == 1)
            j++;
        if (i == ours->rank || j == t->rank)
            return i == ours->rank && j == t->rank;
        if (ours->n[i++] != t->shape[j++])
            return false;
    }
}

static bool is_filter(const struct shape *ours, const struct foreign_tensor *t)
{
    return ours->n[0] == t->shape[0] && ours->n[3] == t->shape[1] && ours->n[1] == t->shape[2]
        && ours->n[2] == t->shape[3];
}

/* The weight that a vector of spectral norm belongs to: 4 axes of it, or NULL. */
static const struct foreign_tensor *filter_of(const struct import *im, const struct state_dict *dict,
                                              const char *name)
{
    static const char end[] = ".weight_v";
    char weight[FOREIGN_NAME];
    size_t n = strlen(name);

    if (n < sizeof end - 1 || n + 8 > sizeof weight || strcmp(name + n - (sizeof end - 1), end) != 0)
        return NULL;
    snprintf(weight, sizeof weight, "%.*sorig", (int)(n - 1), name);
    const struct foreign_tensor *t = state_find(im, dict, weight);
    return t && t->rank == 4 && t->elements ? t : NULL;
}

static bool fits(const struct import *im, const struct state_dict *dict, const char *name,
                 struct item *item)
{
    const struct foreign_tensor *t = item->from, *filter = filter_of(im, dict, name);

    if (filter && t->rank == 1 && item->shape->rank == 1) {
        item->layout = VECTOR;
        memcpy(item->n, filter->shape, sizeof item->n);
        item->n[0] = 1;
        return t->elements == item->shape->n[0] && t->elements == filter->elements / filter->shape[0];
    }
    if (item->shape->rank == 4 && t->rank == 4) {
        item->layout = FILTER;
        memcpy(item->n, t->shape, sizeof item->n);
        return is_filter(item->shape, t);
    }
    item->layout = PLAIN;
    return same_but_ones(item->shape, t);
}

static void write_shape(char *text, size_t size, int rank, const int64_t *n)
{
    size_t at = 0;

    snprintf(text, size, "[]");
    for (int i = 0; i < rank && at + 24 < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%" PRId64 "%s", i ? "," : "[", n[i],
                               i + 1 == rank ? "]" : "");
}

static void note_misfit(struct mapping *p, const char *name, const struct item *item)
{
    char ours[160], theirs[160];

    if (*p->first)
        return;
    if (!item->from) {
        snprintf(p->first, sizeof p->first, "'%.200s' is missing", name);
        return;
    }
    write_shape(ours, sizeof ours, item->shape->rank, item->shape->n);
    write_shape(theirs, sizeof theirs, item->from->rank, item->from->shape);
    snprintf(p->first, sizeof p->first, "'%.120s' is %s for %s", name, theirs, ours);
}

static struct item *item_new(struct mapping *p)
{
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 64;
        void *grown = mem_grow(p->im->ctx, p->items, p->count, capacity, sizeof *p->items);
        if (!grown)
            return NULL;
        p->items = grown;
        p->capacity = capacity;
    }
    p->items[p->count] = (struct item){ .im = p->im, .scale = 1 };
    return &p->items[p->count++];
}

/* One tensor of a network, from one of its state dicts. */
static int map_tensor(struct mapping *p, const struct import_net *net, bool raw, const char *name,
                       const struct shape *shape)
{
    const struct state_dict *dict = raw ? &net->raw : &net->weights;
    struct item *item = item_new(p);
    char orig[FOREIGN_NAME];

    if (!item)
        return EBM_ERR_NOMEM;
    if (!(item->name = mem_printf(p->im->ctx, "%s%s/%s", raw ? "raw/" : "", net->region, name)))
        return EBM_ERR_NOMEM;
    item->shape = shape;
    const struct foreign_tensor *named = state_named(p->im, dict, name);
    if (!named && (size_t)snprintf(orig, sizeof orig, "%s_orig", name) < sizeof orig
        && (named = state_named(p->im, dict, orig)))
        name = orig;
    item->from = named ? state_find(p->im, dict, name) : NULL;
    if (net->scaled && strcmp(net->scaled, name) == 0)
        item->scale = net->scale;
    p->wanted++;
    if (!item->from) {
        p->missing++;
        note_misfit(p, name, item);
    } else if (!fits(p->im, dict, name, item)) {
        p->misshapen++;
        note_misfit(p, name, item);
    }
    /* With a list of averages, what an item of it stands for is used too. */
    if (named)
        p->used[named - p->im->file->tensors] = true;
    if (item->from)
        p->used[item->from - p->im->file->tensors] = true;
    return EBM_OK;
}

/* Parameters and states of a region, from the weights or from the raw ones. */
static int map_network(struct mapping *p, const struct import_net *net, bool raw)
{
    const size_t n = strlen(net->region);
    int status = EBM_OK;

    for (int i = 0; i < p->store->count; i++) {
        const struct tensor *t = &p->store->tensors[i];
        bool states = strncmp(t->name, net->region, n) == 0 && t->name[n] == '/';
        if (states && !raw)
            status = map_tensor(p, net, raw, t->name + n + 1, &t->shape);
        bool region = t->region && strcmp(t->name, net->region) == 0;
        for (int j = 0; region && status >= 0 && j < t->n_parts; j++)
            status = map_tensor(p, net, raw, t->parts[j].name, &t->parts[j].shape);
        if (status < 0)
            return status;
    }
    return EBM_OK;
}

static bool may_be_unused(const struct import_net *net, const char *name)
{
    size_t prefix;

    for (const char *const *end = net->unused; end && *end; end++)
        if (name_ends(name, *end, &prefix))
            return true;
    return false;
}

/* Tensors of a state dict that nothing took. */
static const char *left_over(const struct mapping *p, const struct import_net *net,
                             const struct state_dict *dict, size_t *count)
{
    const ebm_foreign *f = p->im->file;
    const char *first = NULL;

    for (size_t i = 0; i < f->n_tensors; i++) {
        const char *name = f->tensors[i].name;
        const char *rest = name + strlen(dict->prefix);
        if (p->used[i] || !state_has(dict, name) || strchr(rest, '/') || may_be_unused(net, rest))
            continue;
        ++*count;
        if (!first)
            first = rest;
    }
    return first;
}

static int check_mapping(const struct mapping *p)
{
    const struct import *im = p->im;
    const char *first = NULL;
    size_t more = 0;

    for (int i = 0; i < im->n_nets; i++) {
        const char *name = left_over(p, &im->nets[i], &im->nets[i].weights, &more);
        first = first ? first : name;
    }
    if (p->missing || p->misshapen)
        return ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s is near to %s, but of %zu tensors %zu are missing "
                        "and %zu have another shape: %s", im->file->path, im->network, p->wanted,
                        p->missing, p->misshapen, p->first);
    if (more)
        return ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s is near to %s, but %zu of its tensors have no place "
                        "in it, as '%s'", im->file->path, im->network, more, first);
    return EBM_OK;
}

/* ---- writing ---- */

/* [o,i,rs] to [o,rs,i] */
static void permute(const int64_t n[4], const float *from, float *to)
{
    const int64_t channels = n[1], taps = n[2] * n[3];

    for (int64_t o = 0; o < n[0]; o++, from += channels * taps)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t i = 0; i < channels; i++)
                *to++ = from[i * taps + tap];
}

static int convert(const struct item *item, float *x)
{
    struct import *im = item->im;
    size_t count = (size_t)item->from->elements;
    float *read = x;
    int status;

    if (item->layout != PLAIN && !(read = mem_new(im->ctx, count, sizeof *read)))
        return EBM_ERR_NOMEM;
    if ((status = foreign_read(im->file, item->from, read)) >= 0 && item->layout != PLAIN)
        permute(item->n, read, x);
    if (read != x)
        mem_free(im->ctx, read);
    for (size_t i = 0; status >= 0 && i < count; i++) {
        if (!isfinite(x[i]))
            status = ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s: element %zu of '%s' is not a finite number",
                              im->file->path, i, item->from->name);
        x[i] *= item->scale;
    }
    return status;
}

/* A tensor is converted whole, and handed on in pieces. */
static int fetch(void *user, const char *name, size_t offset, void *to, size_t size)
{
    struct item *item = user;
    ebm_context *ctx = item->im->ctx;
    size_t count = (size_t)item->from->elements, bytes = count * sizeof *item->values;
    int status;

    if (offset > bytes || size > bytes - offset)
        return ebm_fail(ctx, EBM_ERR_INTERNAL, "'%s' has %zu bytes, not %zu", name, bytes, offset + size);
    if (!item->values) {
        if (!(item->values = mem_new(ctx, count, sizeof *item->values)))
            return EBM_ERR_NOMEM;
        if ((status = convert(item, item->values)) < 0)
            return status;
    }
    memcpy(to, (const char *)item->values + offset, size);
    if (offset + size == bytes) {
        mem_free(ctx, item->values);
        item->values = NULL;
    }
    return EBM_OK;
}

int mapping_new(struct import *im, ebm_store *store, struct mapping **mapping)
{
    struct mapping *p = mem_new(im->ctx, 1, sizeof *p);
    int status = EBM_OK;

    *mapping = NULL;
    if (!p)
        return EBM_ERR_NOMEM;
    p->im = im;
    p->store = store;
    if (!(p->used = mem_new(im->ctx, im->file->n_tensors + 1, sizeof *p->used)))
        status = EBM_ERR_NOMEM;
    for (int raw = 0; raw < 2; raw++)
        for (int i = 0; i < im->n_nets && status >= 0; i++)
            if (!raw || im->nets[i].has_raw)
                status = map_network(p, &im->nets[i], raw);
    if (status >= 0)
        status = check_mapping(p);
    if (status < 0)
        mapping_free(p);
    else
        *mapping = p;
    return status;
}

void mapping_free(struct mapping *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++) {
        mem_free(p->im->ctx, p->items[i].name);
        mem_free(p->im->ctx, p->items[i].values);
    }
    mem_free(p->im->ctx, p->items);
    mem_free(p->im->ctx, p->used);
    mem_free(p->im->ctx, p);
}

void mapping_add(struct mapping *p, struct safetensors_writer *writer)
{
    for (size_t i = 0; i < p->count; i++)
        safetensors_add_fetched(writer, p->items[i].name, EBM_F32, p->items[i].shape->rank,
                                p->items[i].shape->n, fetch, &p->items[i]);
}
