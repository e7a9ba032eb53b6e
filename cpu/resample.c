/* resample.c - RESAMPLE, POOL and their adjoints, as products with sparse matrices.
 *
 * SPDX-License-Identifier: ISC
 *
 * Along each axis the large or small result is a matrix times the operand; a row
 * of the matrix is a run of taps, index and weight:
 *
 *   result[i] = sum over taps t of row i:  weight[t] operand[index[t]]
 *
 * Nearest has one tap a row, bilinear two, a pool one of weight 1 for each pixel of a
 * window; the adjoint has the transposed matrix.  Resampling, pixel i of m covers
 * [i, i+1) / m, its centre is (i + 1/2) / m; beyond the outermost centres the
 * outermost pixels continue. */
#include <math.h>
#include "step.h"

/* An axis from `from` to `to` pixels, or back. */
struct axis {
    enum { NEAREST, BILINEAR, WINDOWS } mode;
    int64_t to, from;
    int stride, pad, window;         /* WINDOWS */
    bool transposed;
};

struct matrix {
    int64_t rows;
    int64_t *first;              /* row i: taps first[i] ... first[i+1]-1 */
    struct tapped *tap;
};

struct resample {
    struct matrix axis[2];       /* rows, columns of the image */
    int64_t most;                /* taps of a row of the first */
};

/* The taps of pixel i of `to`: their number, at most most_of(). */
static int taps_of(const struct axis *x, int64_t i, struct tapped *tap)
{
    if (x->mode == NEAREST) {
        tap[0] = (struct tapped){ (2 * i + 1) * x->from / (2 * x->to), 1.0f };
        return 1;
    }
    if (x->mode == WINDOWS) {
        int n = 0;
        for (int r = 0; r < x->window; r++) {
            int64_t index = i * x->stride - x->pad + r;
            if (index >= 0 && index < x->from)
                tap[n++] = (struct tapped){ index, 1.0f };
        }
        return n;
    }
    double centre = ((double)i + 0.5) * (double)x->from / (double)x->to - 0.5;
    double below = floor(centre);
    int64_t index = (int64_t)below;
    float weight = (float)(centre - below);
    if (weight == 0.0f || index < 0 || index + 1 >= x->from) {
        tap[0] = (struct tapped){ index < 0 ? 0 : index, 1.0f };
        return 1;
    }
    tap[0] = (struct tapped){ index, 1.0f - weight };
    tap[1] = (struct tapped){ index + 1, weight };
    return 2;
}

static size_t most_of(const struct axis *x)
{
    return x->mode == WINDOWS ? (size_t)x->window : 2;
}

/* The matrix of an axis whose operand's pixels are `step` elements apart. */
static int matrix_make(ebm_context *ctx, struct matrix *m, const struct axis *x, int64_t step)
{
    struct tapped *tap = mem_new(ctx, most_of(x), sizeof *tap);

    m->rows = x->transposed ? x->from : x->to;
    m->first = mem_new(ctx, (size_t)m->rows + 2, sizeof *m->first);
    m->tap = mem_new(ctx, most_of(x) * (size_t)x->to, sizeof *m->tap);
    if (!tap || !m->first || !m->tap) {
        mem_free(ctx, tap);
        return EBM_ERR_NOMEM;
    }
    /* Count the taps of row r in first[r+2]; sum up; fill, moving first[r+1]. */
    for (int64_t i = 0; i < x->to; i++)
        for (int k = taps_of(x, i, tap); k-- > 0; )
            m->first[(x->transposed ? tap[k].at : i) + 2]++;
    for (int64_t r = 1; r <= m->rows; r++)
        m->first[r + 1] += m->first[r];
    for (int64_t i = 0; i < x->to; i++) {
        int count = taps_of(x, i, tap);
        for (int k = 0; k < count; k++) {
            int64_t row = x->transposed ? tap[k].at : i;
            m->tap[m->first[row + 1]++] =
                (struct tapped){ (x->transposed ? i : tap[k].at) * step, tap[k].weight };
        }
    }
    mem_free(ctx, tap);
    return EBM_OK;
}

static void resample_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct resample *r = s->own;
    const struct matrix *h = &r->axis[0], *w = &r->axis[1];
    const struct shape *x = &s->shape[0];
    const int64_t N = x->n[0], image = x->n[1] * x->n[2] * x->n[3], C = x->n[3];
    float *to = s->out;

#pragma omp parallel num_threads(threads_for(cpu, N * (h->rows * w->rows * C + image)))
    {
        struct weighed *lines = (struct weighed *)(void *)s->scratch + thread_index() * r->most;
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < N * h->rows; row++) {
            const float *from = (const float *)s->in[0] + row / h->rows * image;
            const int64_t first = h->first[row % h->rows], n = h->first[row % h->rows + 1] - first;
            for (int64_t i = 0; i < n; i++)
                lines[i] = (struct weighed){ from + h->tap[first + i].at, h->tap[first + i].weight };
            cpu->kernels->weave(to + row * w->rows * C, lines, n, w->first, w->tap, w->rows, C, s->past);
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
    const enum op op = s->node.op;
    const union attr *attr = &s->node.attr;
    const bool pool = op == OP_POOL || op == OP_UNPOOL, transposed = op == OP_RESAMPLE_T || op == OP_UNPOOL;
    const struct shape *from = transposed ? &s->node.shape : &s->shape[0];
    const struct shape *to = transposed ? &s->shape[0] : &s->node.shape;
    struct resample *r = mem_new(cpu->ctx, 1, sizeof *r);

    if (!r)
        return EBM_ERR_NOMEM;
    s->own = r;
    s->run = resample_run;
    s->release = resample_release;
    for (int i = 0; i < 2; i++) {
        const int64_t step = s->shape[0].n[3] * (i ? 1 : s->shape[0].n[2]);
        struct axis axis = { .mode = pool ? WINDOWS : attr->resample == EBM_NEAREST ? NEAREST : BILINEAR,
                             .to = to->n[i + 1], .from = from->n[i + 1], .transposed = transposed };
        if (pool) {
            axis.stride = attr->pool.stride[i];
            axis.pad = attr->pool.pad[i];
            axis.window = attr->pool.window[i];
        }
        if (matrix_make(cpu->ctx, &r->axis[i], &axis, step) < 0)
            return EBM_ERR_NOMEM;
    }
    r->most = most_taps(&r->axis[0]);
    s->scratch_size = (size_t)r->most * (size_t)cpu->threads * sizeof(struct weighed);
    return EBM_OK;
}
