/* weights.c - see weights.h.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "weights.h"

/* ---- walking a store ---- */

/* One tensor that a file holds: a state, or a parameter of a region. */
struct item {
    const struct tensor *tensor;
    const struct part *part;         /* NULL: the tensor is a state */
};

static char *item_name(ebm_context *ctx, struct item item)
{
    return item.part ? mem_printf(ctx, "%s/%s", item.tensor->name, item.part->name)
                     : mem_strdup(ctx, item.tensor->name);
}

static const struct shape *item_shape(struct item item)
{
    return item.part ? &item.part->shape : &item.tensor->shape;
}

static size_t item_bytes(struct item item)
{
    return (size_t)shape_count(item_shape(item)) * type_size(item.tensor->type);
}

typedef int visit(void *user, struct item item, const char *name);

static int walk(ebm_store *store, visit *each, void *user)
{
    int status = EBM_OK;

    for (int i = 0; i < store->count && status >= 0; i++) {
        const struct tensor *t = &store->tensors[i];
        int n = t->region ? t->n_parts : 1;
        for (int j = 0; j < n && status >= 0; j++) {
            struct item item = { t, t->region ? &t->parts[j] : NULL };
            char *name = item_name(store->ctx, item);
            status = name ? each(user, item, name) : EBM_ERR_NOMEM;
            mem_free(store->ctx, name);
        }
    }
    return status;
}

/* "region/layer/state.ema": the average of a layer's state. */
static bool is_average(const char *name)
{
    size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".ema") == 0;
}

/* Is it a parameter, or the state "region/..." of a layer? */
static bool of_network(const ebm_store *store, struct item item)
{
    if (item.part)
        return true;
    if (is_average(item.tensor->name))
        return false;
    for (int i = 0; i < store->count; i++) {
        const struct tensor *r = &store->tensors[i];
        size_t n = strlen(r->name);
        if (r->region && strncmp(item.tensor->name, r->name, n) == 0 && item.tensor->name[n] == '/')
            return true;
    }
    return false;
}

/* ---- checkpoints ---- */

struct adding {
    ebm_store *store;
    struct safetensors_writer *writer;
};

static int fetch_finite(void *user, const char *name, size_t offset, void *to, size_t size)
{
    ebm_store *store = user;
    int slot = store_find(store, name), status = store_read_at(store, name, offset, to, size);
    bool numbers = slot < 0 || store->tensors[slot].type == EBM_F32;   /* parameters are */
    const float *x = to;

    for (size_t i = 0; status >= 0 && numbers && i < size / sizeof *x; i++)
        if (!isfinite(x[i]))
            return ebm_fail(store->ctx, EBM_ERR_DIVERGED, "element %zu of '%s' is not a finite number",
                            offset / sizeof *x + i, name);
    return status;
}

static int add_item(void *user, struct item item, const char *name)
{
    const struct adding *a = user;
    const struct shape *shape = item_shape(item);

    safetensors_add_fetched(a->writer, name, item.tensor->type, shape->rank, shape->n,
                            fetch_finite, a->store);
    return EBM_OK;
}

int weights_add_all(ebm_store *store, struct safetensors_writer *writer)
{
    struct adding a = { store, writer };

    return walk(store, add_item, &a);
}

struct reading {
    ebm_store *store;
    struct safetensors *file;
    bool network_only, raw;
    const char *from, *to;           /* regions there and here; NULL: all, by their names */
};

/* The name under which a model's file holds a tensor. */
static int name_in_file(const struct reading *r, const char *name, char **result)
{
    ebm_context *ctx = r->store->ctx;
    size_t n = r->to ? strlen(r->to) : 0;
    const char *from = r->from ? r->from : "";
    char *raw = r->raw ? mem_printf(ctx, "raw/%s%s", from, name + n) : NULL;

    if (r->raw && !raw)
        return EBM_ERR_NOMEM;
    if (raw && safetensors_find(r->file, raw)) {
        *result = raw;
        return EBM_OK;
    }
    mem_free(ctx, raw);
    *result = mem_printf(ctx, "%s%s", from, name + n);
    return *result ? EBM_OK : EBM_ERR_NOMEM;
}

/* Is it a tensor of the region that is read? */
static bool wanted(const struct reading *r, const char *name)
{
    size_t n = r->to ? strlen(r->to) : 0;

    return !r->to || (strncmp(name, r->to, n) == 0 && name[n] == '/');
}

static int read_item(void *user, struct item item, const char *name)
{
    const struct reading *r = user;
    ebm_context *ctx = r->store->ctx;
    const struct shape *shape = item_shape(item);
    size_t bytes = item_bytes(item);
    char *there;
    int status;

    if ((r->network_only && !of_network(r->store, item)) || !wanted(r, name))
        return EBM_OK;
    if ((status = name_in_file(r, name, &there)) < 0)
        return status;
    void *host = mem_new(ctx, bytes, 1);
    status = host ? safetensors_read_shaped(r->file, there, item.tensor->type, shape->rank,
                                            shape->n, host) : EBM_ERR_NOMEM;
    if (status >= 0)
        status = ebm_store_write(r->store, name, host, bytes);
    mem_free(ctx, host);
    mem_free(ctx, there);
    return status;
}

int weights_read_all(ebm_store *store, struct safetensors *file)
{
    struct reading r = { store, file, false, false, NULL, NULL };

    return walk(store, read_item, &r);
}

int weights_load(struct safetensors *file, bool raw, ebm_store *model)
{
    struct reading r = { model, file, true, raw, NULL, NULL };

    return walk(model, read_item, &r);
}

int weights_load_region(struct safetensors *file, bool raw, const char *from, ebm_store *model,
                        const char *to)
{
    struct reading r = { model, file, true, raw, from, to };

    return walk(model, read_item, &r);
}

/* ---- the trained weights ---- */

struct entry {
    char *name;
    enum ebm_type type;
    struct shape shape;
    const void *data, *raw;          /* raw: NULL where data are it */
};

struct weights {
    ebm_store *store;                /* they were copied from */
    int count, capacity, n_blocks, blocks_capacity;
    struct entry *entries;
    void **blocks;                   /* what data and raw point into */
};

/* A copy of a whole tensor. */
static int copy_tensor(struct weights *w, const struct tensor *t, const void **copy)
{
    ebm_context *ctx = w->store->ctx;
    size_t bytes = tensor_bytes(t);
    int status;

    if (w->n_blocks == w->blocks_capacity) {
        int capacity = w->blocks_capacity ? 2 * w->blocks_capacity : 8;
        void *grown = mem_grow(ctx, w->blocks, (size_t)w->n_blocks, (size_t)capacity,
                               sizeof *w->blocks);
        if (!grown)
            return EBM_ERR_NOMEM;
        w->blocks = grown;
        w->blocks_capacity = capacity;
    }
    void *block = mem_new(ctx, bytes, 1);
    if (!block)
        return EBM_ERR_NOMEM;
    w->blocks[w->n_blocks++] = block;
    if ((status = ebm_store_read(w->store, t->name, block, bytes)) < 0)
        return status;
    *copy = block;
    return EBM_OK;
}

static int add_entry(struct weights *w, struct item item, const void *data, const void *raw)
{
    ebm_context *ctx = w->store->ctx;

    if (w->count == w->capacity) {
        int capacity = w->capacity ? 2 * w->capacity : 32;
        void *grown = mem_grow(ctx, w->entries, (size_t)w->count, (size_t)capacity,
                               sizeof *w->entries);
        if (!grown)
            return EBM_ERR_NOMEM;
        w->entries = grown;
        w->capacity = capacity;
    }
    struct entry *e = &w->entries[w->count];
    *e = (struct entry){ item_name(ctx, item), item.tensor->type, *item_shape(item), data, raw };
    if (!e->name)
        return EBM_ERR_NOMEM;
    w->count++;
    return EBM_OK;
}

/* The tensor "region.suffix", or NULL. */
static const struct tensor *beside(const ebm_store *store, const struct tensor *region,
                                   const char *suffix)
{
    size_t n = strlen(region->name);

    for (int i = 0; i < store->count; i++) {
        const char *name = store->tensors[i].name;
        if (strncmp(name, region->name, n) == 0 && name[n] == '.' && strcmp(name + n + 1, suffix) == 0)
            return &store->tensors[i];
    }
    return NULL;
}

/* The average is one of no weights before the first step. */
static int has_average(struct weights *w, const struct tensor *region, const struct tensor **average)
{
    const struct tensor *steps = beside(w->store, region, "step");
    float n = 0;
    int status = EBM_OK;

    *average = beside(w->store, region, "ema");
    if (*average && steps)
        status = ebm_store_read(w->store, steps->name, &n, sizeof n);
    if (n < 1)
        *average = NULL;
    return status;
}

static int copy_region(struct weights *w, const struct tensor *region)
{
    const struct tensor *average;
    const void *raw, *mean = NULL;
    int status;

    if ((status = has_average(w, region, &average)) < 0
        || (status = copy_tensor(w, region, &raw)) < 0
        || (average && (status = copy_tensor(w, average, &mean)) < 0))
        return status;
    for (int i = 0; i < region->n_parts && status >= 0; i++) {
        const struct part *p = &region->parts[i];
        const float *r = (const float *)raw + p->offset;
        const float *m = mean ? (const float *)mean + p->offset : NULL;
        status = add_entry(w, (struct item){ region, p }, m ? m : r, m ? r : NULL);
    }
    return status;
}

/* A layer's state: its average, where it has one. */
static int copy_state(struct weights *w, const struct tensor *state)
{
    const struct tensor *average = beside(w->store, state, "ema");
    const void *raw, *mean = NULL;
    int status;

    if ((status = copy_tensor(w, state, &raw)) < 0
        || (average && (status = copy_tensor(w, average, &mean)) < 0))
        return status;
    return add_entry(w, (struct item){ state, NULL }, mean ? mean : raw, mean ? raw : NULL);
}

int weights_new(ebm_store *store, struct weights **weights)
{
    struct weights *w = mem_new(store->ctx, 1, sizeof *w);
    int status = w ? EBM_OK : EBM_ERR_NOMEM;

    *weights = NULL;
    if (w)
        w->store = store;
    for (int i = 0; status >= 0 && i < store->count; i++) {
        const struct tensor *t = &store->tensors[i];
        if (t->region)
            status = copy_region(w, t);
        else if (of_network(store, (struct item){ t, NULL }))
            status = copy_state(w, t);
    }
    if (status < 0)
        weights_free(w);
    else
        *weights = w;
    return status;
}

void weights_free(struct weights *w)
{
    if (!w)
        return;
    ebm_context *ctx = w->store->ctx;
    for (int i = 0; i < w->count; i++)
        mem_free(ctx, w->entries[i].name);
    for (int i = 0; i < w->n_blocks; i++)
        mem_free(ctx, w->blocks[i]);
    mem_free(ctx, w->entries);
    mem_free(ctx, w->blocks);
    mem_free(ctx, w);
}

static int add_raw(const struct weights *w, const struct entry *e, struct safetensors_writer *writer)
{
    char *name = mem_printf(w->store->ctx, "raw/%s", e->name);

    if (!name)
        return EBM_ERR_NOMEM;
    safetensors_add(writer, name, e->type, e->shape.rank, e->shape.n, e->raw);
    mem_free(w->store->ctx, name);
    return EBM_OK;
}

int weights_add(const struct weights *w, struct safetensors_writer *writer)
{
    int status = EBM_OK;

    for (int i = 0; i < w->count; i++) {
        const struct entry *e = &w->entries[i];
        safetensors_add(writer, e->name, e->type, e->shape.rank, e->shape.n, e->data);
    }
    for (int i = 0; i < w->count && status >= 0; i++)
        if (w->entries[i].raw)
            status = add_raw(w, &w->entries[i], writer);
    return status;
}

struct copying {
    const struct weights *from;
    ebm_store *to;
};

static int copy_item(void *user, struct item item, const char *name)
{
    const struct copying *c = user;

    if (!of_network(c->to, item))
        return EBM_OK;
    for (int i = 0; i < c->from->count; i++) {
        const struct entry *e = &c->from->entries[i];
        if (strcmp(e->name, name) == 0 && shape_equal(&e->shape, item_shape(item)))
            return ebm_store_write(c->to, name, e->data, item_bytes(item));
    }
    return ebm_fail(c->to->ctx, EBM_ERR_INTERNAL, "training has no tensor '%s' of the model", name);
}

int weights_copy(const struct weights *w, ebm_store *model)
{
    struct copying c = { w, model };

    return walk(model, copy_item, &c);
}

/* ---- sizes ---- */

int64_t weights_parameters(const ebm_store *store)
{
    int64_t n = 0;

    for (int i = 0; i < store->count; i++)
        if (store->tensors[i].region)
            n += shape_count(&store->tensors[i].shape);
    return n;
}

size_t weights_bytes(const ebm_store *store)
{
    static const char *const kept[] = { "m", "v", "momentum", "ema" };
    size_t bytes = 0;

    for (int i = 0; i < store->count; i++) {
        const struct tensor *r = &store->tensors[i];
        if (!r->region)
            continue;
        bytes += tensor_bytes(r);
        for (size_t k = 0; k < COUNT(kept); k++) {
            const struct tensor *t = beside(store, r, kept[k]);
            bytes += t ? tensor_bytes(t) : 0;
        }
    }
    return bytes;
}
