/* safetensors_write.c - write safetensors files.
 *
 * SPDX-License-Identifier: ISC
 *
 * The header precedes the data, whose checksum it holds: 64 zeros are written in
 * its place, the digest runs along with the data, and at the end the digits are
 * put in.  The digest thus is that of the file with 64 zeros. */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "safetensors.h"
#include "text.h"

enum { DATA_ALIGNMENT = 64, CHUNK = 1 << 14, PIECE = 1 << 18 };

struct entry {
    char *name;
    enum ebm_type type;
    int rank;
    int64_t shape[EBM_MAX_RANK];
    size_t size;
    const void *data;
    safetensors_fetch *fetch;
    void *user;
};

struct pair { char *key, *text; };

struct safetensors_writer {
    ebm_context *ctx;
    int status;                       /* the first error */
    int n_entries, entries_capacity;
    struct entry *entries;
    int n_pairs, pairs_capacity;
    struct pair *pairs;
};

int safetensors_writer_new(ebm_context *ctx, struct safetensors_writer **writer)
{
    struct safetensors_writer *w = *writer = mem_new(ctx, 1, sizeof *w);

    if (!w)
        return EBM_ERR_NOMEM;
    w->ctx = ctx;
    return EBM_OK;
}

void safetensors_writer_free(struct safetensors_writer *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->n_entries; i++)
        mem_free(w->ctx, w->entries[i].name);
    for (int i = 0; i < w->n_pairs; i++) {
        mem_free(w->ctx, w->pairs[i].key);
        mem_free(w->ctx, w->pairs[i].text);
    }
    mem_free(w->ctx, w->entries);
    mem_free(w->ctx, w->pairs);
    mem_free(w->ctx, w);
}

/* Room for one more of n elements; false latches the error. */
static bool room(struct safetensors_writer *w, void **array, int n, int *capacity, size_t size)
{
    if (n < *capacity)
        return true;
    int more = *capacity ? 2 * *capacity : 32;
    void *grown = mem_grow(w->ctx, *array, (size_t)n, (size_t)more, size);
    if (!grown) {
        w->status = EBM_ERR_NOMEM;
        return false;
    }
    *array = grown;
    *capacity = more;
    return true;
}

/* 0, or the length of the UTF-8 sequence at p (RFC 3629). */
static int utf8_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    int n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

static bool is_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    for (int n; *p; p += n)
        if (!(n = utf8_length(p)))
            return false;
    return true;
}

void safetensors_add_metadata(struct safetensors_writer *w, const char *key, const char *text)
{
    int i;

    if (w->status < 0)
        return;
    if (!is_utf8(key) || !is_utf8(text)) {
        w->status = ebm_fail(w->ctx, EBM_ERR_ARG, "the metadata entry '%.200s' is not "
                             "UTF-8 text", key);
        return;
    }
    char *copy = mem_strdup(w->ctx, text);
    if (!copy) {
        w->status = EBM_ERR_NOMEM;
        return;
    }
    for (i = 0; i < w->n_pairs; i++)
        if (!strcmp(w->pairs[i].key, key)) {
            mem_free(w->ctx, w->pairs[i].text);
            w->pairs[i].text = copy;
            return;
        }
    void *pairs = w->pairs;
    char *name = mem_strdup(w->ctx, key);
    if (!name || !room(w, &pairs, i, &w->pairs_capacity, sizeof *w->pairs)) {
        w->status = EBM_ERR_NOMEM;
        mem_free(w->ctx, name);
        mem_free(w->ctx, copy);
        return;
    }
    w->pairs = pairs;
    w->pairs[i].key = name;
    w->pairs[i].text = copy;
    w->n_pairs++;
}

static void add(struct safetensors_writer *w, const char *name, enum ebm_type type,
                int rank, const int64_t *shape, const void *data,
                safetensors_fetch *fetch, void *user)
{
    struct entry e = { NULL, type, rank, { 0 }, type == EBM_U8 ? 1 : 4, data, fetch, user };
    void *entries = w->entries;

    if (w->status < 0)
        return;
    if (rank < 0 || rank > EBM_MAX_RANK || !is_utf8(name) || !strcmp(name, "__metadata__")) {
        w->status = ebm_fail(w->ctx, EBM_ERR_ARG, "the tensor '%.200s' cannot be written: "
                             "its name or its rank %d is not allowed", name, rank);
        return;
    }
    for (int i = 0; i < w->n_entries; i++)
        if (!strcmp(w->entries[i].name, name)) {
            w->status = ebm_fail(w->ctx, EBM_ERR_ARG, "two tensors are called '%.200s'", name);
            return;
        }
    for (int i = 0; i < rank; i++) {
        e.shape[i] = shape[i];
        if (shape[i] < 0 || (uint64_t)shape[i] > SIZE_MAX
            || !size_mul(e.size, (size_t)shape[i], &e.size)) {
            w->status = ebm_fail(w->ctx, EBM_ERR_ARG, "the tensor '%.200s' is larger than "
                                 "this machine can address", name);
            return;
        }
    }
    if (!room(w, &entries, w->n_entries, &w->entries_capacity, sizeof *w->entries))
        return;
    w->entries = entries;
    if (!(e.name = mem_strdup(w->ctx, name))) {
        w->status = EBM_ERR_NOMEM;
        return;
    }
    w->entries[w->n_entries++] = e;
}

void safetensors_add(struct safetensors_writer *w, const char *name, enum ebm_type type,
                     int rank, const int64_t *shape, const void *data)
{
    add(w, name, type, rank, shape, data, NULL, NULL);
}

void safetensors_add_fetched(struct safetensors_writer *w, const char *name,
                             enum ebm_type type, int rank, const int64_t *shape,
                             safetensors_fetch *fetch, void *user)
{
    add(w, name, type, rank, shape, NULL, fetch, user);
}

/* --- the header --- */

/* A JSON string: quotes, backslashes and control characters escaped. */
static void put_string(struct text *t, const char *s)
{
    text_put(t, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') {
            text_put(t, "\\");
            text_put_n(t, s, 1);
        } else if (*s == '\n') {
            text_put(t, "\\n");
        } else if ((unsigned char)*s < 0x20) {
            text_printf(t, "\\u%04x", (unsigned)(unsigned char)*s);
        } else {
            text_put_n(t, s, 1);
        }
    }
    text_put(t, "\"");
}

/* The header, padded so that the data are aligned; where the digits of the
 * checksum start goes to *digits. */
static void put_header(struct text *t, const struct safetensors_writer *w, size_t *digits)
{
    static const char zeros[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    static const char *const dtype[] = { "F32", "I32", "U8" };
    uint64_t at = 0;

    text_put(t, "{\"__metadata__\":{");
    for (int i = 0; i < w->n_pairs; i++) {
        if (!strcmp(w->pairs[i].key, "sha256"))
            continue;
        put_string(t, w->pairs[i].key);
        text_put(t, ":");
        put_string(t, w->pairs[i].text);
        text_put(t, ",");
    }
    text_put(t, "\"sha256\":\"");
    *digits = t->n;
    text_put(t, zeros);
    text_put(t, "\"}");
    for (int i = 0; i < w->n_entries; i++) {
        const struct entry *e = &w->entries[i];
        text_put(t, ",");
        put_string(t, e->name);
        text_put(t, ":{\"dtype\":\"");
        text_put(t, dtype[e->type]);
        text_put(t, "\",\"shape\":[");
        for (int j = 0; j < e->rank; j++) {
            text_put(t, j ? "," : "");
            text_printf(t, "%" PRId64, e->shape[j]);
        }
        text_put(t, "],\"data_offsets\":[");
        text_printf(t, "%" PRIu64 ",%" PRIu64 "]}", at, at + e->size);
        at += e->size;
    }
    text_put(t, "}");
    while (!t->lost && (8 + t->n) % DATA_ALIGNMENT)
        text_put(t, " ");
}

/* --- the file --- */

static int emit(struct io_writer *file, struct sha256 *h, const void *from, size_t size)
{
    sha256_add(h, from, size);
    return io_write(file, from, size);
}

static int write_header(const struct safetensors_writer *w, struct io_writer *file,
                        struct sha256 *h, uint64_t *digits_at)
{
    struct text t = { .ctx = w->ctx };
    uint8_t length[8];
    size_t digits;
    char *header;
    int rc;

    put_header(&t, w, &digits);
    if (!(header = text_take(&t)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)t.n >> 8 * i);
    if ((rc = emit(file, h, length, sizeof length)) == EBM_OK)
        rc = emit(file, h, header, t.n);
    mem_free(w->ctx, header);
    *digits_at = 8 + digits;
    return rc;
}

static int write_elements(struct io_writer *file, struct sha256 *h,
                          const struct entry *e, const void *data, size_t size)
{
    const uint16_t one = 1;
    const uint8_t *p = data, *end = p + size;
    uint8_t swapped[CHUNK];
    int rc = EBM_OK;

    if (e->type == EBM_U8 || *(const uint8_t *)&one == 1)
        return emit(file, h, data, size);
    while (rc == EBM_OK && p < end) {          /* a big-endian host */
        size_t n = end - p < CHUNK ? (size_t)(end - p) : CHUNK;
        for (size_t i = 0; i < n; i++)
            swapped[i] = p[i ^ 3];
        rc = emit(file, h, swapped, n);
        p += n;
    }
    return rc;
}

static int write_fetched(struct io_writer *file, struct sha256 *h, const struct entry *e, void *buffer)
{
    int rc = EBM_OK;

    for (size_t at = 0; rc >= 0 && at < e->size; at += PIECE) {
        size_t n = e->size - at < PIECE ? e->size - at : PIECE;
        if ((rc = e->fetch(e->user, e->name, at, buffer, n)) >= 0)
            rc = write_elements(file, h, e, buffer, n);
    }
    return rc;
}

static int write_data(const struct safetensors_writer *w, struct io_writer *file,
                      struct sha256 *h)
{
    void *buffer = mem_new(w->ctx, PIECE, 1);
    int rc = buffer ? EBM_OK : EBM_ERR_NOMEM;

    for (int i = 0; rc >= 0 && i < w->n_entries; i++) {
        const struct entry *e = &w->entries[i];
        if (e->size == 0)
            continue;
        rc = e->fetch ? write_fetched(file, h, e, buffer) : write_elements(file, h, e, e->data, e->size);
    }
    mem_free(w->ctx, buffer);
    return rc < 0 ? rc : EBM_OK;
}

int safetensors_write(struct safetensors_writer *w, const char *path, char digest[SHA256_TEXT])
{
    struct io_writer *file;
    struct sha256 h;
    char sum[SHA256_TEXT];
    uint64_t digits;
    int rc;

    if (w->status < 0)
        return w->status;
    if ((rc = io_create(w->ctx, path, &file)) < 0)
        return rc;
    sha256_begin(&h);
    if ((rc = write_header(w, file, &h, &digits)) < 0 || (rc = write_data(w, file, &h)) < 0) {
        io_abandon(file);
        return rc;
    }
    sha256_end(&h, sum);
    if ((rc = io_rewrite(file, digits, sum, 64)) < 0) {
        io_abandon(file);
        return rc;
    }
    if (digest)
        memcpy(digest, sum, sizeof sum);
    return io_commit(file);
}
