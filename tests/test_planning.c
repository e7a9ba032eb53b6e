/* test_planning.c - the order of drafts and the places of blocks, against plain
 * searches through all there is.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "schedule.h"
#include "tap.h"

static uint64_t state = 1;

static int draw(int n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int)((state >> 33) % (uint64_t)n);
}

/* ---- order ---- */

enum { DRAFTS = 60, GRAPHS = 200 };

/* path[i][j]: j must run after i. */
static bool path[DRAFTS][DRAFTS];

static void add_path(int from, int to)
{
    for (int i = 0; i < DRAFTS; i++)
        for (int j = 0; j < DRAFTS; j++)
            path[i][j] |= (i == from || path[i][from]) && (j == to || path[to][j]);
}

/* The smallest draft for which all before it are done, again and again. */
static bool order_is_right(const struct schedule *s)
{
    bool done[DRAFTS] = { false };

    for (int n = 0; n < s->n_order; n++) {
        int least = 0;
        for (; least < DRAFTS; least++) {
            bool ready = !done[least] && !s->drafts[least].merged;
            for (int i = 0; i < DRAFTS; i++)
                ready = ready && (!path[i][least] || done[i]);
            if (ready)
                break;
        }
        if (least == DRAFTS || s->order[n] != least)
            return false;
        done[least] = true;
    }
    return true;
}

static bool try_order(ebm_context *ctx, int edges)
{
    ebm_graph g = { .ctx = ctx };
    int32_t order[DRAFTS];
    struct draft drafts[DRAFTS];
    struct schedule s = { .g = &g, .n_drafts = DRAFTS, .drafts = drafts, .order = order };
    bool good = order_new(&s) >= 0;
    int merged = draw(DRAFTS);

    memset(drafts, 0, sizeof drafts);
    memset(path, 0, sizeof path);
    drafts[merged].merged = true;
    for (int e = 0; good && e < edges; e++) {
        int from = draw(DRAFTS), to = draw(DRAFTS);
        good = from == to || leads_to(&s, from, to) == path[from][to];
        if (!good || from == to || path[to][from] || from == merged || to == merged)
            continue;
        good = must_follow(&s, to, from) >= 0;
        add_path(from, to);
    }
    for (int i = 0; good && i < DRAFTS; i++)
        for (int j = 0; j < DRAFTS; j++)
            good = good && (i == j || leads_to(&s, i, j) == path[i][j]);
    good = good && order_drafts(&s) >= 0 && s.n_order == DRAFTS - 1 && order_is_right(&s);
    order_free(&s);
    return good;
}

static void test_order(ebm_context *ctx)
{
    int wrong = 0;

    for (int i = 0; i < GRAPHS; i++)
        wrong += !try_order(ctx, 1 + draw(4 * DRAFTS));
    tap_ok(wrong == 0, "%d graphs of drafts: what leads to what, and the first of those ready runs next", GRAPHS);
}

/* ---- arena ---- */

enum { BLOCKS = 300, STEPS = 100, ARENAS = 100 };

static bool alive_together(const struct block *a, const struct block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static bool free_at(const struct block *b, int n, int64_t offset)
{
    for (const struct block *o = b - n; o < b; o++)
        if (alive_together(o, b) && o->offset < offset + b->bytes && offset < o->offset + o->bytes)
            return false;
    return true;
}

/* Each block, in the order of placing, lies at the lowest offset that was free: 0
 * or the end of one placed before. */
static bool arena_is_right(const struct block *blocks, int64_t size)
{
    int64_t end = 0;

    for (int i = 0; i < BLOCKS; i++) {
        const struct block *b = &blocks[i];
        int64_t least = free_at(b, i, 0) ? 0 : INT64_MAX;
        for (int k = 0; k < i; k++) {
            int64_t after = blocks[k].offset + blocks[k].bytes;
            if (after < least && free_at(b, i, after))
                least = after;
        }
        if (b->offset != least || (i && b[-1].bytes < b->bytes))
            return false;
        if (end < b->offset + b->bytes)
            end = b->offset + b->bytes;
    }
    return size == end;
}

static void test_arena(ebm_context *ctx)
{
    struct block blocks[BLOCKS];
    int wrong = 0;

    for (int k = 0; k < ARENAS; k++) {
        int64_t size = -1;
        for (int i = 0; i < BLOCKS; i++) {
            int first = draw(STEPS), life = draw(k % 2 ? 5 : STEPS - first);
            blocks[i] = (struct block){ first, first + life, i, 64 * (1 + draw(20)), -1, NULL };
        }
        wrong += arena_place(ctx, BLOCKS, blocks, 0, &size) < 0 || !arena_is_right(blocks, size);
    }
    tap_ok(wrong == 0, "%d arenas: largest first, each as low as it can, none over another", ARENAS);
}

/* In an arena of pieces blocks lie apart, too, and none in two pieces. */
static void test_pieces(ebm_context *ctx)
{
    enum { PIECE = 64 * 30 };
    struct block blocks[BLOCKS];
    int wrong = 0;

    for (int k = 0; k < ARENAS; k++) {
        int64_t size = -1;
        for (int i = 0; i < BLOCKS; i++) {
            int first = draw(STEPS), life = draw(STEPS - first);
            blocks[i] = (struct block){ first, first + life, i, 64 * (1 + draw(20)), -1, NULL };
        }
        wrong += arena_place(ctx, BLOCKS, blocks, PIECE, &size) < 0;
        for (int i = 0; i < BLOCKS; i++) {
            const struct block *b = &blocks[i];
            wrong += !free_at(b, i, b->offset) || b->offset / PIECE != (b->offset + b->bytes - 1) / PIECE
                  || b->offset + b->bytes > size;
        }
    }
    tap_ok(wrong == 0, "%d arenas in pieces: none over another, none in two", ARENAS);
}

int main(void)
{
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    test_order(ctx);
    test_arena(ctx);
    test_pieces(ctx);
    ebm_context_free(ctx);
    return tap_done();
}
