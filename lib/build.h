/* build.h - builders that only the library uses: for gradients and simplification.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_BUILD_H
#define EBM_BUILD_H

#include "graph.h"

ebm_val build_const(ebm_graph *g, const struct shape *shape, double value);
ebm_val build_ew1(ebm_graph *g, enum op op, ebm_val a);
ebm_val build_ew2(ebm_graph *g, enum op op, ebm_val a, ebm_val b);
/* a at `before` in zeros of shape `to`, neighbours `step` apart (NULL: ones). */
ebm_val build_pad(ebm_graph *g, ebm_val a, const struct shape *to,
                  const int64_t *before, const int64_t *step);
ebm_val build_unpool(ebm_graph *g, ebm_val y, const ebm_pool_spec *spec, const struct shape *x);
ebm_val build_pick(ebm_graph *g, ebm_val key, ebm_val b, const ebm_pool_spec *spec);
ebm_val build_place(ebm_graph *g, ebm_val key, ebm_val b, const ebm_pool_spec *spec);
/* As ebm_matmul(); full: in float32, whatever the precision. */
ebm_val build_matmul(ebm_graph *g, ebm_val a, ebm_val b, bool ta, bool tb, bool full);
/* RESAMPLE or RESAMPLE_T to h x w. */
ebm_val build_resample(ebm_graph *g, enum op op, ebm_val x, int mode, int64_t h, int64_t w);

#endif
