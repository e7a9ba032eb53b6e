/* input.h - the bytes of a file, plain or gzip, or of a block of memory.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_INPUT_H
#define EBM_INPUT_H

#include <zlib.h>
#include "io.h"

enum { INPUT_HEAD = 16 };

struct input {
    ebm_context *ctx;
    const char *name;           /* for messages; the caller's */
    struct io_reader file;      /* unless memory */
    const uint8_t *memory;
    uint64_t size;              /* of the file */
    bool gzip;
    uint8_t head[INPUT_HEAD];   /* the first bytes, decompressed */
    size_t head_size;
    uint64_t position;          /* in the content: the next byte to be read */
    z_stream z;
    bool z_ready, z_ended;
    uint64_t z_position;        /* in the file: the next byte for z */
    uint8_t *chunk;             /* z's input */
};

/* Open a file, or the caller's bytes, and read the head.  On failure nothing is
 * left open. */
int input_open(ebm_context *ctx, const char *path, struct input *in);
int input_memory(ebm_context *ctx, const char *name, const uint8_t *bytes,
                 size_t size, struct input *in);
void input_close(struct input *in);

/* The next bytes of the content; *got < size only at its end. */
int input_read(struct input *in, void *to, size_t size, size_t *got);
int input_rewind(struct input *in);
/* EBM_ERR_FORMAT unless all content has been read, or the file was taken over. */
int input_end(struct input *in);

/* Bytes of the file as they lie there; beyond its end is EBM_ERR_FORMAT. */
int input_at(struct input *in, uint64_t offset, void *to, size_t size);

/* The most bytes that the content can have. */
uint64_t input_bound(const struct input *in);

/* FNV-1a, 64 bits: fingerprints. */
#define FINGERPRINT_START UINT64_C(0xcbf29ce484222325)
uint64_t fingerprint(uint64_t hash, const void *bytes, size_t size);

#endif
