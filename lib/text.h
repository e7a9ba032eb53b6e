/* text.h - text that grows.
 *
 * SPDX-License-Identifier: ISC
 *
 * Start from { ctx }.  Running out of memory is remembered, not returned: after it
 * nothing is added, and text_take() tells. */
#ifndef EBM_TEXT_H
#define EBM_TEXT_H

#include "context.h"

struct text {
    ebm_context *ctx;
    char *s;            /* n characters and a 0; NULL before the first */
    size_t n, capacity;
    bool lost;
};

void text_put(struct text *t, const char *s);
void text_put_n(struct text *t, const char *s, size_t n);
void text_printf(struct text *t, const char *format, ...) PRINTF(2, 3);

/* The text, for mem_free(); NULL if memory ran out, which is worded. */
char *text_take(struct text *t);

#endif
