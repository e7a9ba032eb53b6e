/* target.h - what the targets for readers of images share.
 *
 * SPDX-License-Identifier: ISC
 *
 * A target takes any bytes.  Besides not crashing it claims that a failure is
 * worded, and that images which were opened have their size. */
#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "data/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static inline void claim(bool condition)
{
    if (!condition)
        abort();
}

/* rc is what an opener returned: read some images, close. */
static inline void exercise(ebm_context *ctx, struct source *source, int rc)
{
    enum { IMAGES = 8 };
    size_t i;

    claim(rc == EBM_OK || *ebm_message(ctx));
    for (i = 0; rc == EBM_OK && i < source->count && i < IMAGES; i++) {
        size_t index = i + 1 < IMAGES ? i : source->count - 1;
        struct image image;
        int32_t label = -1;

        rc = source->read(ctx, source->state, index, &image, &label);
        claim(rc == EBM_OK || *ebm_message(ctx));
        if (rc < 0)
            break;
        claim(image.height && image.width && (image.channels == 1 || image.channels == 3));
        claim(label >= -1 && label < (source->classes ? source->classes : 1));
        image_free(ctx, &image);
    }
    source_close(ctx, source);
}

#endif
