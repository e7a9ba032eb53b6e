/* npy.c - NumPy's arrays, versions 1 to 3.
 *
 * SPDX-License-Identifier: ISC
 *
 *   93 "NUMPY" major minor | header length, 2 bytes, or 4 from version 2 on |
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (100, 28, 28), } | elements
 *
 * Source: numpy.lib.format.  What the sizes mean, the first that applies:
 *
 *   [n,h,w,c] c = 1, 3, 4     [n,c,h,w] c = 1, 3
 *   [h,w,c]   c = 3, 4        [n,h,w]
 *   [n,d]     d = 3072, 12288: 3 planes of 32 x 32, 64 x 64;  784: 28 x 28
 *   [h,w]  */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include "npy.h"

enum { HEADER_MAX = 10000, TEXT_MAX = 16 };

static const uint8_t magic[] = { 0x93, 'N', 'U', 'M', 'P', 'Y' };

bool npy_is(const uint8_t *head, size_t size)
{
    return size >= sizeof magic && memcmp(head, magic, sizeof magic) == 0;
}

/* --- the dictionary: a cursor, and readers that return false --- */

static void skip_space(const char **p)
{
    while (**p == ' ' || **p == '\n')
        ++*p;
}

static bool take(const char **p, char c)
{
    skip_space(p);
    if (**p != c)
        return false;
    ++*p;
    return true;
}

static bool take_string(const char **p, char *text)
{
    size_t n = 0;
    char quote;

    skip_space(p);
    quote = **p;
    if (quote != '\'' && quote != '"')
        return false;
    for (++*p; **p != quote; ++*p) {
        if (!**p || n == TEXT_MAX - 1)
            return false;
        text[n++] = **p;
    }
    text[n] = '\0';
    ++*p;
    return true;
}

static bool take_number(const char **p, uint64_t *number)
{
    skip_space(p);
    if (!isdigit((unsigned char)**p))
        return false;
    for (*number = 0; isdigit((unsigned char)**p); ++*p) {
        uint64_t digit = (uint64_t)(**p - '0');

        if (*number > (UINT64_MAX - digit) / 10)
            return false;
        *number = *number * 10 + digit;
    }
    return true;
}

static bool take_shape(const char **p, struct npy *npy)
{
    if (!take(p, '('))
        return false;
    npy->rank = 0;
    while (!take(p, ')')) {
        if (npy->rank == NPY_RANK_MAX || !take_number(p, &npy->shape[npy->rank]))
            return false;
        npy->rank++;
        if (!take(p, ',') && **p != ')')
            return false;
    }
    return true;
}

static bool take_order(const char **p, bool *fortran)
{
    skip_space(p);
    *fortran = **p == 'T';
    const char *word = *fortran ? "True" : "False";
    if (strncmp(*p, word, strlen(word)) != 0)
        return false;
    *p += strlen(word);
    return true;
}

static bool take_dictionary(const char *p, char *descr, bool *fortran, struct npy *npy)
{
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    unsigned seen = 0;
    char key[TEXT_MAX];

    if (!take(&p, '{'))
        return false;
    while (!take(&p, '}')) {
        unsigned one;
        bool good;

        if (!take_string(&p, key) || !take(&p, ':'))
            return false;
        if (strcmp(key, "descr") == 0)
            one = DESCR, good = take_string(&p, descr);
        else if (strcmp(key, "fortran_order") == 0)
            one = ORDER, good = take_order(&p, fortran);
        else if (strcmp(key, "shape") == 0)
            one = SHAPE, good = take_shape(&p, npy);
        else
            return false;
        if (!good || seen & one)
            return false;
        seen |= one;
        if (!take(&p, ',') && *p != '}')
            return false;
    }
    skip_space(&p);
    return seen == (DESCR | ORDER | SHAPE) && *p == '\0';
}

/* '<f4' */
static bool take_descr(const char *descr, struct npy *npy)
{
    if (strlen(descr) != 3 || !strchr("<>|=", descr[0]) || !strchr("biuf", descr[1])
        || !strchr("1248", descr[2]))
        return false;
    npy->big_endian = descr[0] == '>';
    npy->kind = descr[1];
    npy->size = (unsigned)(descr[2] - '0');
    return npy->kind != 'f' || npy->size > 1;
}

int npy_header(struct input *in, struct npy *npy)
{
    uint8_t start[12];
    char text[HEADER_MAX + 1], descr[TEXT_MAX] = "";
    size_t got, length, size;
    bool fortran = false;
    int rc;

    memset(npy, 0, sizeof *npy);
    if ((rc = input_read(in, start, 10, &got)) < 0)
        return rc;
    if (got < 10 || !npy_is(start, got) || start[6] < 1 || start[6] > 3)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: not an NPY array of version 1 to 3",
                        in->name);
    length = start[8] | (size_t)start[9] << 8;
    size = 10;
    if (start[6] > 1) {
        if ((rc = input_read(in, start + 10, 2, &got)) < 0)
            return rc;
        length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
        size += got;
    }
    if (length > HEADER_MAX)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: an NPY header of %zu bytes; at most %d "
                        "are read", in->name, length, HEADER_MAX);
    if ((rc = input_read(in, text, length, &got)) < 0)
        return rc;
    if (got < length)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: ends within its NPY header, after %zu "
                        "bytes of %zu", in->name, size + got, size + length);
    text[length] = '\0';
    if (strlen(text) != length || !take_dictionary(text, descr, &fortran, npy))
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: its NPY header is not of the form "
                        "{'descr': '...', 'fortran_order': ..., 'shape': (...)}", in->name);
    if (!take_descr(descr, npy))
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: elements of type '%s'; bytes (|u1) "
                        "or floats (<f4) are read: store a.astype(numpy.uint8)", in->name,
                        descr);
    if (fortran)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: stored in Fortran order; store "
                        "numpy.ascontiguousarray(a)", in->name);
    return EBM_OK;
}

/* --- images --- */

static bool one_of(uint64_t n, uint64_t a, uint64_t b, uint64_t c)
{
    return n == a || n == b || n == c;
}

/* n, h, w, c of the array; false if it is none of the forms. */
static bool interpret(const struct npy *npy, uint64_t size[4], bool *planar)
{
    static const struct { uint64_t d, side, channels; } flat[] = {
        { 3072, 32, 3 }, { 12288, 64, 3 }, { 784, 28, 1 },
    };
    const uint64_t *s = npy->shape;
    const uint64_t d = npy->rank == 2 ? s[1] : 0;
    uint64_t form[4] = { 1, 0, 0, 1 };
    size_t i;

    *planar = false;
    if (npy->rank == 4 && one_of(s[3], 1, 3, 4)) {
        memcpy(form, s, sizeof form);
    } else if (npy->rank == 4 && one_of(s[1], 1, 3, 3)) {
        form[0] = s[0], form[1] = s[2], form[2] = s[3], form[3] = s[1];
        *planar = true;
    } else if (npy->rank == 3 && one_of(s[2], 3, 4, 4)) {
        memcpy(form + 1, s, 3 * sizeof *s);
    } else if (npy->rank == 3) {
        memcpy(form, s, 3 * sizeof *s);
    } else if (npy->rank == 2) {
        form[1] = s[0], form[2] = s[1];
        for (i = 0; i < COUNT(flat); i++)
            if (d == flat[i].d) {
                form[0] = s[0];
                form[1] = form[2] = flat[i].side;
                form[3] = flat[i].channels;
                *planar = true;
            }
    } else {
        return false;
    }
    memcpy(size, form, sizeof form);
    return true;
}

int npy_layout(ebm_context *ctx, const char *name, const struct npy *npy,
               struct records *r, size_t *count)
{
    uint64_t size[4];
    enum element element;
    bool planar;
    int rc;

    if (npy->kind == 'b' && npy->size == 1)
        element = ELEMENT_BOOL;
    else if (npy->kind == 'u' && npy->size == 1)
        element = ELEMENT_U8;
    else if (npy->kind == 'f')
        element = npy->size == 2 ? ELEMENT_F16 : npy->size == 4 ? ELEMENT_F32 : ELEMENT_F64;
    else
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: integers of %u bytes are no pixels; store "
                        "a.astype(numpy.uint8), or floats in [0,1]", name, npy->size);
    if (!interpret(npy, size, &planar))
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: an array of %d dimensions is not images: "
                        "[n,h,w,c], [n,c,h,w], [n,h,w], [h,w,c] or [h,w], c being 1 or 3, "
                        "are", name, npy->rank);
    if ((rc = image_check_size(ctx, name, size[1], size[2])) < 0)
        return rc;
    if (size[0] > SIZE_MAX)
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: %" PRIu64 " images are more than this "
                        "machine can address", name, size[0]);
    *count = (size_t)size[0];
    if (r->n_parts) {
        if (r->height != size[1] || r->width != size[2] || r->channels != size[3]
            || r->element != element || r->planar != planar
            || r->big_endian != npy->big_endian)
            return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: its images are not of the form of "
                            "those in %s", name, r->parts[0].name);
        return EBM_OK;
    }
    r->height = (size_t)size[1];
    r->width = (size_t)size[2];
    r->channels = (size_t)size[3];
    r->planar = planar;
    r->element = element;
    r->big_endian = npy->big_endian;
    r->stride = r->height * r->width * r->channels * element_size(element);
    return EBM_OK;
}

int npy_open(struct input *in, struct source *source)
{
    ebm_context *ctx = in->ctx;
    struct records r = { 0 };
    struct npy npy;
    size_t count = 0;
    int rc;

    if ((rc = npy_header(in, &npy)) < 0
        || (rc = npy_layout(ctx, in->name, &npy, &r, &count)) < 0
        || (rc = records_append(&r, in, count)) < 0
        || (rc = input_end(in)) < 0) {
        records_free(ctx, &r);
        return rc;
    }
    rc = records_source(ctx, &r, source);
    source->format = "NPY";
    source->splits = SPLIT_TRAIN;
    return rc;
}
