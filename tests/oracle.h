/* oracle.h - what a graph means, in double precision and plain loops.
 *
 * SPDX-License-Identifier: ISC
 *
 * An interpreter of graph nodes that knows no backend: the yardstick for
 * gradients (against finite differences) and for backends (against it).
 * Memory failures end the test. */
#ifndef ORACLE_H
#define ORACLE_H

#include "graph.h"

struct oracle;

struct oracle *oracle_new(const ebm_graph *g);
void oracle_free(struct oracle *o);

/* Contents of a feed (by name) or of a slot of the store, kept by the caller.
 * After changing them call oracle_forget(). */
void oracle_feed(struct oracle *o, const char *name, const double *data);
void oracle_slot(struct oracle *o, int slot, const double *data);
void oracle_forget(struct oracle *o);

/* The elements of a value; they stay until oracle_forget(). */
const double *oracle_value(struct oracle *o, ebm_val a);

/* One operation: node a (no FEED, no STATE) of given operands. */
void oracle_apply(const ebm_graph *g, ebm_val a, const double *const *in, double *out);

/* Random inputs, the same on every machine: splitmix64 (Steele, Lea and Flood
 * 2014). */
static inline uint64_t draw_bits(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline double draw_between(uint64_t *state, double lo, double hi)
{
    return lo + (hi - lo) * (double)(draw_bits(state) >> 11) * 0x1p-53;
}

static inline int draw_below(uint64_t *state, int n)
{
    return (int)(draw_bits(state) % (uint64_t)n);
}

#endif
