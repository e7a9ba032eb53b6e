/* settings.h - settings that several methods share, and what they become.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_SETTINGS_H
#define EBM_SETTINGS_H

#include "method.h"

/* energy.*: the network. */
extern const struct key_table energy_table;

struct energy {                  /* a network on a graph; an ebm_energy_fn's user */
    const char *text;
    ebm_net net;
};
/* training: layers learn what is not a weight; outputs receives those effects. */
struct energy energy_of(struct recipe *recipe, ebm_graph *g, bool training, ebm_outputs *outputs);
/* ebm_energy_fn with a struct energy. */
ebm_val energy_at(ebm_graph *g, ebm_val x, void *energy);

/* optimiser.*, ema.*: what moves the weights; rates change over `steps`. */
extern const struct key_table optimiser_table;
int optimiser_of(ebm_context *ctx, struct recipe *recipe, ebm_optimiser *optimiser);

/* langevin.*: a step of the chains in training. */
extern const struct key_table langevin_table;
ebm_langevin_options langevin_of(struct recipe *recipe);

/* start.*: what a chain starts from when not from a buffer: [n,h,w,c]. */
extern const struct key_table start_table;
ebm_val start_of(struct recipe *recipe, ebm_graph *g, ebm_val counter, uint32_t purpose,
                 int rank, const int64_t *shape);

/* sample.*: drawing from the trained model, in phases. */
extern const struct key_table sample_table;
enum { PHASES_MAX = 16 };
struct phases {
    int count;
    struct phase { int64_t steps; float step, noise; } list[PHASES_MAX];
};
int phases_of(ebm_context *ctx, struct recipe *recipe, struct phases *phases);

/* Numbers that tell the draws of one counter apart. */
enum purpose {
    DRAW_INDEX = 1, DRAW_TURN, DRAW_FRESH, DRAW_START, DRAW_LANGEVIN, DRAW_DATA, DRAW_PROBE,
    DRAW_DROPOUT, DRAW_SAMPLE_START, DRAW_SAMPLE_LANGEVIN,
    DRAW_LABELS = 72             /* of a first model; then those of a second ... */
};

/* The random counter as a state, stream 0. */
ebm_val counter_state(ebm_graph *g, const char *name);
/* Set it: {seed low, seed high, step, stream}. */
int counter_write(ebm_store *store, const char *name, uint64_t seed, uint32_t step, uint32_t stream);

#endif
