/* source.h - a format: how its images are counted and read.
 *
 * SPDX-License-Identifier: ISC
 *
 * An opener fills a struct source, zeroed by its caller; when it fails, it
 * leaves nothing to be closed.  read is called from several threads at a time,
 * each with a context of its own: it changes nothing in the state. */
#ifndef EBM_SOURCE_H
#define EBM_SOURCE_H

#include "image.h"
#include "input.h"

/* Arrays up to this size, and decoded sets up to this size, stay in memory. */
#define KEEP_LIMIT ((uint64_t)256 << 20)
/* No array that must be decompressed may be larger. */
#define UNPACK_LIMIT ((uint64_t)4 << 30)

enum split { SPLIT_TRAIN = 1, SPLIT_TEST = 2, SPLIT_ALL = 3 };

struct request {
    enum split split;
    size_t height, width, channels;   /* 0: as stored */
    uint64_t seed;
};

struct source {
    const char *format;
    enum split splits;                /* those it has; SPLIT_TRAIN: none apart */
    size_t count;
    size_t height, width, channels;   /* as stored; 0: they differ */
    bool coded;                       /* reading costs so much that it is worth keeping */
    int classes;
    char **class_names;               /* [classes] or NULL */
    uint64_t fingerprint;
    int (*read)(ebm_context *ctx, void *state, size_t index,
                struct image *image, int32_t *label);
    void (*close)(ebm_context *ctx, void *state);
    void *state;
};

void source_close(ebm_context *ctx, struct source *source);
/* The names of classes, one a line; a missing file is no error. */
int source_class_names(ebm_context *ctx, const char *folder, const char *file,
                       char ***names, int *count);

/* Files. */
int idx_open(struct input *in, struct source *source);
bool cifar_is(uint64_t size);        /* a size of CIFAR records */
int cifar_open(struct input *in, const char *folder, struct source *source);
int npy_open(struct input *in, struct source *source);
int npz_open(struct input *in, enum split split, struct source *source);
int picture_open(ebm_context *ctx, const char *path, struct source *source);

/* Folders.  *found tells whether the folder is of the format; otherwise nothing
 * is opened. */
int idx_folder_open(ebm_context *ctx, const char *path, enum split split,
                    struct source *source, bool *found);
int cifar_folder_open(ebm_context *ctx, const char *path, enum split split,
                      struct source *source, bool *found);
int picture_folder_open(ebm_context *ctx, const char *path, const struct request *request,
                        struct source *source);

/* By code. */
int shapes_open(ebm_context *ctx, const char *spec, const struct request *request,
                struct source *source);
int shapes_attributes(const struct source *source, size_t index,
                      ebm_shapes_attributes *attributes);
bool source_is_shapes(const struct source *source);
/* How many of points x points points of each pixel, [height][width], lie in the
 * shape; the pictures have SHAPES_POINTS. */
enum { SHAPES_POINTS = 4 };
void shapes_cover(const ebm_shapes_attributes *attributes, size_t height, size_t width, int points,
                  uint8_t *hits);
/* Red, green and blue of a colour, or, where that is -1, of a background. */
const uint8_t *shapes_paint(int colour, int background);
bool squares_named(const char *spec);
int squares_open(ebm_context *ctx, const char *spec, const struct request *request,
                 struct source *source);

#endif
