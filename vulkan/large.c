/* large.c - steps with operands larger than a descriptor sees, piece by piece.
 *
 * SPDX-License-Identifier: ISC
 *
 *   x [ rows 0..9 | rows 10..19 | 20..24 ]      one dispatch for each block of rows,
 *   y [ rows 0..9 | rows 10..19 | 20..24 ]      which sees no more than its rows
 *
 * A step is cut along axis 0 - images, mostly.  Operands are read by rows, or shared
 * by all blocks: filters.  What sums over axis 0 leaves a result for each block,
 * and these are added.  Groups of contiguous arrays are cut anywhere.  Tables that
 * are looked up are cut in lower_index().  What cannot be cut is refused when it
 * becomes a dispatch.
 *
 * A group may also have operands in more buffers than the device has descriptors for
 * (four are guaranteed): block by block these are copied into scratch, side by side. */
#include <string.h>
#include "lower.h"

/* ---- heavy operations ---- */

/* Is the result a sum, or the largest, over axis 0? */
static bool closes(const struct node *n)
{
    return n->op == OP_CONV_FILTER || ((n->op == OP_SUM || n->op == OP_AMAX) && n->attr.axes & 1);
}

/* The size of axis 0, if the operation can be cut along it; else 0. */
static int64_t rows_of(const struct lowering *l)
{
    const struct node *n = l->node;
    const struct shape *y = &n->shape, *x = l->shape[0];

    if (n->many || !x || x->rank == 0 || y->rank == 0)
        return 0;
    switch (n->op) {
    case OP_CONV: case OP_CONV_DATA: case OP_BROADCAST:
    case OP_POOL: case OP_UNPOOL: case OP_PICK: case OP_PLACE:
    case OP_RESAMPLE: case OP_RESAMPLE_T:
        return y->n[0];
    case OP_MATMUL:
        return y->rank == 2 && n->attr.matmul.ta ? 0 : y->n[0];
    case OP_CONV_FILTER: case OP_SUM: case OP_AMAX:
        return x->n[0];
    case OP_FLIP:
        return n->attr.axes & 1 ? 0 : y->n[0];
    case OP_TRANSPOSE:
        return n->attr.perm[0] == 0 ? y->n[0] : 0;
    case OP_SLICE: case OP_PAD:
        return x->n[0] == y->n[0] ? y->n[0] : 0;
    default:
        return 0;
    }
}

/* Elements of operand i in a row; 0: shared by all rows. */
static int64_t row_of(const struct lowering *l, int i, int64_t rows)
{
    enum op op = l->node->op;
    bool filter = i == 1 && (op == OP_CONV || op == OP_CONV_DATA
                             || (op == OP_MATMUL && l->node->shape.rank == 2));

    return filter ? 0 : heavy_stride(l->shape[i], rows);
}

static struct span rows_at(struct span s, int64_t first, int64_t n, size_t row)
{
    s.offset += (size_t)first * row;
    s.size = (size_t)n * row;
    return s;
}

static bool any_large(const struct lowering *l)
{
    bool any = is_large(l->program, &l->out);

    for (int i = 0; i < l->n_in && i < 3 && !l->node->many; i++)
        any = any || is_large(l->program, &l->in[i]);
    return any;
}

/* The most rows of which each operand is seen whole. */
static int64_t block_of(const struct lowering *l, int64_t rows)
{
    size_t most = 4;

    for (int i = 0; i < l->n_in; i++) {
        size_t row = (size_t)row_of(l, i, rows) * sizeof(float);
        most = row > most ? row : most;
    }
    if (!closes(l->node) && l->out.size / (size_t)rows > most)
        most = l->out.size / (size_t)rows;
    return (int64_t)(l->program->vk->limits.operand / most);
}

/* Rows [first, first + n) of the step. */
static int lower_rows(const struct lowering *l, int64_t rows, int64_t first, int64_t n, struct span out)
{
    struct node node = *l->node;
    struct shape shapes[3];
    struct lowering part = *l;

    part.node = &node;
    part.out = out;
    part.filter_lasts = false;               /* it would be kept for each block */
    if (!closes(l->node))
        node.shape.n[0] = n;
    for (int i = 0; i < l->n_in; i++) {
        size_t row = (size_t)row_of(l, i, rows) * sizeof(float);
        shapes[i] = *l->shape[i];
        part.shape[i] = &shapes[i];
        if (row) {
            shapes[i].n[0] = n;
            part.in[i] = rows_at(l->in[i], first, n, row);
        }
    }
    return lower_heavy(&part);
}

/* Results of blocks side by side, as many as are seen at once; these become one,
 * which takes the place of the first.  (A workgroup reads all of an element before it
 * writes it.) */
static int close_rows(const struct lowering *l, int64_t rows, int64_t block)
{
    struct device_program *p = l->program;
    int64_t results = shape_count(&l->node->shape), most = (rows + block - 1) / block, n = 0;
    size_t result = (size_t)results * sizeof(float), held = p->held;
    bool largest = l->node->op == OP_AMAX;
    int rc = EBM_OK;

    if (most > (int64_t)(p->vk->limits.operand / result))
        most = (int64_t)(p->vk->limits.operand / result);
    if (most < 2)
        return lower_heavy(l);
    struct span all = span_scratch(p, (size_t)most * result);
    p->held += (all.size + 255) & ~(size_t)255;
    for (int64_t first = 0; first < rows && rc >= 0; first += block) {
        if (n == most) {
            rc = lower_parts(p, all, written(rows_at(all, 0, 1, result)), results, n, largest);
            n = 1;
        }
        if (rc >= 0)
            rc = lower_rows(l, rows, first, rows - first < block ? rows - first : block,
                            written(rows_at(all, n++, 1, result)));
    }
    p->held = held;
    return rc < 0 ? rc : lower_parts(p, rows_at(all, 0, n, result), l->out, results, n, largest);
}

/* A sum of everything is one over a single axis, which can be cut anywhere. */
static int lower_line(const struct lowering *l)
{
    struct node node = *l->node;
    struct shape line = { 1, { shape_count(l->shape[0]) } };
    struct lowering flat = *l;

    flat.node = &node;
    flat.shape[0] = &line;
    node.attr.axes = 1;
    return close_rows(&flat, line.n[0], (int64_t)(l->program->vk->limits.operand / sizeof(float)));
}

static void drop_first_axis(struct shape *s)
{
    s->rank--;
    memmove(s->n, s->n + 1, (size_t)s->rank * sizeof *s->n);
}

/* A batch of one product is a product, which can be cut. */
static int lower_single(const struct lowering *l)
{
    struct node node = *l->node;
    struct shape a = *l->shape[0], b = *l->shape[1];
    struct lowering single = *l;

    single.node = &node;
    single.shape[0] = &a;
    single.shape[1] = &b;
    drop_first_axis(&node.shape);
    drop_first_axis(&a);
    drop_first_axis(&b);
    return large_heavy(&single);
}

int large_heavy(const struct lowering *l)
{
    const struct node *y = l->node;
    int64_t rows, block, n;
    int rc = EBM_OK;

    if (y->type != EBM_F32 || !any_large(l))
        return lower_heavy(l);
    if ((y->op == OP_SUM || y->op == OP_AMAX) && shape_count(&y->shape) == 1)
        return lower_line(l);
    if (y->op == OP_MATMUL && y->shape.rank == 3 && y->shape.n[0] == 1)
        return lower_single(l);
    if (!(rows = rows_of(l)) || !(block = block_of(l, rows)))
        return lower_heavy(l);
    if (closes(l->node))
        return close_rows(l, rows, block);
    for (int64_t first = 0; first < rows && rc >= 0; first += n) {
        n = rows - first < block ? rows - first : block;
        rc = lower_rows(l, rows, first, n, rows_at(l->out, first, n, l->out.size / (size_t)rows));
    }
    return rc;
}

/* ---- groups ---- */

struct small_group {
    struct ew_group group;
    struct ew_input in[EW_MAX_INPUTS];
    struct ew_output out[EW_MAX_OUTPUTS];
};

static bool reads_position(const struct ew_group *g, int axis)
{
    for (int i = 0; i < g->n_instr; i++)
        if (g->instr[i].op == EW_IOTA && (axis < 0 || g->instr[i].a == axis))
            return true;
    return false;
}

/* The group as one of a single axis, if all that it reads is contiguous or one
 * element; else as it is.  The axis to cut it along, or -1. */
static int flatten(const struct ew_group *g, struct small_group *s)
{
    bool flat = !reads_position(g, -1);
    int axis = 0;

    s->group = *g;
    s->group.in = s->in;
    s->group.out = s->out;
    memcpy(s->in, g->in, (size_t)g->n_in * sizeof *g->in);
    memcpy(s->out, g->out, (size_t)g->n_out * sizeof *g->out);
    for (int i = 0; i < g->n_in; i++)
        flat = flat && (g->in[i].linear || group_extent(g, &g->in[i]) == 1);
    if (flat) {
        s->group.shape = (struct shape){ 1, { shape_count(&g->shape) } };
        for (int i = 0; i < g->n_in; i++)
            s->in[i].stride[0] = g->in[i].linear ? 1 : 0;
        return 0;
    }
    while (axis < g->shape.rank && g->shape.n[axis] == 1)
        axis++;
    return axis < g->shape.rank && !reads_position(g, axis) ? axis : -1;
}

static bool group_is_large(const struct device_program *p, const struct ew_group *g, const struct span *raw)
{
    int64_t count = shape_count(&g->shape);
    bool any = raw && is_large(p, raw);
    struct span s;

    for (int i = 0; i < g->n_in && !any; i++) {
        s = span_at(p, &g->in[i].place, (size_t)group_extent(g, &g->in[i]) * type_size(g->in[i].type));
        any = is_large(p, &s);
    }
    for (int i = 0; i < g->n_out && !any; i++) {
        s = span_at(p, &g->out[i].place, (size_t)count * type_size(g->out[i].type));
        any = is_large(p, &s);
    }
    return any;
}

/* Has the contraction, or its epilogue, an operand that is not seen whole? */
bool large_step(const struct lowering *l, const struct ew_group *g)
{
    return any_large(l) || group_is_large(l->program, g, NULL);
}

/* ---- groups of more buffers than the device has descriptors for ---- */

enum { STAGED_ALIGN = 16 };

/* The next bytes of scratch that holds copies of operands. */
static struct span next_copy(const struct span *scratch, size_t *at, size_t size)
{
    struct span s = { scratch->buffer, scratch->offset + *at, size, false };

    *at += (size + STAGED_ALIGN - 1) / STAGED_ALIGN * STAGED_ALIGN;
    return s;
}

static struct place in_arena(const struct span *s)
{
    return (struct place){ SPACE_ARENA, 0, (int64_t)s->offset };
}

static size_t input_bytes(const struct ew_group *g, int i)
{
    return (size_t)group_extent(g, &g->in[i]) * type_size(g->in[i].type);
}

static size_t staged_bytes(const struct ew_group *g, const struct span *raw)
{
    size_t at = 0, count = (size_t)shape_count(&g->shape);
    const struct span none = { 0 };

    for (int i = 0; i < g->n_in; i++)
        next_copy(&none, &at, input_bytes(g, i));
    for (int i = 0; i < g->n_out; i++)
        next_copy(&none, &at, count * type_size(g->out[i].type));
    if (raw)
        next_copy(&none, &at, count * sizeof(float));
    return at;
}

/* Its operands are copied next to each other, where one descriptor sees them all. */
static int lower_staged(struct device_program *p, const struct ew_group *g, const struct span *raw)
{
    struct small_group s = { .group = *g };
    size_t count = (size_t)shape_count(&g->shape), at = 0;
    struct span scratch = span_scratch(p, staged_bytes(g, raw)), copy, copies[EW_MAX_OUTPUTS];
    int rc = EBM_OK;

    s.group.in = s.in;
    s.group.out = s.out;
    for (int i = 0; i < g->n_in && rc >= 0; i++) {
        copy = next_copy(&scratch, &at, input_bytes(g, i));
        s.in[i] = g->in[i];
        s.in[i].place = in_arena(&copy);
        rc = emit_copy(p, span_at(p, &g->in[i].place, copy.size), copy);
    }
    for (int i = 0; i < g->n_out; i++) {
        copies[i] = next_copy(&scratch, &at, count * type_size(g->out[i].type));
        s.out[i] = g->out[i];
        s.out[i].place = in_arena(&copies[i]);
    }
    if (raw && rc >= 0) {
        copy = next_copy(&scratch, &at, count * sizeof(float));
        rc = emit_copy(p, *raw, copy);
    }
    if (rc < 0 || (rc = lower_group(p, &s.group, raw ? &copy : NULL)) < 0)
        return rc;
    for (int i = 0; i < g->n_out && rc >= 0; i++)
        rc = emit_copy(p, copies[i], span_at(p, &g->out[i].place, copies[i].size));
    return rc;
}

/* Elements along the axis of which every operand is seen - the copies of all at once. */
static int64_t group_block(const struct device_program *p, const struct small_group *s, int axis,
                           bool staged)
{
    const struct ew_group *g = &s->group;
    int64_t rows = g->shape.n[axis], row = shape_count(&g->shape) / rows, most = row, all = row * (g->n_out + 1);

    for (int i = 0; i < g->n_in; i++) {
        int64_t stride = g->in[i].stride[axis];
        most = stride > most ? stride : most;
        all += stride ? stride : group_extent(g, &g->in[i]);
    }
    all += STAGED_ALIGN * (g->n_in + g->n_out + 1);
    int64_t block = (int64_t)(p->vk->limits.operand / sizeof(float)) / (staged ? all : most);
    block = row % 4 ? block / 4 * 4 : block;     /* of bytes, no two blocks write to one word */
    return block ? block : 1;                    /* which is cut along the next axis */
}

/* Of n rows of an operand - `row` bytes each, `pitch` apart - those that begin and end in one
 * piece of its buffer; 1 if the first does not. */
static int64_t rows_in_piece(struct span s, int64_t n, int64_t pitch, size_t row)
{
    size_t rest = s.buffer->piece - s.offset % s.buffer->piece;
    int64_t most = rest < row || pitch == 0 ? 1 : 1 + (int64_t)((rest - row) / (size_t)pitch);

    return pitch == 0 || most >= n ? n : most;
}

/* Of rows [first, first + n) those of which no operand crosses from one piece to the next. */
static int64_t rows_seen(const struct device_program *p, const struct small_group *s, int axis, int64_t first,
                         int64_t n, const struct span *raw)
{
    const struct ew_group *g = &s->group;
    struct small_group one = *s;
    int64_t row = shape_count(&g->shape) / g->shape.n[axis], wanted = n;
    struct span at;

    one.group.shape.n[axis] = 1;
    for (int i = 0; i < g->n_in; i++) {
        int64_t size = (int64_t)type_size(g->in[i].type), pitch = g->in[i].stride[axis] * size;
        at = rows_at(span_at(p, &g->in[i].place, 0), first, 0, (size_t)pitch);
        n = rows_in_piece(at, n, pitch, (size_t)(group_extent(&one.group, &g->in[i]) * size));
    }
    for (int i = 0; i < g->n_out; i++) {
        int64_t pitch = row * (int64_t)type_size(g->out[i].type);
        at = rows_at(span_at(p, &g->out[i].place, 0), first, 0, (size_t)pitch);
        n = rows_in_piece(at, n, pitch, (size_t)pitch);
    }
    if (raw) {
        size_t pitch = (size_t)row * sizeof(float);
        n = rows_in_piece(rows_at(*raw, first, 0, pitch), n, (int64_t)pitch, pitch);
    }
    return n < wanted && row % 4 && n > 4 ? n / 4 * 4 : n;       /* of bytes, no two blocks write to one word */
}

/* Rows [first, first + n) of the axis. */
static int lower_part(struct device_program *p, const struct small_group *whole, int axis, int64_t first,
                      int64_t n, const struct span *raw)
{
    struct small_group part = *whole;
    const struct shape *shape = &whole->group.shape;
    int64_t row = shape_count(shape) / shape->n[axis];
    struct span of_raw = { 0 };

    part.group.in = part.in;
    part.group.out = part.out;
    part.group.shape.n[axis] = n;
    for (int i = 0; i < part.group.n_in; i++)
        part.in[i].place.offset += first * part.in[i].stride[axis] * (int64_t)type_size(part.in[i].type);
    for (int i = 0; i < part.group.n_out; i++)
        part.out[i].place.offset += first * row * (int64_t)type_size(part.out[i].type);
    if (raw)
        of_raw = rows_at(*raw, first, n, (size_t)row * sizeof(float));
    return large_group(p, &part.group, raw ? &of_raw : NULL);
}

int large_group(struct device_program *p, const struct ew_group *g, const struct span *raw)
{
    struct small_group s;
    bool large = group_is_large(p, g, raw), staged = !group_binds(p, g, raw);
    int rc = EBM_OK, axis = large || staged ? flatten(g, &s) : -1;
    int64_t rows = axis < 0 ? 1 : s.group.shape.n[axis], n;

    if (staged && staged_bytes(g, raw) <= p->vk->limits.operand)
        return lower_staged(p, g, raw);
    if (rows == 1)                       /* as it is, or to be refused */
        return lower_group(p, g, raw);
    int64_t block = group_block(p, &s, axis, staged);
    for (int64_t first = 0; first < rows && rc >= 0; first += n) {
        n = rows_seen(p, &s, axis, first, rows - first < block ? rows - first : block, raw);
        n = n < rows ? n : 1;                    /* what is large lies along another axis */
        rc = lower_part(p, &s, axis, first, n, raw);
    }
    return rc;
}
