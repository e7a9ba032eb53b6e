/* group.c - elementwise groups: a register program over tiles that stay in the
 * first-level cache.
 *
 * SPDX-License-Identifier: ISC
 *
 *   for each tile of the flat iteration space
 *       list its vector loops and their operands
 *       for each piece of the tile
 *           for each loop of the list: do it over the piece
 *
 * A piece is the tile, or a part of it: where operands come from memory, so short that
 * the processor begins to read one while it computes another; and where all pieces find their
 * operands in the same way, so that lists are made less often.
 *
 * A register is a piece of floats, a tile of memory, or LANES copies of one number,
 * which is computed when the list is made.  Where operands and results can be used
 * where they lie, they are.  What nothing computes in place is stored at a list's end.
 *
 * Invariant: every vector loop covers a multiple of LANES elements.  The last
 * few of a range go through tiles of LANES elements, so no element's bits depend
 * on where ranges are cut. */
#include <string.h>
#include "group.h"

static void iota(const struct instruction *p, float *d, int64_t begin, int64_t n)
{
    int64_t index = begin / p->inner % p->size, left = p->inner - begin % p->inner;

    for (int64_t i = 0; i < n; i++) {
        d[i] = (float)index;
        if (--left == 0) {
            left = p->inner;
            index = index + 1 == p->size ? 0 : index + 1;
        }
    }
}

/* A vector loop and what it takes for the first element of a tile. */
struct pass {
    ew_loop *loop;
    struct reg d, a, b, c;
};

struct list {
    int n, n_computed;           /* passes; those before stores */
    struct pass pass[EW_MAX_INSTRS + 2 * EW_MAX_OUTPUTS];
};

enum { AHEAD = 512 };            /* elements between what is read and what is fetched */

static bool one(struct reg r)
{
    return r.step == ONE;
}

/* One number's place, which is the same for all pieces. */
static struct reg still(struct reg r)
{
    return (struct reg){ r.at, one(r) ? 0 : r.step };
}

static void add(struct list *l, ew_loop *loop, struct reg d, struct reg a, struct reg b, struct reg c)
{
    struct pass *p = &l->pass[l->n++];

    p->loop = loop;
    p->d = d;
    p->a = still(a);
    p->b = still(b);
    p->c = still(c);
}

/* What the elements from i on of a tile find there. */
static const float *floats(struct reg r, int64_t i)
{
    return (const float *)(const void *)(r.at + i * r.step);
}

static struct reg own(const struct group *g, char *scratch, int r)
{
    return (struct reg){ scratch + (size_t)r * (size_t)g->piece * sizeof(float), 0 };
}

static struct reg memory(const void *at, int64_t begin, enum ebm_type type)
{
    const int size = type == EBM_U8 ? 1 : 4;

    return (struct reg){ (char *)(uintptr_t)at + begin * size, size };
}

/* Add an instruction whose result shall lie at d, or compute it at once if it is one
 * number, which then lies at `number`. */
static struct reg compute(const struct kernels *k, const struct instruction *p, const struct reg *reg,
                          struct reg d, char *number, struct list *l)
{
    const int operands = ew_operands(p->op);
    const struct reg a = reg[p->a], b = operands > 1 ? reg[p->b] : a, c = operands > 2 ? reg[p->c] : a;

    if (one(a) && one(b) && one(c)) {
        k->loop[p->op][EW_VV](number, floats(a, 0), floats(b, 0), floats(c, 0), LANES);
        return (struct reg){ number, ONE };
    }
    if (operands == 3 && one(a)) {           /* a != 0 ? b : c */
        struct reg chosen = *floats(a, 0) != 0.0f ? b : c;
        add(l, one(chosen) ? k->spread : k->copy, d, chosen, chosen, chosen);
        return d;
    }
    int kind = operands == 1 ? EW_VV : operands == 2 ? one(a) + 2 * one(b) : one(b) + 2 * one(c);
    add(l, k->loop[p->op][kind], d, a, b, c);
    return d;
}

/* The two instructions as one: first's operands are those it would have had. */
static struct reg compute_pair(const struct kernels *k, const struct instruction *first, const struct reg *waiting,
                               const struct instruction *p, const struct reg *reg, struct reg d, struct list *l)
{
    const struct reg other = reg[p->second ? p->a : p->b];

    if (first->op == EW_LESS) {
        add(l, k->positive[one(reg[p->b]) + 2 * one(reg[p->c])], d, waiting[1], reg[p->b], reg[p->c]);
    } else {
        const int kind = one(waiting[0]) + 2 * one(waiting[1]);
        const int second = p->op == EW_SUB && p->second ? PAIR_FROM : p->op - EW_ADD;
        add(l, k->pair[first->op - EW_ADD][second][2 * kind + one(other)], d, waiting[0], waiting[1], other);
    }
    return d;
}

static void add_store(const struct kernels *k, struct output *o, struct reg r, int64_t begin,
                      struct list *l)
{
    const struct reg d = memory(o->at, begin, o->type);

    if (o->type == EBM_I32)
        add(l, k->to_i32, d, r, r, r);
    else if (o->type == EBM_U8)
        add(l, k->to_u8, d, r, r, r);
    else if (o->streamed)
        add(l, k->stream, d, r, r, r);
    else if (r.at != d.at)
        add(l, k->copy, d, r, r, r);
}

/* Where an instruction's result shall lie. */
static struct reg result_of(const struct group *g, const struct instruction *p, int64_t begin, int64_t n,
                            char *scratch)
{
    return fills_lanes(n) && p->output >= 0 ? memory(g->out[p->output].at, begin, EBM_F32)
                                            : own(g, scratch, p->dst);
}

/* List what a tile's n elements take. */
static void make_list(const struct group *g, int64_t begin, int64_t n, char *scratch, struct list *l)
{
    const struct kernels *k = g->k;
    const struct instruction *first = NULL;      /* it waits, for its operands are not all numbers */
    struct reg reg[EW_MAX_REGS], waiting[2];

    l->n = 0;
    for (const struct instruction *p = g->instr; p < g->instr + g->n_instr; p++) {
        struct reg *d = &reg[p->dst];
        switch (p->op) {
        case EW_LOAD:
            *d = input_load(g, &g->in[p->a], scratch, begin, n);
            if (g->in[p->a].far && g->in[p->a].reading == READ_LINEAR && begin + AHEAD + n <= g->count) {
                struct reg next = memory(g->in[p->a].at, begin + AHEAD, EBM_F32);
                add(l, k->fetch, next, next, next, next);
            }
            break;
        case EW_IMM:
            *d = (struct reg){ (char *)(uintptr_t)p->imm, ONE };
            break;
        case EW_RAW:
            *d = memory(g->raw, begin, EBM_F32);
            if (!fills_lanes(n))
                *d = (struct reg){ memcpy(scratch + g->raw_copied, d->at, (size_t)n * sizeof(float)),
                                   sizeof(float) };
            break;
        case EW_IOTA:
            *d = memory(scratch + p->copied, 0, EBM_F32);
            iota(p, (float *)(void *)d->at, begin, n);
            break;
        default:
            if (p->waits && !(one(reg[p->a]) && one(reg[p->b]))) {
                first = p;
                waiting[0] = reg[p->a];
                waiting[1] = reg[p->b];
                continue;
            }
            if (p->takes && first) {
                *d = compute_pair(k, first, waiting, p, reg, result_of(g, p, begin, n, scratch), l);
                first = NULL;
                continue;
            }
            *d = compute(k, p, reg, result_of(g, p, begin, n, scratch),
                         scratch + g->numbers + (size_t)(p - g->instr) * LANES * sizeof(float), l);
        }
    }
    for (int i = 0; i < g->n_out; i++) {
        struct reg *r = &reg[g->out[i].reg], d = own(g, scratch, g->out[i].reg);
        if (one(*r))
            add(l, k->spread, d, *r, *r, *r);
        else if (g->out[i].lifted && r->at != d.at)
            add(l, k->copy, d, *r, *r, *r);
        else
            continue;
        *r = d;
    }
    l->n_computed = l->n;
    for (int i = 0; i < g->n_out; i++)
        add_store(k, &g->out[i], reg[g->out[i].reg], begin, l);
}

static void run_passes(const struct pass *p, const struct pass *end, int64_t i, int64_t n)
{
    for (; p < end; p++)
        p->loop(p->d.at + i * p->d.step, floats(p->a, i), floats(p->b, i), floats(p->c, i), n);
}

static void run_tile(const struct group *g, int64_t begin, int64_t n, char *scratch)
{
    struct list l;

    make_list(g, begin, n, scratch, &l);
    for (int64_t i = 0; i < n; i += g->piece) {
        const int64_t piece = n - i < g->piece ? n - i : g->piece;
        run_passes(l.pass, l.pass + l.n_computed, i, (piece + LANES - 1) & -LANES);
        run_passes(l.pass + l.n_computed, l.pass + l.n, i, piece);
    }
}

void group_begin(struct group *g, char *scratch)
{
    g->scratch = scratch;
    inputs_begin(g);
}

void group_range(void *self, int64_t begin, int64_t end, int thread)
{
    const struct group *g = self;
    char *scratch = g->scratch + (size_t)thread * group_scratch(g);

    inputs_begin_range(g, scratch, end - begin);
    while (begin < end) {
        int64_t left = end - begin;
        int64_t n = left > g->tile ? g->tile : left < LANES ? left : left & -LANES;
        run_tile(g, begin, n, scratch);
        begin += n;
    }
    g->k->stream_end();
}

void group_run(const struct cpu *cpu, struct group *g, char *scratch)
{
    int64_t spans = (g->count + g->span - 1) / g->span;

    group_begin(g, scratch);
    if (threads_for(cpu, g->work) == 1) {
        group_range(g, 0, g->count, 0);
        return;
    }
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int t = 0; t < cpu->threads; t++) {     /* no element's bits depend on the cuts */
        int64_t begin = spans * t / cpu->threads * g->span;
        int64_t end = spans * (t + 1) / cpu->threads * g->span;
        group_range(g, begin, end < g->count ? end : g->count, thread_index());
    }
}

void group_set_input(struct group *g, int i, const void *at)
{
    g->in[i].at = at;
}

void group_set_output(struct group *g, int i, void *at)
{
    g->out[i].at = at;
}

size_t group_scratch(const struct group *g)
{
    return g->thread_scratch;
}
