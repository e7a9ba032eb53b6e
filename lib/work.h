/* work.h - what a program costs, in multiply-adds.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_WORK_H
#define EBM_WORK_H

#include "graph.h"

/* Multiply-adds of one node; 0 but for matrix products and convolutions. */
double node_work(const ebm_graph *g, const struct node *n);

/* Multiply-adds of the matrix products and convolutions that the outputs need:
 * nearly all of the work of an image model.  0 without memory for the count. */
double graph_work(const ebm_graph *g, int n, const ebm_val *outputs);

#endif
