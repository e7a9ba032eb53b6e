/* tap.h - tests that speak TAP, the Test Anything Protocol, version 12.
 *
 * SPDX-License-Identifier: ISC
 *
 * A test program is one C file that includes this header:
 *
 *     int main(void)
 *     {
 *         tap_ok(1 + 1 == 2, "one and one are %d", 2);
 *         return tap_done();
 *     }
 *
 * The plan is printed last, so a program that dies midway is a failure. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __GNUC__
#define TAP_PRINTF(m, n) __attribute__((format(printf, m, n), unused))
#define TAP_UNUSED __attribute__((unused))
#else
#define TAP_PRINTF(m, n)
#define TAP_UNUSED
#endif

static int tap_count, tap_failures;

/* One claim; returns cond.  The text names the claim and its case. */
TAP_PRINTF(2, 3)
static bool tap_ok(bool cond, const char *format, ...)
{
    va_list args;

    if (!cond)
        tap_failures++;
    printf("%s %d - ", cond ? "ok" : "not ok", ++tap_count);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    return cond;
}

/* A line for the reader of the log: figures, messages. */
TAP_PRINTF(1, 2)
static void tap_note(const char *format, ...)
{
    va_list args;

    printf("# ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* One claim that cannot be examined here, and why. */
TAP_PRINTF(1, 2)
static void tap_skip(const char *reason, ...)
{
    va_list args;

    printf("ok %d # SKIP ", ++tap_count);
    va_start(args, reason);
    vprintf(reason, args);
    va_end(args);
    putchar('\n');
}

/* None of the claims can be examined here: ends the program. */
TAP_PRINTF(1, 2)
static void tap_skip_all(const char *reason, ...)
{
    va_list args;

    printf("1..0 # SKIP ");
    va_start(args, reason);
    vprintf(reason, args);
    va_end(args);
    putchar('\n');
    exit(EXIT_SUCCESS);
}

/* The end: prints the plan; what main returns. */
TAP_UNUSED
static int tap_done(void)
{
    printf("1..%d\n", tap_count);
    return tap_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
