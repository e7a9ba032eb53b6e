/* safetensors.h - named tensors in one file that any tool can open.
 *
 * SPDX-License-Identifier: ISC
 *
 *   u64 N | N bytes of JSON, padded with spaces          | data
 *         | {"__metadata__":{"key":"text"},              | 64-byte aligned,
 *         |  "name":{"dtype":"F32","shape":[2,3],        | little-endian,
 *         |          "data_offsets":[begin,end]}, ...}   | no gaps
 *
 * Reading trusts nothing: everything the header says is checked before any
 * memory is taken on its word. */
#ifndef EBM_SAFETENSORS_H
#define EBM_SAFETENSORS_H

#include "io.h"
#include "sha256.h"

enum safetensors_dtype {
    SAFETENSORS_BOOL, SAFETENSORS_U8, SAFETENSORS_I8, SAFETENSORS_I16,
    SAFETENSORS_U16, SAFETENSORS_F16, SAFETENSORS_BF16, SAFETENSORS_I32,
    SAFETENSORS_U32, SAFETENSORS_F32, SAFETENSORS_I64, SAFETENSORS_U64,
    SAFETENSORS_F64
};
enum { SAFETENSORS_MAX_RANK = 8 };

struct safetensor {
    char *name;
    enum safetensors_dtype dtype;
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    int64_t elements;
    uint64_t begin, end;          /* bytes from the start of the data */
};

/* Reading ---------------------------------------------------------------- */

struct safetensors;

/* Open a file and check its header.
 * EBM_ERR_IO, EBM_ERR_FORMAT (what is malformed, where) or EBM_ERR_NOMEM. */
int safetensors_open(ebm_context *ctx, const char *path, struct safetensors **file);
/* The same of bytes in memory, which outlive the file; name: for messages. */
int safetensors_open_memory(ebm_context *ctx, const void *bytes, size_t size,
                            const char *name, struct safetensors **file);
void safetensors_close(struct safetensors *file);          /* NULL is allowed */

/* Tensors by index, in the order of their data; by name, NULL where absent.
 * They belong to the file. */
int safetensors_count(const struct safetensors *file);
const struct safetensor *safetensors_at(const struct safetensors *file, int index);
const struct safetensor *safetensors_find(const struct safetensors *file, const char *name);
const char *safetensors_dtype_name(enum safetensors_dtype dtype);   /* "F32" */
int safetensors_dtype_size(enum safetensors_dtype dtype);           /* bytes */
uint64_t safetensors_at_byte(const struct safetensors *file, const struct safetensor *tensor);
/* The little-endian element at p, rounded. */
float safetensors_to_float(enum safetensors_dtype dtype, const uint8_t *p);
const char *safetensors_path(const struct safetensors *file);

/* Metadata: the text under a key, NULL where absent; all of them by index
 * (false beyond the last). */
const char *safetensors_metadata(const struct safetensors *file, const char *key);
bool safetensors_metadata_at(const struct safetensors *file, int index,
                             const char **key, const char **text);

/* Read a tensor as `type`; size is that of the result and is checked.
 *   EBM_F32  from F32, F64, F16, BF16 (rounded to nearest)
 *   EBM_I32  from I32, I64 (EBM_ERR_FORMAT if a number does not fit), I16, U16, I8, U8
 *   EBM_U8   from U8, BOOL */
int safetensors_read(struct safetensors *file, const struct safetensor *tensor,
                     enum ebm_type type, void *to, size_t size);
/* The same by name and shape: for weights, whose shape is known.  An absent
 * name or another shape is EBM_ERR_FORMAT, worded with both shapes. */
int safetensors_read_shaped(struct safetensors *file, const char *name,
                            enum ebm_type type, int rank, const int64_t *shape,
                            void *to);

/* The checksum: the metadata entry "sha256" is that of the whole file, itself
 * taken as 64 zeros.  verify: EBM_ERR_FORMAT where it is absent or differs.
 * digest: the actual one of the file, checked or not; compare: checks it. */
int safetensors_verify(struct safetensors *file);
int safetensors_compare(const struct safetensors *file, const char *actual);
int safetensors_digest(struct safetensors *file, char text[SHA256_TEXT]);

/* Writing ---------------------------------------------------------------- */

struct safetensors_writer;

/* A writer collects, safetensors_write() writes.  The adding calls latch the
 * first error, which safetensors_write() returns: nothing to check in between.
 * The same calls make the same bytes. */
int safetensors_writer_new(ebm_context *ctx, struct safetensors_writer **writer);
void safetensors_writer_free(struct safetensors_writer *writer);  /* NULL is allowed */

/* Key and text are copied; a key given again replaces its text. */
void safetensors_add_metadata(struct safetensors_writer *writer,
                              const char *key, const char *text);

/* A tensor whose elements lie in `data` until the writing is done. */
void safetensors_add(struct safetensors_writer *writer, const char *name,
                     enum ebm_type type, int rank, const int64_t *shape,
                     const void *data);
/* A tensor that is fetched when its turn comes, in pieces of whole elements, so
 * that a small buffer serves all: fetch(user, name, offset, to, size) fills `to`
 * with its bytes from `offset` on, or returns a status. */
typedef int safetensors_fetch(void *user, const char *name, size_t offset, void *to, size_t size);
void safetensors_add_fetched(struct safetensors_writer *writer, const char *name,
                             enum ebm_type type, int rank, const int64_t *shape,
                             safetensors_fetch *fetch, void *user);

/* Write everything to path, atomically, with the checksum under "sha256".
 * digest, if not NULL, receives it.  The writer can be written again. */
int safetensors_write(struct safetensors_writer *writer, const char *path,
                      char digest[SHA256_TEXT]);

#endif
