/* fuzz_jpeg.c - any bytes as a JPEG file.
 *
 * SPDX-License-Identifier: ISC
 *
 * Pictures of more than a megapixel are only probed: decoding them all would
 * make the search slow, and is no other code. */
#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    enum { PIXELS_MAX = 1 << 20 };
    struct image_size found = { 0, 0, 0 };
    struct image image;
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 0;
    int rc = jpeg_read(ctx, "input", bytes, size, NULL, &found);
    claim(rc == EBM_OK || *ebm_message(ctx));
    if (rc == EBM_OK && found.height * found.width <= PIXELS_MAX) {
        memset(&image, 0, sizeof image);
        rc = jpeg_read(ctx, "input", bytes, size, &image, &found);
        claim(rc < 0 || (image.bytes && image.height == found.height
                         && image.width == found.width
                         && image.channels == found.channels));
        image_free(ctx, &image);
    }
    ebm_context_free(ctx);
    return 0;
}
