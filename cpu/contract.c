/* contract.c - plan a contraction by the first algorithm that applies.
 *
 * SPDX-License-Identifier: ISC */
#include <stddef.h>
#include <string.h>
#include "bf16.h"
#include "kernels.h"

struct contract {
    const struct algorithm *algorithm;   /* NULL: the result has no elements */
    void *self;
    bool swapped;                        /* it takes b first, then a */
    size_t packed, scratch;
    float *kept;                         /* where packed outlives a run, or NULL */
    struct problem problem;
    int64_t uses;                        /* pixels or rows that an element of b serves */
};

/* Packing an element of b takes about as long as so many multiplications with
 * it; where it serves many more, keeping it gains nothing that is worth memory. */
enum { FEW_USES = 1 << 12 };

enum { LINE = 16 };                  /* floats of a cache line */
enum { DEEP = 256 };                 /* channels: neighbouring pixels are a KiB apart */
enum { HIGH = 128, SLIM = 4 };       /* rows of a matrix; by its columns */

/* Best first; each says when it applies. */
static const struct algorithm *const algorithms[] = {
    &conv_bf16_rows,
    &conv_bf16_filter,
    &conv_bf16_round,
    &conv_winograd,
    &conv_winograd_filter,
    &matrix_product,
    &conv_few,
    &conv_rows,
    &conv_filter,
};

bool passes_caches(int64_t pixels, int64_t channels, const float *out,
                   const struct epilogue *epilogue)
{
    return !epilogue
        && pixels * channels * (int64_t)sizeof *out >= PAST_CACHES
        && channels % LINE == 0
        && (uintptr_t)out % (LINE * sizeof *out) == 0;
}

static int refuse(ebm_context *ctx, const struct node *node, const struct shape *a,
                  const struct shape *b, const char *why)
{
    char ta[SHAPE_TEXT], tb[SHAPE_TEXT], to[SHAPE_TEXT];

    return ebm_fail(ctx, EBM_ERR_ARG, "cpu: %s of %s and %s to %s: %s",
                    op_info[node->op].name, shape_text(a, ta), shape_text(b, tb),
                    shape_text(&node->shape, to), why);
}

static struct problem matmul(const struct node *node, const struct shape *a)
{
    const struct shape *c = &node->shape;
    int rank = c->rank;
    struct problem v = { .op = node->op };

    v.batch = rank == 3 ? c->n[0] : 1;
    v.rows = c->n[rank - 2];
    v.columns = c->n[rank - 1];
    v.ta = node->attr.matmul.ta;
    v.tb = node->attr.matmul.tb;
    v.depth = a->n[rank - (v.ta ? 2 : 1)];
    return v;
}

static struct problem convolution(const struct node *node, const struct shape *a,
                                  const struct shape *b)
{
    const ebm_conv_spec *spec = &node->attr.conv;
    const struct shape *result = &node->shape;
    const struct shape *x = node->op == OP_CONV_DATA ? result : a;
    const struct shape *f = node->op == OP_CONV_FILTER ? result : b;
    const struct shape *y = node->op == OP_CONV ? result : node->op == OP_CONV_DATA ? a : b;

    return (struct problem){
        .op = node->op, .batch = 1,
        .n = x->n[0], .h = x->n[1], .w = x->n[2], .c = x->n[3],
        .k = y->n[3], .p = y->n[1], .q = y->n[2], .r = f->n[1], .s = f->n[2],
        .groups = spec->groups, .top = spec->pad[0], .left = spec->pad[1],
        .stride_y = spec->stride[0], .stride_x = spec->stride[1],
        .dilation_y = spec->dilation[0], .dilation_x = spec->dilation[1],
    };
}

/* Whether the filter's shape fits the images', so that no index leaves them. */
static bool consistent(const struct problem *v, const struct shape *f, const struct shape *y)
{
    return v->groups > 0 && v->c % v->groups == 0 && v->k % v->groups == 0
        && f->n[0] == v->k && f->n[3] == v->c / v->groups && y->n[0] == v->n
        && v->stride_y > 0 && v->stride_x > 0 && v->dilation_y > 0 && v->dilation_x > 0
        && v->r > 0 && v->s > 0;
}

/* Operands larger than half the address space would overflow offsets. */
static bool addressable(const struct shape *s)
{
    size_t bytes = sizeof(float);

    for (int i = 0; i < s->rank; i++)
        if (s->n[i] < 0 || !size_mul(bytes, (size_t)s->n[i], &bytes) || bytes > PTRDIFF_MAX / 8)
            return false;
    return true;
}

/* The gradient of a weight is a' b of two high matrices: the filter gradient of a
 * 1x1 convolution whose pixels are the rows of both, k those of a, c of b.  There
 * the sum is cut over threads and nothing is transposed. */
static bool sums_over_rows(const struct problem *v)
{
    return v->op == OP_MATMUL && v->ta && !v->tb && v->batch == 1
        && v->depth >= HIGH
        && v->depth >= SLIM * most(v->rows, v->columns);     /* of square ones the result
                                      * is large, and so are the slots: bench/contract.c */
}

static struct problem over_rows(const struct problem *v)
{
    struct problem to = *v;

    to.op = OP_CONV_FILTER;
    to.n = to.w = to.q = to.r = to.s = to.groups = 1;
    to.stride_y = to.stride_x = to.dilation_y = to.dilation_x = 1;
    to.h = to.p = v->depth;
    to.c = v->columns;
    to.k = v->rows;
    return to;
}

/* A 1x1 convolution of every pixel is the product of the pixels' channels and the filter.
 * Of many channels, whose pixels would want the same places of a cache, packing pays, if
 * the result need not pass the caches. */
static bool is_product(const struct problem *v)
{
    bool data = v->op == OP_CONV_DATA;

    return (v->op == OP_CONV || data) && v->precision == EBM_FP32
        && (data ? v->k : v->c) >= DEEP
        && v->n * v->h * v->w * (data ? v->c : v->k) * (int64_t)sizeof(float) < PAST_CACHES
        && v->r == 1 && v->s == 1 && v->groups == 1 && v->stride_y == 1 && v->stride_x == 1
        && v->top == 0 && v->left == 0 && v->p == v->h && v->q == v->w;
}

static struct problem as_product(const struct problem *v)
{
    bool data = v->op == OP_CONV_DATA;

    return (struct problem){
        .op = OP_MATMUL, .batch = 1, .rows = v->n * v->h * v->w, .depth = data ? v->k : v->c,
        .columns = data ? v->c : v->k, .tb = !data, .exact = v->exact, .bf16 = v->bf16,
    };
}

int contract_plan(const struct cpu *cpu, const struct problem *problem, struct contract **contract)
{
    struct contract *self = mem_new(cpu->ctx, 1, sizeof *self);
    struct problem turned;
    const struct problem *v = problem;
    int rc;

    *contract = NULL;
    if (!self)
        return EBM_ERR_NOMEM;
    if ((self->swapped = sums_over_rows(v))) {
        turned = over_rows(v);
        v = &turned;
    }
    if (is_product(v)) {
        turned = as_product(v);
        if (matrix_product.applies(&turned))
            v = &turned;
    }
    for (size_t i = 0; i < COUNT(algorithms) && !self->algorithm; i++)
        if (algorithms[i]->applies(v))
            self->algorithm = algorithms[i];
    if (!self->algorithm)
        rc = ebm_fail(cpu->ctx, EBM_ERR_INTERNAL, "cpu: no algorithm for %s", op_info[v->op].name);
    else if (!(self->self = mem_new(cpu->ctx, 1, self->algorithm->size)))
        rc = EBM_ERR_NOMEM;
    else
        rc = self->algorithm->plan(cpu, v, self->self, &self->packed, &self->scratch);
    self->uses = (v->op == OP_MATMUL ? v->rows : v->n * v->p * v->q)
               / bf16_speed(v);
    self->problem = *problem;
    if (rc < 0) {
        contract_free(cpu, self);
        return rc;
    }
    *contract = self;
    return EBM_OK;
}

int contract_new(const struct cpu *cpu, const struct node *node, const struct shape *a,
                 const struct shape *b, struct contract **contract)
{
    struct problem v;

    *contract = NULL;
    if (!addressable(a) || !addressable(b) || !addressable(&node->shape))
        return refuse(cpu->ctx, node, a, b, "larger than this machine can address");
    if (node->op == OP_MATMUL) {
        v = matmul(node, a);
    } else {
        v = convolution(node, a, b);
        if (!consistent(&v, node->op == OP_CONV_FILTER ? &node->shape : b,
                        node->op == OP_CONV ? &node->shape : node->op == OP_CONV_DATA ? a : b))
            return refuse(cpu->ctx, node, a, b, "shapes do not fit each other");
    }

    v.exact = cpu->exact;
    v.bf16 = cpu->bf16;
    if (node->op == OP_MATMUL ? !node->attr.matmul.full && rounds_to_bf16(1, v.depth, v.columns)
                              : rounds_to_bf16(v.groups, v.c, v.k))
        v.precision = cpu->precision;
    if (shape_count(&node->shape) > 0)
        return contract_plan(cpu, &v, contract);
    *contract = mem_new(cpu->ctx, 1, sizeof **contract);
    return *contract ? EBM_OK : EBM_ERR_NOMEM;
}

void contract_free(const struct cpu *cpu, struct contract *contract)
{
    if (!contract)
        return;
    if (contract->self)
        contract->algorithm->free(cpu->ctx, contract->self);
    mem_free(cpu->ctx, contract->self);
    mem_free(cpu->ctx, contract);
}

const char *contract_algorithm(const struct contract *contract)
{
    return contract->algorithm ? contract->algorithm->name : "";
}

size_t contract_keeps(const struct contract *contract)
{
    return contract->uses > FEW_USES || contract->swapped ? 0 : contract->packed;
}

void contract_keep(struct contract *contract, float *at)
{
    contract->kept = at;
}

/* Of the same problem; but for the images, that is asking for more than need be. */
bool contract_packs_alike(const struct contract *a, const struct contract *b)
{
    const struct problem *p = &a->problem, *q = &b->problem;
    size_t sizes = offsetof(struct problem, ta) - offsetof(struct problem, n);

    return a->algorithm == b->algorithm && p->op == q->op && memcmp(&p->n, &q->n, sizes) == 0
        && p->ta == q->ta && p->tb == q->tb && p->precision == q->precision;
}

size_t contract_scratch(const struct contract *contract)
{
    return contract->packed + contract->scratch;
}

void contract_run(const struct cpu *cpu, const struct contract *contract, const float *a,
                  const float *b, bool same, float *out, void *scratch,
                  const struct epilogue *epilogue)
{
    float *packed = contract->kept ? contract->kept : scratch;
    float *rest = (float *)((char *)scratch + contract->packed);

    if (contract->swapped)
        contract->algorithm->run(cpu, contract->self, b, a, out, packed, rest, epilogue);
    else if (contract->algorithm)
        contract->algorithm->run(cpu, contract->self, a, same && contract->kept ? NULL : b, out,
                                 packed, rest, epilogue);
}
