/* move.c - operations that move elements: BROADCAST, TRANSPOSE, SLICE, PAD, FLIP
 * and CONCAT are all copies between two strided boxes of one shape.
 *
 * SPDX-License-Identifier: ISC
 *
 *   to[sum i_a to_a] = from[sum i_a from_a]       0 <= i_a < n_a
 *
 * Axes that one stride can walk are merged.  The innermost axis is cut into
 * pieces; a piece at each position of the outer axes is an item, and threads
 * share the items.  Where the innermost axis is contiguous in the result and
 * another one in the operand (a transposition), items are blocks of both, which
 * go through a small buffer so that each cache line is used whole.
 *
 * Invariant: every element of the result is written once; PAD clears it before. */
#include <string.h>
#include "step.h"

enum {
    PIECE = 16384,           /* elements of a contiguous piece */
    BLOCK = 32,              /* elements along each side of a transposed block */
    PITCH = BLOCK + 1        /* of a block in the cache: its columns fall in different sets */
};

struct axis {
    int64_t n, from, to;     /* strides in elements */
};

struct box {
    int64_t from, to;        /* bytes from operand and result */
    int rank;
    struct axis axis[EBM_MAX_RANK];
    int64_t piece, pieces;   /* of the innermost axis */
    int64_t items;
    bool blocked;            /* the last two axes are copied by blocks */
};

struct move {
    int count;
    size_t bytes;            /* of an element */
    size_t clear;            /* bytes of the result to clear before */
    struct box *boxes;
};

static void strides_of(const struct shape *s, int64_t *stride)
{
    int64_t n = 1;

    for (int i = s->rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= s->n[i];
    }
}

static void merge_axes(struct box *b)
{
    int rank = 0;

    for (int i = 0; i < b->rank; i++) {
        struct axis a = b->axis[i];
        struct axis *last = rank ? &b->axis[rank - 1] : NULL;
        if (a.n == 1)
            continue;
        if (last && last->from == a.from * a.n && last->to == a.to * a.n) {
            a.n *= last->n;
            *last = a;
        } else {
            b->axis[rank++] = a;
        }
    }
    if (rank == 0)
        b->axis[rank++] = (struct axis){ 1, 1, 1 };
    b->rank = rank;
}

/* A transposition: bring the axis that is contiguous in the operand next to the
 * innermost, which is contiguous in the result. */
static void choose_blocks(struct box *b)
{
    int inner = b->rank - 1;

    if (inner < 1 || b->axis[inner].to != 1 || b->axis[inner].from <= 1)
        return;
    for (int i = 0; i < inner; i++)
        if (b->axis[i].from == 1 && b->axis[i].n > 1) {
            struct axis a = b->axis[i];
            memmove(b->axis + i, b->axis + i + 1, (size_t)(inner - 1 - i) * sizeof a);
            b->axis[inner - 1] = a;
            b->blocked = true;
            return;
        }
}

static void finish(struct box *b)
{
    merge_axes(b);
    choose_blocks(b);
    b->piece = b->blocked ? BLOCK : PIECE;
    b->pieces = (b->axis[b->rank - 1].n + b->piece - 1) / b->piece;
    b->items = b->pieces;
    for (int i = 0; i < b->rank - 1; i++)
        b->items *= b->blocked && i == b->rank - 2 ? (b->axis[i].n + BLOCK - 1) / BLOCK
                                                   : b->axis[i].n;
}

#define COPY(name, type) \
    static void name(type *to, const type *from, int64_t n, int64_t to_stride, \
                     int64_t from_stride) \
    { \
        if (to_stride == 1 && from_stride == 0) \
            for (int64_t i = 0; i < n; i++) \
                to[i] = *from; \
        else if (to_stride == 1) \
            for (int64_t i = 0; i < n; i++) \
                to[i] = from[i * from_stride]; \
        else if (from_stride == 1) \
            for (int64_t i = 0; i < n; i++) \
                to[i * to_stride] = from[i]; \
        else \
            for (int64_t i = 0; i < n; i++) \
                to[i * to_stride] = from[i * from_stride]; \
    }
COPY(copy_words, uint32_t)
COPY(copy_bytes, uint8_t)
#undef COPY

/* rows x n elements: contiguous along rows in the operand, along n in the result. */
#define TRANSPOSE(name, type) \
    static void name(type *to, const type *from, int64_t rows, int64_t n, int64_t to_stride, \
                     int64_t from_stride) \
    { \
        type block[BLOCK * PITCH]; \
        for (int64_t i = 0; i < n; i++) \
            for (int64_t j = 0; j < rows; j++) \
                block[i * PITCH + j] = from[i * from_stride + j]; \
        for (int64_t j = 0; j < rows; j++) \
            for (int64_t i = 0; i < n; i++) \
                to[j * to_stride + i] = block[i * PITCH + j]; \
    }
TRANSPOSE(transpose_words, uint32_t)
TRANSPOSE(transpose_bytes, uint8_t)
#undef TRANSPOSE

static void copy_row(char *to, const char *from, size_t bytes, int64_t n, const struct axis *a)
{
    if (a->to == 1 && a->from == 1)
        memcpy(to, from, (size_t)n * bytes);
    else if (bytes == 4)
        copy_words((uint32_t *)(void *)to, (const uint32_t *)(const void *)from, n, a->to, a->from);
    else
        copy_bytes((uint8_t *)to, (const uint8_t *)from, n, a->to, a->from);
}

/* The items of axes 0 ... rank-1 are counted like digits, the last fastest; a
 * digit of a cut axis is a piece or block. */
struct digit {
    int64_t at, n, from, to;     /* steps in elements */
};

static void run_items(const struct box *b, const char *x, char *y, size_t bytes, int64_t begin,
                      int64_t end)
{
    struct digit digit[EBM_MAX_RANK];
    const struct axis *inner = &b->axis[b->rank - 1], *outer = inner - 1;
    int64_t rest = begin, from = 0, to = 0;
    const int64_t size = (int64_t)bytes;

    for (int i = b->rank - 1; i >= 0; i--) {
        const struct axis *a = &b->axis[i];
        int64_t step = a == inner ? b->piece : b->blocked && a == outer ? BLOCK : 1;
        digit[i] = (struct digit){ 0, (a->n + step - 1) / step, a->from * step, a->to * step };
        digit[i].at = rest % digit[i].n;
        rest /= digit[i].n;
        from += digit[i].at * digit[i].from;
        to += digit[i].at * digit[i].to;
    }
    for (int64_t item = begin; item < end; item++) {
        int64_t done = digit[b->rank - 1].at * b->piece;
        int64_t n = inner->n - done < b->piece ? inner->n - done : b->piece;
        if (b->blocked) {
            int64_t above = digit[b->rank - 2].at * BLOCK;
            int64_t rows = outer->n - above < BLOCK ? outer->n - above : BLOCK;
            char *d = y + to * size;
            const char *a = x + from * size;
            if (bytes == 4)
                transpose_words((uint32_t *)(void *)d, (const uint32_t *)(const void *)a, rows, n,
                                outer->to, inner->from);
            else
                transpose_bytes((uint8_t *)d, (const uint8_t *)a, rows, n, outer->to, inner->from);
        } else {
            copy_row(y + to * size, x + from * size, bytes, n, inner);
        }
        for (int i = b->rank - 1; i >= 0; i--) {
            from += digit[i].from;
            to += digit[i].to;
            if (++digit[i].at < digit[i].n)
                break;
            from -= digit[i].n * digit[i].from;
            to -= digit[i].n * digit[i].to;
            digit[i].at = 0;
        }
    }
}

static void run_box(const struct cpu *cpu, const struct box *b, const char *x, char *y, size_t bytes)
{
    int64_t count = 1;

    for (int i = 0; i < b->rank; i++)
        count *= b->axis[i].n;
    int threads = threads_for(cpu, count);
    int64_t share = (b->items + threads - 1) / threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t begin = 0; begin < b->items; begin += share)
        run_items(b, x + b->from, y + b->to, bytes, begin,
                  begin + share < b->items ? begin + share : b->items);
}

static void move_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct move *m = s->own;

    if (m->clear)
        memset(s->out, 0, m->clear);
    for (int i = 0; i < m->count; i++)
        run_box(cpu, &m->boxes[i], s->in[i], s->out, m->bytes);
}

/* The box of operand i. */
static void set_box(const struct step_run *s, int i, size_t bytes, struct box *b)
{
    const struct node *node = &s->node;
    const union attr *attr = &node->attr;
    const struct shape *x = &s->shape[i], *y = &node->shape;
    int64_t from[EBM_MAX_RANK], to[EBM_MAX_RANK], first_from = 0, first_to = 0;

    strides_of(x, from);
    strides_of(y, to);
    b->rank = y->rank;
    for (int a = 0; a < y->rank; a++) {
        int64_t n = y->n[a], f = from[a], t = to[a];
        switch (node->op) {
        case OP_BROADCAST:
            f = x->n[a] == 1 ? 0 : f;
            break;
        case OP_TRANSPOSE:
            f = from[attr->perm[a]];
            break;
        case OP_SLICE:
            first_from += attr->box.begin[a] * f;
            f *= attr->box.step[a];
            break;
        case OP_FLIP:
            if (attr->axes >> a & 1) {
                first_from += (n - 1) * f;
                f = -f;
            }
            break;
        case OP_PAD:
            n = x->n[a];
            first_to += attr->box.begin[a] * t;
            t *= attr->box.step[a];
            break;
        default:                                      /* CONCAT */
            n = x->n[a];
            for (int before = 0; a == attr->axis && before < i; before++)
                first_to += s->shape[before].n[a] * t;
        }
        b->axis[a] = (struct axis){ n, f, t };
    }
    b->from = first_from * (int64_t)bytes;
    b->to = first_to * (int64_t)bytes;
    finish(b);
}

int move_prepare(const struct cpu *cpu, struct step_run *s)
{
    struct move *m = mem_new(cpu->ctx, 1, sizeof *m + (size_t)s->n_in * sizeof *m->boxes);

    if (!m)
        return EBM_ERR_NOMEM;
    s->own = m;
    s->run = move_run;
    m->boxes = (struct box *)(m + 1);
    m->count = s->n_in;
    m->bytes = s->node.type == EBM_U8 ? 1 : 4;
    m->clear = s->node.op == OP_PAD ? (size_t)shape_count(&s->node.shape) * m->bytes : 0;
    for (int i = 0; i < s->n_in; i++)
        set_box(s, i, m->bytes, &m->boxes[i]);
    return EBM_OK;
}
