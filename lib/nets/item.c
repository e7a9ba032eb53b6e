/* item.c - the words of a network's description.
 *
 * SPDX-License-Identifier: ISC
 *
 *   text   word { blank word }
 *   word   kind [ ":" setting { "," setting } ] [ "(" text { "|" text } ")" ]
 *
 * Descriptions come from recipes and files of models: nothing in them is
 * trusted. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "item.h"
#include "number.h"

static int length(struct span s)
{
    return (int)(s.end - s.begin);
}

bool span_is(struct span s, const char *word)
{
    return strlen(word) == (size_t)length(s) && memcmp(s.begin, word, (size_t)length(s)) == 0;
}

ebm_val item_fail(const struct item *item, const char *at, const char *format, ...)
{
    char why[256];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    return graph_fail(item->graph, EBM_ERR_ARG, "network description, column %d: %s",
                      (int)(at - item->text) + 1, why);
}

static const char *word_end(const char *at, const char *end)
{
    while (at < end && !isspace((unsigned char)*at) && !strchr(":,()|", *at))
        at++;
    return at;
}

/* Behind the parenthesis that closes the one at `at`; NULL: none does. */
static const char *closing(const char *at, const char *end)
{
    int depth = 0;

    for (; at < end; at++) {
        depth += (*at == '(') - (*at == ')');
        if (depth == 0)
            return at + 1;
    }
    return NULL;
}

bool item_read(ebm_graph *g, const char *text, const char **at, const char *end,
               struct item *item)
{
    const char *p = *at;

    memset(item, 0, sizeof *item);
    item->graph = g;
    item->text = text;
    item->kind = (struct span){ p, word_end(p, end) };
    if (length(item->kind) == 0) {
        item_fail(item, p, "'%c' where a layer was expected", *p);
        return false;
    }
    p = item->kind.end;
    while (p < end && *p == (item->n_settings ? ',' : ':')) {
        struct span s = { p + 1, word_end(p + 1, end) };
        if (length(s) == 0 || item->n_settings == ITEM_SETTINGS) {
            item_fail(item, p, length(s) ? "more than %d settings" : "a setting is missing",
                      ITEM_SETTINGS);
            return false;
        }
        item->settings[item->n_settings++] = s;
        p = s.end;
    }
    if (p < end && *p == '(') {
        const char *close = closing(p, end);
        if (!close) {
            item_fail(item, p, "this parenthesis is never closed");
            return false;
        }
        item->body = (struct span){ p + 1, close - 1 };
        p = close;
    }
    if (p < end && !isspace((unsigned char)*p)) {
        item_fail(item, p, "'%c' is not expected after '%.*s'", *p,
                  length(item->kind), item->kind.begin);
        return false;
    }
    *at = p;
    return true;
}

bool next_branch(const struct span *body, const char **at, struct span *branch)
{
    int depth = 0;

    if (*at > body->end)
        return false;
    branch->begin = *at;
    for (branch->end = *at; branch->end < body->end; branch->end++) {
        char c = *branch->end;
        if (c == '|' && depth == 0)
            break;
        depth += (c == '(') - (c == ')');
    }
    *at = branch->end + 1;
    return true;
}

static bool begins_number(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.';
}

static bool read_number(struct item *item, int i, const char *begin, double *value)
{
    const struct span *s = &item->settings[i];

    item->used |= 1u << i;
    if (number_read(begin, (size_t)(s->end - begin), value))
        return true;
    item_fail(item, s->begin, "'%.*s' is not a number", (int)(s->end - begin), begin);
    return false;
}

bool item_number(struct item *item, int i, double otherwise, double *value)
{
    *value = otherwise;
    for (int j = 0; j < item->n_settings; j++)
        if (begins_number(*item->settings[j].begin) && i-- == 0)
            return read_number(item, j, item->settings[j].begin, value);
    return false;
}

bool item_keyed(struct item *item, char key, double otherwise, double *value)
{
    *value = otherwise;
    for (int j = 0; j < item->n_settings; j++) {
        struct span s = item->settings[j];
        if (*s.begin == key && length(s) > 1 && begins_number(s.begin[1]))
            return read_number(item, j, s.begin + 1, value);
    }
    return false;
}

bool item_flag(struct item *item, const char *word)
{
    for (int j = 0; j < item->n_settings; j++)
        if (span_is(item->settings[j], word)) {
            item->used |= 1u << j;
            return true;
        }
    return false;
}

struct span item_word(struct item *item, int i)
{
    if (i >= item->n_settings)
        return (struct span){ item->kind.end, item->kind.end };
    item->used |= 1u << i;
    return item->settings[i];
}

int item_whole(struct item *item, char key, int least, int otherwise)
{
    const int most = 1 << 20;
    double v;
    bool there = key ? item_keyed(item, key, otherwise, &v) : item_number(item, 0, otherwise, &v);

    if (there && v >= least && v <= most && v == (double)(int)v)
        return (int)v;
    if (there || otherwise < least)
        item_fail(item, item->kind.begin, key ? "'%.*s' needs a whole number from %d to %d after "
                  "'%c'" : "'%.*s' needs a whole number from %d to %d", length(item->kind),
                  item->kind.begin, least, most, key);
    return otherwise < least ? least : otherwise;
}

bool item_spent(const struct item *item)
{
    for (int i = 0; i < item->n_settings; i++)
        if (!(item->used & 1u << i)) {
            item_fail(item, item->settings[i].begin, "'%.*s' has no setting '%.*s'",
                      length(item->kind), item->kind.begin,
                      length(item->settings[i]), item->settings[i].begin);
            return false;
        }
    return item->graph->status >= 0;
}
