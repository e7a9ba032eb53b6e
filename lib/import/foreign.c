/* foreign.c - see foreign.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * The kind of a file is told by its first bytes. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "foreign.h"

/* ---- safetensors ---- */

static int take_safetensors(ebm_foreign *f)
{
    int n = safetensors_count(f->safetensors);

    f->format = "safetensors";
    if (!(f->tensors = mem_new(f->ctx, n ? (size_t)n : 1, sizeof *f->tensors)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < n; i++) {
        const struct safetensor *from = safetensors_at(f->safetensors, i);
        struct foreign_tensor *t = &f->tensors[f->n_tensors];
        if (from->rank > EBM_MAX_RANK)
            return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: tensor '%.200s' has more axes than are known",
                            f->path, from->name);
        *t = (struct foreign_tensor){ .type = (int)from->dtype, .rank = from->rank,
                                      .elements = from->elements, .storage = (size_t)i };
        memcpy(t->shape, from->shape, (size_t)from->rank * sizeof *t->shape);
        for (int64_t axis = from->rank - 1, stride = 1; from->elements && axis >= 0; stride *= t->shape[axis--])
            t->stride[axis] = stride;
        if (!(t->name = mem_strdup(f->ctx, from->name)))
            return EBM_ERR_NOMEM;
        f->n_tensors++;
    }
    return EBM_OK;
}

/* ---- opening ---- */

static int unknown(ebm_foreign *f, const uint8_t *head, size_t size)
{
    static const char is_not[] = "is no checkpoint that can be imported";

    if (size > 1 && head[0] == 0x80 && head[1] <= 5)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s %s: a Python pickle, but not one of PyTorch: save "
                        "the weights with torch.save", f->path, is_not);
    if (size > 4 && memcmp(head, "\x89HDF", 4) == 0)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s %s: HDF5; store the weights as safetensors",
                        f->path, is_not);
    return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s %s: neither a .pth file of PyTorch (a ZIP archive or, "
                    "before 1.6, pickles) nor safetensors", f->path, is_not);
}

static int read_content(ebm_foreign *f, const void *bytes)
{
    uint8_t head[32];
    size_t start, n = f->in.size < sizeof head ? (size_t)f->in.size : sizeof head;
    int status;

    if ((status = input_at(&f->in, 0, head, n)) < 0)
        return status;
    if (n > 4 && memcmp(head, "PK\3\4", 4) == 0)
        return torch_zip_open(f);
    if ((start = torch_legacy_start(head, n)))
        return torch_legacy_open(f, start);
    if (n < 9 || head[8] != '{')
        return unknown(f, head, n);
    status = bytes ? safetensors_open_memory(f->ctx, bytes, (size_t)f->in.size, f->path, &f->safetensors)
                   : safetensors_open(f->ctx, f->path, &f->safetensors);
    return status < 0 ? status : take_safetensors(f);
}

int foreign_by_name(const void *a, const void *b)
{
    const struct foreign_named *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order ? order : x->index < y->index ? -1 : x->index > y->index;
}

/* The index by name, and what a caller may see. */
static int list_tensors(ebm_foreign *f)
{
    size_t n = f->n_tensors;

    if (n > INT_MAX)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: more tensors than can be counted", f->path);
    f->by_name = mem_new(f->ctx, n ? n : 1, sizeof *f->by_name);
    f->listed = mem_new(f->ctx, n ? n : 1, sizeof *f->listed);
    if (!f->by_name || !f->listed)
        return EBM_ERR_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const struct foreign_tensor *t = &f->tensors[i];
        f->by_name[i] = (struct foreign_named){ t->name, i };
        f->listed[i] = (ebm_model_tensor){
            t->name, safetensors_dtype_name((enum safetensors_dtype)t->type), t->rank, { 0 } };
        memcpy(f->listed[i].shape, t->shape, (size_t)t->rank * sizeof *t->shape);
    }
    qsort(f->by_name, n, sizeof *f->by_name, foreign_by_name);
    f->info = (ebm_foreign_info){ f->format, (int)n, f->listed };
    return EBM_OK;
}

static int finish(ebm_foreign *f, const void *bytes, int status, ebm_foreign **file)
{
    if (status >= 0 && (status = read_content(f, bytes)) >= 0)
        status = list_tensors(f);
    if (status < 0)
        ebm_foreign_free(f);
    else
        *file = f;
    return status;
}

static ebm_foreign *foreign_new(ebm_context *ctx, const char *name)
{
    ebm_foreign *f = mem_new(ctx, 1, sizeof *f);

    if (!f)
        return NULL;
    f->ctx = ctx;
    if (!(f->path = mem_strdup(ctx, name))) {
        ebm_foreign_free(f);
        return NULL;
    }
    return f;
}

int ebm_foreign_open(ebm_context *ctx, const char *path, ebm_foreign **file)
{
    ebm_foreign *f = foreign_new(ctx, path);

    *file = NULL;
    return f ? finish(f, NULL, input_open(ctx, f->path, &f->in), file) : EBM_ERR_NOMEM;
}

int foreign_memory(ebm_context *ctx, const void *bytes, size_t size, const char *name, ebm_foreign **file)
{
    ebm_foreign *f = foreign_new(ctx, name);

    *file = NULL;
    return f ? finish(f, bytes, input_memory(ctx, f->path, bytes, size, &f->in), file) : EBM_ERR_NOMEM;
}

void ebm_foreign_free(ebm_foreign *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->n_tensors; i++)
        mem_free(f->ctx, f->tensors[i].name);
    mem_free(f->ctx, f->tensors);
    mem_free(f->ctx, f->storages);
    mem_free(f->ctx, f->by_name);
    mem_free(f->ctx, f->listed);
    mem_free(f->ctx, f->cache);
    pickle_free(f->pickle);
    if (f->zipped)
        zip_close(&f->zip);
    safetensors_close(f->safetensors);
    input_close(&f->in);
    mem_free(f->ctx, f->path);
    mem_free(f->ctx, f);
}

const ebm_foreign_info *ebm_foreign_describe(const ebm_foreign *f)
{
    return &f->info;
}

/* ---- looking ---- */

const struct foreign_named *foreign_lookup(const struct foreign_named *sorted, size_t n, const char *name)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(sorted[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && strcmp(sorted[low].name, name) == 0 ? &sorted[low] : NULL;
}

const struct foreign_tensor *foreign_find(const ebm_foreign *f, const char *name)
{
    const struct foreign_named *found = foreign_lookup(f->by_name, f->n_tensors, name);

    return found ? &f->tensors[found->index] : NULL;
}

const struct pickle_value *foreign_value(const ebm_foreign *f, const char *path)
{
    const struct pickle_value *v = f->pickle ? pickle_root(f->pickle) : NULL;
    char part[64];

    for (size_t n; v && *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (n >= sizeof part)
            return NULL;
        memcpy(part, path, n);
        part[n] = '\0';
        v = pickle_get(v, part);
    }
    return v;
}

/* ---- elements ---- */

/* Its bytes in the file from *first to *last, elements of `size`, as strides go. */
static void extent(const struct foreign_tensor *t, uint64_t size, uint64_t *first, uint64_t *last)
{
    uint64_t end = (uint64_t)t->offset;

    for (int i = 0; i < t->rank; i++)
        end += (uint64_t)t->stride[i] * (uint64_t)(t->shape[i] - 1);
    *first = (uint64_t)t->offset * size;
    *last = (end + 1) * size;
}

static float element(const ebm_foreign *f, int type, int size, const uint8_t *p)
{
    uint8_t turned[8];

    if (!f->big_endian || size == 1)
        return safetensors_to_float((enum safetensors_dtype)type, p);
    for (int i = 0; i < size; i++)
        turned[i] = p[size - 1 - i];
    return safetensors_to_float((enum safetensors_dtype)type, turned);
}

/* from: the element at the tensor's offset. */
static void gather(const ebm_foreign *f, const struct foreign_tensor *t, const uint8_t *from, float *to)
{
    const int size = safetensors_dtype_size((enum safetensors_dtype)t->type);
    int64_t i[EBM_MAX_RANK] = { 0 }, at = 0;

    for (int64_t done = 0; done < t->elements; done++) {
        to[done] = element(f, t->type, size, from + at * size);
        for (int axis = t->rank - 1; axis >= 0; axis--) {
            at += t->stride[axis];
            if (++i[axis] < t->shape[axis])
                break;
            at -= t->stride[axis] * t->shape[axis];
            i[axis] = 0;
        }
    }
}

/* Where its storage starts in the file. */
static uint64_t start_of(const ebm_foreign *f, const struct foreign_tensor *t)
{
    if (!f->safetensors)
        return f->storages[t->storage].at;
    return safetensors_at_byte(f->safetensors, safetensors_at(f->safetensors, (int)t->storage));
}

int foreign_read(ebm_foreign *f, const struct foreign_tensor *t, float *to)
{
    const uint8_t *bytes = NULL;
    uint64_t first, last;
    uint8_t *part = NULL;
    int status = EBM_OK;

    if (t->elements == 0)
        return EBM_OK;
    extent(t, (uint64_t)safetensors_dtype_size((enum safetensors_dtype)t->type), &first, &last);
    if (f->zipped) {
        if ((status = torch_zip_storage(f, t->storage, &bytes)) < 0)
            return status;
        bytes += first;
    } else {
        if (last - first > SIZE_MAX || !(part = mem_new(f->ctx, (size_t)(last - first), 1)))
            return EBM_ERR_NOMEM;
        status = input_at(&f->in, start_of(f, t) + first, part, (size_t)(last - first));
        bytes = part;
    }
    if (status >= 0)
        gather(f, t, bytes, to);
    mem_free(f->ctx, part);
    return status;
}

int ebm_foreign_read(ebm_foreign *f, int tensor, float *to, int64_t count)
{
    if (tensor < 0 || (size_t)tensor >= f->n_tensors)
        return ebm_fail(f->ctx, EBM_ERR_ARG, "%s has no tensor %d", f->path, tensor);
    const struct foreign_tensor *t = &f->tensors[tensor];
    if (count != t->elements)
        return ebm_fail(f->ctx, EBM_ERR_ARG, "%s: tensor '%s' has %" PRId64 " elements, not %" PRId64,
                        f->path, t->name, t->elements, count);
    return foreign_read(f, t, to);
}
