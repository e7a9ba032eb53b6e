/* method.c - the methods there are, and the keys that every recipe has.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "guard.h"
#include "method.h"

static const struct method *const methods[] = { &method_cd, &method_icd, &method_cdrl };

const char *const shown_common[SHOWN_COMMON] = {
    [SHOWN_LOSS] = "loss", [SHOWN_DATA] = "energy.data", [SHOWN_SAMPLES] = "energy.samples",
    [SHOWN_NOISE] = "energy.noise", [SHOWN_GRADIENT] = "gradient", [SHOWN_RATE] = "rate",
};

static const struct recipe_key run_keys[] = {
    { "method", KEY_TEXT, "cd", 0, 0, "training method", "cd|icd|cdrl" },
    { "steps", KEY_INTEGER, "1000", 1, 1e12, "updates of the weights", NULL },
    { "seed", KEY_INTEGER, "1", 0, 9007199254740992., "of all random numbers", NULL },
    { "precision", KEY_TEXT, "fp32", 0, 0,
      "of layers' products: bf16 rounds operands to bfloat16, sums stay float32; bf16x3: as two of them",
      "fp32|bf16|bf16x3" },
    { "batch", KEY_INTEGER, "64", 1, 65536, "images of data in an update, and chains", NULL },
    { "batch.part", KEY_INTEGER, "0", 0, 65536, "how many of them are computed at a time: less memory, the same "
      "but for rounding; 0: all", NULL },
    { "data.source", KEY_TEXT, "digits", 0, 0, "a built-in set, a file or a folder", NULL },
    { "data.split", KEY_TEXT, "train", 0, 0, "part of it that is learned", NULL },
    { "data.height", KEY_INTEGER, "0", 0, 16384, "rows of an image; 0: as stored", NULL },
    { "data.width", KEY_INTEGER, "0", 0, 16384, "columns; 0: as stored", NULL },
    { "data.channels", KEY_INTEGER, "0", 0, 3, "1 grey, 3 colour; 0: as stored", NULL },
    { "data.fit", KEY_TEXT, "crop", 0, 0, "how other sizes come to it", "crop|pad|stretch" },
    { "data.limit", KEY_INTEGER, "0", 0, 1e12, "only the first so many images; 0: all", NULL },
    { "data.low", KEY_NUMBER, "-1", -1e3, 1e3, "black, as the network sees it", NULL },
    { "data.high", KEY_NUMBER, "1", -1e3, 1e3, "white, as the network sees it", NULL },
    { "data.flip", KEY_BOOL, "false", 0, 0, "mirror every other image, by chance", NULL },
    { "data.shift", KEY_INTEGER, "0", 0, 64, "move images by up to so many pixels", NULL },
    { "data.dequantise", KEY_BOOL, "false", 0, 0, "spread each byte over its interval", NULL },
    { "log.every", KEY_INTEGER, "10", 1, 1e9, "steps between lines of metrics.jsonl", NULL },
    { "save.every", KEY_INTEGER, "500", 1, 1e12, "steps between checkpoints", NULL },
    { "save.last", KEY_INTEGER, "3", 1, 1e6, "checkpoints kept, the newest", NULL },
    { "save.each", KEY_INTEGER, "0", 0, 1e12, "keep those of every so many steps too; 0: none", NULL },
    { "grid.every", KEY_INTEGER, "500", 0, 1e12, "steps between pictures of samples; 0: none, also at the end", NULL },
    { "grid.images", KEY_INTEGER, "64", 1, 1e4, "samples in a picture", NULL },
};

static const struct method *find(const char *name)
{
    for (size_t i = 0; i < COUNT(methods); i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
}

int method_declare(ebm_context *ctx, struct recipe *recipe, const struct method **method)
{
    int status;

    if ((status = recipe_declare(recipe, run_keys, COUNT(run_keys))) < 0
        || (status = recipe_declare(recipe, guard_keys, guard_n_keys)) < 0)
        return status;
    *method = find(recipe_text(recipe, "method"));
    if (!*method)
        return ebm_fail(ctx, EBM_ERR_ARG, "there is no method '%s'", recipe_text(recipe, "method"));
    for (const struct key_table *const *t = (*method)->tables; *t; t++)
        if ((status = recipe_declare(recipe, (*t)->keys, (*t)->count)) < 0)
            return status;
    if ((status = recipe_check(recipe)) < 0)
        return status;
    if (!(recipe_number(recipe, "data.low") < recipe_number(recipe, "data.high")))
        return ebm_fail(ctx, EBM_ERR_ARG, "data.low = %g must be below data.high = %g",
                        recipe_number(recipe, "data.low"), recipe_number(recipe, "data.high"));
    return EBM_OK;
}

enum ebm_precision method_precision(struct recipe *recipe)
{
    const char *name = recipe_text(recipe, "precision");

    return strcmp(name, "bf16") == 0 ? EBM_BF16 : strcmp(name, "bf16x3") == 0 ? EBM_BF16X3 : EBM_FP32;
}
