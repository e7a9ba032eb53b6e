/* pickle_machine.c - values, the stack and its marks.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "pickle_machine.h"

enum { VALUES_MAX = 1 << 21, BLOCK = 1 << 12 };   /* BLOCK: in units */

int machine_malformed(struct machine *m, const char *what)
{
    return ebm_fail(m->ctx, EBM_ERR_FORMAT, "%s: no valid pickle: %s at byte %zu", m->name, what,
                    m->opcode_at);
}

/* ---- memory ---- */

void *machine_take(struct machine *m, size_t bytes)
{
    struct block *b = m->pickle->blocks;
    size_t size = bytes / sizeof(union unit) + 1;

    if (!b || b->size - b->used < size) {
        size_t room = size > BLOCK ? size : BLOCK;
        if (!(b = mem_new(m->ctx, sizeof *b + room * sizeof(union unit), 1)))
            return NULL;
        b->size = room;
        b->next = m->pickle->blocks;
        m->pickle->blocks = b;
    }
    void *p = b->units + b->used;
    b->used += size;
    return p;
}

struct pickle_value *machine_value_new(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *v = NULL;

    if (m->pickle->values == VALUES_MAX)
        m->failed = ebm_fail(m->ctx, EBM_ERR_FORMAT, "%s: a pickle of more than %d values",
                             m->name, VALUES_MAX);
    else if (!(v = machine_take(m, sizeof *v)))
        m->failed = EBM_ERR_NOMEM;
    else
        v->kind = kind;
    m->pickle->values++;
    return v;
}

int machine_list_add(struct machine *m, struct list *list, const struct pickle_value *v)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        void *grown = mem_grow(m->ctx, list->v, list->count, capacity, sizeof *list->v);
        if (!grown)
            return EBM_ERR_NOMEM;
        list->v = grown;
        list->capacity = capacity;
    }
    list->v[list->count++] = v;
    return EBM_OK;
}

/* More items of a value; those that grow are moved, within the blocks. */
int machine_add_items(struct machine *m, struct pickle_value *v,
                      const struct pickle_value *const *items, size_t count)
{
    if (v->count + count > v->capacity) {
        size_t capacity = v->count + count > 2 * v->capacity ? v->count + count : 2 * v->capacity;
        const struct pickle_value **moved = machine_take(m, capacity * sizeof *moved);
        if (!moved)
            return EBM_ERR_NOMEM;
        if (v->count)
            memcpy(moved, v->items, v->count * sizeof *moved);
        v->items = moved;
        v->capacity = capacity;
    }
    if (count)
        memcpy(v->items + v->count, items, count * sizeof *items);
    v->count += count;
    return EBM_OK;
}

/* ---- the stack ---- */

int machine_push(struct machine *m, const struct pickle_value *v)
{
    return v ? machine_list_add(m, &m->stack, v) : m->failed;
}

/* Values above the last mark. */
static size_t above_mark(const struct machine *m)
{
    return m->stack.count - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

bool machine_has(const struct machine *m, size_t count)
{
    return above_mark(m) >= count;
}

const struct pickle_value *machine_pop(struct machine *m)
{
    return m->stack.v[--m->stack.count];
}

int machine_underflow(struct machine *m)
{
    return machine_malformed(m, "an operand is missing");
}

/* The values above the last mark, which are taken off with it. */
int machine_pop_to_mark(struct machine *m, const struct pickle_value *const **items, size_t *count)
{
    if (!m->n_marks)
        return machine_malformed(m, "a mark is missing");
    *count = above_mark(m);
    m->stack.count -= *count;
    m->n_marks--;
    *items = m->stack.v + m->stack.count;
    return EBM_OK;
}

int machine_push_mark(struct machine *m)
{
    if (m->n_marks == m->marks_capacity) {
        size_t capacity = m->marks_capacity ? 2 * m->marks_capacity : 64;
        void *grown = mem_grow(m->ctx, m->marks, m->n_marks, capacity, sizeof *m->marks);
        if (!grown)
            return EBM_ERR_NOMEM;
        m->marks = grown;
        m->marks_capacity = capacity;
    }
    m->marks[m->n_marks++] = m->stack.count;
    return EBM_OK;
}

int machine_drop(struct machine *m)
{
    if (m->n_marks && above_mark(m) == 0) {
        m->n_marks--;
        return EBM_OK;
    }
    if (!machine_has(m, 1))
        return machine_underflow(m);
    machine_pop(m);
    return EBM_OK;
}

int machine_duplicate(struct machine *m)
{
    return machine_has(m, 1) ? machine_list_add(m, &m->stack, m->stack.v[m->stack.count - 1])
                             : machine_underflow(m);
}

int machine_drop_to_mark(struct machine *m)
{
    const struct pickle_value *const *items = NULL;
    size_t count = 0;

    return machine_pop_to_mark(m, &items, &count);
}
