/* source.h - a test's recipes and data are those of the source, not installed ones.
 *
 * SPDX-License-Identifier: ISC */
#ifndef TEST_SOURCE_H
#define TEST_SOURCE_H

#include <stdio.h>
#include <stdlib.h>

/* Where a user has not chosen others.  srcdir is set by make check. */
static inline void use_source_folders(void)
{
    const char *srcdir = getenv("srcdir") ? getenv("srcdir") : ".";
    char folder[1000];

    snprintf(folder, sizeof folder, "%s/recipes", srcdir);
    setenv("EBM_RECIPE_DIR", folder, 0);
    snprintf(folder, sizeof folder, "%s/data", srcdir);
    setenv("EBM_DATA_DIR", folder, 0);
}

#endif
