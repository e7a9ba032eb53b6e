/* safetensors_read.c - open, check and read safetensors files.
 *
 * SPDX-License-Identifier: ISC
 *
 * The order of the checks follows the trust they need: the length of the header
 * against the file, the header as JSON, each entry by itself, then all entries
 * together, sorted by offset:
 *
 *   0 [---a---)[--b--)[c)[----d----) end of file    no gap, no overlap
 *
 * Invariant: after safetensors_open() every tensor lies inside the file and
 * its bytes are exactly elements x size of the type. */
#include "config.h"
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "safetensors.h"

enum { CHUNK = 1 << 16 };
static const uint64_t max_header = 100000000;   /* as the format's authors have it */

static const struct dtype { const char *name; int size; } dtypes[] = {
    [SAFETENSORS_BOOL] = { "BOOL", 1 }, [SAFETENSORS_U8]   = { "U8", 1 },
    [SAFETENSORS_I8]   = { "I8", 1 },   [SAFETENSORS_I16]  = { "I16", 2 },
    [SAFETENSORS_U16]  = { "U16", 2 },  [SAFETENSORS_F16]  = { "F16", 2 },
    [SAFETENSORS_BF16] = { "BF16", 2 }, [SAFETENSORS_I32]  = { "I32", 4 },
    [SAFETENSORS_U32]  = { "U32", 4 },  [SAFETENSORS_F32]  = { "F32", 4 },
    [SAFETENSORS_I64]  = { "I64", 8 },  [SAFETENSORS_U64]  = { "U64", 8 },
    [SAFETENSORS_F64]  = { "F64", 8 },
};

struct safetensors {
    ebm_context *ctx;
    struct io_reader reader;
    json_t *header;               /* holds the metadata's texts */
    uint64_t header_size, data;   /* where the data start */
    int count;
    struct safetensor *tensors;   /* by offset */
};

static int malformed(struct safetensors *f, const char *what, const char *name)
{
    return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a valid safetensors file: "
                    "tensor '%.200s' %s", f->reader.path, name, what);
}

static uint64_t little_endian(const uint8_t *p, int bytes)
{
    uint64_t v = 0;

    for (int i = bytes; i-- > 0; )
        v = v << 8 | p[i];
    return v;
}

static int parse_tensor(struct safetensors *f, const char *name, json_t *entry,
                        struct safetensor *t)
{
    json_t *dtype = json_object_get(entry, "dtype"), *v;
    json_t *shape = json_object_get(entry, "shape");
    json_t *span = json_object_get(entry, "data_offsets");
    size_t i, size;

    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(span)
        || json_object_size(entry) != 3)
        return malformed(f, "needs dtype, shape and data_offsets, and nothing else", name);
    for (i = 0; i < COUNT(dtypes); i++)
        if (!strcmp(json_string_value(dtype), dtypes[i].name))
            break;
    if (i == COUNT(dtypes))
        return malformed(f, "has an element type that is not known here", name);
    t->dtype = (enum safetensors_dtype)i;

    if (json_array_size(shape) > SAFETENSORS_MAX_RANK)
        return malformed(f, "has more than 8 axes", name);
    t->rank = (int)json_array_size(shape);
    t->elements = 1;
    bool overflow = false, empty = false;
    json_array_foreach(shape, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return malformed(f, "has a shape that is not of whole numbers", name);
        int64_t n = t->shape[i] = json_integer_value(v);
        empty |= n == 0;
        overflow |= n > 0 && t->elements > INT64_MAX / 8 / n;
        t->elements = overflow ? 1 : t->elements * (n ? n : 1);
    }
    /* a zero anywhere makes it empty, however large the others */
    if (empty)
        t->elements = 0;
    else if (overflow)
        return malformed(f, "has more elements than can be counted", name);

    if (json_array_size(span) != 2)
        return malformed(f, "needs two data_offsets", name);
    json_array_foreach(span, i, v)
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return malformed(f, "has data_offsets that are not whole numbers", name);
    t->begin = (uint64_t)json_integer_value(json_array_get(span, 0));
    t->end = (uint64_t)json_integer_value(json_array_get(span, 1));
    size = (size_t)dtypes[t->dtype].size;
    if (t->end < t->begin || t->end - t->begin != (uint64_t)t->elements * size)
        return malformed(f, "has data_offsets that do not fit its shape", name);
    if (!(t->name = mem_strdup(f->ctx, name)))
        return EBM_ERR_NOMEM;
    return EBM_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct safetensor *s = a, *t = b;

    if (s->begin != t->begin)
        return s->begin < t->begin ? -1 : 1;
    if (s->end != t->end)                     /* empty ones come first */
        return s->end < t->end ? -1 : 1;
    return strcmp(s->name, t->name);
}

static int parse_header(struct safetensors *f)
{
    const char *key, *name;
    json_t *entry, *text;
    size_t n = json_object_size(f->header);
    uint64_t end = 0, data_size = f->reader.size - f->data;
    int rc;

    if (!(f->tensors = mem_new(f->ctx, n ? n : 1, sizeof *f->tensors)))
        return EBM_ERR_NOMEM;
    json_object_foreach(f->header, key, entry) {
        if (strcmp(key, "__metadata__")) {
            if ((rc = parse_tensor(f, key, entry, &f->tensors[f->count])) < 0)
                return rc;
            f->count++;
            continue;
        }
        if (!json_is_object(entry))
            return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a valid safetensors "
                            "file: its metadata are no object", f->reader.path);
        json_object_foreach(entry, name, text)
            if (!json_is_string(text))
                return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a valid safetensors "
                                "file: its metadata entry '%.200s' is no text",
                                f->reader.path, name);
    }
    qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_offset);
    for (int i = 0; i < f->count; i++) {
        const struct safetensor *t = &f->tensors[i];
        if (t->begin != end)
            return malformed(f, t->begin < end ? "overlaps another" : "follows a gap", t->name);
        if (t->end > data_size)
            return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s ends early: tensor '%.200s' "
                            "needs bytes up to %" PRIu64 ", it has %" PRIu64,
                            f->reader.path, t->name, f->data + t->end, f->reader.size);
        end = t->end;
    }
    if (end != data_size)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a valid safetensors file: its "
                        "tensors end at byte %" PRIu64 ", the file at %" PRIu64,
                        f->reader.path, f->data + end, f->reader.size);
    return EBM_OK;
}

static int parse_json(struct safetensors *f, const char *text)
{
    json_error_t error;

    if (text[0] != '{')
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a safetensors file: its header "
                        "does not start with '{'", f->reader.path);
    f->header = json_loadb(text, (size_t)f->header_size, JSON_REJECT_DUPLICATES, &error);
    if (f->header)
        return EBM_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return ebm_fail_memory(f->ctx, "the header of a safetensors file",
                               (size_t)f->header_size);
    return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a valid safetensors file: its "
                    "header, at byte %d: %s", f->reader.path, 8 + error.position, error.text);
}

static int read_header(struct safetensors *f)
{
    uint8_t length[8];
    int rc;

    if (f->reader.size < 8)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a safetensors file: it has "
                        "only %" PRIu64 " bytes", f->reader.path, f->reader.size);
    if ((rc = io_read(&f->reader, 0, length, sizeof length)) < 0)
        return rc;
    f->header_size = little_endian(length, 8);
    if (f->header_size > max_header || f->header_size > f->reader.size - 8)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s is not a safetensors file, or was "
                        "cut: its header would have %" PRIu64 " bytes, the file has %"
                        PRIu64, f->reader.path, f->header_size, f->reader.size);
    f->data = 8 + f->header_size;
    char *text = mem_new(f->ctx, (size_t)f->header_size + 1, 1);
    if (!text)
        return EBM_ERR_NOMEM;
    if ((rc = io_read(&f->reader, 8, text, (size_t)f->header_size)) == EBM_OK)
        rc = parse_json(f, text);
    mem_free(f->ctx, text);
    return rc;
}

/* Take over an open reader, or close it. */
static int open_reader(ebm_context *ctx, struct io_reader *reader, struct safetensors **file)
{
    struct safetensors *f = mem_new(ctx, 1, sizeof *f);
    int rc;

    if (!f) {
        io_close(reader);
        return EBM_ERR_NOMEM;
    }
    f->ctx = ctx;
    f->reader = *reader;
    if ((rc = read_header(f)) < 0 || (rc = parse_header(f)) < 0) {
        safetensors_close(f);
        return rc;
    }
    *file = f;
    return EBM_OK;
}

int safetensors_open(ebm_context *ctx, const char *path, struct safetensors **file)
{
    struct io_reader reader;
    int rc = io_open(ctx, path, &reader);

    *file = NULL;
    return rc < 0 ? rc : open_reader(ctx, &reader, file);
}

int safetensors_open_memory(ebm_context *ctx, const void *bytes, size_t size,
                            const char *name, struct safetensors **file)
{
    struct io_reader reader;
    int rc = io_open_memory(ctx, bytes, size, name, &reader);

    *file = NULL;
    return rc < 0 ? rc : open_reader(ctx, &reader, file);
}

void safetensors_close(struct safetensors *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->count; i++)
        mem_free(f->ctx, f->tensors[i].name);
    mem_free(f->ctx, f->tensors);
    json_decref(f->header);
    io_close(&f->reader);
    mem_free(f->ctx, f);
}

int safetensors_count(const struct safetensors *f)
{
    return f->count;
}

const struct safetensor *safetensors_at(const struct safetensors *f, int index)
{
    return &f->tensors[index];
}

const struct safetensor *safetensors_find(const struct safetensors *f, const char *name)
{
    for (int i = 0; i < f->count; i++)
        if (!strcmp(f->tensors[i].name, name))
            return &f->tensors[i];
    return NULL;
}

const char *safetensors_dtype_name(enum safetensors_dtype dtype)
{
    return dtypes[dtype].name;
}

const char *safetensors_path(const struct safetensors *f)
{
    return f->reader.path;
}

const char *safetensors_metadata(const struct safetensors *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

bool safetensors_metadata_at(const struct safetensors *f, int index,
                             const char **key, const char **text)
{
    json_t *metadata = json_object_get(f->header, "__metadata__");
    void *at = json_object_iter(metadata);

    for (; at && index > 0; index--)
        at = json_object_iter_next(metadata, at);
    if (!at || index < 0)
        return false;
    *key = json_object_iter_key(at);
    *text = json_string_value(json_object_iter_value(at));
    return true;
}

/* --- elements --- */

static float half_to_float(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float v = exponent == 31 ? (fraction ? NAN : INFINITY)
            : exponent ? ldexpf((float)(1024 + fraction), exponent - 25)
            : ldexpf((float)fraction, -24);

    return h & 0x8000 ? -v : v;
}

static float bits_to_float(uint32_t bits)
{
    float v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static double bits_to_double(uint64_t bits)
{
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}

/* A whole number; false of types that are not. */
static bool whole_of(enum safetensors_dtype from, uint64_t bits, int64_t *whole)
{
    switch (from) {
    case SAFETENSORS_I64: *whole = (int64_t)bits; break;
    case SAFETENSORS_I32: *whole = (int32_t)(uint32_t)bits; break;
    case SAFETENSORS_I16: *whole = (int16_t)(uint16_t)bits; break;
    case SAFETENSORS_I8:  *whole = (int8_t)(uint8_t)bits; break;
    case SAFETENSORS_U16:
    case SAFETENSORS_U8:  *whole = (int64_t)bits; break;
    default: return false;
    }
    return true;
}

static bool real_of(enum safetensors_dtype from, uint64_t bits, float *real)
{
    switch (from) {
    case SAFETENSORS_F32:  *real = bits_to_float((uint32_t)bits); break;
    case SAFETENSORS_BF16: *real = bits_to_float((uint32_t)bits << 16); break;
    case SAFETENSORS_F16:  *real = half_to_float((uint16_t)bits); break;
    case SAFETENSORS_F64:  *real = (float)bits_to_double(bits); break;
    default: return false;
    }
    return true;
}

uint64_t safetensors_at_byte(const struct safetensors *f, const struct safetensor *t)
{
    return f->data + t->begin;
}

float safetensors_to_float(enum safetensors_dtype dtype, const uint8_t *p)
{
    uint64_t bits = little_endian(p, dtypes[dtype].size);
    int64_t whole;
    float real;

    if (real_of(dtype, bits, &real))
        return real;
    return whole_of(dtype, bits, &whole) ? (float)whole : (float)bits;
}

int safetensors_dtype_size(enum safetensors_dtype dtype)
{
    return dtypes[dtype].size;
}

/* One element of the file as the type asked for; 0: the types do not go
 * together, -1: the number does not fit. */
static int convert(enum safetensors_dtype from, const uint8_t *p, enum ebm_type to, void *out)
{
    uint64_t bits = little_endian(p, dtypes[from].size);
    float real;
    int64_t whole;

    if (to == EBM_F32) {
        if (!real_of(from, bits, &real))
            return 0;
        memcpy(out, &real, sizeof real);
        return 1;
    }
    if (to == EBM_U8) {
        if (from != SAFETENSORS_U8 && from != SAFETENSORS_BOOL)
            return 0;
        if (from == SAFETENSORS_BOOL && bits > 1)
            return -1;
        *(uint8_t *)out = (uint8_t)bits;
        return 1;
    }
    if (!whole_of(from, bits, &whole))
        return 0;
    if (whole < INT32_MIN || whole > INT32_MAX)
        return -1;
    int32_t narrow = (int32_t)whole;
    memcpy(out, &narrow, sizeof narrow);
    return 1;
}

static size_t type_size(enum ebm_type type)
{
    return type == EBM_U8 ? 1 : 4;
}

static bool little_endian_host(void)
{
    const uint16_t one = 1;
    uint8_t first;

    memcpy(&first, &one, 1);
    return first == 1;
}

int safetensors_read(struct safetensors *f, const struct safetensor *t,
                     enum ebm_type type, void *to, size_t size)
{
    static const char *const asked[] = { "float", "int32", "byte" };
    size_t in = (size_t)dtypes[t->dtype].size, out = type_size(type), need;
    uint8_t chunk[CHUNK], probe[8], *p = to;
    uint64_t at = f->data + t->begin;
    int64_t left = t->elements;

    if ((uint64_t)left > SIZE_MAX || !size_mul((size_t)left, out, &need) || need != size)
        return ebm_fail(f->ctx, EBM_ERR_ARG, "%s: tensor '%.200s' has %" PRId64
                        " elements of %zu bytes, room is for %zu bytes",
                        f->reader.path, t->name, left, out, size);
    memset(chunk, 0, 8);
    if (convert(t->dtype, chunk, type, probe) == 0)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: tensor '%.200s' is of %s and cannot "
                        "be read as %s", f->reader.path, t->name,
                        dtypes[t->dtype].name, asked[type]);
    if (little_endian_host() && ((t->dtype == SAFETENSORS_F32 && type == EBM_F32)
        || (t->dtype == SAFETENSORS_I32 && type == EBM_I32)
        || (t->dtype == SAFETENSORS_U8 && type == EBM_U8)))
        return io_read(&f->reader, at, to, size);

    while (left > 0) {
        size_t n = left < (int64_t)(CHUNK / in) ? (size_t)left : CHUNK / in;
        int rc = io_read(&f->reader, at, chunk, n * in);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < n; i++, p += out)
            if (convert(t->dtype, chunk + i * in, type, p) < 0)
                return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: tensor '%.200s' holds a "
                                "number that does not fit %s", f->reader.path, t->name,
                                asked[type]);
        at += n * in;
        left -= (int64_t)n;
    }
    return EBM_OK;
}

static void shape_text(char *text, size_t size, int rank, const int64_t *shape)
{
    size_t n = (size_t)snprintf(text, size, "[");

    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%" PRId64, i ? "," : "", shape[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
}

int safetensors_read_shaped(struct safetensors *f, const char *name, enum ebm_type type,
                            int rank, const int64_t *shape, void *to)
{
    const struct safetensor *t = safetensors_find(f, name);
    char has[200], needs[200];

    if (!t)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s has no tensor '%.200s'",
                        f->reader.path, name);
    if (rank != t->rank || (rank && memcmp(shape, t->shape, (size_t)rank * sizeof *shape))) {
        shape_text(has, sizeof has, t->rank, t->shape);
        shape_text(needs, sizeof needs, rank, shape);
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: tensor '%.200s' has the shape %s, "
                        "%s is needed", f->reader.path, name, has, needs);
    }
    return safetensors_read(f, t, type, to, (size_t)t->elements * type_size(type));
}

/* --- checksum --- */

/* Where the digits of the checksum stand in the header, or NULL.  A quote inside
 * a name is written \", so that the pattern is only found where it is meant. */
static char *find_digits(char *header, const char *sum)
{
    char *at = header;

    while ((at = strstr(at, "\"sha256\"")) != NULL) {
        at += 8;
        at += strspn(at, " \t\r\n");
        if (*at != ':')
            continue;
        at += 1 + strspn(at + 1, " \t\r\n");
        if (*at == '"' && !strncmp(at + 1, sum, 64) && at[65] == '"')
            return at + 1;
    }
    return NULL;
}

int safetensors_digest(struct safetensors *f, char text[SHA256_TEXT])
{
    const char *sum = safetensors_metadata(f, "sha256");
    struct sha256 h;
    uint8_t chunk[CHUNK];
    int rc;

    char *header = mem_new(f->ctx, (size_t)f->data + 1, 1);
    if (!header)
        return EBM_ERR_NOMEM;
    rc = io_read(&f->reader, 0, header, (size_t)f->data);
    if (rc == EBM_OK && sum && strlen(sum) == 64) {
        char *digits = find_digits(header + 8, sum);
        if (digits)
            memset(digits, '0', 64);
    }
    sha256_begin(&h);
    if (rc == EBM_OK)
        sha256_add(&h, header, (size_t)f->data);
    mem_free(f->ctx, header);
    for (uint64_t at = f->data; rc == EBM_OK && at < f->reader.size; ) {
        uint64_t left = f->reader.size - at;
        size_t n = left < CHUNK ? (size_t)left : CHUNK;
        rc = io_read(&f->reader, at, chunk, n);
        sha256_add(&h, chunk, n);
        at += n;
    }
    sha256_end(&h, text);
    return rc;
}

int safetensors_verify(struct safetensors *f)
{
    char actual[SHA256_TEXT];
    int rc = safetensors_digest(f, actual);

    return rc < 0 ? rc : safetensors_compare(f, actual);
}

int safetensors_compare(const struct safetensors *f, const char *actual)
{
    const char *sum = safetensors_metadata(f, "sha256");

    if (!sum)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s has no checksum: it was not written "
                        "by this library, or was written again", f->reader.path);
    if (strcmp(sum, actual))
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s was altered or damaged: its checksum "
                        "is %.12s..., %.12s... was written", f->reader.path, actual, sum);
    return EBM_OK;
}
