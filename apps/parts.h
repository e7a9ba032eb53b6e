/* parts.h - models composed on a command line: their files, weights, labels.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_PARTS_H
#define EBM_PARTS_H

#include "options.h"
#include "tool.h"

/* What options gave: weights "1,0.5", as many as models, or NULL for ones; labels
 * "3" or "any" of the first, second ... model; any: see ebm_model_join(). */
struct parts {
    const char *weights, *any;
    struct texts labels;
    ebm_model_part *list;
    double sharpness;
    int count;
    bool joined;               /* more is asked for than one model as it is */
};

/* 0, or an exit status after a message. */
int parts_read(struct parts *parts, int count, char **paths);
void parts_free(struct parts *parts);
int parts_open(const struct parts *parts, ebm_backend *device, const ebm_model_options *options,
               ebm_model **model);

/* "digest" of one model; of several, a line each: "digest weight 1 label 3".  NULL
 * without memory; free it. */
char *parts_digests(const struct parts *parts, const ebm_model *model);
/* The same for JSON. */
json_t *parts_json(const struct parts *parts, const ebm_model *model);

#endif
