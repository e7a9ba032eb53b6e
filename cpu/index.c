/* index.c - rows by index: GATHER, SCATTER, UPDATE.
 *
 * SPDX-License-Identifier: ISC
 *
 * Indices outside [0, rows) are clamped.  Where equal indices meet, rows are
 * taken in their order: threads share the elements of rows, not the rows. */
#include <string.h>
#include "step.h"

enum { COLUMNS = 256 };          /* elements of rows that a thread takes at once */

struct index {
    int64_t rows, count;         /* of the table; of indices */
    int64_t width;               /* elements of a row */
    size_t bytes;                /* of an element */
};

static int64_t row_at(const struct index *t, const int32_t *index, int64_t i)
{
    return index[i] < 0 ? 0 : index[i] < t->rows ? index[i] : t->rows - 1;
}

static void gather_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct index *t = s->own;
    const size_t row = (size_t)t->width * t->bytes;
    const char *from = s->in[0];
    char *to = s->out;

    (void)cpu;                   /* without OpenMP */
#pragma omp parallel for num_threads(threads_for(cpu, t->count * t->width)) schedule(static)
    for (int64_t i = 0; i < t->count; i++)
        memcpy(to + (size_t)i * row, from + (size_t)row_at(t, s->in[1], i) * row, row);
}

static void scatter_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct index *t = s->own;
    const float *from = s->in[0];
    float *to = s->out;

    memset(to, 0, (size_t)(t->rows * t->width) * sizeof *to);
#pragma omp parallel for num_threads(threads_for(cpu, t->count * t->width)) schedule(static)
    for (int64_t c = 0; c < t->width; c += COLUMNS) {
        int64_t n = t->width - c < COLUMNS ? t->width - c : COLUMNS;
        for (int64_t i = 0; i < t->count; i++) {
            float *d = to + row_at(t, s->in[1], i) * t->width + c;
            cpu->kernels->add(d, from + i * t->width + c, n);
        }
    }
}

static void update_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct index *t = s->own;
    const size_t row = (size_t)t->width * t->bytes;
    const size_t columns = (size_t)COLUMNS * t->bytes;
    const char *table = s->in[0], *from = s->in[2];
    char *to = s->out;

    (void)cpu;                   /* without OpenMP */
    int64_t copied = to == table ? 0 : t->rows;          /* 0: updated where it lies */
#pragma omp parallel for num_threads(threads_for(cpu, copied * t->width)) schedule(static)
    for (int64_t r = 0; r < copied; r++)
        memcpy(to + (size_t)r * row, table + (size_t)r * row, row);
#pragma omp parallel for num_threads(threads_for(cpu, t->count * t->width)) schedule(static)
    for (size_t c = 0; c < row; c += columns) {
        size_t n = row - c < columns ? row - c : columns;
        for (int64_t i = 0; i < t->count; i++)
            memcpy(to + (size_t)row_at(t, s->in[1], i) * row + c, from + (size_t)i * row + c, n);
    }
}

int index_prepare(const struct cpu *cpu, struct step_run *s)
{
    struct index *t = mem_new(cpu->ctx, 1, sizeof *t);
    const struct shape *table = s->node.op == OP_SCATTER ? &s->node.shape : &s->shape[0];

    if (!t)
        return EBM_ERR_NOMEM;
    s->own = t;
    s->run = s->node.op == OP_GATHER ? gather_run
           : s->node.op == OP_SCATTER ? scatter_run : update_run;
    t->rows = table->n[0];
    t->count = shape_count(&s->shape[1]);
    t->width = shape_count(table) / t->rows;
    t->bytes = s->node.type == EBM_U8 ? 1 : 4;
    return EBM_OK;
}
