/* recipe.c - settings as plain text.
 *
 * SPDX-License-Identifier: ISC
 *
 *   entries   what was read: key, text, source, line       } joined by name when
 *   values    what was declared: table row, default, value } both are there
 *
 * Invariant: the value of a declared key has its type and lies in its range. */
#include "config.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "number.h"
#include "recipe.h"
#include "text.h"

struct entry {
    char *key, *text, *source;
    int line;                          /* 0: from no file */
    int reading;                       /* the how-manieth source it is from */
};

struct value {
    const struct recipe_key *key;
    bool given;
    double number;
    int64_t integer;
    char *text;
    double *numbers;
    int count;
};

struct recipe {
    ebm_context *ctx;
    int status;                        /* the first defect of the caller */
    int readings;                      /* sources so far */
    int n_entries, entries_capacity;
    struct entry *entries;
    int n_values, values_capacity;
    struct value *values;
};

int recipe_new(ebm_context *ctx, struct recipe **recipe)
{
    struct recipe *r = *recipe = mem_new(ctx, 1, sizeof *r);

    if (!r)
        return EBM_ERR_NOMEM;
    r->ctx = ctx;
    return EBM_OK;
}

static void free_entry(struct recipe *r, struct entry *e)
{
    mem_free(r->ctx, e->key);
    mem_free(r->ctx, e->text);
    mem_free(r->ctx, e->source);
}

void recipe_free(struct recipe *r)
{
    if (!r)
        return;
    for (int i = 0; i < r->n_entries; i++)
        free_entry(r, &r->entries[i]);
    for (int i = 0; i < r->n_values; i++) {
        mem_free(r->ctx, r->values[i].text);
        mem_free(r->ctx, r->values[i].numbers);
    }
    mem_free(r->ctx, r->entries);
    mem_free(r->ctx, r->values);
    mem_free(r->ctx, r);
}

static struct value *find_value(const struct recipe *r, const char *key)
{
    for (int i = 0; i < r->n_values; i++)
        if (!strcmp(r->values[i].key->name, key))
            return &r->values[i];
    return NULL;
}

static struct entry *find_entry(const struct recipe *r, const char *key)
{
    for (int i = 0; i < r->n_entries; i++)
        if (!strcmp(r->entries[i].key, key))
            return &r->entries[i];
    return NULL;
}

/* "digits.recipe:12" or "--set". */
static const char *place(const struct entry *e, char *text, size_t size)
{
    if (e->line)
        snprintf(text, size, "%.200s:%d", e->source, e->line);
    else
        snprintf(text, size, "%.200s", e->source);
    return text;
}

/* --- the nearest name --- */

enum { MAX_NAME = 64 };

/* How many single letters must be inserted, removed, replaced or swapped with
 * their neighbour to make b of a (Damerau and Levenshtein's distance). */
static int distance(const char *a, const char *b)
{
    int d[3][MAX_NAME + 1];
    int n = (int)strlen(a), m = (int)strlen(b);

    if (n > MAX_NAME || m > MAX_NAME)
        return MAX_NAME;
    for (int j = 0; j <= m; j++)
        d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = d[i % 3], *last = d[(i + 2) % 3], *before = d[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
                && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return d[n % 3][m];
}

/* The part of a dotted name after its last dot. */
static const char *leaf(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? dot + 1 : name;
}

/* The declared key that was probably meant: one with the same last part in
 * another group, or the nearest by letters; NULL where none is near. */
static const char *nearest_key(const struct recipe *r, const char *name)
{
    const char *best = NULL, *same_leaf = NULL;
    int least = MAX_NAME;

    for (int i = 0; i < r->n_values; i++) {
        const char *candidate = r->values[i].key->name;
        int d = distance(name, candidate);
        if (d < least) {
            least = d;
            best = candidate;
        }
        if (!same_leaf && !strcmp(leaf(name), leaf(candidate)))
            same_leaf = candidate;
    }
    int limit = (int)strlen(name) / 3;
    if (best && least <= (limit > 1 ? limit : 1))
        return best;
    return same_leaf;
}

/* --- values from text --- */

static void trim(const char **s, size_t *n)
{
    while (*n && (**s == ' ' || **s == '\t'))
        ++*s, --*n;
    while (*n && ((*s)[*n - 1] == ' ' || (*s)[*n - 1] == '\t' || (*s)[*n - 1] == '\r'))
        --*n;
}

static bool limited(const struct recipe_key *key)
{
    return key->lo != key->hi;
}

/* Word what a key takes: "a whole number from 1 to 100". */
static void expected(const struct recipe_key *key, char *text, size_t size)
{
    static const char *const kinds[] = {
        [KEY_NUMBER] = "a number", [KEY_INTEGER] = "a whole number",
        [KEY_BOOL] = "true or false", [KEY_TEXT] = "a text",
        [KEY_NUMBERS] = "numbers, separated by commas, each",
    };
    char lo[NUMBER_TEXT], hi[NUMBER_TEXT];

    number_write(key->lo, lo);
    number_write(key->hi, hi);
    if (key->type == KEY_TEXT && key->choices)
        snprintf(text, size, "one of %s", key->choices);
    else if (key->type == KEY_BOOL || key->type == KEY_TEXT || !limited(key))
        snprintf(text, size, "%s", kinds[key->type]);
    else if (isinf(key->hi))
        snprintf(text, size, "%s of at least %s", kinds[key->type], lo);
    else
        snprintf(text, size, "%s from %s to %s", kinds[key->type], lo, hi);
}

static int refuse(struct recipe *r, const struct recipe_key *key, const struct entry *e)
{
    char what[400], where[240];

    expected(key, what, sizeof what);
    return ebm_fail(r->ctx, EBM_ERR_ARG, "%s: %s = %.200s: must be %s",
                    place(e, where, sizeof where), key->name, e->text, what);
}

static bool in_range(const struct recipe_key *key, double v)
{
    return !isnan(v) && (!limited(key) || (v >= key->lo && v <= key->hi));
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strcspn(text, "|");

    if (text[n])
        return false;
    for (const char *p = choices; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (n && !strncmp(p, text, n) && (p[n] == 0 || p[n] == '|'))
            return true;
    }
    return false;
}

/* Numbers separated by commas or blanks. */
static int parse_list(struct recipe *r, struct value *v, const struct entry *e)
{
    static const char between[] = ", \t";
    size_t capacity = strlen(e->text) / 2 + 1;
    double *list = mem_new(r->ctx, capacity, sizeof *list);
    int n = 0;

    if (!list)
        return EBM_ERR_NOMEM;
    for (const char *p = e->text + strspn(e->text, between); *p; ) {
        size_t size = strcspn(p, between);
        if (!number_read(p, size, &list[n]) || !in_range(v->key, list[n])) {
            mem_free(r->ctx, list);
            return refuse(r, v->key, e);
        }
        n++;
        p += size;
        p += strspn(p, between);
    }
    mem_free(r->ctx, v->numbers);
    v->numbers = list;
    v->count = n;
    return EBM_OK;
}

/* Give a declared key the text of an entry. */
static int take(struct recipe *r, struct value *v, const struct entry *e)
{
    const struct recipe_key *key = v->key;
    size_t n = strlen(e->text);
    char *copy;

    switch (key->type) {
    case KEY_NUMBER:
        if (!number_read(e->text, n, &v->number) || !in_range(key, v->number))
            return refuse(r, key, e);
        break;
    case KEY_INTEGER:
        if (!number_read_integer(e->text, n, &v->integer)
            || !in_range(key, (double)v->integer))
            return refuse(r, key, e);
        break;
    case KEY_BOOL:
        if (strcmp(e->text, "true") && strcmp(e->text, "false"))
            return refuse(r, key, e);
        v->integer = !strcmp(e->text, "true");
        break;
    case KEY_TEXT:
        if (key->choices && !is_choice(key->choices, e->text))
            return refuse(r, key, e);
        if (!(copy = mem_strdup(r->ctx, e->text)))
            return EBM_ERR_NOMEM;
        mem_free(r->ctx, v->text);
        v->text = copy;
        break;
    case KEY_NUMBERS:
        return parse_list(r, v, e);
    }
    return EBM_OK;
}

/* --- declaring --- */

int recipe_declare(struct recipe *r, const struct recipe_key *keys, int count)
{
    static char no_source[] = "the library's defaults";
    int rc;

    for (int i = 0; i < count; i++) {
        if (find_value(r, keys[i].name))
            return ebm_fail(r->ctx, EBM_ERR_INTERNAL, "the recipe key %s is declared twice",
                            keys[i].name);
        if (r->n_values == r->values_capacity) {
            int more = r->values_capacity ? 2 * r->values_capacity : 64;
            struct value *grown = mem_grow(r->ctx, r->values, (size_t)r->n_values,
                                           (size_t)more, sizeof *grown);
            if (!grown)
                return EBM_ERR_NOMEM;
            r->values = grown;
            r->values_capacity = more;
        }
        struct value *v = &r->values[r->n_values++];
        char *text = mem_strdup(r->ctx, keys[i].value);
        struct entry standard = { NULL, text, no_source, 0, 0 };
        const struct entry *e = find_entry(r, keys[i].name);
        v->key = &keys[i];
        if (!text)
            return EBM_ERR_NOMEM;
        rc = take(r, v, &standard);
        mem_free(r->ctx, text);
        if (rc < 0)
            return rc == EBM_ERR_ARG ? EBM_ERR_INTERNAL : rc;
        if (e && (rc = take(r, v, e)) < 0)
            return rc;
        v->given = e != NULL;
    }
    return EBM_OK;
}

/* --- reading --- */

/* Enter key and text, both trimmed; what an earlier source said is replaced. */
static int enter(struct recipe *r, const char *key, size_t key_size, const char *text,
                 size_t text_size, const char *source, int line)
{
    struct entry e = { mem_new(r->ctx, key_size + 1, 1), mem_new(r->ctx, text_size + 1, 1),
                       mem_strdup(r->ctx, source), line, r->readings };
    struct entry *old;
    struct value *v;
    char where[240];
    int rc = EBM_OK;

    if (!e.key || !e.text || !e.source) {
        free_entry(r, &e);
        return EBM_ERR_NOMEM;
    }
    memcpy(e.key, key, key_size);
    memcpy(e.text, text, text_size);
    old = find_entry(r, e.key);
    v = find_value(r, e.key);
    if (old && line && old->reading == r->readings)
        rc = ebm_fail(r->ctx, EBM_ERR_ARG, "%s: %s stands here a second time, after line %d",
                      place(&e, where, sizeof where), e.key, old->line);
    if (rc == EBM_OK && v && (rc = take(r, v, &e)) == EBM_OK)
        v->given = true;
    if (rc == EBM_OK && !old) {
        if (r->n_entries == r->entries_capacity) {
            int more = r->entries_capacity ? 2 * r->entries_capacity : 64;
            struct entry *grown = mem_grow(r->ctx, r->entries, (size_t)r->n_entries,
                                           (size_t)more, sizeof *grown);
            if (grown) {
                r->entries = grown;
                r->entries_capacity = more;
            } else {
                rc = EBM_ERR_NOMEM;
            }
        }
        if (rc == EBM_OK) {
            old = &r->entries[r->n_entries++];
            memset(old, 0, sizeof *old);
        }
    }
    if (rc < 0) {
        free_entry(r, &e);
        return rc;
    }
    free_entry(r, old);
    *old = e;
    return EBM_OK;
}

static bool is_key(const char *s, size_t n)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789_.";

    for (size_t i = 0; i < n; i++)
        if (!s[i] || !strchr(letters, s[i]))
            return false;
    return n > 0 && n <= MAX_NAME && s[0] != '.' && s[n - 1] != '.';
}

/* The content of a quoted text goes to out; the number of characters read, with
 * both quotes, is returned, 0 if the closing one is missing. */
static size_t unquote(const char *s, size_t n, char *out, size_t *length)
{
    *length = 0;
    for (size_t i = 1; i < n; i++) {
        if (s[i] == '"')
            return i + 1;
        if (s[i] == '\\' && i + 1 < n) {
            i++;
            out[(*length)++] = s[i] == 'n' ? '\n' : s[i];
        } else {
            out[(*length)++] = s[i];
        }
    }
    return 0;
}

/* One line, without its end: blank, a comment, or key = value. */
static int parse_line(struct recipe *r, const char *s, size_t n, const char *source, int line)
{
    struct entry here = { NULL, NULL, (char *)source, line, 0 };
    char where[240];
    const char *equals, *key = s, *text;
    size_t key_size, text_size;

    place(&here, where, sizeof where);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 && s[i] != '\t' && s[i] != '\r')
            return ebm_fail(r->ctx, EBM_ERR_ARG, "%s: a character that is no text (code %d)",
                            where, s[i]);
    trim(&s, &n);
    if (n == 0 || *s == '#')
        return EBM_OK;
    if (!(equals = memchr(s, '=', n)))
        return ebm_fail(r->ctx, EBM_ERR_ARG, "%s: '%.*s' is not of the form key = value",
                        where, (int)(n < 60 ? n : 60), s);
    key = s;
    key_size = (size_t)(equals - s);
    trim(&key, &key_size);
    text = equals + 1;
    text_size = n - (size_t)(text - s);
    trim(&text, &text_size);
    if (!is_key(key, key_size))
        return ebm_fail(r->ctx, EBM_ERR_ARG, "%s: '%.*s' cannot name a setting: names have "
                        "small letters, digits, '_' and '.'", where,
                        (int)(key_size < 60 ? key_size : 60), key);
    if (text_size && *text == '"') {
        char *plain = mem_new(r->ctx, text_size, 1);
        size_t length, used;
        if (!plain)
            return EBM_ERR_NOMEM;
        used = unquote(text, text_size, plain, &length);
        const char *rest = text + used;
        size_t rest_size = text_size - used;
        trim(&rest, &rest_size);
        int rc = used == 0 || (rest_size && *rest != '#')
               ? ebm_fail(r->ctx, EBM_ERR_ARG, "%s: the text of %.*s needs a closing quote "
                          "and nothing after it", where, (int)key_size, key)
               : enter(r, key, key_size, plain, length, source, line);
        mem_free(r->ctx, plain);
        return rc;
    }
    const char *hash = memchr(text, '#', text_size);
    if (hash)
        text_size = (size_t)(hash - text);
    trim(&text, &text_size);
    return enter(r, key, key_size, text, text_size, source, line);
}

int recipe_parse(struct recipe *r, const char *text, size_t size, const char *name)
{
    const char *end = text + size;

    r->readings++;
    for (int line = 1; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((stop ? stop : end) - text);
        int rc = parse_line(r, text, n, name, line);
        if (rc < 0)
            return rc;
        text += n + 1;
    }
    return EBM_OK;
}

int recipe_set(struct recipe *r, const char *setting)
{
    if (!strchr(setting, '='))
        return ebm_fail(r->ctx, EBM_ERR_ARG, "--set %.200s: a setting is written key=value",
                        setting);
    r->readings++;
    return parse_line(r, setting, strlen(setting), "--set", 0);
}

int recipe_check(struct recipe *r)
{
    char where[240];

    if (r->status < 0)
        return r->status;
    for (int i = 0; i < r->n_entries; i++) {
        const struct entry *e = &r->entries[i];
        if (find_value(r, e->key))
            continue;
        const char *near = nearest_key(r, e->key);
        place(e, where, sizeof where);
        if (near)
            return ebm_fail(r->ctx, EBM_ERR_ARG, "%s: there is no setting '%s'; did you mean "
                            "'%s'?", where, e->key, near);
        return ebm_fail(r->ctx, EBM_ERR_ARG, "%s: there is no setting '%s'; see "
                        "ebm-recipe(5) for those of each method", where, e->key);
    }
    return EBM_OK;
}

/* --- getting --- */

static const struct value *get(struct recipe *r, const char *key, enum recipe_type type)
{
    static const struct value nothing = { NULL, false, 0, 0, NULL, NULL, 0 };
    const struct value *v = find_value(r, key);

    if (v && v->key->type == type)
        return v;
    if (r->status == EBM_OK)
        r->status = ebm_fail(r->ctx, EBM_ERR_INTERNAL, "the recipe key %s is %s", key,
                             v ? "of another type than it is used as" : "used undeclared");
    return &nothing;
}

double recipe_number(struct recipe *r, const char *key)
{
    return get(r, key, KEY_NUMBER)->number;
}

int64_t recipe_integer(struct recipe *r, const char *key)
{
    return get(r, key, KEY_INTEGER)->integer;
}

bool recipe_bool(struct recipe *r, const char *key)
{
    return get(r, key, KEY_BOOL)->integer != 0;
}

const char *recipe_text(struct recipe *r, const char *key)
{
    const struct value *v = get(r, key, KEY_TEXT);

    return v->text ? v->text : "";
}

int recipe_numbers(struct recipe *r, const char *key, const double **values)
{
    const struct value *v = get(r, key, KEY_NUMBERS);

    *values = v->numbers;
    return v->count;
}

bool recipe_given(struct recipe *r, const char *key)
{
    const struct value *v = find_value(r, key);

    return v && v->given;
}

ebm_context *recipe_context(const struct recipe *r)
{
    return r->ctx;
}

const struct recipe_key *recipe_key_at(const struct recipe *r, int index)
{
    return index >= 0 && index < r->n_values ? r->values[index].key : NULL;
}

/* --- writing --- */

/* Whether a text must be quoted to be read back as it is. */
static bool needs_quotes(const char *s)
{
    size_t n = strlen(s);

    return n == 0 || strpbrk(s, "#\"\\\n") || strchr(" \t\r", s[0]) || strchr(" \t\r", s[n - 1]);
}

static void put_value(struct text *t, const struct value *v)
{
    char number[NUMBER_TEXT];

    switch (v->key->type) {
    case KEY_NUMBER:
        number_write(v->number, number);
        text_put(t, number);
        break;
    case KEY_INTEGER:
        text_printf(t, "%" PRId64, v->integer);
        break;
    case KEY_BOOL:
        text_put(t, v->integer ? "true" : "false");
        break;
    case KEY_NUMBERS:
        for (int i = 0; i < v->count; i++) {
            number_write(v->numbers[i], number);
            text_put(t, i ? ", " : "");
            text_put(t, number);
        }
        break;
    case KEY_TEXT:
        if (!needs_quotes(v->text)) {
            text_put(t, v->text);
            break;
        }
        text_put(t, "\"");
        for (const char *s = v->text; *s; s++) {
            if (*s == '"' || *s == '\\' || *s == '\n')
                text_put(t, "\\");
            text_put_n(t, *s == '\n' ? "n" : s, 1);
        }
        text_put(t, "\"");
        break;
    }
}

/* Whether two names share what stands before their first dots; names without
 * one are a group of their own. */
static bool same_group(const char *a, const char *b)
{
    size_t n = strcspn(a, "."), m = strcspn(b, ".");

    return (!a[n] && !b[m]) || (a[n] && b[m] && n == m && !strncmp(a, b, n));
}

static void put_recipe(struct text *t, const struct recipe *r, bool help)
{
    const char *last = NULL;

    for (int i = 0; i < r->n_values; i++) {
        const struct recipe_key *key = r->values[i].key;
        if (help && last && !same_group(last, key->name))
            text_put(t, "\n");
        size_t start = t->n;
        text_put(t, key->name);
        text_put(t, " = ");
        put_value(t, &r->values[i]);
        if (help && key->help) {
            size_t used = t->n - start;
            text_printf(t, "%*s", used < 35 ? 36 - (int)used : 1, "");
            text_put(t, "# ");
            text_put(t, key->help);
        }
        text_put(t, "\n");
        last = key->name;
    }
}

char *recipe_write(const struct recipe *r, bool help)
{
    struct text t = { .ctx = r->ctx };

    put_recipe(&t, r, help);
    return text_take(&t);
}
