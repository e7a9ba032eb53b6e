/* fuzz_recipe.c - any bytes as a recipe; one that is taken is written and read
 * again to the same text.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const struct recipe_key keys[] = {
    { "method", KEY_TEXT, "cd", 0, 0, "method", "cd|icd" },
    { "steps", KEY_INTEGER, "10", 1, 1e9, "updates", NULL },
    { "energy.net", KEY_TEXT, "", 0, 0, NULL, NULL },
    { "adam.rate", KEY_NUMBER, "0.1", 0, HUGE_VAL, "rate", NULL },
    { "adam.betas", KEY_NUMBERS, "0, 0.9", 0, 0, "betas", NULL },
    { "flip", KEY_BOOL, "true", 0, 0, "flip", NULL },
};

static char *read_and_write(ebm_context *ctx, const char *text, size_t size)
{
    struct recipe *r;
    char *written = NULL;

    if (recipe_new(ctx, &r) < 0)
        return NULL;
    /* some keys are declared after the reading, as a method's are */
    if (recipe_declare(r, keys, 2) == EBM_OK
        && recipe_parse(r, text, size, "input") == EBM_OK
        && recipe_declare(r, keys + 2, COUNT(keys) - 2) == EBM_OK
        && recipe_check(r) == EBM_OK)
        written = recipe_write(r, true);
    recipe_free(r);
    return written;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 0;
    char *once = read_and_write(ctx, (const char *)bytes, size);
    if (once) {
        char *twice = read_and_write(ctx, once, strlen(once));
        if (!twice || strcmp(once, twice))
            abort();
        mem_free(ctx, twice);
    }
    mem_free(ctx, once);
    ebm_context_free(ctx);
    return 0;
}
