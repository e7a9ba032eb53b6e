/* store.c - the tensors that outlive a run.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "philox.h"
#include "program.h"

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

/* What the elements of a parameter or state are, drawn piece by piece: tensors are
 * large, and on the host there is memory for a piece. */
struct first {
    struct tensor *tensor;
    int64_t offset, count;       /* where in the tensor */
    ebm_init init;
    struct philox rng;
    float scale;                 /* UNIT: 1 / norm */
};
enum { PURPOSE_INIT = 0x696e6974,        /* 'init': apart from every other draw */
       PIECE = 1 << 16 };                /* elements */

static void make_piece(const struct first *f, int64_t begin, int64_t end, float *x)
{
    const ebm_init init = f->init;
    const int64_t n = end - begin;

    switch (init.kind) {
    case EBM_INIT_CONST:
        for (int64_t i = 0; i < n; i++)
            x[i] = init.a;
        break;
    case EBM_INIT_UNIFORM: {
        float lo = init.b != 0 ? init.a : -init.a;
        float hi = init.b != 0 ? init.b : init.a;
        philox_uniform(x, begin, end, &f->rng, PURPOSE_INIT);
        for (int64_t i = 0; i < n; i++)
            x[i] = lo + (hi - lo) * x[i];
        break;
    }
    case EBM_INIT_NORMAL:
        philox_normal(x, begin, end, &f->rng, PURPOSE_INIT);
        for (int64_t i = 0; i < n; i++)
            x[i] = init.a + init.b * x[i];
        break;
    case EBM_INIT_UNIT:
        philox_normal(x, begin, end, &f->rng, PURPOSE_INIT);
        for (int64_t i = 0; i < n; i++)
            x[i] *= f->scale;
        break;
    }
}

static void find_scale(struct first *f, float *x)
{
    double sum = 0;

    f->scale = 1;
    if (f->init.kind != EBM_INIT_UNIT)
        return;
    for (int64_t at = 0; at < f->count; at += PIECE) {
        int64_t end = at + PIECE < f->count ? at + PIECE : f->count;
        make_piece(f, at, end, x);
        for (int64_t i = 0; i < end - at; i++)
            sum += (double)x[i] * x[i];
    }
    f->scale = (float)(1 / sqrt(sum > 0 ? sum : 1));
}

static void convert(enum ebm_type type, float *x, int64_t n)
{
    if (type == EBM_I32)
        for (int64_t i = 0; i < n; i++) {
            int32_t v = (int32_t)x[i];
            memcpy(&x[i], &v, sizeof v);
        }
    else if (type == EBM_U8)
        for (int64_t i = 0; i < n; i++)
            ((unsigned char *)x)[i] = (unsigned char)x[i];
}

static int fill(ebm_store *store, struct first *f, float *x)
{
    struct tensor *t = f->tensor;
    size_t size = type_size(t->type);
    int status = EBM_OK;

    find_scale(f, x);
    for (int64_t at = 0; at < f->count && status >= 0; at += PIECE) {
        int64_t end = at + PIECE < f->count ? at + PIECE : f->count;
        make_piece(f, at, end, x);
        convert(t->type, x, end - at);
        status = store->backend->v->upload(store->backend, t->buffer, (size_t)(f->offset + at) * size, x,
                                           (size_t)(end - at) * size);
    }
    return status;
}

static int first_values(ebm_store *store, struct tensor *t, uint64_t seed, float *x)
{
    struct first f = { .tensor = t, .count = shape_count(&t->shape), .init = t->init,
                       .rng = { { (uint32_t)seed, (uint32_t)(seed >> 32) }, 0, name_stream("", t->name) } };
    int status = EBM_OK;

    if (!t->region)
        return fill(store, &f, x);
    for (int i = 0; i < t->n_parts && status >= 0; i++) {
        const struct part *p = &t->parts[i];
        f.offset = p->offset;
        f.count = shape_count(&p->shape);
        f.init = p->init;
        f.rng.stream = name_stream(t->name, p->name);
        status = fill(store, &f, x);
    }
    return status;
}

static int allocate(ebm_store *store, uint64_t seed, float *x)
{
    const struct backend_vtable *v = store->backend->v;
    int status;

    for (int i = 0; i < store->count; i++) {
        struct tensor *t = &store->tensors[i];
        bool zero = t->region ? store->blank : t->init.kind == EBM_INIT_CONST && t->init.a == 0;

        if (t->buffer)
            continue;
        if ((status = v->buffer_new(store->backend, tensor_bytes(t), &t->buffer)) < 0)
            return status;
        if (!zero && (status = first_values(store, t, seed, x)) < 0)
            return status;
    }
    return EBM_OK;
}

int ebm_store_alloc(ebm_store *store, uint64_t seed)
{
    float *x = mem_new(store->ctx, PIECE, sizeof *x);
    int status = x ? allocate(store, seed, x) : EBM_ERR_NOMEM;

    mem_free(store->ctx, x);
    return status < 0 ? status : programs_bind(store);
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

int store_read_at(ebm_store *store, const char *name, size_t offset, void *host, size_t size)
{
    struct window w;
    int status;

    if ((status = find_window(store, name, &w)) < 0)
        return status;
    if (offset > w.size || size > w.size - offset)
        return ebm_fail(store->ctx, EBM_ERR_ARG, "'%s' has %zu bytes, not %zu from %zu on",
                        name, w.size, size, offset);
    if ((status = check_size(store, &w, name, w.size)) < 0)
        return status;
    return store->backend->v->download(store->backend, store->tensors[w.slot].buffer,
                                       w.offset + offset, host, size);
}

int store_read_slot(ebm_store *store, int slot, void *host, size_t size)
{
    return ebm_store_read(store, store->tensors[slot].name, host, size);
}

int store_write_slot(ebm_store *store, int slot, const void *host, size_t size)
{
    return ebm_store_write(store, store->tensors[slot].name, host, size);
}
