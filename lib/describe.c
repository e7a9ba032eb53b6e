/* describe.c - a plan as text, a line a step, for people and tests.
 *
 * SPDX-License-Identifier: ISC
 *
 *    3 CONV [64,16,16,16] arena+0 <- feed0 energy+0
 *      r0 = raw; r1 = in0 state2+1600; r0 = add r0 r1 ...; arena+4096 = r0 */
#include "plan.h"
#include "text.h"

static const char *const ew_names[EW_COUNT] = {
    "in", "", "raw", "index", "neg", "abs", "sign", "floor", "exp", "log", "sqrt",
    "sin", "cos", "tanh", "sigmoid", "softplus", "trunc", "byte",
    "add", "sub", "mul", "div", "max", "min", "less", "equal", "select",
};

static void say_place(struct text *t, const struct place *p)
{
    static const char *const spaces[] = { "none", "arena", "kept", "state", "feed", "strip" };

    text_printf(t, "%s", spaces[p->space]);
    if (p->space == SPACE_STATE || p->space == SPACE_FEED)
        text_printf(t, "%d", p->index);
    text_printf(t, "+%lld", (long long)p->offset);
}

static void say_instr(struct text *t, const struct ew_group *group, const struct ew_instr *i)
{
    text_printf(t, " r%d = %s", i->dst, ew_names[i->op]);
    if (i->op == EW_LOAD) {
        const struct ew_input *in = &group->in[i->a];
        text_printf(t, "%d ", i->a);
        say_place(t, &in->place);
        if (!in->linear)
            text_printf(t, " broadcast");
    } else if (i->op == EW_IMM) {
        text_printf(t, "%g", i->imm);
    } else if (i->op == EW_IOTA) {
        text_printf(t, "%d", i->a);
    } else if (i->op > EW_IOTA) {
        text_printf(t, " r%d", i->a);
        if (i->op >= EW_ADD)
            text_printf(t, " r%d", i->b);
        if (i->op >= EW_SELECT)
            text_printf(t, " r%d", i->c);
    }
    text_printf(t, ";");
}

int plan_describe(ebm_context *ctx, const struct plan *plan, char **text)
{
    struct text t = { .ctx = ctx };
    char shape[SHAPE_TEXT];

    text_printf(&t, "arena %lld bytes\n", (long long)plan->arena);
    for (int i = 0, strip = 0; i < plan->n_steps; i++) {
        const struct step *s = &plan->steps[i];
        if (strip < plan->n_strips && plan->strips[strip].first == i) {
            const struct strip *p = &plan->strips[strip++];
            text_printf(&t, "strip of %d steps: %lld of %lld rows at once, %lld bytes\n", p->n,
                (long long)p->block, (long long)p->rows, (long long)p->bytes);
        }
        text_printf(&t, "%4d", i);
        if (s->op != OP_NONE) {
            text_printf(&t, " %s %s ", op_info[s->op].name,
                shape_text(&node_of(plan->graph, s->val)->shape, shape));
            say_place(&t, &s->out);
            text_printf(&t, " <-");
            for (int k = 0; k < s->n_in; k++) {
                text_printf(&t, " ");
                say_place(&t, &s->in[k]);
            }
        }
        if (s->group) {
            text_printf(&t, "%s %s:", s->op != OP_NONE ? "\n     " : "",
                shape_text(&s->group->shape, shape));
            for (int k = 0; k < s->group->n_instr; k++)
                say_instr(&t, s->group, &s->group->instr[k]);
            for (int k = 0; k < s->group->n_out; k++) {
                text_printf(&t, " ");
                say_place(&t, &s->group->out[k].place);
                text_printf(&t, " = r%d;", s->group->out[k].reg);
            }
        }
        text_printf(&t, "\n");
    }
    for (int i = 0; i < plan->n_copies; i++) {
        text_printf(&t, "copy ");
        say_place(&t, &plan->copies[i].to);
        text_printf(&t, " <- ");
        say_place(&t, &plan->copies[i].from);
        text_printf(&t, " (%zu bytes)\n", plan->copies[i].bytes);
    }
    *text = text_take(&t);
    return *text ? EBM_OK : EBM_ERR_NOMEM;
}
