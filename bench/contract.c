/* contract.c - speed of matrix products and convolutions.
 *
 * SPDX-License-Identifier: ISC
 *
 *     contract [THREADS [REPEATS [NAME [PRECISION]]]]
 *
 * NAME: only layers whose name holds it.
 * GFLOP/s count the operations of the definition.  The peak is that of the
 * micro-kernel alone on data in the first cache; each figure is the median of
 * REPEATS timings, and the peak is measured again beside each, since machines
 * change their pace.  Where sums of products alone (EBM_EXACT) would be computed
 * by another algorithm, both run in turn, and x is the median of the ratios.  With
 * PRECISION bf16 or bf16x3 it is of the time in float32 over that so.  Shapes that the
 * kernels are bad at are listed too. */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../apps/idle.h"
#include "bf16.h"
#include "isa.h"
#include "kernels.h"
#include "peak.h"

static int threads = 1;

static double now(void)
{
    return seconds_of(threads);
}

/* A layer: its convolution and both partners; r 0: a product [n,c] x [c,k]. */
static const struct layer {
    const char *name;
    int n, h, c, r, stride, pad, k, groups, w;     /* w 0: as h */
} layers[] = {
    { "digits 5x5 s2 1-16, 32x32",    64, 32,    1, 5, 2, 2,  16,   1,  0 },
    { "digits 3x3 s2 16-32, 16x16",   64, 16,   16, 3, 2, 1,  32,   1,  0 },
    { "digits 3x3 s2 32-64, 8x8",     64,  8,   32, 3, 2, 1,  64,   1,  0 },
    { "digits 3x3 s2 64-64, 4x4",     64,  4,   64, 3, 2, 1,  64,   1,  0 },
    { "digits linear 256-64",         64,  1,  256, 0, 1, 0,  64,   1,  0 },
    { "digits linear 64-1",           64,  1,   64, 0, 1, 0,   1,   1,  0 },
    { "3x3 3-64, 32x32",              64, 32,    3, 3, 1, 1,  64,   1,  0 },
    { "3x3 64-3, 32x32",              64, 32,   64, 3, 1, 1,   3,   1,  0 },
    { "3x3 3-16, 32x32",              64, 32,    3, 3, 1, 1,  16,   1,  0 },
    { "3x3 16-3, 32x32",              64, 32,   16, 3, 1, 1,   3,   1,  0 },
    { "3x3 1-8, 28x28",               64, 28,    1, 3, 1, 1,   8,   1,  0 },
    { "3x3 8-8, 32x32",               64, 32,    8, 3, 1, 1,   8,   1,  0 },
    { "3x3 8-16, 16x16",              64, 16,    8, 3, 1, 1,  16,   1,  0 },
    { "3x3 64-64, 32x32",             64, 32,   64, 3, 1, 1,  64,   1,  0 },
    { "3x3 128-128, 32x32",           16, 32,  128, 3, 1, 1, 128,   1,  0 },
    { "3x3 128-128, 16x16",           64, 16,  128, 3, 1, 1, 128,   1,  0 },
    { "3x3 256-256, 8x8",             64,  8,  256, 3, 1, 1, 256,   1,  0 },
    { "3x3 512-512, 8x8",             64,  8,  512, 3, 1, 1, 512,   1,  0 },
    { "3x3 128-128, 64x64",            4, 64,  128, 3, 1, 1, 128,   1,  0 },
    { "3x3 256-256, 4x4",             64,  4,  256, 3, 1, 1, 256,   1,  0 },
    { "3x3 128-128, 6x6",             64,  6,  128, 3, 1, 1, 128,   1,  0 },
    { "3x3 16-16, 32x32",             64, 32,   16, 3, 1, 1,  16,   1,  0 },
    { "3x3 32-32, 28x28",             64, 28,   32, 3, 1, 1,  32,   1,  0 },
    { "3x3 96-96, 17x23",              3, 17,   96, 3, 1, 1,  96,   1, 23 },
    { "3x3 256-256, 16x16 of 1",       1, 16,  256, 3, 1, 1, 256,   1,  0 },
    { "1x1 64-64, 32x32",             64, 32,   64, 1, 1, 0,  64,   1,  0 },
    { "1x1 128-128, 16x16",           64, 16,  128, 1, 1, 0, 128,   1,  0 },
    { "3x3 s2 64-128, 32x32",         64, 32,   64, 3, 2, 1, 128,   1,  0 },
    { "4x4 s2 128-256, 16x16",        64, 16,  128, 4, 2, 1, 256,   1,  0 },
    { "3x3 depthwise 64, 32x32",      64, 32,   64, 3, 1, 1,  64,  64,  0 },
    { "3x3 64-64 in 4 groups, 32x32", 64, 32,   64, 3, 1, 1,  64,   4,  0 },
    { "product 512x512x512",         512,  1,  512, 0, 1, 0, 512,   1,  0 },
    { "product 1024x1024x1024",     1024,  1, 1024, 0, 1, 0, 1024,  1,  0 },
    { "product 4096x64x64",         4096,  1,   64, 0, 1, 0,  64,   1,  0 },
    { "product 64x1000x1000",         64,  1, 1000, 0, 1, 0, 1000,  1,  0 },
    { "product 18432x64x32",       18432,  1,   64, 0, 1, 0,   32,  1,  0 },
    { "product 1152x32x96",         1152,  1,   32, 0, 1, 0,   96,  1,  0 },
};

static struct node node_of_layer(const struct layer *v, enum op op, struct shape *a,
                                 struct shape *b, double *flop)
{
    int p = v->r ? (v->h + 2 * v->pad - v->r) / v->stride + 1 : 1;
    int w = v->w ? v->w : v->h, q = v->r ? (w + 2 * v->pad - v->r) / v->stride + 1 : 1;
    struct shape x = { 4, { v->n, v->h, w, v->c } };
    struct shape f = { 4, { v->k, v->r, v->r, v->c / v->groups } };
    struct shape y = { 4, { v->n, p, q, v->k } };
    struct node node = { .op = op };

    *flop = 2.0 * v->n * p * q * v->k * (v->r ? v->r * v->r : 1) * (v->c / v->groups);
    if (v->r == 0) {
        x = (struct shape){ 2, { v->n, v->c } };
        f = (struct shape){ 2, { v->c, v->k } };
        y = (struct shape){ 2, { v->n, v->k } };
        node.op = OP_MATMUL;
        node.attr.matmul.tb = op == OP_CONV_DATA;       /* x = y f' */
        node.attr.matmul.ta = op == OP_CONV_FILTER;     /* f = x' y */
    } else {
        node.attr.conv = (ebm_conv_spec){ { v->stride, v->stride },
            { v->pad, v->pad, v->pad, v->pad }, { 1, 1 }, v->groups };
    }
    node.shape = op == OP_CONV ? y : op == OP_CONV_DATA ? x : f;
    *a = op == OP_CONV_DATA ? y : x;
    *b = op == OP_CONV_FILTER ? y : f;
    return node;
}

static float *floats(ebm_context *ctx, int64_t n)
{
    float *a = mem_new(ctx, (size_t)n, sizeof *a);

    for (int64_t i = 0; a && i < n; i++)
        a[i] = (float)(i * 2654435761u % 1000) / 1000 - 0.5f;
    return a;
}

static double run_calls(const struct cpu *cpu, const struct contract *contract, int calls,
                        const float *a, const float *b, float *out, void *scratch)
{
    double start = now();

    for (int i = 0; i < calls; i++)
        contract_run(cpu, contract, a, b, false, out, scratch, NULL);
    return now() - start;
}

/* Prints GFLOP/s and per cent of the peak of all threads; false if it failed. */
static bool measure(const struct cpu *cpu, const struct layer *layer, enum op op, int repeats)
{
    enum { MAX_REPEATS = 101 };
    double rate[MAX_REPEATS], share[MAX_REPEATS], gain[MAX_REPEATS], flop;
    struct shape as, bs;
    struct node node = node_of_layer(layer, op, &as, &bs, &flop);
    struct contract *contract, *exact = NULL;
    struct cpu exactly = *cpu;           /* or in float32, against bf16 */

    if (repeats > MAX_REPEATS)
        repeats = MAX_REPEATS;
    exactly.exact = cpu->precision == EBM_FP32;
    exactly.precision = EBM_FP32;
    if (contract_new(cpu, &node, &as, &bs, &contract) < 0
        || contract_new(&exactly, &node, &as, &bs, &exact) < 0) {
        contract_free(cpu, contract);
        return false;
    }
    bool both = strcmp(contract_algorithm(contract), contract_algorithm(exact)) != 0;
    size_t most = contract_scratch(contract);
    if (contract_scratch(exact) > most)
        most = contract_scratch(exact);
    float *a = floats(cpu->ctx, shape_count(&as)), *b = floats(cpu->ctx, shape_count(&bs));
    float *out = floats(cpu->ctx, shape_count(&node.shape));
    void *scratch = mem_new(cpu->ctx, most + 1, 1);
    bool good = a && b && out && scratch;

    int calls = 1 + (int)(2e8 / flop);
    for (int i = -1; good && i < repeats; i++) {
        double top = peak_of(cpu->ukernel, threads);
        double seconds = run_calls(cpu, contract, calls, a, b, out, scratch);
        double other = both ? run_calls(cpu, exact, calls, a, b, out, scratch) : seconds;
        if (i < 0)
            continue;                                   /* warm-up */
        rate[i] = 1e-9 * flop * calls / seconds;
        gain[i] = other / seconds;
        share[i] = 1e11 * rate[i] / top;
    }
    if (good)
        printf(" %8.1f %4.0f%% %4.2fx", median(rate, repeats), median(share, repeats),
               median(gain, repeats));
    mem_free(cpu->ctx, a);
    mem_free(cpu->ctx, b);
    mem_free(cpu->ctx, out);
    mem_free(cpu->ctx, scratch);
    contract_free(cpu, contract);
    contract_free(cpu, exact);
    return good;
}

static enum ebm_precision precision_of(const char *name)
{
    return !strcmp(name, "bf16") ? EBM_BF16 : !strcmp(name, "bf16x3") ? EBM_BF16X3 : EBM_FP32;
}

int main(int argc, char **argv)
{
    static const enum op ops[] = { OP_CONV, OP_CONV_DATA, OP_CONV_FILTER };
    int repeats = argc > 2 ? atoi(argv[2]) : 5;
    unsigned flags = cpu_flags();
    ebm_context *ctx;

    idle_soon(argv);
    if (argc > 1)
        threads = atoi(argv[1]);
    if (threads < 1 || repeats < 1 || ebm_context_new(NULL, &ctx) < 0) {
        fprintf(stderr, "usage: contract [THREADS [REPEATS [NAME [PRECISION]]]]\n");
        return 2;
    }
    const char *reason;
    struct ukernel *blis = blis_new(ctx, flags, ukernel_best(flags), &reason);
    struct cpu cpu = { .ctx = ctx, .threads = threads, .flags = flags,
                       .kernels = kernels_best(flags), .bf16 = bf16_best(flags),
                       .ukernel = blis ? blis : ukernel_best(flags),
                       .precision = precision_of(argc > 4 ? argv[4] : "") };
    printf("%s %dx%d, %s, %d thread%s; GFLOP/s and share of the micro-kernel's %.0f per thread\n",
           cpu.ukernel->name, cpu.ukernel->MR, cpu.ukernel->NR, blis ? "BLIS" : reason, threads,
           threads > 1 ? "s" : "", 1e-9 * peak_of(cpu.ukernel, 1));
    printf("%-30s %20s %20s %20s\n", "", "forward", "data", "filter");
    for (size_t i = 0; i < COUNT(layers); i++) {
        if (argc > 3 && !strstr(layers[i].name, argv[3]))
            continue;
        printf("%-30s", layers[i].name);
        for (size_t o = 0; o < COUNT(ops); o++)
            if (!measure(&cpu, &layers[i], ops[o], repeats)) {
                fprintf(stderr, "\n%s: %s\n", layers[i].name, ebm_message(ctx));
                return 1;
            }
        printf("\n");
        fflush(stdout);
    }
    blis_free(ctx, blis);
    ebm_context_free(ctx);
    return 0;
}
