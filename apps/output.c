/* output.c - a result's file, which appears whole or not at all.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "output.h"
#include "tool.h"

static int fail(const char *path)
{
    tool_say("cannot write %s: %s", path, strerror(errno));
    return EXIT_IO;
}

int output_begin(struct output *o, const char *path)
{
    size_t size = strlen(path) + 32;

    o->path = path;
    o->file = NULL;
    if (!(o->temporary = malloc(size)))
        return tool_fail_memory();
    snprintf(o->temporary, size, "%s.%ld.tmp", path, (long)getpid());
    if (!(o->file = fopen(o->temporary, "wb"))) {
        free(o->temporary);
        o->temporary = NULL;
        return fail(path);
    }
    return 0;
}

int output_end(struct output *o, int keep)
{
    int rc = 0;

    if (!o->temporary)
        return 0;
    /* in this order, the first that fails: errno then tells why */
    if (fflush(o->file) < 0 || ferror(o->file) || fsync(fileno(o->file)) < 0)
        rc = keep ? fail(o->path) : 0;
    if (fclose(o->file) < 0 && keep && !rc)
        rc = fail(o->path);
    if (keep && !rc && rename(o->temporary, o->path) < 0)
        rc = fail(o->path);
    if (!keep || rc)
        unlink(o->temporary);
    free(o->temporary);
    o->temporary = NULL;
    return rc;
}

int output_folder(const char *path)
{
    struct stat st;

    if (mkdir(path, 0777) == 0 || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
        return 0;
    tool_say("cannot make the folder %s: %s", path, strerror(errno));
    return EXIT_IO;
}
