/* needs.c - see needs.h.
 *
 * SPDX-License-Identifier: ISC */
#include "needs.h"
#include "program.h"

/* Pages of code and of libraries' own data that a process has touched when it has
 * taken some steps, beyond those of one that has only started: measured on x86-64
 * with glibc (tests/test_memory.c). */
enum { CODE_BYTES = 5 << 20 };

struct needs needs_of(const ebm_backend *backend, int n, ebm_store *const *stores, size_t more)
{
    struct needs needs = { .held = mem_held(backend->ctx), .more = more, .code = CODE_BYTES };

    needs.programs = programs_waiting_bytes(backend, &needs.spare);
    for (int i = 0; i < n; i++)
        needs.stores += ebm_store_bytes(stores[i]);
    return needs;
}

size_t needs_all(const struct needs *needs)
{
    return needs->stores + needs->programs + needs->held + needs->more + needs->code;
}

bool needs_within(ebm_backend *backend, size_t limit, struct needs *needs)
{
    size_t all = needs_all(needs), over = limit && all > limit ? all - limit : 0;

    if (over > needs->spare)
        return false;
    backend->withheld += over;
    needs->programs -= over;
    needs->spare -= over;
    return true;
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
        fit->backend->withheld = 0;
        if ((status = fit->make(fit->user, part, &needs)) < 0)
            return status;
        if (needs_within(fit->backend, fit->limit, &needs)) {
            if (part)
                ebm_note(fit->backend->ctx, EBM_LOG_INFO, "%.1f MiB: batches of %lld are computed %lld at a time",
                         mib(needs_all(&needs)), (long long)fit->batch, (long long)part);
            if (fit->needs)
                *fit->needs = needs;
            return EBM_OK;
        }
        size_t all = needs_all(&needs) - needs.spare;
        if (all < least) {
            least = all;
            of_least = part;
        }
    }
    if (of_least == 0)
        of_least = fit->batch;
    return ebm_fail(fit->backend->ctx, EBM_ERR_NOMEM, "%s needs at least %.1f MiB, with %lld of %lld images at a time, "
                    "and %.1f are allowed: %s", fit->whose, mib(least), (long long)of_least,
                    (long long)fit->batch, mib(fit->limit), fit->advice);
}
