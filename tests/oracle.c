/* oracle.c - the meaning of every operation, one naive loop each.
 *
 * SPDX-License-Identifier: ISC
 *
 * Loops follow the column `meaning` of ops.def and the formulas of ebm.h; they
 * share no code with any backend.  Integers are held as doubles. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "philox.h"
#include "store.h"

struct oracle {
    const ebm_graph *g;
    int32_t capacity;        /* nodes for which there is room */
    double **value;          /* by node; NULL: not evaluated */
    const double **feed;     /* by feed */
    const double **slot;     /* by slot */
    int32_t n_feeds, n_slots;
};

static void *need(void *ptr)
{
    if (!ptr) {
        fprintf(stderr, "oracle: no memory\n");
        exit(99);
    }
    return ptr;
}

struct oracle *oracle_new(const ebm_graph *g)
{
    struct oracle *o = need(calloc(1, sizeof *o));

    o->g = g;
    return o;
}

void oracle_free(struct oracle *o)
{
    if (!o)
        return;
    oracle_forget(o);
    free(o->value);
    free(o->feed);
    free(o->slot);
    free(o);
}

void oracle_forget(struct oracle *o)
{
    for (int32_t i = 0; i < o->capacity; i++) {
        free(o->value[i]);
        o->value[i] = NULL;
    }
}

static void put(const double ***list, int32_t *count, int32_t at, const double *data)
{
    if (at >= *count) {
        *list = need(realloc(*list, (size_t)(at + 1) * sizeof **list));
        for (; *count <= at; ++*count)
            (*list)[*count] = NULL;
    }
    (*list)[at] = data;
}

void oracle_feed(struct oracle *o, const char *name, const double *data)
{
    for (int32_t i = 0; i < o->g->n_feeds; i++)
        if (strcmp(o->g->feeds[i], name) == 0)
            put(&o->feed, &o->n_feeds, i, data);
}

void oracle_slot(struct oracle *o, int slot, const double *data)
{
    put(&o->slot, &o->n_slots, slot, data);
}

/* ---- an operation at work: its node, operands and result ---- */

struct work {
    const ebm_graph *g;
    const struct node *y;                /* the node */
    const struct node *x[3];             /* its first operands */
    const double *in[3];
    const double *const *all;            /* all operands */
    double *out;
    int64_t count;                       /* elements of the result */
};

/* The position of element i of a shape along each axis. */
static void position(const struct shape *s, int64_t i, int64_t *at)
{
    for (int k = s->rank - 1; k >= 0; k--) {
        at[k] = i % s->n[k];
        i /= s->n[k];
    }
}

static int64_t element(const struct shape *s, const int64_t *at)
{
    int64_t i = 0;

    for (int k = 0; k < s->rank; k++)
        i = i * s->n[k] + at[k];
    return i;
}

/* ---- leaves ---- */

static void iota(struct work *w)
{
    int64_t at[EBM_MAX_RANK] = { 0 };

    for (int64_t i = 0; i < w->count; i++) {
        position(&w->y->shape, i, at);
        w->out[i] = (double)at[w->y->attr.axis];
    }
}

static struct philox counter_of(const double *c)
{
    struct philox rng = { { (uint32_t)(int64_t)c[0], (uint32_t)(int64_t)c[1] },
                          (uint32_t)(int64_t)c[2], (uint32_t)(int64_t)c[3] };
    return rng;
}

static void draw(struct work *w)
{
    struct philox rng = counter_of(w->in[0]);
    float *f = need(malloc(((size_t)w->count + 4) * sizeof *f));

    if (w->y->attr.random.normal)
        philox_normal(f, 0, w->count, &rng, w->y->attr.random.purpose);
    else
        philox_uniform(f, 0, w->count, &rng, w->y->attr.random.purpose);
    for (int64_t i = 0; i < w->count; i++)
        w->out[i] = f[i];
    free(f);
}

static void tick(struct work *w)
{
    memcpy(w->out, w->in[0], 4 * sizeof *w->out);
    w->out[2] = (int32_t)((uint32_t)(int64_t)w->in[0][2] + 1);
}

/* ---- elementwise ---- */

static double to_type(enum ebm_type type, double a)
{
    if (type == EBM_F32)
        return a;
    a = trunc(a);
    return type == EBM_U8 ? fmin(fmax(a, 0), 255) : a;
}

static double softplus(double a)
{
    return a > 0 ? a + log1p(exp(-a)) : log1p(exp(a));
}

static double sigmoid(double a)
{
    return a >= 0 ? 1 / (1 + exp(-a)) : exp(a) / (1 + exp(a));
}

static double elementwise(const struct node *y, double a, double b, double c)
{
    switch (y->op) {
    case OP_NEG:      return -a;
    case OP_ABS:      return fabs(a);
    case OP_SIGN:     return (a > 0) - (a < 0);
    case OP_FLOOR:    return floor(a);
    case OP_EXP:      return exp(a);
    case OP_LOG:      return log(a);
    case OP_SQRT:     return sqrt(a);
    case OP_SIN:      return sin(a);
    case OP_COS:      return cos(a);
    case OP_TANH:     return tanh(a);
    case OP_SIGMOID:  return sigmoid(a);
    case OP_SOFTPLUS: return softplus(a);
    case OP_CAST:     return to_type(y->type, a);
    case OP_STOP:     return a;
    case OP_ADD:      return a + b;
    case OP_SUB:      return a - b;
    case OP_MUL:      return a * b;
    case OP_DIV:      return a / b;
    case OP_MAX:      return a >= b ? a : b;
    case OP_MIN:      return a <= b ? a : b;
    case OP_LESS:     return a < b;
    case OP_EQUAL:    return a == b;
    case OP_SELECT:   return a != 0 ? b : c;
    default:
        fprintf(stderr, "oracle: %s is unknown\n", op_info[y->op].name);
        exit(99);
    }
}

static void each_element(struct work *w)
{
    for (int64_t i = 0; i < w->count; i++)
        w->out[i] = elementwise(w->y, w->in[0][i],
                                w->in[1] ? w->in[1][i] : 0,
                                w->in[2] ? w->in[2][i] : 0);
}

/* ---- moving elements ---- */

/* Aligned at the last axis, as NumPy does. */
static void broadcast(struct work *w)
{
    const struct shape *from = &w->x[0]->shape;
    int lead = w->y->shape.rank - from->rank;
    int64_t at[EBM_MAX_RANK];

    for (int64_t i = 0; i < w->count; i++) {
        position(&w->y->shape, i, at);
        for (int k = 0; k < from->rank; k++)
            at[k] = from->n[k] == 1 ? 0 : at[k + lead];
        w->out[i] = w->in[0][element(from, at)];
    }
}

static void transpose(struct work *w)
{
    int64_t at[EBM_MAX_RANK], of[EBM_MAX_RANK];

    for (int64_t i = 0; i < w->count; i++) {
        position(&w->y->shape, i, at);
        for (int k = 0; k < w->y->shape.rank; k++)
            of[w->y->attr.perm[k]] = at[k];
        w->out[i] = w->in[0][element(&w->x[0]->shape, of)];
    }
}

/* SLICE reads the box; PAD writes it, into zeros. */
static void box(struct work *w)
{
    bool pad = w->y->op == OP_PAD;
    const struct shape *small = pad ? &w->x[0]->shape : &w->y->shape;
    const struct shape *large = pad ? &w->y->shape : &w->x[0]->shape;
    int64_t at[EBM_MAX_RANK];

    if (pad)
        memset(w->out, 0, (size_t)w->count * sizeof *w->out);
    for (int64_t i = 0; i < shape_count(small); i++) {
        position(small, i, at);
        for (int k = 0; k < small->rank; k++)
            at[k] = w->y->attr.box.begin[k] + at[k] * w->y->attr.box.step[k];
        int64_t there = element(large, at);
        if (pad)
            w->out[there] = w->in[0][i];
        else
            w->out[i] = w->in[0][there];
    }
}

static void flip(struct work *w)
{
    const struct shape *s = &w->y->shape;
    int64_t at[EBM_MAX_RANK];

    for (int64_t i = 0; i < w->count; i++) {
        position(s, i, at);
        for (int k = 0; k < s->rank; k++)
            if (w->y->attr.axes >> k & 1)
                at[k] = s->n[k] - 1 - at[k];
        w->out[i] = w->in[0][element(s, at)];
    }
}

static void concat(struct work *w)
{
    int axis = w->y->attr.axis;
    int64_t at[EBM_MAX_RANK], before = 0;

    for (int j = 0; j < w->y->n_in; j++) {
        const struct shape *s = &node_of(w->g, operand(w->y, j))->shape;
        for (int64_t i = 0; i < shape_count(s); i++) {
            position(s, i, at);
            at[axis] += before;
            w->out[element(&w->y->shape, at)] = w->all[j][i];
        }
        before += s->n[axis];
    }
}

/* ---- reductions: reduced axes have size 1 in the result ---- */

static void reduce(struct work *w)
{
    const struct shape *from = &w->x[0]->shape;
    double start = w->y->op == OP_AMAX ? -HUGE_VAL : 0;
    int64_t at[EBM_MAX_RANK];

    for (int64_t i = 0; i < w->count; i++)
        w->out[i] = start;
    for (int64_t i = 0; i < shape_count(from); i++) {
        position(from, i, at);
        for (int k = 0; k < from->rank; k++)
            if (w->y->attr.axes >> k & 1)
                at[k] = 0;
        double *y = &w->out[element(&w->y->shape, at)];
        *y = w->y->op == OP_AMAX ? fmax(*y, w->in[0][i]) : *y + w->in[0][i];
    }
}

/* ---- contractions ---- */

static void matmul(struct work *w)
{
    const struct shape *a = &w->x[0]->shape, *y = &w->y->shape;
    bool ta = w->y->attr.matmul.ta, tb = w->y->attr.matmul.tb;
    int r = y->rank;
    int64_t M = y->n[r - 2], N = y->n[r - 1], K = a->n[ta ? r - 2 : r - 1];
    int64_t B = r == 3 ? y->n[0] : 1;

    for (int64_t b = 0; b < B; b++)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++) {
                double sum = 0;
                for (int64_t k = 0; k < K; k++)
                    sum += w->in[0][b * M * K + (ta ? k * M + m : m * K + k)]
                         * w->in[1][b * K * N + (tb ? n * K + k : k * N + n)];
                w->out[(b * M + m) * N + n] = sum;
            }
}

/* All three members of the form sum y[npqk] x[nhwc] f[krsc]: the one that is
 * NULL is the result, the other two are read. */
static void convolve(struct work *w)
{
    const ebm_conv_spec *v = &w->y->attr.conv;
    const struct shape *xs = &w->x[0]->shape, *fs = &w->x[1]->shape, *ys = &w->y->shape;
    const double *x = w->in[0], *f = w->in[1], *y = NULL;

    if (w->y->op == OP_CONV_DATA) {
        ys = &w->x[0]->shape, y = w->in[0];
        xs = &w->y->shape, x = NULL;
    } else if (w->y->op == OP_CONV_FILTER) {
        ys = &w->x[1]->shape, y = w->in[1];
        fs = &w->y->shape, f = NULL;
    }
    int64_t N = xs->n[0], H = xs->n[1], W = xs->n[2], C = xs->n[3];
    int64_t K = fs->n[0], R = fs->n[1], S = fs->n[2], Cg = fs->n[3];
    int64_t P = ys->n[1], Q = ys->n[2];

    memset(w->out, 0, (size_t)w->count * sizeof *w->out);
    for (int64_t n = 0; n < N; n++)
        for (int64_t p = 0; p < P; p++)
            for (int64_t q = 0; q < Q; q++)
                for (int64_t k = 0; k < K; k++)
                    for (int64_t r = 0; r < R; r++)
                        for (int64_t s = 0; s < S; s++) {
                            int64_t h = p * v->stride[0] - v->pad[0] + r * v->dilation[0];
                            int64_t l = q * v->stride[1] - v->pad[1] + s * v->dilation[1];
                            if (h < 0 || h >= H || l < 0 || l >= W)
                                continue;
                            int64_t c0 = k / (K / v->groups) * Cg;
                            int64_t iy = ((n * P + p) * Q + q) * K + k;
                            int64_t ix = ((n * H + h) * W + l) * C + c0;
                            int64_t jf = ((k * R + r) * S + s) * Cg;
                            for (int64_t c = 0; c < Cg; c++)
                                if (!y)
                                    w->out[iy] += x[ix + c] * f[jf + c];
                                else if (!x)
                                    w->out[ix + c] += y[iy] * f[jf + c];
                                else
                                    w->out[jf + c] += x[ix + c] * y[iy];
                        }
}

/* ---- windows ---- */

/* Windows of the large side [n,h,w,c] belong to elements of the small side
 * [n,p,q,c].  POOL gathers, UNPOOL spreads; PICK and PLACE do so at the first
 * largest element of a. */
static void windows(struct work *w)
{
    enum op op = w->y->op;
    bool spread = op == OP_UNPOOL || op == OP_PLACE;
    bool at_largest = op == OP_PICK || op == OP_PLACE;
    const double *a = w->in[0], *b = at_largest ? w->in[1] : w->in[0];
    const struct shape *large = spread ? &w->y->shape : &w->x[0]->shape;
    const struct shape *small = !spread ? &w->y->shape
                              : at_largest ? &w->x[1]->shape : &w->x[0]->shape;
    const ebm_pool_spec *v = &w->y->attr.pool;
    int64_t H = large->n[1], W = large->n[2], C = large->n[3];

    memset(w->out, 0, (size_t)w->count * sizeof *w->out);
    for (int64_t i = 0; i < shape_count(small); i++) {
        int64_t at[EBM_MAX_RANK], largest = -1;
        position(small, i, at);
        for (int r = 0; r < v->window[0]; r++)
            for (int s = 0; s < v->window[1]; s++) {
                int64_t h = at[1] * v->stride[0] - v->pad[0] + r;
                int64_t l = at[2] * v->stride[1] - v->pad[1] + s;
                if (h < 0 || h >= H || l < 0 || l >= W)
                    continue;
                int64_t j = ((at[0] * H + h) * W + l) * C + at[3];
                if (op == OP_POOL)
                    w->out[i] += b[j];
                else if (op == OP_UNPOOL)
                    w->out[j] += b[i];
                else if (largest < 0 || a[j] > a[largest])
                    largest = j;
            }
        if (largest >= 0 && op == OP_PICK)
            w->out[i] = b[largest];
        else if (largest >= 0 && op == OP_PLACE)
            w->out[largest] += b[i];
    }
}

/* Where element i of `to` reads along an axis of `from` elements: two indices
 * and the weight of the second. */
struct tap {
    int64_t at[2];
    double weight;
};

static struct tap tap_of(int mode, int64_t i, int64_t to, int64_t from)
{
    double centre = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    int64_t first = (int64_t)floor(centre);
    struct tap t;

    if (mode == EBM_NEAREST) {
        t.at[0] = t.at[1] = (2 * i + 1) * from / (2 * to);
        t.weight = 0;
        return t;
    }
    t.weight = centre - (double)first;
    for (int k = 0; k < 2; k++) {
        t.at[k] = first + k;
        t.at[k] = t.at[k] < 0 ? 0 : t.at[k] >= from ? from - 1 : t.at[k];
    }
    return t;
}

static void resample(struct work *w)
{
    bool adjoint = w->y->op == OP_RESAMPLE_T;
    const struct shape *from = adjoint ? &w->y->shape : &w->x[0]->shape;
    const struct shape *to = adjoint ? &w->x[0]->shape : &w->y->shape;
    int64_t H = from->n[1], W = from->n[2], C = from->n[3], at[EBM_MAX_RANK];

    memset(w->out, 0, (size_t)w->count * sizeof *w->out);
    for (int64_t i = 0; i < shape_count(to); i++) {
        position(to, i, at);
        struct tap row = tap_of(w->y->attr.resample, at[1], to->n[1], H);
        struct tap column = tap_of(w->y->attr.resample, at[2], to->n[2], W);
        for (int k = 0; k < 4; k++) {
            double weight = (k & 2 ? row.weight : 1 - row.weight)
                          * (k & 1 ? column.weight : 1 - column.weight);
            int64_t j = ((at[0] * H + row.at[k >> 1]) * W + column.at[k & 1]) * C + at[3];
            if (adjoint)
                w->out[j] += weight * w->in[0][i];
            else
                w->out[i] += weight * w->in[0][j];
        }
    }
}

/* ---- rows by index ---- */

static int64_t row_of(double index, int64_t rows)
{
    return index < 0 ? 0 : index >= (double)rows ? rows - 1 : (int64_t)index;
}

static void rows(struct work *w)
{
    bool gather = w->y->op == OP_GATHER;
    const double *index = w->in[1];
    int64_t n = shape_count(&w->x[1]->shape);
    int64_t V = gather ? w->x[0]->shape.n[0] : w->y->shape.n[0];
    int64_t D = gather ? w->count / (n ? n : 1) : w->count / (V ? V : 1);

    if (w->y->op == OP_UPDATE)
        memcpy(w->out, w->in[0], (size_t)w->count * sizeof *w->out);
    else
        memset(w->out, 0, (size_t)w->count * sizeof *w->out);
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < D; d++) {
            int64_t there = row_of(index[i], V) * D + d;
            if (gather)
                w->out[i * D + d] = w->in[0][there];
            else if (w->y->op == OP_SCATTER)
                w->out[there] += w->in[0][i * D + d];
            else
                w->out[there] = w->in[2][i * D + d];
        }
}

/* ---- evaluation ---- */

void oracle_apply(const ebm_graph *g, ebm_val a, const double *const *in, double *out)
{
    const struct node *y = node_of(g, a);
    struct work w = { .g = g, .y = y, .all = in, .out = out, .count = shape_count(&y->shape) };

    for (int i = 0; i < y->n_in && i < 3; i++) {
        w.x[i] = node_of(g, operand(y, i));
        w.in[i] = in[i];
    }
    switch (op_info[y->op].class) {
    case EW:
        each_element(&w);
        return;
    case REDUCE:
        reduce(&w);
        return;
    case INDEX:
        rows(&w);
        return;
    default:
        break;
    }
    switch (y->op) {
    case OP_CONST:
        for (int64_t i = 0; i < w.count; i++)
            w.out[i] = y->attr.value;
        break;
    case OP_IOTA:        iota(&w); break;
    case OP_RANDOM:      draw(&w); break;
    case OP_TICK:        tick(&w); break;
    case OP_BROADCAST:   broadcast(&w); break;
    case OP_TRANSPOSE:   transpose(&w); break;
    case OP_SLICE:
    case OP_PAD:         box(&w); break;
    case OP_FLIP:        flip(&w); break;
    case OP_CONCAT:      concat(&w); break;
    case OP_MATMUL:      matmul(&w); break;
    case OP_CONV:
    case OP_CONV_DATA:
    case OP_CONV_FILTER: convolve(&w); break;
    case OP_POOL:
    case OP_UNPOOL:
    case OP_PICK:
    case OP_PLACE:       windows(&w); break;
    case OP_RESAMPLE:
    case OP_RESAMPLE_T:  resample(&w); break;
    case OP_RESHAPE:
    case OP_ASSIGN:
        memcpy(w.out, w.in[0], (size_t)w.count * sizeof *w.out);
        break;
    default:
        fprintf(stderr, "oracle: %s is unknown\n", op_info[y->op].name);
        exit(99);
    }
}

static const double *given(const double *const *list, int32_t count, int32_t at,
                           const char *what)
{
    if (at >= count || !list[at]) {
        fprintf(stderr, "oracle: %s %d was not given\n", what, (int)at);
        exit(99);
    }
    return list[at];
}

/* bfloat16 has 8 digits; ties go to even. */
static double *rounded(const double *a, int64_t n)
{
    double *r = need(malloc((size_t)n * sizeof *r + 1));

    for (int64_t i = 0; i < n; i++) {
        int exponent;
        double digits = frexp(a[i], &exponent);
        r[i] = ldexp(rint(ldexp(digits, 8)), exponent - 8);
    }
    return r;
}

/* With precision bf16, contractions of 8 channels at least, in one group. */
static bool rounds(const ebm_graph *g, const struct node *y)
{
    if (g->store->precision != EBM_BF16 || op_info[y->op].class != CONTRACT)
        return false;
    const struct shape *a = &node_of(g, operand(y, 0))->shape, *b = &node_of(g, operand(y, 1))->shape;
    int last = a->rank - 1;
    if (y->op == OP_MATMUL)
        return !y->attr.matmul.full && y->shape.n[last] >= 8
            && a->n[y->attr.matmul.ta ? last - 1 : last] >= 8;
    return y->attr.conv.groups == 1 && a->n[3] >= 8
        && (y->op == OP_CONV_FILTER ? b : &y->shape)->n[3] >= 8;
}

static void evaluate(struct oracle *o, ebm_val a)
{
    const struct node *y = node_of(o->g, a);
    size_t bytes = (size_t)shape_count(&y->shape) * sizeof(double);
    const double **in = need(malloc(((size_t)y->n_in + 1) * sizeof *in));
    double *out = o->value[a] = need(malloc(bytes + 1));

    for (int i = 0; i < y->n_in; i++)
        in[i] = o->value[operand(y, i)];
    if (y->op == OP_FEED)
        memcpy(out, given(o->feed, o->n_feeds, y->attr.feed.name, "feed"), bytes);
    else if (y->op == OP_STATE)
        memcpy(out, given(o->slot, o->n_slots, y->attr.state.slot, "slot")
               + y->attr.state.offset, bytes);
    else if (rounds(o->g, y)) {
        double *one = rounded(in[0], shape_count(&node_of(o->g, operand(y, 0))->shape));
        double *other = rounded(in[1], shape_count(&node_of(o->g, operand(y, 1))->shape));
        oracle_apply(o->g, a, (const double *const[]){ one, other }, out);
        free(one);
        free(other);
    } else
        oracle_apply(o->g, a, in, out);
    free(in);
}

const double *oracle_value(struct oracle *o, ebm_val a)
{
    if (o->g->count > o->capacity) {
        o->value = need(realloc(o->value, (size_t)o->g->count * sizeof *o->value));
        for (; o->capacity < o->g->count; o->capacity++)
            o->value[o->capacity] = NULL;
    }
    bool *wanted = need(calloc((size_t)a + 1, sizeof *wanted));
    wanted[a] = true;
    for (ebm_val i = a; i > 0; i--)
        for (int k = 0; wanted[i] && !o->value[i] && k < node_of(o->g, i)->n_in; k++)
            wanted[operand(node_of(o->g, i), k)] = true;
    for (ebm_val i = 1; i <= a; i++)
        if (wanted[i] && !o->value[i])
            evaluate(o, i);
    free(wanted);
    return o->value[a];
}
