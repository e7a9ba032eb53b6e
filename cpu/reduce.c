/* reduce.c - SUM and AMAX over any axes.
 *
 * SPDX-License-Identifier: ISC
 *
 * Neighbouring axes of one kind, kept or reduced, are merged, so the two kinds
 * alternate.  A row is a run of the innermost axis:
 *
 *   innermost reduced   a cell of the result takes whole rows: each is summed
 *   innermost kept      a row is a piece of the result: rows are added up
 *   a short reduced     the kept axis outside it and it are one row, which is
 *                       folded after rows are added up
 *
 * Terms of a cell are its rows; a cell with many is split into chunks whose
 * number depends on the shape alone, and partial results are combined in the
 * order of the chunks.  Units of work are cell x columns x chunk.
 *
 * Invariant: the order of all sums depends on shapes and on nothing else. */
#include <math.h>
#include <string.h>
#include "step.h"

enum {
    COLUMNS = 2048,          /* of a kept row per unit */
    UNITS = 32,              /* with as many, cells are not split */
    CHUNK = 16384,           /* elements at least in a chunk of a split cell */
    SPLITS = 64,
    SHORT = 64               /* reduced rows below this are folded */
};

struct loop {
    int rank;
    int64_t n[EBM_MAX_RANK], stride[EBM_MAX_RANK], count;
};

struct reduce {
    bool sum, row_reduced;
    int moments;                 /* accumulators of a sum, one array of them after the other: 1; 2, */
                                 /* squares about the mean too; 4, with operand 1: struct moments */
    struct loop kept, terms;     /* outer axes of either kind */
    int64_t row, row_cut;        /* elements of the innermost axis; per unit */
    int64_t whole;               /* a long row's elements, cut into terms; or 0 */
    int64_t cuts;                /* units across a row */
    int64_t fold;                /* elements of a row per element of the result */
    int64_t splits;
    int64_t sums;                /* accumulators of one chunk */
    int64_t work;
};

/* Where index i of a loop lies. */
static int64_t offset_of(const struct loop *l, int64_t i)
{
    int64_t offset = 0;

    for (int a = l->rank - 1; a >= 0; a--) {
        offset += i % l->n[a] * l->stride[a];
        i /= l->n[a];
    }
    return offset;
}

static void loop_add(struct loop *l, int64_t n, int64_t stride)
{
    l->n[l->rank] = n;
    l->stride[l->rank++] = stride;
    l->count *= n;
}

/* Accumulators: sums are double, maxima float in the same memory. */
union accumulator {
    double *sum;
    float *max;
    char *bytes;
};

/* The accumulators from here on. */
static struct moments moments_at(const struct reduce *r, double *sum)
{
    const int64_t all = r->sums * r->splits;

    return (struct moments){ sum, sum + all, r->moments > 2 ? sum + 2 * all : NULL,
                             r->moments > 2 ? sum + 3 * all : NULL };
}

/* Elements of a cell's terms [first,last). */
static int64_t elements_of(const struct reduce *r, int64_t first, int64_t last)
{
    if (!r->row_reduced)
        return last - first;
    return (r->whole && last == r->terms.count ? r->whole : last * r->row) - first * r->row;
}

/* Terms [first,last) of a cell, columns [c, c+n) of its rows; runs of terms a
 * stride apart go to the kernel at once. */
static void add_rows(const struct kernels *k, const struct reduce *r, const float *a, const float *b,
                     union accumulator acc, int64_t first, int64_t last, int64_t n)
{
    const struct moments m = moments_at(r, acc.sum);
    const struct loop *l = &r->terms;
    int64_t inner = l->n[l->rank - 1], ld = l->stride[l->rank - 1];
    const int64_t begin = first;

    while (first < last) {
        int64_t rows = inner - first % inner;
        if (rows > last - first)
            rows = last - first;
        const int64_t offset = offset_of(l, first);
        const float *at = a + offset;
        if (r->moments > 1)
            k->moments_rows(&m, first - begin, at, b ? b + offset : NULL, ld, rows, n);
        else if (r->sum)
            k->sum_rows(acc.sum, at, ld, rows, n);
        else
            k->amax_rows(acc.max, at, ld, rows, n);
        first += rows;
    }
}

static void add_runs(const struct kernels *k, const struct reduce *r, const float *a, const float *b,
                     union accumulator acc, int64_t first, int64_t last, int64_t n)
{
    const struct moments moments = moments_at(r, acc.sum);

    for (int64_t i = first; i < last; i++) {
        const int64_t offset = offset_of(&r->terms, i);
        const float *at = a + offset;
        int64_t length = r->whole && r->whole - i * n < n ? r->whole - i * n : n;
        if (r->moments > 1) {
            k->moments(&moments, (i - first) * n, at, b ? b + offset : NULL, length);
        } else if (r->sum) {
            *acc.sum += k->sum(at, length);
        } else {
            float m = k->amax(at, length);
            *acc.max = ((m > *acc.max) | (m != m)) ? m : *acc.max;
        }
    }
}

static void write_results(const struct kernels *k, const struct reduce *r, float *out,
                          union accumulator acc, int64_t count)
{
    if (r->sum)
        k->fold_sum(out, acc.sum, count / r->fold, r->fold);
    else
        k->fold_max(out, acc.max, count / r->fold, r->fold);
}

static void run_unit(const struct cpu *cpu, const struct step_run *s, int64_t unit, bool write)
{
    const struct reduce *r = s->own;
    const size_t size = r->sum ? sizeof(double) : sizeof(float);
    int64_t split = unit % r->splits;
    int64_t cut = unit / r->splits % r->cuts;
    int64_t cell = unit / r->splits / r->cuts;
    int64_t c = cut * r->row_cut, n = r->row - c < r->row_cut ? r->row - c : r->row_cut;
    int64_t first = r->terms.count * split / r->splits;
    int64_t last = r->terms.count * (split + 1) / r->splits;
    const int64_t offset = offset_of(&r->kept, cell) + c;
    const float *a = (const float *)s->in[0] + offset;
    const float *b = r->moments > 2 ? (const float *)s->in[1] + offset : NULL;
    int64_t place = r->row_reduced ? cell : cell * r->row + c;
    int64_t count = r->row_reduced ? 1 : n;
    union accumulator acc;

    acc.bytes = s->scratch + (size_t)(split * r->sums + place) * size;
    for (int i = 0; r->sum && i < r->moments; i++)
        memset(acc.sum + i * r->sums * r->splits, 0, (size_t)count * size);
    for (int64_t i = 0; !r->sum && i < count; i++)
        acc.max[i] = -INFINITY;
    if (r->row_reduced)
        add_runs(cpu->kernels, r, a, b, acc, first, last, n);
    else
        add_rows(cpu->kernels, r, a, b, acc, first, last, n);
    if (write)
        write_results(cpu->kernels, r, (float *)s->out + place / r->fold, acc, count);
}

/* Add the other chunks to the first, in their order. */
static void combine(const struct step_run *s)
{
    const struct reduce *r = s->own;
    union accumulator acc;

    acc.bytes = s->scratch;
    const struct moments m = moments_at(r, acc.sum);
    for (int64_t split = 1; split < r->splits; split++) {
        const int64_t from = r->terms.count * split / r->splits, to = r->terms.count * (split + 1) / r->splits;
        const int64_t before = elements_of(r, 0, from), here = elements_of(r, from, to);
        for (int64_t i = 0; i < r->sums; i++) {
            int64_t j = split * r->sums + i;
            if (r->moments > 2)
                join_products(&m.other[i], &m.product[i], m.sum[i], before, m.other[j], m.product[j], m.sum[j], here);
            if (r->moments > 1)
                join_moments(&m.sum[i], &m.square[i], before, m.sum[j], m.square[j], here);
            else if (r->sum)
                acc.sum[i] += acc.sum[j];
            else if (acc.max[j] > acc.max[i] || acc.max[j] != acc.max[j])
                acc.max[i] = acc.max[j];
        }
    }
}

static void run_units(const struct cpu *cpu, const struct step_run *s, bool write)
{
    const struct reduce *r = s->own;
    int64_t units = r->kept.count * r->cuts * r->splits;

#pragma omp parallel for num_threads(threads_for(cpu, r->work)) schedule(static)
    for (int64_t u = 0; u < units; u++)
        run_unit(cpu, s, u, write);
}

/* What all units have added up, in the first chunk's place. */
static union accumulator total_of(const struct step_run *s)
{
    const struct reduce *r = s->own;
    union accumulator acc;

    if (r->splits > 1)
        combine(s);
    acc.bytes = s->scratch;
    return acc;
}

static void reduce_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct reduce *r = s->own;

    run_units(cpu, s, r->splits == 1);
    if (r->splits > 1)
        reduce_finish(cpu, s);
}

void reduce_finish(const struct cpu *cpu, const struct step_run *s)
{
    const struct reduce *r = s->own;

    write_results(cpu->kernels, r, s->out, total_of(s), r->sums);
}

void reduce_finish_part(const struct step_run *s, double *sums)
{
    const struct reduce *r = s->own;
    const double *acc = total_of(s).sum;

    for (int64_t i = 0; i < r->sums / r->fold; i++) {
        sums[i] = 0;
        for (int64_t j = 0; j < r->fold; j++)
            sums[i] += acc[i * r->fold + j];
    }
}

void reduce_part(const struct cpu *cpu, const struct step_run *s, double *sums)
{
    run_units(cpu, s, false);
    reduce_finish_part(s, sums);
}

bool reduce_moments(struct step_run *s, bool other)
{
    struct reduce *r = s->own;
    const int wanted = other ? 4 : 2;

    if (!r->sum || r->fold > 1)
        return false;
    if (r->moments < wanted) {
        s->scratch_size = s->scratch_size / (size_t)r->moments * (size_t)wanted;
        r->moments = wanted;
    }
    return true;
}

int64_t reduce_results(const struct step_run *s)
{
    const struct reduce *r = s->own;

    return r->sums / r->fold;
}

/* About a number other than the mean: what that is off, for each term. */
void reduce_about(const struct step_run *s, enum about what, const float *centre, float *out)
{
    const struct reduce *r = s->own;
    const double n = (double)elements_of(r, 0, r->terms.count);
    const struct moments m = moments_at(r, (double *)(void *)s->scratch);

    for (int64_t i = 0; i < r->sums; i++) {
        double d = what == ABOUT_NOTHING ? 0 : m.sum[i] / n - centre[i];
        out[i] = (float)(what == ABOUT_SQUARES ? m.square[i] + n * d * d
                         : what == ABOUT_PRODUCTS ? m.product[i] + d * m.other[i] : m.other[i]);
    }
}

static int64_t cell_size(const struct reduce *r)
{
    return r->whole ? r->whole : r->terms.count * r->row;
}

int64_t reduce_pieces(const struct step_run *s)
{
    const struct reduce *r = s->own;
    bool in_order = r->cuts == 1
        && (r->kept.rank == 0 || (r->kept.rank == 1 && r->kept.stride[0] == cell_size(r)))
        && r->terms.rank == 1 && (r->terms.count == 1 || r->terms.stride[0] == r->row);

    return in_order ? r->kept.count * r->splits : 0;
}

int64_t reduce_piece_begin(const struct step_run *s, int64_t piece)
{
    const struct reduce *r = s->own;
    int64_t in_cell = r->terms.count * (piece % r->splits) / r->splits * r->row;

    return piece / r->splits * cell_size(r) + in_cell;
}

void reduce_piece(const struct cpu *cpu, const struct step_run *s, int64_t piece)
{
    run_unit(cpu, s, piece, false);
}

int reduce_prepare(const struct cpu *cpu, struct step_run *s)
{
    const struct shape *x = &s->shape[0];
    struct reduce *r = mem_new(cpu->ctx, 1, sizeof *r);
    int64_t n[EBM_MAX_RANK], stride[EBM_MAX_RANK], step = shape_count(x);
    bool reduced[EBM_MAX_RANK];
    int rank = 0;

    if (!r)
        return EBM_ERR_NOMEM;
    s->own = r;
    s->run = reduce_run;
    r->sum = s->node.op == OP_SUM;
    r->moments = 1;
    r->work = step;
    r->kept.count = r->terms.count = 1;
    for (int i = 0; i < x->rank; i++) {
        bool gone = s->node.attr.axes >> i & 1;
        step /= x->n[i];
        if (x->n[i] == 1)
            continue;
        if (rank && reduced[rank - 1] == gone) {
            n[rank - 1] *= x->n[i];
            stride[rank - 1] = step;
        } else {
            n[rank] = x->n[i];
            stride[rank] = step;
            reduced[rank++] = gone;
        }
    }
    r->row_reduced = rank == 0 || reduced[rank - 1];
    r->row = rank ? n[rank - 1] : 1;
    r->fold = 1;
    if (r->row_reduced && rank > 1 && r->row < SHORT) {
        r->fold = r->row;
        r->row *= n[rank-- - 2];
        r->row_reduced = false;
    }
    for (int i = 0; i < rank - 1; i++)
        loop_add(reduced[i] ? &r->terms : &r->kept, n[i], stride[i]);

    /* One long row: its pieces are the terms. */
    if (r->row_reduced && r->terms.count == 1 && r->row >= 2 * CHUNK) {
        r->whole = r->row;
        loop_add(&r->terms, (r->row + CHUNK - 1) / CHUNK, CHUNK);
        r->row = CHUNK;
    }
    if (r->terms.rank == 0)
        loop_add(&r->terms, 1, 0);
    r->row_cut = r->row_reduced ? r->row : COLUMNS / r->fold * r->fold;
    r->cuts = (r->row + r->row_cut - 1) / r->row_cut;
    r->splits = 1;
    if (r->kept.count * r->cuts < UNITS) {
        int64_t by_size = r->terms.count * (r->row < COLUMNS ? r->row : COLUMNS) / CHUNK;
        r->splits = by_size < 1 ? 1 : by_size > SPLITS ? SPLITS : by_size;
        if (r->splits > r->terms.count)
            r->splits = r->terms.count;
    }
    r->sums = r->kept.count * (r->row_reduced ? 1 : r->row);
    s->scratch_size = (size_t)(r->sums * r->splits) * (r->sum ? sizeof(double) : sizeof(float));
    return EBM_OK;
}
