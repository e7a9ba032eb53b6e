/* lower_window.c - pooling and resampling.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <string.h>
#include "lower.h"

static const double TAP_WORK = 16;       /* operations: where it is, and whether */

int lower_window(const struct lowering *l)
{
    enum op op = l->node->op;
    const ebm_pool_spec *v = &l->node->attr.pool;
    bool spread = op == OP_UNPOOL || op == OP_PLACE;
    const struct shape *large = spread ? &l->node->shape : l->shape[0];
    const struct shape *small = !spread ? &l->node->shape : op == OP_PLACE ? l->shape[1] : l->shape[0];
    struct draft_dispatch d = { .shader = SHADER_WINDOW };
    int64_t count = shape_count(&l->node->shape);

    for (int i = 0; i < l->n_in; i++)
        d.operands[i] = l->in[i];
    d.operands[2] = l->out;
    draft_constant(&d, op == OP_POOL ? 0 : op == OP_UNPOOL ? 1 : op == OP_PICK ? 2 : 3);
    draft_param(&d, count);
    for (int a = 1; a < 4; a++)
        draft_param(&d, large->n[a]);
    for (int a = 1; a < 3; a++)
        draft_param(&d, small->n[a]);
    for (int i = 0; i < 2; i++)
        draft_param(&d, v->window[i]);
    double taps = (double)v->window[0] * (double)v->window[1];
    d.work = (double)count * (op == OP_PLACE ? taps * taps : taps) * TAP_WORK;
    for (int i = 0; i < 2; i++)
        draft_param(&d, v->stride[i]);
    for (int i = 0; i < 2; i++)
        draft_param(&d, v->pad[i]);
    draft_count(&d, count);
    return draft_emit(l->program, &d);
}

/* ---- resampling: a sparse matrix along each axis ---- */

struct tap {
    int64_t index;
    float weight;
};

/* The taps of pixel i of `to` on `from` pixels: their number, 1 or 2.  Pixel i of
 * m covers [i, i+1) / m; beyond the outermost centres the outermost continue. */
static int taps_of(int mode, int64_t i, int64_t to, int64_t from, struct tap tap[2])
{
    if (mode == EBM_NEAREST) {
        tap[0] = (struct tap){ (2 * i + 1) * from / (2 * to), 1.0f };
        return 1;
    }
    double centre = ((double)i + 0.5) * (double)from / (double)to - 0.5, below = floor(centre);
    int64_t index = (int64_t)below;
    float weight = (float)(centre - below);
    if (weight == 0.0f || index < 0 || index + 1 >= from) {
        tap[0] = (struct tap){ index < 0 ? 0 : index, 1.0f };
        return 1;
    }
    tap[0] = (struct tap){ index, 1.0f - weight };
    tap[1] = (struct tap){ index + 1, weight };
    return 2;
}

/* Words of a matrix with `rows` rows of taps made by `to` pixels. */
static int64_t matrix_words(int64_t rows, int64_t to)
{
    return rows + 1 + 4 * to;
}

/* At word[0 ...], which the shader sees at index `base`: where the taps of each
 * row begin, and one more; then index and weight of each tap. */
static void put_matrix(int32_t *word, int64_t base, int mode, int64_t to, int64_t from, bool transposed)
{
    int64_t rows = transposed ? from : to, at = rows + 1;
    struct tap tap[2];

    for (int64_t r = 0; r < rows; r++) {
        word[r] = (int32_t)(base + at);
        /* Of the transpose: every pixel that has row r among its taps. */
        for (int64_t i = transposed ? 0 : r; i < (transposed ? to : r + 1); i++)
            for (int k = 0, n = taps_of(mode, i, to, from, tap); k < n; k++) {
                if (transposed && tap[k].index != r)
                    continue;
                word[at++] = (int32_t)(transposed ? i : tap[k].index);
                memcpy(&word[at++], &tap[k].weight, sizeof(float));
            }
    }
    word[rows] = (int32_t)(base + at);
}

int lower_resample(const struct lowering *l)
{
    const struct node *y = l->node;
    const struct shape *x = l->shape[0];
    bool transposed = y->op == OP_RESAMPLE_T;
    const struct shape *from = transposed ? &y->shape : x, *to = transposed ? x : &y->shape;
    ebm_context *ctx = l->program->vk->ctx;
    struct draft_dispatch d = { .shader = SHADER_RESAMPLE };
    int64_t count = shape_count(&y->shape);
    int64_t rows = matrix_words(y->shape.n[1], to->n[1]);
    int64_t words = rows + matrix_words(y->shape.n[2], to->n[2]);
    int64_t base = shader_operands(SHADER_RESAMPLE) + 8;      /* after the parameters below */
    int32_t *word = mem_new(ctx, (size_t)words, sizeof *word);
    int rc;

    if (!word)
        return EBM_ERR_NOMEM;
    put_matrix(word, base, y->attr.resample, to->n[1], from->n[1], transposed);
    put_matrix(word + rows, base + rows, y->attr.resample, to->n[2], from->n[2], transposed);
    d.operands[0] = l->in[0];
    d.operands[2] = l->out;
    d.tail = word;
    d.n_tail = (size_t)words;
    const int64_t params[] = { count, x->n[1], x->n[2], y->shape.n[1], y->shape.n[2], x->n[3],
                               base, base + rows };
    for (size_t i = 0; i < COUNT(params); i++)
        draft_param(&d, params[i]);
    draft_count(&d, count);
    rc = draft_emit(l->program, &d);
    mem_free(ctx, word);
    return rc;
}
