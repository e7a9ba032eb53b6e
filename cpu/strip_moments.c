/* strip_moments.c - sums in a strip that an earlier sum finds on its way.
 *
 * SPDX-License-Identifier: ISC
 *
 *   s = sum x;  m, made of s;  a group makes (x - m)^2, (x - m) y;  their sums, and sum y
 *
 * x would be read for its mean, and then again with y.  Instead the first sum takes
 * moments of x, or of x and y (struct moments), and all these sums are known from them as
 * soon as m is: the group is not run.  m has one number for each of the sums' results; y is
 * an array that is there before, or a result of the group that does not depend on m: that
 * part of the group is then run ahead, piece by piece as the moments are taken. */
#include <string.h>
#include "strip.h"

/* Results of a group, by the instructions that make them. */
struct formulas {
    const struct ew_group *g;
    int arg[EW_MAX_INSTRS][3];   /* by instruction: those that made its operands */
    int at[EW_MAX_OUTPUTS];      /* by result */
    int centred;                 /* x - m */
    bool varies[EW_MAX_INSTRS];  /* it depends on m */
    int other;                   /* y, or -1 */
};

static void follow_registers(struct formulas *f)
{
    int setter[EW_MAX_REGS] = { 0 };

    for (int t = 0; t < f->g->n_instr; t++) {
        const struct ew_instr *p = &f->g->instr[t];
        const int reg[3] = { p->a, p->b, p->c };
        for (int k = 0; k < ew_operands(p->op); k++)
            f->arg[t][k] = setter[reg[k]];
        setter[p->dst] = t;
    }
    for (int o = 0; o < f->g->n_out; o++)
        f->at[o] = setter[f->g->out[o].reg];
}

static const struct ew_input *loaded(const struct formulas *f, int t)
{
    return f->g->instr[t].op == EW_LOAD ? &f->g->in[f->g->instr[t].a] : NULL;
}

static bool is_array(const struct ew_input *in)
{
    return in && in->linear && in->type == EBM_F32;
}

/* Whether an operand has one number for each result of a sum over axes, in their order. */
static bool one_for_each(const struct shape *s, unsigned axes, const struct ew_input *m)
{
    int64_t stride = 1;

    if (m->type != EBM_F32)
        return false;
    for (int i = s->rank - 1; i >= 0; i--) {
        bool gone = axes >> i & 1;
        if (s->n[i] > 1 && m->stride[i] != (gone ? 0 : stride))
            return false;
        stride *= gone ? 1 : s->n[i];
    }
    return true;
}

static bool sums_over(const struct plan *plan, const struct step *t, const struct shape *s, unsigned axes)
{
    const struct node *n = t->op == OP_SUM ? node_of(plan->graph, t->val) : NULL;

    return n && !t->group && n->attr.axes == axes && !closes_strip(n)
        && shape_equal(&node_of(plan->graph, operand(n, 0))->shape, s);
}

static unsigned axes_of(const struct plan *plan, const struct step *t)
{
    return node_of(plan->graph, t->val)->attr.axes;
}

/* Find x - m in the group and the step that sums x, which comes before; -1: there is none. */
static int find_sum(struct formulas *f, const struct plan *plan, const struct step *steps, int before)
{
    for (int t = 0; t < f->g->n_instr; t++) {
        const struct ew_input *x = loaded(f, f->arg[t][0]), *m = loaded(f, f->arg[t][1]);
        if (f->g->instr[t].op != EW_SUB || !is_array(x) || !m)
            continue;
        for (int k = 0; k < before; k++)
            if (steps[k].op == OP_SUM && strip_reads(plan, &steps[k], 0) == x->val
                && sums_over(plan, &steps[k], &f->g->shape, axes_of(plan, &steps[k]))
                && one_for_each(&f->g->shape, axes_of(plan, &steps[k]), m)) {
                f->centred = t;
                return k;
            }
    }
    return -1;
}

/* What each result is a sum of, once it is summed; false: something else.  ABOUT_NOTHING: it
 * does not depend on m. */
static bool find_kinds(struct formulas *f, enum about *about)
{
    const int m = f->arg[f->centred][1];
    bool any = false;

    f->other = -1;
    for (int t = 0; t < f->g->n_instr; t++) {
        f->varies[t] = t == m;
        for (int k = 0; k < ew_operands(f->g->instr[t].op); k++)
            f->varies[t] |= f->varies[f->arg[t][k]];
    }
    for (int o = 0; o < f->g->n_out; o++) {
        const int t = f->at[o], *arg = f->arg[t];
        if (!f->varies[t]) {
            about[o] = ABOUT_NOTHING;
            continue;
        }
        if (f->g->instr[t].op != EW_MUL || (arg[0] != f->centred && arg[1] != f->centred))
            return false;
        const int with = arg[0] == f->centred ? arg[1] : arg[0];
        any = true;
        about[o] = with == f->centred ? ABOUT_SQUARES : ABOUT_PRODUCTS;
        if (about[o] == ABOUT_SQUARES)
            continue;
        if (f->varies[with] || (f->other >= 0 && f->other != with))
            return false;
        f->other = with;
    }
    return any;
}

/* Whether nothing of the strip reads a result of step i but sums like step k. */
static bool only_summed(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                        const struct part *parts, int i, ebm_val v, int k)
{
    for (int j = i + 1; j < r->n; j++) {
        const struct step *t = &steps[j];
        for (int n = 0; t->op == OP_NONE && n < t->group->n_in; n++)
            if (t->group->in[n].val == v)
                return false;
        for (int n = 0; t->op != OP_NONE && n < t->n_in; n++)
            if (strip_reads(plan, t, n) == v
                && (parts[j].moments || !sums_over(plan, t, &steps[i].group->shape, axes_of(plan, &steps[k]))))
                return false;
    }
    return true;
}

/* ---- what is run ahead ---- */

/* Bytes [from,to) of a thread's memory; what lies elsewhere has none. */
struct span { int64_t from, to; };

static struct span span_of(const struct strip_run *r, const struct plan *plan, const struct place *p, ebm_val v)
{
    int64_t bytes = (int64_t)value_bytes(plan->graph, v) / r->rows * r->block;

    return p->space == SPACE_STRIP ? (struct span){ p->offset, p->offset + bytes } : (struct span){ 0, 0 };
}

static bool meet(struct span a, struct span b)
{
    return a.from < b.to && b.from < a.to;
}

/* Whether a result of step i may lie in its place when step k runs: nothing that is read or
 * written in between lies there. */
static bool free_since(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                       const struct part *parts, int k, int i, const struct ew_output *out)
{
    const struct span mine = span_of(r, plan, &out->place, out->val);

    for (int j = k; j < i; j++) {
        const struct step *t = &steps[j];
        const struct ew_group *g = t->op == OP_NONE ? t->group : NULL;
        const bool skipped = parts[j].moments;
        for (int n = 0; n < (g ? g->n_in : t->n_in); n++)
            if ((!skipped || (g && n == parts[j].centre))
                && meet(mine, g ? span_of(r, plan, &g->in[n].place, g->in[n].val)
                                : span_of(r, plan, &t->in[n], strip_reads(plan, t, n))))
                return false;
        for (int n = 0; g && n < g->n_out; n++)
            if ((!skipped || parts[j].about[n] == ABOUT_NOTHING)
                && meet(mine, span_of(r, plan, &g->out[n].place, g->out[n].val)))
                return false;
        if (!g && meet(mine, span_of(r, plan, &t->out, t->val)))
            return false;
    }
    return out->place.space == SPACE_STRIP;
}

/* Whether an operand of step i is there when step k runs. */
static bool made_before(const struct step *steps, int k, int i, ebm_val v)
{
    for (int j = k; j < i; j++) {
        const struct ew_group *g = steps[j].op == OP_NONE ? steps[j].group : NULL;
        for (int n = 0; g && n < g->n_out; n++)
            if (g->out[n].val == v)
                return false;
        if (!g && steps[j].val == v)
            return false;
    }
    return true;
}

/* The group without what depends on m, in memory of the caller's. */
struct reduced {
    struct ew_group g;
    struct ew_input in[EW_MAX_INPUTS];
    struct ew_output out[EW_MAX_OUTPUTS];
    struct ew_instr instr[EW_MAX_INSTRS];
};

static void reduce_group(const struct formulas *f, struct reduced *to)
{
    bool wanted[EW_MAX_INSTRS] = { false };

    to->g = (struct ew_group){ .shape = f->g->shape, .n_regs = f->g->n_regs,
                               .in = to->in, .out = to->out, .instr = to->instr };
    for (int o = 0; o < f->g->n_out; o++)
        if (!f->varies[f->at[o]]) {
            wanted[f->at[o]] = true;
            to->out[to->g.n_out++] = f->g->out[o];
        }
    for (int t = f->g->n_instr - 1; t >= 0; t--)
        for (int k = 0; wanted[t] && k < ew_operands(f->g->instr[t].op); k++)
            wanted[f->arg[t][k]] = true;
    for (int t = 0; t < f->g->n_instr; t++) {
        struct ew_instr *p = &to->instr[to->g.n_instr];
        if (!wanted[t])
            continue;
        *p = f->g->instr[t];
        if (p->op == EW_LOAD) {
            to->in[to->g.n_in] = f->g->in[p->a];
            p->a = (uint8_t)to->g.n_in++;
        }
        to->g.n_instr++;
    }
}

/* Whether the reduced group of step i can be run when step k is, and makes y. */
static bool may_run_ahead(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                          const struct part *parts, int k, int i, const struct reduced *g)
{
    for (int n = 0; n < g->g.n_in; n++)
        if (!made_before(steps, k, i, g->in[n].val))
            return false;
    for (int o = 0; o < g->g.n_out; o++)
        if (g->out[o].type != EBM_F32 || !free_since(r, plan, steps, parts, k, i, &g->out[o]))
            return false;
    return reduce_pieces(&parts[k].run) > 0;
}

static int run_ahead(const struct strip_run *r, const struct plan *plan, const struct memory *memory, int64_t rows,
                     struct part *sum, int k, struct reduced *g)
{
    struct step step = { .op = OP_NONE, .group = &g->g };
    struct part *p = sum->ahead = mem_new(r->one.ctx, 1, sizeof *p);

    if (!p || part_new(r, plan, &step, memory, rows, p) < 0
        || !(p->own = mem_new(r->one.ctx, p->run.scratch_size, 1)))
        return EBM_ERR_NOMEM;
    p->sum[p->n_sums++] = k;
    return EBM_OK;
}

/* ---- */

/* Sums of the group's results, and of y, take what is found. */
static void take_sums(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                      struct part *parts, int k, int i, const enum about *about, ebm_val other)
{
    const struct ew_group *g = steps[i].group;

    for (int j = k + 1; j < r->n; j++) {
        if (!sums_over(plan, &steps[j], &g->shape, axes_of(plan, &steps[k])) || parts[j].moments)
            continue;
        const ebm_val v = strip_reads(plan, &steps[j], 0);
        if (v == other)
            parts[j].moments = &parts[k];
        for (int o = 0; o < g->n_out; o++)
            if (g->out[o].val == v && about[o] != ABOUT_NOTHING) {
                parts[j].moments = &parts[k];
                parts[j].maker = &parts[i];
                parts[j].of_maker = o;
            }
    }
}

int strip_find_moments(const struct strip_run *r, const struct plan *plan, const struct step *steps,
                       const struct memory *memory, int64_t rows, struct part *parts, int i)
{
    struct part *p = &parts[i];
    struct formulas f = { .g = steps[i].op == OP_NONE ? steps[i].group : NULL };
    struct reduced ahead;
    int k, y = -1;
    ebm_val other = 0;

    if (!f.g)
        return EBM_OK;
    follow_registers(&f);
    if ((k = find_sum(&f, plan, steps, i)) < 0 || !find_kinds(&f, p->about))
        return EBM_OK;
    for (int o = 0; o < f.g->n_out; o++) {
        if (f.at[o] == f.other)
            y = o;
        if (p->about[o] != ABOUT_NOTHING
            && (f.g->out[o].place.space != SPACE_STRIP || f.g->out[o].type != EBM_F32
                || !only_summed(r, plan, steps, parts, i, f.g->out[o].val, k)))
            return EBM_OK;
    }
    reduce_group(&f, &ahead);
    const struct ew_input *array = f.other >= 0 ? loaded(&f, f.other) : NULL;
    if (y >= 0 ? !may_run_ahead(r, plan, steps, parts, k, i, &ahead)
               : ahead.g.n_out || (f.other >= 0 && (!is_array(array) || !made_before(steps, k, i, array->val))))
        return EBM_OK;
    if ((f.other >= 0 && parts[k].pairs) || !reduce_moments(&parts[k].run, f.other >= 0))
        return EBM_OK;

    p->moments = &parts[k];
    p->centre = f.g->instr[f.arg[f.centred][1]].a;
    parts[k].keeps = true;
    p->found = mem_new(r->one.ctx, (size_t)f.g->n_out * (size_t)reduce_results(&parts[k].run), sizeof *p->found);
    if (!p->found)
        return EBM_ERR_NOMEM;
    if (f.other >= 0) {
        parts[k].pairs = true;
        parts[k].other = array ? p->in[f.g->instr[f.other].a] : p->out[y];
        other = array ? array->val : f.g->out[y].val;
    }
    take_sums(r, plan, steps, parts, k, i, p->about, other);
    return y < 0 ? EBM_OK : run_ahead(r, plan, memory, rows, &parts[k], k, &ahead);
}
