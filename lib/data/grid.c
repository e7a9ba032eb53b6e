/* grid.c - many images as one picture.
 *
 * SPDX-License-Identifier: ISC
 *
 *   +--+ +--+ +--+     the gaps are white, as is the place of images
 *   |0 | |1 | |2 |     that are missing in the last row
 *   +--+ +--+ +--+
 *   +--+ +--+
 *   |3 | |4 |
 *   +--+ +--+      */
#include <math.h>
#include <string.h>
#include "png_write.h"

enum { GAP = 2, WHITE = 255 };

static uint8_t byte_of(float v)
{
    return (uint8_t)(v >= 1 ? 255 : v > 0 ? (int)(v * 255 + 0.5f) : 0);   /* NaN: black */
}

static void draw(const float *image, size_t height, size_t width, size_t scale,
                 struct image *picture, size_t top, size_t left)
{
    const size_t C = picture->channels;
    size_t y, x, c;

    for (y = 0; y < height * scale; y++) {
        uint8_t *to = picture->bytes + ((top + y) * picture->width + left) * C;

        for (x = 0; x < width * scale; x++)
            for (c = 0; c < C; c++)
                *to++ = byte_of(image[(y / scale * width + x / scale) * C + c]);
    }
}

int grid_draw(ebm_context *ctx, const float *images, size_t n, size_t height,
              size_t width, size_t channels, size_t columns, size_t scale,
              struct image *picture)
{
    size_t i;

    memset(picture, 0, sizeof *picture);
    if (scale == 0)
        scale = 1;
    if (columns == 0)
        columns = (size_t)ceil(sqrt((double)n));
    if (n == 0 || height == 0 || width == 0 || (channels != 1 && channels != 3))
        return ebm_fail(ctx, EBM_ERR_ARG, "a grid of %zu images of %zu x %zu x %zu cannot be "
                        "drawn", n, height, width, channels);
    if (columns > n)
        columns = n;
    size_t rows = (n - 1) / columns + 1;
    if (height > SIDE_LIMIT || width > SIDE_LIMIT || scale > SIDE_LIMIT
        || n > PIXEL_LIMIT || (double)rows * (double)(height * scale + GAP)
                            * (double)columns * (double)(width * scale + GAP)
                            > 4.0 * (double)PIXEL_LIMIT)
        return ebm_fail(ctx, EBM_ERR_ARG, "a grid of %zu images of %zu x %zu, each pixel %zu "
                        "times, is too large for one picture", n, height, width, scale);
    size_t down = height * scale + GAP, right = width * scale + GAP;
    int rc = image_new(ctx, picture, rows * down - GAP, columns * right - GAP, channels,
                       false);
    if (rc < 0)
        return rc;
    memset(picture->bytes, WHITE, picture->height * picture->width * channels);
    for (i = 0; i < n; i++)
        draw(images + i * height * width * channels, height, width, scale, picture,
             i / columns * down, i % columns * right);
    return EBM_OK;
}

/* A scale at which an image is about 64 pixels across. */
static size_t scale_for_the_eye(size_t height, size_t width)
{
    enum { PIXELS_ACROSS = 64 };
    size_t longer = height > width ? height : width;

    return longer < PIXELS_ACROSS ? PIXELS_ACROSS / longer : 1;
}

int ebm_picture_write(ebm_context *ctx, const char *path, const ebm_picture *p)
{
    struct image picture;
    size_t i, n_texts;

    if (!p->images || p->n < 1 || (uint64_t)p->n > SIZE_MAX || p->height < 1
        || p->width < 1 || p->columns < 0 || p->scale < 0 || p->n_text < 0
        || p->n_text % 2)
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: a picture of %lld images of %d x %d, %d "
                        "columns, scale %d and %d texts cannot be drawn", path,
                        (long long)p->n, p->height, p->width, p->columns, p->scale,
                        p->n_text);
    size_t height = (size_t)p->height, width = (size_t)p->width;
    int rc = grid_draw(ctx, p->images, (size_t)p->n, height, width,
                       p->channels < 0 ? 0 : (size_t)p->channels, (size_t)p->columns,
                       p->scale ? (size_t)p->scale : scale_for_the_eye(height, width),
                       &picture);
    if (rc < 0)
        return rc;
    n_texts = (size_t)p->n_text / 2;
    struct png_text_pair *texts = mem_new(ctx, n_texts, sizeof *texts);
    if (!texts) {
        image_free(ctx, &picture);
        return EBM_ERR_NOMEM;
    }
    for (i = 0; i < n_texts; i++)
        texts[i] = (struct png_text_pair){ p->text[2 * i], p->text[2 * i + 1] };
    rc = png_write(ctx, path, picture.bytes, picture.height, picture.width,
                   picture.channels, texts, n_texts);
    mem_free(ctx, texts);
    image_free(ctx, &picture);
    return rc;
}
