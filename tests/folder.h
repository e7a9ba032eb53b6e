/* folder.h - a fresh folder for a test's files, removed with them at the end.
 *
 * SPDX-License-Identifier: ISC */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[256];

/* Make it, below $TMPDIR or /tmp. */
static inline bool folder_make(void)
{
    const char *parent = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/ebm-test-XXXXXX", parent && *parent ? parent : "/tmp");
    return mkdtemp(folder) != NULL;
}

/* A path in it; valid until the fourth next call. */
static inline const char *in_folder(const char *name)
{
    static char paths[4][600];
    static int turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* Remove it, one level deep. */
static inline void folder_remove(void)
{
    DIR *dir = opendir(folder);
    struct dirent *e;

    while (dir && (e = readdir(dir)) != NULL)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            remove(in_folder(e->d_name));
    if (dir)
        closedir(dir);
    rmdir(folder);
}

#endif
