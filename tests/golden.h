/* golden.h - run graphs on the contents of a golden file, by the oracle or on a
 * backend.
 *
 * SPDX-License-Identifier: ISC
 *
 * The oracle answers in double precision whether the graph says what PyTorch
 * says; a backend, whether its arithmetic keeps it.  Failures that are not the
 * test's subject end the program. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "backend.h"
#include "oracle.h"
#include "safetensors.h"
#include "store.h"

enum { GOLDEN_FEEDS = 8, GOLDEN_SLOTS = 64 };

struct golden {
    ebm_context *ctx;
    ebm_backend *backend;        /* NULL: the oracle */
    struct ebm_backend nothing;  /* graphs need no device */
    ebm_store *store;
    ebm_graph *g;
    struct safetensors *file;    /* NULL: none */
    struct oracle *oracle;
    double *slot[GOLDEN_SLOTS];  /* the store as the oracle sees it */
    double *feed[GOLDEN_FEEDS];
    int n_feeds;
    ebm_program *program;
};

/* An empty graph, and the file of the folder tests/golden (name NULL: none). */
void golden_open(struct golden *t, ebm_context *ctx, ebm_backend *backend, const char *name);
void golden_close(struct golden *t);

/* The elements of a tensor of the file, to be freed; NULL where absent. */
double *golden_tensor(struct golden *t, const char *name, int64_t *count);

/* When the graph is complete: allocate the store and compile. */
void golden_ready(struct golden *t, const ebm_outputs *outputs);
/* Content of a state, a region or "region/parameter"; of a feed. */
void golden_put(struct golden *t, const char *name, const double *data, int64_t count);
void golden_feed(struct golden *t, const char *name, const double *data, int64_t count);
/* Run once, effects included.  Then values and states, to be freed. */
void golden_run(struct golden *t, const ebm_outputs *outputs);
double *golden_value(struct golden *t, ebm_val a);
double *golden_state(struct golden *t, const char *name);

/* The largest difference over the largest magnitude (or over `least`). */
double relative_error(const double *a, const double *b, int64_t count, double least);
/* That of a value and of the file's tensor of that name; 1 where there is none. */
double golden_error(struct golden *t, const char *name, ebm_val a);
/* That of the gradient by the region "net" and the file's grad.NAME, by the
 * largest gradient of all: of a bias before a normalisation it is 0. */
double golden_gradient_error(struct golden *t, ebm_val gradient);

/* Element i of what scripts and tests make of a name, in [-1,1): value() of
 * make_icd.py. */
double golden_number(const char *name, uint64_t i);
/* Parameters of the region "net" so made: matrices and filters such that they
 * keep the size of what they map; vectors, halved; then as `change` says (NULL:
 * nothing), times a factor and plus an addend, which come as 1 and 0. */
void golden_weights(struct golden *t,
                    void (*change)(const char *name, int rank, double *factor, double *addend));

#endif
