/* pickle_memo.c - opcodes that keep a value and push it again.
 *
 * SPDX-License-Identifier: ISC */
#include "number.h"
#include "pickle_machine.h"

int machine_remember(struct machine *m, uint64_t index)
{
    int status;

    if (!machine_has(m, 1))
        return machine_underflow(m);
    if (index >= m->at)
        return machine_malformed(m, "a memo of this number");
    while (m->memo.count <= index)
        if ((status = machine_list_add(m, &m->memo, NULL)) < 0)
            return status;
    m->memo.v[index] = m->stack.v[m->stack.count - 1];
    if (index >= m->memo_next)
        m->memo_next = (size_t)index + 1;
    return EBM_OK;
}

int machine_recall(struct machine *m, uint64_t index)
{
    if (index >= m->memo.count || !m->memo.v[index])
        return machine_malformed(m, "a value that was not remembered");
    return machine_list_add(m, &m->stack, m->memo.v[index]);
}

int machine_use_memo(struct machine *m, int (*use)(struct machine *, uint64_t), int bytes)
{
    const char *line;
    size_t length;
    uint64_t index;
    int64_t written;
    int status;

    if (bytes)
        return machine_get(m, bytes, &index) ? use(m, index) : machine_early(m);
    if ((status = machine_get_line(m, &line, &length)) < 0)
        return status;
    if (!number_read_integer(line, length, &written) || written < 0)
        return machine_malformed(m, "a memo of no number");
    return use(m, (uint64_t)written);
}
