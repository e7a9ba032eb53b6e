/* folder.c - pictures: one file, a flat folder, or one with a sub-folder a class.
 *
 * SPDX-License-Identifier: ISC
 *
 *   folder/a.png  b.jpg             flat: no labels
 *   folder/cat/a.png  dog/b.jpg     classes, numbered as sorted by bytes
 *   folder/train/...  test/...      splits, each of them flat or with classes
 *
 * Files are known by their first bytes; one with a picture's name that is no
 * picture is an error, as leaving it out would hide damage. */
#include "config.h"
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include "source.h"

#define FILE_LIMIT ((size_t)1 << 30)

struct entry {
    char *path;
    int32_t label;
};

struct gallery {
    struct entry *entries;
    size_t count, capacity;
    size_t passed_over;
    uint64_t fingerprint;
};

static void close_gallery(ebm_context *ctx, void *state)
{
    struct gallery *g = state;
    size_t i;

    for (i = 0; i < g->count; i++)
        mem_free(ctx, g->entries[i].path);
    mem_free(ctx, g->entries);
    mem_free(ctx, g);
}

static int read_picture(ebm_context *ctx, void *state, size_t index,
                        struct image *image, int32_t *label)
{
    const struct entry *e = &((struct gallery *)state)->entries[index];
    char *bytes;
    size_t size;
    int rc = io_read_whole(ctx, e->path, FILE_LIMIT, &bytes, &size);

    if (rc < 0)
        return rc;
    *label = e->label;
    rc = picture_decode(ctx, e->path, (const uint8_t *)bytes, size, image);
    mem_free(ctx, bytes);
    return rc;
}

/* path is taken over, on failure too. */
static int add_entry(ebm_context *ctx, struct gallery *g, char *path, int32_t label)
{
    if (g->count == g->capacity) {
        size_t capacity = g->capacity ? 2 * g->capacity : 64;
        struct entry *grown = mem_grow(ctx, g->entries, g->count, capacity, sizeof *grown);

        if (!grown) {
            mem_free(ctx, path);
            return EBM_ERR_NOMEM;
        }
        g->entries = grown;
        g->capacity = capacity;
    }
    g->entries[g->count++] = (struct entry){ path, label };
    return EBM_OK;
}

static bool named_as_picture(const char *name)
{
    static const char *const ends[] = { ".png", ".jpg", ".jpeg" };
    const char *end = strrchr(name, '.');
    size_t i;

    for (i = 0; end && i < COUNT(ends); i++)
        if (strcasecmp(end, ends[i]) == 0)
            return true;
    return false;
}

/* Add the file if it is a picture; path is taken over. */
static int add_file(ebm_context *ctx, struct gallery *g, char *path, const char *name,
                    int32_t label)
{
    struct input in;
    int rc = input_open(ctx, path, &in);
    enum picture kind = PICTURE_NONE;
    uint64_t size = 0;

    if (rc == EBM_OK) {
        kind = picture_kind(in.head, in.head_size);
        size = in.size;
        input_close(&in);
    }
    if (rc == EBM_OK && kind == PICTURE_NONE && named_as_picture(name))
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: neither PNG nor JPEG, whatever its name (%"
                      PRIu64 " bytes); convert it or take it out of the folder", path, size);
    if (rc < 0 || kind == PICTURE_NONE) {
        g->passed_over += rc == EBM_OK;
        mem_free(ctx, path);
        return rc;
    }
    g->fingerprint = fingerprint(g->fingerprint, name, strlen(name));
    g->fingerprint = fingerprint(g->fingerprint, &size, sizeof size);
    g->fingerprint = fingerprint(g->fingerprint, &label, sizeof label);
    return add_entry(ctx, g, path, label);
}

/* The pictures that lie in a folder itself. */
static int add_files(ebm_context *ctx, struct gallery *g, const char *folder, int32_t label)
{
    char **names;
    int count, i, rc = io_names(ctx, folder, &names, &count);

    if (rc < 0)
        return rc;
    for (i = 0; i < count && rc == EBM_OK; i++) {
        if (names[i][0] == '.')
            continue;
        char *path = io_join(ctx, folder, names[i]);
        if (!path)
            rc = EBM_ERR_NOMEM;
        else if (io_is_folder(path))
            mem_free(ctx, path);
        else
            rc = add_file(ctx, g, path, names[i], label);
    }
    io_free_names(ctx, names, count);
    return rc;
}

/* The names of the folders in a folder. */
static int list_folders(ebm_context *ctx, const char *folder, char ***names, int *count)
{
    int all, i, kept = 0, rc = io_names(ctx, folder, names, &all);

    *count = 0;
    if (rc < 0)
        return rc;
    for (i = 0; i < all; i++) {
        char *path = (*names)[i][0] == '.' || rc < 0 ? NULL
                   : io_join(ctx, folder, (*names)[i]);

        if (!path && (*names)[i][0] != '.')
            rc = EBM_ERR_NOMEM;
        if (path && io_is_folder(path))
            (*names)[kept++] = (*names)[i];
        else
            mem_free(ctx, (*names)[i]);
        mem_free(ctx, path);
    }
    *count = kept;
    if (rc < 0) {
        io_free_names(ctx, *names, kept);
        *names = NULL;
        *count = 0;
    }
    return rc;
}

static bool same_names(char **a, int m, char **b, int n)
{
    int i;

    for (i = 0; m == n && i < n; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return m == n;
}

/* A folder that is flat or has classes; these become the source's. */
static int add_tree(ebm_context *ctx, struct gallery *g, const char *folder,
                    struct source *source)
{
    char **names;
    int count, i, rc = list_folders(ctx, folder, &names, &count);
    bool first = g->count == 0;

    if (rc < 0)
        return rc;
    if (!first && !same_names(names, count, source->class_names, source->classes))
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: its classes are not those of the training "
                      "set beside it; open one split at a time", folder);
    if (rc == EBM_OK && count == 0)
        rc = add_files(ctx, g, folder, -1);
    for (i = 0; i < count && rc == EBM_OK; i++) {
        char *path = io_join(ctx, folder, names[i]);

        rc = path ? add_files(ctx, g, path, i) : EBM_ERR_NOMEM;
        mem_free(ctx, path);
    }
    if (rc == EBM_OK && first) {
        source->class_names = names;
        source->classes = count;
    } else {
        io_free_names(ctx, names, count);
    }
    return rc;
}

/* Which split a folder's name means; 0: none. */
static enum split split_named(const char *name)
{
    static const struct { const char *name; enum split split; } known[] = {
        { "train", SPLIT_TRAIN }, { "test", SPLIT_TEST }, { "val", SPLIT_TEST },
    };
    size_t i;

    for (i = 0; i < COUNT(known); i++)
        if (strcmp(name, known[i].name) == 0)
            return known[i].split;
    return 0;
}

/* The folder of each split if there are splits: all folders are named so, and
 * train is one.  Where test and val are both there, val is passed over. */
static enum split find_splits(char **names, int count, const char *paths[2])
{
    enum split splits = 0;
    int i;

    paths[0] = paths[1] = NULL;
    for (i = 0; i < count; i++) {
        enum split s = split_named(names[i]);

        if (!s)
            return 0;
        splits |= s;
        if (s == SPLIT_TRAIN)
            paths[0] = names[i];
        else if (!paths[1])
            paths[1] = names[i];      /* test comes before val */
    }
    return splits & SPLIT_TRAIN ? splits : 0;
}

/* The size and channels of all pictures: 0 where they differ, and 3 channels if
 * any has them. */
static int probe_all(ebm_context *ctx, const struct gallery *g, struct source *source)
{
    size_t i;

    for (i = 0; i < g->count; i++) {
        struct image_size found = { 0, 0, 0 };
        char *bytes;
        size_t size;
        int rc = io_read_whole(ctx, g->entries[i].path, FILE_LIMIT, &bytes, &size);

        if (rc < 0)
            return rc;
        rc = picture_probe(ctx, g->entries[i].path, (const uint8_t *)bytes, size, &found);
        mem_free(ctx, bytes);
        if (rc < 0)
            return rc;
        if (i == 0) {
            source->height = found.height;
            source->width = found.width;
            source->channels = found.channels;
        }
        if (found.height != source->height || found.width != source->width)
            source->height = source->width = 0;
        if (found.channels > source->channels)
            source->channels = found.channels;
    }
    return EBM_OK;
}

static int fill(ebm_context *ctx, const char *path, const struct request *request,
                struct gallery *g, struct source *source)
{
    char **names;
    const char *paths[2];
    int count, s, rc = list_folders(ctx, path, &names, &count);

    if (rc < 0)
        return rc;
    source->splits = find_splits(names, count, paths);
    if (!source->splits) {
        source->splits = SPLIT_TRAIN;
        rc = add_tree(ctx, g, path, source);
    } else {
        for (s = 0; s < 2 && rc == EBM_OK; s++) {
            if (!paths[s] || !(request->split & (s ? SPLIT_TEST : SPLIT_TRAIN)))
                continue;
            char *sub = io_join(ctx, path, paths[s]);
            rc = sub ? add_tree(ctx, g, sub, source) : EBM_ERR_NOMEM;
            mem_free(ctx, sub);
        }
    }
    io_free_names(ctx, names, count);
    if (rc == EBM_OK && g->count == 0 && request->split & source->splits)
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s: no PNG or JPEG in this folder%s (%zu other "
                      "files)", path, source->classes ? "'s folders" : "", g->passed_over);
    if (rc == EBM_OK && g->passed_over)
        ebm_note(ctx, EBM_LOG_WARN, "%s: %zu files passed over, neither PNG nor JPEG", path,
                 g->passed_over);
    return rc;
}

static struct gallery *new_gallery(ebm_context *ctx)
{
    struct gallery *g = mem_new(ctx, 1, sizeof *g);

    if (g)
        g->fingerprint = FINGERPRINT_START;
    return g;
}

static int finish(ebm_context *ctx, struct gallery *g, int rc, struct source *source)
{
    if (rc < 0) {
        close_gallery(ctx, g);
        source_close(ctx, source);
        return rc;
    }
    source->format = "images";
    source->count = g->count;
    source->coded = true;
    source->fingerprint = g->fingerprint;
    source->read = read_picture;
    source->close = close_gallery;
    source->state = g;
    return EBM_OK;
}

int picture_folder_open(ebm_context *ctx, const char *path, const struct request *request,
                        struct source *source)
{
    struct gallery *g = new_gallery(ctx);

    if (!g)
        return EBM_ERR_NOMEM;
    int rc = fill(ctx, path, request, g, source);
    if (rc == EBM_OK && (!request->height || !request->width || !request->channels))
        rc = probe_all(ctx, g, source);
    return finish(ctx, g, rc, source);
}

int picture_open(ebm_context *ctx, const char *path, struct source *source)
{
    struct gallery *g = new_gallery(ctx);

    if (!g)
        return EBM_ERR_NOMEM;
    char *copy = mem_strdup(ctx, path);
    int rc = copy ? add_file(ctx, g, copy, path, -1) : EBM_ERR_NOMEM;
    if (rc == EBM_OK)
        rc = probe_all(ctx, g, source);
    source->splits = SPLIT_TRAIN;
    return finish(ctx, g, rc, source);
}
