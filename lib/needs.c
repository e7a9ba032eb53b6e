/* needs.c - see needs.h.
 *
 * SPDX-License-Identifier: ISC */
#include "needs.h"
#include "program.h"

/* Pages of code and of libraries' own data that a process has touched when it has
 * taken some steps, beyond those of one that has only started: measured on x86-64
 * with glibc (tests/test_memory.c). */
enum { CODE_BYTES = 3 << 20 };

struct needs needs_of(const ebm_backend *backend, int n, ebm_store *const *stores, size_t more)
{
    struct needs needs = { .programs = programs_waiting_bytes(backend), .held = mem_held(backend->ctx),
                           .more = more, .code = CODE_BYTES };

    for (int i = 0; i < n; i++)
        needs.stores += ebm_store_bytes(stores[i]);
    return needs;
}

size_t needs_all(const struct needs *needs)
{
    return needs->stores + needs->programs + needs->held + needs->more + needs->code;
}

/* A finer cut gains little: weights and buffers are not cut, and programs grow. */
enum { MOST_PARTS = 16 };

static double mib(size_t bytes)
{
    return (double)bytes / (1 << 20);
}

int needs_fit(const struct needs_fit *fit)
{
    size_t least = SIZE_MAX;
    int64_t of_least = 0;
    int status;

    for (int64_t parts = 1; parts <= MOST_PARTS && parts <= fit->batch; parts++) {
        int64_t part = parts == 1 ? 0 : fit->batch / parts;
        struct needs needs;
        if (fit->batch % parts)
            continue;
        if ((status = fit->make(fit->user, part, &needs)) < 0)
            return status;
        size_t all = needs_all(&needs);
        if (fit->limit == 0 || all <= fit->limit) {
            if (part)
                ebm_note(fit->ctx, EBM_LOG_INFO, "%.1f MiB: batches of %lld are computed %lld at a time",
                         mib(all), (long long)fit->batch, (long long)part);
            return EBM_OK;
        }
        if (all < least) {
            least = all;
            of_least = part;
        }
    }
    if (of_least == 0)
        of_least = fit->batch;
    return ebm_fail(fit->ctx, EBM_ERR_NOMEM, "%s needs at least %.1f MiB, with %lld of %lld images at a time, "
                    "and %.1f are allowed: %s", fit->whose, mib(least), (long long)of_least,
                    (long long)fit->batch, mib(fit->limit), fit->advice);
}
