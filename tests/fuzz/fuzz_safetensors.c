/* fuzz_safetensors.c - any bytes as a safetensors file.
 *
 * SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Read every tensor in every type: sizes and types that do not fit are refused. */
static void read_all(struct safetensors *file, size_t file_size)
{
    const char *key, *text;

    for (int i = 0; i < safetensors_count(file); i++) {
        const struct safetensor *t = safetensors_at(file, i);
        for (int type = EBM_F32; type <= EBM_U8; type++) {
            size_t n = (size_t)t->elements * (type == EBM_U8 ? 1 : 4);
            /* a tensor cannot have more elements than the file has bytes */
            if ((uint64_t)t->elements > file_size)
                abort();
            void *to = malloc(n + 1);
            if (to)
                safetensors_read(file, t, (enum ebm_type)type, to, n);
            free(to);
        }
        if (safetensors_find(file, t->name) != t)
            abort();
    }
    for (int i = 0; safetensors_metadata_at(file, i, &key, &text); i++)
        if (safetensors_metadata(file, key) != text)
            abort();
    safetensors_verify(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct safetensors *file;
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 0;
    if (safetensors_open_memory(ctx, bytes, size, "input", &file) == EBM_OK)
        read_all(file, size);
    safetensors_close(file);
    ebm_context_free(ctx);
    return 0;
}
