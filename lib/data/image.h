/* image.h - one picture in memory: decoded, converted, brought to size.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_IMAGE_H
#define EBM_IMAGE_H

#include "context.h"

/* Limits on what a file may declare: a side, all pixels of a picture. */
#define SIDE_LIMIT ((size_t)16384)
#define PIXEL_LIMIT ((size_t)64 << 20)

/* Deflate gives at most 1032 bytes for one (zlib's technical details), so a
 * compressed file that declares more is short or hostile. */
#define DEFLATE_RATIO ((uint64_t)1032)

/* Height x width x channels, rows first: as bytes, or as floats in [0,1]; the
 * other pointer is NULL. */
struct image {
    size_t height, width, channels;
    uint8_t *bytes;
    float *floats;
};

struct image_size {
    size_t height, width, channels;
};

/* EBM_ERR_FORMAT where a size is 0 or over a limit; name is the file's. */
int image_check_size(ebm_context *ctx, const char *name,
                     uint64_t height, uint64_t width);

int image_new(ebm_context *ctx, struct image *image, size_t height, size_t width,
              size_t channels, bool floats);
void image_free(ebm_context *ctx, struct image *image);   /* and zero it */

/* Picture files, by their first bytes. */
enum picture { PICTURE_NONE, PICTURE_PNG, PICTURE_JPEG };
enum picture picture_kind(const uint8_t *bytes, size_t size);

/* Decode a whole file: 8 bits, 1 or 3 channels. */
int picture_decode(ebm_context *ctx, const char *name, const uint8_t *bytes,
                   size_t size, struct image *image);
/* Its size and channels, from the header. */
int picture_probe(ebm_context *ctx, const char *name, const uint8_t *bytes,
                  size_t size, struct image_size *found);

/* The formats behind them; image NULL: probe. */
int png_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
             struct image *image, struct image_size *found);
int jpeg_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
              struct image *image, struct image_size *found);

/* In place: 1 to 3 channels or 3 to 1. */
int image_recolour(ebm_context *ctx, struct image *image, size_t channels);
/* In place: to height x width. */
int image_fit(ebm_context *ctx, struct image *image, size_t height, size_t width,
              enum ebm_fit fit);

/* resize.c: the picture resized to full[0] x full[1], of which the window
 * [y,y+height) x [x,x+width) is made. */
int image_resample(ebm_context *ctx, const struct image *from, const size_t full[2],
                   size_t y, size_t x, size_t height, size_t width,
                   struct image *to);

#endif
