/* describe.c - a plan as text, a line a step, for people and tests.
 *
 * SPDX-License-Identifier: ISC
 *
 *    3 CONV [64,16,16,16] arena+0 <- feed0 energy+0
 *      r0 = raw; r1 = in0 state2+1600; r0 = add r0 r1 ...; arena+4096 = r0 */
#include <stdio.h>
#include <string.h>
#include "plan.h"

static const char *const ew_names[EW_COUNT] = {
    "in", "", "raw", "index", "neg", "abs", "sign", "floor", "exp", "log", "sqrt",
    "sin", "cos", "tanh", "sigmoid", "softplus", "trunc", "byte",
    "add", "sub", "mul", "div", "max", "min", "less", "equal", "select",
};

/* Text that grows; with no memory it stays as it is and `lost` tells. */
struct text { ebm_context *ctx; char *s; size_t used, size; bool lost; };

static void say(struct text *t, const char *format, ...) PRINTF(2, 3);

static void say(struct text *t, const char *format, ...)
{
    for (;;) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(t->s + t->used, t->size - t->used, format, args);
        va_end(args);
        if (n < 0)
            return;
        if ((size_t)n < t->size - t->used) {
            t->used += (size_t)n;
            return;
        }
        char *grown = mem_grow(t->ctx, t->s, t->used + 1, 2 * t->size + (size_t)n, 1);
        if (!grown) {
            t->lost = true;
            return;
        }
        t->s = grown;
        t->size = 2 * t->size + (size_t)n;
    }
}

static void say_place(struct text *t, const struct place *p)
{
    static const char *const spaces[] = { "none", "arena", "state", "feed" };

    say(t, "%s", spaces[p->space]);
    if (p->space == SPACE_STATE || p->space == SPACE_FEED)
        say(t, "%d", p->index);
    say(t, "+%lld", (long long)p->offset);
}

static void say_instr(struct text *t, const struct ew_group *group, const struct ew_instr *i)
{
    say(t, " r%d = %s", i->dst, ew_names[i->op]);
    if (i->op == EW_LOAD) {
        const struct ew_input *in = &group->in[i->a];
        say(t, "%d ", i->a);
        say_place(t, &in->place);
        if (!in->linear)
            say(t, " broadcast");
    } else if (i->op == EW_IMM) {
        say(t, "%g", i->imm);
    } else if (i->op == EW_IOTA) {
        say(t, "%d", i->a);
    } else if (i->op > EW_IOTA) {
        say(t, " r%d", i->a);
        if (i->op >= EW_ADD)
            say(t, " r%d", i->b);
        if (i->op >= EW_SELECT)
            say(t, " r%d", i->c);
    }
    say(t, ";");
}

int plan_describe(ebm_context *ctx, const struct plan *plan, char **text)
{
    struct text t = { ctx, mem_new(ctx, 4096, 1), 0, 4096, false };
    char shape[SHAPE_TEXT];

    *text = NULL;
    if (!t.s)
        return EBM_ERR_NOMEM;
    say(&t, "arena %lld bytes\n", (long long)plan->arena);
    for (int i = 0; i < plan->n_steps; i++) {
        const struct step *s = &plan->steps[i];
        say(&t, "%4d", i);
        if (s->op != OP_NONE) {
            say(&t, " %s %s ", op_info[s->op].name,
                shape_text(&node_of(plan->graph, s->val)->shape, shape));
            say_place(&t, &s->out);
            say(&t, " <-");
            for (int k = 0; k < s->n_in; k++) {
                say(&t, " ");
                say_place(&t, &s->in[k]);
            }
        }
        if (s->group) {
            say(&t, "%s %s:", s->op != OP_NONE ? "\n     " : "",
                shape_text(&s->group->shape, shape));
            for (int k = 0; k < s->group->n_instr; k++)
                say_instr(&t, s->group, &s->group->instr[k]);
            for (int k = 0; k < s->group->n_out; k++) {
                say(&t, " ");
                say_place(&t, &s->group->out[k].place);
                say(&t, " = r%d;", s->group->out[k].reg);
            }
        }
        say(&t, "\n");
    }
    for (int i = 0; i < plan->n_copies; i++) {
        say(&t, "copy ");
        say_place(&t, &plan->copies[i].to);
        say(&t, " <- ");
        say_place(&t, &plan->copies[i].from);
        say(&t, " (%zu bytes)\n", plan->copies[i].bytes);
    }
    if (t.lost) {
        mem_free(ctx, t.s);
        return EBM_ERR_NOMEM;
    }
    *text = t.s;
    return EBM_OK;
}
