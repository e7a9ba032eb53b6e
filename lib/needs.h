/* needs.h - the memory that a run or a model will take, known before it is taken.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_NEEDS_H
#define EBM_NEEDS_H

#include "store.h"

/* In bytes. */
struct needs {
    size_t stores;           /* weights, moments, buffers */
    size_t programs;         /* the shared arena; feeds and results */
    size_t held;             /* what the context holds already: data, graphs, steps */
    size_t more;             /* what the caller knows of: batches, copies */
    size_t code;             /* touched on the way */
    size_t spare;            /* of programs: only saves time */
    size_t room;             /* what the device has for stores and programs; SIZE_MAX:
                              * any, as its memory is the host's */
};

/* Stores that have no memory yet, and the programs that wait for it. */
struct needs needs_of(const ebm_backend *backend, int n, ebm_store *const *stores, size_t more);
size_t needs_all(const struct needs *needs);

/* Batches in parts, so that memory suffices.  make(user, part, needs): plan with
 * so many of the batch at a time (0: all) and say what that needs; it undoes what
 * was planned before.  Tried from the largest part on, until one needs no more
 * than `limit` bytes (0: the first does); then it is in force, and noted in the
 * log where it is not all.  EBM_ERR_NOMEM where none does: with what does least.
 * whose: "the run"; advice: what needs less; needs: what is then needed, or NULL. */
struct needs_fit {
    ebm_backend *backend;
    size_t limit;
    int64_t batch;
    const char *whose, *advice;
    int (*make)(void *user, int64_t part, struct needs *needs);
    void *user;
    struct needs *needs;
};
int needs_fit(const struct needs_fit *fit);
/* The same for a part that is given, and planned.  What is spare is withheld from
 * programs, as far as need be. */
int needs_check(const struct needs_fit *fit, int64_t part, struct needs *needs);

#endif
