/* context.h - errors, memory and log, as the library's own files see them.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_CONTEXT_H
#define EBM_CONTEXT_H

#include <stdarg.h>
#include "ebm.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

#ifdef __GNUC__
#define PRINTF(m, n) __attribute__((format(printf, m, n)))
#else
#define PRINTF(m, n)
#endif

/* Word an error where it arises; returns status.  Callers pass it up unchanged. */
int ebm_fail(ebm_context *ctx, int status, const char *format, ...) PRINTF(3, 4);
/* The same for an allocation of `what`. */
int ebm_fail_memory(ebm_context *ctx, const char *what, size_t size);

/* A context for another thread, with the allocator of `model` and no log. */
int context_like(const ebm_context *model, ebm_context **context);

/* One line for the caller's log. */
void ebm_note(ebm_context *ctx, int level, const char *format, ...) PRINTF(3, 4);

/* count x size bytes of zeros, 64-byte aligned; NULL with the message set when
 * there is no memory or the product overflows. */
void *mem_new(ebm_context *ctx, size_t count, size_t size);
/* ptr (NULL: nothing yet) grown from `old` to `count` elements, the new ones
 * zero; on failure NULL is returned and ptr is untouched. */
void *mem_grow(ebm_context *ctx, void *ptr, size_t old, size_t count, size_t size);
void mem_free(ebm_context *ctx, void *ptr);
/* Bytes of all blocks of a context that are not free. */
size_t mem_held(const ebm_context *ctx);
char *mem_strdup(ebm_context *ctx, const char *s);
/* A formatted string; NULL as for mem_new. */
char *mem_printf(ebm_context *ctx, const char *format, ...) PRINTF(2, 3);

/* product = a b; false when it does not fit. */
static inline bool size_mul(size_t a, size_t b, size_t *product)
{
    *product = a * b;
    return a == 0 || *product / a == b;
}

#endif
