/* image.c - a picture's channels and size.
 *
 * SPDX-License-Identifier: ISC
 *
 * Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), in Pillow's integers for
 * bytes.  How a picture of another size is fitted:
 *
 *    crop   +--+------+--+   pad  +----------+   stretch   both sides as
 *           |  | kept |  |        |  0 +--+  |             asked for
 *           +--+------+--+        |    +--+  |
 *                                 +----------+
 *
 * The proportions and the centre are those of torchvision's Resize and
 * CenterCrop, which most papers used. */
#include <inttypes.h>
#include <string.h>
#include "image.h"

int image_check_size(ebm_context *ctx, const char *name,
                     uint64_t height, uint64_t width)
{
    if (height == 0 || width == 0)
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: an image of %" PRIu64 " x %" PRIu64
                        " pixels is empty", name, height, width);
    if (height > SIDE_LIMIT || width > SIDE_LIMIT || height * width > PIXEL_LIMIT)
        return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: an image of %" PRIu64 " x %" PRIu64
                        " pixels is over the limit of %zu a side and %zu in all",
                        name, height, width, SIDE_LIMIT, PIXEL_LIMIT);
    return EBM_OK;
}

int image_new(ebm_context *ctx, struct image *image, size_t height, size_t width,
              size_t channels, bool floats)
{
    size_t row, count;

    memset(image, 0, sizeof *image);
    if (!size_mul(width, channels, &row) || !size_mul(row, height, &count))
        return ebm_fail(ctx, EBM_ERR_NOMEM, "an image of %zu x %zu x %zu is more than "
                        "this machine can address", height, width, channels);
    if (floats)
        image->floats = mem_new(ctx, count, sizeof *image->floats);
    else
        image->bytes = mem_new(ctx, count, 1);
    if (!image->floats && !image->bytes)
        return EBM_ERR_NOMEM;
    image->height = height;
    image->width = width;
    image->channels = channels;
    return EBM_OK;
}

void image_free(ebm_context *ctx, struct image *image)
{
    mem_free(ctx, image->bytes);
    mem_free(ctx, image->floats);
    memset(image, 0, sizeof *image);
}

enum picture picture_kind(const uint8_t *bytes, size_t size)
{
    static const uint8_t png[] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };
    static const uint8_t jpeg[] = { 0xff, 0xd8, 0xff };

    if (size >= sizeof png && memcmp(bytes, png, sizeof png) == 0)
        return PICTURE_PNG;
    if (size >= sizeof jpeg && memcmp(bytes, jpeg, sizeof jpeg) == 0)
        return PICTURE_JPEG;
    return PICTURE_NONE;
}

static int picture_read(ebm_context *ctx, const char *name, const uint8_t *bytes,
                        size_t size, struct image *image, struct image_size *found)
{
    switch (picture_kind(bytes, size)) {
    case PICTURE_PNG:
        return png_read(ctx, name, bytes, size, image, found);
    case PICTURE_JPEG:
        return jpeg_read(ctx, name, bytes, size, image, found);
    case PICTURE_NONE:
        break;
    }
    return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: neither PNG nor JPEG, whatever its name; "
                    "convert it or take it out of the folder", name);
}

int picture_decode(ebm_context *ctx, const char *name, const uint8_t *bytes,
                   size_t size, struct image *image)
{
    struct image_size found;

    memset(image, 0, sizeof *image);
    int rc = picture_read(ctx, name, bytes, size, image, &found);
    if (rc < 0)
        image_free(ctx, image);
    return rc;
}

int picture_probe(ebm_context *ctx, const char *name, const uint8_t *bytes,
                  size_t size, struct image_size *found)
{
    return picture_read(ctx, name, bytes, size, NULL, found);
}

int image_recolour(ebm_context *ctx, struct image *image, size_t channels)
{
    struct image to;
    size_t i, c, count = image->height * image->width;

    if (image->channels == channels)
        return EBM_OK;
    int rc = image_new(ctx, &to, image->height, image->width, channels,
                       image->floats != NULL);
    if (rc < 0)
        return rc;
    for (i = 0; i < count; i++)
        if (channels == 1 && image->bytes) {
            const uint8_t *p = image->bytes + 3 * i;   /* the weights in 1/65536 */
            to.bytes[i] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u
                                     + 0x8000u) >> 16);
        } else if (channels == 1) {
            const float *p = image->floats + 3 * i;
            to.floats[i] = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];
        } else {
            for (c = 0; c < channels; c++)
                if (image->bytes)
                    to.bytes[channels * i + c] = image->bytes[i];
                else
                    to.floats[channels * i + c] = image->floats[i];
        }
    image_free(ctx, image);
    *image = to;
    return EBM_OK;
}

static int pad(ebm_context *ctx, const struct image *from, size_t height, size_t width,
               struct image *to)
{
    size_t y, c = from->channels;

    int rc = image_new(ctx, to, height, width, c, from->floats != NULL);
    if (rc < 0)
        return rc;
    size_t top = (height - from->height) / 2, left = (width - from->width) / 2;
    for (y = 0; y < from->height; y++) {
        size_t at = ((y + top) * width + left) * c, row = from->width * c;
        if (from->bytes)
            memcpy(to->bytes + at, from->bytes + y * row, row);
        else
            memcpy(to->floats + at, from->floats + y * row, row * sizeof(float));
    }
    return EBM_OK;
}

/* half of n, halves to the even neighbour, as Python rounds */
static size_t half_even(size_t n)
{
    return n / 2 + (n % 4 == 3);
}

/* Resized so that it lies within height x width and touches a side. */
static int reduce(ebm_context *ctx, struct image *image, size_t height, size_t width)
{
    const size_t h = image->height, w = image->width;
    size_t full[2] = { height, width };
    struct image to;

    if ((uint64_t)h * width >= (uint64_t)w * height)
        full[1] = (size_t)((uint64_t)w * height / h);
    else
        full[0] = (size_t)((uint64_t)h * width / w);
    full[0] += full[0] == 0;
    full[1] += full[1] == 0;
    int rc = image_resample(ctx, image, full, 0, 0, full[0], full[1], &to);
    if (rc < 0)
        return rc;
    image_free(ctx, image);
    *image = to;
    return EBM_OK;
}

int image_fit(ebm_context *ctx, struct image *image, size_t height, size_t width, enum ebm_fit fit)
{
    size_t full[2] = { height, width };
    struct image to;
    int rc = EBM_OK;

    if (fit == EBM_FIT_PAD && (image->height > height || image->width > width))
        rc = reduce(ctx, image, height, width);
    const size_t h = image->height, w = image->width;
    if (rc < 0 || (h == height && w == width))
        return rc;
    if (fit == EBM_FIT_PAD) {
        rc = pad(ctx, image, height, width, &to);
    } else {
        if (fit == EBM_FIT_CROP) {
            if ((uint64_t)h * width <= (uint64_t)w * height)
                full[1] = (size_t)((uint64_t)w * height / h);
            else
                full[0] = (size_t)((uint64_t)h * width / w);
        }
        rc = image_resample(ctx, image, full, half_even(full[0] - height),
                            half_even(full[1] - width), height, width, &to);
    }
    if (rc < 0)
        return rc;
    image_free(ctx, image);
    *image = to;
    return EBM_OK;
}
