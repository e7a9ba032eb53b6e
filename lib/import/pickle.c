/* pickle.c - running the opcodes of a pickle; see pickle.h.
 *
 * Source: the opcodes as Python's module pickletools documents them.
 *
 * SPDX-License-Identifier: ISC */
#include "pickle_machine.h"

enum { PROTOCOL_MAX = 5 };

static int check_protocol(struct machine *m)
{
    uint64_t v;

    if (!machine_get(m, 1, &v))
        return machine_early(m);
    return v <= PROTOCOL_MAX ? EBM_OK : machine_malformed(m, "a protocol that is not known");
}

/* Frames only help those who read ahead. */
static int skip_frame(struct machine *m)
{
    uint64_t v;

    return machine_get(m, 8, &v) ? EBM_OK : machine_early(m);
}

static int stop(struct machine *m)
{
    if (!machine_has(m, 1))
        return machine_underflow(m);
    if (m->stack.count != 1 || m->n_marks)
        return machine_malformed(m, "values are left over");
    m->pickle->root = machine_pop(m);
    m->stopped = true;
    return EBM_OK;
}

static int run_opcode(struct machine *m, uint8_t opcode)
{
    switch (opcode) {
    case 'N':  return machine_push(m, machine_value_new(m, PICKLE_NONE));
    case 0x88: return machine_push_integer(m, PICKLE_BOOL, 1);
    case 0x89: return machine_push_integer(m, PICKLE_BOOL, 0);
    case 'K':  return machine_push_fixed(m, 1, false);
    case 'M':  return machine_push_fixed(m, 2, false);
    case 'J':  return machine_push_fixed(m, 4, true);
    case 'I': case 'L': return machine_push_written_integer(m);
    case 0x8a: return machine_push_long(m, 1);
    case 0x8b: return machine_push_long(m, 4);
    case 'F':  return machine_push_written_number(m);
    case 'G':  return machine_push_binary_number(m);
    case 'S':  return machine_push_written_text(m, true);
    case 'V':  return machine_push_written_text(m, false);
    case 'U': case 0x8c: return machine_push_counted(m, PICKLE_TEXT, 1);
    case 'T': case 'X':  return machine_push_counted(m, PICKLE_TEXT, 4);
    case 0x8d: return machine_push_counted(m, PICKLE_TEXT, 8);
    case 'C':  return machine_push_counted(m, PICKLE_BYTES, 1);
    case 'B':  return machine_push_counted(m, PICKLE_BYTES, 4);
    case 0x8e: case 0x96: return machine_push_counted(m, PICKLE_BYTES, 8);
    case ')':  return machine_push(m, machine_value_new(m, PICKLE_TUPLE));
    case ']':  return machine_push(m, machine_value_new(m, PICKLE_LIST));
    case '}':  return machine_push(m, machine_value_new(m, PICKLE_DICT));
    case 0x8f: return machine_push(m, machine_value_new(m, PICKLE_SET));
    case 0x85: return machine_collect_few(m, 1);
    case 0x86: return machine_collect_few(m, 2);
    case 0x87: return machine_collect_few(m, 3);
    case 't':  return machine_collect(m, PICKLE_TUPLE);
    case 'l':  return machine_collect(m, PICKLE_LIST);
    case 'd':  return machine_collect(m, PICKLE_DICT);
    case 0x91: return machine_collect(m, PICKLE_SET);
    case 'a':  return machine_put_few(m, 1, false);
    case 's':  return machine_put_few(m, 2, true);
    case 'e': case 0x90: return machine_put_collected(m, false);
    case 'u':  return machine_put_collected(m, true);
    case '(':  return machine_push_mark(m);
    case '0':  return machine_drop(m);
    case '1':  return machine_drop_to_mark(m);
    case '2':  return machine_duplicate(m);
    case 'p':  return machine_use_memo(m, machine_remember, 0);
    case 'q':  return machine_use_memo(m, machine_remember, 1);
    case 'r':  return machine_use_memo(m, machine_remember, 4);
    case 0x94: return machine_remember(m, m->memo_next);
    case 'g':  return machine_use_memo(m, machine_recall, 0);
    case 'h':  return machine_use_memo(m, machine_recall, 1);
    case 'j':  return machine_use_memo(m, machine_recall, 4);
    case 'c':  return machine_push_written_global(m);
    case 0x93: return machine_push_stack_global(m);
    case 'R': case 0x81: return machine_make_object(m, false);
    case 0x92: return machine_make_object(m, true);
    case 'i':  return machine_collect_object(m, true);
    case 'o':  return machine_collect_object(m, false);
    case 'b':  return machine_set_state(m);
    case 'P':  return machine_push_written_persistent(m);
    case 'Q':  return machine_has(m, 1) ? machine_push_persistent(m, machine_pop(m)) : machine_underflow(m);
    case 0x80: return check_protocol(m);
    case 0x95: return skip_frame(m);
    case '.':  return stop(m);
    default:   return machine_malformed(m, "an opcode that is not known");
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
    status = machine_list_add(&m, &m.stack, NULL);       /* so that there is one, even if empty */
    m.stack.count = 0;
    while (status >= 0 && !m.stopped) {
        m.opcode_at = m.at;
        status = m.at < size ? run_opcode(&m, bytes[m.at++]) : machine_malformed(&m, "it ends early");
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
