/* pickle_machine.h - the stack machine that a pickle is a program for.
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
 * have been read.  Functions return a status. */
#ifndef EBM_PICKLE_MACHINE_H
#define EBM_PICKLE_MACHINE_H

#include "pickle.h"

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

int machine_malformed(struct machine *m, const char *what);
int machine_underflow(struct machine *m);
int machine_early(struct machine *m);

/* Memory: NULL where there is none, of values with m->failed saying why. */
void *machine_take(struct machine *m, size_t bytes);
struct pickle_value *machine_value_new(struct machine *m, enum pickle_kind kind);
int machine_list_add(struct machine *m, struct list *list, const struct pickle_value *v);
int machine_add_items(struct machine *m, struct pickle_value *v,
                      const struct pickle_value *const *items, size_t count);

/* The stack.  What is popped has been asked for by machine_has(), which sees the
 * values above the last mark. */
int machine_push(struct machine *m, const struct pickle_value *v);   /* NULL: m->failed */
bool machine_has(const struct machine *m, size_t count);
const struct pickle_value *machine_pop(struct machine *m);
int machine_push_mark(struct machine *m);
int machine_pop_to_mark(struct machine *m, const struct pickle_value *const **items, size_t *count);
int machine_drop(struct machine *m);
int machine_drop_to_mark(struct machine *m);
int machine_duplicate(struct machine *m);

/* Numbers and texts, read from the bytes (pickle_scalar.c). */
bool machine_get(struct machine *m, int bytes, uint64_t *v);
int machine_get_line(struct machine *m, const char **line, size_t *length);
int machine_push_integer(struct machine *m, enum pickle_kind kind, int64_t integer);
int machine_push_fixed(struct machine *m, int bytes, bool sign);
int machine_push_long(struct machine *m, int bytes);
int machine_push_binary_number(struct machine *m);
int machine_push_counted(struct machine *m, enum pickle_kind kind, int bytes);
int machine_push_written_integer(struct machine *m);
int machine_push_written_number(struct machine *m);
int machine_push_written_text(struct machine *m, bool quoted);

/* Names, objects, containers (pickle_object.c). */
int machine_push_written_global(struct machine *m);
int machine_push_stack_global(struct machine *m);
int machine_push_persistent(struct machine *m, const struct pickle_value *id);
int machine_push_written_persistent(struct machine *m);
int machine_make_object(struct machine *m, bool named);
int machine_collect(struct machine *m, enum pickle_kind kind);
int machine_collect_few(struct machine *m, size_t count);
int machine_collect_object(struct machine *m, bool callable_is_written);
int machine_put_few(struct machine *m, size_t count, bool pairs);
int machine_put_collected(struct machine *m, bool pairs);
int machine_set_state(struct machine *m);

/* The memo (pickle_memo.c).  use: the first two, with an index that is read; in
 * so many bytes, 0: written. */
int machine_remember(struct machine *m, uint64_t index);
int machine_recall(struct machine *m, uint64_t index);
int machine_use_memo(struct machine *m, int (*use)(struct machine *, uint64_t), int bytes);

#endif
