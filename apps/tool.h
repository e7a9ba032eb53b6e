/* tool.h - what all tools share: their start, their messages, how they end.
 *
 * SPDX-License-Identifier: ISC
 *
 * Results go to stdout and nothing else does; messages, warnings and progress go
 * to stderr, each line with the tool's name before it. */
#ifndef EBM_TOOL_H
#define EBM_TOOL_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "ebm.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

#ifdef __GNUC__
#define PRINTF(m, n) __attribute__((format(printf, m, n)))
#else
#define PRINTF(m, n)
#endif

/* Exit statuses, as the man pages have them. */
enum {
    EXIT_DONE = 0, EXIT_USAGE = 2, EXIT_FORMAT = 3, EXIT_IO = 4, EXIT_MEMORY = 5,
    EXIT_DEVICE = 6, EXIT_DIVERGED = 7, EXIT_DEFECT = 70, EXIT_STOPPED = 75
};

/* The name before messages, and a context that logs to stderr; NULL (after a
 * message) without memory. */
ebm_context *tool_start(const char *name);
/* Warnings and errors alone from now on. */
void tool_be_quiet(bool quiet);

/* Say something on stderr; tool_inform() not when quiet. */
void tool_say(const char *format, ...) PRINTF(1, 2);
void tool_inform(const char *format, ...) PRINTF(1, 2);
/* Say what failed, and the exit status for it. */
int tool_fail(const ebm_context *context, int status);
int tool_fail_memory(void);

/* A JSON object on stdout, released then; 0, or the exit status without memory. */
int tool_print_json(json_t *object);
/* The exit status once all results are out: EXIT_IO, said, if stdout is full or
 * closed, else `status`. */
int tool_end(int status);

/* A number for JSON: null where JSON has none. */
json_t *tool_json_number(double v);

/* A seed for those who gave none: below 2^32, easy to type again. */
uint64_t tool_random_seed(void);

#endif
