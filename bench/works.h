/* works.h - the work that bench/work measures, as programs of a graph.
 *
 * SPDX-License-Identifier: ISC */
#ifndef BENCH_WORKS_H
#define BENCH_WORKS_H

#include "ebm.h"

enum kind {
    FORWARD,      /* y of a network's layers */
    BACKWARD,     /* the gradient of sum(y dy) by their input */
    FILTER,       /* the same by their weights */
    LANGEVIN,     /* one step of chains down the network's energy */
    TRAIN,        /* one update by contrastive divergence: Adam and moving average */
    ADAM          /* the update alone, of `c` weights with a gradient at hand */
};

struct work {
    const char *name;
    enum kind kind;
    int n, h, w, c;          /* images; TRAIN: as many again are chains */
    const char *net;         /* ebm_sequential()'s text */
};

extern const struct work works[];
extern const int n_works;
extern const char *const kind_names[];

/* A work of one's own: "KIND N H W C NETWORK", the kind by its name; it points into the text.
 * false: the text says something else. */
bool work_parse(const char *text, struct work *work);

/* A work made ready.  `result` is fetched, or 0: then the chains in the state
 * "x" are the result. */
struct ready {
    ebm_store *store;
    ebm_graph *graph;
    ebm_program *program;
    ebm_val result;
    size_t result_size;      /* bytes */
    double flop;             /* of contractions */
    double bytes;            /* at least: each input read and each result written once */
};
int ready_new(ebm_backend *device, const struct work *work, enum ebm_precision precision, struct ready *ready);
void ready_free(struct ready *ready);

#endif
