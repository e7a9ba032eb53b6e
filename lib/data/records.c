/* records.c - images as records of one size.
 *
 * SPDX-License-Identifier: ISC
 *
 * Bytes become a picture of bytes, floats one of floats.  Floats are checked
 * when they are read: those that are no pixels in [0,1] are an error, as an
 * array in [0,255] or [-1,1] would spoil a training without a word. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "records.h"

/* What rounding may leave beyond [0,1]. */
static const float RANGE_SLACK = 1e-3f;

void records_free(ebm_context *ctx, struct records *r)
{
    size_t i;

    for (i = 0; i < r->n_parts; i++) {
        mem_free(ctx, r->parts[i].name);
        mem_free(ctx, r->parts[i].bytes);
        if (r->parts[i].file.ctx)
            r->parts[i].file.ctx = ctx;
        io_close(&r->parts[i].file);
    }
    mem_free(ctx, r->parts);
    mem_free(ctx, r->labels);
    memset(r, 0, sizeof *r);
}

size_t element_size(enum element element)
{
    static const size_t sizes[] = {
        [ELEMENT_BOOL] = 1, [ELEMENT_U8] = 1, [ELEMENT_F16] = 2,
        [ELEMENT_F32] = 4, [ELEMENT_F64] = 8,
    };

    return sizes[element];
}

static struct part *new_part(ebm_context *ctx, struct records *r, const char *name,
                             size_t count)
{
    struct part *parts = mem_grow(ctx, r->parts, r->n_parts, r->n_parts + 1, sizeof *parts);

    if (!parts)
        return NULL;
    r->parts = parts;
    struct part *p = &parts[r->n_parts];
    if (!(p->name = mem_strdup(ctx, name)))
        return NULL;
    p->count = count;
    r->n_parts++;
    return p;
}

int records_adopt(ebm_context *ctx, struct records *r, const char *name,
                  uint8_t *bytes, uint64_t first, size_t count)
{
    struct part *p = new_part(ctx, r, name, count);

    if (!p) {
        mem_free(ctx, bytes);
        return EBM_ERR_NOMEM;
    }
    p->bytes = bytes;
    p->first = first;
    r->count += count;
    r->fingerprint = fingerprint(r->fingerprint ? r->fingerprint : FINGERPRINT_START,
                                 bytes + first, count * r->stride);
    return EBM_OK;
}

/* A part that stays in its file; its size, start and end stand for it. */
static int leave_in_file(struct records *r, struct input *in, size_t count, uint64_t total)
{
    uint8_t sample[4096];
    uint64_t hash = r->fingerprint ? r->fingerprint : FINGERPRINT_START;
    int rc;

    if (total != in->size - in->position)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: has %" PRIu64 " bytes, but %" PRIu64
                        " are declared; fetch it again", in->name, in->size,
                        in->position + total);
    struct part *p = new_part(in->ctx, r, in->name, count);
    if (!p)
        return EBM_ERR_NOMEM;
    p->first = in->position;
    hash = fingerprint(hash, &total, sizeof total);
    if ((rc = input_at(in, p->first, sample, sizeof sample)) < 0)
        return rc;
    hash = fingerprint(hash, sample, sizeof sample);
    if ((rc = input_at(in, p->first + total - sizeof sample, sample, sizeof sample)) < 0)
        return rc;
    r->fingerprint = fingerprint(hash, sample, sizeof sample);
    r->count += count;
    p->file = in->file;
    memset(&in->file, 0, sizeof in->file);
    return EBM_OK;
}

int records_append(struct records *r, struct input *in, size_t count)
{
    uint64_t kept = 0, total, bound = input_bound(in);
    size_t i, got, size;
    int rc;

    if (size_mul(count, r->stride, &size) && size > bound - in->position && !in->gzip)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: ends early: %zu images of %zu bytes "
                        "need a file of %" PRIu64 " bytes, it has %" PRIu64 "; fetch it "
                        "again", in->name, count, r->stride, in->position + size, in->size);
    if (!size_mul(count, r->stride, &size) || size > bound - in->position)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: %zu images of %zu bytes are "
                        "declared, but a file of %" PRIu64 " bytes cannot hold them; "
                        "fetch it again", in->name, count, r->stride, in->size);
    total = size;
    for (i = 0; i < r->n_parts; i++)
        if (r->parts[i].bytes)
            kept += (uint64_t)r->parts[i].count * r->stride;
    if (!in->gzip && !in->memory && kept + total > KEEP_LIMIT)
        return leave_in_file(r, in, count, total);
    if (total > UNPACK_LIMIT)
        return ebm_fail(in->ctx, EBM_ERR_NOMEM, "%s: %" PRIu64 " bytes are too many to be "
                        "decompressed in memory; decompress the file", in->name, total);
    uint8_t *bytes = mem_new(in->ctx, size, 1);
    if (!bytes)
        return EBM_ERR_NOMEM;
    uint64_t start = in->position;
    rc = input_read(in, bytes, size, &got);
    if (rc == EBM_OK && got < size)
        rc = ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: ends early: %zu images need %" PRIu64
                      " bytes of content, it has %" PRIu64 "; fetch it again", in->name,
                      count, start + total, start + got);
    if (rc < 0) {
        mem_free(in->ctx, bytes);
        return rc;
    }
    return records_adopt(in->ctx, r, in->name, bytes, 0, count);
}

/* IEEE 754 binary16. */
static float half_to_float(unsigned h)
{
    int exponent = (int)(h >> 10 & 31);
    float fraction = (float)(h & 1023) / 1024, v;

    if (exponent == 31)
        v = h & 1023 ? NAN : INFINITY;
    else if (exponent)
        v = ldexpf(1 + fraction, exponent - 15);
    else
        v = ldexpf(fraction, -14);
    return h & 0x8000 ? -v : v;
}

static float element_at(const struct records *r, const uint8_t *p)
{
    const size_t size = element_size(r->element);
    uint64_t bits = 0;
    uint32_t word;
    double d;
    float f;
    size_t i;

    for (i = 0; i < size; i++)
        bits |= (uint64_t)p[r->big_endian ? size - 1 - i : i] << 8 * i;
    switch (r->element) {
    case ELEMENT_BOOL:
    case ELEMENT_U8:
        break;
    case ELEMENT_F16:
        return half_to_float((unsigned)bits);
    case ELEMENT_F32:
        word = (uint32_t)bits;
        memcpy(&f, &word, sizeof f);
        return f;
    case ELEMENT_F64:
        memcpy(&d, &bits, sizeof d);
        return (float)d;
    }
    return (float)bits;
}

static int fill(ebm_context *ctx, const struct records *r, const char *name,
                size_t index, const uint8_t *record, struct image *image)
{
    const size_t H = r->height, W = r->width, C = r->channels, K = image->channels;
    const size_t unit = element_size(r->element);
    size_t y, x, c;

    for (y = 0; y < H; y++)
        for (x = 0; x < W; x++)
            for (c = 0; c < K; c++) {
                size_t from = r->planar ? (c * H + y) * W + x : (y * W + x) * C + c;
                size_t to = (y * W + x) * K + c;

                if (image->bytes) {
                    uint8_t v = record[from];
                    image->bytes[to] = r->element == ELEMENT_BOOL ? (v ? 255 : 0) : v;
                } else {
                    float v = element_at(r, record + from * unit);
                    if (!(v >= -RANGE_SLACK && v <= 1 + RANGE_SLACK))
                        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: image %zu has a pixel of "
                                        "%g; floats must be in [0,1]: divide them by 255, "
                                        "or store bytes", name, index, (double)v);
                    image->floats[to] = v < 0 ? 0 : v > 1 ? 1 : v;
                }
            }
    return EBM_OK;
}

static int read_record(ebm_context *ctx, void *state, size_t index,
                       struct image *image, int32_t *label)
{
    const struct records *r = state;
    const struct part *p = r->parts;
    const bool floats = element_size(r->element) > 1;
    size_t within = index, channels = r->channels == 4 ? 3 : r->channels;
    size_t size = r->height * r->width * r->channels * element_size(r->element);
    uint8_t *buffer = NULL;
    int rc;

    while (within >= p->count)
        within -= p++->count;
    *label = r->labels ? r->labels[index] : -1;
    uint64_t offset = p->first + (uint64_t)within * r->stride + r->pixels_at;
    if (!p->bytes) {
        struct io_reader file = p->file;

        file.ctx = ctx;
        if (!(buffer = mem_new(ctx, size, 1)))
            return EBM_ERR_NOMEM;
        if ((rc = io_read(&file, offset, buffer, size)) < 0) {
            mem_free(ctx, buffer);
            return rc;
        }
    }
    rc = image_new(ctx, image, r->height, r->width, channels, floats);
    if (rc == EBM_OK) {
        const uint8_t *record = buffer ? buffer : p->bytes + offset;

        if (!floats && !r->planar && r->element == ELEMENT_U8 && channels == r->channels)
            memcpy(image->bytes, record, size);
        else
            rc = fill(ctx, r, p->name, index, record, image);
    }
    mem_free(ctx, buffer);
    if (rc < 0)
        image_free(ctx, image);
    return rc;
}

static void close_records(ebm_context *ctx, void *state)
{
    records_free(ctx, state);
    mem_free(ctx, state);
}

int records_source(ebm_context *ctx, struct records *r, struct source *source)
{
    struct records *state = mem_new(ctx, 1, sizeof *state);
    size_t i;

    if (!state) {
        records_free(ctx, r);
        return EBM_ERR_NOMEM;
    }
    *state = *r;
    memset(r, 0, sizeof *r);
    source->count = state->count;
    source->height = state->height;
    source->width = state->width;
    source->channels = state->channels == 4 ? 3 : state->channels;
    source->fingerprint = state->fingerprint;
    if (state->labels) {
        for (i = 0; i < state->count; i++)
            if (state->labels[i] >= source->classes)
                source->classes = state->labels[i] + 1;
        source->fingerprint = fingerprint(source->fingerprint, state->labels,
                                          state->count * sizeof *state->labels);
    }
    source->read = read_record;
    source->close = close_records;
    source->state = state;
    return EBM_OK;
}
