/* resample.c - RESAMPLE and its adjoint, as products with sparse matrices.
 *
 * SPDX-License-Identifier: ISC
 *
 * Along each axis the large or small result is a matrix times the operand; a row
 * of the matrix is a run of taps, index and weight:
 *
 *   result[i] = sum over taps t of row i:  weight[t] operand[index[t]]
 *
 * Nearest has one tap a row, bilinear two; the adjoint has the transposed
 * matrix.  Pixel i of m covers [i, i+1) / m, its centre is (i + 1/2) / m;
 * beyond the outermost centres the outermost pixels continue. */
#include <math.h>
#include <string.h>
#include "step.h"

struct tap {
    int64_t index;
    float weight;
};

struct matrix {
    int64_t rows;
    int64_t *first;              /* row i: taps first[i] ... first[i+1]-1 */
    struct tap *tap;
};

struct resample {
    struct matrix axis[2];       /* rows, columns of the image */
    int64_t most;                /* products of a tap of either, for one pixel */
};

/* The taps of pixel i of `to` on `from` pixels: their number, 1 or 2. */
static int taps_of(int mode, int64_t i, int64_t to, int64_t from, struct tap tap[2])
{
    if (mode == EBM_NEAREST) {
        tap[0] = (struct tap){ (2 * i + 1) * from / (2 * to), 1.0f };
        return 1;
    }
    double centre = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    double below = floor(centre);
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

/* The matrix from `from` to `to` pixels, or its transpose. */
static int matrix_make(ebm_context *ctx, struct matrix *m, int mode, int64_t to, int64_t from,
                       bool transposed)
{
    struct tap tap[2];

    m->rows = transposed ? from : to;
    m->first = mem_new(ctx, (size_t)m->rows + 2, sizeof *m->first);
    m->tap = mem_new(ctx, 2 * (size_t)to, sizeof *m->tap);
    if (!m->first || !m->tap)
        return EBM_ERR_NOMEM;
    /* Count the taps of row r in first[r+2]; sum up; fill, moving first[r+1]. */
    for (int64_t i = 0; i < to; i++)
        for (int k = taps_of(mode, i, to, from, tap); k-- > 0; )
            m->first[(transposed ? tap[k].index : i) + 2]++;
    for (int64_t r = 1; r <= m->rows; r++)
        m->first[r + 1] += m->first[r];
    for (int64_t i = 0; i < to; i++) {
        int count = taps_of(mode, i, to, from, tap);
        for (int k = 0; k < count; k++) {
            int64_t row = transposed ? tap[k].index : i;
            m->tap[m->first[row + 1]++] =
                (struct tap){ transposed ? i : tap[k].index, tap[k].weight };
        }
    }
    return EBM_OK;
}

/* The operand's pixels that make pixel (i,j) of the result; returns their number. */
static int64_t pixels_of(const struct resample *r, const float *image, int64_t W, int64_t C,
                         int64_t i, int64_t j, struct weighed *row)
{
    const struct matrix *h = &r->axis[0], *w = &r->axis[1];
    int64_t n = 0;

    for (int64_t p = h->first[i]; p < h->first[i + 1]; p++)
        for (int64_t q = w->first[j]; q < w->first[j + 1]; q++)
            row[n++] = (struct weighed){ image + (h->tap[p].index * W + w->tap[q].index) * C,
                                         h->tap[p].weight * w->tap[q].weight };
    return n;
}

static void resample_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct resample *r = s->own;
    const struct matrix *h = &r->axis[0], *w = &r->axis[1];
    const struct shape *x = &s->shape[0];
    const int64_t N = x->n[0], H = x->n[1], W = x->n[2], C = x->n[3];
    const float *from = s->in[0];
    float *to = s->out;

#pragma omp parallel for num_threads(threads_for(cpu, N * (h->rows * w->rows + H * W) * C)) schedule(static)
    for (int64_t row = 0; row < N * h->rows; row++) {
        const float *image = from + row / h->rows * H * W * C;
        struct weighed *terms = (struct weighed *)(void *)s->scratch + thread_index() * r->most;
        for (int64_t j = 0; j < w->rows; j++) {
            float *d = to + (row * w->rows + j) * C;
            int64_t n = pixels_of(r, image, W, C, row % h->rows, j, terms);
            if (n == 0)
                memset(d, 0, (size_t)C * sizeof *d);
            else
                cpu->kernels->weigh(d, terms, n, C, s->past);
        }
        cpu->kernels->stream_end();
    }
}

/* The most taps of a row. */
static int64_t most_taps(const struct matrix *m)
{
    int64_t most = 0;

    for (int64_t i = 0; i < m->rows; i++)
        if (m->first[i + 1] - m->first[i] > most)
            most = m->first[i + 1] - m->first[i];
    return most;
}

static void resample_release(const struct cpu *cpu, struct step_run *s)
{
    struct resample *r = s->own;

    for (int i = 0; r && i < 2; i++) {
        mem_free(cpu->ctx, r->axis[i].first);
        mem_free(cpu->ctx, r->axis[i].tap);
    }
    mem_free(cpu->ctx, r);
}

int resample_prepare(const struct cpu *cpu, struct step_run *s)
{
    struct resample *r = mem_new(cpu->ctx, 1, sizeof *r);
    bool transposed = s->node.op == OP_RESAMPLE_T;
    const struct shape *from = transposed ? &s->node.shape : &s->shape[0];
    const struct shape *to = transposed ? &s->shape[0] : &s->node.shape;

    if (!r)
        return EBM_ERR_NOMEM;
    s->own = r;
    s->run = resample_run;
    s->release = resample_release;
    for (int i = 0; i < 2; i++)
        if (matrix_make(cpu->ctx, &r->axis[i], s->node.attr.resample, to->n[i + 1],
                        from->n[i + 1], transposed) < 0)
            return EBM_ERR_NOMEM;
    r->most = most_taps(&r->axis[0]) * most_taps(&r->axis[1]);
    s->scratch_size = (size_t)r->most * (size_t)cpu->threads * sizeof(struct weighed);
    return EBM_OK;
}
