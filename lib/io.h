/* io.h - files: whole or in ranges, written whole or not at all.
 *
 * SPDX-License-Identifier: ISC
 *
 * The only place of the library that talks to the file system for models,
 * checkpoints and recipes.  Offsets are 64-bit, interrupted and short transfers
 * are continued, messages name the path and the system's reason.
 *
 *   writing "run/model.safetensors"
 *     run/.model.safetensors.4711.tmp   written, fsynced
 *     run/model.safetensors             by rename, then the folder is fsynced
 *
 * Invariant: a name holds its former content or the new one, whole, at any
 * instant, even if the power fails. */
#ifndef EBM_IO_H
#define EBM_IO_H

#include "context.h"

/* Reading. */
struct io_reader {
    ebm_context *ctx;
    char *path;
    int fd;
    const char *memory;        /* instead of a file */
    uint64_t size;
};

/* Opens a regular file; EBM_ERR_IO where it is missing, a folder or forbidden. */
int io_open(ebm_context *ctx, const char *path, struct io_reader *reader);
/* The same for bytes that stay where they are; name: for messages. */
int io_open_memory(ebm_context *ctx, const void *bytes, size_t size, const char *name,
                   struct io_reader *reader);
/* Exactly size bytes from offset; less is EBM_ERR_FORMAT ("ends early"). */
int io_read(struct io_reader *reader, uint64_t offset, void *to, size_t size);
void io_close(struct io_reader *reader);   /* also a zeroed or closed one */

/* A whole file of at most `limit` bytes, with a zero byte after its end; free
 * it with mem_free. */
int io_read_whole(ebm_context *ctx, const char *path, size_t limit,
                  char **text, size_t *size);

/* Writing atomically. */
struct io_writer;
int io_create(ebm_context *ctx, const char *path, struct io_writer **writer);
int io_write(struct io_writer *writer, const void *from, size_t size);
/* Overwrite bytes that have been written. */
int io_rewrite(struct io_writer *writer, uint64_t offset, const void *from, size_t size);
/* Make it durable under its name; the writer is freed in any case. */
int io_commit(struct io_writer *writer);
/* Leave the name as it was; NULL is allowed. */
void io_abandon(struct io_writer *writer);

int io_write_whole(ebm_context *ctx, const char *path, const void *from, size_t size);

/* A log that only grows, one write per record. */
struct io_log;
/* Open or create it and cut it to its first `keep` bytes (fewer than it holds
 * after a run went on beyond its last checkpoint); UINT64_MAX keeps all.  A log
 * shorter than keep is EBM_ERR_FORMAT, one that another process has open for
 * writing EBM_ERR_IO: so two never train in one folder. */
int io_log_open(ebm_context *ctx, const char *path, uint64_t keep, struct io_log **log);
int io_log_write(struct io_log *log, const void *from, size_t size);
int io_log_sync(struct io_log *log);
uint64_t io_log_size(const struct io_log *log);
void io_log_close(struct io_log *log);     /* NULL is allowed */

/* Folders. */
int io_make_folder(ebm_context *ctx, const char *path);     /* and its parents */
bool io_exists(const char *path);                           /* of any kind */
bool io_is_folder(const char *path);
/* "folder/name", freed with mem_free; NULL as for mem_new. */
char *io_join(ebm_context *ctx, const char *folder, const char *name);
/* The names in a folder, sorted by bytes, without "." and ".."; mem_free each
 * and the array, or io_free_names. */
int io_names(ebm_context *ctx, const char *folder, char ***names, int *count);
void io_free_names(ebm_context *ctx, char **names, int count);
/* Remove the temporaries that a killed writer left in a folder. */
int io_sweep(ebm_context *ctx, const char *folder);
int io_remove(ebm_context *ctx, const char *path);

#endif
