/* parts.h - a graph whose batch is computed part by part.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_PARTS_H
#define EBM_PARTS_H

#include "graph.h"

/* The outputs of g, in a graph of their own, in which values of `batch` rows, or
 * of a small multiple, are made `part` rows at a time, as far as rows do not
 * depend on each other.  part divides batch.  Results are equal but for the order
 * of sums over rows.  The caller frees *graph, also after a failure. */
int parts_new(const ebm_graph *g, int64_t batch, int64_t part, int n, const ebm_val *outputs,
              ebm_graph **graph, ebm_val *in_parts);

#endif
