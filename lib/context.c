/* context.c - errors, memory and log.
 *
 * SPDX-License-Identifier: ISC
 *
 * Memory comes from the caller's allocator, each block preceded by the pointer
 * that was got, so that all blocks are aligned for vector loads, and by its size:
 *
 *   got ... | got's address, size | block, aligned to 64 bytes ...
 */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_SYS_MMAN_H
#include <sys/mman.h>
#endif
#include "context.h"

enum { ALIGNMENT = 64, MESSAGE_SIZE = 1024 };

/* Blocks from this size on have pages of this size inside, if the system has them: they
 * are made with a 512th of the faults, and found with as many fewer misses. */
enum { LARGE_BLOCK = 4 << 20, LARGE_PAGE = 2 << 20 };

struct block {
    void *got;
    size_t size;             /* of all that was got */
};

struct ebm_context {
    ebm_host host;
    size_t bytes;            /* held now */
    char message[MESSAGE_SIZE];
};

/* The whole pages inside a block; where that is refused, the block is as good. */
static void want_large_pages(char *at, size_t size)
{
#ifdef MADV_HUGEPAGE
    uintptr_t first = ((uintptr_t)at + LARGE_PAGE - 1) / LARGE_PAGE, end = ((uintptr_t)at + size) / LARGE_PAGE;

    madvise((void *)(first * LARGE_PAGE), (end - first) * LARGE_PAGE, MADV_HUGEPAGE);
#else
    (void)at;
    (void)size;
#endif
}

static void *host_alloc(void *user, size_t size)
{
    void *block = malloc(size);

    (void)user;
    if (block && size >= LARGE_BLOCK)
        want_large_pages(block, size);
    return block;
}

static void host_release(void *user, void *ptr)
{
    (void)user;
    free(ptr);
}

const char *ebm_version(void)
{
    return PACKAGE_VERSION;
}

const char *ebm_status_name(int status)
{
    static const char *const names[] = {
        "ok", "argument", "format", "input/output", "memory", "device",
        "diverged", "stopped", "internal",
    };
    if (status > 0)
        status = 0;
    return -status < (int)COUNT(names) ? names[-status] : "unknown";
}

int ebm_context_new(const ebm_host *host, ebm_context **context)
{
    ebm_host h = { host_alloc, host_release, NULL, NULL };

    *context = NULL;
    if (host) {
        if (host->alloc) {
            h.alloc = host->alloc;
            h.release = host->release;
        }
        h.log = host->log;
        h.user = host->user;
    }
    ebm_context *ctx = h.alloc(h.user, sizeof *ctx);
    if (!ctx)
        return EBM_ERR_NOMEM;
    memset(ctx, 0, sizeof *ctx);
    ctx->host = h;
    *context = ctx;
    return EBM_OK;
}

int context_like(const ebm_context *model, ebm_context **context)
{
    ebm_host host = model->host;

    host.log = NULL;
    return ebm_context_new(&host, context);
}

void ebm_context_free(ebm_context *ctx)
{
    if (ctx)
        ctx->host.release(ctx->host.user, ctx);
}

const char *ebm_message(const ebm_context *ctx)
{
    return ctx->message;
}

int ebm_fail(ebm_context *ctx, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(ctx->message, sizeof ctx->message, format, args);
    va_end(args);
    return status;
}

int ebm_fail_memory(ebm_context *ctx, const char *what, size_t size)
{
    return ebm_fail(ctx, EBM_ERR_NOMEM, "no memory for %s (%zu bytes)", what, size);
}

void ebm_note(ebm_context *ctx, int level, const char *format, ...)
{
    char line[MESSAGE_SIZE];
    va_list args;

    if (!ctx->host.log)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->host.log(ctx->host.user, level, line);
}

void *mem_new(ebm_context *ctx, size_t count, size_t size)
{
    const size_t extra = ALIGNMENT + sizeof(struct block);
    size_t bytes;

    if (!size_mul(count, size, &bytes) || bytes > SIZE_MAX - extra) {
        ebm_fail(ctx, EBM_ERR_NOMEM, "%zu elements of %zu bytes are more than "
                 "this machine can address", count, size);
        return NULL;
    }
    char *got = ctx->host.alloc(ctx->host.user, bytes + extra);
    if (!got) {
        ebm_fail(ctx, EBM_ERR_NOMEM, "no memory for %zu more bytes", bytes);
        return NULL;
    }
    uintptr_t at = ((uintptr_t)got + extra) & ~(uintptr_t)(ALIGNMENT - 1);
    struct block *block = (struct block *)at;
    block[-1] = (struct block){ got, bytes + extra };
    ctx->bytes += bytes + extra;
    return memset(block, 0, bytes);
}

void *mem_grow(ebm_context *ctx, void *ptr, size_t old, size_t count, size_t size)
{
    void *block = mem_new(ctx, count, size);

    if (block && ptr) {
        memcpy(block, ptr, old * size);
        mem_free(ctx, ptr);
    }
    return block;
}

void mem_free(ebm_context *ctx, void *ptr)
{
    if (!ptr)
        return;
    const struct block *block = (struct block *)ptr - 1;
    ctx->bytes -= block->size;
    ctx->host.release(ctx->host.user, block->got);
}

size_t mem_held(const ebm_context *ctx)
{
    return ctx->bytes;
}

char *mem_strdup(ebm_context *ctx, const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = mem_new(ctx, size, 1);

    return copy ? memcpy(copy, s, size) : NULL;
}

char *mem_printf(ebm_context *ctx, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    char *s = n < 0 ? NULL : mem_new(ctx, (size_t)n + 1, 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return s;
}
