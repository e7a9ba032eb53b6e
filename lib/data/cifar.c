/* cifar.c - CIFAR-10 and CIFAR-100 in their binary version.
 *
 * SPDX-License-Identifier: ISC
 *
 *   CIFAR-10    label | 1024 red | 1024 green | 1024 blue      3073 bytes
 *   CIFAR-100   coarse label | fine label | 3072 as above      3074 bytes
 *
 * There is no header: a file is known by its size, a multiple of a record, and
 * by labels in range.  A size that both divide (3074 records of CIFAR-10) is
 * taken for CIFAR-10.  Source: Krizhevsky's description of the archives. */
#include <inttypes.h>
#include <string.h>
#include "records.h"

enum { SIDE = 32, PIXELS = 3 * SIDE * SIDE, CHUNK_RECORDS = 256 };

static const struct variant {
    const char *format;
    size_t labels;              /* bytes before the pixels; the last is used */
    int classes;
    const char *names;          /* the file of class names */
    const char *train, *test;   /* files: prefixes */
} variants[] = {
    { "CIFAR-10", 1, 10, "batches.meta.txt", "data_batch", "test_batch" },
    { "CIFAR-100", 2, 100, "fine_label_names.txt", "train.bin", "test.bin" },
};

/* Bytes of one record. */
static size_t stride_of(const struct variant *v)
{
    return PIXELS + v->labels;
}

static const struct variant *variant_of(uint64_t size)
{
    size_t i;

    for (i = 0; i < COUNT(variants); i++)
        if (size && size % stride_of(&variants[i]) == 0)
            return &variants[i];
    return NULL;
}

bool cifar_is(uint64_t size)
{
    return variant_of(size) != NULL;
}

/* Labels of a chunk of records of the last part, from record `start` on. */
static int take_labels(struct records *r, ebm_context *ctx, const struct variant *v,
                       const uint8_t *records, size_t start, size_t n, int classes)
{
    const struct part *p = &r->parts[r->n_parts - 1];
    size_t i;

    for (i = 0; i < n; i++) {
        int label = records[i * r->stride + v->labels - 1];

        if (label >= classes)
            return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: has the size of %zu %s records, but "
                            "record %zu has label %d, beyond %d classes; is it of another "
                            "format?", p->name, p->count, v->format, start + i, label,
                            classes);
        r->labels[r->count - p->count + start + i] = label;
    }
    return EBM_OK;
}

static int append(struct records *r, struct input *in, const struct variant *v, int classes)
{
    ebm_context *ctx = in->ctx;
    const size_t before = r->count;
    uint8_t *chunk = NULL;
    size_t start;
    int rc;

    if (in->gzip || variant_of(in->size) == NULL || in->size % stride_of(v))
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: %" PRIu64 " bytes are no whole number of "
                        "%s records of %zu bytes; fetch it again, uncompressed", in->name,
                        in->size, v->format, stride_of(v));
    r->height = r->width = SIDE;
    r->channels = 3;
    r->planar = true;
    r->element = ELEMENT_U8;
    r->stride = stride_of(v);
    r->pixels_at = v->labels;
    if ((rc = records_append(r, in, (size_t)(in->size / r->stride))) < 0)
        return rc;
    struct part *p = &r->parts[r->n_parts - 1];
    int32_t *labels = mem_grow(ctx, r->labels, before, r->count, sizeof *labels);
    if (!labels)
        return EBM_ERR_NOMEM;
    r->labels = labels;
    if (p->bytes)
        return take_labels(r, ctx, v, p->bytes + p->first, 0, p->count, classes);
    if (!(chunk = mem_new(ctx, CHUNK_RECORDS, r->stride)))
        return EBM_ERR_NOMEM;
    for (start = 0; rc == EBM_OK && start < p->count; start += CHUNK_RECORDS) {
        size_t n = p->count - start < CHUNK_RECORDS ? p->count - start : CHUNK_RECORDS;

        rc = io_read(&p->file, p->first + start * r->stride, chunk, n * r->stride);
        if (rc == EBM_OK)
            rc = take_labels(r, ctx, v, chunk, start, n, classes);
    }
    mem_free(ctx, chunk);
    return rc;
}

/* Names and number of the classes, into the source. */
static int name_classes(ebm_context *ctx, const char *folder, const struct variant *v,
                        struct source *source)
{
    int rc = EBM_OK;

    if (folder)
        rc = source_class_names(ctx, folder, v->names, &source->class_names,
                                &source->classes);
    if (source->classes == 0)
        source->classes = v->classes;
    return rc;
}

static int finish(ebm_context *ctx, struct records *r, const struct variant *v,
                  enum split splits, int rc, struct source *source)
{
    if (rc == EBM_OK)
        rc = records_source(ctx, r, source);
    if (rc < 0) {
        records_free(ctx, r);
        source_close(ctx, source);
        return rc;
    }
    source->format = v->format;
    source->splits = splits;
    return EBM_OK;
}

int cifar_open(struct input *in, const char *folder, struct source *source)
{
    const struct variant *v = variant_of(in->size);
    struct records r = { 0 };
    ebm_context *ctx = in->ctx;

    if (!v)
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: not a size of CIFAR records", in->name);
    int rc = name_classes(ctx, folder, v, source);
    if (rc == EBM_OK)
        rc = append(&r, in, v, source->classes);
    return finish(ctx, &r, v, SPLIT_TRAIN, rc, source);
}

static bool starts_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_bin(const char *name)
{
    size_t n = strlen(name);

    return n > 4 && strcmp(name + n - 4, ".bin") == 0;
}

/* The files of one variant, training before test; their splits go to *splits. */
static int append_files(ebm_context *ctx, struct records *r, const char *folder,
                        const struct variant *v, char **names, int count,
                        enum split split, int classes, enum split *splits)
{
    const struct { enum split split; const char *prefix; } sets[] = {
        { SPLIT_TRAIN, v->train }, { SPLIT_TEST, v->test },
    };
    size_t s;
    int i, rc;

    for (s = 0; s < COUNT(sets); s++)
        for (i = 0; i < count; i++) {
            struct input in;

            if (!starts_with(names[i], sets[s].prefix) || !is_bin(names[i]))
                continue;
            *splits |= sets[s].split;
            if (!(split & sets[s].split))
                continue;
            char *path = io_join(ctx, folder, names[i]);
            if (!path)
                return EBM_ERR_NOMEM;
            rc = input_open(ctx, path, &in);
            if (rc == EBM_OK) {
                rc = append(r, &in, v, classes);
                input_close(&in);
            }
            mem_free(ctx, path);
            if (rc < 0)
                return rc;
        }
    return EBM_OK;
}

int cifar_folder_open(ebm_context *ctx, const char *path, enum split split,
                      struct source *source, bool *found)
{
    struct records r = { 0 };
    char **names;
    size_t v;
    int count, i, rc;

    *found = false;
    if ((rc = io_names(ctx, path, &names, &count)) < 0)
        return rc;
    for (v = 0; v < COUNT(variants) && !*found; v++)
        for (i = 0; i < count; i++)
            if (is_bin(names[i]) && (starts_with(names[i], variants[v].train)
                                     || starts_with(names[i], variants[v].test)))
                *found = true;
    if (*found) {
        enum split splits = 0;

        v--;
        rc = name_classes(ctx, path, &variants[v], source);
        if (rc == EBM_OK)
            rc = append_files(ctx, &r, path, &variants[v], names, count, split,
                              source->classes, &splits);
        rc = finish(ctx, &r, &variants[v], splits, rc, source);
    }
    io_free_names(ctx, names, count);
    return rc;
}
