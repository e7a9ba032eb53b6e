/* arena.c - one memory for blocks that live from a step to a later one.
 *
 * SPDX-License-Identifier: ISC
 *
 *   bytes ^  [--b--] [--c--]       c takes over the bytes of b
 *         |  [------a------]
 *         +------------------step
 *
 * Largest first, at the lowest offset free for its whole life (greedy by size,
 * Pisarchyk and Lee 2020).  Blocks alive together are found in a tree of all blocks
 * in order of their first step - the middle one is the root, the halves its
 * subtrees - whose nodes know the last step of any placed block below. */
#include <stdlib.h>
#include "schedule.h"

struct tree {
    int n, n_near;
    int64_t piece;
    struct block **by_first;
    int32_t *reach;          /* by place in by_first, as a root: the last step below; -1: none */
    bool *placed;
    struct block **near;     /* what was found */
};

static int by_size(const void *a, const void *b)
{
    const struct block *x = a, *y = b;

    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int by_first(const void *a, const void *b)
{
    const struct block *x = *(struct block *const *)a, *y = *(struct block *const *)b;

    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x > y) - (x < y);            /* of one array */
}

static int by_offset(const void *a, const void *b)
{
    const struct block *x = *(struct block *const *)a, *y = *(struct block *const *)b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Recursion is as deep as the tree: log2 n. */
static void find_near(struct tree *t, int begin, int end, const struct block *b)
{
    int root = begin + (end - begin) / 2;

    if (begin == end || t->reach[root] < b->first)
        return;
    find_near(t, begin, root, b);
    if (t->by_first[root]->first > b->last)
        return;
    if (t->placed[root] && t->by_first[root]->last >= b->first)
        t->near[t->n_near++] = t->by_first[root];
    find_near(t, root + 1, end, b);
}

static void note_placed(struct tree *t, struct block *b)
{
    int begin = 0, end = t->n;

    for (;;) {
        int root = begin + (end - begin) / 2;
        if (t->reach[root] < b->last)
            t->reach[root] = b->last;
        if (t->by_first[root] == b) {
            t->placed[root] = true;
            return;
        }
        if (by_first(&b, &t->by_first[root]) < 0)
            end = root;
        else
            begin = root + 1;
    }
}

int64_t arena_piece(int64_t at, int64_t bytes, int64_t piece)
{
    return piece && at / piece != (at + bytes - 1) / piece ? (at / piece + 1) * piece : at;
}

/* The lowest offset at which b meets no placed block alive with it. */
static int64_t lowest_offset(struct tree *t, const struct block *b)
{
    int64_t at = 0;

    t->n_near = 0;
    find_near(t, 0, t->n, b);
    qsort(t->near, (size_t)t->n_near, sizeof *t->near, by_offset);
    for (int i = 0; i < t->n_near; i++) {
        const struct block *o = t->near[i];
        if (o->offset + o->bytes <= at)
            continue;
        if (o->offset >= at + b->bytes)
            break;
        at = arena_piece(o->offset + o->bytes, b->bytes, t->piece);
    }
    return at;
}

static int64_t place_all(struct tree *t, struct block *blocks)
{
    int64_t size = 0;

    qsort(blocks, (size_t)t->n, sizeof *blocks, by_size);
    for (int i = 0; i < t->n; i++) {
        t->by_first[i] = &blocks[i];
        t->reach[i] = -1;
    }
    qsort(t->by_first, (size_t)t->n, sizeof *t->by_first, by_first);
    for (int i = 0; i < t->n; i++) {
        struct block *b = &blocks[i];
        b->offset = lowest_offset(t, b);
        note_placed(t, b);
        if (size < b->offset + b->bytes)
            size = b->offset + b->bytes;
    }
    return size;
}

int arena_place(ebm_context *ctx, int n, struct block *blocks, int64_t piece, int64_t *size)
{
    struct tree t = { .n = n, .piece = piece };
    int status = EBM_ERR_NOMEM;

    t.by_first = mem_new(ctx, (size_t)n, sizeof *t.by_first);
    t.reach = mem_new(ctx, (size_t)n, sizeof *t.reach);
    t.placed = mem_new(ctx, (size_t)n, sizeof *t.placed);
    t.near = mem_new(ctx, (size_t)n, sizeof *t.near);
    if (t.by_first && t.reach && t.placed && t.near) {
        *size = place_all(&t, blocks);
        status = EBM_OK;
    }
    mem_free(ctx, t.near);
    mem_free(ctx, t.placed);
    mem_free(ctx, t.reach);
    mem_free(ctx, t.by_first);
    return status;
}
