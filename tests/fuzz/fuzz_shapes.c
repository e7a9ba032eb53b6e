/* fuzz_shapes.c - any text as the name of a source of shapes.
 *
 * SPDX-License-Identifier: ISC */
#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct source source = { 0 };
    struct request request = { SPLIT_ALL, 8, 8, 0, 1 };
    ebm_context *ctx;
    char *text = malloc(size + 1);

    if (text && ebm_context_new(NULL, &ctx) == EBM_OK) {
        if (size)
            memcpy(text, bytes, size);
        text[size] = '\0';
        exercise(ctx, &source, shapes_open(ctx, text, &request, &source));
        ebm_context_free(ctx);
    }
    free(text);
    return 0;
}
