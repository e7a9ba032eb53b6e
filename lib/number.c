/* number.c - numbers as text, the same in every locale.
 *
 * SPDX-License-Identifier: ISC
 *
 * The C library prints and reads with the decimal sign of the caller's locale,
 * "0,5" in some; files always have the point, so it is exchanged here. */
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "number.h"

enum { MAX_TEXT = 64 };     /* longer ones are refused: no number needs it */

static const char *decimal_sign(void)
{
    const struct lconv *l = localeconv();

    return l->decimal_point && *l->decimal_point ? l->decimal_point : ".";
}

void number_write(double value, char text[NUMBER_TEXT])
{
    if (isnan(value) || isinf(value)) {
        strcpy(text, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
        return;
    }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, NUMBER_TEXT, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    const char *sign = decimal_sign();
    char *at = strstr(text, sign);
    if (at) {
        *at = '.';
        memmove(at + 1, at + strlen(sign), strlen(at + strlen(sign)) + 1);
    }
}

bool number_read(const char *text, size_t size, double *value)
{
    char local[2 * MAX_TEXT];
    size_t n = 0;
    const char *sign = decimal_sign();

    if (size == 0 || size > MAX_TEXT || strlen(sign) > MAX_TEXT)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '.') {
            if (memchr(text, '.', i))
                return false;
            memcpy(local + n, sign, strlen(sign));
            n += strlen(sign);
        } else {
            local[n++] = text[i];
        }
    }
    local[n] = 0;
    if (!strcmp(local, "inf") || !strcmp(local, "-inf")) {
        *value = *local == '-' ? -HUGE_VAL : HUGE_VAL;
        return true;
    }
    /* strtod also takes blanks, hexadecimal and "nan" */
    if (strspn(text, "+-.0123456789eE") < size)
        return false;
    char *end;
    *value = strtod(local, &end);
    return end == local + n && !isinf(*value);
}

bool number_read_integer(const char *text, size_t size, int64_t *value)
{
    char local[MAX_TEXT + 1], *end;
    double real;

    if (size == 0 || size > MAX_TEXT)
        return false;
    memcpy(local, text, size);
    local[size] = 0;
    if (strspn(local, "+-0123456789") == size) {
        errno = 0;
        intmax_t n = strtoimax(local, &end, 10);
        *value = (int64_t)n;
        return !*end && !errno && n >= INT64_MIN && n <= INT64_MAX;
    }
    /* 2^53: up to there every integer is a double */
    if (!number_read(text, size, &real) || !(fabs(real) <= 9007199254740992.0)
        || floor(real) != real)
        return false;
    *value = (int64_t)real;
    return true;
}
