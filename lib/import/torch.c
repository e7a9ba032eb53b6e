/* torch.c - tensors as PyTorch pickles them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   storage   persistent ("storage", torch.FloatStorage, "0", "cuda:0", 864)
 *   tensor    torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)
 *   others    a parameter and a typed tensor wrap one
 *
 * These, and the dictionaries and lists around them, are all that is understood;
 * any other object is stepped over. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "foreign.h"

enum { DEPTH_MAX = 16, STEPS_MAX = 1 << 22, COMPONENT_MAX = 200 };

/* Above this many elements a tensor has no more than its storage. */
static const int64_t expanded_max = 1 << 24;

/* Storages by their class, and the types that untyped storages are read as. */
static const struct { const char *storage, *dtype; int type, size; } types[] = {
    { "FloatStorage",    "torch.float32",  SAFETENSORS_F32, 4 },
    { "DoubleStorage",   "torch.float64",  SAFETENSORS_F64, 8 },
    { "HalfStorage",     "torch.float16",  SAFETENSORS_F16, 2 },
    { "BFloat16Storage", "torch.bfloat16", SAFETENSORS_BF16, 2 },
    { "LongStorage",     "torch.int64",    SAFETENSORS_I64, 8 },
    { "IntStorage",      "torch.int32",    SAFETENSORS_I32, 4 },
    { "ShortStorage",    "torch.int16",    SAFETENSORS_I16, 2 },
    { "CharStorage",     "torch.int8",     SAFETENSORS_I8, 1 },
    { "ByteStorage",     "torch.uint8",    SAFETENSORS_U8, 1 },
    { "BoolStorage",     "torch.bool",     SAFETENSORS_BOOL, 1 },
    { "UntypedStorage",  NULL,             SAFETENSORS_U8, 1 },
    { NULL,              "torch.uint16",   SAFETENSORS_U16, 2 },
    { NULL,              "torch.uint32",   SAFETENSORS_U32, 4 },
    { NULL,              "torch.uint64",   SAFETENSORS_U64, 8 },
    { "ComplexFloatStorage",  NULL, -1, 8 },
    { "ComplexDoubleStorage", NULL, -1, 16 },
    { "QInt8Storage",    NULL, -1, 1 },
    { "QUInt8Storage",   NULL, -1, 1 },
    { "QInt32Storage",   NULL, -1, 4 },
};

static int malformed(ebm_foreign *f, const char *what)
{
    return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: a PyTorch file with %s", f->path, what);
}

static bool is_count(const struct pickle_value *v)
{
    return v && v->kind == PICKLE_INTEGER && v->integer >= 0;
}

/* ---- storages ---- */

static int by_key(const void *a, const void *b)
{
    const struct foreign_storage *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* The id of a storage: its items, or NULL. */
static const struct pickle_value *storage_id(const struct pickle_value *v)
{
    const struct pickle_value *id = v && v->kind == PICKLE_PERSISTENT ? v->arguments : NULL;

    return pickle_is_text(pickle_item(id, 0), "storage") ? id : NULL;
}

static int read_storage(ebm_foreign *f, const struct pickle_value *id, struct foreign_storage *s)
{
    const struct pickle_value *class = pickle_item(id, 1), *key = pickle_item(id, 2);
    const struct pickle_value *count = pickle_item(id, 4);

    if (!class || class->kind != PICKLE_GLOBAL || strncmp(class->text, "torch.", 6) != 0
        || !key || key->kind != PICKLE_TEXT || !is_count(count))
        return malformed(f, "a storage that is not described as storages are");
    s->key = key->text;
    s->count = (uint64_t)count->integer;
    const char *name = strrchr(class->text, '.') + 1;
    for (size_t i = 0; i < COUNT(types); i++)
        if (types[i].storage && strcmp(types[i].storage, name) == 0) {
            s->type = types[i].type;
            s->size = types[i].size;
            return EBM_OK;
        }
    return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: storages of class '%.100s' are not known", f->path,
                    class->text);
}

int torch_storages(ebm_foreign *f)
{
    size_t n = 0, kept = 0;
    int status;

    while (pickle_persistent(f->pickle, n))
        n++;
    if (!(f->storages = mem_new(f->ctx, n ? n : 1, sizeof *f->storages)))
        return EBM_ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct pickle_value *id = storage_id(pickle_persistent(f->pickle, i));
        if (id && (status = read_storage(f, id, &f->storages[f->n_storages++])) < 0)
            return status;
    }
    n = f->n_storages;
    qsort(f->storages, n, sizeof *f->storages, by_key);
    for (size_t i = 0; i < n; i++) {
        const struct foreign_storage *s = &f->storages[i], *last = &f->storages[kept ? kept - 1 : 0];
        if (kept == 0 || strcmp(last->key, s->key) != 0)
            f->storages[kept++] = *s;
        else if (last->type != s->type || last->count != s->count)
            return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: storage '%.100s' is described in two ways",
                            f->path, s->key);
    }
    f->n_storages = kept;
    return EBM_OK;
}

/* ---- tensors ---- */

static bool is_call(const struct pickle_value *v, const char *name)
{
    return v && v->kind == PICKLE_OBJECT && pickle_is_global(v->callable, name);
}

/* What a rebuilding call is given; *version: of its form.  NULL: v is no tensor. */
static const struct pickle_value *rebuilding(const struct pickle_value *v, int *version)
{
    for (int depth = 0; depth < 4; depth++) {
        const struct pickle_value *a = v && v->kind == PICKLE_OBJECT ? v->arguments : NULL;
        const struct pickle_value *callable = v && v->kind == PICKLE_OBJECT ? v->callable : NULL;
        if (is_call(v, "torch._tensor._rebuild_from_type_v2")) {
            callable = pickle_item(a, 0);
            a = pickle_item(a, 2);
        } else if (is_call(v, "torch._utils._rebuild_parameter")
                   || is_call(v, "torch._utils._rebuild_parameter_with_state")) {
            v = pickle_item(a, 0);
            continue;
        }
        *version = pickle_is_global(callable, "torch._utils._rebuild_tensor") ? 1
                 : pickle_is_global(callable, "torch._utils._rebuild_tensor_v2") ? 2
                 : pickle_is_global(callable, "torch._utils._rebuild_tensor_v3") ? 3 : 0;
        return *version ? a : NULL;
    }
    return NULL;
}

static int wrong_tensor(ebm_foreign *f, const struct foreign_tensor *t, const char *what)
{
    return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: tensor '%s' %s", f->path, t->name, what);
}

/* Shape and strides, and whether all elements lie in the storage. */
static int read_layout(ebm_foreign *f, struct foreign_tensor *t, const struct pickle_value *a,
                       uint64_t count)
{
    const struct pickle_value *offset = pickle_item(a, 1), *shape = pickle_item(a, 2);
    const struct pickle_value *strides = pickle_item(a, 3);
    uint64_t last;

    if (!is_count(offset) || !shape || shape->kind != PICKLE_TUPLE || !strides
        || strides->kind != PICKLE_TUPLE || strides->count != shape->count)
        return wrong_tensor(f, t, "is not described as tensors are");
    if (shape->count > EBM_MAX_RANK)
        return wrong_tensor(f, t, "has more axes than are known");
    t->offset = offset->integer;
    t->rank = (int)shape->count;
    t->elements = 1;
    last = (uint64_t)t->offset;
    for (int i = 0; i < t->rank; i++) {
        const struct pickle_value *n = shape->items[i], *stride = strides->items[i];
        if (!is_count(n) || !is_count(stride))
            return wrong_tensor(f, t, "has a size or a stride that is no count");
        t->shape[i] = n->integer;
        t->stride[i] = stride->integer;
        if (t->elements && n->integer > INT64_MAX / 8 / t->elements)
            return wrong_tensor(f, t, "has too many elements");
        t->elements *= n->integer;
    }
    bool inside = !t->elements || last < count;
    for (int i = 0; inside && t->elements && i < t->rank; i++) {
        uint64_t steps = (uint64_t)t->shape[i] - 1, stride = (uint64_t)t->stride[i];
        inside = !steps || stride <= (count - 1 - last) / steps;
        last += inside ? steps * stride : 0;
    }
    if (!inside)
        return wrong_tensor(f, t, "reaches beyond its storage");
    if (t->elements > expanded_max && (uint64_t)t->elements > count)
        return wrong_tensor(f, t, "has many more elements than are stored");
    return EBM_OK;
}

/* Where its storage is; older files name parts of storages. */
static int read_place(ebm_foreign *f, struct foreign_tensor *t, const struct pickle_value *a, int version)
{
    const struct pickle_value *id = storage_id(pickle_item(a, 0)), *part = pickle_item(id, 5);
    const struct pickle_value *dtype = pickle_item(a, 6), *key = pickle_item(id, 2);
    uint64_t first = 0, count;
    int status;

    if (!id)
        return wrong_tensor(f, t, "has no storage");
    struct foreign_storage *s = bsearch(&(struct foreign_storage){ .key = key->text }, f->storages,
                                        f->n_storages, sizeof *s, by_key);
    if (!s)
        return wrong_tensor(f, t, "has no storage");
    t->storage = (size_t)(s - f->storages);
    t->type = s->type;
    count = s->count;
    if (version == 3) {
        t->type = -1;
        for (size_t i = 0; i < COUNT(types); i++)
            if (types[i].dtype && s->size == 1 && pickle_is_global(dtype, types[i].dtype)) {
                t->type = types[i].type;
                count = s->count / (uint64_t)types[i].size;
            }
    }
    if (part && part->kind != PICKLE_NONE) {
        const struct pickle_value *from = pickle_item(part, 1), *size = pickle_item(part, 2);
        if (!is_count(from) || !is_count(size) || (uint64_t)from->integer > count
            || (uint64_t)size->integer > count - (uint64_t)from->integer)
            return wrong_tensor(f, t, "is of a part beyond its storage");
        first = (uint64_t)from->integer;
        count = (uint64_t)size->integer;
    }
    if ((status = read_layout(f, t, a, count)) < 0)
        return status;
    t->offset += (int64_t)first;
    return EBM_OK;
}

/* ---- where they are ---- */

struct walk {
    ebm_foreign *f;
    long steps;
    char name[FOREIGN_NAME];
    size_t length;
};

static int add_tensor(struct walk *w, const struct pickle_value *a, int version)
{
    ebm_foreign *f = w->f;
    struct foreign_tensor *t;
    int status;

    /* A tensor may be in many dictionaries, but each time it is some bytes. */
    if (f->n_tensors >= pickle_values(f->pickle))
        return malformed(f, "too many tensors for its size");
    if (f->n_tensors == f->tensors_capacity) {
        size_t capacity = f->tensors_capacity ? 2 * f->tensors_capacity : 256;
        if (!(t = mem_grow(f->ctx, f->tensors, f->n_tensors, capacity, sizeof *t)))
            return EBM_ERR_NOMEM;
        f->tensors = t;
        f->tensors_capacity = capacity;
    }
    t = &f->tensors[f->n_tensors];
    if (!(t->name = mem_strdup(f->ctx, w->name)))
        return EBM_ERR_NOMEM;
    f->n_tensors++;
    if ((status = read_place(f, t, a, version)) < 0)
        return status;
    if (t->type < 0) {                   /* complex and the like: as if it were not there */
        mem_free(f->ctx, t->name);
        memset(t, 0, sizeof *t);
        f->n_tensors--;
    }
    return EBM_OK;
}

/* "/name" behind the path; what is not printable becomes '?'. */
static bool extend(struct walk *w, const char *name)
{
    size_t n = strlen(name), at = w->length;

    if (n > COMPONENT_MAX || at + n + 2 > sizeof w->name)
        return false;
    if (at)
        w->name[at++] = '/';
    for (size_t i = 0; i < n; i++)
        w->name[at++] = name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?';
    w->name[at] = '\0';
    w->length = at;
    return true;
}

static int walk(struct walk *w, const struct pickle_value *v, int depth);

static int walk_child(struct walk *w, const struct pickle_value *key, size_t index,
                      const struct pickle_value *v, int depth)
{
    const size_t length = w->length;
    char number[24];
    int status = EBM_OK;

    if (key && key->kind != PICKLE_TEXT && key->kind != PICKLE_INTEGER)
        return EBM_OK;
    snprintf(number, sizeof number, "%" PRId64, key ? key->integer : (int64_t)index);
    if (extend(w, key && key->kind == PICKLE_TEXT ? key->text : number))
        status = walk(w, v, depth + 1);
    w->length = length;
    w->name[length] = '\0';
    return status;
}

static int walk(struct walk *w, const struct pickle_value *v, int depth)
{
    int version = 0, status = EBM_OK;
    const struct pickle_value *a = rebuilding(v, &version);

    if (++w->steps > STEPS_MAX)
        return malformed(w->f, "dictionaries without end");
    if (a)
        return add_tensor(w, a, version);
    if (!v || depth > DEPTH_MAX)
        return EBM_OK;
    bool pairs = v->kind == PICKLE_DICT || (v->kind == PICKLE_OBJECT && !v->appended);
    bool list = v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE || (v->kind == PICKLE_OBJECT && v->appended);
    for (size_t i = 0; pairs && status >= 0 && i + 1 < v->count; i += 2)
        status = walk_child(w, v->items[i], 0, v->items[i + 1], depth);
    for (size_t i = 0; list && status >= 0 && i < v->count; i++)
        status = walk_child(w, NULL, i, v->items[i], depth);
    return status;
}

int torch_tensors(ebm_foreign *f)
{
    struct walk w = { .f = f };

    return walk(&w, pickle_root(f->pickle), 0);
}
