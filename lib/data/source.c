/* source.c - what all sources share: closing, names of classes.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "source.h"

enum { NAMES_FILE_LIMIT = 1 << 20 };

void source_close(ebm_context *ctx, struct source *source)
{
    int i;

    if (source->close)
        source->close(ctx, source->state);
    for (i = 0; source->class_names && i < source->classes; i++)
        mem_free(ctx, source->class_names[i]);
    mem_free(ctx, source->class_names);
    memset(source, 0, sizeof *source);
}

/* The next line that is not blank, cut off from *text; NULL at the end. */
static char *next_line(char **text)
{
    char *line = *text + strspn(*text, "\r\n");
    size_t n = strcspn(line, "\r\n");

    if (n == 0)
        return NULL;
    *text = line + n + (line[n] != '\0');
    line[n] = '\0';
    return line;
}

int source_class_names(ebm_context *ctx, const char *folder, const char *file,
                       char ***names, int *count)
{
    char *path = io_join(ctx, folder, file), *text = NULL, *at, *line;
    size_t size;
    int rc = EBM_OK;

    *names = NULL;
    *count = 0;
    if (!path)
        return EBM_ERR_NOMEM;
    if (io_exists(path))
        rc = io_read_whole(ctx, path, NAMES_FILE_LIMIT, &text, &size);
    mem_free(ctx, path);
    at = text;
    while (rc == EBM_OK && at && (line = next_line(&at))) {
        char **grown = mem_grow(ctx, *names, (size_t)*count, (size_t)*count + 1,
                                sizeof *grown);

        if (grown)
            *names = grown;
        if (!grown || !(grown[*count] = mem_strdup(ctx, line)))
            rc = EBM_ERR_NOMEM;
        else
            ++*count;
    }
    mem_free(ctx, text);
    if (rc < 0) {
        io_free_names(ctx, *names, *count);
        *names = NULL;
        *count = 0;
    }
    return rc;
}
