/* icd_model.h - improved contrastive divergence: how its models are built; the
 * rest is energy_model.h's.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_ICD_MODEL_H
#define EBM_ICD_MODEL_H

#include "method.h"

int icd_model_build(const struct method_site *site, void **state);

#endif
