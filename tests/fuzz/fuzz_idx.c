/* fuzz_idx.c - any bytes as an IDX file, plain or gzip.
 *
 * SPDX-License-Identifier: ISC */
#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct source source = { 0 };
    struct input in;
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 0;
    int rc = input_memory(ctx, "input", bytes, size, &in);
    if (rc == EBM_OK) {
        rc = idx_open(&in, &source);
        exercise(ctx, &source, rc);
        input_close(&in);
    }
    ebm_context_free(ctx);
    return 0;
}
