/* lower.c - a step of the plan becomes dispatches.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "lower.h"
#include "store.h"

enum { LOCAL = 128 };        /* invocations of a workgroup, as in the shaders */
enum { SPAN_ALIGN = 256 };   /* the largest alignment that Vulkan lets a descriptor need */

/* ---- operands ---- */

struct span span_at(const struct device_program *p, const struct place *place, size_t size)
{
    struct device_buffer *b = place->space == SPACE_ARENA ? p->arena
                            : place->space == SPACE_KEPT ? p->kept
                            : place->space == SPACE_STATE ? p->slots[place->index]
                            : place->space == SPACE_FEED ? p->feeds[place->index] : NULL;

    return (struct span){ b, (size_t)place->offset, size, false };
}

/* Scratch is shared by all steps; barriers keep them apart. */
struct span span_scratch(struct device_program *p, size_t size)
{
    size_t end = p->held + size;

    if (end > p->scratch_size)
        p->scratch_size = end;
    return (struct span){ p->scratch, p->scratch_at + p->held, size, false };
}

size_t within_piece(const struct vk *vk, size_t at, size_t size)
{
    size_t piece = vk->limits.piece;

    at = (at + SPAN_ALIGN - 1) / SPAN_ALIGN * SPAN_ALIGN;
    return size && at / piece != (at + size - 1) / piece ? (at / piece + 1) * piece : at;
}

/* Bytes from `at` on to the end of a piece of the buffer. */
static size_t rest_of_piece(const struct span *s, size_t at)
{
    return s->buffer->piece - (s->offset + at) % s->buffer->piece;
}

struct span span_seen(const struct device_program *p, const struct span *s, size_t from)
{
    size_t most = p->vk->limits.operand / 4 * 4, rest = rest_of_piece(s, from);
    struct span part = { s->buffer, s->offset + from, s->size - from, s->write };

    most = rest < most ? rest : most;
    part.size = part.size < most ? part.size : most;
    return part;
}

static size_t next_lasting(const struct device_program *p, size_t size)
{
    return within_piece(p->vk, p->lasting_at + p->lasting_size, size);
}

bool has_lasting(const struct device_program *p, size_t size)
{
    return size <= p->vk->limits.operand && next_lasting(p, size) + size <= p->lasting_at + p->spare.lasting;
}

struct span span_lasting(struct device_program *p, size_t size)
{
    size_t at = next_lasting(p, size);

    p->lasting_size = at + size - p->lasting_at;
    return (struct span){ p->lasting, at, size, false };
}

struct span written(struct span s)
{
    s.write = true;
    return s;
}

static bool crosses(const struct span *s)
{
    return s->size && s->offset / s->buffer->piece != (s->offset + s->size - 1) / s->buffer->piece;
}

bool is_large(const struct device_program *p, const struct span *s)
{
    return s->size > p->vk->limits.operand || crosses(s);
}

void strides_of(const struct shape *s, int64_t *stride)
{
    int64_t n = 1;

    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= s->n[i];
    }
}

/* ---- drafts ---- */

void draft_param(struct draft_dispatch *d, int64_t value)
{
    d->params[d->n_params++] = (int32_t)value;
}

void draft_axes(struct draft_dispatch *d, int rank, const int64_t *values, int64_t fill)
{
    for (int a = 0; a < EBM_MAX_RANK; a++)
        draft_param(d, a < EBM_MAX_RANK - rank ? fill : values[a - (EBM_MAX_RANK - rank)]);
}

void draft_constant(struct draft_dispatch *d, uint32_t value)
{
    d->constants[d->n_constants++] = value;
}

void draft_count(struct draft_dispatch *d, int64_t count)
{
    d->groups = ((uint64_t)count + LOCAL - 1) / LOCAL;
}

static int grow_words(struct device_program *p, size_t more)
{
    if (p->n_words + more <= p->words_capacity)
        return EBM_OK;
    size_t capacity = 2 * p->words_capacity + more + 1024;
    int32_t *grown = mem_grow(p->vk->ctx, p->words, p->words_capacity, capacity, sizeof *grown);
    if (!grown)
        return EBM_ERR_NOMEM;
    p->words = grown;
    p->words_capacity = capacity;
    return EBM_OK;
}

static struct dispatch *new_dispatch(struct device_program *p)
{
    if (p->n_dispatches == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 64;
        struct dispatch *grown = mem_grow(p->vk->ctx, p->dispatches, p->capacity, capacity, sizeof *grown);
        if (!grown)
            return NULL;
        p->dispatches = grown;
        p->capacity = capacity;
    }
    return &p->dispatches[p->n_dispatches++];
}

/* Extend `b` to hold `s`, too, if one descriptor can. */
static bool extend(struct vk *vk, struct span *b, const struct span *s)
{
    size_t first = s->offset < b->offset ? s->offset : b->offset;
    size_t end = s->offset + s->size > b->offset + b->size ? s->offset + s->size : b->offset + b->size;

    if (b->buffer != s->buffer || end - first > vk->limits.operand
        || first / b->buffer->piece != (end - 1) / b->buffer->piece)
        return false;
    b->offset = first;
    b->size = end - first;
    return true;
}

bool share_buffers(struct device_program *p, struct draft_dispatch *d)
{
    int most = shader_buffers(d->shader);

    d->shared = true;
    for (int i = 0; i < shader_operands(d->shader); i++) {
        const struct span *s = &d->operands[i];
        int b = 0;
        if (s->size == 0)
            continue;
        while (b < d->n_bound && !extend(p->vk, &d->bound[b], s))
            b++;
        if (b == most)
            return false;
        if (b == d->n_bound)
            d->bound[d->n_bound++] = *s;
        d->buffer_of[i] = b;
    }
    return true;
}

static int too_large(struct device_program *p, const struct dispatch *t, const struct span *s)
{
    const double MIB = 1 << 20;
    const char *what = shader_name(t->shader);
    size_t most = p->vk->limits.operand;

    p->too_large = true;
    if (s->size > most)
        return ebm_fail(p->vk->ctx, EBM_ERR_NOMEM, "vulkan: %s: %.4g MiB, of which the device takes %.4g at once",
                        what, (double)s->size / MIB, (double)most / MIB);
    return ebm_fail(p->vk->ctx, EBM_ERR_NOMEM, "vulkan: %s: %.4g MiB that lie in two allocations of the device, as "
                    "the whole is more than the %.4g of one", what, (double)s->size / MIB, (double)s->buffer->piece / MIB);
}

/* Parameters: how many bytes after its descriptor each operand begins, then the
 * draft's own; each block begins at an offset that a descriptor may have, and is seen whole. */
static int put_params(struct device_program *p, const struct draft_dispatch *d, struct dispatch *t)
{
    size_t align = p->vk->limits.offset_align, first;
    int rc;

    t->n_params = (size_t)t->n_operands + (size_t)d->n_params + d->n_tail;
    const struct span words = { .size = 4 * t->n_params };
    if (words.size > p->vk->limits.operand)
        return too_large(p, t, &words);
    first = within_piece(p->vk, 4 * p->n_words, words.size) / 4;
    if ((rc = grow_words(p, first - p->n_words + t->n_params)) < 0)
        return rc;
    t->params = first;
    for (int i = 0; i < t->n_operands; i++) {
        size_t bound = d->shared ? d->bound[d->buffer_of[i]].offset : t->operands[i].offset;
        p->words[first + (size_t)i] = (int32_t)(t->operands[i].offset - bound / align * align);
    }
    memcpy(p->words + first + t->n_operands, d->params, (size_t)d->n_params * sizeof *p->words);
    if (d->n_tail)
        memcpy(p->words + first + t->n_operands + d->n_params, d->tail, d->n_tail * sizeof *p->words);
    p->n_words = first + t->n_params;
    return EBM_OK;
}

static int check_limits(struct device_program *p, const struct dispatch *t, uint64_t groups)
{
    uint64_t across = p->vk->limits.groups;

    for (int i = 0; i < t->n_operands; i++)
        if (is_large(p, &t->operands[i]))
            return too_large(p, t, &t->operands[i]);
    if (groups > across * across) {
        p->too_large = true;
        return ebm_fail(p->vk->ctx, EBM_ERR_NOMEM, "vulkan: %s: %.4g workgroups, of which the device takes %.4g",
                        shader_name(t->shader), (double)groups, (double)(across * across));
    }
    return EBM_OK;
}

/* Of what moves memory: a byte takes as long as this many operations. */
static const double BYTE_WORK = 8;

static double work_of(const struct dispatch *t)
{
    double bytes = 0;

    for (int i = 0; i < t->n_operands; i++)
        bytes += (double)t->operands[i].size;
    return BYTE_WORK * bytes;
}

int draft_emit(struct device_program *p, const struct draft_dispatch *d)
{
    struct dispatch *t;
    uint64_t most = p->vk->limits.groups;
    int rc;

    if (d->groups == 0)
        return EBM_OK;
    if (!(t = new_dispatch(p)))
        return EBM_ERR_NOMEM;
    t->shader = d->shader;
    t->n_operands = shader_operands(d->shader);
    memcpy(t->operands, d->operands, (size_t)t->n_operands * sizeof *t->operands);
    t->n_bound = shader_buffers(d->shader);
    memcpy(t->bound, d->shared ? d->bound : d->operands, (size_t)t->n_bound * sizeof *t->bound);
    t->groups[0] = (uint32_t)(d->groups < most ? d->groups : most);
    t->groups[1] = (uint32_t)((d->groups + t->groups[0] - 1) / t->groups[0]);
    t->work = d->work > 0 ? d->work : work_of(t);
    t->once = d->once;
    if ((rc = check_limits(p, t, d->groups)) < 0)
        return rc;
    if ((rc = put_params(p, d, t)) < 0)
        return rc;
    return p->dry ? EBM_OK : pipe_get(p->vk, d->shader, d->n_constants, d->constants, &t->pipeline);
}

static int emit_piece(struct device_program *p, struct span from, struct span to)
{
    struct dispatch *t = new_dispatch(p);

    if (!t)
        return EBM_ERR_NOMEM;
    t->shader = SHADER_COUNT;
    t->n_operands = 2;
    t->operands[0] = from;
    t->operands[1] = written(to);
    t->work = work_of(t);
    return EBM_OK;
}

int emit_copy(struct device_program *p, struct span from, struct span to)
{
    int rc = EBM_OK;

    if (from.buffer == to.buffer && from.offset == to.offset)
        return EBM_OK;
    for (size_t left = from.size; left && rc >= 0; left -= from.size) {
        size_t rest = rest_of_piece(&from, 0), there = rest_of_piece(&to, 0);
        rest = rest < there ? rest : there;
        from.size = to.size = left < rest ? left : rest;
        rc = emit_piece(p, from, to);
        from.offset += from.size;
        to.offset += to.size;
    }
    return rc;
}

/* ---- steps ---- */

static int (*const lower[OP_COUNT])(const struct lowering *l) = {
    [OP_RANDOM] = lower_random, [OP_TICK] = lower_random,
    [OP_BROADCAST] = lower_move, [OP_TRANSPOSE] = lower_move, [OP_SLICE] = lower_move,
    [OP_PAD] = lower_move, [OP_FLIP] = lower_move, [OP_CONCAT] = lower_move,
    [OP_SUM] = lower_reduce, [OP_AMAX] = lower_reduce,
    [OP_MATMUL] = lower_contract, [OP_CONV] = lower_contract,
    [OP_CONV_DATA] = lower_contract, [OP_CONV_FILTER] = lower_contract,
    [OP_POOL] = lower_window, [OP_UNPOOL] = lower_window,
    [OP_PICK] = lower_window, [OP_PLACE] = lower_window,
    [OP_RESAMPLE] = lower_resample, [OP_RESAMPLE_T] = lower_resample,
    [OP_GATHER] = lower_index, [OP_SCATTER] = lower_index, [OP_UPDATE] = lower_index,
};

int lower_heavy(const struct lowering *l)
{
    enum op op = l->node->op;

    if (!lower[op])
        return ebm_fail(l->program->vk->ctx, EBM_ERR_INTERNAL, "vulkan: %s is not an operation that runs",
                        op_info[op].name);
    return lower[op](l);
}

static size_t bytes_of(const struct node *n)
{
    return (size_t)shape_count(&n->shape) * type_size(n->type);
}

/* Does the program write to the slot? */
static bool writes_slot(const struct plan *plan, int slot)
{
    for (int i = 0; i < plan->n_copies; i++)
        if (plan->copies[i].to.space == SPACE_STATE && plan->copies[i].to.index == slot)
            return true;
    for (int i = 0; i < plan->n_steps; i++) {
        const struct step *t = &plan->steps[i];
        if (t->op != OP_NONE && t->out.space == SPACE_STATE && t->out.index == slot)
            return true;
        for (int k = 0; t->group && k < t->group->n_out; k++)
            if (t->group->out[k].place.space == SPACE_STATE && t->group->out[k].place.index == slot)
                return true;
    }
    return false;
}

static bool lasts(const struct plan *plan, const struct place *place)
{
    return place->space == SPACE_FEED || (place->space == SPACE_STATE && !writes_slot(plan, place->index));
}

static int lower_step(struct device_program *p, const struct plan *plan, const struct step *step)
{
    const ebm_graph *g = plan->graph;
    struct lowering l = { .program = p, .graph = g, .step = step, .n_in = step->n_in,
                          .precision = plan->precision };
    int rc = EBM_OK;

    if (step->op != OP_NONE) {
        l.node = node_of(g, step->val);
        l.out = written(span_at(p, &step->out, bytes_of(l.node)));
        for (int i = 0; i < step->n_in && i < 3 && !l.node->many; i++) {
            const struct node *x = node_of(g, l.node->in[i]);
            l.in[i] = span_at(p, &step->in[i], bytes_of(x));
            l.shape[i] = &x->shape;
        }
        if (step->op == OP_CONV || step->op == OP_CONV_DATA)
            l.filter_lasts = lasts(plan, &step->in[1]);
        if (step->group && !large_step(&l, step->group) && contract_takes(&l, step->group)) {
            l.epilogue = step->group;
            return lower_contract(&l);
        }
        rc = large_heavy(&l);
    }
    if (rc >= 0 && step->group)
        rc = large_group(p, step->group, step->op == OP_NONE ? NULL : &l.out);
    return rc;
}

/* What is done once to the front. */
static int put_once_first(struct device_program *p)
{
    struct dispatch *sorted;
    size_t n = 0;

    for (size_t i = 0; i < p->n_dispatches; i++)
        p->n_once += p->dispatches[i].once;
    if (p->n_once == 0)
        return EBM_OK;
    if (!(sorted = mem_new(p->vk->ctx, p->capacity, sizeof *sorted)))
        return EBM_ERR_NOMEM;
    for (int rest = 0; rest < 2; rest++)
        for (size_t i = 0; i < p->n_dispatches; i++)
            if (p->dispatches[i].once != rest)
                sorted[n++] = p->dispatches[i];
    mem_free(p->vk->ctx, p->dispatches);
    p->dispatches = sorted;
    return EBM_OK;
}

int lower_plan(struct device_program *p, const struct plan *plan)
{
    int rc = EBM_OK;

    for (int i = 0; i < plan->n_steps && rc >= 0; i++)
        rc = lower_step(p, plan, &plan->steps[i]);
    for (int i = 0; i < plan->n_copies && rc >= 0; i++) {
        const struct copy *c = &plan->copies[i];
        rc = emit_copy(p, span_at(p, &c->from, c->bytes), span_at(p, &c->to, c->bytes));
    }
    return rc < 0 || p->dry ? rc : put_once_first(p);
}
