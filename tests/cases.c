/* cases.c - the cases of each operation: shapes and attributes that matter.
 *
 * SPDX-License-Identifier: ISC
 *
 * Inputs keep away from kinks and poles, so that finite differences hold. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "cases.h"
#include "store.h"

const int32_t trial_counter[4] = { 20, -22, 7, 3 };

void trial_open(struct trial *t, ebm_store *store, uint64_t seed)
{
    memset(t, 0, sizeof *t);
    t->ctx = store->ctx;
    t->store = store;
    t->random = seed;
    if (ebm_graph_new(store, &t->g) < 0) {
        fprintf(stderr, "%s\n", ebm_message(t->ctx));
        exit(99);
    }
}

void trial_close(struct trial *t)
{
    for (int i = 0; i < t->n_in; i++)
        free(t->in[i].data);
    ebm_graph_free(t->g);
}

ebm_val trial_input(struct trial *t, enum ebm_type type, int rank, const int64_t *shape,
                    double lo, double hi)
{
    struct trial_input *in = &t->in[t->n_in];
    struct shape s = { .rank = rank };

    for (int i = 0; i < rank; i++)
        s.n[i] = shape[i];
    snprintf(in->name, sizeof in->name, "x%d", t->n_in++);
    in->type = type;
    in->count = shape_count(&s);
    in->val = ebm_feed(t->g, in->name, type, rank, shape);
    in->data = calloc((size_t)in->count, sizeof *in->data);
    for (int64_t i = 0; i < in->count; i++) {
        double a = draw_between(&t->random, lo, hi);
        in->data[i] = type == EBM_F32 ? (float)a : floor(a);
    }
    return in->val;
}

struct oracle *trial_oracle(const struct trial *t)
{
    static double counter[4];
    struct oracle *o = oracle_new(t->g);
    int slot = store_find(t->store, "counter");

    for (int i = 0; i < 4; i++)
        counter[i] = trial_counter[i];
    for (int i = 0; i < t->n_in; i++)
        oracle_feed(o, t->in[i].name, t->in[i].data);
    if (slot >= 0)
        oracle_slot(o, slot, counter);
    return o;
}

/* ---- inputs ---- */

static ebm_val input(struct trial *t, int rank, const int64_t *shape)
{
    return trial_input(t, EBM_F32, rank, shape, -2, 2);
}

static ebm_val positive(struct trial *t, int rank, const int64_t *shape)
{
    return trial_input(t, EBM_F32, rank, shape, 0.5, 3);
}

static ebm_val index_input(struct trial *t, int64_t n, int lo, int hi)
{
    return trial_input(t, EBM_I32, 1, &n, lo, hi);
}

/* Away from 0 by a quarter, with either sign. */
static ebm_val nonzero(struct trial *t, int rank, const int64_t *shape)
{
    ebm_val a = input(t, rank, shape);
    struct trial_input *in = &t->in[t->n_in - 1];

    for (int64_t i = 0; i < in->count; i++)
        in->data[i] += in->data[i] < 0 ? -0.25 : 0.25;
    return a;
}

/* Random order of equally spaced numbers: no two are near each other. */
static ebm_val distinct(struct trial *t, int rank, const int64_t *shape)
{
    ebm_val a = input(t, rank, shape);
    struct trial_input *in = &t->in[t->n_in - 1];

    for (int64_t i = 0; i < in->count; i++) {
        int j = draw_below(&t->random, (int)i + 1);
        in->data[i] = in->data[j];
        in->data[j] = (float)(((double)i + 0.75) / (double)in->count * 4 - 2);
    }
    return a;
}

/* Pairs of shapes that broadcast, and a third for SELECT. */
static const struct {
    int rank[3];
    int64_t n[3][EBM_MAX_RANK];
} broadcasts[] = {
    { { 1, 1, 1 }, { { 7 }, { 7 }, { 7 } } },
    { { 3, 3, 3 }, { { 2, 3, 5 }, { 2, 3, 5 }, { 2, 3, 5 } } },
    { { 3, 1, 0 }, { { 2, 3, 5 }, { 5 }, { 0 } } },
    { { 2, 3, 2 }, { { 3, 1 }, { 2, 1, 4 }, { 1, 4 } } },
    { { 0, 2, 2 }, { { 0 }, { 3, 17 }, { 3, 1 } } },
    { { 4, 4, 4 }, { { 2, 1, 3, 4 }, { 1, 5, 1, 4 }, { 2, 5, 1, 1 } } },
    { { 6, 2, 1 }, { { 2, 2, 1, 2, 3, 2 }, { 3, 1 }, { 2 } } },
    { { 2, 2, 1 }, { { 33, 67 }, { 1, 67 }, { 67 } } },
};

/* ---- elementwise ---- */

static ebm_val case_unary(struct trial *t, enum op op, int i)
{
    static const struct { int rank; int64_t n[EBM_MAX_RANK]; } of[] = {
        { 0, { 0 } }, { 1, { 19 } }, { 2, { 3, 40 } }, { 4, { 2, 3, 5, 7 } },
    };
    static const int64_t many[2] = { 101, 97 };

    if (i == (int)COUNT(of))         /* far from zero too */
        return build_ew1(t->g, op, op == OP_LOG || op == OP_SQRT
                         ? trial_input(t, EBM_F32, 2, many, 0.01, 1000)
                         : trial_input(t, EBM_F32, 2, many, -30, 30));
    if (i > (int)COUNT(of))
        return NO_CASE;
    if (op == OP_LOG || op == OP_SQRT)
        return build_ew1(t->g, op, positive(t, of[i].rank, of[i].n));
    return build_ew1(t->g, op, nonzero(t, of[i].rank, of[i].n));
}

static ebm_val case_cast(struct trial *t, enum op op, int i)
{
    static const int64_t n[2] = { 5, 9 };
    static const enum ebm_type to[] = { EBM_F32, EBM_I32, EBM_U8, EBM_I32, EBM_U8, EBM_F32 };
    static const enum ebm_type from[] = { EBM_I32, EBM_F32, EBM_F32, EBM_U8, EBM_I32, EBM_U8 };

    (void)op;
    if (i >= (int)COUNT(to))
        return NO_CASE;
    ebm_val a = from[i] == EBM_U8 ? trial_input(t, EBM_U8, 2, n, 0, 256)
                                  : trial_input(t, from[i], 2, n, -400, 400);
    return ebm_cast(t->g, a, to[i]);
}

static ebm_val case_binary(struct trial *t, enum op op, int i)
{
    if (i >= (int)COUNT(broadcasts))
        return NO_CASE;
    ebm_val a = input(t, broadcasts[i].rank[0], broadcasts[i].n[0]);
    ebm_val b = nonzero(t, broadcasts[i].rank[1], broadcasts[i].n[1]);
    return build_ew2(t->g, op, a, b);
}

/* One on multiples of 1/16, the other halfway between them. */
static ebm_val case_order(struct trial *t, enum op op, int i)
{
    if (i >= (int)COUNT(broadcasts))
        return NO_CASE;
    ebm_val a = input(t, broadcasts[i].rank[0], broadcasts[i].n[0]);
    ebm_val b = input(t, broadcasts[i].rank[1], broadcasts[i].n[1]);
    for (int k = 0; k < 2; k++)
        for (int64_t j = 0; j < t->in[k].count; j++)
            t->in[k].data[j] = (floor(t->in[k].data[j] * 16) + 0.5 * k) / 16;
    return build_ew2(t->g, op, a, b);
}

/* Small integers, so that some pairs are equal. */
static ebm_val case_equal(struct trial *t, enum op op, int i)
{
    if (i >= (int)COUNT(broadcasts))
        return NO_CASE;
    ebm_val a = input(t, broadcasts[i].rank[0], broadcasts[i].n[0]);
    ebm_val b = input(t, broadcasts[i].rank[1], broadcasts[i].n[1]);
    for (int k = 0; k < 2; k++)
        for (int64_t j = 0; j < t->in[k].count; j++)
            t->in[k].data[j] = floor(t->in[k].data[j]);
    return build_ew2(t->g, op, a, b);
}

static ebm_val case_select(struct trial *t, enum op op, int i)
{
    (void)op;
    if (i >= (int)COUNT(broadcasts))
        return NO_CASE;
    ebm_val c = ebm_less(t->g, input(t, broadcasts[i].rank[2], broadcasts[i].n[2]),
                         ebm_const(t->g, 0.1));
    ebm_val a = input(t, broadcasts[i].rank[0], broadcasts[i].n[0]);
    ebm_val b = input(t, broadcasts[i].rank[1], broadcasts[i].n[1]);
    return ebm_select(t->g, c, a, b);
}

/* ---- leaves ---- */

static ebm_val case_feed(struct trial *t, enum op op, int i)
{
    static const int64_t n[2] = { 3, 5 };

    (void)op;
    return i < 1 ? input(t, 2, n) : NO_CASE;
}

static ebm_val counter(struct trial *t)
{
    ebm_init zeros = { EBM_INIT_CONST, 0, 0 };

    return ebm_state(t->g, "counter", EBM_I32, 1, (int64_t[]){ 4 }, zeros);
}

static ebm_val case_state(struct trial *t, enum op op, int i)
{
    if (i > 0)
        return NO_CASE;
    return op == OP_TICK ? ebm_tick(t->g, counter(t)) : counter(t);
}

static ebm_val case_random(struct trial *t, enum op op, int i)
{
    static const int64_t n[][2] = { { 1, 1 }, { 3, 7 }, { 40, 101 } };

    (void)op;
    if (i >= 2 * (int)COUNT(n))
        return NO_CASE;
    return i & 1 ? ebm_normal(t->g, counter(t), 5 + (uint32_t)i, 2, n[i / 2])
                 : ebm_uniform(t->g, counter(t), 5 + (uint32_t)i, 2, n[i / 2]);
}

static ebm_val case_const(struct trial *t, enum op op, int i)
{
    static const int64_t n[3] = { 2, 3, 4 };

    (void)op;
    switch (i) {
    case 0:  return ebm_const(t->g, 1.25);
    case 1:  return ebm_broadcast(t->g, ebm_const(t->g, -0.1), 3, n);
    case 2:  return ebm_fill(t->g, input(t, 3, n), 1e30);
    default: return NO_CASE;
    }
}

static ebm_val case_iota(struct trial *t, enum op op, int i)
{
    static const int64_t n[3] = { 5, 3, 18 };

    (void)op;
    return i < 3 ? ebm_iota(t->g, 3, n, i) : NO_CASE;
}

/* ---- moving elements ---- */

static ebm_val case_broadcast(struct trial *t, enum op op, int i)
{
    static const struct { int from, to; int64_t n[EBM_MAX_RANK], m[EBM_MAX_RANK]; } of[] = {
        { 1, 1, { 1 }, { 9 } },
        { 2, 3, { 3, 1 }, { 2, 3, 4 } },
        { 4, 4, { 1, 3, 1, 5 }, { 2, 3, 4, 5 } },
        { 0, 2, { 0 }, { 3, 2 } },
        { 3, 6, { 1, 2, 1 }, { 2, 1, 2, 3, 2, 2 } },
    };

    (void)op;
    return i < (int)COUNT(of) ? ebm_broadcast(t->g, input(t, of[i].from, of[i].n), of[i].to, of[i].m)
                              : NO_CASE;
}

static ebm_val case_reshape(struct trial *t, enum op op, int i)
{
    static const struct { int from, to; int64_t n[EBM_MAX_RANK], m[EBM_MAX_RANK]; } of[] = {
        { 2, 1, { 3, 4 }, { 12 } },
        { 3, 2, { 2, 3, 4 }, { 6, -1 } },
        { 1, 4, { 24 }, { 2, 1, 3, 4 } },
    };

    (void)op;
    return i < (int)COUNT(of) ? ebm_reshape(t->g, input(t, of[i].from, of[i].n), of[i].to, of[i].m)
                              : NO_CASE;
}

static ebm_val case_transpose(struct trial *t, enum op op, int i)
{
    static const struct { int rank; int64_t n[EBM_MAX_RANK]; int perm[EBM_MAX_RANK]; } of[] = {
        { 2, { 3, 5 }, { 1, 0 } },
        { 3, { 2, 3, 4 }, { 1, 2, 0 } },
        { 4, { 2, 3, 4, 5 }, { 0, 3, 1, 2 } },
        { 4, { 2, 3, 4, 5 }, { 0, 1, 3, 2 } },
        { 6, { 2, 1, 3, 2, 3, 2 }, { 5, 3, 0, 4, 1, 2 } },
        { 2, { 37, 65 }, { 1, 0 } },
    };

    (void)op;
    return i < (int)COUNT(of) ? ebm_transpose(t->g, input(t, of[i].rank, of[i].n), of[i].perm)
                              : NO_CASE;
}

static ebm_val case_slice(struct trial *t, enum op op, int i)
{
    static const struct {
        int rank;
        int64_t n[EBM_MAX_RANK], begin[EBM_MAX_RANK], size[EBM_MAX_RANK], step[EBM_MAX_RANK];
    } of[] = {
        { 1, { 9 }, { 2 }, { 5 }, { 1 } },
        { 2, { 7, 8 }, { 1, 0 }, { 3, 4 }, { 2, 2 } },
        { 3, { 4, 5, 6 }, { 0, 4, 1 }, { 4, 1, 2 }, { 1, 1, 3 } },
        { 4, { 2, 6, 6, 3 }, { 0, 1, 2, 0 }, { 2, 4, 3, 3 }, { 1, 1, 1, 1 } },
        { 2, { 40, 33 }, { 3, 2 }, { 30, 31 }, { 1, 1 } },
    };

    (void)op;
    return i < (int)COUNT(of) ? ebm_slice(t->g, input(t, of[i].rank, of[i].n), of[i].begin,
                                          of[i].size, of[i].step)
                              : NO_CASE;
}

static ebm_val case_pad(struct trial *t, enum op op, int i)
{
    static const struct {
        int rank;
        int64_t n[EBM_MAX_RANK], before[EBM_MAX_RANK], after[EBM_MAX_RANK];
    } of[] = {
        { 1, { 5 }, { 2 }, { 1 } },
        { 2, { 3, 4 }, { 0, 3 }, { 2, 0 } },
        { 4, { 2, 3, 3, 2 }, { 0, 1, 2, 0 }, { 0, 2, 1, 0 } },
    };
    struct shape to = { 2, { 8, 9 } };

    (void)op;
    if (i == (int)COUNT(of))                 /* with gaps: the adjoint of a stepped slice */
        return build_pad(t->g, input(t, 2, (int64_t[]){ 3, 4 }), &to, (int64_t[]){ 1, 0 },
                         (int64_t[]){ 3, 2 });
    return i < (int)COUNT(of) ? ebm_pad(t->g, input(t, of[i].rank, of[i].n), of[i].before, of[i].after)
                              : NO_CASE;
}

static ebm_val case_flip(struct trial *t, enum op op, int i)
{
    static const unsigned axes[] = { 1, 2, 4, 6, 7 };

    (void)op;
    return i < (int)COUNT(axes) ? ebm_flip(t->g, input(t, 3, (int64_t[]){ 2, 3, 5 }), axes[i]) : NO_CASE;
}

static ebm_val case_concat(struct trial *t, enum op op, int i)
{
    static const struct { int axis, n, rank; int64_t size[4][3]; } of[] = {
        { 0, 2, 1, { { 3 }, { 5 } } },
        { 1, 3, 2, { { 2, 3 }, { 2, 1 }, { 2, 4 } } },
        { 2, 2, 3, { { 2, 3, 1 }, { 2, 3, 2 } } },
        { 0, 4, 3, { { 1, 2, 2 }, { 2, 2, 2 }, { 1, 2, 2 }, { 3, 2, 2 } } },
    };
    ebm_val part[4];

    (void)op;
    if (i == (int)COUNT(of)) {               /* one part twice */
        part[0] = part[2] = input(t, 2, (int64_t[]){ 2, 3 });
        part[1] = input(t, 2, (int64_t[]){ 4, 3 });
        return ebm_concat(t->g, 0, 3, part);
    }
    if (i > (int)COUNT(of))
        return NO_CASE;
    for (int k = 0; k < of[i].n; k++)
        part[k] = input(t, of[i].rank, of[i].size[k]);
    return ebm_concat(t->g, of[i].axis, of[i].n, part);
}

/* ---- reductions ---- */

static ebm_val case_reduce(struct trial *t, enum op op, int i)
{
    static const struct { int rank; int64_t n[EBM_MAX_RANK]; unsigned axes; } of[] = {
        { 1, { 11 }, 1 },
        { 2, { 5, 7 }, 1 },
        { 2, { 5, 7 }, 2 },
        { 2, { 5, 7 }, 3 },
        { 3, { 3, 4, 5 }, 2 },
        { 4, { 2, 3, 4, 5 }, 6 },
        { 4, { 2, 3, 4, 5 }, 9 },
        { 6, { 2, 2, 2, 2, 3, 2 }, 37 },
        { 2, { 3, 5000 }, 2 },
        { 2, { 3000, 3 }, 1 },
        { 2, { 130, 70 }, 3 },
    };

    if (i >= (int)COUNT(of))
        return NO_CASE;
    return op == OP_SUM ? ebm_sum(t->g, input(t, of[i].rank, of[i].n), of[i].axes)
                        : ebm_amax(t->g, distinct(t, of[i].rank, of[i].n), of[i].axes);
}

/* ---- contractions ---- */

static ebm_val case_matmul(struct trial *t, enum op op, int i)
{
    static const struct { int64_t b, m, k, n; } of[] = {
        { 0, 3, 4, 5 }, { 0, 1, 7, 1 }, { 0, 17, 9, 33 }, { 2, 3, 2, 4 }, { 3, 5, 20, 6 },
        { 0, 65, 130, 70 }, { 0, 5, 600, 9 },
    };

    (void)op;
    if (i >= 4 * (int)COUNT(of))
        return NO_CASE;
    int64_t b = of[i / 4].b, m = of[i / 4].m, k = of[i / 4].k, n = of[i / 4].n;
    bool ta = i & 1, tb = i & 2;
    int64_t sa[3] = { b, ta ? k : m, ta ? m : k }, sb[3] = { b, tb ? n : k, tb ? k : n };
    ebm_val x = b ? input(t, 3, sa) : input(t, 2, sa + 1);
    ebm_val y = b ? input(t, 3, sb) : input(t, 2, sb + 1);
    return ebm_matmul(t->g, x, y, ta, tb);
}

/* Shapes of y follow from x, f and the spec. */
static const struct { int64_t x[4], f[4]; ebm_conv_spec spec; } convolutions[] = {
    { { 1, 1, 1, 1 }, { 1, 1, 1, 1 }, { { 0, 0 }, { 0, 0, 0, 0 }, { 0, 0 }, 0 } },
    { { 2, 5, 5, 3 }, { 4, 3, 3, 3 }, { { 0, 0 }, { 0, 0, 0, 0 }, { 0, 0 }, 0 } },
    { { 2, 5, 4, 3 }, { 2, 3, 3, 3 }, { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } },
    { { 2, 8, 7, 2 }, { 3, 3, 3, 2 }, { { 2, 2 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } },
    { { 1, 9, 8, 2 }, { 3, 5, 4, 2 }, { { 2, 3 }, { 2, 1, 0, 3 }, { 1, 1 }, 1 } },
    { { 1, 9, 9, 2 }, { 2, 3, 3, 2 }, { { 1, 1 }, { 2, 2, 2, 2 }, { 2, 2 }, 1 } },
    { { 1, 9, 8, 2 }, { 2, 2, 3, 2 }, { { 2, 1 }, { 0, 3, 1, 0 }, { 3, 2 }, 1 } },
    { { 2, 5, 5, 4 }, { 6, 3, 3, 2 }, { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 2 } },
    { { 2, 6, 6, 4 }, { 4, 3, 3, 1 }, { { 2, 2 }, { 1, 1, 1, 1 }, { 1, 1 }, 4 } },
    { { 3, 4, 4, 5 }, { 7, 1, 1, 5 }, { { 1, 1 }, { 0, 0, 0, 0 }, { 1, 1 }, 1 } },
    { { 2, 6, 5, 3 }, { 2, 1, 1, 3 }, { { 2, 2 }, { 0, 0, 0, 0 }, { 1, 1 }, 1 } },
    { { 2, 4, 4, 3 }, { 5, 4, 4, 3 }, { { 1, 1 }, { 0, 0, 0, 0 }, { 1, 1 }, 1 } },
    { { 2, 12, 11, 17 }, { 35, 3, 3, 17 }, { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } },
    { { 2, 13, 12, 16 }, { 33, 3, 3, 16 }, { { 2, 2 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } },
    { { 3, 16, 16, 1 }, { 16, 5, 5, 1 }, { { 2, 2 }, { 2, 2, 2, 2 }, { 1, 1 }, 1 } },
    { { 3, 9, 33, 64 }, { 48, 3, 3, 64 }, { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } },
};

static ebm_val case_conv(struct trial *t, enum op op, int i)
{
    if (i >= (int)COUNT(convolutions))
        return NO_CASE;
    const int64_t *xs = convolutions[i].x, *fs = convolutions[i].f;
    const ebm_conv_spec *v = &convolutions[i].spec;
    ebm_val x = input(t, 4, xs), f = input(t, 4, fs), y = ebm_conv(t->g, x, f, v);
    int64_t ys[EBM_MAX_RANK];
    if (op == OP_CONV || ebm_shape(t->g, y, ys) < 0)
        return y;
    y = input(t, 4, ys);
    return op == OP_CONV_DATA ? ebm_conv_data(t->g, y, f, v, xs[1], xs[2])
                              : ebm_conv_filter(t->g, x, y, v, fs[1], fs[2]);
}

/* ---- windows ---- */

static ebm_val case_pool(struct trial *t, enum op op, int i)
{
    static const struct { int64_t x[4]; ebm_pool_spec spec; } of[] = {
        { { 1, 4, 4, 1 }, { { 2, 2 }, { 2, 2 }, { 0, 0, 0, 0 } } },
        { { 2, 7, 6, 3 }, { { 3, 3 }, { 2, 2 }, { 1, 1, 1, 1 } } },
        { { 2, 6, 7, 3 }, { { 3, 2 }, { 1, 1 }, { 0, 0, 0, 0 } } },
        { { 1, 9, 8, 2 }, { { 2, 3 }, { 3, 2 }, { 1, 2, 0, 1 } } },
        { { 2, 5, 5, 17 }, { { 5, 5 }, { 5, 5 }, { 0, 0, 0, 0 } } },
    };

    if (i >= (int)COUNT(of))
        return NO_CASE;
    const ebm_pool_spec *v = &of[i].spec;
    ebm_val x = distinct(t, 4, of[i].x), b;
    switch (op) {
    case OP_POOL: return ebm_sum_pool(t->g, x, v);
    case OP_PICK:
        b = i & 1 ? input(t, 4, of[i].x) : x;
        return build_pick(t->g, x, b, v);
    default:
        break;
    }
    int64_t ys[EBM_MAX_RANK];
    if (ebm_shape(t->g, ebm_sum_pool(t->g, x, v), ys) < 0)
        return 0;
    struct shape s = node_of(t->g, x)->shape;
    b = input(t, 4, ys);
    return op == OP_PLACE ? build_place(t->g, x, b, v) : build_unpool(t->g, b, v, &s);
}

static ebm_val case_resample(struct trial *t, enum op op, int i)
{
    static const int64_t size[][4] = {        /* from h w to h w */
        { 3, 4, 6, 8 }, { 8, 6, 4, 3 }, { 5, 3, 7, 8 }, { 7, 8, 5, 3 }, { 1, 1, 4, 3 },
        { 4, 3, 1, 1 }, { 4, 5, 4, 10 }, { 3, 3, 10, 2 },
    };

    if (i >= 2 * (int)COUNT(size))
        return NO_CASE;
    const int64_t *n = size[i / 2];
    return build_resample(t->g, op, input(t, 4, (int64_t[]){ 2, n[0], n[1], 3 }),
                          i & 1 ? EBM_BILINEAR : EBM_NEAREST, n[2], n[3]);
}

/* ---- rows: indices repeat, and some lie outside ---- */

static ebm_val case_rows(struct trial *t, enum op op, int i)
{
    static const struct { int rank; int64_t v, d[2], n; } of[] = {
        { 1, 6, { 0, 0 }, 9 },
        { 2, 5, { 3, 0 }, 8 },
        { 3, 4, { 2, 3 }, 3 },
        { 2, 70, { 33, 0 }, 40 },
    };

    if (i >= (int)COUNT(of))
        return NO_CASE;
    int64_t table[3] = { of[i].v, of[i].d[0], of[i].d[1] };
    int64_t picked[3] = { of[i].n, of[i].d[0], of[i].d[1] };
    ebm_val index = index_input(t, of[i].n, -1, (int)of[i].v + 1);
    if (op == OP_SCATTER)
        return ebm_scatter(t->g, input(t, of[i].rank, picked), index, of[i].v);
    ebm_val a = input(t, of[i].rank, table);
    if (op == OP_GATHER)
        return ebm_gather(t->g, a, index);
    return ebm_update(t->g, a, index, input(t, of[i].rank, picked));
}

/* ---- the table ---- */

static ebm_val case_assign(struct trial *t, enum op op, int i)
{
    static const int64_t n[2] = { 3, 5 };
    ebm_init zeros = { EBM_INIT_CONST, 0, 0 };

    (void)op;
    return i > 0 ? NO_CASE
                 : ebm_assign(t->g, ebm_state(t->g, "target", EBM_F32, 2, n, zeros), input(t, 2, n));
}

static ebm_val (*const by_op[OP_COUNT])(struct trial *t, enum op op, int i) = {
    [OP_FEED] = case_feed, [OP_STATE] = case_state, [OP_CONST] = case_const,
    [OP_IOTA] = case_iota, [OP_RANDOM] = case_random, [OP_TICK] = case_state,
    [OP_NEG] = case_unary, [OP_ABS] = case_unary, [OP_SIGN] = case_unary,
    [OP_FLOOR] = case_unary, [OP_EXP] = case_unary, [OP_LOG] = case_unary,
    [OP_SQRT] = case_unary, [OP_SIN] = case_unary, [OP_COS] = case_unary,
    [OP_TANH] = case_unary, [OP_SIGMOID] = case_unary, [OP_SOFTPLUS] = case_unary,
    [OP_CAST] = case_cast, [OP_STOP] = case_unary,
    [OP_ADD] = case_binary, [OP_SUB] = case_binary, [OP_MUL] = case_binary,
    [OP_DIV] = case_binary, [OP_MAX] = case_order, [OP_MIN] = case_order,
    [OP_LESS] = case_order, [OP_EQUAL] = case_equal, [OP_SELECT] = case_select,
    [OP_BROADCAST] = case_broadcast, [OP_RESHAPE] = case_reshape,
    [OP_TRANSPOSE] = case_transpose, [OP_SLICE] = case_slice, [OP_PAD] = case_pad,
    [OP_FLIP] = case_flip, [OP_CONCAT] = case_concat,
    [OP_SUM] = case_reduce, [OP_AMAX] = case_reduce,
    [OP_MATMUL] = case_matmul, [OP_CONV] = case_conv, [OP_CONV_DATA] = case_conv,
    [OP_CONV_FILTER] = case_conv,
    [OP_POOL] = case_pool, [OP_UNPOOL] = case_pool, [OP_PICK] = case_pool,
    [OP_PLACE] = case_pool, [OP_RESAMPLE] = case_resample, [OP_RESAMPLE_T] = case_resample,
    [OP_GATHER] = case_rows, [OP_SCATTER] = case_rows, [OP_UPDATE] = case_rows,
    [OP_ASSIGN] = case_assign,
};

ebm_val case_build(struct trial *t, enum op op, int i)
{
    return by_op[op] ? by_op[op](t, op, i) : NO_CASE;
}
