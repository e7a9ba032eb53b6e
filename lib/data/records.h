/* records.h - images as records of one size: what IDX, CIFAR and NPY have in
 * common.
 *
 * SPDX-License-Identifier: ISC
 *
 *   part:  first | record 0 | record 1 | ... | record count - 1 |
 *   record:        pixels_at | pixels
 *                  <------- stride -------->
 *
 * A part lies in memory or stays in its file.  Parts follow each other. */
#ifndef EBM_RECORDS_H
#define EBM_RECORDS_H

#include "source.h"

enum element {
    ELEMENT_BOOL, ELEMENT_U8, ELEMENT_F16, ELEMENT_F32, ELEMENT_F64
};

struct part {
    char *name;
    uint8_t *bytes;            /* or NULL: in the file */
    struct io_reader file;
    uint64_t first;
    size_t count;
};

struct records {
    struct part *parts;
    size_t n_parts, count;
    size_t height, width, channels;   /* 1, 3; 4: the last is alpha, dropped */
    bool planar;                      /* channels, rows, columns */
    enum element element;
    bool big_endian;
    size_t stride, pixels_at;
    int32_t *labels;                  /* [count] or NULL */
    uint64_t fingerprint;
};

void records_free(ebm_context *ctx, struct records *r);

/* Append the next `count` records of `in`, read up to their first.  The file is
 * taken over if they stay in it. */
int records_append(struct records *r, struct input *in, size_t count);
/* The same for bytes, which are taken over (on failure too). */
int records_adopt(ebm_context *ctx, struct records *r, const char *name,
                  uint8_t *bytes, uint64_t first, size_t count);

/* Bytes of one element. */
size_t element_size(enum element element);

/* Make it the state of a source; on failure too it is taken over.  Sets all of
 * the source but format, splits and class names. */
int records_source(ebm_context *ctx, struct records *r, struct source *source);

#endif
