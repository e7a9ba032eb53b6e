/* item.h - one word of a network's description:  conv:16,k5,s2
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_ITEM_H
#define EBM_ITEM_H

#include "graph.h"

enum { ITEM_SETTINGS = 12 };

/* A stretch of the description. */
struct span {
    const char *begin, *end;
};

struct item {
    ebm_graph *graph;
    const char *text;                /* the whole description, for columns */
    struct span kind;                /* conv */
    struct span settings[ITEM_SETTINGS];   /* 16  k5  s2 */
    unsigned used;                   /* bit i: setting i has been asked for */
    int n_settings;
    struct span body;                /* within its parentheses; begin NULL: none */
};

/* Read the item at *at, which is no blank, and move *at behind it.  False: the
 * text is malformed there (latched, with the column). */
bool item_read(ebm_graph *g, const char *text, const char **at, const char *end,
               struct item *item);

bool span_is(struct span s, const char *word);
/* Up to the next `|` outside parentheses, which *at then follows; false at the
 * end of the body. */
bool next_branch(const struct span *body, const char **at, struct span *branch);

/* The settings of an item.  number: the i-th that begins with a digit or sign.
 * keyed: the number behind a letter.  flag: a word.  Each returns whether it is
 * there; `otherwise` is what value is then. */
bool item_number(struct item *item, int i, double otherwise, double *value);
bool item_keyed(struct item *item, char key, double otherwise, double *value);
bool item_flag(struct item *item, const char *word);
/* The i-th setting as a word, with the number that may follow it. */
struct span item_word(struct item *item, int i);
/* A whole number from `least` to 2^20 (number or keyed by a letter, 0: the
 * first number). */
int item_whole(struct item *item, char key, int least, int otherwise);

/* Latch an error at a place of the text; returns 0. */
ebm_val item_fail(const struct item *item, const char *at, const char *format, ...) PRINTF(3, 4);
/* Settings that nobody asked for are errors. */
bool item_spent(const struct item *item);

#endif
