/* model.h - models as the library's own files see them.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_MODEL_H
#define EBM_MODEL_H

#include "methods/method.h"
#include "weights.h"

/* The metadata of a model's file. */
#define MODEL_FORMAT "libebm model 1"

/* The size of images that a recipe names; EBM_ERR_ARG where it does not. */
int model_image(ebm_context *ctx, struct recipe *recipe, int64_t image[3]);

/* A recipe from the text of settings, its method, the size of images. */
int model_settings(ebm_context *ctx, const char *settings, const char *name,
                   struct recipe **recipe, const struct method **method, int64_t image[3]);

/* A model from its settings, "key = value" lines.  name: of the source, for messages. */
int model_new(ebm_backend *backend, const char *settings, const char *name,
              const ebm_model_options *options, ebm_model **model);
/* Its store and programs, which take at most `most` images at a time (0: its
 * batch).  The store is to be allocated, and to be given weights. */
int model_plan(ebm_model *model, int64_t most);
ebm_store *model_store(ebm_model *model);

#endif
