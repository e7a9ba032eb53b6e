/* backend.h - what the core asks of a device.
 *
 * SPDX-License-Identifier: ISC
 *
 * A backend compiles a whole plan or refuses it, naming the operation.  It
 * knows plans and no graph builders, no methods.  Functions word their errors
 * in the context given at open. */
#ifndef EBM_BACKEND_H
#define EBM_BACKEND_H

#include "plan.h"

struct device_buffer;        /* memory of the device; each backend has its own */
struct device_program;

struct backend_vtable {
    const char *name;
    bool bf16;               /* EBM_BF16 is implemented */
    void (*close)(ebm_backend *b);
    /* Zeroed memory. */
    int (*buffer_new)(ebm_backend *b, size_t size, struct device_buffer **buffer);
    void (*buffer_free)(ebm_backend *b, struct device_buffer *buffer);
    int (*upload)(ebm_backend *b, struct device_buffer *to, size_t offset,
                  const void *from, size_t size);
    int (*download)(ebm_backend *b, struct device_buffer *from, size_t offset,
                    void *to, size_t size);
    /* Bytes that the device has left; NULL: its memory is the host's. */
    size_t (*room)(ebm_backend *b);
    /* What compile() will want: the size of `arena` - the plan's and what steps need
     * besides - what more of it would save time, and the bytes that it takes itself,
     * results and feeds left out.  NULL: the plan's arena, nothing.  arena = SIZE_MAX: a
     * step is too large for the device, and the context's message says which. */
    int (*measure)(ebm_backend *b, const struct plan *plan, size_t *arena, size_t *wish, size_t *own);
    /* arena: shared with other programs. slots: the device buffers of the store, by
     * slot. Both stay where they are for the life of the program. feeds: bytes of each
     * feed (0: not read). */
    int (*compile)(ebm_backend *b, const struct plan *plan, struct device_buffer *arena,
                   struct device_buffer *const *slots, const size_t *feeds,
                   struct device_program **program);
    void (*program_free)(ebm_backend *b, struct device_program *program);
    int (*feed)(ebm_backend *b, struct device_program *program, int index, const void *from, size_t size);
    int (*run)(ebm_backend *b, struct device_program *program, int times);
    int (*fetch)(ebm_backend *b, struct device_program *program,
                 const struct place *place, void *to, size_t size);
    /* For profiles; NULL: cannot.  time_steps: from now on, add the seconds of
     * each step to seconds[step], those of the copies to seconds[n_steps]. */
    void (*time_steps)(ebm_backend *b, struct device_program *program, double *seconds);
    int (*peaks)(ebm_backend *b, ebm_peaks *peaks);
};

struct profile;              /* profile.h */

enum { DESCRIPTION = 400 };

struct ebm_backend {
    const struct backend_vtable *v;
    ebm_context *ctx;
    char description[DESCRIPTION];
    /* When steps are done block by block (strip.c): bytes that a block may take, 0 if
     * the backend runs no strips; the fewest blocks, and the fewest bytes of a strip
     * that is worth it. */
    struct strip_rules { size_t block_bytes, least_bytes; int64_t least_blocks; } strips;
    size_t piece;                /* no value crosses a multiple of it in the arena; 0: may */
    struct profile *profile;     /* NULL: not profiled */
    struct workspace *workspace; /* the arena of programs to come; program.c */
    ebm_program *waiting;        /* programs without memory */
    size_t withheld;             /* bytes of what they wish for that they do not get */
};

/* Openers, one per backend: context, what follows "name:" (or NULL), threads. */
int cpu_open(ebm_context *ctx, const char *device, int threads, ebm_backend **backend);
int vulkan_open(ebm_context *ctx, const char *device, int threads, ebm_backend **backend);
/* How many devices "name:N" can name. */
int vulkan_count(ebm_context *ctx);
/* Whether the environment asks for sums of products alone: EBM_EXACT, not 0. */
bool exact_wanted(void);
/* Whether there may be a GPU, found without the drivers being loaded. */
bool vulkan_likely(void);

#endif
