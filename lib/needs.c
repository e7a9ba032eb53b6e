/* needs.c - see needs.h.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdio.h>
#include "needs.h"
#include "program.h"

/* Pages of code and of libraries' own data that a process has touched when it has
 * taken some steps, beyond those of one that has only started: measured on x86-64
 * with glibc (tests/test_memory.c).  BLIS alone is two fifths of it. */
#ifdef HAVE_BLIS
enum { CODE_BYTES = 5 << 20 };
#else
enum { CODE_BYTES = 3 << 20 };
#endif

struct needs needs_of(const ebm_backend *backend, int n, ebm_store *const *stores, size_t more)
{
    struct needs needs = { .held = mem_held(backend->ctx), .more = more, .code = CODE_BYTES,
                           .room = backend->v->room ? backend->v->room((ebm_backend *)backend) : SIZE_MAX };

    needs.programs = programs_waiting_bytes(backend, &needs.spare);
    for (int i = 0; i < n; i++)
        needs.stores += ebm_store_bytes(stores[i]);
    return needs;
}

static size_t on_device(const struct needs *needs)
{
    return needs->programs == SIZE_MAX ? SIZE_MAX : needs->stores + needs->programs;
}

static size_t on_host(const struct needs *needs)
{
    return needs->held + needs->more + needs->code;
}

size_t needs_all(const struct needs *needs)
{
    return on_device(needs) == SIZE_MAX ? SIZE_MAX : on_device(needs) + on_host(needs);
}

/* What needs_all() may be. */
static size_t allowed(const struct needs *needs, size_t limit)
{
    size_t device = needs->room < SIZE_MAX - on_host(needs) ? needs->room + on_host(needs) : SIZE_MAX - 1;

    return limit && limit < device ? limit : device;
}

/* Do they stay within the limit (0: none) and the device, maybe without what is spare?
 * That is then withheld from the programs, as far as need be. */
static bool within(ebm_backend *backend, size_t limit, struct needs *needs)
{
    size_t all = needs_all(needs), most = allowed(needs, limit), over = all > most ? all - most : 0;

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

/* A plan that did not fit. */
struct attempt {
    int64_t part;
    size_t all, allowed;
};

static struct attempt attempt_of(const struct needs_fit *fit, int64_t part, const struct needs *needs)
{
    size_t all = needs_all(needs);

    return (struct attempt){ part ? part : fit->batch, all < SIZE_MAX ? all - needs->spare : all,
                             allowed(needs, fit->limit) };
}

/* Of two attempts: how many images at a time would fit, if memory grows by the same
 * for each; 0: not even one. */
static int64_t would_fit(const struct attempt *a, const struct attempt *b)
{
    double each = (double)(a->all - b->all) / (double)(a->part - b->part);
    double fixed = (double)b->all - each * (double)b->part;

    return each > 0 && fixed + each <= (double)b->allowed ? (int64_t)(((double)b->allowed - fixed) / each) : 0;
}

static int refuse(const struct needs_fit *fit, const struct attempt *first, const struct attempt *least)
{
    char would[60] = "", why[300];

    snprintf(why, sizeof why, "%s", ebm_message(fit->backend->ctx));
    if (least->all == SIZE_MAX)
        return ebm_fail(fit->backend->ctx, EBM_ERR_NOMEM, "%s, even with %lld of %lld images at a time: %s",
                        why, (long long)least->part, (long long)fit->batch, fit->advice);
    if (first->all < SIZE_MAX && first->all > least->all && would_fit(first, least))
        snprintf(would, sizeof would, "; a batch of about %lld would fit", (long long)would_fit(first, least));
    return ebm_fail(fit->backend->ctx, EBM_ERR_NOMEM, "%s needs at least %.1f MiB, with %lld of %lld images at a time, "
                    "and %.1f are allowed: %s%s", fit->whose, mib(least->all), (long long)least->part,
                    (long long)fit->batch, mib(least->allowed), fit->advice, would);
}

int needs_fit(const struct needs_fit *fit)
{
    struct attempt first = { 0 }, least = { 0 };
    int status;

    for (int64_t parts = 1; parts <= MOST_PARTS && parts <= fit->batch; parts++) {
        int64_t part = parts == 1 ? 0 : fit->batch / parts;
        struct needs needs;
        if (fit->batch % parts)
            continue;
        fit->backend->withheld = 0;
        if ((status = fit->make(fit->user, part, &needs)) < 0)
            return status;
        if (within(fit->backend, fit->limit, &needs)) {
            if (part)
                ebm_note(fit->backend->ctx, EBM_LOG_INFO, "%.1f MiB: batches of %lld are computed %lld at a time",
                         mib(needs_all(&needs)), (long long)fit->batch, (long long)part);
            if (fit->needs)
                *fit->needs = needs;
            return EBM_OK;
        }
        struct attempt now = attempt_of(fit, part, &needs);
        if (parts == 1)
            first = least = now;
        else if (now.all <= least.all)
            least = now;
    }
    return refuse(fit, &first, &least);
}

int needs_check(const struct needs_fit *fit, int64_t part, struct needs *needs)
{
    const struct attempt only = attempt_of(fit, part, needs);

    return within(fit->backend, fit->limit, needs) ? EBM_OK : refuse(fit, &only, &only);
}
