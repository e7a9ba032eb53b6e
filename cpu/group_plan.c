/* group_plan.c - an elementwise group before it runs.
 *
 * SPDX-License-Identifier: ISC */
#include "group.h"

enum {
    TILE_MAX = 1024, FAR_PIECE = 256,    /* elements */
    TILE_FLOATS = 16384,         /* registers, and what cannot be used in place */
    LONGER = 8,                  /* times: tiles without the latter */
    FAR_BYTES = 2 << 20          /* that no second cache holds */
};

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

/* Where in a thread's scratch so many bytes are, to whole cache lines. */
static size_t reserve(struct group *g, size_t bytes)
{
    size_t at = g->thread_scratch;

    g->thread_scratch += (bytes + 63) & ~(size_t)63;
    return at;
}

static size_t slot_size(const struct input *in, int tile)
{
    return sizeof(struct slot) + (size_t)(in->inside + tile + LANES) * sizeof(float);
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

/* Whether p, which reads the result of `first`, can be one loop with it: two of sums,
 * differences and products, or a choice by 0 < b. */
static bool may_pair(const struct group *g, const struct instruction *first, int a_setter, const struct instruction *p)
{
    if (first->op == EW_LESS)
        return p->op == EW_SELECT && p->a == first->dst
            && g->instr[a_setter].op == EW_IMM && g->instr[a_setter].imm[0] == 0.0f;
    return ew_pairs(first->op) && ew_pairs(p->op) && (p->a == first->dst || p->b == first->dst);
}

/* Pair instructions whose result only the next that is no leaf reads with that, in their order.
 * (Leaves in between change no register's memory.) */
static void choose_pairs(struct group *g)
{
    int readers[EW_MAX_INSTRS] = { 0 }, setter[EW_MAX_REGS] = { 0 }, operand_setter[EW_MAX_INSTRS] = { 0 };
    int before = -1;             /* the instruction before that is no leaf and has no pair */

    for (int i = 0; i < g->n_instr; i++) {
        const struct instruction *p = &g->instr[i];
        const int operand[3] = { p->a, p->b, p->c };
        operand_setter[i] = setter[p->a];
        for (int k = 0; k < ew_operands(p->op); k++)
            readers[setter[operand[k]]]++;
        setter[p->dst] = i;
    }
    for (int o = 0; o < g->n_out; o++)
        readers[setter[g->out[o].reg]]++;
    for (int i = 0; i < g->n_instr; i++) {
        struct instruction *p = &g->instr[i];
        if (ew_operands(p->op) == 0)
            continue;
        if (before >= 0 && readers[before] == 1 && may_pair(g, &g->instr[before], operand_setter[before], p)) {
            g->instr[before].waits = p->takes = true;
            p->second = p->a != g->instr[before].dst;
            before = -1;
        } else {
            before = p->output < 0 ? i : -1;
        }
    }
}

static int set_inputs(const struct cpu *cpu, struct group *g, const struct ew_group *plan,
                      const struct memory *memory)
{
    int64_t made = 0;

    for (int i = 0; i < g->n_in; i++) {
        struct input *in = &g->in[i];
        in->type = plan->in[i].type;
        in->far = g->far && plan->in[i].place.space != SPACE_STRIP && !plan->in[i].near;
        in->at = memory_at(memory, &plan->in[i].place);
        merge_axes(&plan->shape, &plan->in[i], in);
        find_repeats(in);
        in->reading = reading_of(in, g->tile);
        in->period = in->n[in->rank - 1];
        if (in->reading == READ_REPEAT) {
            in->block = in->inside * in->n[in->again];
            in->slot = reserve(g, slot_size(in, g->tile));
        }
        in->copied = reserve(g, sizeof(float) * (size_t)(in->reading == READ_LINEAR ? LANES : g->tile));
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
            p->copied = reserve(g, (size_t)g->tile * sizeof(float));
        }
        each += weight(p->op);
    }
    g->work = g->count * (each + g->n_in + g->n_out);
}

/* Whether operands come from memory: not behind a contraction, nor what only a strip
 * knows or has read before. */
static bool comes_from_memory(const struct ew_group *plan, const float *raw, int64_t whole)
{
    size_t bytes = 0;

    if (raw)
        return false;
    for (int i = 0; i < plan->n_in; i++)
        if (plan->in[i].linear && plan->in[i].place.space != SPACE_STRIP && !plan->in[i].near)
            bytes += (size_t)whole * type_bytes(plan->in[i].type);
    for (int i = 0; bytes && i < plan->n_out; i++)
        bytes += (size_t)whole * type_bytes(plan->out[i].type);
    return bytes >= FAR_BYTES;
}

/* Elements of a tile and of a register: what is from memory is computed by pieces. */
static void choose_tile(struct group *g, const struct ew_group *plan)
{
    int n = g->far ? 1 : plan->n_regs + 1;

    for (int i = 0; i < plan->n_in; i++)
        n += !plan->in[i].linear || plan->in[i].type != EBM_F32;
    for (int i = 0; i < plan->n_instr; i++)
        n += plan->instr[i].op == EW_IOTA;
    g->tile = TILE_FLOATS / n & -LANES;
    if (g->tile > TILE_MAX)
        g->tile = TILE_MAX;
    g->piece = g->far && FAR_PIECE < g->tile ? FAR_PIECE : g->tile;
    g->span = g->tile;
}

/* Where nothing is copied for a tile, and what repeats does so from piece to piece, lists are
 * made for longer tiles of as many pieces more. */
static void lengthen_tiles(struct group *g)
{
    for (int i = 0; i < g->n_in; i++) {
        const struct input *in = &g->in[i];
        if (in->reading != READ_LINEAR && in->reading != READ_ONE
            && !(in->reading == READ_PERIOD && g->piece % in->period == 0))
            return;
    }
    for (int i = 0; i < g->n_instr; i++)
        if (g->instr[i].op == EW_IOTA)
            return;
    g->tile *= LONGER;
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
    g->raw = raw;
    g->far = comes_from_memory(plan, raw, whole);
    choose_tile(g, plan);
    reserve(g, (size_t)plan->n_regs * (size_t)g->piece * sizeof(float));
    g->numbers = reserve(g, (size_t)g->n_instr * LANES * sizeof(float));
    g->raw_copied = reserve(g, LANES * sizeof(float));
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
    choose_pairs(g);
    lengthen_tiles(g);
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
