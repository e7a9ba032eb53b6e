/* text.c - text that grows.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "text.h"

/* Room for n characters more and the 0 after them. */
static bool room(struct text *t, size_t n)
{
    if (t->lost || n < t->capacity - t->n)
        return !t->lost;

    size_t capacity = t->capacity ? t->capacity : 1024;
    while (capacity - t->n <= n && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    char *grown = mem_grow(t->ctx, t->s, t->n, capacity, 1);
    if (!grown) {
        t->lost = true;
        return false;
    }
    t->s = grown;
    t->capacity = capacity;
    return true;
}

void text_put_n(struct text *t, const char *s, size_t n)
{
    if (!room(t, n))
        return;
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

void text_put(struct text *t, const char *s)
{
    text_put_n(t, s, strlen(s));
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !room(t, (size_t)n))
        return;
    va_start(args, format);
    vsnprintf(t->s + t->n, (size_t)n + 1, format, args);
    va_end(args);
    t->n += (size_t)n;
}

char *text_take(struct text *t)
{
    text_put_n(t, "", 0);
    if (t->lost) {
        mem_free(t->ctx, t->s);
        t->s = NULL;
    }
    return t->s;
}
