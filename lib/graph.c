/* graph.c - nodes, each made once.
 *
 * SPDX-License-Identifier: ISC
 *
 *   nodes    [none] [feed x] [state w] [conv 1 2] [add 3 ...]   indices are values
 *   buckets  open-addressed hash table of node indices; 0 is empty
 *
 * Invariants: operands have smaller indices than their readers; no two nodes
 * are equal in op, type, shape, operands and attributes (hash-consing), so
 * that equal subexpressions are computed once.  RANDOM draws are told apart by
 * their purpose. */
#include <stdio.h>
#include <string.h>
#include "graph.h"
#include "store.h"

const struct op_info op_info[OP_COUNT] = {
    [OP_NONE] = { "NONE", 0, LEAF, "no value" },
#define OP(name, operands, class, gradient, meaning) \
    [OP_##name] = { #name, operands, class, meaning },
#include "ops.def"
#undef OP
};

int64_t shape_count(const struct shape *s)
{
    int64_t count = 1;

    for (int i = 0; i < s->rank; i++)
        count *= s->n[i];
    return count;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    return a->rank == b->rank
        && memcmp(a->n, b->n, (size_t)a->rank * sizeof a->n[0]) == 0;
}

size_t type_size(enum ebm_type type)
{
    return type == EBM_U8 ? 1 : 4;
}

const char *shape_text(const struct shape *s, char *text)
{
    size_t used = (size_t)snprintf(text, SHAPE_TEXT, "[");

    for (int i = 0; i < s->rank && used < SHAPE_TEXT; i++)
        used += (size_t)snprintf(text + used, SHAPE_TEXT - used, i ? ",%lld" : "%lld",
                                 (long long)s->n[i]);
    if (used < SHAPE_TEXT - 1)
        snprintf(text + used, SHAPE_TEXT - used, "]");
    return text;
}

ebm_val graph_fail(ebm_graph *g, int status, const char *format, ...)
{
    char text[512];
    va_list args;

    if (g->status < 0)      /* the first error is the cause of all others */
        return 0;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    g->status = ebm_fail(g->ctx, status, "%s", text);
    return 0;
}

int ebm_graph_new(ebm_store *store, ebm_graph **graph)
{
    ebm_context *ctx = store->ctx;
    ebm_graph *g = mem_new(ctx, 1, sizeof *g);

    *graph = NULL;
    if (!g)
        return EBM_ERR_NOMEM;
    g->ctx = ctx;
    g->store = store;
    g->capacity = 256;
    g->n_buckets = 1024;
    g->nodes = mem_new(ctx, (size_t)g->capacity, sizeof *g->nodes);
    g->buckets = mem_new(ctx, (size_t)g->n_buckets, sizeof *g->buckets);
    if (!g->nodes || !g->buckets) {
        ebm_graph_free(g);
        return EBM_ERR_NOMEM;
    }
    g->count = 1;
    *graph = g;
    return EBM_OK;
}

void ebm_graph_free(ebm_graph *g)
{
    if (!g)
        return;
    for (int32_t i = 0; i < g->count; i++)
        mem_free(g->ctx, g->nodes[i].many);
    for (int32_t i = 0; i < g->n_feeds; i++)
        mem_free(g->ctx, g->feeds[i]);
    mem_free(g->ctx, g->feeds);
    mem_free(g->ctx, g->stored);
    mem_free(g->ctx, g->buckets);
    mem_free(g->ctx, g->nodes);
    mem_free(g->ctx, g);
}

int graph_like(const ebm_graph *g, ebm_graph **like)
{
    int status = ebm_graph_new(g->store, like);
    ebm_graph *to = *like;

    if (status < 0)
        return status;
    if (!(to->feeds = mem_new(g->ctx, (size_t)g->n_feeds, sizeof *to->feeds)))
        return EBM_ERR_NOMEM;
    for (; to->n_feeds < g->n_feeds; to->n_feeds++)
        if (!(to->feeds[to->n_feeds] = mem_strdup(g->ctx, g->feeds[to->n_feeds])))
            return EBM_ERR_NOMEM;
    return EBM_OK;
}

void graph_forget(ebm_graph *g)
{
    memset(g->buckets, 0, (size_t)g->n_buckets * sizeof *g->buckets);
    g->forgotten = g->count - 1;
}

void graph_store(ebm_graph *g, ebm_val a)
{
    if (g->status < 0)
        return;
    if (g->n_stored == g->stored_capacity) {
        int32_t capacity = g->stored_capacity ? 2 * g->stored_capacity : 64;
        void *grown = mem_grow(g->ctx, g->stored, (size_t)g->n_stored, (size_t)capacity, sizeof *g->stored);
        if (!grown) {
            graph_fail(g, EBM_ERR_NOMEM, "no memory for the graph");
            return;
        }
        g->stored = grown;
        g->stored_capacity = capacity;
    }
    g->stored[g->n_stored++] = a;
}

int ebm_graph_status(const ebm_graph *g)
{
    return g->status;
}

int ebm_shape(const ebm_graph *g, ebm_val a, int64_t *shape)
{
    if (a <= 0 || a >= g->count)
        return -1;
    const struct shape *s = &g->nodes[a].shape;
    for (int i = 0; i < s->rank; i++)
        shape[i] = s->n[i];
    return s->rank;
}

/* FNV-1a over the parts that make nodes equal. */
static uint32_t hash_bytes(uint32_t h, const void *data, size_t size)
{
    const unsigned char *p = data;

    while (size--)
        h = (h ^ *p++) * 16777619u;
    return h;
}

static uint32_t hash_node(const struct node *n)
{
    uint32_t h = hash_bytes(2166136261u, &n->op, sizeof n->op);

    h = hash_bytes(h, &n->shape, sizeof n->shape);
    h = hash_bytes(h, n->many ? n->many : n->in, (size_t)n->n_in * sizeof n->in[0]);
    return hash_bytes(h, &n->attr, sizeof n->attr);
}

static bool node_equal(const struct node *a, const struct node *b)
{
    return a->op == b->op && a->type == b->type && a->n_in == b->n_in
        && memcmp(&a->shape, &b->shape, sizeof a->shape) == 0
        && memcmp(a->many ? a->many : a->in, b->many ? b->many : b->in,
                  (size_t)a->n_in * sizeof a->in[0]) == 0
        && memcmp(&a->attr, &b->attr, sizeof a->attr) == 0;
}

static int32_t *find_bucket(const ebm_graph *g, const struct node *n)
{
    uint32_t mask = (uint32_t)g->n_buckets - 1;
    uint32_t at = hash_node(n) & mask;

    while (g->buckets[at] && !node_equal(&g->nodes[g->buckets[at]], n))
        at = (at + 1) & mask;
    return &g->buckets[at];
}

ebm_val graph_find(const ebm_graph *g, const struct node *n)
{
    return *find_bucket(g, n);
}

static bool grow(ebm_graph *g)
{
    if (g->count == g->capacity) {
        struct node *nodes = mem_grow(g->ctx, g->nodes, (size_t)g->count,
                                      2 * (size_t)g->capacity, sizeof *nodes);
        if (!nodes)
            return false;
        g->nodes = nodes;
        g->capacity *= 2;
    }
    if (2 * g->count > g->n_buckets) {
        int32_t *fresh = mem_new(g->ctx, 2 * (size_t)g->n_buckets, sizeof *fresh);
        if (!fresh)
            return false;
        mem_free(g->ctx, g->buckets);
        g->buckets = fresh;
        g->n_buckets *= 2;
        for (int32_t i = g->forgotten + 1; i < g->count; i++)
            *find_bucket(g, &g->nodes[i]) = i;
    }
    return true;
}

ebm_val graph_node(ebm_graph *g, enum op op, enum ebm_type type,
                   const struct shape *shape, int n, const ebm_val *in,
                   const union attr *attr)
{
    struct node node;

    if (g->status < 0)
        return 0;
    memset(&node, 0, sizeof node);      /* padding too: nodes compare bytewise */
    node.op = op;
    node.type = type;
    node.shape.rank = shape->rank;
    for (int i = 0; i < shape->rank; i++)
        node.shape.n[i] = shape->n[i];
    node.n_in = n;
    if (attr)
        node.attr = *attr;
    if (op == OP_CONCAT) {
        node.many = mem_new(g->ctx, (size_t)n, sizeof *node.many);
        if (!node.many)
            return graph_fail(g, EBM_ERR_NOMEM, "no memory for the graph");
        memcpy(node.many, in, (size_t)n * sizeof *in);
    } else {
        for (int i = 0; i < n; i++)
            node.in[i] = in[i];
    }

    ebm_val same = simplify(g, &node);
    if (same || g->status < 0) {
        mem_free(g->ctx, node.many);
        return same;
    }
    int32_t *bucket = find_bucket(g, &node);
    if (*bucket) {
        mem_free(g->ctx, node.many);
        return *bucket;
    }
    if (!grow(g)) {
        mem_free(g->ctx, node.many);
        return graph_fail(g, EBM_ERR_NOMEM, "no memory for the graph");
    }
    g->nodes[g->count] = node;
    *find_bucket(g, &node) = g->count;
    return g->count++;
}
