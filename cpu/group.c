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
 * Contiguous float operands and results are used where they lie; arrays that
 * repeat with a short period are written out once per run so that any tile is a
 * window of them; others are read row by row into a tile.
 *
 * Invariant: every vector loop covers a multiple of LANES elements.  The last
 * few of a range go through tiles of LANES elements, so no element's bits depend
 * on where ranges are cut. */
#include <string.h>
#include "step.h"

enum {
    TILE_MAX = 1024,             /* elements */
    REGISTER_BYTES = 64 << 10    /* of a tile; about half of the registers are used in place */
};

/* An input, its axes merged.  From outer to inner, axis i has size n[i] and
 * steps of stride[i] elements. */
enum reading {
    READ_LINEAR,       /* float: used in place */
    READ_ONE,          /* one number: LANES copies of it, made once per run */
    READ_PERIOD,       /* repeats after `period`: written out once per run */
    READ_WINDOW,       /* the same with a long period, float: used in place */
    READ_REPEAT,       /* as PERIOD within a block, anew in each: by range and thread */
    READ_ROWS          /* anything else, and conversions */
};

struct input {
    enum reading reading;
    enum ebm_type type;
    const void *at;
    int rank;
    int64_t n[EBM_MAX_RANK], stride[EBM_MAX_RANK], period;
    int again;                   /* ROWS: the innermost axis but one with stride 0, or -1 */
    int64_t inside;              /* elements inside that axis: they repeat */
    int64_t block;               /* REPEAT: elements over which they do */
    size_t slot;                 /* REPEAT: where a thread's scratch has them */
    float *made;                 /* ONE, PERIOD */
};

struct output {
    void *at;
    enum ebm_type type;
    int reg;
    bool lifted;                 /* it is memory that another output overwrites */
    bool streamed;               /* too large for caches: written past them */
};

struct instruction {
    uint8_t op, dst, a, b, c;
    int8_t output;               /* the output written in place, or -1 */
    int64_t inner, size;         /* IOTA: elements per index, indices */
    float imm[LANES];
};

struct group {
    const struct kernels *k;
    int64_t count, work;         /* elements; element operations in all */
    int tile, n_in, n_out, n_instr, n_regs;
    size_t thread_scratch;       /* bytes: registers, slots */
    struct input *in;
    struct output *out;
    struct instruction *instr;
    float *made;                 /* what inputs' `made` point into */
    const float *raw;
    char *scratch;
};

struct reg {
    const float *at;
    bool one;                    /* LANES copies of one number */
};

/* ---- compiling ---- */

/* Merge axes that one stride can walk; drop those of size 1. */
static void merge_axes(const struct shape *s, const struct ew_input *from, struct input *in)
{
    for (int i = 0; i < s->rank; i++) {
        int last = in->rank - 1;
        if (s->n[i] == 1)
            continue;
        if (last >= 0 && in->stride[last] == from->stride[i] * s->n[i]) {
            in->n[last] *= s->n[i];
            in->stride[last] = from->stride[i];
        } else {
            in->n[in->rank] = s->n[i];
            in->stride[in->rank++] = from->stride[i];
        }
    }
    if (in->rank == 0) {
        in->n[0] = 1;
        in->rank = 1;
    }
}

/* A slot of a thread's scratch: the elements of one block, repeated so that any
 * tile within it is a window of them. */
struct slot {
    int64_t block;               /* which one; NOT_YET; NEVER: the range is too short */
    float at[];
};
enum { NOT_YET = -1, NEVER = -2 };

static enum reading reading_of(const struct input *in, int tile)
{
    bool direct = in->type == EBM_F32;

    if (in->rank == 1 && in->stride[0] == 0)
        return READ_ONE;
    if (in->rank == 1 && in->stride[0] == 1 && direct)
        return READ_LINEAR;
    if (in->rank == 2 && in->stride[0] == 0 && in->stride[1] == 1) {
        if (in->n[1] < tile)
            return READ_PERIOD;
        if (direct)
            return READ_WINDOW;
    }
    if (in->again >= 0 && in->inside < tile)
        return READ_REPEAT;
    return READ_ROWS;
}

static void find_repeats(struct input *in)
{
    in->again = -1;
    in->inside = 1;
    for (int i = in->rank - 1; i >= 0; i--) {
        if (in->stride[i] == 0 && i < in->rank - 1) {
            in->again = i;
            return;
        }
        in->inside *= in->n[i];
    }
}

/* Bytes of a slot, to whole cache lines. */
static size_t slot_size(const struct input *in, int tile)
{
    size_t floats = (size_t)(in->inside + tile + LANES);

    return (sizeof(struct slot) + floats * sizeof(float) + 63) & ~(size_t)63;
}

/* Floats that an input's `made` takes. */
static int64_t made_size(const struct group *g, const struct input *in)
{
    return in->reading == READ_ONE ? LANES
         : in->reading == READ_PERIOD ? (in->period + g->tile + 2 * LANES - 1) & -LANES
         : 0;
}

static int64_t weight(int op)        /* in additions, about */
{
    switch (op) {
    case EW_LOAD: case EW_RAW: case EW_IMM:
        return 0;
    case EW_EXP: case EW_LOG: case EW_TANH: case EW_SIGMOID: case EW_SOFTPLUS:
        return 12;
    case EW_SIN: case EW_COS:
        return 24;
    case EW_DIV: case EW_SQRT:
        return 6;
    default:
        return 1;
    }
}

static size_t type_bytes(enum ebm_type type)
{
    return type == EBM_U8 ? 1 : 4;
}

/* Does an instruction take memory that output o overwrites?  (Inputs of other
 * readings than these are never placed under an output.) */
static bool reads_under(const struct group *g, const struct instruction *p, const struct output *o)
{
    const char *at = p->op == EW_RAW ? (const char *)g->raw
                   : p->op == EW_LOAD && g->in[p->a].rank == 1 ? g->in[p->a].at : NULL;
    size_t size = p->op == EW_RAW ? 4 : type_bytes(p->op == EW_LOAD ? g->in[p->a].type : EBM_F32);
    const char *from = o->at;

    return at && at < from + (size_t)g->count * type_bytes(o->type)
        && from < at + (size_t)g->count * size;
}

/* The instruction that writes output o in place: the last that writes its
 * register, if all later reads of memory under the output are none.  A register
 * may stand for the memory of an input, so what a register was last set by is
 * followed. */
static void choose_in_place(struct group *g, int o)
{
    int writer = -1, setter[EW_MAX_REGS];

    for (int i = 0; i < g->n_instr; i++)
        if (g->instr[i].dst == g->out[o].reg)
            writer = i;
    if (writer < 0 || ew_operands(g->instr[writer].op) == 0 || g->out[o].type != EBM_F32
        || g->instr[writer].output >= 0)
        return;
    for (int i = 0; i < EW_MAX_REGS; i++)
        setter[i] = -1;
    for (int i = 0; i < g->n_instr; i++) {
        const struct instruction *p = &g->instr[i];
        const int operand[3] = { p->a, p->b, p->c };
        if (i > writer) {
            if (reads_under(g, p, &g->out[o]))
                return;
            for (int k = 0; k < ew_operands(p->op); k++)
                if (setter[operand[k]] >= 0
                    && reads_under(g, &g->instr[setter[operand[k]]], &g->out[o]))
                    return;
        }
        setter[p->dst] = i;
    }
    for (int i = 0; i < g->n_out; i++)       /* stored after the instructions */
        if (i != o && setter[g->out[i].reg] >= 0
            && reads_under(g, &g->instr[setter[g->out[i].reg]], &g->out[o]))
            return;
    g->instr[writer].output = (int8_t)o;
}

/* An output that is a plain input (or the raw result) on which another output
 * lies is copied before any is stored. */
static void choose_lifted(struct group *g, int o)
{
    const struct instruction *setter = NULL;

    for (int i = 0; i < g->n_instr; i++)
        if (g->instr[i].dst == g->out[o].reg)
            setter = &g->instr[i];
    for (int i = 0; setter && i < g->n_out; i++)
        if (i != o && reads_under(g, setter, &g->out[i]))
            g->out[o].lifted = true;
}

/* An output that nothing of the group lies under need not pass the caches.  It
 * is made in a register. */
static void choose_streamed(struct group *g, int o, int64_t whole)
{
    if (g->out[o].type != EBM_F32 || (size_t)whole * sizeof(float) < PAST_CACHES)
        return;
    for (int i = 0; i < g->n_instr; i++)
        if (reads_under(g, &g->instr[i], &g->out[o]))
            return;
    for (int i = 0; i < g->n_instr; i++)
        if (g->instr[i].output == o)
            g->instr[i].output = -1;
    g->out[o].streamed = true;
}

static int set_inputs(const struct cpu *cpu, struct group *g, const struct ew_group *plan,
                      const struct memory *memory)
{
    int64_t made = 0;

    for (int i = 0; i < g->n_in; i++) {
        struct input *in = &g->in[i];
        in->type = plan->in[i].type;
        in->at = memory_at(memory, &plan->in[i].place);
        merge_axes(&plan->shape, &plan->in[i], in);
        find_repeats(in);
        in->reading = reading_of(in, g->tile);
        in->period = in->n[in->rank - 1];
        if (in->reading == READ_REPEAT) {
            in->block = in->inside * in->n[in->again];
            in->slot = g->thread_scratch;
            g->thread_scratch += slot_size(in, g->tile);
        }
        made += made_size(g, in);
    }
    if (made && !(g->made = mem_new(cpu->ctx, (size_t)made, sizeof *g->made)))
        return EBM_ERR_NOMEM;
    made = 0;
    for (int i = 0; i < g->n_in; i++) {
        g->in[i].made = g->made + made;
        made += made_size(g, &g->in[i]);
    }
    return EBM_OK;
}

static void set_instructions(struct group *g, const struct ew_group *plan)
{
    int64_t each = 0;

    for (int i = 0; i < g->n_instr; i++) {
        const struct ew_instr *from = &plan->instr[i];
        struct instruction *p = &g->instr[i];
        p->op = from->op;
        p->dst = from->dst;
        p->a = from->a;
        p->b = from->b;
        p->c = from->c;
        p->output = -1;
        for (int j = 0; j < LANES; j++)
            p->imm[j] = from->imm;
        if (p->op == EW_IOTA) {
            p->size = plan->shape.n[p->a];
            p->inner = 1;
            for (int j = p->a + 1; j < plan->shape.rank; j++)
                p->inner *= plan->shape.n[j];
        }
        each += weight(p->op);
    }
    g->work = g->count * (each + g->n_in + g->n_out);
}

int group_new(const struct cpu *cpu, const struct ew_group *plan, const struct memory *memory,
              const float *raw, int64_t whole, struct group **group)
{
    ebm_context *ctx = cpu->ctx;
    struct group *g = mem_new(ctx, 1, sizeof *g);

    *group = g;
    if (!g)
        return EBM_ERR_NOMEM;
    g->k = cpu->kernels;
    g->count = shape_count(&plan->shape);
    g->n_in = plan->n_in;
    g->n_out = plan->n_out;
    g->n_instr = plan->n_instr;
    g->n_regs = plan->n_regs;
    g->raw = raw;
    g->tile = REGISTER_BYTES / (int)sizeof(float) / (g->n_regs ? g->n_regs : 1) & -LANES;
    if (g->tile > TILE_MAX)
        g->tile = TILE_MAX;
    g->thread_scratch = ((size_t)g->n_regs * (size_t)g->tile * sizeof(float) + 63) & ~(size_t)63;
    g->in = mem_new(ctx, (size_t)g->n_in + 1, sizeof *g->in);
    g->out = mem_new(ctx, (size_t)g->n_out + 1, sizeof *g->out);
    g->instr = mem_new(ctx, (size_t)g->n_instr + 1, sizeof *g->instr);
    if (!g->in || !g->out || !g->instr)
        return EBM_ERR_NOMEM;
    if (set_inputs(cpu, g, plan, memory) < 0)
        return EBM_ERR_NOMEM;
    set_instructions(g, plan);
    for (int i = 0; i < g->n_out; i++) {
        g->out[i].at = memory_at(memory, &plan->out[i].place);
        g->out[i].type = plan->out[i].type;
        g->out[i].reg = plan->out[i].reg;
    }
    for (int i = 0; i < g->n_out; i++) {
        choose_in_place(g, i);
        choose_lifted(g, i);
        if (plan->out[i].place.space != SPACE_STRIP)
            choose_streamed(g, i, whole);
    }
    return EBM_OK;
}

void group_free(const struct cpu *cpu, struct group *g)
{
    if (!g)
        return;
    mem_free(cpu->ctx, g->in);
    mem_free(cpu->ctx, g->out);
    mem_free(cpu->ctx, g->instr);
    mem_free(cpu->ctx, g->made);
    mem_free(cpu->ctx, g);
}

size_t group_scratch(const struct group *g)
{
    return g->thread_scratch;
}

/* ---- reading ---- */

/* n elements from `first` on, `stride` apart. */
static void read_row(const struct kernels *k, float *d, const struct input *in, int64_t first,
                     int64_t stride, int64_t n)
{
    const float *f = in->at;
    const int32_t *w = in->at;
    const uint8_t *u = in->at;

    if (stride == 0) {
        float x = in->type == EBM_F32 ? f[first]
                : in->type == EBM_I32 ? (float)w[first] : (float)u[first];
        k->fill(d, x, n);
    } else if (stride == 1) {
        if (in->type == EBM_F32)
            memcpy(d, f + first, (size_t)n * sizeof *d);
        else if (in->type == EBM_I32)
            k->from_i32(d, w + first, n);
        else
            k->from_u8(d, u + first, n);
    } else if (in->type == EBM_F32) {
        for (int64_t i = 0; i < n; i++)
            d[i] = f[first + i * stride];
    } else if (in->type == EBM_I32) {
        for (int64_t i = 0; i < n; i++)
            d[i] = (float)w[first + i * stride];
    } else {
        for (int64_t i = 0; i < n; i++)
            d[i] = u[first + i * stride];
    }
}

/* The next axis position after `run` elements of axis i: carry outward. */
static void carry(const struct input *in, int64_t *at, int64_t *first, int i, int64_t run)
{
    *first += run * in->stride[i];
    at[i] += run;
    for (; i > 0 && at[i] == in->n[i]; i--) {
        *first += in->stride[i - 1] - at[i] * in->stride[i];
        at[i] = 0;
        at[i - 1]++;
    }
}

/* Elements [begin, begin+n) of the iteration space.  What lies inside an axis of
 * stride 0 is read once and then copied from before. */
static void read_rows(const struct kernels *k, float *d, const struct input *in, int64_t begin,
                      int64_t n)
{
    int64_t at[EBM_MAX_RANK], first = 0, rest = begin, done = 0;
    int inner = in->rank - 1;

    for (int i = inner; i >= 0; i--) {
        at[i] = rest % in->n[i];
        rest /= in->n[i];
        first += at[i] * in->stride[i];
    }
    while (done < n) {
        int64_t left = n - done, run = in->n[inner] - at[inner];
        bool whole = in->again >= 0 && at[in->again] > 0 && done >= in->inside && left >= in->inside;
        for (int i = in->again + 1; whole && i <= inner; i++)
            whole = at[i] == 0;
        if (whole) {
            memcpy(d + done, d + done - in->inside, (size_t)in->inside * sizeof *d);
            carry(in, at, &first, in->again, 1);
            done += in->inside;
            continue;
        }
        if (run > left)
            run = left;
        if (in->stride[inner] == 0 && run <= LANES && left >= LANES && in->type == EBM_F32) {
            const float x = ((const float *)in->at)[first];
            float *to = d + done;
            for (int j = 0; j < LANES; j++)      /* what is too much the next run overwrites */
                to[j] = x;
        } else {
            read_row(k, d + done, in, first, in->stride[inner], run);
        }
        carry(in, at, &first, inner, run);
        done += run;
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

/* Continue the first `period` elements of d, one after the other, up to `size`. */
static void continue_period(float *d, int64_t period, int64_t size)
{
    for (int64_t done = period, n; done < size; done += n) {
        n = size - done < done ? size - done : done;
        memcpy(d + done, d, (size_t)n * sizeof *d);
    }
}

void group_begin(struct group *g, char *scratch)
{
    g->scratch = scratch;
    for (int i = 0; i < g->n_in; i++)
        if (made_size(g, &g->in[i]))
            read_rows(g->k, g->in[i].made, &g->in[i], 0,
                      g->in[i].reading == READ_ONE ? 1 : g->in[i].period);
    for (int i = 0; i < g->n_in; i++) {
        struct input *in = &g->in[i];
        if (in->reading == READ_ONE)
            g->k->fill(in->made, in->made[0], LANES);
        else if (in->reading == READ_PERIOD)
            continue_period(in->made, in->period, made_size(g, in));
    }
}

/* The window of a slot for [begin, begin + n), which lies in one block; NULL if
 * it does not or the range is too short for slots to pay. */
static const float *slot_window(const struct group *g, const struct input *in, struct slot *slot,
                                int64_t begin, int64_t n)
{
    int64_t block = begin / in->block;

    if (slot->block == NEVER || begin % in->block + n > in->block)
        return NULL;
    if (slot->block != block) {
        const int64_t size = in->inside + g->tile + LANES;
        read_rows(g->k, slot->at, in, block * in->block, in->inside);
        continue_period(slot->at, in->inside, size);
        slot->block = block;
    }
    return slot->at + begin % in->inside;
}

/* Elements that one input gives a tile; `whole`: tiles of a multiple of LANES,
 * for which memory may be used in place. */
static struct reg load(const struct group *g, const struct input *in, char *scratch, float *d,
                       int64_t begin, int64_t n, bool whole)
{
    struct reg r = { d, false };

    switch (in->reading) {
    case READ_LINEAR:
        if (whole)
            r.at = (const float *)in->at + begin;
        else
            memcpy(d, (const float *)in->at + begin, (size_t)n * sizeof *d);
        return r;
    case READ_ONE:
        r.at = in->made;
        r.one = true;
        return r;
    case READ_PERIOD:
        r.at = in->made + begin % in->period;
        return r;
    case READ_WINDOW:
        if (whole && begin % in->period + n <= in->period) {
            r.at = (const float *)in->at + begin % in->period;
            return r;
        }
        break;
    case READ_REPEAT: {
        const float *at = slot_window(g, in, (struct slot *)(void *)(scratch + in->slot), begin, n);
        if (at) {
            r.at = at;
            return r;
        }
        break;
    }
    case READ_ROWS: {
        int64_t inner = in->n[in->rank - 1];
        if (in->stride[in->rank - 1] == 0 && begin % inner + n <= inner) {
            read_rows(g->k, d, in, begin, 1);          /* within one row: one number */
            g->k->fill(d, d[0], LANES);
            r.one = true;
            return r;
        }
        break;
    }
    }
    read_rows(g->k, d, in, begin, n);
    return r;
}

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

/* ---- running ---- */

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
            reg[p->dst] = load(g, &g->in[p->a], scratch, d, begin, n, whole);
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

void group_range(void *self, int64_t begin, int64_t end, int thread)
{
    const struct group *g = self;
    char *scratch = g->scratch + (size_t)thread * group_scratch(g);

    for (int i = 0; i < g->n_in; i++)
        if (g->in[i].reading == READ_REPEAT)
            ((struct slot *)(void *)(scratch + g->in[i].slot))->block =
                end - begin >= 2 * g->tile ? NOT_YET : NEVER;
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
