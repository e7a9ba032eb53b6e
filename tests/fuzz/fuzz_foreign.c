/* fuzz_foreign.c - any bytes as a checkpoint of another program.
 *
 * SPDX-License-Identifier: ISC
 *
 * What opens is read, tensor by tensor, as far as they are small, and looked up. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "import/foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void claim(bool condition)
{
    if (!condition)
        abort();
}

static void read_all(ebm_context *ctx, ebm_foreign *file)
{
    const ebm_foreign_info *info = ebm_foreign_describe(file);
    float x[4096];

    for (int i = 0; i < info->n_tensors; i++) {
        const struct foreign_tensor *t = &file->tensors[i];
        const struct foreign_tensor *found = foreign_find(file, t->name);
        claim(found && strcmp(found->name, t->name) == 0);
        claim(t->elements >= 0 && t->rank >= 0 && t->rank <= EBM_MAX_RANK);
        if ((size_t)t->elements <= sizeof x / sizeof *x)
            claim(foreign_read(file, t, x) >= 0 || *ebm_message(ctx));
    }
    foreign_value(file, "FLAGS/cond");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    ebm_foreign *file;
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 0;
    if (foreign_memory(ctx, bytes, size, "input", &file) == EBM_OK)
        read_all(ctx, file);
    else
        claim(*ebm_message(ctx));
    ebm_foreign_free(file);
    ebm_context_free(ctx);
    return 0;
}
