/* schedule.h - between graph and plan: which values are stored, and the steps
 * that make them, in order.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_SCHEDULE_H
#define EBM_SCHEDULE_H

#include "backend.h"

/* A step in the making: a heavy operation with stored elementwise values as its
 * epilogue, or such values alone. */
struct draft {
    ebm_val heavy;           /* 0: none */
    bool keep_raw;           /* is the heavy result itself stored? */
    int n_sinks;
    ebm_val sinks[EW_MAX_OUTPUTS];   /* elementwise values made here, all of one shape */
    bool dropped[EW_MAX_OUTPUTS];    /* read by no other step: never stored */
    int32_t latest;          /* of itself and the drafts that it waits for */
    bool merged;             /* into another draft: gone */
};

struct schedule {
    const ebm_graph *g;
    int n_outputs;
    const ebm_val *outputs;
    int32_t count;           /* values when scheduling began */
    unsigned char *mark;     /* by value: MARK_ bits */
    int32_t *maker;          /* by value: its draft, or -1 */
    int32_t *stamp, epoch;   /* by value: visited marks of walks */
    int32_t n_drafts;
    struct draft *drafts;
    struct order *depends;   /* order.c: which must run before which */
    int32_t n_order;
    int32_t *order;          /* drafts in the order of running */
};

enum {
    MARK_LIVE   = 1,         /* some step computes or reads it */
    MARK_STORED = 2,         /* elementwise, and has memory of its own */
    MARK_ALONE  = 4          /* in a step of its own */
};

int schedule_new(const ebm_graph *g, int n, const ebm_val *outputs, struct schedule **s);
void schedule_free(struct schedule *s);

/* v with STOP stripped: the same shape and content. */
ebm_val content(const ebm_graph *g, ebm_val v);
/* Is v computed by an instruction of a group (and not a leaf of it)? */
bool is_elementwise(const ebm_graph *g, ebm_val v);
/* Heavy operations that take an epilogue. */
bool takes_epilogue(enum op op);

/* Walk the leaves of sink v: what its group reads from memory.  leaf: the
 * operand as the formula has it (maybe a BROADCAST or RESHAPE); root: what it
 * reads.  Stops at values stored, other than v. */
typedef bool leaf_fn(void *user, ebm_val leaf, ebm_val root);
bool walk_leaves(struct schedule *s, ebm_val v, leaf_fn *fn, void *user);

/* order.c.  Room for what is known of all drafts; drafts so far follow no other. */
int order_new(struct schedule *s);
void order_free(struct schedule *s);
/* From now on `later` runs after `earlier`, which it must not lead to. */
int must_follow(struct schedule *s, int32_t later, int32_t earlier);
/* Must `to` run after `from`? */
bool leads_to(struct schedule *s, int32_t from, int32_t to);
/* Fill `order`. */
int order_drafts(struct schedule *s);

/* emit.c: the steps of the schedule, without places. */
int emit_steps(struct schedule *s, struct plan *plan);
/* Would these sinks, after `heavy`, fit a group's limits? */
bool group_fits(struct schedule *s, ebm_val heavy, int n, const ebm_val *sinks);

/* strip.c: which runs of steps are done block by block. */
int strips_find(const struct schedule *s, const ebm_backend *backend, struct plan *plan);

/* arena.c: offsets for blocks, each alive from its first step to its last, so that
 * two alive together share no byte, and none crosses a multiple of `piece` (0: any may);
 * the bytes they take together.  Sorts them. */
struct block { int32_t first, last, id; int64_t bytes, offset; struct life *owner; };
int arena_place(ebm_context *ctx, int n, struct block *blocks, int64_t piece, int64_t *size);
/* From `at` on, where so many bytes cross no multiple of `piece` (0: any may). */
int64_t arena_piece(int64_t at, int64_t bytes, int64_t piece);

/* place.c: give every operand and result its place. */
int place_steps(struct schedule *s, struct plan *plan);

void plan_free(ebm_context *ctx, struct plan *plan);

#endif
