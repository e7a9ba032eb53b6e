/* options.h - the options of a tool as a table, from which they are read and
 * --help is printed.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_OPTIONS_H
#define EBM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
    OPTION_FLAG,       /* bool */
    OPTION_TEXT,       /* const char * */
    OPTION_TEXTS,      /* struct texts: may be given again and again */
    OPTION_INTEGER,    /* struct integer */
    OPTION_SIZE        /* size_t, in bytes: 500M, 2G */
};

struct texts { const char **v; int n; };
struct integer { bool given; int64_t value; };

struct option_row {
    const char *name;          /* "seed", for --seed */
    char letter;               /* 'n' for -n; 0: none */
    enum option_kind kind;
    const char *argument;      /* "N"; NULL for a flag */
    const char *help;
    void *value;               /* as its kind says */
    int64_t lo, hi;            /* of an integer, inclusive */
};

struct tool {
    const char *name;          /* "ebm-train" */
    const char *command;       /* "score" of ebm-eval score; NULL: none */
    const char *operands;      /* "MODEL"; "" for none */
    const char *summary;       /* what it does, in a sentence */
    const struct option_row *rows;
    size_t count;
};

/* Read the options; --help and --version are known to all.  Operands are moved
 * to the end, the first has the index *operand.  Returns -1 to go on, or the
 * exit status: 0 after --help and --version, EXIT_USAGE after a message.
 * The texts are freed with options_free(). */
int options_read(const struct tool *tool, int argc, char **argv, int *operand);
void options_free(const struct tool *tool);
/* The help alone, without leaving. */
void options_print(const struct tool *tool);

#endif
