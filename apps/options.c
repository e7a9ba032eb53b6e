/* options.c - the options of a tool as a table, from which they are read and
 * --help is printed.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "options.h"
#include "tool.h"

enum { MAX_ROWS = 32, CODE_HELP = 1000, CODE_VERSION, CODE_FIRST };

static void print_row(const char *name, char letter, const char *argument, const char *help)
{
    char left[64] = "      ";

    if (letter)
        snprintf(left, sizeof left, "  -%c, ", letter);
    snprintf(left + 6, sizeof left - 6, "--%s%s%s", name, argument ? " " : "",
             argument ? argument : "");
    printf("%-28s%s%s\n", left, strlen(left) > 27 ? "\n                            " : "", help);
}

void options_print(const struct tool *tool)
{
    printf("usage: %s%s%s%s%s [option]...\n%s\n\n", tool->name, tool->command ? " " : "",
           tool->command ? tool->command : "", *tool->operands ? " " : "", tool->operands,
           tool->summary);
    for (size_t i = 0; i < tool->count; i++)
        print_row(tool->rows[i].name, tool->rows[i].letter, tool->rows[i].argument,
                  tool->rows[i].help);
    print_row("help", 'h', NULL, "print this and leave");
    print_row("version", 'V', NULL, "print the version and leave");
}

static int usage(const struct tool *tool, const char *format, const char *what)
{
    tool_say(format, what);
    tool_say("try '%s%s%s --help'", tool->name, tool->command ? " " : "",
             tool->command ? tool->command : "");
    return EXIT_USAGE;
}

/* "500M" in bytes. */
static bool read_size(const char *text, size_t *size)
{
    static const char units[] = "KMGT";
    char *end;
    double v = strtod(text, &end), unit = 1;

    if (end == text)
        return false;
    if (*end) {
        const char *u = strchr(units, *end >= 'a' ? *end - 32 : *end);
        if (!u)
            return false;
        for (const char *p = units; p <= u; p++)
            unit *= 1024;
        end++;
        if (*end == 'i')
            end++;
        if (*end == 'B')
            end++;
    }
    if (*end || !(v > 0) || v * unit >= (double)SIZE_MAX)
        return false;
    *size = (size_t)(v * unit);
    return true;
}

/* Take an option's argument; false if it is not of its kind. */
static bool take(const struct option_row *row, const char *text)
{
    struct texts *texts;
    struct integer *integer;
    char *end;

    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)row->value = true;
        return true;
    case OPTION_TEXT:
        *(const char **)row->value = text;
        return *text != 0;
    case OPTION_TEXTS:
        texts = row->value;
        texts->v[texts->n++] = text;
        return *text != 0;
    case OPTION_INTEGER:
        integer = row->value;
        errno = 0;
        integer->given = true;
        integer->value = strtoll(text, &end, 10);
        return end != text && !*end && !errno
            && integer->value >= row->lo && integer->value <= row->hi;
    case OPTION_SIZE:
        return read_size(text, row->value);
    }
    return false;
}

static int wrong_argument(const struct tool *tool, const struct option_row *row, const char *text)
{
    char what[200];

    if (row->kind == OPTION_INTEGER && row->hi < INT64_MAX)
        snprintf(what, sizeof what, "--%s takes a whole number from %" PRId64 " to %" PRId64
                 ", not '%.60s'", row->name, row->lo, row->hi, text);
    else if (row->kind == OPTION_INTEGER)
        snprintf(what, sizeof what, "--%s takes a whole number of at least %" PRId64
                 ", not '%.60s'", row->name, row->lo, text);
    else if (row->kind == OPTION_SIZE)
        snprintf(what, sizeof what, "--%s takes a size such as 500M or 2G, not '%.60s'",
                 row->name, text);
    else
        snprintf(what, sizeof what, "--%s takes %s, which is not empty", row->name, row->argument);
    return usage(tool, "%s", what);
}

/* The nearest option to a misspelt one: with the longest common start. */
static int unknown(const struct tool *tool, const char *given)
{
    const char *best = NULL, *name = given + strspn(given, "-");
    size_t most = 1;
    char what[160];

    for (size_t i = 0; i < tool->count; i++) {
        size_t n = 0;
        while (name[n] && name[n] == tool->rows[i].name[n])
            n++;
        if (n > most) {
            most = n;
            best = tool->rows[i].name;
        }
    }
    snprintf(what, sizeof what, "there is no option '%.60s'%s%s%s", given,
             best ? "; did you mean '--" : "", best ? best : "", best ? "'?" : "");
    return usage(tool, "%s", what);
}

int options_read(const struct tool *tool, int argc, char **argv, int *operand)
{
    struct option longs[MAX_ROWS + 3] = { { 0 } };
    char shorts[2 * MAX_ROWS + 8] = ":hV";
    size_t n = tool->count;
    int c;

    for (size_t i = 0; i < n; i++) {
        const struct option_row *row = &tool->rows[i];
        const char letter[3] = { row->letter, row->argument ? ':' : 0, 0 };
        longs[i].name = row->name;
        longs[i].has_arg = row->argument ? required_argument : no_argument;
        longs[i].val = CODE_FIRST + (int)i;
        strcat(shorts, letter);
        if (row->kind == OPTION_TEXTS) {
            struct texts *texts = row->value;
            if (!(texts->v = calloc((size_t)argc + 1, sizeof *texts->v)))
                return tool_fail_memory();
        }
    }
    longs[n].name = "help";
    longs[n].val = CODE_HELP;
    longs[n + 1].name = "version";
    longs[n + 1].val = CODE_VERSION;

    opterr = 0;
    while ((c = getopt_long(argc, argv, shorts, longs, NULL)) >= 0) {
        if (c == CODE_HELP || c == 'h') {
            options_print(tool);
            return tool_end(EXIT_DONE);
        }
        if (c == CODE_VERSION || c == 'V') {
            printf("%s (libebm) %s\n", tool->name, ebm_version());
            return tool_end(EXIT_DONE);
        }
        if (c == ':')
            return usage(tool, "'%s' needs an argument", argv[optind - 1]);
        if (c == '?')
            return unknown(tool, argv[optind - 1]);
        const struct option_row *row = NULL;
        for (size_t i = 0; i < n; i++)
            if (c == CODE_FIRST + (int)i || (tool->rows[i].letter && c == tool->rows[i].letter))
                row = &tool->rows[i];
        if (!take(row, optarg))
            return wrong_argument(tool, row, optarg ? optarg : "");
    }
    *operand = optind;
    return -1;
}

void options_free(const struct tool *tool)
{
    for (size_t i = 0; i < tool->count; i++)
        if (tool->rows[i].kind == OPTION_TEXTS) {
            struct texts *texts = tool->rows[i].value;
            free(texts->v);
            texts->v = NULL;
        }
}
