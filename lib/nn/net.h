/* net.h - what the files of lib/nn share.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_NET_H
#define EBM_NET_H

#include "graph.h"

enum { NET_NAME = 192 };     /* bytes of "region/scope.layer.weight" */

/* "scope.name" or "scope.name.suffix" into text; false and an error latched if
 * it is too long. */
bool net_name(ebm_net *net, const char *name, const char *suffix, char text[NET_NAME]);
/* ebm_net_param and ebm_net_state of "name.suffix". */
ebm_val net_param(ebm_net *net, const char *name, const char *suffix,
                  int rank, const int64_t *shape, ebm_init init);
ebm_val net_state(ebm_net *net, const char *name, const char *suffix,
                  int rank, const int64_t *shape, ebm_init init);
/* The states of layers move in this network: it is trained and has effects. */
bool net_learns(const ebm_net *net);
/* state := a, as an effect of the network. */
void net_assign(ebm_net *net, ebm_val state, ebm_val a);
/* Sizes of x into n; the rank, or 0 (error latched) unless within the bounds. */
int net_shape(ebm_net *net, const char *layer, ebm_val x, int least, int most,
              int64_t n[EBM_MAX_RANK]);

/* spectral.c: the largest singular value of a weight, a scalar; axis `out` counts
 * the rows of the matrix. */
ebm_val largest_singular(ebm_net *net, const char *name, ebm_val weight, int out);
/* Filters of axis 0 centred and divided by their deviation. */
ebm_val weight_standard(ebm_net *net, const char *name, ebm_val weight);

#endif
