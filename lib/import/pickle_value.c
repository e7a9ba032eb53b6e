/* pickle_value.c - looking at what a pickle says.
 *
 * SPDX-License-Identifier: ISC */
#include <string.h>
#include "pickle_machine.h"

const struct pickle_value *pickle_root(const struct pickle *p)
{
    return p->root;
}

size_t pickle_values(const struct pickle *p)
{
    return p->values;
}

const struct pickle_value *pickle_persistent(const struct pickle *p, size_t i)
{
    return i < p->persistent.count ? p->persistent.v[i] : NULL;
}

const struct pickle_value *pickle_get(const struct pickle_value *v, const char *key)
{
    for (int turn = 0; v && turn < 2; turn++) {
        if (v->kind == PICKLE_DICT || (v->kind == PICKLE_OBJECT && !v->appended))
            for (size_t i = v->count; i > 1; i -= 2)      /* the last of equal keys counts */
                if (pickle_is_text(v->items[i - 2], key))
                    return v->items[i - 1];
        v = v->kind == PICKLE_OBJECT ? v->state : NULL;
    }
    return NULL;
}

const struct pickle_value *pickle_item(const struct pickle_value *v, size_t i)
{
    bool list = v && (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST);

    return list && i < v->count ? v->items[i] : NULL;
}

bool pickle_is_text(const struct pickle_value *v, const char *text)
{
    return v && v->kind == PICKLE_TEXT && strcmp(v->text, text) == 0;
}

bool pickle_is_global(const struct pickle_value *v, const char *name)
{
    return v && v->kind == PICKLE_GLOBAL && strcmp(v->text, name) == 0;
}
