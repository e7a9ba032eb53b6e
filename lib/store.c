/* store.c - the tensors that outlive a run.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "philox.h"
#include "store.h"

int ebm_store_new(ebm_backend *backend, ebm_store **store)
{
    *store = mem_new(backend->ctx, 1, sizeof **store);
    if (!*store)
        return EBM_ERR_NOMEM;
    (*store)->ctx = backend->ctx;
    (*store)->backend = backend;
    return EBM_OK;
}

void ebm_store_precision(ebm_store *store, enum ebm_precision precision)
{
    store->precision = precision;
}

void ebm_store_free(ebm_store *store)
{
    if (!store)
        return;
    ebm_context *ctx = store->ctx;
    for (int i = 0; i < store->count; i++) {
        struct tensor *t = &store->tensors[i];
        for (int j = 0; j < t->n_parts; j++)
            mem_free(ctx, t->parts[j].name);
        mem_free(ctx, t->parts);
        mem_free(ctx, t->name);
        if (t->buffer)
            store->backend->v->buffer_free(store->backend, t->buffer);
    }
    mem_free(ctx, store->tensors);
    mem_free(ctx, store);
}

int store_find(const ebm_store *store, const char *name)
{
    for (int i = 0; i < store->count; i++)
        if (strcmp(store->tensors[i].name, name) == 0)
            return i;
    return -1;
}

size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)shape_count(&t->shape) * type_size(t->type);
}

static int add_tensor(ebm_store *store, const char *name)
{
    if (store->count == store->capacity) {
        int capacity = store->capacity ? 2 * store->capacity : 16;
        void *grown = mem_grow(store->ctx, store->tensors, (size_t)store->count,
                               (size_t)capacity, sizeof *store->tensors);
        if (!grown)
            return EBM_ERR_NOMEM;
        store->tensors = grown;
        store->capacity = capacity;
    }
    struct tensor *t = &store->tensors[store->count];
    memset(t, 0, sizeof *t);
    t->name = mem_strdup(store->ctx, name);
    return t->name ? store->count++ : EBM_ERR_NOMEM;
}

static int disagree(ebm_store *store, const char *name, const struct shape *has,
                    const struct shape *asked)
{
    char a[SHAPE_TEXT], b[SHAPE_TEXT];

    return ebm_fail(store->ctx, EBM_ERR_ARG, "'%s' is %s and is declared again as %s",
                    name, shape_text(has, a), shape_text(asked, b));
}

int store_state(ebm_store *store, const char *name, enum ebm_type type,
                const struct shape *shape, ebm_init init)
{
    int slot = store_find(store, name);

    if (slot >= 0) {
        struct tensor *t = &store->tensors[slot];
        if (t->type != type || !shape_equal(&t->shape, shape))
            return disagree(store, name, &t->shape, shape);
        return slot;
    }
    if ((slot = add_tensor(store, name)) < 0)
        return slot;
    store->tensors[slot].type = type;
    store->tensors[slot].shape = *shape;
    store->tensors[slot].init = init;
    return slot;
}

int store_region(ebm_store *store, const char *name)
{
    int slot = store_find(store, name);

    if (slot < 0 && (slot = add_tensor(store, name)) >= 0) {
        store->tensors[slot].region = true;
        store->tensors[slot].shape.rank = 1;
    }
    if (slot >= 0 && !store->tensors[slot].region)
        return ebm_fail(store->ctx, EBM_ERR_ARG, "'%s' is a state, not a region", name);
    return slot;
}

int store_part(ebm_store *store, int region, const char *name,
               const struct shape *shape, ebm_init init)
{
    struct tensor *t = &store->tensors[region];

    for (int i = 0; i < t->n_parts; i++)
        if (strcmp(t->parts[i].name, name) == 0)
            return shape_equal(&t->parts[i].shape, shape) ? i
                 : disagree(store, name, &t->parts[i].shape, shape);
    if (t->buffer)
        return ebm_fail(store->ctx, EBM_ERR_ARG, "parameter '%s' is new, and region '%s' "
                        "is allocated already", name, t->name);
    if (t->n_parts == t->parts_capacity) {
        int capacity = t->parts_capacity ? 2 * t->parts_capacity : 16;
        void *grown = mem_grow(store->ctx, t->parts, (size_t)t->n_parts,
                               (size_t)capacity, sizeof *t->parts);
        if (!grown)
            return EBM_ERR_NOMEM;
        t->parts = grown;
        t->parts_capacity = capacity;
    }
    struct part *p = &t->parts[t->n_parts];
    p->name = mem_strdup(store->ctx, name);
    if (!p->name)
        return EBM_ERR_NOMEM;
    p->shape = *shape;
    p->offset = t->shape.n[0];
    p->init = init;
    t->shape.n[0] += shape_count(shape);
    return t->n_parts++;
}

size_t ebm_store_bytes(const ebm_store *store)
{
    size_t bytes = 0;

    for (int i = 0; i < store->count; i++)
        bytes += tensor_bytes(&store->tensors[i]);
    return bytes;
}

/* ---- first values ---- */

/* The stream of a tensor: FNV-1a of its full name, so that a tensor starts the
 * same whatever else is declared around it. */
static uint32_t name_stream(const char *region, const char *name)
{
    uint32_t h = 2166136261u;

    for (; *region; region++)
        h = (h ^ (unsigned char)*region) * 16777619u;
    h = (h ^ '/') * 16777619u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

static void initialise(float *x, int64_t count, ebm_init init, uint64_t seed, uint32_t stream)
{
    struct philox rng = { { (uint32_t)seed, (uint32_t)(seed >> 32) }, 0, stream };
    enum { PURPOSE_INIT = 0x696e6974 };       /* 'init': apart from every other draw */
    double sum = 0;

    switch (init.kind) {
    case EBM_INIT_CONST:
        for (int64_t i = 0; i < count; i++)
            x[i] = init.a;
        break;
    case EBM_INIT_UNIFORM: {
        float lo = init.b != 0 ? init.a : -init.a;
        float hi = init.b != 0 ? init.b : init.a;
        philox_uniform(x, 0, count, &rng, PURPOSE_INIT);
        for (int64_t i = 0; i < count; i++)
            x[i] = lo + (hi - lo) * x[i];
        break;
    }
    case EBM_INIT_NORMAL:
        philox_normal(x, 0, count, &rng, PURPOSE_INIT);
        for (int64_t i = 0; i < count; i++)
            x[i] = init.a + init.b * x[i];
        break;
    case EBM_INIT_UNIT:
        philox_normal(x, 0, count, &rng, PURPOSE_INIT);
        for (int64_t i = 0; i < count; i++)
            sum += (double)x[i] * x[i];
        for (int64_t i = 0; i < count; i++)
            x[i] = (float)(x[i] / sqrt(sum > 0 ? sum : 1));
        break;
    }
}

static int first_values(ebm_store *store, struct tensor *t, uint64_t seed)
{
    ebm_context *ctx = store->ctx;
    int64_t count = shape_count(&t->shape);
    float *x = mem_new(ctx, (size_t)count, sizeof *x);

    if (!x)
        return EBM_ERR_NOMEM;
    if (t->region)
        for (int i = 0; i < t->n_parts; i++) {
            const struct part *p = &t->parts[i];
            initialise(x + p->offset, shape_count(&p->shape), p->init, seed,
                       name_stream(t->name, p->name));
        }
    else
        initialise(x, count, t->init, seed, name_stream("", t->name));

    if (t->type == EBM_I32)
        for (int64_t i = 0; i < count; i++) {
            int32_t v = (int32_t)x[i];
            memcpy(&x[i], &v, sizeof v);
        }
    else if (t->type == EBM_U8)
        for (int64_t i = 0; i < count; i++)
            ((unsigned char *)x)[i] = (unsigned char)x[i];
    int status = store->backend->v->upload(store->backend, t->buffer, 0, x, tensor_bytes(t));
    mem_free(ctx, x);
    return status;
}

int ebm_store_alloc(ebm_store *store, uint64_t seed)
{
    const struct backend_vtable *v = store->backend->v;
    int status;

    for (int i = 0; i < store->count; i++) {
        struct tensor *t = &store->tensors[i];
        bool zero = !t->region && t->init.kind == EBM_INIT_CONST && t->init.a == 0;

        if (t->buffer)
            continue;
        if ((status = v->buffer_new(store->backend, tensor_bytes(t), &t->buffer)) < 0)
            return status;
        if (!zero && (status = first_values(store, t, seed)) < 0)
            return status;
    }
    return EBM_OK;
}

/* ---- reading and writing ---- */

struct window {
    int slot;
    size_t offset, size;
};

/* "name", or "region/parameter". */
static int find_window(ebm_store *store, const char *name, struct window *w)
{
    int slot = store_find(store, name);

    if (slot >= 0) {
        *w = (struct window){ slot, 0, tensor_bytes(&store->tensors[slot]) };
        return EBM_OK;
    }
    for (int i = 0; i < store->count; i++) {
        const struct tensor *t = &store->tensors[i];
        size_t n = strlen(t->name);
        if (!t->region || strncmp(name, t->name, n) != 0 || name[n] != '/')
            continue;
        for (int j = 0; j < t->n_parts; j++)
            if (strcmp(t->parts[j].name, name + n + 1) == 0) {
                *w = (struct window){ i, (size_t)t->parts[j].offset * sizeof(float),
                                      (size_t)shape_count(&t->parts[j].shape) * sizeof(float) };
                return EBM_OK;
            }
    }
    return ebm_fail(store->ctx, EBM_ERR_ARG, "the store has no tensor '%s'", name);
}

static int check_size(ebm_store *store, const struct window *w, const char *name, size_t size)
{
    if (size != w->size)
        return ebm_fail(store->ctx, EBM_ERR_ARG, "'%s' has %zu bytes, not %zu",
                        name, w->size, size);
    if (!store->tensors[w->slot].buffer)
        return ebm_fail(store->ctx, EBM_ERR_ARG,
                        "'%s' is not allocated yet: call ebm_store_alloc() first", name);
    return EBM_OK;
}

int ebm_store_read(ebm_store *store, const char *name, void *host, size_t size)
{
    struct window w;
    int status;

    if ((status = find_window(store, name, &w)) < 0
        || (status = check_size(store, &w, name, size)) < 0)
        return status;
    return store->backend->v->download(store->backend, store->tensors[w.slot].buffer,
                                       w.offset, host, size);
}

int ebm_store_write(ebm_store *store, const char *name, const void *host, size_t size)
{
    struct window w;
    int status;

    if ((status = find_window(store, name, &w)) < 0
        || (status = check_size(store, &w, name, size)) < 0)
        return status;
    return store->backend->v->upload(store->backend, store->tensors[w.slot].buffer,
                                     w.offset, host, size);
}

int store_read_slot(ebm_store *store, int slot, void *host, size_t size)
{
    return ebm_store_read(store, store->tensors[slot].name, host, size);
}

int store_write_slot(ebm_store *store, int slot, const void *host, size_t size)
{
    return ebm_store_write(store, store->tensors[slot].name, host, size);
}
