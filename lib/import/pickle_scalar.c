/* pickle_scalar.c - opcodes of numbers and texts.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "number.h"
#include "pickle_machine.h"

enum { LINE_MAX_LENGTH = 1 << 16 };

int machine_early(struct machine *m)
{
    return machine_malformed(m, "it ends within an opcode");
}

static bool bytes_left(const struct machine *m, uint64_t count)
{
    return count <= m->size - m->at;
}

/* A little-endian number. */
bool machine_get(struct machine *m, int bytes, uint64_t *v)
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
    char *copy = machine_take(m, length + 1);

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
    struct pickle_value *v = machine_value_new(m, kind);

    if (!v)
        return m->failed;
    return copy_text(m, v, from, length) < 0 ? EBM_ERR_NOMEM : machine_push(m, v);
}

/* A length of so many bytes, and then the text. */
int machine_push_counted(struct machine *m, enum pickle_kind kind, int bytes)
{
    uint64_t length;

    if (!machine_get(m, bytes, &length) || !bytes_left(m, length))
        return machine_early(m);
    m->at += (size_t)length;
    return push_text(m, kind, m->bytes + m->at - length, (size_t)length);
}

/* The rest of a line, without its end. */
int machine_get_line(struct machine *m, const char **line, size_t *length)
{
    const uint8_t *from = m->bytes + m->at, *end = memchr(from, '\n', m->size - m->at);

    if (!end)
        return machine_early(m);
    *line = (const char *)from;
    *length = (size_t)(end - from);
    m->at += *length + 1;
    return *length <= LINE_MAX_LENGTH ? EBM_OK : machine_malformed(m, "a line is too long");
}

int machine_push_integer(struct machine *m, enum pickle_kind kind, int64_t integer)
{
    struct pickle_value *v = machine_value_new(m, kind);

    if (v)
        v->integer = integer;
    return machine_push(m, v);
}

static int push_number(struct machine *m, double number)
{
    struct pickle_value *v = machine_value_new(m, PICKLE_NUMBER);

    if (v)
        v->number = number;
    return machine_push(m, v);
}

/* Two's complement, little-endian; what is longer than 8 bytes stays as bytes. */
int machine_push_long(struct machine *m, int bytes)
{
    uint64_t length, v = 0;

    if (!machine_get(m, bytes, &length) || !bytes_left(m, length))
        return machine_early(m);
    const uint8_t *from = m->bytes + m->at;
    m->at += (size_t)length;
    if (length > sizeof v)
        return push_text(m, PICKLE_LONG, from, (size_t)length);
    for (size_t i = 0; i < length; i++)
        v |= (uint64_t)from[i] << 8 * i;
    if (length && length < sizeof v && from[length - 1] & 0x80)
        v |= UINT64_MAX << 8 * length;
    return machine_push_integer(m, PICKLE_INTEGER, (int64_t)v);
}

/* "12", "12L", and for truth "00", "01". */
int machine_push_written_integer(struct machine *m)
{
    const char *line;
    size_t length;
    int64_t v;
    int status = machine_get_line(m, &line, &length);

    if (status < 0)
        return status;
    if (length == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1'))
        return machine_push_integer(m, PICKLE_BOOL, line[1] == '1');
    if (length && line[length - 1] == 'L')
        length--;
    if (number_read_integer(line, length, &v))
        return machine_push_integer(m, PICKLE_INTEGER, v);
    return push_text(m, PICKLE_LONG, line, length);
}

int machine_push_written_number(struct machine *m)
{
    const char *line;
    size_t length;
    double v = 0;
    int status = machine_get_line(m, &line, &length);

    if (status < 0)
        return status;
    number_read(line, length, &v);       /* "nan" and the like: 0 will do */
    return push_number(m, v);
}

int machine_push_binary_number(struct machine *m)
{
    uint64_t bits = 0;
    double v;

    if (!bytes_left(m, 8))
        return machine_early(m);
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | m->bytes[m->at++];
    memcpy(&v, &bits, sizeof v);
    return push_number(m, v);
}

/* A written text; its quotes, if any, go, its escapes stay. */
int machine_push_written_text(struct machine *m, bool quoted)
{
    const char *line;
    size_t length;
    int status = machine_get_line(m, &line, &length);

    if (status < 0)
        return status;
    if (quoted && length >= 2 && line[0] == line[length - 1]) {
        line++;
        length -= 2;
    }
    return push_text(m, PICKLE_TEXT, line, length);
}

int machine_push_fixed(struct machine *m, int bytes, bool sign)
{
    uint64_t v;

    if (!machine_get(m, bytes, &v))
        return machine_early(m);
    return machine_push_integer(m, PICKLE_INTEGER, sign ? (int32_t)(uint32_t)v : (int64_t)v);
}
