/* graph.h - the graph as its own files see it: nodes, shapes, attributes.
 *
 * SPDX-License-Identifier: ISC
 *
 * A value is the index of a node; node 0 is the invalid value.  Operands come
 * before the nodes that read them, so index order is a topological order.
 * Equal nodes are made once (hash-consing) and simplified as they are made. */
#ifndef EBM_GRAPH_H
#define EBM_GRAPH_H

#include "context.h"

enum op {
    OP_NONE,
#define OP(name, operands, class, gradient, meaning) OP_##name,
#include "ops.def"
#undef OP
    OP_COUNT
};

enum op_class { LEAF, EW, MOVE, REDUCE, CONTRACT, WINDOW, INDEX, EFFECT };

extern const struct op_info {
    const char *name;
    int operands;            /* -1: any number */
    enum op_class class;
    const char *meaning;
} op_info[OP_COUNT];

struct shape {
    int rank;
    int64_t n[EBM_MAX_RANK];
};

/* Attributes; unused bytes are zero, so that nodes compare by memcmp.  The
 * largest member is first: { 0 } then clears the whole union. */
union attr {
    struct { int64_t begin[EBM_MAX_RANK], step[EBM_MAX_RANK]; } box;  /* SLICE; PAD: zeros before, distance of neighbours */
    float value;                                     /* CONST */
    struct { int32_t slot; int64_t offset; } state;  /* STATE, ASSIGN (a window in elements) */
    struct { int32_t name; } feed;                   /* FEED: index of its name */
    int32_t axis;                                    /* IOTA, CONCAT */
    struct { uint32_t purpose; int32_t normal; } random;   /* RANDOM */
    uint32_t axes;                                   /* SUM, AMAX, FLIP */
    int32_t perm[EBM_MAX_RANK];                      /* TRANSPOSE */
    struct { int32_t ta, tb, full; } matmul;         /* full: float32 whatever the precision */
    ebm_conv_spec conv;                              /* CONV*, no zeros left */
    ebm_pool_spec pool;                              /* POOL, UNPOOL, PICK, PLACE */
    int32_t resample;                                /* RESAMPLE*: enum ebm_resample */
};

struct node {
    enum op op;
    enum ebm_type type;
    struct shape shape;
    int n_in;
    ebm_val in[3];       /* the first three operands; of CONCAT none: see many */
    ebm_val *many;       /* CONCAT: all operands, else NULL */
    union attr attr;
};

struct ebm_graph {
    ebm_context *ctx;
    ebm_store *store;
    struct node *nodes;
    int32_t count, capacity;
    int32_t *buckets;            /* hash table of node indices */
    int32_t n_buckets;
    char **feeds;                /* names */
    int32_t n_feeds;
    int32_t forgotten;           /* nodes before this are not found again */
    int32_t n_stored, stored_capacity;
    ebm_val *stored;             /* results that a step of their own stores */
    int status;                  /* the latched error */
};

static inline const struct node *node_of(const ebm_graph *g, ebm_val a)
{
    return &g->nodes[a];
}

static inline ebm_val operand(const struct node *n, int i)
{
    return n->many ? n->many[i] : n->in[i];
}

int64_t shape_count(const struct shape *s);          /* elements */
bool shape_equal(const struct shape *a, const struct shape *b);
size_t type_size(enum ebm_type type);
/* Bytes of a value. */
static inline size_t value_bytes(const ebm_graph *g, ebm_val v)
{
    return (size_t)shape_count(&node_of(g, v)->shape) * type_size(node_of(g, v)->type);
}
/* "[64,32,32,3]" into a buffer of SHAPE_TEXT bytes. */
enum { SHAPE_TEXT = 96 };
const char *shape_text(const struct shape *s, char *text);

/* Make a node, or find the equal one, or the simpler one it amounts to.  The
 * shape is checked and computed by the builders in build.c. */
ebm_val graph_node(ebm_graph *g, enum op op, enum ebm_type type,
                   const struct shape *shape, int n, const ebm_val *in,
                   const union attr *attr);
/* The node that is equal to this one, or 0. */
ebm_val graph_find(const ebm_graph *g, const struct node *n);
/* Another graph on the same store, with the same feeds and no values. */
int graph_like(const ebm_graph *g, ebm_graph **like);
/* From now on nodes are made anew, also where there is an equal one. */
void graph_forget(ebm_graph *g);
/* Programs store this elementwise value as soon as it can be computed. */
void graph_store(ebm_graph *g, ebm_val a);
/* simplify.c: a value equal to the node that is about to be made, or 0. */
ebm_val simplify(ebm_graph *g, const struct node *n);
/* Latch an error worded like ebm_fail; returns 0. */
ebm_val graph_fail(ebm_graph *g, int status, const char *format, ...) PRINTF(3, 4);

#endif
