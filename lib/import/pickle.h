/* pickle.h - what a Python pickle says, without doing what it says.
 *
 * SPDX-License-Identifier: ISC
 *
 * A pickle is a program for a stack machine that builds values and calls what it
 * names.  Here names are kept as text and calls as the values they are made of:
 * nothing is looked up, nothing runs.
 *
 *   c torch._utils _rebuild_tensor_v2 ( ... R     OBJECT, callable GLOBAL
 *                                                 "torch._utils._rebuild_tensor_v2",
 *                                                 arguments TUPLE
 *   ccollections OrderedDict ) R ( ... u          OBJECT with pairs
 *   c argparse Namespace ) 0x81 } ... b           OBJECT with a state
 *
 * Values may be shared, and a container may hold itself: whoever walks them limits
 * the depth and counts the steps. */
#ifndef EBM_PICKLE_H
#define EBM_PICKLE_H

#include "context.h"

enum pickle_kind {
    PICKLE_NONE, PICKLE_BOOL, PICKLE_INTEGER, PICKLE_LONG, PICKLE_NUMBER,
    PICKLE_TEXT, PICKLE_BYTES, PICKLE_GLOBAL,
    PICKLE_TUPLE, PICKLE_LIST, PICKLE_SET, PICKLE_DICT,
    PICKLE_PERSISTENT, PICKLE_OBJECT
};

struct pickle_value {
    enum pickle_kind kind;
    int64_t integer;                     /* BOOL, INTEGER; of what has no number: 0 */
    double number;                       /* NUMBER */
    const char *text;                    /* TEXT, BYTES, GLOBAL; LONG: its bytes, little-
                                          * endian.  A 0 follows */
    size_t length;                       /* of the text */
    const struct pickle_value **items;   /* TUPLE, LIST, SET; DICT and OBJECT: key, value,
                                          * key, value, ... */
    size_t count, capacity;              /* of items */
    const struct pickle_value *callable; /* OBJECT */
    const struct pickle_value *arguments;/* OBJECT; PERSISTENT: the id */
    const struct pickle_value *state;    /* OBJECT: of BUILD, or NULL */
    bool appended;                       /* OBJECT: its items are a list's, no pairs */
};

struct pickle;

/* Read one pickle of protocol 0 ... 5 from the first of `size` bytes; *used tells
 * how many it took.  name: for messages.
 * EBM_ERR_FORMAT: what is malformed, at which byte; EBM_ERR_NOMEM. */
int pickle_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
                struct pickle **pickle, size_t *used);
void pickle_free(struct pickle *pickle);             /* NULL is allowed */

const struct pickle_value *pickle_root(const struct pickle *pickle);
/* How many values it made; the persistent ones by index, NULL beyond the last. */
size_t pickle_values(const struct pickle *pickle);
const struct pickle_value *pickle_persistent(const struct pickle *pickle, size_t i);

/* The value under a key of a dictionary, or of an object that is one or whose
 * state is one; NULL where there is none (v may be NULL too). */
const struct pickle_value *pickle_get(const struct pickle_value *v, const char *key);
/* Item i of a tuple or list; NULL beyond its end and of anything else. */
const struct pickle_value *pickle_item(const struct pickle_value *v, size_t i);
/* Is it this text; a global of this name ("collections.OrderedDict")? */
bool pickle_is_text(const struct pickle_value *v, const char *text);
bool pickle_is_global(const struct pickle_value *v, const char *name);

#endif
