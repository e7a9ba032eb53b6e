/* group.c - elementwise groups: a register program over tiles that stay in the
 * first-level cache.
 *
 * SPDX-License-Identifier: ISC
 *
 *   for each tile of the flat iteration space
 *       for each instruction
 *           one vector loop over the tile
 *
 * A register is a pointer to a tile of floats, or to LANES copies of one number.
 * Where operands and results can be used where they lie, they are.
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

/* One instruction on a tile of n elements: where its result lies. */
static struct reg compute(const struct kernels *k, const struct instruction *p,
                          const struct reg *reg, float *d, int64_t n)
{
    struct reg a = reg[p->a], b = reg[p->b], c = reg[p->c], r = { d, false };

    switch (ew_operands(p->op)) {
    case 1:
        r.one = a.one;
        k->unary[p->op](d, a.at, r.one ? LANES : n);
        return r;
    case 2:
        r.one = a.one && b.one;
        if (r.one)
            k->binary[p->op][EW_VV](d, a.at, b.at, LANES);
        else
            k->binary[p->op][a.one ? EW_SV : b.one ? EW_VS : EW_VV](d, a.at, b.at, n);
        return r;
    default:
        if (a.one) {                     /* a != 0 ? b : c */
            struct reg chosen = a.at[0] != 0.0f ? b : c;
            r.one = chosen.one;
            memmove(d, chosen.at, (size_t)(r.one ? LANES : n) * sizeof *d);
        } else {
            k->select[b.one + 2 * c.one](d, a.at, b.at, c.at, n);
        }
        return r;
    }
}

static void store(const struct kernels *k, const struct output *o, struct reg r, float *spare,
                  int64_t begin, int64_t n)
{
    if (r.one) {
        k->fill(spare, r.at[0], n);
        r.at = spare;
    }
    if (o->type == EBM_I32)
        k->to_i32((int32_t *)o->at + begin, r.at, n);
    else if (o->type == EBM_U8)
        k->to_u8((uint8_t *)o->at + begin, r.at, n);
    else if (o->streamed)
        k->stream((float *)o->at + begin, r.at, n);
    else if (r.at != (float *)o->at + begin)
        memmove((float *)o->at + begin, r.at, (size_t)n * sizeof(float));
}

static void run_tile(const struct group *g, int64_t begin, int64_t n, char *scratch)
{
    float *registers = (float *)(void *)scratch;
    int64_t lanes = (n + LANES - 1) & -LANES;
    bool whole = lanes == n;
    struct reg reg[EW_MAX_REGS];

    for (const struct instruction *p = g->instr; p < g->instr + g->n_instr; p++) {
        float *d = registers + (int64_t)p->dst * g->tile;
        switch (p->op) {
        case EW_LOAD:
            reg[p->dst] = input_load(g, &g->in[p->a], scratch, d, begin, n, whole);
            break;
        case EW_IMM:
            reg[p->dst] = (struct reg){ p->imm, true };
            break;
        case EW_RAW:
            reg[p->dst] = (struct reg){ whole ? g->raw + begin : d, false };
            if (!whole)
                memcpy(d, g->raw + begin, (size_t)n * sizeof *d);
            break;
        case EW_IOTA:
            iota(p, d, begin, n);
            reg[p->dst] = (struct reg){ d, false };
            break;
        default:
            reg[p->dst] = compute(g->k, p, reg,
                                  whole && p->output >= 0
                                  ? (float *)g->out[p->output].at + begin : d, lanes);
        }
    }
    for (int i = 0; i < g->n_out; i++) {
        struct reg *r = &reg[g->out[i].reg];
        float *d = registers + (int64_t)g->out[i].reg * g->tile;
        if (g->out[i].lifted && r->at != d && !r->one)
            r->at = memcpy(d, r->at, (size_t)lanes * sizeof *d);
    }
    for (int i = 0; i < g->n_out; i++)
        store(g->k, &g->out[i], reg[g->out[i].reg],
              registers + (int64_t)g->out[i].reg * g->tile, begin, n);
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
    int64_t tiles = (g->count + g->tile - 1) / g->tile;

    group_begin(g, scratch);
    if (threads_for(cpu, g->work) == 1) {
        group_range(g, 0, g->count, 0);
        return;
    }
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int t = 0; t < cpu->threads; t++) {     /* no element's bits depend on the cuts */
        int64_t begin = tiles * t / cpu->threads * g->tile;
        int64_t end = tiles * (t + 1) / cpu->threads * g->tile;
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
