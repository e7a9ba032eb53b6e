/* members.h - the models that a composed one is made of.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_MEMBERS_H
#define EBM_MEMBERS_H

#include "methods/joint.h"

/* Their files' settings, read and checked; not their weights. */
struct members;
int members_open(ebm_context *ctx, int n, const ebm_model_part *parts, double any,
                 struct members **members);
void members_free(struct members *members);            /* NULL is allowed */
/* The first model's recipe is the one in force from now on; images of that size
 * are what all must take. */
int members_begin(struct members *members, struct recipe *recipe, const int64_t image[3]);

/* What they are to a method; NULL of NULL. */
const struct joint_spec *members_joint(const struct members *members);
const ebm_model_info *members_info(const struct members *members, int index);   /* or NULL */

#endif
