/* recipe_find.c - where built-in recipes are.
 *
 * SPDX-License-Identifier: ISC
 *
 * A name without '/' and without ".recipe" is that of a built-in recipe; the
 * first of these folders that has NAME.recipe gives it. */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io.h"
#include "recipe.h"

static const char suffix[] = ".recipe";
enum { FOLDERS = 4, MAX_RECIPE = 1 << 20 };

static int folders(const char *list[FOLDERS])
{
    const char *own = getenv("EBM_RECIPE_DIR");
    int n = 0;

    if (own && *own)
        list[n++] = own;
    list[n++] = EBM_PKGDATADIR "/recipes";
    list[n++] = "recipes";
    list[n++] = "../recipes";
    return n;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), e = strlen(end);

    return n > e && !strcmp(s + n - e, end);
}

/* Add to `text` the names of the recipes in a folder that can be read. */
static void add_names(ebm_context *ctx, const char *folder, char *text, size_t size)
{
    char **names;
    int count;

    if (!io_is_folder(folder) || io_names(ctx, folder, &names, &count) < 0)
        return;
    for (int i = 0; i < count; i++) {
        size_t n = strlen(text);
        if (ends_with(names[i], suffix))
            snprintf(text + n, size - n, "%s%.*s", n ? ", " : "",
                     (int)(strlen(names[i]) - strlen(suffix)), names[i]);
    }
    io_free_names(ctx, names, count);
}

/* The path of a recipe, to be freed; NULL with the message set, *rc the status. */
static char *find(ebm_context *ctx, const char *name, int *rc)
{
    const char *list[FOLDERS];
    char known[300] = "";
    int n = folders(list);
    char *path;

    *rc = EBM_ERR_NOMEM;
    if (strchr(name, '/') || ends_with(name, suffix))
        return mem_strdup(ctx, name);
    for (int i = 0; i < n; i++) {
        if (!(path = mem_printf(ctx, "%s/%s%s", list[i], name, suffix)) || io_exists(path))
            return path;
        mem_free(ctx, path);
    }
    for (int i = 0; i < n && !*known; i++)
        add_names(ctx, list[i], known, sizeof known);
    *rc = ebm_fail(ctx, EBM_ERR_ARG, "there is no recipe '%.200s'%s%s; a file is named with "
                   "its folder or its ending, as in ./%.200s%s", name,
                   *known ? "; built in are: " : ", nor any other in " EBM_PKGDATADIR
                   "/recipes (EBM_RECIPE_DIR names another folder)", known, name, suffix);
    return NULL;
}

int recipe_read(struct recipe *r, const char *path_or_name)
{
    ebm_context *ctx = recipe_context(r);
    size_t size;
    char *text, *path;
    int rc;

    if (!(path = find(ctx, path_or_name, &rc)))
        return rc;
    if ((rc = io_read_whole(ctx, path, MAX_RECIPE, &text, &size)) == EBM_OK) {
        rc = recipe_parse(r, text, size, path);
        mem_free(ctx, text);
    }
    mem_free(ctx, path);
    return rc;
}
