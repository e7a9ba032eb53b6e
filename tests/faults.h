/* faults.h - an allocator that fails when it is told to, and counts.
 *
 * SPDX-License-Identifier: ISC
 *
 *     for (n = 0; ; n++) {
 *         fault_arm(&f, n);                 the n-th allocation gives NULL
 *         ... all of the work, freed at the end ...
 *         if (!f.fired)
 *             break;                        each has had its turn
 *     }
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ebm.h"

struct faults {
    long left;               /* allocations until the failing one; < 0: none fails */
    bool fired;
    bool ahead;              /* in another thread than the one that armed it: perhaps
                              * for something that nobody comes to need */
    bool spared;             /* the library said that less memory does */
    pthread_t thread;
    long live;               /* blocks given and not released */
};

static void *fault_alloc(void *user, size_t size)
{
    struct faults *f = user;
    bool fail = __atomic_fetch_sub(&f->left, 1, __ATOMIC_RELAXED) == 0;

    if (fail) {
        f->fired = true;
        f->ahead = !pthread_equal(f->thread, pthread_self());
    }
    void *block = fail ? NULL : malloc(size);
    if (block) {
        __atomic_fetch_add(&f->live, 1, __ATOMIC_RELAXED);
        memset(block, 0xa5, size);           /* nobody may count on zeros */
    }
    return block;
}

static void fault_release(void *user, void *block)
{
    struct faults *f = user;

    if (block)
        __atomic_fetch_sub(&f->live, 1, __ATOMIC_RELAXED);
    free(block);
}

static void fault_log(void *user, int level, const char *message)
{
    struct faults *f = user;

    (void)level;
    f->spared = f->spared || strstr(message, "were refused");
}

static ebm_host fault_host(struct faults *f)
{
    ebm_host host = { fault_alloc, fault_release, fault_log, f };

    return host;
}

static void fault_arm(struct faults *f, long n)
{
    f->left = n;
    f->fired = f->ahead = f->spared = false;
    f->thread = pthread_self();
}

/* Is this what a call says whose allocation failed? */
static inline bool fault_told(const struct faults *f, int rc)
{
    return rc == EBM_ERR_NOMEM || ((f->ahead || f->spared) && rc >= 0);
}

#endif
