/* npz.c - archives of NumPy arrays.
 *
 * SPDX-License-Identifier: ISC
 *
 * Which arrays are images is known by their names: those of numpy.savez without
 * names, of ImageNet32, of Keras and of MedMNIST. */
#include <inttypes.h>
#include <string.h>
#include "npy.h"
#include "zip.h"

static const struct set {
    enum split split;
    const char *images, *labels;
} sets[] = {
    { SPLIT_TRAIN, "x_train.npy", "y_train.npy" },
    { SPLIT_TEST, "x_test.npy", "y_test.npy" },
    { SPLIT_TRAIN, "train_images.npy", "train_labels.npy" },
    { SPLIT_TEST, "test_images.npy", "test_labels.npy" },
    { SPLIT_ALL, "data.npy", "labels.npy" },
    { SPLIT_ALL, "images.npy", "labels.npy" },
    { SPLIT_ALL, "x.npy", "y.npy" },
    { SPLIT_ALL, "arr_0.npy", "arr_1.npy" },
};

/* A member's header and bytes; in is then at the elements. */
static int open_array(const struct zip *zip, const struct zip_member *m,
                      uint8_t **bytes, struct input *in, struct npy *npy)
{
    ebm_context *ctx = zip->in->ctx;
    int rc = zip_extract(zip, m, UNPACK_LIMIT, bytes);

    memset(in, 0, sizeof *in);
    if (rc < 0)
        return rc;
    if ((rc = input_memory(ctx, m->name, *bytes, (size_t)m->size, in)) < 0
        || (rc = npy_header(in, npy)) < 0) {
        input_close(in);
        mem_free(ctx, *bytes);
        *bytes = NULL;
    }
    return rc;
}

static int append_images(struct records *r, const struct zip *zip,
                         const struct zip_member *m)
{
    ebm_context *ctx = zip->in->ctx;
    uint8_t *bytes = NULL;
    struct input in;
    struct npy npy;
    size_t count, size;
    int rc = open_array(zip, m, &bytes, &in, &npy);

    if (rc < 0)
        return rc;
    if ((rc = npy_layout(ctx, m->name, &npy, r, &count)) == EBM_OK
        && (!size_mul(count, r->stride, &size) || size != m->size - in.position))
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: '%s' declares %zu images of %zu bytes, but "
                      "has %" PRIu64 " bytes of them", zip->in->name, m->name, count,
                      r->stride, m->size - in.position);
    if (rc == EBM_OK)
        rc = records_adopt(ctx, r, m->name, bytes, in.position, count);
    else
        mem_free(ctx, bytes);
    input_close(&in);
    return rc;
}

/* Element i of an array of integers. */
static int64_t integer_at(const struct npy *npy, const uint8_t *elements, size_t i)
{
    const uint8_t *p = elements + i * npy->size;
    uint64_t v = 0;
    unsigned k;

    for (k = 0; k < npy->size; k++)
        v |= (uint64_t)p[npy->big_endian ? npy->size - 1 - k : k] << 8 * k;
    if (npy->kind == 'i' && npy->size < 8 && v >> (8 * npy->size - 1))
        return -1;
    return v > INT64_MAX ? -1 : (int64_t)v;
}

/* ImageNet32, known by rows of planes under the name of data, counts its classes
 * from 1; here they start at 0. */
static void start_at_zero(int32_t *labels, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (labels[i] == 0)
            return;
    for (i = 0; i < count; i++)
        labels[i]--;
}

static int append_labels(struct records *r, const struct zip *zip,
                         const struct zip_member *m, size_t count)
{
    enum { CLASSES_MAX = 1 << 20 };
    ebm_context *ctx = zip->in->ctx;
    const size_t start = r->count - count;
    uint8_t *bytes = NULL;
    struct input in;
    struct npy npy;
    size_t i;
    int rc = open_array(zip, m, &bytes, &in, &npy);

    if (rc < 0)
        return rc;
    bool column = npy.rank == 1 || (npy.rank == 2 && npy.shape[1] == 1);
    if (!column || npy.shape[0] != count || npy.kind == 'f'
        || m->size - in.position != (uint64_t)count * npy.size)
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: '%s' is not %zu integers, one label for "
                      "each image", zip->in->name, m->name, count);
    int32_t *labels = rc < 0 ? NULL : mem_grow(ctx, r->labels, start, r->count,
                                               sizeof *labels);
    if (labels)
        r->labels = labels;
    else if (rc == EBM_OK)
        rc = EBM_ERR_NOMEM;
    for (i = 0; rc == EBM_OK && i < count; i++) {
        int64_t v = integer_at(&npy, bytes + in.position, i);

        if (v < 0 || v >= CLASSES_MAX)
            rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: '%s' has a label outside 0 ... %d",
                          zip->in->name, m->name, CLASSES_MAX - 1);
        else
            labels[start + i] = (int32_t)v;
    }
    input_close(&in);
    mem_free(ctx, bytes);
    return rc;
}

static int append_set(struct records *r, const struct zip *zip, const struct set *set,
                      const struct zip_member *images)
{
    const struct zip_member *labels = zip_find(zip, set->labels);
    size_t before = r->count;
    int rc = append_images(r, zip, images);

    if (rc < 0)
        return rc;
    if (labels && (r->labels || !before))
        return append_labels(r, zip, labels, r->count - before);
    if (labels || r->labels)
        return ebm_fail(zip->in->ctx, EBM_ERR_FORMAT, "%s: one of its sets has labels, the "
                        "other none", zip->in->name);
    return EBM_OK;
}

static int append_sets(struct records *r, const struct zip *zip, enum split split,
                       enum split *splits)
{
    size_t i;
    int rc;

    for (i = 0; i < COUNT(sets); i++) {
        const struct zip_member *images = zip_find(zip, sets[i].images);

        if (!images || (sets[i].split == SPLIT_ALL && *splits))
            continue;
        if (sets[i].split == SPLIT_ALL) {
            *splits = SPLIT_TRAIN;
            return split & SPLIT_TRAIN ? append_set(r, zip, &sets[i], images) : EBM_OK;
        }
        *splits |= sets[i].split;
        if (split & sets[i].split && (rc = append_set(r, zip, &sets[i], images)) < 0)
            return rc;
    }
    if (!*splits)
        return ebm_fail(zip->in->ctx, EBM_ERR_FORMAT, "%s: none of its %zu members is an "
                        "array named data, images, x, arr_0, x_train or train_images",
                        zip->in->name, zip->count);
    return EBM_OK;
}

int npz_open(struct input *in, enum split split, struct source *source)
{
    ebm_context *ctx = in->ctx;
    struct records r = { 0 };
    enum split splits = 0;
    struct zip zip;
    int rc = zip_open(in, &zip);

    if (rc < 0)
        return rc;
    rc = append_sets(&r, &zip, split, &splits);
    if (rc == EBM_OK && r.labels && r.planar && zip_find(&zip, "data.npy"))
        start_at_zero(r.labels, r.count);
    zip_close(&zip);
    if (rc == EBM_OK && r.count)
        rc = records_source(ctx, &r, source);
    if (rc < 0 || !r.count)
        records_free(ctx, &r);
    source->format = "NPZ";
    source->splits = splits;
    return rc;
}
