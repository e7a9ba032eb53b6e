/* cases.h - for each operation of the table, small graphs around it.
 *
 * SPDX-License-Identifier: ISC
 *
 * Gradients and backends are tested on the same cases.  An operation without a
 * case fails the tests. */
#ifndef CASES_H
#define CASES_H

#include "graph.h"
#include "oracle.h"

enum { TRIAL_INPUTS = 12, NO_CASE = -1 };

/* A graph under test, with its feeds and their random contents. */
struct trial {
    ebm_context *ctx;
    ebm_store *store;
    ebm_graph *g;
    uint64_t random;
    int n_in;
    struct trial_input {
        char name[16];
        ebm_val val;
        enum ebm_type type;
        int64_t count;
        double *data;        /* exact in the input's type */
    } in[TRIAL_INPUTS];
};

/* A graph on the store of a backend; the seed decides the inputs.  The store
 * has the state "counter" for RANDOM and TICK, whose content is trial_counter. */
void trial_open(struct trial *t, ebm_store *store, uint64_t seed);
void trial_close(struct trial *t);
extern const int32_t trial_counter[4];

/* A new input of numbers in [lo,hi); integers if the type is one. */
ebm_val trial_input(struct trial *t, enum ebm_type type, int rank, const int64_t *shape,
                    double lo, double hi);

/* The oracle for the trial's graph, with its inputs given. */
struct oracle *trial_oracle(const struct trial *t);

/* Case i of an operation: its result, or NO_CASE when i is past the last. */
ebm_val case_build(struct trial *t, enum op op, int i);

#endif
