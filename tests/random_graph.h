/* random_graph.h - random programs, for tests of fusion, placing and backends.
 *
 * SPDX-License-Identifier: ISC */
#ifndef RANDOM_GRAPH_H
#define RANDOM_GRAPH_H

#include "cases.h"

/* Build a random graph from the trial's seed: up to 8 outputs, all float32 and
 * of moderate size.  smooth: only operations with continuous derivatives.
 * Returns the number of outputs. */
enum { RANDOM_OUTPUTS = 8 };
int random_graph(struct trial *t, bool smooth, ebm_val *outputs);

/* Two states, "s" [n,h,w,c] and the region "r", updated by random values; the
 * effects go to effects[2]. */
void random_effects(struct trial *t, ebm_val *effects);

#endif
