/* test_ew.c - the elementwise functions of every instruction set against libm in
 * double precision, their bits under any cut of a range, and groups against the
 * same program run element by element.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "isa.h"
#include "step.h"
#include "tap.h"

/* ---- functions ---- */

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
static double negated(double x) { return -x; }
static double sign(double x) { return (x > 0) - (x < 0); }
static double byte(double x) { return fmin(fmax(trunc(x), 0), 255); }

static const struct function {
    const char *name;
    int op;
    double (*exact)(double);
    double lo, hi;               /* the arguments tried */
    double ulps;                 /* of the result, allowed */
    double absolute;             /* besides */
} functions[] = {
    { "neg",      EW_NEG,      negated,  -1e30,   1e30,  0, 0 },
    { "abs",      EW_ABS,      fabs,     -1e30,   1e30,  0, 0 },
    { "sign",     EW_SIGN,     sign,     -2,      2,     0, 0 },
    { "floor",    EW_FLOOR,    floor,    -3e7,    3e7,   0, 0 },
    { "floor",    EW_FLOOR,    floor,    -5,      5,     0, 0 },
    { "trunc",    EW_TRUNC,    trunc,    -3e7,    3e7,   0, 0 },
    { "byte",     EW_BYTE,     byte,     -300,    600,   0, 0 },
    { "exp",      EW_EXP,      exp,      -87,     88.7,  2, 0 },
    { "exp",      EW_EXP,      exp,      -1,      1,     2, 0 },
    { "exp",      EW_EXP,      exp,      -103,   -87,    2, 1.5e-45 },
    { "log",      EW_LOG,      log,      1e-38,   3e38,  2, 0 },
    { "log",      EW_LOG,      log,      0.5,     2,     2, 0 },
    { "log",      EW_LOG,      log,      1e-45,   1e-38, 2, 0 },
    { "sqrt",     EW_SQRT,     sqrt,     0,       1e30,  0.51, 0 },
    { "sin",      EW_SIN,      sin,      -4,      4,     2, 0 },
    { "sin",      EW_SIN,      sin,      -1e4,    1e4,   2, 0 },
    { "cos",      EW_COS,      cos,      -4,      4,     2, 0 },
    { "cos",      EW_COS,      cos,      -1e4,    1e4,   2, 0 },
    { "sin",      EW_SIN,      sin,      -1e6,    1e6,   2, 1e-10 },
    { "tanh",     EW_TANH,     tanh,     -12,     12,    2.6, 0 },
    { "tanh",     EW_TANH,     tanh,     -0.4,    0.4,   2.6, 0 },
    { "tanh",     EW_TANH,     tanh,     -1e-3,   1e-3,  2.6, 0 },
    { "tanh",     EW_TANH,     tanh,      1e-38,  0.6,   2.6, 0 },
    { "sigmoid",  EW_SIGMOID,  sigmoid,  -87,     30,    2.4, 0 },
    { "sigmoid",  EW_SIGMOID,  sigmoid,  -5,      5,     2.4, 0 },
    { "softplus", EW_SOFTPLUS, softplus, -87,     100,   2.7, 0 },
    { "softplus", EW_SOFTPLUS, softplus, -5,      5,     2.7, 0 },
};

enum { COUNT_TRIED = 1 << 16 };

/* Even in value, or even in exponent where the range is positive and wide. */
static float argument(const struct function *f, int i)
{
    double t = (i + 0.5) / COUNT_TRIED;

    return (float)(f->lo > 0 && f->hi / f->lo > 100 ? f->lo * pow(f->hi / f->lo, t)
                                                    : f->lo + (f->hi - f->lo) * t);
}

static double ulp_of(double y)
{
    int e;

    frexp(y, &e);
    return ldexp(1, e - 24 < -149 ? -149 : e - 24);
}

static void test_accuracy(const struct kernels *k)
{
    static float x[COUNT_TRIED], y[COUNT_TRIED];

    for (size_t j = 0; j < COUNT(functions); j++) {
        const struct function *f = &functions[j];
        double worst = 0, at = 0;
        for (int i = 0; i < COUNT_TRIED; i++)
            x[i] = argument(f, i);
        k->loop[f->op][EW_VV](y, x, x, x, COUNT_TRIED);
        for (int i = 0; i < COUNT_TRIED; i++) {
            double exact = f->exact(x[i]), off = fabs(y[i] - exact) - f->absolute;
            if (!(off / ulp_of(exact) <= worst)) {
                worst = off / ulp_of(exact);
                at = x[i];
            }
        }
        tap_ok(worst <= f->ulps, "%s %s on [%g,%g]: %.2f ulp at %.9g", k->name, f->name,
               f->lo, f->hi, worst, at);
    }
}

static bool same(float a, double b)
{
    return b != b ? a != a : a == (float)b;
}

static void test_special(const struct kernels *k)
{
    static const struct { int op; const char *name; float x; double y; } cases[] = {
        { EW_EXP, "exp", INFINITY, INFINITY }, { EW_EXP, "exp", -INFINITY, 0 },
        { EW_EXP, "exp", NAN, NAN }, { EW_EXP, "exp", 0, 1 }, { EW_EXP, "exp", 1e30f, INFINITY },
        { EW_LOG, "log", 0, -INFINITY }, { EW_LOG, "log", INFINITY, INFINITY },
        { EW_LOG, "log", -1, NAN }, { EW_LOG, "log", NAN, NAN }, { EW_LOG, "log", 1, 0 },
        { EW_TANH, "tanh", INFINITY, 1 }, { EW_TANH, "tanh", -INFINITY, -1 },
        { EW_TANH, "tanh", NAN, NAN }, { EW_TANH, "tanh", 1e20f, 1 },
        { EW_SIGMOID, "sigmoid", INFINITY, 1 }, { EW_SIGMOID, "sigmoid", -INFINITY, 0 },
        { EW_SIGMOID, "sigmoid", NAN, NAN }, { EW_SIGMOID, "sigmoid", 0, 0.5 },
        { EW_SOFTPLUS, "softplus", INFINITY, INFINITY }, { EW_SOFTPLUS, "softplus", -INFINITY, 0 },
        { EW_SOFTPLUS, "softplus", NAN, NAN }, { EW_SOFTPLUS, "softplus", 1e30f, (double)1e30f },
        { EW_SQRT, "sqrt", -1, NAN }, { EW_SQRT, "sqrt", INFINITY, INFINITY },
        { EW_SIN, "sin", INFINITY, NAN }, { EW_SIN, "sin", NAN, NAN }, { EW_COS, "cos", 0, 1 },
        { EW_FLOOR, "floor", NAN, NAN }, { EW_FLOOR, "floor", -INFINITY, -INFINITY },
        { EW_BYTE, "byte", NAN, 0 }, { EW_BYTE, "byte", INFINITY, 255 },
        { EW_ABS, "abs", -INFINITY, INFINITY }, { EW_SIGN, "sign", NAN, 0 },
    };
    static const float pairs[][2] = { { NAN, 1 }, { 1, NAN }, { 1, 2 }, { 2, 1 }, { -INFINITY, 0 } };
    float x[LANES], y[LANES], d[LANES];

    for (size_t i = 0; i < COUNT(cases); i++) {
        k->fill(x, cases[i].x, LANES);
        k->loop[cases[i].op][EW_VV](d, x, x, x, LANES);
        bool all = true;
        for (int j = 0; j < LANES; j++)
            all = all && same(d[j], cases[i].y);
        tap_ok(all, "%s %s(%g) is %g: %g", k->name, cases[i].name, cases[i].x, cases[i].y, d[0]);
    }
    for (size_t i = 0; i < COUNT(pairs); i++) {
        float a = pairs[i][0], b = pairs[i][1];
        bool nan = a != a || b != b;
        k->fill(x, a, LANES);
        k->fill(y, b, LANES);
        k->loop[EW_MAX][EW_VV](d, x, y, y, LANES);
        bool right = same(d[0], nan ? NAN : fmax(a, b));
        k->loop[EW_MIN][EW_VV](d, x, y, y, LANES);
        tap_ok(right && same(d[0], nan ? NAN : fmin(a, b)), "%s larger and smaller of %g and %g",
               k->name, a, b);
    }
}

static void test_conversions(const struct kernels *k)
{
    const float x[] = { 0, 1.9f, -1.9f, 300, -5, 2e9f, 3e9f, -3e9f, NAN, INFINITY, -INFINITY };
    const int32_t words[] = { 0, 1, -1, 300, -5, 2000000000, INT32_MAX, INT32_MIN, 0, INT32_MAX, INT32_MIN };
    const uint8_t bytes[] = { 0, 1, 0, 255, 0, 255, 255, 0, 0, 255, 0 };
    int32_t w[COUNT(x)];
    uint8_t b[COUNT(x)];

    k->to_i32(w, x, x, x, COUNT(x));
    k->to_u8(b, x, x, x, COUNT(x));
    tap_ok(memcmp(w, words, sizeof w) == 0, "%s: float to int32 is cut and clamped", k->name);
    tap_ok(memcmp(b, bytes, sizeof b) == 0, "%s: float to bytes is cut and clamped", k->name);
}

/* ---- groups ---- */

/* A program over inputs of every kind of stride:
 *   0 linear  1 one number  2 row (period 24)  3 column  4 transposed  5 bytes
 *   6 int32 row  7 long period */
enum { A = 6, B = 7, C = 24, TOTAL = A * B * C * 5, IN = 8 };

static const int64_t sizes[4] = { 5, A, B, C };
static const int64_t strides[IN][4] = {
    { A * B * C, B * C, C, 1 }, { 0, 0, 0, 0 }, { 0, 0, 0, 1 }, { A * B, B, 1, 0 },
    { 1, 5 * B * C, 5, 5 * B }, { A * B * C, B * C, C, 1 }, { 0, 0, 0, 1 }, { 0, B * C, C, 1 },
};
static const struct ew_instr program[] = {
    { EW_LOAD, 0, 0, 0, 0, 0 },  { EW_LOAD, 1, 1, 0, 0, 0 },  { EW_MUL, 0, 0, 1, 0, 0 },
    { EW_LOAD, 2, 2, 0, 0, 0 },  { EW_ADD, 0, 0, 2, 0, 0 },   { EW_LOAD, 3, 3, 0, 0, 0 },
    { EW_SUB, 2, 3, 0, 0, 0 },   { EW_LOAD, 4, 4, 0, 0, 0 },  { EW_MAX, 2, 2, 4, 0, 0 },
    { EW_IMM, 5, 0, 0, 0, 0.75f }, { EW_MUL, 2, 2, 5, 0, 0 }, { EW_LOAD, 6, 5, 0, 0, 0 },
    { EW_LOAD, 7, 6, 0, 0, 0 },  { EW_LESS, 3, 6, 7, 0, 0 },  { EW_SELECT, 4, 3, 2, 5, 0 },
    { EW_IOTA, 1, 2, 0, 0, 0 },  { EW_ADD, 4, 4, 1, 0, 0 },   { EW_LOAD, 6, 7, 0, 0, 0 },
    { EW_TANH, 6, 6, 0, 0, 0 },  { EW_ADD, 4, 4, 6, 0, 0 },   { EW_MUL, 5, 5, 5, 0, 0 },
    { EW_SUB, 7, 4, 5, 0, 0 },
};
static const int results[3] = { 7, 2, 4 };       /* float, bytes, int32 */

struct arrays {
    float f[TOTAL + 1];
    uint8_t u[TOTAL + 1];
    int32_t w[TOTAL + 1];
};
static struct arrays input, output[2];

static float read_input(int i, int64_t at)
{
    return i == 5 ? input.u[at + 1] : i == 6 ? (float)input.w[at + 1] : input.f[at + 1];
}

/* The program for one element, through the kernels of single numbers. */
static void one_element(const struct kernels *k, int64_t e, float reg[8])
{
    int64_t at[4], rest = e;

    for (int i = 3; i >= 0; i--) {
        at[i] = rest % sizes[i];
        rest /= sizes[i];
    }
    for (size_t j = 0; j < COUNT(program); j++) {
        const struct ew_instr *p = &program[j];
        float x[LANES], y[LANES], d[LANES];
        k->fill(x, reg[p->a], LANES);
        k->fill(y, reg[p->b], LANES);
        if (p->op == EW_LOAD) {
            int64_t offset = 0;
            for (int i = 0; i < 4; i++)
                offset += at[i] * strides[p->a][i];
            d[0] = read_input(p->a, offset);
        } else if (p->op == EW_IMM) {
            d[0] = p->imm;
        } else if (p->op == EW_IOTA) {
            d[0] = (float)at[p->a];
        } else if (p->op == EW_SELECT) {
            d[0] = reg[p->a] != 0 ? reg[p->b] : reg[p->c];
        } else if (p->op <= EW_BYTE) {
            k->loop[p->op][EW_VV](d, x, x, x, LANES);
        } else {
            k->loop[p->op][EW_VV](d, x, y, y, LANES);
        }
        reg[p->dst] = d[0];
    }
}

/* Places by slot: 0 the inputs, 1 the outputs; arrays begin at odd addresses of
 * their type, as parameters do. */
static void make_plan(struct ew_group *g, struct ew_input *in, struct ew_output *out)
{
    const enum ebm_type types[3] = { EBM_F32, EBM_U8, EBM_I32 };
    const int64_t at[3] = { offsetof(struct arrays, f[1]), offsetof(struct arrays, u[1]),
                            offsetof(struct arrays, w[1]) };

    memset(g, 0, sizeof *g);
    memset(in, 0, IN * sizeof *in);
    memset(out, 0, 3 * sizeof *out);
    g->shape.rank = 4;
    memcpy(g->shape.n, sizes, sizeof sizes);
    g->n_in = IN;
    g->n_out = 3;
    g->n_instr = COUNT(program);
    g->n_regs = 8;
    g->in = in;
    g->out = out;
    g->instr = (struct ew_instr *)program;
    for (int i = 0; i < IN; i++) {
        int type = i == 5 ? 1 : i == 6 ? 2 : 0;
        in[i].type = types[type];
        in[i].place = (struct place){ SPACE_STATE, 0, at[type] };
        memcpy(in[i].stride, strides[i], sizeof strides[i]);
        in[i].linear = i == 0 || i == 5;
    }
    for (int i = 0; i < 3; i++)
        out[i] = (struct ew_output){ { SPACE_STATE, 1, at[i] }, types[i], results[i], 0 };
}

static void test_group(ebm_context *ctx, const struct kernels *k)
{
    struct cpu cpu = { .ctx = ctx, .threads = 1, .kernels = k };
    struct ew_input in[IN];
    struct ew_output out[3];
    struct ew_group plan;
    struct group *g = NULL;
    char *slots[2] = { (char *)&input, (char *)&output[0] };
    struct memory memory = { .slots = slots };
    int wrong = 0;

    make_plan(&plan, in, out);
    if (!tap_ok(group_new(&cpu, &plan, &memory, NULL, 0, &g) == EBM_OK, "%s: a group is made", k->name))
        return;
    char *scratch = mem_new(ctx, 3, group_scratch(g));
    memset(output, 0x55, sizeof output);
    group_run(&cpu, g, scratch);
    for (int64_t e = 0; e < TOTAL; e++) {
        float reg[8] = { 0 }, r[3];
        one_element(k, e, reg);
        for (int i = 0; i < 3; i++)
            r[i] = reg[results[i]];
        uint8_t u;
        int32_t w;
        k->to_u8(&u, &r[1], &r[1], &r[1], 1);
        k->to_i32(&w, &r[2], &r[2], &r[2], 1);
        wrong += memcmp(&output[0].f[e + 1], &r[0], 4) != 0 || output[0].u[e + 1] != u
              || output[0].w[e + 1] != w;
    }
    tap_ok(wrong == 0, "%s: a group of inputs of every kind: %d of %d elements differ", k->name,
           wrong, TOTAL);

    static struct arrays whole;
    whole = output[0];
    for (int piece = 1; piece < 2000; piece = piece * 3 + 4) {
        memset(&output[0], 0x55, sizeof output[0]);
        group_begin(g, scratch);
        for (int64_t b = 0; b < TOTAL; b += piece)
            group_range(g, b, b + piece < TOTAL ? b + piece : TOTAL, (int)(b / piece % 3));
        tap_ok(memcmp(&output[0], &whole, sizeof whole) == 0, "%s: the same bits by pieces of %d",
               k->name, piece);
    }
    group_free(&cpu, g);
    mem_free(ctx, scratch);
}

/* x := x s + r where r = x^2 is wanted too: the result lies on the input, which a
 * later instruction still reads. */
static void test_in_place(ebm_context *ctx, const struct kernels *k)
{
    static const struct ew_instr code[] = {
        { EW_LOAD, 0, 0, 0, 0, 0 }, { EW_IMM, 1, 0, 0, 0, 3 }, { EW_MUL, 2, 0, 1, 0, 0 },
        { EW_ADD, 2, 2, 1, 0, 0 },  { EW_MUL, 3, 0, 0, 0, 0 }, { EW_RAW, 4, 0, 0, 0, 0 },
        { EW_ADD, 3, 3, 4, 0, 0 },
    };
    enum { N = 5000 };
    static float x[N], y[N];
    char *slots[2] = { (char *)x, (char *)y };
    struct memory memory = { .slots = slots };
    struct cpu cpu = { .ctx = ctx, .threads = 2, .kernels = k };
    struct ew_input in = { { SPACE_STATE, 0, 0 }, EBM_F32, { 1 }, true, false, 0 };
    struct ew_output out[2] = { { { SPACE_STATE, 0, 0 }, EBM_F32, 2, 0 },
                                { { SPACE_STATE, 1, 0 }, EBM_F32, 3, 0 } };
    struct ew_group plan = { { 1, { N } }, 1, 2, COUNT(code), 5, &in, out, (struct ew_instr *)code };
    struct group *g = NULL;
    bool right = true;

    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 100) - 50;
        y[i] = (float)i;                         /* RAW, over which output 1 lies */
    }
    if (!tap_ok(group_new(&cpu, &plan, &memory, y, 0, &g) == EBM_OK, "%s: made", k->name))
        return;
    char *scratch = mem_new(ctx, 2, group_scratch(g));
    group_run(&cpu, g, scratch);
    for (int i = 0; i < N; i++) {
        float a = (float)(i % 100) - 50;
        right = right && x[i] == 3 * a + 3 && y[i] == a * a + (float)i;
    }
    tap_ok(right, "%s: results may lie on inputs", k->name);
    group_free(&cpu, g);
    mem_free(ctx, scratch);
}

/* Two operations as one loop have the bits of one after the other. */
static void test_pairs(const struct kernels *k)
{
    enum { N = 12 * LANES };
    float x[3][N], between[N], y[2][N];
    int wrong = 0;

    for (int i = 0; i < 3 * N; i++)
        x[i / N][i % N] = (float)(i * 7919 % 1009) / 77 - 5;
    for (int first = 0; first < PAIR_FIRST; first++)
        for (int second = 0; second < PAIR_SECOND; second++)
            for (int kind = 0; kind < PAIR_KINDS; kind++) {
                const int c = kind & 1, last = second == PAIR_FROM ? EW_SUB : EW_ADD + second;
                k->pair[first][second][kind](y[0], x[0], x[1], x[2], N);
                k->loop[EW_ADD + first][kind / 2](between, x[0], x[1], x[1], N);
                if (second == PAIR_FROM)
                    k->loop[last][c ? EW_SV : EW_VV](y[1], x[2], between, between, N);
                else
                    k->loop[last][c ? EW_VS : EW_VV](y[1], between, x[2], x[2], N);
                wrong += memcmp(y[0], y[1], sizeof y[0]) != 0;
            }
    x[0][0] = 0;
    x[0][1] = NAN;
    for (int kind = 0; kind < EW_KINDS; kind++) {
        const float zero[LANES] = { 0 };
        k->positive[kind](y[0], x[0], x[1], x[2], N);
        k->loop[EW_LESS][EW_SV](between, zero, x[0], x[0], N);
        k->loop[EW_SELECT][kind](y[1], between, x[1], x[2], N);
        wrong += memcmp(y[0], y[1], sizeof y[0]) != 0;
    }
    tap_ok(wrong == 0, "%s: two operations as one loop: %d differ", k->name, wrong);
}

/* Two arrays change places. */
static void test_swap(ebm_context *ctx, const struct kernels *k)
{
    static const struct ew_instr code[] = { { EW_LOAD, 0, 0, 0, 0, 0 }, { EW_LOAD, 1, 1, 0, 0, 0 } };
    enum { N = 3001 };
    static float x[N], y[N];
    char *slots[2] = { (char *)x, (char *)y };
    struct memory memory = { .slots = slots };
    struct cpu cpu = { .ctx = ctx, .threads = 1, .kernels = k };
    struct ew_input in[2] = { { { SPACE_STATE, 0, 0 }, EBM_F32, { 1 }, true, false, 0 },
                              { { SPACE_STATE, 1, 0 }, EBM_F32, { 1 }, true, false, 0 } };
    struct ew_output out[2] = { { { SPACE_STATE, 0, 0 }, EBM_F32, 1, 0 },
                                { { SPACE_STATE, 1, 0 }, EBM_F32, 0, 0 } };
    struct ew_group plan = { { 1, { N } }, 2, 2, COUNT(code), 2, in, out, (struct ew_instr *)code };
    struct group *g = NULL;
    bool right = true;

    for (int i = 0; i < N; i++) {
        x[i] = (float)i;
        y[i] = (float)-i;
    }
    if (!tap_ok(group_new(&cpu, &plan, &memory, NULL, 0, &g) == EBM_OK, "%s: made", k->name))
        return;
    char *scratch = mem_new(ctx, 1, group_scratch(g));
    group_run(&cpu, g, scratch);
    for (int i = 0; i < N; i++)
        right = right && x[i] == (float)-i && y[i] == (float)i;
    tap_ok(right, "%s: two arrays change places", k->name);
    group_free(&cpu, g);
    mem_free(ctx, scratch);
}

/* What comes from memory is computed by pieces of tiles: the same bits.  A state that
 * changes in place, two arrays, an index, a number and a row. */
static void test_far(ebm_context *ctx, const struct kernels *k)
{
    enum { ROWS = 40007, N = 12 * ROWS };        /* ends within a piece */
    static const struct ew_instr code[] = {
        { EW_LOAD, 0, 0, 0, 0, 0 }, { EW_LOAD, 1, 1, 0, 0, 0 }, { EW_SIGMOID, 2, 0, 0, 0, 0 },
        { EW_MUL, 2, 2, 1, 0, 0 },  { EW_LOAD, 3, 2, 0, 0, 0 }, { EW_IMM, 4, 0, 0, 0, 0.3f },
        { EW_ADD, 4, 4, 4, 0, 0 },  { EW_MUL, 3, 3, 4, 0, 0 },  { EW_IOTA, 4, 0, 0, 0, 0 },
        { EW_ADD, 4, 4, 3, 0, 0 },  { EW_ADD, 0, 2, 4, 0, 0 },  { EW_LESS, 1, 1, 0, 0, 0 },
    };
    const struct ew_input in[3] = { { { SPACE_STATE, 0, 0 }, EBM_F32, { 12, 1 }, true, false, 0 },
                                    { { SPACE_STATE, 1, 0 }, EBM_F32, { 12, 1 }, true, false, 0 },
                                    { { SPACE_STATE, 2, 0 }, EBM_F32, { 0, 1 }, false, false, 0 } };
    const struct ew_output out[2] = { { { SPACE_STATE, 0, 0 }, EBM_F32, 0, 0 },
                                      { { SPACE_STATE, 3, 0 }, EBM_U8, 1, 0 } };
    const struct ew_group plan = { { 2, { ROWS, 12 } }, 3, 2, COUNT(code), 5, (struct ew_input *)in,
                                   (struct ew_output *)out, (struct ew_instr *)code };
    struct cpu cpu = { .ctx = ctx, .threads = 2, .kernels = k };
    float *x[2] = { mem_new(ctx, N, sizeof *x[0]), mem_new(ctx, N, sizeof *x[0]) };
    float *y = mem_new(ctx, N, sizeof *y), row[12];
    uint8_t *z[2] = { mem_new(ctx, N, 1), mem_new(ctx, N, 1) };

    for (int i = 0; i < 12; i++)
        row[i] = (float)i / 7;
    for (int i = 0; i < N; i++)
        y[i] = (float)(i % 1013) / 100 - 5;
    for (int far = 0; far < 2; far++) {
        char *slots[4] = { (char *)x[far], (char *)y, (char *)row, (char *)z[far] };
        struct memory memory = { .slots = slots };
        struct group *g = NULL;
        for (int i = 0; i < N; i++)
            x[far][i] = (float)(i % 3001) / 300 - 5;
        if (!tap_ok(group_new(&cpu, &plan, &memory, NULL, far ? N : 0, &g) == EBM_OK, "%s: made", k->name))
            return;
        char *scratch = mem_new(ctx, 2, group_scratch(g));
        group_run(&cpu, g, scratch);
        group_free(&cpu, g);
        mem_free(ctx, scratch);
    }
    tap_ok(memcmp(x[0], x[1], N * sizeof *x[0]) == 0 && memcmp(z[0], z[1], N) == 0,
           "%s: the same bits by pieces of tiles", k->name);
    for (int i = 0; i < 2; i++) {
        mem_free(ctx, x[i]);
        mem_free(ctx, z[i]);
    }
    mem_free(ctx, y);
}

int main(void)
{
    const struct kernels *done = NULL;
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    for (int i = 0; i <= TOTAL; i++) {
        input.f[i] = (float)((i * 7919L) % 4001) / 400 - 5;
        input.u[i] = (uint8_t)(i * 31);
        input.w[i] = (i * 37) % 256;
    }
    for (unsigned flags = 0; flags < 4; flags = flags * 2 + 1) {
        const struct kernels *k = kernels_best(flags & cpu_flags());
        if (k == done)
            continue;
        done = k;
        test_accuracy(k);
        test_special(k);
        test_conversions(k);
        test_group(ctx, k);
        test_in_place(ctx, k);
        test_pairs(k);
        test_swap(ctx, k);
        test_far(ctx, k);
    }
    ebm_context_free(ctx);
    return tap_done();
}
