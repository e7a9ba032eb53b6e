/* png_write.h - pictures as PNG files, and grids of images.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_PNG_WRITE_H
#define EBM_PNG_WRITE_H

#include "image.h"

/* A text chunk: keyword of 1 to 79 Latin letters, value in UTF-8. */
struct png_text_pair {
    const char *key, *value;
};

/* Write bytes [height,width,channels], channels 1 or 3, as a PNG: whole or not at
 * all, and durable when it returns.
 * Returns EBM_OK, EBM_ERR_ARG, EBM_ERR_IO or EBM_ERR_NOMEM. */
int png_write(ebm_context *ctx, const char *path, const uint8_t *bytes,
              size_t height, size_t width, size_t channels,
              const struct png_text_pair *texts, size_t n_texts);

/* n images [n,height,width,channels] of floats, [0,1] to black ... white and
 * clamped, in rows of `columns` (0: about a square), each pixel scale x scale (0:
 * 1), white gaps of 2 pixels between images.  Free the picture by image_free. */
int grid_draw(ebm_context *ctx, const float *images, size_t n, size_t height,
              size_t width, size_t channels, size_t columns, size_t scale,
              struct image *picture);

#endif
