/* idx.c - the format of MNIST and its relatives.
 *
 * SPDX-License-Identifier: ISC
 *
 *   0 0 type rank | size 0 | ... | size rank-1 | elements
 *
 * Sizes are 32 bits, all big-endian; type 8 are bytes.  Images have rank 3, or 4
 * with channels last; labels rank 1.  Source: LeCun's description of MNIST. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "records.h"

enum { TYPE_U8 = 8, RANK_MAX = 4 };

struct header {
    int rank;
    uint32_t size[RANK_MAX];
};

static int read_header(struct input *in, struct header *h)
{
    uint8_t magic[4], size[4];
    size_t got;
    int i, rc;

    memset(h, 0, sizeof *h);
    if ((rc = input_read(in, magic, sizeof magic, &got)) < 0)
        return rc;
    if (got < sizeof magic || magic[0] || magic[1])
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: not an IDX file: it does not start "
                        "with two zero bytes", in->name);
    if (magic[2] != TYPE_U8)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: IDX elements of type 0x%02x; only "
                        "bytes (0x08) are read as images or labels", in->name, magic[2]);
    h->rank = magic[3];
    if (h->rank < 1 || h->rank > RANK_MAX)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: an IDX array of %d dimensions; images "
                        "have 3 or 4, labels 1", in->name, h->rank);
    for (i = 0; i < h->rank; i++) {
        if ((rc = input_read(in, size, sizeof size, &got)) < 0)
            return rc;
        if (got < sizeof size)
            return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: ends within its IDX header",
                            in->name);
        h->size[i] = (uint32_t)size[0] << 24 | (uint32_t)size[1] << 16
                   | (uint32_t)size[2] << 8 | size[3];
    }
    return EBM_OK;
}

/* Append an image file. */
static int append_images(struct records *r, struct input *in)
{
    struct header h;
    int rc = read_header(in, &h);

    if (rc < 0)
        return rc;
    if (h.rank < 3)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: an IDX array of %d dimension%s holds "
                        "labels, not images; give the images, or the folder of both",
                        in->name, h.rank, h.rank == 1 ? "" : "s");
    size_t channels = h.rank == 4 ? h.size[3] : 1;
    if (channels != 1 && channels != 3)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: images of %zu channels; 1 or 3 are "
                        "supported", in->name, channels);
    if ((rc = image_check_size(in->ctx, in->name, h.size[1], h.size[2])) < 0)
        return rc;
    if (r->n_parts && (r->height != h.size[1] || r->width != h.size[2]
                       || r->channels != channels))
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: its images are not of the size of "
                        "those in %s", in->name, r->parts[0].name);
    r->height = h.size[1];
    r->width = h.size[2];
    r->channels = channels;
    r->element = ELEMENT_U8;
    r->stride = r->height * r->width * channels;
    rc = records_append(r, in, h.size[0]);
    return rc < 0 ? rc : input_end(in);
}

/* The labels of the last `count` records. */
static int append_labels(struct records *r, struct input *in, size_t count)
{
    const size_t start = r->count - count;
    struct header h;
    size_t i, got;
    int rc = read_header(in, &h);

    if (rc < 0)
        return rc;
    if (h.rank != 1 || h.size[0] != count)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: an IDX array of %d dimension%s and %"
                        PRIu32 " entries, where labels of %zu images are expected",
                        in->name, h.rank, h.rank == 1 ? "" : "s", h.size[0], count);
    int32_t *labels = mem_grow(in->ctx, r->labels, start, r->count, sizeof *labels);
    if (!labels)
        return EBM_ERR_NOMEM;
    r->labels = labels;
    uint8_t *bytes = mem_new(in->ctx, count, 1);
    if (!bytes)
        return EBM_ERR_NOMEM;
    if ((rc = input_read(in, bytes, count, &got)) == EBM_OK && got < count)
        rc = ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: ends early: %zu labels of %zu; fetch "
                      "it again", in->name, got, count);
    if (rc == EBM_OK)
        rc = input_end(in);
    for (i = 0; rc == EBM_OK && i < count; i++)
        labels[start + i] = bytes[i];
    mem_free(in->ctx, bytes);
    return rc;
}

static int finish(ebm_context *ctx, struct records *r, enum split splits,
                  struct source *source)
{
    int rc = records_source(ctx, r, source);

    source->format = "IDX";
    source->splits = splits;
    return rc;
}

int idx_open(struct input *in, struct source *source)
{
    struct records r = { 0 };
    int rc = append_images(&r, in);

    if (rc < 0) {
        records_free(in->ctx, &r);
        return rc;
    }
    return finish(in->ctx, &r, SPLIT_TRAIN, source);
}

/* The path of "train" + "-images-idx3-ubyte" under the spellings in use; NULL in
 * *path if there is none. */
static int locate(ebm_context *ctx, const char *folder, const char *set,
                  const char *what, int rank, char **path)
{
    static const char marks[] = { '-', '.' };
    static const char *const ends[] = { "", ".gz" };
    char name[64];
    size_t i;

    for (i = 0; i < COUNT(marks) * COUNT(ends); i++) {
        snprintf(name, sizeof name, "%s-%s%cidx%d-ubyte%s", set, what, marks[i / 2],
                 rank, ends[i % 2]);
        if (!(*path = io_join(ctx, folder, name)))
            return EBM_ERR_NOMEM;
        if (io_exists(*path))
            return EBM_OK;
        mem_free(ctx, *path);
        *path = NULL;
    }
    return EBM_OK;
}

static int append_set(ebm_context *ctx, struct records *r, const char *folder,
                      const char *set, bool *found)
{
    char *images = NULL, *labels = NULL;
    struct input in = { 0 };
    size_t before = r->count;
    int rc;

    if ((rc = locate(ctx, folder, set, "images", 3, &images)) < 0
        || (rc = locate(ctx, folder, set, "labels", 1, &labels)) < 0)
        goto end;
    if (!images)
        goto end;
    *found = true;
    if ((rc = input_open(ctx, images, &in)) < 0
        || (rc = append_images(r, &in)) < 0)
        goto end;
    input_close(&in);
    if (!labels && !r->labels)
        goto end;
    if (!labels || (before && !r->labels)) {
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: the labels of %s are missing", folder,
                      labels ? "the training set" : images);
        goto end;
    }
    if ((rc = input_open(ctx, labels, &in)) < 0)
        goto end;
    rc = append_labels(r, &in, r->count - before);
end:
    input_close(&in);
    mem_free(ctx, images);
    mem_free(ctx, labels);
    return rc;
}

int idx_folder_open(ebm_context *ctx, const char *path, enum split split,
                    struct source *source, bool *found)
{
    static const struct { enum split split; const char *name; } sets[] = {
        { SPLIT_TRAIN, "train" }, { SPLIT_TEST, "t10k" },
    };
    struct records r = { 0 };
    enum split splits = 0;
    size_t i;
    int rc = EBM_OK;

    *found = false;
    for (i = 0; i < COUNT(sets) && rc == EBM_OK; i++) {
        bool here = false;
        char *images = NULL;

        if (split & sets[i].split) {
            rc = append_set(ctx, &r, path, sets[i].name, &here);
        } else {
            rc = locate(ctx, path, sets[i].name, "images", 3, &images);
            here = images != NULL;
            mem_free(ctx, images);
        }
        if (here)
            splits |= sets[i].split;
    }
    *found = splits != 0;
    if (rc < 0 || !r.count) {
        records_free(ctx, &r);
        source->format = "IDX";
        source->splits = splits;
        return rc;
    }
    return finish(ctx, &r, splits, source);
}
