/* order.c - which draft must run before which, and the order they run in.
 *
 * SPDX-License-Identifier: ISC
 *
 *   rank   0    1    2    3    4          An edge goes from a draft to one that reads
 *          a -> b    c -> d -> e          its results.  Every edge rises in rank.
 *               ^---------'
 *
 * Whether c leads to d is asked at every attempt to join drafts.  A search back
 * from d looks at ranks above c's alone, and these are few, as what is joined lies
 * near; where it does not, c mostly leads to d and a path is found soon.  A new edge
 * that falls (here d to b) moves what lies between: what leads to d from above b
 * goes before what b leads to below d, within the ranks that both had (Pearce and
 * Kelly 2006). */
#include <stdlib.h>
#include "schedule.h"

struct order {
    int32_t *first_in, *first_out;   /* by draft: 1 + an edge, or 0 */
    int32_t *rank, *of_rank;         /* by draft (one that is merged has one in vain), and back */
    int32_t *seen, search;           /* by draft: the last search that met it */
    int32_t *stack, *found, *ranks;
    int32_t n_edges, capacity;
    struct edge { int32_t from, to, next_in, next_out; } *edges;
};

static int order_alloc(ebm_context *ctx, size_t n, struct order *o)
{
    int32_t **const arrays[] = { &o->first_in, &o->first_out, &o->rank, &o->of_rank, &o->seen, &o->stack, &o->found,
                                 &o->ranks };

    for (size_t i = 0; i < COUNT(arrays); i++)
        if (!(*arrays[i] = mem_new(ctx, n, sizeof **arrays[i])))
            return EBM_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        o->rank[i] = o->of_rank[i] = (int32_t)i;
    return EBM_OK;
}

int order_new(struct schedule *s)
{
    s->depends = mem_new(s->g->ctx, 1, sizeof *s->depends);
    return s->depends ? order_alloc(s->g->ctx, (size_t)s->n_drafts, s->depends) : EBM_ERR_NOMEM;
}

void order_free(struct schedule *s)
{
    ebm_context *ctx = s->g->ctx;
    struct order *o = s->depends;

    if (!o)
        return;
    mem_free(ctx, o->first_in);
    mem_free(ctx, o->first_out);
    mem_free(ctx, o->rank);
    mem_free(ctx, o->of_rank);
    mem_free(ctx, o->seen);
    mem_free(ctx, o->stack);
    mem_free(ctx, o->found);
    mem_free(ctx, o->ranks);
    mem_free(ctx, o->edges);
    mem_free(ctx, o);
    s->depends = NULL;
}

/* ---- searching ---- */

/* The drafts that `start` leads to (forward), of ranks below `limit`, or that lead to
 * it, of ranks above: into found, itself first; how many.  0: met `target`. */
static int32_t search(struct order *o, int32_t start, bool forward, int32_t limit, int32_t target,
                      int32_t *found)
{
    int32_t open = 0, n = 0;

    o->search++;
    o->seen[start] = o->search;
    o->stack[open++] = start;
    while (open) {
        int32_t at = o->stack[--open];
        found[n++] = at;
        for (int32_t e = forward ? o->first_out[at] : o->first_in[at]; e; ) {
            const struct edge *edge = &o->edges[e - 1];
            int32_t next = forward ? edge->to : edge->from;
            e = forward ? edge->next_out : edge->next_in;
            if (next == target)
                return 0;
            if (o->seen[next] == o->search || (forward ? o->rank[next] > limit : o->rank[next] < limit))
                continue;
            o->seen[next] = o->search;
            o->stack[open++] = next;
        }
    }
    return n;
}

bool leads_to(struct schedule *s, int32_t from, int32_t to)
{
    struct order *o = s->depends;

    return o->rank[from] < o->rank[to] && search(o, to, false, o->rank[from], from, o->found) == 0;
}

/* ---- edges ---- */

static int add_edge(ebm_context *ctx, struct order *o, int32_t from, int32_t to)
{
    if (o->n_edges == o->capacity) {
        int32_t capacity = o->capacity ? 2 * o->capacity : 256;
        void *grown = mem_grow(ctx, o->edges, (size_t)o->n_edges, (size_t)capacity, sizeof *o->edges);
        if (!grown)
            return EBM_ERR_NOMEM;
        o->edges = grown;
        o->capacity = capacity;
    }
    o->edges[o->n_edges++] = (struct edge){ from, to, o->first_in[to], o->first_out[from] };
    o->first_in[to] = o->first_out[from] = o->n_edges;
    return EBM_OK;
}

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

/* Give `later` a rank after `earlier`, though it had one before. */
static void lift(struct order *o, int32_t earlier, int32_t later)
{
    int32_t back = search(o, earlier, false, o->rank[later], -1, o->found);
    int32_t n = back + search(o, later, true, o->rank[earlier], -1, o->found + back);

    for (int32_t i = 0; i < n; i++)
        o->ranks[i] = o->rank[o->found[i]];
    qsort(o->ranks, (size_t)back, sizeof *o->ranks, by_value);
    qsort(o->ranks + back, (size_t)(n - back), sizeof *o->ranks, by_value);
    for (int32_t i = 0; i < n; i++)
        o->found[i] = o->of_rank[o->ranks[i]];
    qsort(o->ranks, (size_t)n, sizeof *o->ranks, by_value);
    for (int32_t i = 0; i < n; i++) {
        o->rank[o->found[i]] = o->ranks[i];
        o->of_rank[o->ranks[i]] = o->found[i];
    }
}

int must_follow(struct schedule *s, int32_t later, int32_t earlier)
{
    struct order *o = s->depends;

    if (o->rank[earlier] > o->rank[later])
        lift(o, earlier, later);
    return add_edge(s->g->ctx, o, earlier, later);
}

/* ---- the order of running ---- */

/* A heap: no draft is above a smaller one. */
static void heap_add(int32_t *heap, int32_t n, int32_t draft)
{
    for (; n > 0 && heap[(n - 1) / 2] > draft; n = (n - 1) / 2)
        heap[n] = heap[(n - 1) / 2];
    heap[n] = draft;
}

static int32_t heap_take(int32_t *heap, int32_t n)
{
    int32_t least = heap[0], last = heap[n - 1], at = 0;

    for (int32_t child; (child = 2 * at + 1) < n - 1; at = child) {
        if (child + 1 < n - 1 && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return least;
}

/* Of the drafts that are ready, the one whose first value is the earliest. */
int order_drafts(struct schedule *s)
{
    struct order *o = s->depends;
    int32_t *waits = o->seen, *heap = o->stack, n = 0, left = 0;

    for (int32_t i = 0; i < s->n_drafts; i++)
        waits[i] = 0;
    for (int32_t e = 0; e < o->n_edges; e++)
        waits[o->edges[e].to]++;
    for (int32_t i = 0; i < s->n_drafts; i++) {
        left += !s->drafts[i].merged;
        if (!s->drafts[i].merged && waits[i] == 0)
            heap_add(heap, n++, i);
    }
    while (n) {
        int32_t chosen = heap_take(heap, n--);
        s->order[s->n_order++] = chosen;
        for (int32_t e = o->first_out[chosen]; e; e = o->edges[e - 1].next_out)
            if (--waits[o->edges[e - 1].to] == 0)
                heap_add(heap, n++, o->edges[e - 1].to);
    }
    return s->n_order == left ? EBM_OK
                              : ebm_fail(s->g->ctx, EBM_ERR_INTERNAL, "the schedule has a cycle");
}
