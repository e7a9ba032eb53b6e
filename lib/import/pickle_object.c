/* pickle_object.c - opcodes of names, objects and containers.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "pickle_machine.h"

static int push_global(struct machine *m, const char *module, size_t m_length,
                       const char *name, size_t n_length)
{
    struct pickle_value *v = machine_value_new(m, PICKLE_GLOBAL);
    char *text;

    if (!v)
        return m->failed;
    if (!(text = machine_take(m, m_length + n_length + 2)))
        return EBM_ERR_NOMEM;
    memcpy(text, module, m_length);
    text[m_length] = '.';
    memcpy(text + m_length + 1, name, n_length);
    text[m_length + 1 + n_length] = '\0';
    v->text = text;
    v->length = m_length + 1 + n_length;
    return machine_push(m, v);
}

int machine_push_written_global(struct machine *m)
{
    const char *module, *name;
    size_t m_length, n_length;
    int status;

    if ((status = machine_get_line(m, &module, &m_length)) < 0
        || (status = machine_get_line(m, &name, &n_length)) < 0)
        return status;
    return push_global(m, module, m_length, name, n_length);
}

int machine_push_stack_global(struct machine *m)
{
    if (!machine_has(m, 2))
        return machine_underflow(m);
    const struct pickle_value *name = machine_pop(m), *module = machine_pop(m);
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return machine_malformed(m, "a name is no text");
    return push_global(m, module->text, module->length, name->text, name->length);
}

static int push_object(struct machine *m, const struct pickle_value *callable,
                       const struct pickle_value *arguments)
{
    struct pickle_value *v = machine_value_new(m, PICKLE_OBJECT);

    if (v) {
        v->callable = callable;
        v->arguments = arguments;
    }
    return machine_push(m, v);
}

/* callable, arguments, and for NEWOBJ_EX named arguments: an object. */
int machine_make_object(struct machine *m, bool named)
{
    if (!machine_has(m, named ? 3 : 2))
        return machine_underflow(m);
    if (named)
        machine_pop(m);
    const struct pickle_value *arguments = machine_pop(m), *callable = machine_pop(m);
    return push_object(m, callable, arguments);
}

int machine_push_persistent(struct machine *m, const struct pickle_value *id)
{
    struct pickle_value *v = machine_value_new(m, PICKLE_PERSISTENT);

    if (!v)
        return m->failed;
    v->arguments = id;
    return machine_list_add(m, &m->pickle->persistent, v) < 0 ? EBM_ERR_NOMEM : machine_push(m, v);
}

static int push_container(struct machine *m, enum pickle_kind kind,
                          const struct pickle_value *const *items, size_t count)
{
    struct pickle_value *v = machine_value_new(m, kind);
    int status;

    if (!v)
        return m->failed;
    if (kind == PICKLE_DICT && count % 2)
        return machine_malformed(m, "a key has no value");
    if ((status = machine_add_items(m, v, items, count)) < 0)
        return status;
    return machine_push(m, v);
}

int machine_collect(struct machine *m, enum pickle_kind kind)
{
    const struct pickle_value *const *items = NULL;
    size_t count = 0;
    int status = machine_pop_to_mark(m, &items, &count);

    /* The items lie just above the stack, which grows by one only after they have
     * been copied. */
    return status < 0 ? status : push_container(m, kind, items, count);
}

int machine_collect_few(struct machine *m, size_t count)
{
    if (!machine_has(m, count))
        return machine_underflow(m);
    m->stack.count -= count;
    return push_container(m, PICKLE_TUPLE, m->stack.v + m->stack.count, count);
}

/* mark, callable, arguments: the protocol-0 forms of an object. */
int machine_collect_object(struct machine *m, bool callable_is_written)
{
    const struct pickle_value *const *items = NULL, *callable = NULL;
    size_t count = 0;
    int status;

    if (callable_is_written && (status = machine_push_written_global(m)) < 0)
        return status;
    if (callable_is_written)
        callable = machine_pop(m);
    if ((status = machine_pop_to_mark(m, &items, &count)) < 0)
        return status;
    if (!callable_is_written) {
        if (count == 0)
            return machine_underflow(m);
        callable = *items++;
        count--;
    }
    if ((status = push_container(m, PICKLE_TUPLE, items, count)) < 0)
        return status;
    return push_object(m, callable, machine_pop(m));
}

/* Items for the container below them: pairs, or an element each. */
static int put_items(struct machine *m, const struct pickle_value *const *items, size_t count,
                     bool pairs)
{
    if (!machine_has(m, 1))
        return machine_underflow(m);
    struct pickle_value *to = (struct pickle_value *)m->stack.v[m->stack.count - 1];
    bool takes = to->kind == PICKLE_OBJECT
              || to->kind == (pairs ? PICKLE_DICT : PICKLE_LIST)
              || (!pairs && to->kind == PICKLE_SET);
    if (!takes || (pairs && count % 2))
        return machine_malformed(m, "items for what takes none");
    if (to->kind == PICKLE_OBJECT && to->count && to->appended == pairs)
        return machine_malformed(m, "an object that is both a list and a dictionary");
    to->appended = to->kind == PICKLE_OBJECT && !pairs;
    return machine_add_items(m, to, items, count);
}

int machine_put_few(struct machine *m, size_t count, bool pairs)
{
    if (!machine_has(m, count + 1))
        return machine_underflow(m);
    m->stack.count -= count;
    return put_items(m, m->stack.v + m->stack.count, count, pairs);
}

int machine_put_collected(struct machine *m, bool pairs)
{
    const struct pickle_value *const *items = NULL;
    size_t count = 0;
    int status = machine_pop_to_mark(m, &items, &count);

    return status < 0 ? status : put_items(m, items, count, pairs);
}

int machine_set_state(struct machine *m)
{
    if (!machine_has(m, 2))
        return machine_underflow(m);
    const struct pickle_value *state = machine_pop(m);
    struct pickle_value *to = (struct pickle_value *)m->stack.v[m->stack.count - 1];
    if (to->kind == PICKLE_OBJECT)       /* of others, as PyTorch's tensors', it is not kept */
        to->state = state;
    return EBM_OK;
}

int machine_push_written_persistent(struct machine *m)
{
    int status = machine_push_written_text(m, false);

    return status < 0 ? status : machine_push_persistent(m, machine_pop(m));
}
