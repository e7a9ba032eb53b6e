/* emit.c - from drafts to steps: elementwise formulas become register programs.
 *
 * SPDX-License-Identifier: ISC
 *
 * Each sink's formula is written out depth first; a value already in a register
 * is not computed twice.  Virtual registers (one an instruction) are then
 * folded onto few by their last use; outputs keep theirs to the end. */
#include <string.h>
#include "schedule.h"

/* A group while it is written; the limits are those of plan.h. */
struct writer {
    struct schedule *s;
    ebm_val heavy;
    int n_sinks;
    const ebm_val *sinks;
    bool overflow;
    int n_in, n_instr, n_regs;
    struct ew_input in[EW_MAX_INPUTS];
    struct ew_instr instr[EW_MAX_INSTRS];
    ebm_val value[EW_MAX_INSTRS];     /* what each instruction makes; 0: a number */
    uint8_t reg[EW_MAX_INSTRS];       /* its register, after allocation */
};

static int write_instr(struct writer *w, enum ew_op op, ebm_val value, int a, int b, int c, float imm)
{
    if (w->n_instr == EW_MAX_INSTRS) {
        w->overflow = true;
        return 0;
    }
    w->instr[w->n_instr] = (struct ew_instr){ (uint8_t)op, 0, (uint8_t)a, (uint8_t)b, (uint8_t)c, imm };
    w->value[w->n_instr] = value;
    return w->n_instr++;
}

/* Strides of `leaf` over its own shape, in elements of what it reads. */
static void leaf_strides(const ebm_graph *g, ebm_val leaf, struct ew_input *in)
{
    const struct node *n = node_of(g, leaf);
    const struct shape *from = n->op == OP_BROADCAST ? &node_of(g, n->in[0])->shape : &n->shape;
    int64_t stride = 1;

    in->linear = shape_equal(from, &n->shape);
    for (int i = n->shape.rank - 1; i >= 0; i--) {
        in->stride[i] = from->n[i] == n->shape.n[i] ? stride : 0;
        stride *= from->n[i];
    }
}

static ebm_val leaf_memory(const ebm_graph *g, ebm_val leaf)
{
    const struct node *n = node_of(g, leaf);

    return memory_root(g, n->op == OP_BROADCAST ? n->in[0] : leaf);
}

static int write_load(struct writer *w, ebm_val leaf)
{
    const ebm_graph *g = w->s->g;
    ebm_val root = leaf_memory(g, leaf);

    if (root == w->heavy && node_of(g, leaf)->op != OP_BROADCAST)
        return write_instr(w, EW_RAW, leaf, 0, 0, 0, 0);
    if (w->n_in == EW_MAX_INPUTS) {
        w->overflow = true;
        return 0;
    }
    struct ew_input *in = &w->in[w->n_in];
    memset(in, 0, sizeof *in);
    in->val = root;
    in->type = node_of(g, root)->type;
    leaf_strides(g, leaf, in);
    return write_instr(w, EW_LOAD, leaf, w->n_in++, 0, 0, 0);
}

static enum ew_op ew_of(enum op op)
{
    static const unsigned char table[OP_COUNT] = {
        [OP_NEG] = EW_NEG, [OP_ABS] = EW_ABS, [OP_SIGN] = EW_SIGN, [OP_FLOOR] = EW_FLOOR,
        [OP_EXP] = EW_EXP, [OP_LOG] = EW_LOG, [OP_SQRT] = EW_SQRT, [OP_SIN] = EW_SIN,
        [OP_COS] = EW_COS, [OP_TANH] = EW_TANH, [OP_SIGMOID] = EW_SIGMOID,
        [OP_SOFTPLUS] = EW_SOFTPLUS, [OP_ADD] = EW_ADD, [OP_SUB] = EW_SUB,
        [OP_MUL] = EW_MUL, [OP_DIV] = EW_DIV, [OP_MAX] = EW_MAX, [OP_MIN] = EW_MIN,
        [OP_LESS] = EW_LESS, [OP_EQUAL] = EW_EQUAL, [OP_SELECT] = EW_SELECT,
    };
    return table[op];
}

static bool made_here(const struct writer *w, ebm_val v)
{
    for (int i = 0; i < w->n_sinks; i++)
        if (w->sinks[i] == v)
            return true;
    return false;
}

static int write_number(struct writer *w, float number)
{
    for (int i = 0; i < w->n_instr; i++)
        if (w->instr[i].op == EW_IMM && memcmp(&w->instr[i].imm, &number, sizeof number) == 0)
            return i;
    return write_instr(w, EW_IMM, 0, 0, 0, 0, number);
}

static int write_value(struct writer *w, ebm_val v)
{
    const ebm_graph *g = w->s->g;
    int arg[3] = { 0 };

    if (w->overflow)
        return 0;
    v = content(g, v);
    const struct node *n = node_of(g, v);
    if (n->op == OP_CONST)            /* stored or not: no load waits for its maker */
        return write_number(w, n->attr.value);
    for (int i = 0; i < w->n_instr; i++)
        if (w->value[i] == v)
            return i;
    if (n->op == OP_IOTA)
        return write_instr(w, EW_IOTA, v, n->attr.axis, 0, 0, 0);
    if (n->op == OP_BROADCAST) {
        const struct node *from = node_of(g, content(g, n->in[0]));
        if (from->op == OP_IOTA)
            return write_instr(w, EW_IOTA, v, from->attr.axis, 0, 0, 0);
    }
    bool computed = is_elementwise(g, v) && (!(w->s->mark[v] & MARK_STORED) || made_here(w, v));
    if (!computed)
        return write_load(w, v);
    for (int i = 0; i < n->n_in; i++) {
        const int k = n->op == OP_SELECT ? (i + 1) % n->n_in : i;    /* the choice just before it is made */
        arg[k] = write_value(w, n->in[k]);
    }
    if (n->op == OP_CAST) {
        enum ebm_type from = node_of(g, n->in[0])->type;
        bool exact = n->type == EBM_F32 || (n->type == EBM_I32 && from == EBM_U8);
        if (exact)
            return arg[0];            /* loads have converted already */
        return write_instr(w, n->type == EBM_U8 ? EW_BYTE : EW_TRUNC, v, arg[0], 0, 0, 0);
    }
    return write_instr(w, ew_of(n->op), v, arg[0], arg[1], arg[2], 0);
}

/* Fold virtual registers onto few.  sink_reg receives those of the sinks. */
static void allocate_registers(struct writer *w, const int *sink_at, uint8_t *sink_reg)
{
    int last[EW_MAX_INSTRS];
    bool busy[EW_MAX_REGS] = { false };

    for (int i = 0; i < w->n_instr; i++) {
        const uint8_t *arg = &w->instr[i].a;
        last[i] = i;
        for (int k = 0; k < ew_operands(w->instr[i].op); k++)
            last[arg[k]] = i;
    }
    for (int i = 0; i < w->n_sinks; i++)
        last[sink_at[i]] = w->n_instr;
    for (int i = 0; i < w->n_instr; i++) {
        struct ew_instr *t = &w->instr[i];
        uint8_t *arg = &t->a;
        int n = ew_operands(t->op), dst = 0;
        for (int k = 0; k < n; k++) {
            int from = arg[k];
            arg[k] = w->reg[from];
            if (last[from] == i)
                busy[arg[k]] = false;
        }
        while (dst < EW_MAX_REGS && busy[dst])
            dst++;
        if (dst == EW_MAX_REGS) {
            w->overflow = true;
            return;
        }
        busy[dst] = last[i] > i;
        t->dst = w->reg[i] = (uint8_t)dst;
        if (dst >= w->n_regs)
            w->n_regs = dst + 1;
    }
    for (int i = 0; i < w->n_sinks; i++)
        sink_reg[i] = w->reg[sink_at[i]];
}

static void write_group(struct writer *w, uint8_t *sink_reg)
{
    int at[EW_MAX_OUTPUTS];

    for (int i = 0; i < w->n_sinks; i++)
        at[i] = write_value(w, w->sinks[i]);
    if (!w->overflow)
        allocate_registers(w, at, sink_reg);
}

bool group_fits(struct schedule *s, ebm_val heavy, int n, const ebm_val *sinks)
{
    struct writer w = { .s = s, .heavy = heavy, .n_sinks = n, .sinks = sinks };
    uint8_t reg[EW_MAX_OUTPUTS];

    write_group(&w, reg);
    return !w.overflow;
}

static int emit_group(struct schedule *s, int32_t me, struct step *step)
{
    ebm_context *ctx = s->g->ctx;
    const struct draft *d = &s->drafts[me];
    struct writer w = { .s = s, .heavy = d->heavy, .n_sinks = d->n_sinks, .sinks = d->sinks };
    uint8_t reg[EW_MAX_OUTPUTS];

    write_group(&w, reg);
    if (w.overflow)
        return ebm_fail(ctx, EBM_ERR_INTERNAL, "an elementwise formula is too long");
    struct ew_group *group = step->group = mem_new(ctx, 1, sizeof *group);
    if (!group)
        return EBM_ERR_NOMEM;
    group->in = mem_new(ctx, (size_t)w.n_in, sizeof *group->in);
    group->out = mem_new(ctx, (size_t)d->n_sinks, sizeof *group->out);
    group->instr = mem_new(ctx, (size_t)w.n_instr, sizeof *group->instr);
    if (!group->in || !group->out || !group->instr)
        return EBM_ERR_NOMEM;
    group->shape = node_of(s->g, d->sinks[0])->shape;
    group->n_in = w.n_in;
    group->n_instr = w.n_instr;
    group->n_regs = w.n_regs;
    memcpy(group->in, w.in, (size_t)w.n_in * sizeof *w.in);
    memcpy(group->instr, w.instr, (size_t)w.n_instr * sizeof *w.instr);
    for (int i = 0; i < d->n_sinks; i++) {
        if (d->dropped[i])
            continue;
        struct ew_output *out = &group->out[group->n_out++];
        out->val = d->sinks[i];
        out->type = node_of(s->g, d->sinks[i])->type;
        out->reg = reg[i];
    }
    return EBM_OK;
}

int emit_steps(struct schedule *s, struct plan *plan)
{
    ebm_context *ctx = s->g->ctx;
    int status;

    plan->graph = s->g;
    plan->steps = mem_new(ctx, (size_t)s->n_order, sizeof *plan->steps);
    if (!plan->steps)
        return EBM_ERR_NOMEM;
    for (int32_t i = 0; i < s->n_order; i++) {
        const struct draft *d = &s->drafts[s->order[i]];
        struct step *step = &plan->steps[plan->n_steps++];
        if (d->heavy) {
            const struct node *n = node_of(s->g, d->heavy);
            step->op = n->op;
            step->val = d->heavy;
            step->n_in = n->n_in;
            step->stored = d->keep_raw;
            if (!(step->in = mem_new(ctx, (size_t)n->n_in, sizeof *step->in)))
                return EBM_ERR_NOMEM;
        }
        if (d->n_sinks && (status = emit_group(s, s->order[i], step)) < 0)
            return status;
    }
    return EBM_OK;
}

void plan_free(ebm_context *ctx, struct plan *plan)
{
    for (int i = 0; plan->steps && i < plan->n_steps; i++) {
        struct step *t = &plan->steps[i];
        if (t->group) {
            mem_free(ctx, t->group->in);
            mem_free(ctx, t->group->out);
            mem_free(ctx, t->group->instr);
        }
        mem_free(ctx, t->group);
        mem_free(ctx, t->in);
    }
    mem_free(ctx, plan->strips);
    mem_free(ctx, plan->steps);
    mem_free(ctx, plan->copies);
    mem_free(ctx, plan->fetches);
    memset(plan, 0, sizeof *plan);
}
