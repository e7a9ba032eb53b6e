/* lower_group.c - elementwise groups: the program into constants, what varies
 * with shapes into parameters.
 *
 * SPDX-License-Identifier: ISC
 *
 * Axes that every strided input walks alike are merged, so that most groups have
 * one axis and groups that differ by shapes alone share a pipeline. */
#include <string.h>
#include "lower.h"

enum mode { NONE, LINEAR, SCALAR, STRIDED };          /* as in element.glsl */
enum { FIRST_INPUT = 1, FIRST_OUTPUT = 26, FIRST_SLOT = 38, FREE_SLOT = 31 };

static const struct capacity {
    enum shader shader, few; /* few: for devices without descriptors for all operands */
    enum shader behind[BEHIND_COUNT];
    int inputs, outputs, slots;
} capacities[] = {
    { SHADER_GROUP_SMALL, SHADER_GROUP_SMALL_FEW,
      { SHADER_GEMM_SMALL, SHADER_WINOGRAD_SMALL, SHADER_REDUCE_SMALL, SHADER_MATRIX_SMALL }, 6, 2, 20 },
    { SHADER_GROUP_MIDDLE, SHADER_GROUP_MIDDLE_FEW,
      { SHADER_GEMM_MIDDLE, SHADER_WINOGRAD_MIDDLE, SHADER_REDUCE_MIDDLE, SHADER_MATRIX_MIDDLE }, 12, 4, 60 },
    { SHADER_GROUP_LARGE, SHADER_GROUP_LARGE_FEW, { SHADER_COUNT, SHADER_COUNT, SHADER_COUNT, SHADER_COUNT },
      EW_MAX_INPUTS + 1, EW_MAX_OUTPUTS, EW_MAX_INSTRS },
};

static enum mode mode_of(const struct ew_group *g, const struct ew_input *in)
{
    if (in->linear)
        return LINEAR;
    for (int a = 0; a < g->shape.rank; a++)
        if (in->stride[a] != 0 && g->shape.n[a] > 1)
            return STRIDED;
    return SCALAR;
}

/* The iteration space with axes merged. */
struct iteration {
    int rank;
    int64_t n[EBM_MAX_RANK], stride[EW_MAX_INPUTS][EBM_MAX_RANK];
};

static bool merges(const struct ew_group *g, const struct iteration *s, int a)
{
    for (int k = 0; k < g->n_in; k++)
        if (mode_of(g, &g->in[k]) == STRIDED
            && s->stride[k][s->rank - 1] != g->in[k].stride[a] * g->shape.n[a])
            return false;
    return true;
}

static void make_space(const struct ew_group *g, struct iteration *s)
{
    bool fixed = false;      /* positions along axes are read: they stay apart */

    for (int i = 0; i < g->n_instr; i++)
        fixed |= g->instr[i].op == EW_IOTA;
    s->rank = 0;
    for (int a = 0; a < g->shape.rank; a++) {
        if (g->shape.n[a] == 1 && !fixed)
            continue;
        if (s->rank && !fixed && merges(g, s, a))
            s->n[s->rank - 1] *= g->shape.n[a];
        else
            s->n[s->rank++] = g->shape.n[a];
        for (int k = 0; k < g->n_in; k++)
            s->stride[k][s->rank - 1] = g->in[k].stride[a];
    }
    if (s->rank == 0)
        s->n[s->rank++] = 1;
}

/* loaded: RAW is in memory, the input after all others. */
static uint32_t slot_of(const struct ew_group *g, const struct ew_instr *t, bool loaded)
{
    bool load = t->op == EW_RAW && loaded;
    uint32_t op = load ? EW_LOAD : t->op, a = load ? (uint32_t)g->n_in : t->a;

    return op | (uint32_t)t->dst << 5 | a << 11 | (uint32_t)t->b << 17 | (uint32_t)t->c << 23;
}

static void put_program(const struct ew_group *g, const struct capacity *c, const struct iteration *s,
                        bool loaded, uint32_t *k)
{
    k[0] = (uint32_t)s->rank;
    for (int i = 0; i < g->n_in; i++)
        k[FIRST_INPUT + i] = (uint32_t)mode_of(g, &g->in[i]) | (uint32_t)g->in[i].type << 2;
    if (loaded)
        k[FIRST_INPUT + g->n_in] = LINEAR;            /* and float32 */
    for (int i = 0; i < g->n_out; i++)
        k[FIRST_OUTPUT + i] = 1 | (uint32_t)g->out[i].type << 1 | (uint32_t)g->out[i].reg << 3;
    for (int i = 0; i < c->slots; i++)
        k[FIRST_SLOT + 2 * i] = i < g->n_instr ? slot_of(g, &g->instr[i], loaded) : FREE_SLOT;
    for (int i = 0; i < g->n_instr; i++)
        if (g->instr[i].op == EW_IMM)
            memcpy(&k[FIRST_SLOT + 2 * i + 1], &g->instr[i].imm, sizeof *k);
}

/* Elements of the memory that an input reads. */
int64_t group_extent(const struct ew_group *g, const struct ew_input *in)
{
    int64_t last = 0;

    if (in->linear)
        return shape_count(&g->shape);
    for (int a = 0; a < g->shape.rank; a++)
        last += (g->shape.n[a] - 1) * in->stride[a];
    return last + 1;
}

static bool shares(enum shader shader)
{
    return shader_buffers(shader) < shader_operands(shader);
}

/* The smallest that holds the group. */
static const struct capacity *capacity_for(const struct ew_group *g, int n_in)
{
    const struct capacity *c = capacities;

    while (n_in > c->inputs || g->n_out > c->outputs || g->n_instr > c->slots)
        c++;
    return c;
}

static enum shader shader_for(const struct vk *vk, const struct capacity *c)
{
    return (uint32_t)shader_buffers(c->shader) + 1 > vk->limits.buffers ? c->few : c->shader;
}

/* Inputs from operands[0], outputs from operands[outputs]. */
static void put_operands(const struct device_program *p, const struct ew_group *g, const struct span *raw,
                         int outputs, struct span *operands)
{
    size_t count = (size_t)shape_count(&g->shape);

    for (int i = 0; i < g->n_in; i++)
        operands[i] = span_at(p, &g->in[i].place, (size_t)group_extent(g, &g->in[i]) * type_size(g->in[i].type));
    if (raw) {
        operands[g->n_in] = *raw;
        operands[g->n_in].write = false;
    }
    for (int i = 0; i < g->n_out; i++)
        operands[outputs + i] = written(span_at(p, &g->out[i].place, count * type_size(g->out[i].type)));
}

static void put_space(const struct ew_group *g, const struct iteration *s, struct draft_dispatch *d)
{
    for (int a = 0; a < EBM_MAX_RANK; a++)
        draft_param(d, a < s->rank ? s->n[a] : 1);
    for (int i = 0; i < g->n_in; i++)
        for (int a = 0; a < EBM_MAX_RANK; a++)
            draft_param(d, a < s->rank ? s->stride[i][a] : 0);
}

bool group_behind(const struct vk *vk, const struct ew_group *g, enum behind behind)
{
    enum shader shader = capacity_for(g, g->n_in)->behind[behind];

    return shader != SHADER_COUNT && (uint32_t)shader_buffers(shader) + 1 <= vk->limits.buffers;
}

void group_append(const struct device_program *p, const struct ew_group *g, enum behind behind,
                  struct draft_dispatch *d)
{
    const struct capacity *c = capacity_for(g, g->n_in);
    struct iteration s = { 0 };

    make_space(g, &s);
    d->shader = c->behind[behind];
    d->n_constants = BEHIND_CONSTANTS + FIRST_SLOT + 2 * c->slots;
    put_program(g, c, &s, false, d->constants + BEHIND_CONSTANTS);
    put_operands(p, g, NULL, c->inputs, d->operands + BEHIND_OPERANDS);
    put_space(g, &s, d);
}

bool group_binds(struct device_program *p, const struct ew_group *g, const struct span *raw)
{
    const struct capacity *c = capacity_for(g, g->n_in + (raw ? 1 : 0));
    struct draft_dispatch d = { .shader = shader_for(p->vk, c) };

    put_operands(p, g, raw, c->inputs, d.operands);
    return !shares(d.shader) || share_buffers(p, &d);
}

int lower_group(struct device_program *p, const struct ew_group *g, const struct span *raw)
{
    struct draft_dispatch d = { 0 };
    struct iteration s = { 0 };
    int64_t count = shape_count(&g->shape);
    int n_in = g->n_in + (raw ? 1 : 0);
    const struct capacity *c = capacity_for(g, n_in);

    make_space(g, &s);
    d.shader = shader_for(p->vk, c);
    d.n_constants = FIRST_SLOT + 2 * c->slots;
    put_program(g, c, &s, raw, d.constants);
    put_operands(p, g, raw, c->inputs, d.operands);
    if (shares(d.shader)) {
        if (!share_buffers(p, &d))
            return ebm_fail(p->vk->ctx, EBM_ERR_DEVICE, "vulkan: %s: more than %d buffers at once",
                            shader_name(d.shader), shader_buffers(d.shader));
        for (int i = 0; i < n_in; i++)
            d.constants[FIRST_INPUT + i] |= (uint32_t)d.buffer_of[i] << 4;
        for (int i = 0; i < g->n_out; i++)
            d.constants[FIRST_OUTPUT + i] |= (uint32_t)d.buffer_of[c->inputs + i] << 9;
    }
    draft_param(&d, count);
    put_space(g, &s, &d);
    draft_count(&d, count);
    return draft_emit(p, &d);
}
