/* test_contract.c - matrix products and convolutions against the definition.
 *
 * SPDX-License-Identifier: ISC
 *
 * Shapes are drawn at random, so that every stride meets every odd size.  The
 * definition is written below as loops in double precision, which also sum
 * |a||b|; a result may differ by BOUND of that.  Winograd's algorithm, which
 * `exact` forbids, spreads errors over a tile: it has its own cases and bounds,
 * of the result's largest sum and of its largest value.  All micro-kernels that this
 * With precision bf16 the definition has the operands rounded, by other means.  All micro-kernels that this
 * processor runs are examined, with one to three threads, whose bits must be
 * the same; the epilogue must see each element once, and finished. */
#include <math.h>
#include <string.h>
#include "bf16.h"
#include "isa.h"
#include "kernels.h"
#include "tap.h"

static const double BOUND = 1e-6;
static const double WINOGRAD_BOUND = 1e-6, WINOGRAD_LARGEST = 4e-6;
static const double BF16X3_BOUND = 1.3e-5;   /* three times 2^-18 away, and sums */

enum { CASES = 250, BF16_CASES = 60, WINOGRAD_CASES = 25, PRODUCT_CASES = 25, FEW_CASES = 25, MAX_THREADS = 3 };

static uint32_t random_state = 1;

/* 0 ... n - 1 */
static int draw(int n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int)((random_state >> 8) % (uint32_t)n);
}

static int pick(const int *list, int n)
{
    return list[draw(n)];
}
#define PICK(...) pick((const int[]){ __VA_ARGS__ }, \
                       (int)(sizeof (const int[]){ __VA_ARGS__ } / sizeof(int)))

/* ---- the definition --------------------------------------------------- */

struct sums {
    double *value, *size;
};

static void term(struct sums s, int64_t i, double a, double b)
{
    s.value[i] += a * b;
    s.size[i] += fabs(a * b);
}

static void matmul_by_definition(const struct node *node, const struct shape *as,
                                 const float *a, const float *b, struct sums s)
{
    int rank = node->shape.rank, ta = node->attr.matmul.ta, tb = node->attr.matmul.tb;
    int64_t batch = rank == 3 ? node->shape.n[0] : 1;
    int64_t m = node->shape.n[rank - 2], n = node->shape.n[rank - 1];
    int64_t k = as->n[rank - (ta ? 2 : 1)];

    for (int64_t z = 0; z < batch; z++, a += m * k, b += k * n)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                for (int64_t l = 0; l < k; l++)
                    term(s, (z * m + i) * n + j, ta ? a[l * m + i] : a[i * k + l],
                         tb ? b[j * k + l] : b[l * n + j]);
}

/* The three convolutions are the partial derivatives of one sum over
 * (n,p,q,k,r,s,c) of y x f: the same loops, another of the three is written. */
static void conv_by_definition(const struct node *node, const struct shape *as,
                               const struct shape *bs, const float *a, const float *b,
                               struct sums s)
{
    const ebm_conv_spec *v = &node->attr.conv;
    const struct shape *out = &node->shape;
    const struct shape *x = node->op == OP_CONV_DATA ? out : as;
    const struct shape *f = node->op == OP_CONV_FILTER ? out : bs;
    const struct shape *y = node->op == OP_CONV ? out : node->op == OP_CONV_DATA ? as : bs;
    int64_t kg = y->n[3] / v->groups, cg = x->n[3] / v->groups;

    for (int64_t n = 0; n < y->n[0]; n++)
    for (int64_t p = 0; p < y->n[1]; p++)
    for (int64_t q = 0; q < y->n[2]; q++)
    for (int64_t r = 0; r < f->n[1]; r++)
    for (int64_t t = 0; t < f->n[2]; t++) {
        int64_t h = p * v->stride[0] + r * v->dilation[0] - v->pad[0];
        int64_t w = q * v->stride[1] + t * v->dilation[1] - v->pad[1];
        if (h < 0 || h >= x->n[1] || w < 0 || w >= x->n[2])
            continue;
        for (int64_t k = 0; k < y->n[3]; k++)
        for (int64_t c = 0; c < cg; c++) {
            int64_t xi = ((n * x->n[1] + h) * x->n[2] + w) * x->n[3] + k / kg * cg + c;
            int64_t fi = ((k * f->n[1] + r) * f->n[2] + t) * cg + c;
            int64_t yi = ((n * y->n[1] + p) * y->n[2] + q) * y->n[3] + k;
            if (node->op == OP_CONV)
                term(s, yi, a[xi], b[fi]);
            else if (node->op == OP_CONV_DATA)
                term(s, xi, a[yi], b[fi]);
            else
                term(s, fi, a[xi], b[yi]);
        }
    }
}

/* ---- one case --------------------------------------------------------- */

struct probe {
    const float *out;
    float *seen;             /* what the epilogue was shown */
    int *times;
    int64_t count;
    bool outside;
};

/* Ranges do not overlap, so threads write apart; a wrong overlap is counted
 * often enough by luck alone, and surely with one thread. */
static void watch(void *self, int64_t begin, int64_t end, int thread)
{
    struct probe *p = self;

    (void)thread;
    if (begin < 0 || end > p->count || begin > end) {
        p->outside = true;
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        p->seen[i] = p->out[i];
        p->times[i]++;
    }
}

static float *random_floats(ebm_context *ctx, int64_t n)
{
    float *a = mem_new(ctx, (size_t)n + 1, sizeof *a);

    for (int64_t i = 0; a && i < n; i++)
        a[i] = (float)(draw(1 << 20) - (1 << 19)) / (1 << 19);
    return a;
}

static double worst;         /* over all cases, relative to sum |a||b| */
static int splits;           /* runs of operands in two parts */
static double worst_largest; /* error over a result's largest value */

/* Run once; false and a note if anything is wrong. */
static bool run_once(const struct cpu *cpu, const struct node *node, const struct shape *as,
                     const struct shape *bs, const float *a, const float *b, struct sums ref,
                     float *out, bool with_epilogue, bool keep)
{
    int64_t count = shape_count(&node->shape);
    double largest = 0, largest_error = 0, largest_size = 0;
    struct contract *contract;
    bool good = true;

    if (contract_new(cpu, node, as, bs, &contract) < 0) {
        tap_note("%s", ebm_message(cpu->ctx));
        return false;
    }
    if (!cpu->exact && strncmp(contract_algorithm(contract), "winograd", 8) != 0) {
        tap_note("not by Winograd's algorithm but by %s", contract_algorithm(contract));
        good = false;
    }
    bool split = cpu->precision == EBM_BF16X3 && strncmp(contract_algorithm(contract), "bf16", 4) == 0;
    double bound = split ? BF16X3_BOUND : cpu->exact ? BOUND : WINOGRAD_BOUND;
    splits += split;
    size_t kept = keep ? contract_keeps(contract) : 0;
    float *packed = mem_new(cpu->ctx, kept + 1, 1);
    if (kept)
        contract_keep(contract, packed);
    /* What scratch and result held before must not matter. */
    size_t size = contract_scratch(contract);
    void *scratch = mem_new(cpu->ctx, size + 1, 1);
    memset(out, 0xff, (size_t)count * sizeof *out);
    if (kept > 0)            /* by a run that packs b, to be run again without */
        contract_run(cpu, contract, a, b, false, out, scratch, NULL);
    memset(scratch, 0xff, size);
    memset(out, 0xff, (size_t)count * sizeof *out);

    struct probe probe = { .out = out, .count = count };
    probe.seen = mem_new(cpu->ctx, (size_t)count + 1, sizeof *probe.seen);
    probe.times = mem_new(cpu->ctx, (size_t)count + 1, sizeof *probe.times);
    struct epilogue epilogue = { watch, &probe };
    contract_run(cpu, contract, a, kept > 0 ? NULL : b, kept > 0, out, scratch, with_epilogue ? &epilogue : NULL);
    contract_free(cpu, contract);
    mem_free(cpu->ctx, packed);

    for (int64_t i = 0; i < count; i++)
        largest_size = fmax(largest_size, ref.size[i]);
    for (int64_t i = 0; i < count && good; i++) {
        double error = fabs(out[i] - ref.value[i]);
        double scale = cpu->exact ? ref.size[i] : largest_size;
        if (!(error <= bound * scale + 1e-30)) {
            tap_note("element %lld is %g, not %g", (long long)i, out[i], ref.value[i]);
            good = false;
        }
        if (scale > 0 && error / scale > worst)
            worst = error / scale;
        largest = fmax(largest, fabs(ref.value[i]));
        largest_error = fmax(largest_error, error);
        if (with_epilogue && (probe.times[i] != 1 || probe.seen[i] != out[i])) {
            tap_note("the epilogue saw element %lld %d times, as %g of %g",
                     (long long)i, probe.times[i], probe.seen[i], out[i]);
            good = false;
        }
    }
    if (largest > 0 && largest_error / largest > worst_largest)
        worst_largest = largest_error / largest;
    good &= !probe.outside;
    mem_free(cpu->ctx, probe.seen);
    mem_free(cpu->ctx, probe.times);
    mem_free(cpu->ctx, scratch);
    return good;
}

/* bfloat16 has 8 digits; ties go to even. */
static float *rounded(ebm_context *ctx, const float *a, int64_t n)
{
    float *r = mem_new(ctx, (size_t)n + 1, sizeof *r);

    for (int64_t i = 0; r && i < n; i++) {
        int exponent;
        double digits = frexp(a[i], &exponent);
        r[i] = (float)ldexp(rint(ldexp(digits, 8)), exponent - 8);
    }
    return r;
}

/* Are operands rounded with precision bf16? */
static bool rounds(const struct node *node, const struct shape *a, const struct shape *b)
{
    int last = a->rank - 1;

    if (node->op == OP_MATMUL)
        return node->shape.n[last] >= 8 && a->n[node->attr.matmul.ta ? last - 1 : last] >= 8;
    return node->attr.conv.groups == 1 && a->n[3] >= 8
        && (node->op == OP_CONV_FILTER ? b : &node->shape)->n[3] >= 8;
}

/* A case with precision bf16 or bf16x3: with each set of instructions for it, and without. */
static bool examine_bf16(ebm_context *ctx, const struct node *node, const struct shape *as,
                         const struct shape *bs, enum ebm_precision precision)
{
    static const unsigned sets[] = { 0, CPU_AVX512 | CPU_AVX512BF16,
                                     CPU_AVX512 | CPU_AVX512BF16 | CPU_AMX };
    int64_t count = shape_count(&node->shape);
    float *a = random_floats(ctx, shape_count(as)), *b = random_floats(ctx, shape_count(bs));
    float *ra = rounded(ctx, a, shape_count(as)), *rb = rounded(ctx, b, shape_count(bs));
    float *one = random_floats(ctx, count), *out = random_floats(ctx, count);
    struct sums ref = {
        mem_new(ctx, (size_t)count + 1, sizeof(double)),
        mem_new(ctx, (size_t)count + 1, sizeof(double)),
    };
    unsigned flags = cpu_flags();
    bool good = true, round = precision == EBM_BF16 && rounds(node, as, bs);

    if (node->op == OP_MATMUL)
        matmul_by_definition(node, as, round ? ra : a, round ? rb : b, ref);
    else
        conv_by_definition(node, as, bs, round ? ra : a, round ? rb : b, ref);
    for (size_t i = 0; i < COUNT(sets); i++)
        for (int threads = 1; threads <= MAX_THREADS && !(sets[i] & ~flags); threads++) {
            struct cpu cpu = {
                .ctx = ctx, .threads = threads, .exact = true, .precision = precision,
                .kernels = kernels_best(flags), .ukernel = ukernel_best(flags),
                .bf16 = bf16_best(sets[i]),
            };
            bool first = threads == 1;
            if (!run_once(&cpu, node, as, bs, a, b, ref, first ? one : out, threads != 2,
                          threads == 3)) {
                tap_note("with %s and %d threads", cpu.bf16 ? cpu.bf16->name : "float32", threads);
                good = false;
            }
            if (!first && memcmp(one, out, (size_t)count * sizeof *out)) {
                tap_note("%d threads give other bits than one", threads);
                good = false;
            }
        }
    mem_free(ctx, a);
    mem_free(ctx, b);
    mem_free(ctx, ra);
    mem_free(ctx, rb);
    mem_free(ctx, one);
    mem_free(ctx, out);
    mem_free(ctx, ref.value);
    mem_free(ctx, ref.size);
    return good;
}

/* Every micro-kernel that this processor runs, and BLIS's if it is there. */
enum { MAX_KERNELS = 8 };
static const struct ukernel *kernels[MAX_KERNELS];
static int n_kernels;

/* A case with every micro-kernel and number of threads. */
static bool examine(ebm_context *ctx, const struct node *node,
                    const struct shape *as, const struct shape *bs, bool exact)
{
    int64_t count = shape_count(&node->shape);
    float *a = random_floats(ctx, shape_count(as)), *b = random_floats(ctx, shape_count(bs));
    float *one = random_floats(ctx, count), *out = random_floats(ctx, count);
    struct sums ref = {
        mem_new(ctx, (size_t)count + 1, sizeof(double)),
        mem_new(ctx, (size_t)count + 1, sizeof(double)),
    };
    bool good = true;

    if (node->op == OP_MATMUL)
        matmul_by_definition(node, as, a, b, ref);
    else
        conv_by_definition(node, as, bs, a, b, ref);
    for (int i = 0; i < n_kernels; i++)
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            struct cpu cpu = { .ctx = ctx, .threads = threads, .ukernel = kernels[i],
                               .kernels = kernels_best(cpu_flags()), .exact = exact };
            bool first = threads == 1;
            if (!run_once(&cpu, node, as, bs, a, b, ref, first ? one : out, threads != 2,
                          threads == 2)) {
                tap_note("with %s and %d threads", kernels[i]->name, threads);
                good = false;
            }
            if (!first && memcmp(one, out, (size_t)count * sizeof *out)) {
                tap_note("%s: %d threads give other bits than one", kernels[i]->name, threads);
                good = false;
            }
        }
    mem_free(ctx, a);
    mem_free(ctx, b);
    mem_free(ctx, one);
    mem_free(ctx, out);
    mem_free(ctx, ref.value);
    mem_free(ctx, ref.size);
    return good;
}

/* ---- cases ------------------------------------------------------------ */

static void shape_matmul(struct node *node, struct shape *a, struct shape *b, int64_t m, int64_t n, int64_t k)
{
    int rank = 2 + draw(2), at = rank - 2;

    *node = (struct node){ .op = OP_MATMUL, .shape = { rank, { 0 } } };
    node->attr.matmul.ta = draw(2);
    node->attr.matmul.tb = draw(2);
    a->rank = b->rank = rank;
    a->n[0] = b->n[0] = node->shape.n[0] = 1 + draw(5);
    a->n[at] = node->attr.matmul.ta ? k : m;
    a->n[at + 1] = node->attr.matmul.ta ? m : k;
    b->n[at] = node->attr.matmul.tb ? n : k;
    b->n[at + 1] = node->attr.matmul.tb ? k : n;
    node->shape.n[at] = m;
    node->shape.n[at + 1] = n;
}

static void draw_matmul(struct node *node, struct shape *a, struct shape *b)
{
    int64_t m = PICK(1, 2, 5, 12, 13, 64, 97), n = PICK(1, 3, 4, 5, 16, 17, 32, 33, 70, 270);

    shape_matmul(node, a, b, m, n, PICK(1, 2, 7, 16, 33, 64, 257, 1100));
}

/* One whose operands are packed: few rows or many, columns and terms over the edges of
 * panels and blocks. */
static void draw_product(struct node *node, struct shape *a, struct shape *b)
{
    int64_t m = PICK(24, 25, 60, 64, 97, 200), n = PICK(96, 100, 129, 256, 300, 530);

    shape_matmul(node, a, b, m, n, PICK(64, 66, 257, 288, 289, 577));
}

/* An operand that is too large to be packed as a whole. */
static void draw_large_product(struct node *node, struct shape *a, struct shape *b)
{
    int64_t n = PICK(97, 130);

    do
        shape_matmul(node, a, b, PICK(3, 14, 25), n, (1 << 23) / n + 1);
    while (a->rank > 2);         /* one is enough */
}

/* A convolution whose result is not empty; false if the draw has none. */
static bool draw_conv(enum op op, struct node *node, struct shape *as, struct shape *bs)
{
    ebm_conv_spec v = { .groups = 1 };
    struct shape x = { .rank = 4 }, f = { .rank = 4 }, y = { .rank = 4 };

    int few = op == OP_CONV_DATA && draw(3) == 0;    /* channels, many outputs, */
    x.n[0] = y.n[0] = PICK(1, 2, 3, 7);              /* and strides that divide */
    x.n[3] = PICK(1, 2, 3, 4, 5, 16, 17, 32, 40);
    y.n[3] = PICK(1, 2, 3, 4, 8, 16, 20, 33, 64);
    if (few) {
        x.n[3] = PICK(1, 1, 2);
        y.n[3] = PICK(16, 32, 40);
    }
    switch (few ? -1 : draw(4)) {
    case 0:                                     /* groups */
        v.groups = PICK(2, 3, 4);
        x.n[3] = v.groups * PICK(1, 2, 5, 16);
        y.n[3] = v.groups * PICK(1, 3, 8, 17);
        break;
    case 1:                                     /* depthwise */
        v.groups = PICK(2, 3, 16, 19, 40);
        x.n[3] = y.n[3] = v.groups;
        break;
    }
    for (int i = 0; i < 2; i++) {
        v.stride[i] = few ? PICK(1, 2) : PICK(1, 1, 2, 3);
        v.dilation[i] = PICK(1, 1, 1, 2, 3);
        v.pad[i] = draw(4);
        v.pad[i + 2] = draw(4);
        x.n[1 + i] = few ? PICK(2, 4, 12, 16) : PICK(1, 2, 4, 5, 7, 8, 9, 12, 16);
        f.n[1 + i] = PICK(1, 1, 2, 3, 3, 4, 5);
        int64_t room = x.n[1 + i] + v.pad[i] + v.pad[i + 2] - v.dilation[i] * (f.n[1 + i] - 1);
        if (room < 1)
            return false;
        y.n[1 + i] = (room - 1) / v.stride[i] + 1;
    }
    f.n[0] = y.n[3];
    f.n[3] = x.n[3] / v.groups;
    *node = (struct node){ .op = op, .attr = { .conv = v } };
    node->shape = op == OP_CONV ? y : op == OP_CONV_DATA ? x : f;
    *as = op == OP_CONV_DATA ? y : x;
    *bs = op == OP_CONV_FILTER ? y : f;
    return true;
}

/* One that Winograd's algorithm is for: 3x3 filters, channels enough. */
static void draw_winograd(enum op op, struct node *node, struct shape *as, struct shape *bs)
{
    ebm_conv_spec v = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .groups = 1 };
    struct shape x = { .rank = 4 }, f = { .rank = 4 }, y = { .rank = 4 };

    x.n[0] = y.n[0] = PICK(2, 3, 5);
    x.n[3] = f.n[3] = PICK(32, 33, 40, 64, 70, 110);
    y.n[3] = f.n[0] = PICK(32, 35, 48, 64, 100);
    for (int i = 0; i < 2; i++) {
        v.pad[i] = draw(4);
        v.pad[i + 2] = draw(4);
        x.n[1 + i] = PICK(8, 9, 11, 12, 14, 16, 17, 23);
        f.n[1 + i] = 3;
        y.n[1 + i] = x.n[1 + i] + v.pad[i] + v.pad[i + 2] - 2;
    }
    if (draw(10) == 0)                          /* a row of tiles in parts */
        x.n[2] = 230, y.n[2] = x.n[2] + v.pad[1] + v.pad[3] - 2;
    *node = (struct node){ .op = op, .attr = { .conv = v } };
    node->shape = op == OP_CONV ? y : op == OP_CONV_DATA ? x : f;
    *as = op == OP_CONV_DATA ? y : x;
    *bs = op == OP_CONV_FILTER ? y : f;
}

/* One whose result has few channels: strides and dilations, images that are cut in stripes. */
static void draw_few(enum op op, struct node *node, struct shape *as, struct shape *bs)
{
    bool data = op == OP_CONV_DATA;
    ebm_conv_spec v = { .groups = 1 };
    struct shape x = { .rank = 4 }, f = { .rank = 4 }, y = { .rank = 4 };
    int64_t few = 1 + draw(4), many = PICK(8, 9, 24, 36, 60);

    x.n[0] = y.n[0] = PICK(1, 2, 3);
    x.n[3] = f.n[3] = data ? few : many;
    y.n[3] = f.n[0] = data ? many : few;
    for (int i = 0; i < 2; i++) {
        v.stride[i] = data ? PICK(1, 1, 2, 3) : 1;
        v.dilation[i] = PICK(1, 1, 2);
        f.n[1 + i] = PICK(2, 3, 3, 4, 5);
        v.pad[i] = draw(4);
        v.pad[i + 2] = draw(4);
        x.n[1 + i] = PICK(9, 16, 17, 28, 33) + (i == 0 && draw(4) == 0 ? 100 : 0);
        y.n[1 + i] = (x.n[1 + i] + v.pad[i] + v.pad[i + 2] - v.dilation[i] * (f.n[1 + i] - 1) - 1)
                   / v.stride[i] + 1;
    }
    *node = (struct node){ .op = op, .attr = { .conv = v }, .shape = data ? x : y };
    *as = data ? y : x;
    *bs = f;
}

/* Whether an algorithm whose name begins so is taken. */
static bool by(ebm_context *ctx, const char *name, const struct node *node, const struct shape *a,
               const struct shape *b)
{
    struct cpu cpu = { .ctx = ctx, .threads = 1, .ukernel = ukernel_best(cpu_flags()) };
    struct contract *contract;

    if (contract_new(&cpu, node, a, b, &contract) < 0)
        return false;
    bool good = strncmp(contract_algorithm(contract), name, strlen(name)) == 0;
    contract_free(&cpu, contract);
    return good;
}

/* A filter of which memory bears few copies is summed in stripes of columns. */
static bool large_filter(ebm_context *ctx)
{
    struct node node = { .op = OP_CONV_FILTER, .shape = { 4, { 520, 3, 3, 1024 } },
                         .attr = { .conv = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } } };
    struct shape x = { 4, { 1, 4, 4, 1024 } }, y = { 4, { 1, 4, 4, 520 } };

    return examine(ctx, &node, &x, &y, true);
}

/* Winograd's filters that pass the caches by: larger than any of the random shapes. */
static bool large_winograd(ebm_context *ctx)
{
    struct node node = { .op = OP_CONV, .shape = { 4, { 6, 8, 8, 350 } },
                         .attr = { .conv = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } } };
    struct shape x = { 4, { 6, 8, 8, 345 } }, f = { 4, { 350, 3, 3, 345 } };

    return by(ctx, "winograd", &node, &x, &f) && examine(ctx, &node, &x, &f, false);
}

/* Results that pass the caches by (without an epilogue, so with two threads). */
static bool past_caches(ebm_context *ctx)
{
    static const struct { int64_t c, r, groups; bool exact; } layers[] = {
        { 16, 1, 1, true }, { 64, 3, 64, true }, { 16, 3, 1, false },
    };
    struct shape y = { 4, { 2, 130, 128, 64 } };
    bool good = shape_count(&y) * (int64_t)sizeof(float) >= PAST_CACHES;

    for (size_t i = 0; i < COUNT(layers); i++) {
        struct shape x = { 4, { 2, 130, 128, layers[i].c } };
        struct shape f = { 4, { 64, layers[i].r, layers[i].r, layers[i].c / layers[i].groups } };
        int64_t pad = layers[i].r / 2;
        struct node node = { .op = OP_CONV, .shape = y, .attr = { .conv = {
            { 1, 1 }, { pad, pad, pad, pad }, { 1, 1 }, layers[i].groups } } };
        good &= examine(ctx, &node, &x, &f, layers[i].exact);
    }
    return good;
}

/* The n-th allocation fails, for every n: the status says so and nothing leaks. */
static int allocations, failing, live;

static void *failing_alloc(void *user, size_t size)
{
    (void)user;
    if (++allocations == failing)
        return NULL;
    live++;
    return malloc(size);
}

static void counting_release(void *user, void *ptr)
{
    (void)user;
    live -= ptr != NULL;
    free(ptr);
}

static bool survives_lack_of_memory(enum op op)
{
    ebm_host host = { .alloc = failing_alloc, .release = counting_release };
    struct shape a = { 4, { 2, 8, 8, 1 } }, b = { 4, { 16, 3, 3, 1 } }, y = { 4, { 2, 4, 4, 16 } };
    struct node node = { .op = op, .shape = y,
                         .attr = { .conv = { { 2, 2 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } } };
    ebm_context *ctx;

    failing = 0;
    if (ebm_context_new(&host, &ctx) < 0)
        return false;
    struct cpu cpu = { .ctx = ctx, .threads = 2, .ukernel = ukernel_best(cpu_flags()) };
    if (op == OP_MATMUL) {
        node.shape = (struct shape){ 2, { 32, 128 } };
        a = (struct shape){ 2, { 32, 64 } };
        b = (struct shape){ 2, { 64, 128 } };
    } else if (op == OP_CONV_DATA) {             /* by the algorithm for few channels */
        b.n[0] = y.n[3] = 24;
        node.shape = a;
        a = y;
    } else if (op == OP_CONV_FILTER) {
        node.shape = b;
        b = y;
    }
    bool good = true;
    int before = live, rc = EBM_ERR_NOMEM;
    for (int n = 1; rc == EBM_ERR_NOMEM && n < 100; n++) {
        struct contract *contract;
        allocations = 0;
        failing = n;
        rc = contract_new(&cpu, &node, &a, &b, &contract);
        good &= rc == EBM_OK || (rc == EBM_ERR_NOMEM && !contract);
        contract_free(&cpu, contract);
        good &= live == before;
    }
    ebm_context_free(ctx);
    return good && rc == EBM_OK;
}

static void describe(const struct node *node, const struct shape *a, const struct shape *b)
{
    char ta[SHAPE_TEXT], tb[SHAPE_TEXT], to[SHAPE_TEXT];
    const ebm_conv_spec *v = &node->attr.conv;

    tap_note("%s %s, %s to %s", op_info[node->op].name, shape_text(a, ta), shape_text(b, tb),
             shape_text(&node->shape, to));
    if (node->op != OP_MATMUL)
        tap_note("stride %d %d, pad %d %d %d %d, dilation %d %d, groups %d",
                 v->stride[0], v->stride[1], v->pad[0], v->pad[1], v->pad[2], v->pad[3],
                 v->dilation[0], v->dilation[1], v->groups);
    else
        tap_note("ta %d tb %d", node->attr.matmul.ta, node->attr.matmul.tb);
}

int main(void)
{
    static const enum op ops[] = { OP_MATMUL, OP_CONV, OP_CONV_DATA, OP_CONV_FILTER };
    unsigned flags = cpu_flags();
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return EXIT_FAILURE;
    const char *reason;
    struct ukernel *blis = blis_new(ctx, flags, ukernel_best(flags), &reason);
    while (n_kernels < MAX_KERNELS - 1 && (kernels[n_kernels] = ukernel_nth(flags, n_kernels)))
        n_kernels++;
    if (blis)
        kernels[n_kernels++] = blis;
    else
        tap_note("without BLIS's kernel: %s", reason);
    for (size_t o = 0; o < COUNT(ops); o++) {
        int bad = 0;
        worst = 0;
        for (int i = 0; i < CASES; i++) {
            struct shape a = { 0 }, b = { 0 };
            struct node node;
            if (ops[o] == OP_MATMUL)
                draw_matmul(&node, &a, &b);
            else if (!draw_conv(ops[o], &node, &a, &b))
                continue;
            if (!examine(ctx, &node, &a, &b, true)) {
                bad++;
                describe(&node, &a, &b);
            }
        }
        tap_ok(!bad, "%s: %d random shapes agree with the definition to %.0e of sum |a||b| "
               "(worst %.1e)", op_info[ops[o]].name, CASES, BOUND, worst);
    }

    for (size_t o = 0; o < 2 * COUNT(ops); o++) {
        enum op op = ops[o / 2];
        enum ebm_precision precision = o % 2 ? EBM_BF16X3 : EBM_BF16;
        int bad = 0;
        worst = splits = 0;
        for (int i = 0; i < BF16_CASES; i++) {
            struct shape a = { 0 }, b = { 0 };
            struct node node;
            if (op == OP_MATMUL)
                draw_matmul(&node, &a, &b);
            else if (i % 2)
                draw_winograd(op, &node, &a, &b);
            else if (!draw_conv(op, &node, &a, &b))
                continue;
            if (!examine_bf16(ctx, &node, &a, &b, precision)) {
                bad++;
                describe(&node, &a, &b);
            }
        }
        if (precision == EBM_BF16)
            tap_ok(!bad, "%s: with precision bf16, %d random shapes agree with the definition of "
                   "rounded operands to %.0e of sum |a||b| (worst %.1e)", op_info[op].name,
                   BF16_CASES, BOUND, worst);
        else if (!bf16_best(flags) || !bf16_best(flags)->three)
            tap_skip("%s with precision bf16x3: no AMX", op_info[op].name);
        else
            tap_ok(!bad && splits > BF16_CASES / 10, "%s: with precision bf16x3, %d random shapes agree "
                   "with the definition to %.1e of sum |a||b| (worst %.1e; %d runs of split operands)",
                   op_info[op].name, BF16_CASES, BF16X3_BOUND, worst, splits);
    }

    for (size_t o = 1; o < COUNT(ops); o++) {
        int bad = 0, examined = 0;
        worst = worst_largest = 0;
        for (int i = 0; i < 3 * WINOGRAD_CASES && examined < WINOGRAD_CASES; i++) {
            struct shape a, b;
            struct node node;
            draw_winograd(ops[o], &node, &a, &b);
            if (!by(ctx, "winograd", &node, &a, &b))     /* too few tiles */
                continue;
            examined++;
            if (!examine(ctx, &node, &a, &b, false)) {
                bad++;
                describe(&node, &a, &b);
            }
        }
        tap_ok(!bad && examined == WINOGRAD_CASES && worst_largest <= WINOGRAD_LARGEST,
               "%s: Winograd's algorithm on %d random shapes agrees to %.0e of the largest "
               "sum |a||b| (worst %.1e) and to %.0e of the largest value (%.1e)", op_info[ops[o]].name,
               WINOGRAD_CASES, WINOGRAD_BOUND, worst, WINOGRAD_LARGEST, worst_largest);
    }

    for (size_t o = 1; o < COUNT(ops) - 1; o++) {
        int bad = 0, examined = 0;
        worst = 0;
        for (int i = 0; i < 4 * FEW_CASES && examined < FEW_CASES; i++) {
            struct shape a, b;
            struct node node;
            draw_few(ops[o], &node, &a, &b);
            if (!by(ctx, "few", &node, &a, &b))
                continue;
            examined++;
            if (!examine(ctx, &node, &a, &b, true)) {
                bad++;
                describe(&node, &a, &b);
            }
        }
        tap_ok(!bad && examined == FEW_CASES, "%s: %d random shapes of few channels agree with the "
               "definition to %.0e of sum |a||b| (worst %.1e)", op_info[ops[o]].name, FEW_CASES, BOUND,
               worst);
    }

    int bad = 0, examined = 0;
    for (worst = 0; examined < PRODUCT_CASES; examined++) {
        struct shape a = { 0 }, b = { 0 };
        struct node node;
        (examined < 2 ? draw_large_product : draw_product)(&node, &a, &b);
        if (!by(ctx, "product", &node, &a, &b) && !by(ctx, "filter", &node, &a, &b)) {
            tap_note("neither a product nor a sum over rows");
            bad++;
        }
        if (!examine(ctx, &node, &a, &b, true)) {
            bad++;
            describe(&node, &a, &b);
        }
    }
    tap_ok(!bad, "MATMUL: %d random products of packed matrices agree with the definition to %.0e of "
           "sum |a||b| (worst %.1e)", PRODUCT_CASES, BOUND, worst);

    tap_ok(large_filter(ctx), "CONV_FILTER: [520,3,3,1024] agrees with the definition");
    tap_ok(large_winograd(ctx), "CONV: Winograd's algorithm with 345 x 350 channels agrees with the definition");
    tap_ok(past_caches(ctx), "results larger than caches agree with the definition");
    for (size_t o = 0; o < COUNT(ops); o++)
        tap_ok(survives_lack_of_memory(ops[o]), "%s: every allocation may fail",
               op_info[ops[o]].name);

    struct node node = { .op = OP_CONV, .shape = { 4, { 1, 4, 4, 8 } },
                         .attr = { .conv = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 } } };
    struct shape a = { 4, { 1, 4, 4, 3 } }, b = { 4, { 8, 3, 3, 4 } };
    struct cpu cpu = { .ctx = ctx, .threads = 1, .ukernel = ukernel_best(flags) };
    struct contract *contract;
    tap_ok(contract_new(&cpu, &node, &a, &b, &contract) == EBM_ERR_ARG && !contract,
           "shapes that do not fit are refused: %s", ebm_message(ctx));
    blis_free(ctx, blis);
    ebm_context_free(ctx);
    return tap_done();
}
