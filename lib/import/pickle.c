/* pickle.c - see pickle.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   bytes   80 02 } q00 X..a K01 s .
 *   stack   [ {} , "a" , 1 ]   ->  [ {"a": 1} ]
 *   memo    0 -> {}            a value that may be pushed again
 *   marks   depths of the stack that "(" left, for tuples, lists, pairs
 *
 * All values lie in blocks that are freed together.  Memory is bounded by the
 * size of the pickle: an opcode makes one value at most, pushes one reference at
 * most, and what it copies it has read; the memo has no more places than bytes
 * have been read.
 * Source: the opcodes as Python's module pickletools documents them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "number.h"
#include "pickle.h"

enum { VALUES_MAX = 1 << 21, BLOCK = 1 << 12, LINE_MAX_LENGTH = 1 << 16, PROTOCOL_MAX = 5 };

struct block {
    struct block *next;
    size_t used, size;           /* in units */
    union unit { int64_t integer; double number; void *pointer; } units[];
};

struct list {                            /* of references, growing */
    const struct pickle_value **v;
    size_t count, capacity;
};

struct pickle {
    ebm_context *ctx;
    struct block *blocks;
    size_t values;
    struct list persistent;
    const struct pickle_value *root;
};

struct machine {
    ebm_context *ctx;
    const char *name;
    struct pickle *pickle;
    const uint8_t *bytes;
    size_t size, at, opcode_at;
    int failed;
    struct list stack, memo;
    size_t *marks, n_marks, marks_capacity;
    size_t memo_next;                    /* what MEMOIZE takes */
    bool stopped;
};

static int malformed(struct machine *m, const char *what)
{
    return ebm_fail(m->ctx, EBM_ERR_FORMAT, "%s: no valid pickle: %s at byte %zu", m->name, what,
                    m->opcode_at);
}

/* ---- memory ---- */

static void *take(struct machine *m, size_t bytes)
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

/* NULL: m->failed is why. */
static struct pickle_value *value_new(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *v = NULL;

    if (m->pickle->values == VALUES_MAX)
        m->failed = ebm_fail(m->ctx, EBM_ERR_FORMAT, "%s: a pickle of more than %d values",
                             m->name, VALUES_MAX);
    else if (!(v = take(m, sizeof *v)))
        m->failed = EBM_ERR_NOMEM;
    else
        v->kind = kind;
    m->pickle->values++;
    return v;
}

static int list_add(struct machine *m, struct list *list, const struct pickle_value *v)
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
static int add_items(struct machine *m, struct pickle_value *v,
                     const struct pickle_value *const *items, size_t count)
{
    if (v->count + count > v->capacity) {
        size_t capacity = v->count + count > 2 * v->capacity ? v->count + count : 2 * v->capacity;
        const struct pickle_value **moved = take(m, capacity * sizeof *moved);
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

static int push(struct machine *m, const struct pickle_value *v)
{
    return v ? list_add(m, &m->stack, v) : m->failed;
}

/* Values above the last mark. */
static size_t above_mark(const struct machine *m)
{
    return m->stack.count - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

static bool has(const struct machine *m, size_t count)
{
    return above_mark(m) >= count;
}

static const struct pickle_value *pop(struct machine *m)
{
    return m->stack.v[--m->stack.count];
}

static int underflow(struct machine *m)
{
    return malformed(m, "an operand is missing");
}

/* The values above the last mark, which are taken off with it. */
static int pop_to_mark(struct machine *m, const struct pickle_value *const **items, size_t *count)
{
    if (!m->n_marks)
        return malformed(m, "a mark is missing");
    *count = above_mark(m);
    m->stack.count -= *count;
    m->n_marks--;
    *items = m->stack.v + m->stack.count;
    return EBM_OK;
}

static int push_mark(struct machine *m)
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

/* ---- reading ---- */

static int early(struct machine *m)
{
    return malformed(m, "it ends within an opcode");
}

static bool bytes_left(const struct machine *m, uint64_t count)
{
    return count <= m->size - m->at;
}

/* A little-endian number. */
static bool get(struct machine *m, int bytes, uint64_t *v)
{
    *v = 0;
    if (!bytes_left(m, (uint64_t)bytes))
        return false;
    for (int i = bytes; i-- > 0; )
        *v = *v << 8 | m->bytes[m->at + (size_t)i];
    m->at += (size_t)bytes;
    return true;
}

static int copy_text(struct machine *m, struct pickle_value *v, const void *from, size_t length)
{
    char *copy = take(m, length + 1);

    if (!copy)
        return EBM_ERR_NOMEM;
    if (length)
        memcpy(copy, from, length);
    copy[length] = '\0';
    v->text = copy;
    v->length = length;
    return EBM_OK;
}

static int push_text(struct machine *m, enum pickle_kind kind, const void *from, size_t length)
{
    struct pickle_value *v = value_new(m, kind);

    if (!v)
        return m->failed;
    return copy_text(m, v, from, length) < 0 ? EBM_ERR_NOMEM : push(m, v);
}

/* A length of so many bytes, and then the text. */
static int push_counted(struct machine *m, enum pickle_kind kind, int bytes)
{
    uint64_t length;

    if (!get(m, bytes, &length) || !bytes_left(m, length))
        return early(m);
    m->at += (size_t)length;
    return push_text(m, kind, m->bytes + m->at - length, (size_t)length);
}

/* The rest of a line, without its end. */
static int get_line(struct machine *m, const char **line, size_t *length)
{
    const uint8_t *from = m->bytes + m->at, *end = memchr(from, '\n', m->size - m->at);

    if (!end)
        return early(m);
    *line = (const char *)from;
    *length = (size_t)(end - from);
    m->at += *length + 1;
    return *length <= LINE_MAX_LENGTH ? EBM_OK : malformed(m, "a line is too long");
}

static int push_integer(struct machine *m, enum pickle_kind kind, int64_t integer)
{
    struct pickle_value *v = value_new(m, kind);

    if (v)
        v->integer = integer;
    return push(m, v);
}

static int push_number(struct machine *m, double number)
{
    struct pickle_value *v = value_new(m, PICKLE_NUMBER);

    if (v)
        v->number = number;
    return push(m, v);
}

/* Two's complement, little-endian; what is longer than 8 bytes stays as bytes. */
static int push_long(struct machine *m, int bytes)
{
    uint64_t length, v = 0;

    if (!get(m, bytes, &length) || !bytes_left(m, length))
        return early(m);
    const uint8_t *from = m->bytes + m->at;
    m->at += (size_t)length;
    if (length > sizeof v)
        return push_text(m, PICKLE_LONG, from, (size_t)length);
    for (size_t i = 0; i < length; i++)
        v |= (uint64_t)from[i] << 8 * i;
    if (length && length < sizeof v && from[length - 1] & 0x80)
        v |= UINT64_MAX << 8 * length;
    return push_integer(m, PICKLE_INTEGER, (int64_t)v);
}

/* "12", "12L", and for truth "00", "01". */
static int push_written_integer(struct machine *m)
{
    const char *line;
    size_t length;
    int64_t v;
    int status = get_line(m, &line, &length);

    if (status < 0)
        return status;
    if (length == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return push_integer(m, PICKLE_BOOL, line[1] == '1');
    if (length && line[length - 1] == 'L')
        length--;
    if (number_read_integer(line, length, &v))
        return push_integer(m, PICKLE_INTEGER, v);
    return push_text(m, PICKLE_LONG, line, length);
}

static int push_written_number(struct machine *m)
{
    const char *line;
    size_t length;
    double v = 0;
    int status = get_line(m, &line, &length);

    if (status < 0)
        return status;
    number_read(line, length, &v);       /* "nan" and the like: 0 will do */
    return push_number(m, v);
}

static int push_binary_number(struct machine *m)
{
    uint64_t bits = 0;
    double v;

    if (!bytes_left(m, 8))
        return early(m);
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | m->bytes[m->at++];
    memcpy(&v, &bits, sizeof v);
    return push_number(m, v);
}

/* A written text; its quotes, if any, go, its escapes stay. */
static int push_written_text(struct machine *m, bool quoted)
{
    const char *line;
    size_t length;
    int status = get_line(m, &line, &length);

    if (status < 0)
        return status;
    if (quoted && length >= 2 && line[0] == line[length - 1]) {
        line++;
        length -= 2;
    }
    return push_text(m, PICKLE_TEXT, line, length);
}

/* ---- what opcodes make ---- */

static int push_global(struct machine *m, const char *module, size_t m_length,
                       const char *name, size_t n_length)
{
    struct pickle_value *v = value_new(m, PICKLE_GLOBAL);
    char *text;

    if (!v)
        return m->failed;
    if (!(text = take(m, m_length + n_length + 2)))
        return EBM_ERR_NOMEM;
    memcpy(text, module, m_length);
    text[m_length] = '.';
    memcpy(text + m_length + 1, name, n_length);
    text[m_length + 1 + n_length] = '\0';
    v->text = text;
    v->length = m_length + 1 + n_length;
    return push(m, v);
}

static int push_written_global(struct machine *m)
{
    const char *module, *name;
    size_t m_length, n_length;
    int status;

    if ((status = get_line(m, &module, &m_length)) < 0 || (status = get_line(m, &name, &n_length)) < 0)
        return status;
    return push_global(m, module, m_length, name, n_length);
}

static int push_stack_global(struct machine *m)
{
    if (!has(m, 2))
        return underflow(m);
    const struct pickle_value *name = pop(m), *module = pop(m);
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return malformed(m, "a name is no text");
    return push_global(m, module->text, module->length, name->text, name->length);
}

static int push_object(struct machine *m, const struct pickle_value *callable,
                       const struct pickle_value *arguments)
{
    struct pickle_value *v = value_new(m, PICKLE_OBJECT);

    if (v) {
        v->callable = callable;
        v->arguments = arguments;
    }
    return push(m, v);
}

/* callable, arguments, and for NEWOBJ_EX named arguments: an object. */
static int make_object(struct machine *m, bool named)
{
    if (!has(m, named ? 3 : 2))
        return underflow(m);
    if (named)
        pop(m);
    const struct pickle_value *arguments = pop(m), *callable = pop(m);
    return push_object(m, callable, arguments);
}

static int push_persistent(struct machine *m, const struct pickle_value *id)
{
    struct pickle_value *v = value_new(m, PICKLE_PERSISTENT);

    if (!v)
        return m->failed;
    v->arguments = id;
    return list_add(m, &m->pickle->persistent, v) < 0 ? EBM_ERR_NOMEM : push(m, v);
}

static int push_container(struct machine *m, enum pickle_kind kind,
                          const struct pickle_value *const *items, size_t count)
{
    struct pickle_value *v = value_new(m, kind);
    int status;

    if (!v)
        return m->failed;
    if (kind == PICKLE_DICT && count % 2)
        return malformed(m, "a key has no value");
    if ((status = add_items(m, v, items, count)) < 0)
        return status;
    return push(m, v);
}

static int collect(struct machine *m, enum pickle_kind kind)
{
    const struct pickle_value *const *items = NULL;
    size_t count = 0;
    int status = pop_to_mark(m, &items, &count);

    /* The items lie just above the stack, which grows by one only after they have
     * been copied. */
    return status < 0 ? status : push_container(m, kind, items, count);
}

static int collect_few(struct machine *m, size_t count)
{
    if (!has(m, count))
        return underflow(m);
    m->stack.count -= count;
    return push_container(m, PICKLE_TUPLE, m->stack.v + m->stack.count, count);
}

/* mark, callable, arguments: the protocol-0 forms of an object. */
static int collect_object(struct machine *m, bool callable_is_written)
{
    const struct pickle_value *const *items = NULL, *callable = NULL;
    size_t count = 0;
    int status;

    if (callable_is_written && (status = push_written_global(m)) < 0)
        return status;
    if (callable_is_written)
        callable = pop(m);
    if ((status = pop_to_mark(m, &items, &count)) < 0)
        return status;
    if (!callable_is_written) {
        if (count == 0)
            return underflow(m);
        callable = *items++;
        count--;
    }
    if ((status = push_container(m, PICKLE_TUPLE, items, count)) < 0)
        return status;
    return push_object(m, callable, pop(m));
}

/* Items for the container below them: pairs, or an element each. */
static int put_items(struct machine *m, const struct pickle_value *const *items, size_t count,
                     bool pairs)
{
    if (!has(m, 1))
        return underflow(m);
    struct pickle_value *to = (struct pickle_value *)m->stack.v[m->stack.count - 1];
    bool takes = to->kind == PICKLE_OBJECT
              || to->kind == (pairs ? PICKLE_DICT : PICKLE_LIST)
              || (!pairs && to->kind == PICKLE_SET);
    if (!takes || (pairs && count % 2))
        return malformed(m, "items for what takes none");
    if (to->kind == PICKLE_OBJECT && to->count && to->appended == pairs)
        return malformed(m, "an object that is both a list and a dictionary");
    to->appended = to->kind == PICKLE_OBJECT && !pairs;
    return add_items(m, to, items, count);
}

static int put_few(struct machine *m, size_t count, bool pairs)
{
    if (!has(m, count + 1))
        return underflow(m);
    m->stack.count -= count;
    return put_items(m, m->stack.v + m->stack.count, count, pairs);
}

static int put_collected(struct machine *m, bool pairs)
{
    const struct pickle_value *const *items = NULL;
    size_t count = 0;
    int status = pop_to_mark(m, &items, &count);

    return status < 0 ? status : put_items(m, items, count, pairs);
}

static int set_state(struct machine *m)
{
    if (!has(m, 2))
        return underflow(m);
    const struct pickle_value *state = pop(m);
    struct pickle_value *to = (struct pickle_value *)m->stack.v[m->stack.count - 1];
    if (to->kind == PICKLE_OBJECT)       /* of others, as PyTorch's tensors', it is not kept */
        to->state = state;
    return EBM_OK;
}

/* ---- the memo ---- */

static int remember(struct machine *m, uint64_t index)
{
    int status;

    if (!has(m, 1))
        return underflow(m);
    if (index >= m->at)
        return malformed(m, "a memo of this number");
    while (m->memo.count <= index)
        if ((status = list_add(m, &m->memo, NULL)) < 0)
            return status;
    m->memo.v[index] = m->stack.v[m->stack.count - 1];
    if (index >= m->memo_next)
        m->memo_next = (size_t)index + 1;
    return EBM_OK;
}

static int recall(struct machine *m, uint64_t index)
{
    if (index >= m->memo.count || !m->memo.v[index])
        return malformed(m, "a value that was not remembered");
    return list_add(m, &m->stack, m->memo.v[index]);
}

static int use_memo(struct machine *m, int (*use)(struct machine *, uint64_t), int bytes)
{
    const char *line;
    size_t length;
    uint64_t index;
    int64_t written;
    int status;

    if (bytes)
        return get(m, bytes, &index) ? use(m, index) : early(m);
    if ((status = get_line(m, &line, &length)) < 0)
        return status;
    if (!number_read_integer(line, length, &written) || written < 0)
        return malformed(m, "a memo of no number");
    return use(m, (uint64_t)written);
}

/* ---- one opcode ---- */

static int drop(struct machine *m)
{
    if (m->n_marks && above_mark(m) == 0) {
        m->n_marks--;
        return EBM_OK;
    }
    if (!has(m, 1))
        return underflow(m);
    pop(m);
    return EBM_OK;
}

static int duplicate(struct machine *m)
{
    return has(m, 1) ? list_add(m, &m->stack, m->stack.v[m->stack.count - 1]) : underflow(m);
}

static int drop_to_mark(struct machine *m)
{
    const struct pickle_value *const *items = NULL;
    size_t count = 0;

    return pop_to_mark(m, &items, &count);
}

static int check_protocol(struct machine *m)
{
    uint64_t v;

    if (!get(m, 1, &v))
        return early(m);
    return v <= PROTOCOL_MAX ? EBM_OK : malformed(m, "a protocol that is not known");
}

/* Frames only help those who read ahead. */
static int skip_frame(struct machine *m)
{
    uint64_t v;

    return get(m, 8, &v) ? EBM_OK : early(m);
}

static int push_fixed(struct machine *m, int bytes, bool sign)
{
    uint64_t v;

    if (!get(m, bytes, &v))
        return early(m);
    return push_integer(m, PICKLE_INTEGER, sign ? (int32_t)(uint32_t)v : (int64_t)v);
}

static int push_written_persistent(struct machine *m)
{
    int status = push_written_text(m, false);

    return status < 0 ? status : push_persistent(m, pop(m));
}

static int stop(struct machine *m)
{
    if (!has(m, 1))
        return underflow(m);
    if (m->stack.count != 1 || m->n_marks)
        return malformed(m, "values are left over");
    m->pickle->root = pop(m);
    m->stopped = true;
    return EBM_OK;
}

static int run_opcode(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 'N':  return push(m, value_new(m, PICKLE_NONE));
    case 0x88: return push_integer(m, PICKLE_BOOL, 1);
    case 0x89: return push_integer(m, PICKLE_BOOL, 0);
    case 'K':  return push_fixed(m, 1, false);
    case 'M':  return push_fixed(m, 2, false);
    case 'J':  return push_fixed(m, 4, true);
    case 'I': case 'L': return push_written_integer(m);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'F':  return push_written_number(m);
    case 'G':  return push_binary_number(m);
    case 'S':  return push_written_text(m, true);
    case 'V':  return push_written_text(m, false);
    case 'U': case 0x8c: return push_counted(m, PICKLE_TEXT, 1);
    case 'T': case 'X':  return push_counted(m, PICKLE_TEXT, 4);
    case 0x8d: return push_counted(m, PICKLE_TEXT, 8);
    case 'C':  return push_counted(m, PICKLE_BYTES, 1);
    case 'B':  return push_counted(m, PICKLE_BYTES, 4);
    case 0x8e: case 0x96: return push_counted(m, PICKLE_BYTES, 8);
    case ')':  return push(m, value_new(m, PICKLE_TUPLE));
    case ']':  return push(m, value_new(m, PICKLE_LIST));
    case '}':  return push(m, value_new(m, PICKLE_DICT));
    case 0x8f: return push(m, value_new(m, PICKLE_SET));
    case 0x85: return collect_few(m, 1);
    case 0x86: return collect_few(m, 2);
    case 0x87: return collect_few(m, 3);
    case 't':  return collect(m, PICKLE_TUPLE);
    case 'l':  return collect(m, PICKLE_LIST);
    case 'd':  return collect(m, PICKLE_DICT);
    case 0x91: return collect(m, PICKLE_SET);
    case 'a':  return put_few(m, 1, false);
    case 's':  return put_few(m, 2, true);
    case 'e': case 0x90: return put_collected(m, false);
    case 'u':  return put_collected(m, true);
    case '(':  return push_mark(m);
    case '0':  return drop(m);
    case '1':  return drop_to_mark(m);
    case '2':  return duplicate(m);
    case 'p':  return use_memo(m, remember, 0);
    case 'q':  return use_memo(m, remember, 1);
    case 'r':  return use_memo(m, remember, 4);
    case 0x94: return remember(m, m->memo_next);
    case 'g':  return use_memo(m, recall, 0);
    case 'h':  return use_memo(m, recall, 1);
    case 'j':  return use_memo(m, recall, 4);
    case 'c':  return push_written_global(m);
    case 0x93: return push_stack_global(m);
    case 'R': case 0x81: return make_object(m, false);
    case 0x92: return make_object(m, true);
    case 'i':  return collect_object(m, true);
    case 'o':  return collect_object(m, false);
    case 'b':  return set_state(m);
    case 'P':  return push_written_persistent(m);
    case 'Q':  return has(m, 1) ? push_persistent(m, pop(m)) : underflow(m);
    case 0x80: return check_protocol(m);
    case 0x95: return skip_frame(m);
    case '.':  return stop(m);
    default:   return malformed(m, "an opcode that is not known");
    }
}

int pickle_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
                struct pickle **pickle, size_t *used)
{
    struct machine m = { .ctx = ctx, .name = name, .bytes = bytes, .size = size };
    int status;

    *pickle = NULL;
    if (!(m.pickle = mem_new(ctx, 1, sizeof *m.pickle)))
        return EBM_ERR_NOMEM;
    m.pickle->ctx = ctx;
    status = list_add(&m, &m.stack, NULL);       /* so that there is one, even if empty */
    m.stack.count = 0;
    while (status >= 0 && !m.stopped) {
        m.opcode_at = m.at;
        status = m.at < size ? run_opcode(&m, bytes[m.at++]) : malformed(&m, "it ends early");
    }
    mem_free(ctx, m.stack.v);
    mem_free(ctx, m.memo.v);
    mem_free(ctx, m.marks);
    *used = m.at;
    if (status < 0)
        pickle_free(m.pickle);
    else
        *pickle = m.pickle;
    return status;
}

void pickle_free(struct pickle *p)
{
    if (!p)
        return;
    while (p->blocks) {
        struct block *next = p->blocks->next;
        mem_free(p->ctx, p->blocks);
        p->blocks = next;
    }
    mem_free(p->ctx, p->persistent.v);
    mem_free(p->ctx, p);
}

/* ---- looking at values ---- */

const struct pickle_value *pickle_root(const struct pickle *p)
{
    return p->root;
}

size_t pickle_values(const struct pickle *p)
{
    return p->values;
}

const struct pickle_value *pickle_persistent(const struct pickle *p, size_t i)
{
    return i < p->persistent.count ? p->persistent.v[i] : NULL;
}

const struct pickle_value *pickle_get(const struct pickle_value *v, const char *key)
{
    for (int turn = 0; v && turn < 2; turn++) {
        if (v->kind == PICKLE_DICT || (v->kind == PICKLE_OBJECT && !v->appended))
            for (size_t i = v->count; i > 1; i -= 2)      /* the last of equal keys counts */
                if (pickle_is_text(v->items[i - 2], key))
                    return v->items[i - 1];
        v = v->kind == PICKLE_OBJECT ? v->state : NULL;
    }
    return NULL;
}

const struct pickle_value *pickle_item(const struct pickle_value *v, size_t i)
{
    bool list = v && (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST);

    return list && i < v->count ? v->items[i] : NULL;
}

bool pickle_is_text(const struct pickle_value *v, const char *text)
{
    return v && v->kind == PICKLE_TEXT && strcmp(v->text, text) == 0;
}

bool pickle_is_global(const struct pickle_value *v, const char *name)
{
    return v && v->kind == PICKLE_GLOBAL && strcmp(v->text, name) == 0;
}
