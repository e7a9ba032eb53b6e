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
