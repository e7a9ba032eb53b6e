/* data.c - a set of images: which format it is of, and its images at the size
 * asked for.
 *
 * SPDX-License-Identifier: ISC
 *
 *   source -> read -> channels -> fit -> (kept as bytes) -> floats in [0,1]
 *
 * Only what is costly to make is kept: decoded, drawn or resized images, and
 * only if the whole set takes up to KEEP_LIMIT. */
#include "config.h"
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "data.h"
#include "npy.h"
#include "source.h"

struct ebm_data {
    ebm_context *ctx;
    char *name;
    struct source source;
    enum split split;
    size_t count, height, width, channels;
    enum ebm_fit fit;
    uint64_t fingerprint;
    float level[256];            /* of bytes: v / 255 */

    /* Images made so far, if they are kept; several threads read. */
    pthread_mutex_t mutex;
    bool mutex_ready;
    uint8_t *kept;               /* [count, height, width, channels] or NULL */
    uint8_t *have;               /* [count] */
    int32_t *labels;             /* [count] */
};

/* --- recognising --- */

static const struct { enum split split; const char *name; } split_names[] = {
    { SPLIT_TRAIN, "train" }, { SPLIT_TEST, "test" }, { SPLIT_ALL, "all" },
};

static const char *split_name(enum split split)
{
    size_t i;

    for (i = 0; i < COUNT(split_names) - 1; i++)
        if (split_names[i].split == split)
            break;
    return split_names[i].name;
}

static int take_split(ebm_context *ctx, const char *name, enum split *split)
{
    size_t i;

    if (!name)
        name = "train";
    for (i = 0; i < COUNT(split_names); i++)
        if (strcmp(split_names[i].name, name) == 0) {
            *split = split_names[i].split;
            return EBM_OK;
        }
    return ebm_fail(ctx, EBM_ERR_ARG, "there is no split '%s': train, test and all are",
                    name);
}

/* Formats that are met often and not read, by their first bytes. */
static const struct {
    const char *magic;
    size_t size;
    const char *advice;
} foreign[] = {
    { "RIFF", 4, "WebP; convert it to PNG" },
    { "GIF8", 4, "GIF; convert it to PNG" },
    { "BM", 2, "BMP; convert it to PNG" },
    { "II*\0", 4, "TIFF; convert it to PNG" },
    { "MM\0*", 4, "TIFF; convert it to PNG" },
    { "\x89HDF", 4, "HDF5; store the array with numpy.save" },
    { "MATLAB 5", 8, "a MATLAB file; store the array with numpy.save" },
    { "\x80\x02", 2, "a Python pickle, which is not read as it may run code; fetch the "
                     "binary version or store the array with numpy.save" },
    { "\x80\x03", 2, "a Python pickle, which is not read as it may run code; store the "
                     "array with numpy.save" },
    { "\x80\x04", 2, "a Python pickle, which is not read as it may run code; store the "
                     "array with numpy.save" },
};

static int unknown(const struct input *in)
{
    size_t i;

    for (i = 0; i < COUNT(foreign); i++)
        if (in->head_size >= foreign[i].size
            && memcmp(in->head, foreign[i].magic, foreign[i].size) == 0)
            return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: %s", in->name, foreign[i].advice);
    if (in->size == 0)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: the file is empty", in->name);
    return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: %" PRIu64 " bytes of no known format: IDX, "
                    "NPY, NPZ, PNG, JPEG and CIFAR's binary version (a multiple of 3073 or "
                    "3074 bytes) are read", in->name, in->size);
}

static int open_file(ebm_context *ctx, const char *path, const struct request *request,
                     struct source *source)
{
    struct input in;
    int rc = input_open(ctx, path, &in);

    if (rc < 0)
        return rc;
    if (npy_is(in.head, in.head_size)) {
        rc = npy_open(&in, source);
    } else if (in.head_size >= 4 && in.head[0] == 0 && in.head[1] == 0
               && in.head[2] >= 8 && in.head[2] <= 14 && in.head[3] >= 1
               && in.head[3] <= 8) {
        rc = idx_open(&in, source);
    } else if (in.head_size >= 4 && (memcmp(in.head, "PK\3\4", 4) == 0
                                     || memcmp(in.head, "PK\5\6", 4) == 0)) {
        rc = npz_open(&in, request->split, source);
    } else if (picture_kind(in.head, in.head_size) != PICTURE_NONE) {
        rc = picture_open(ctx, path, source);
    } else if (!in.gzip && cifar_is(in.size)) {
        const char *slash = strrchr(path, '/');
        char *folder = slash ? mem_printf(ctx, "%.*s/", (int)(slash - path), path)
                             : mem_strdup(ctx, ".");

        rc = folder ? cifar_open(&in, folder, source) : EBM_ERR_NOMEM;
        mem_free(ctx, folder);
    } else {
        rc = unknown(&in);
    }
    input_close(&in);
    return rc;
}

static int open_folder(ebm_context *ctx, const char *path, const struct request *request,
                       struct source *source)
{
    bool found;
    int rc = idx_folder_open(ctx, path, request->split, source, &found);

    if (rc < 0 || found)
        return rc;
    rc = cifar_folder_open(ctx, path, request->split, source, &found);
    if (rc < 0 || found)
        return rc;
    return picture_folder_open(ctx, path, request, source);
}

static int open_path(ebm_context *ctx, const char *path, const struct request *request,
                     struct source *source)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return ebm_fail(ctx, EBM_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return open_folder(ctx, path, request, source);
    if (S_ISREG(st.st_mode))
        return open_file(ctx, path, request, source);
    return ebm_fail(ctx, EBM_ERR_IO, "%s is neither a file nor a folder", path);
}

static int open_digits(ebm_context *ctx, const struct request *request,
                       struct source *source)
{
    const char *folder = getenv("EBM_DATA_DIR");
    char *path = mem_printf(ctx, "%s/digits", folder && *folder ? folder : EBM_PKGDATADIR);
    bool found = false;
    int rc = EBM_OK;

    if (!path)
        return EBM_ERR_NOMEM;
    if (io_is_folder(path))
        rc = idx_folder_open(ctx, path, request->split, source, &found);
    if (rc == EBM_OK && !found)
        rc = ebm_fail(ctx, EBM_ERR_IO, "the digits are not in %s; set EBM_DATA_DIR to the "
                      "folder that holds 'digits'", path);
    mem_free(ctx, path);
    return rc;
}

static bool names_shapes(const char *name)
{
    return strcmp(name, "shapes") == 0 || strncmp(name, "shapes:", 7) == 0;
}

static int open_source(ebm_context *ctx, const char *name, const struct request *request,
                       struct source *source)
{
    int rc;

    if (strcmp(name, "digits") == 0)
        rc = open_digits(ctx, request, source);
    else if (names_shapes(name))
        rc = shapes_open(ctx, name, request, source);
    else if (squares_named(name))
        rc = squares_open(ctx, name, request, source);
    else
        rc = open_path(ctx, name, request, source);
    if (rc < 0)
        return rc;
    if (!(source->splits & request->split))
        return ebm_fail(ctx, EBM_ERR_ARG, "%s has no split '%s', only '%s'", name,
                        split_name(request->split), split_name(source->splits));
    if (source->count == 0)
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: there are no images in it", name);
    return EBM_OK;
}

/* --- size --- */

static int take_request(ebm_context *ctx, const ebm_data_options *o, struct request *r)
{
    int rc = take_split(ctx, o->split, &r->split);

    if (rc < 0)
        return rc;
    if (o->height < 0 || o->width < 0 || !o->height != !o->width
        || (size_t)o->height > SIDE_LIMIT || (size_t)o->width > SIDE_LIMIT
        || (size_t)o->height * (size_t)o->width > PIXEL_LIMIT)
        return ebm_fail(ctx, EBM_ERR_ARG, "images of %d x %d: both sides are given, up to %zu, "
                        "or both are 0, as stored", o->height, o->width, SIDE_LIMIT);
    if (o->channels != 0 && o->channels != 1 && o->channels != 3)
        return ebm_fail(ctx, EBM_ERR_ARG, "images of %d channels: 1 and 3 are possible, and 0, "
                        "as stored", o->channels);
    if (o->fit != EBM_FIT_CROP && o->fit != EBM_FIT_PAD && o->fit != EBM_FIT_STRETCH)
        return ebm_fail(ctx, EBM_ERR_ARG, "there is no fit %d", (int)o->fit);
    r->height = (size_t)o->height;
    r->width = (size_t)o->width;
    r->channels = (size_t)o->channels;
    r->seed = o->seed;
    return EBM_OK;
}

static int settle_size(ebm_data *d, const struct request *r)
{
    const struct source *s = &d->source;

    d->height = r->height ? r->height : s->height;
    d->width = r->width ? r->width : s->width;
    d->channels = r->channels ? r->channels : s->channels;
    if (d->height == 0)
        return ebm_fail(d->ctx, EBM_ERR_ARG, "%s: its images differ in size; give the height "
                        "and width that they are to be brought to", d->name);
    return EBM_OK;
}

/* Room for images that are costly to make. */
static int settle_keeping(ebm_data *d)
{
    const struct source *s = &d->source;
    bool resized = s->height > d->height || s->width > d->width
                || (d->fit != EBM_FIT_PAD && (s->height != d->height || s->width != d->width));
    uint64_t size = (uint64_t)d->height * d->width * d->channels;

    if (pthread_mutex_init(&d->mutex, NULL) != 0)
        return ebm_fail(d->ctx, EBM_ERR_NOMEM, "no memory for a lock");
    d->mutex_ready = true;
    if (!(s->coded || resized) || d->count > KEEP_LIMIT / size)
        return EBM_OK;
    d->kept = mem_new(d->ctx, d->count, (size_t)size);
    d->have = mem_new(d->ctx, d->count, 1);
    d->labels = mem_new(d->ctx, d->count, sizeof *d->labels);
    return d->kept && d->have && d->labels ? EBM_OK : EBM_ERR_NOMEM;
}

/* Image 0 stands for all: floats of another range, damage and the like show now
 * instead of when training has begun. */
static int try_first(ebm_data *d)
{
    float *pixels = mem_new(d->ctx, d->height * d->width * d->channels, sizeof *pixels);
    int rc = pixels ? data_read(d->ctx, d, 0, pixels, NULL) : EBM_ERR_NOMEM;

    mem_free(d->ctx, pixels);
    return rc;
}

static void settle_fingerprint(ebm_data *d)
{
    const uint64_t settings[] = {
        d->count, d->height, d->width, d->channels, (uint64_t)d->fit, (uint64_t)d->split,
    };

    d->fingerprint = fingerprint(d->source.fingerprint, settings, sizeof settings);
}

int ebm_data_open(ebm_context *ctx, const char *name, const ebm_data_options *options,
                  ebm_data **data)
{
    static const ebm_data_options defaults;
    const ebm_data_options *o = options ? options : &defaults;
    struct request request = { 0 };
    int rc, v;

    *data = NULL;
    if ((rc = take_request(ctx, o, &request)) < 0)
        return rc;
    ebm_data *d = mem_new(ctx, 1, sizeof *d);
    if (!d)
        return EBM_ERR_NOMEM;
    d->ctx = ctx;
    d->split = request.split;
    d->fit = o->fit;
    for (v = 0; v < 256; v++)
        d->level[v] = (float)v / 255;
    if (!(d->name = mem_strdup(ctx, name)))
        rc = EBM_ERR_NOMEM;
    if (rc < 0 || (rc = open_source(ctx, name, &request, &d->source)) < 0
        || (rc = settle_size(d, &request)) < 0) {
        ebm_data_free(d);
        return rc;
    }
    d->count = o->limit && o->limit < d->source.count ? o->limit : d->source.count;
    settle_fingerprint(d);
    if ((rc = settle_keeping(d)) < 0 || (rc = try_first(d)) < 0) {
        ebm_data_free(d);
        return rc;
    }
    *data = d;
    return EBM_OK;
}

void ebm_data_free(ebm_data *d)
{
    if (!d)
        return;
    source_close(d->ctx, &d->source);
    if (d->mutex_ready)
        pthread_mutex_destroy(&d->mutex);
    mem_free(d->ctx, d->kept);
    mem_free(d->ctx, d->have);
    mem_free(d->ctx, d->labels);
    mem_free(d->ctx, d->name);
    mem_free(d->ctx, d);
}

void ebm_data_describe(const ebm_data *d, ebm_data_info *info)
{
    info->count = d->count;
    info->height = (int)d->height;
    info->width = (int)d->width;
    info->channels = (int)d->channels;
    info->classes = d->source.classes;
    info->class_names = (const char *const *)d->source.class_names;
    info->format = d->source.format;
    info->split = split_name(d->split & d->source.splits);
    info->fingerprint = d->fingerprint;
}

/* --- reading --- */

static void to_floats(const ebm_data *d, const uint8_t *bytes, float *pixels)
{
    size_t i, size = d->height * d->width * d->channels;

    for (i = 0; i < size; i++)
        pixels[i] = d->level[bytes[i]];
}

/* true if the image was kept */
static bool recall(ebm_data *d, size_t index, float *pixels, int32_t *label)
{
    bool have;

    if (!d->kept)
        return false;
    pthread_mutex_lock(&d->mutex);
    have = d->have[index];
    pthread_mutex_unlock(&d->mutex);
    if (!have)
        return false;
    /* what is kept never changes */
    to_floats(d, d->kept + index * d->height * d->width * d->channels, pixels);
    *label = d->labels[index];
    return true;
}

static void keep(ebm_data *d, size_t index, const uint8_t *bytes, int32_t label)
{
    size_t size = d->height * d->width * d->channels;

    if (!d->kept)
        return;
    pthread_mutex_lock(&d->mutex);
    if (!d->have[index]) {
        memcpy(d->kept + index * size, bytes, size);
        d->labels[index] = label;
        d->have[index] = 1;
    }
    pthread_mutex_unlock(&d->mutex);
}

int data_read(ebm_context *ctx, ebm_data *d, size_t index, float *pixels, int32_t *label)
{
    struct image image;
    int32_t ignored;
    int rc;

    if (!label)
        label = &ignored;
    if (index >= d->count)
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: image %zu of %zu", d->name, index, d->count);
    if (recall(d, index, pixels, label))
        return EBM_OK;
    *label = -1;
    if ((rc = d->source.read(ctx, d->source.state, index, &image, label)) < 0)
        return rc;
    if ((rc = image_recolour(ctx, &image, d->channels)) == EBM_OK)
        rc = image_fit(ctx, &image, d->height, d->width, d->fit);
    if (rc == EBM_OK && image.bytes) {
        to_floats(d, image.bytes, pixels);
        keep(d, index, image.bytes, *label);
    } else if (rc == EBM_OK) {
        memcpy(pixels, image.floats, d->height * d->width * d->channels * sizeof *pixels);
    }
    image_free(ctx, &image);
    return rc;
}

int ebm_data_read(ebm_data *d, size_t index, float *pixels, int32_t *label)
{
    return data_read(d->ctx, d, index, pixels, label);
}

ebm_context *data_context(const ebm_data *d)
{
    return d->ctx;
}

int ebm_shapes_read(const ebm_data *d, size_t index, ebm_shapes_attributes *attributes)
{
    if (!source_is_shapes(&d->source))
        return ebm_fail(d->ctx, EBM_ERR_ARG, "%s: attributes are known of shapes only",
                        d->name);
    if (index >= d->count)
        return ebm_fail(d->ctx, EBM_ERR_ARG, "%s: image %zu of %zu", d->name, index, d->count);
    return shapes_attributes(&d->source, index, attributes);
}
