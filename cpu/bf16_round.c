/* bf16_round.c - contractions in bfloat16 where no instruction does them: the
 * operands are rounded, and what float32 has does the rest.
 *
 * SPDX-License-Identifier: ISC */
#include "bf16.h"
#include "kernels.h"

enum { PIECE = 1 << 14 };    /* elements rounded at a time */

struct bf16_round {
    struct contract *inner;
    int64_t a, b;            /* elements of the operands */
};

static int plan(const struct cpu *cpu, const struct problem *v, void *self,
                size_t *packed, size_t *scratch)
{
    struct bf16_round *s = self;
    int64_t x = v->n * v->h * v->w * v->c, y = v->n * v->p * v->q * v->k;
    int64_t f = v->k * v->r * v->s * v->c / most(1, v->groups);
    struct problem inner = *v;
    int rc;

    s->a = v->op == OP_MATMUL ? v->batch * v->rows * v->depth : v->op == OP_CONV_DATA ? y : x;
    s->b = v->op == OP_MATMUL ? v->batch * v->depth * v->columns : v->op == OP_CONV_FILTER ? y : f;
    inner.precision = EBM_FP32;
    inner.bf16 = NULL;
    if ((rc = contract_plan(cpu, &inner, &s->inner)) < 0)
        return rc;
    /* packed: b.  Scratch: a, what the inner takes. */
    *packed = line_up((size_t)s->b) * sizeof(float);
    *scratch = line_up((size_t)s->a) * sizeof(float) + contract_scratch(s->inner);
    return EBM_OK;
}

static void run(const struct cpu *cpu, const void *self, const float *a, const float *b,
                float *out, float *packed, float *scratch, const struct epilogue *epilogue)
{
    const struct bf16_round *s = self;
    int64_t a_pieces = divide_up(s->a, PIECE);
    int64_t pieces = a_pieces + (b ? divide_up(s->b, PIECE) : 0);
    int threads = s->a + s->b > PIECE ? cpu->threads : 1;
    (void)threads;               /* without OpenMP nobody reads it */

    #pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < pieces; i++) {
        bool first = i < a_pieces;
        int64_t at = (first ? i : i - a_pieces) * PIECE;
        int64_t n = least(PIECE, (first ? s->a : s->b) - at);
        cpu->kernels->round_bf16((first ? scratch : packed) + at, (first ? a : b) + at, n);
    }
    contract_run(cpu, s->inner, scratch, packed, false, out, scratch + line_up((size_t)s->a), epilogue);
}

static void round_free(ebm_context *ctx, void *self)
{
    struct bf16_round *s = self;
    const struct cpu cpu = { .ctx = ctx };

    contract_free(&cpu, s->inner);
}

static bool applies(const struct problem *v)
{
    return v->precision == EBM_BF16;
}

const struct algorithm conv_bf16_round = {
    "bf16 round", applies, plan, run, round_free, sizeof(struct bf16_round),
};
