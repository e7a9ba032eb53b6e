/* run.h - small runs of training for tests, in a folder of their own.
 *
 * SPDX-License-Identifier: ISC */
#ifndef TEST_RUN_H
#define TEST_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include "ebm.h"

/* An empty folder NAME.tmp with the recipe NAME.tmp/tiny.recipe. */
bool run_folder(ebm_context *ctx, const char *name);
void run_remove(ebm_context *ctx, const char *folder);     /* and all that is in it */

/* Settings of a test, ended by NULL, go before those of the recipe.  stop: the
 * step after which it ends; save: with a checkpoint, as a signal would.  Returns
 * the status of the first call that failed. */
struct run {
    const char *folder;
    const char *const *settings;
    bool resume;
    int64_t stop;            /* 0: runs to the end and finishes */
    bool save;
};
int run(ebm_backend *backend, const struct run *run);

/* Does the same file of two folders hold the same bytes? */
bool run_same_file(ebm_context *ctx, const char *a, const char *b, const char *name);

#endif
