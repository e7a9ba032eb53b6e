/* plain.c - a device that takes plans at their word.
 *
 * SPDX-License-Identifier: ISC
 *
 * It executes a plan in the least forgiving order that plan.h allows, so that a
 * value placed on memory that is still needed shows as a wrong result:
 *
 *   the arena starts as NaN in every run, as do kept results;
 *   a group goes through the whole shape one instruction at a time;
 *   loads are not copied: memory is read anew by every instruction;
 *   outputs are stored after the last instruction, one after the other, and one
 *   that is an input as it came is read only then. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "plain.h"
#include "store.h"

struct device_buffer {
    size_t size;
    unsigned char bytes[];
};

struct device_program {
    struct plan plan;        /* taken over from the core */
    ebm_graph graph;         /* a copy of its nodes */
    int n_feeds;
    struct device_buffer *arena;     /* shared with other programs */
    unsigned char *kept;
    unsigned char **feeds;
    struct device_buffer **slots;
};

static unsigned char *memory_at(const struct device_program *p, const struct place *place)
{
    switch (place->space) {
    case SPACE_ARENA: return p->arena->bytes + place->offset;
    case SPACE_KEPT:  return p->kept + place->offset;
    case SPACE_STATE: return p->slots[place->index]->bytes + place->offset;
    case SPACE_FEED:  return p->feeds[place->index] + place->offset;
    default:          return NULL;
    }
}

/* ---- buffers ---- */

static void close_plain(ebm_backend *b)
{
    free(b);
}

static int buffer_new(ebm_backend *b, size_t size, struct device_buffer **buffer)
{
    *buffer = calloc(1, sizeof **buffer + size);
    if (!*buffer)
        return ebm_fail_memory(b->ctx, "a buffer", size);
    (*buffer)->size = size;
    return EBM_OK;
}

static void buffer_free(ebm_backend *b, struct device_buffer *buffer)
{
    (void)b;
    free(buffer);
}

static int upload(ebm_backend *b, struct device_buffer *to, size_t offset, const void *from, size_t size)
{
    (void)b;
    memcpy(to->bytes + offset, from, size);
    return EBM_OK;
}

static int download(ebm_backend *b, struct device_buffer *from, size_t offset, void *to, size_t size)
{
    (void)b;
    memcpy(to, from->bytes + offset, size);
    return EBM_OK;
}

/* ---- programs ---- */

static void copy_nodes(ebm_graph *to, const ebm_graph *from)
{
    *to = *from;
    to->nodes = malloc((size_t)from->count * sizeof *to->nodes);
    memcpy(to->nodes, from->nodes, (size_t)from->count * sizeof *to->nodes);
    for (int32_t i = 0; i < to->count; i++) {
        struct node *n = &to->nodes[i];
        if (!n->many)
            continue;
        n->many = malloc((size_t)n->n_in * sizeof *n->many);
        memcpy(n->many, from->nodes[i].many, (size_t)n->n_in * sizeof *n->many);
    }
}

static void program_free(ebm_backend *b, struct device_program *p)
{
    for (int32_t i = 0; i < p->graph.count; i++)
        free(p->graph.nodes[i].many);
    free(p->graph.nodes);
    for (int i = 0; i < p->plan.n_steps; i++) {
        struct step *t = &p->plan.steps[i];
        if (t->group) {
            mem_free(b->ctx, t->group->in);
            mem_free(b->ctx, t->group->out);
            mem_free(b->ctx, t->group->instr);
        }
        mem_free(b->ctx, t->group);
        mem_free(b->ctx, t->in);
    }
    mem_free(b->ctx, p->plan.steps);
    mem_free(b->ctx, p->plan.copies);
    mem_free(b->ctx, p->plan.fetches);
    for (int i = 0; i < p->n_feeds; i++)
        free(p->feeds[i]);
    free(p->feeds);
    free(p->slots);
    free(p->kept);
    free(p);
}

static int compile(ebm_backend *b, const struct plan *plan, struct device_buffer *arena,
                   struct device_buffer *const *slots, const size_t *feeds, struct device_program **program)
{
    struct device_program *p = calloc(1, sizeof *p);
    int n_slots = plan->graph->store->count;

    (void)b;
    p->plan = *plan;
    copy_nodes(&p->graph, plan->graph);
    p->plan.graph = &p->graph;
    p->n_feeds = plan->graph->n_feeds;
    p->arena = arena;
    p->kept = malloc((size_t)plan->kept + 1);
    p->feeds = calloc((size_t)p->n_feeds + 1, sizeof *p->feeds);
    for (int i = 0; i < p->n_feeds; i++)
        p->feeds[i] = calloc(1, feeds[i] + 1);
    p->slots = calloc((size_t)n_slots + 1, sizeof *p->slots);
    memcpy(p->slots, slots, (size_t)n_slots * sizeof *p->slots);

    struct plan *taken = (struct plan *)plan;        /* the core now frees nothing */
    taken->steps = NULL;
    taken->copies = NULL;
    taken->fetches = NULL;
    *program = p;
    return EBM_OK;
}

static int feed(ebm_backend *b, struct device_program *p, int index, const void *from, size_t size)
{
    (void)b;
    memcpy(p->feeds[index], from, size);
    return EBM_OK;
}

static int fetch(ebm_backend *b, struct device_program *p, const struct place *place, void *to, size_t size)
{
    (void)b;
    if (!memory_at(p, place))
        return ebm_fail(b->ctx, EBM_ERR_INTERNAL, "a fetched value has no place");
    memcpy(to, memory_at(p, place), size);
    return EBM_OK;
}

/* ---- a heavy operation ---- */

static int run_heavy(ebm_backend *b, struct device_program *p, const struct step *t)
{
    const ebm_graph *g = p->plan.graph;
    const struct node *y = node_of(g, t->val);
    int64_t count = shape_count(&y->shape);
    double **in = calloc((size_t)t->n_in + 1, sizeof *in), *out = malloc((size_t)count * sizeof *out);
    int rc = EBM_OK;

    for (int i = 0; i < t->n_in; i++) {
        const struct node *x = node_of(g, operand(y, i));
        int64_t n = shape_count(&x->shape);
        in[i] = malloc((size_t)n * sizeof **in);
        if (memory_at(p, &t->in[i]))
            doubles_from(in[i], x->type, memory_at(p, &t->in[i]), n);
        else
            rc = ebm_fail(b->ctx, EBM_ERR_INTERNAL, "%s: operand %d has no place", op_info[t->op].name, i);
    }
    if (rc >= 0) {
        oracle_apply(g, t->val, (const double *const *)in, out);
        doubles_to(memory_at(p, &t->out), y->type, out, count);
    }
    for (int i = 0; i < t->n_in; i++)
        free(in[i]);
    free(in);
    free(out);
    return rc;
}

/* ---- a group ---- */

struct lane {                /* a register over the whole shape */
    enum { COMPUTED, LOADED, RESULT } kind;
    int input;
    double *x;
};

struct execution {
    const struct device_program *p;
    const struct step *t;
    int64_t count;
    struct lane lane[EW_MAX_REGS];
};

static void position_of(const struct shape *s, int64_t i, int64_t *at)
{
    for (int k = s->rank - 1; k >= 0; k--) {
        at[k] = i % s->n[k];
        i /= s->n[k];
    }
}

static double element_of(enum ebm_type type, const unsigned char *memory, int64_t i)
{
    double x;

    doubles_from(&x, type, memory + i * (int64_t)type_size(type), 1);
    return x;
}

static double read_lane(const struct execution *e, int reg, int64_t i)
{
    const struct lane *l = &e->lane[reg];
    const struct ew_input *in = &e->t->group->in[l->input];
    int64_t at[EBM_MAX_RANK], j = 0;

    if (l->kind == COMPUTED)
        return l->x[i];
    if (l->kind == RESULT)
        return element_of(EBM_F32, memory_at(e->p, &e->t->out), i);
    position_of(&e->t->group->shape, i, at);
    for (int k = 0; k < e->t->group->shape.rank; k++)
        j += at[k] * in->stride[k];
    return element_of(in->type, memory_at(e->p, &in->place), j);
}

static double compute(const struct ew_instr *t, double a, double b, double c)
{
    switch ((enum ew_op)t->op) {
    case EW_IMM:      return t->imm;
    case EW_NEG:      return -a;
    case EW_ABS:      return fabs(a);
    case EW_SIGN:     return (a > 0) - (a < 0);
    case EW_FLOOR:    return floor(a);
    case EW_EXP:      return exp(a);
    case EW_LOG:      return log(a);
    case EW_SQRT:     return sqrt(a);
    case EW_SIN:      return sin(a);
    case EW_COS:      return cos(a);
    case EW_TANH:     return tanh(a);
    case EW_SIGMOID:  return 1 / (1 + exp(-a));
    case EW_SOFTPLUS: return a > 30 ? a : log1p(exp(a));
    case EW_TRUNC:    return trunc(a);
    case EW_BYTE:     return fmin(fmax(trunc(a), 0), 255);
    case EW_ADD:      return a + b;
    case EW_SUB:      return a - b;
    case EW_MUL:      return a * b;
    case EW_DIV:      return a / b;
    case EW_MAX:      return a >= b ? a : b;
    case EW_MIN:      return a <= b ? a : b;
    case EW_LESS:     return a < b;
    case EW_EQUAL:    return a == b;
    case EW_SELECT:   return a != 0 ? b : c;
    default:          return NAN;
    }
}

static void store_output(const struct execution *e, const struct ew_output *out)
{
    unsigned char *to = memory_at(e->p, &out->place);

    for (int64_t i = 0; i < e->count; i++) {
        double x = read_lane(e, out->reg, i);
        doubles_to(to + i * (int64_t)type_size(out->type), out->type, &x, 1);
    }
}

static void run_instr(struct execution *e, int index)
{
    const struct ew_group *group = e->t->group;
    const struct ew_instr *t = &group->instr[index];
    struct lane *l = &e->lane[t->dst];

    if (t->op == EW_LOAD || t->op == EW_RAW) {
        l->kind = t->op == EW_LOAD ? LOADED : RESULT;
        l->input = t->a;
        return;
    }
    double *x = malloc((size_t)e->count * sizeof *x);
    for (int64_t i = 0; i < e->count; i++) {
        int64_t at[EBM_MAX_RANK];
        position_of(&group->shape, i, at);
        if (t->op == EW_IOTA)
            x[i] = (double)at[t->a];
        else
            x[i] = compute(t, t->op >= EW_NEG ? read_lane(e, t->a, i) : 0,
                           t->op >= EW_ADD ? read_lane(e, t->b, i) : 0,
                           t->op >= EW_SELECT ? read_lane(e, t->c, i) : 0);
    }
    memcpy(l->x, x, (size_t)e->count * sizeof *x);
    l->kind = COMPUTED;
    free(x);
}

static void run_group(const struct device_program *p, const struct step *t)
{
    struct execution e = { .p = p, .t = t, .count = shape_count(&t->group->shape) };

    for (int i = 0; i < EW_MAX_REGS; i++)
        e.lane[i].x = calloc((size_t)e.count, sizeof *e.lane[i].x);
    for (int i = 0; i < t->group->n_instr; i++)
        run_instr(&e, i);
    for (int k = 0; k < t->group->n_out; k++)
        store_output(&e, &t->group->out[k]);
    for (int i = 0; i < EW_MAX_REGS; i++)
        free(e.lane[i].x);
}

static int run(ebm_backend *b, struct device_program *p, int times)
{
    while (times-- > 0) {
        memset(p->kept, 0xff, (size_t)p->plan.kept);
        memset(p->arena->bytes, 0xff, (size_t)p->plan.arena);       /* NaN */
        for (int i = 0; i < p->plan.n_steps; i++) {
            const struct step *t = &p->plan.steps[i];
            int rc = t->op == OP_NONE ? EBM_OK : run_heavy(b, p, t);
            if (rc < 0)
                return rc;
            if (t->group)
                run_group(p, t);
        }
        for (int i = 0; i < p->plan.n_copies; i++)
            memmove(memory_at(p, &p->plan.copies[i].to), memory_at(p, &p->plan.copies[i].from),
                    p->plan.copies[i].bytes);
    }
    return EBM_OK;
}

ebm_backend *plain_open(ebm_context *ctx)
{
    static const struct backend_vtable vtable = {
        .name = "plain", .close = close_plain,
        .buffer_new = buffer_new, .buffer_free = buffer_free,
        .upload = upload, .download = download,
        .compile = compile, .program_free = program_free,
        .feed = feed, .run = run, .fetch = fetch,
    };
    ebm_backend *b = calloc(1, sizeof *b);

    b->v = &vtable;
    b->ctx = ctx;
    strcpy(b->description, "plain: the plan as it is written");
    return b;
}
