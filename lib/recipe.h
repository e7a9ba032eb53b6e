/* recipe.h - settings as plain text.
 *
 * SPDX-License-Identifier: ISC
 *
 *   # lines end with an optional comment
 *   method          = cd
 *   langevin.steps  = 40          # dotted names group keys
 *   energy.net      = "conv:16,k5,s2 silu"
 *   adam.betas      = 0, 0.999    # a list
 *
 * A part of the library declares its keys in a table.  Text may be read before
 * its keys are declared, as `method` decides which keys exist: what is read is
 * kept raw, checked against type and range as soon as its key is declared, and
 * recipe_check() at last refuses what nobody declared, with the nearest name. */
#ifndef EBM_RECIPE_H
#define EBM_RECIPE_H

#include "context.h"

enum recipe_type { KEY_NUMBER, KEY_INTEGER, KEY_BOOL, KEY_TEXT, KEY_NUMBERS };

struct recipe_key {
    const char *name;        /* "langevin.steps" */
    enum recipe_type type;
    const char *value;       /* the default, as a recipe would have it */
    double lo, hi;           /* inclusive, of each number; lo == hi: no limits */
    const char *help;        /* one line: meaning, unit, source */
    const char *choices;     /* of a text: "cosine|constant"; NULL: any */
};

struct recipe;

int recipe_new(ebm_context *ctx, struct recipe **recipe);
void recipe_free(struct recipe *recipe);                /* NULL is allowed */

/* Declare keys; the table stays where it is for the recipe's life.  Entries
 * already read are checked now.  EBM_ERR_ARG names file, line, key and what
 * would be right; EBM_ERR_INTERNAL for a key declared twice or a wrong default. */
int recipe_declare(struct recipe *recipe, const struct recipe_key *keys, int count);

/* Read entries.  A later one replaces an earlier of another source; a key twice
 * in one source is an error.  name: of the source, for messages. */
int recipe_parse(struct recipe *recipe, const char *text, size_t size, const char *name);
/* The same from a file, or from a built-in recipe by its name ("digits"): found
 * as NAME.recipe in $EBM_RECIPE_DIR, the installed recipes, or ./recipes and
 * ../recipes, as in the source and build trees. */
int recipe_read(struct recipe *recipe, const char *path_or_name);
/* One "key=value", as from --set; it replaces what was read before. */
int recipe_set(struct recipe *recipe, const char *setting);

/* The end of reading: every entry has a declared key, or EBM_ERR_ARG. */
int recipe_check(struct recipe *recipe);

/* Values of declared keys, as read or by default.  An undeclared key or another
 * type is a defect of the caller: 0, false, "" and a latched EBM_ERR_INTERNAL
 * that recipe_check() returns. */
double recipe_number(struct recipe *recipe, const char *key);
int64_t recipe_integer(struct recipe *recipe, const char *key);
bool recipe_bool(struct recipe *recipe, const char *key);
const char *recipe_text(struct recipe *recipe, const char *key);
/* A list: its length; *values belong to the recipe. */
int recipe_numbers(struct recipe *recipe, const char *key, const double **values);
/* Whether the value was read rather than the default. */
bool recipe_given(struct recipe *recipe, const char *key);

/* The context it was made in. */
ebm_context *recipe_context(const struct recipe *recipe);
/* Declared keys by index; NULL beyond the last. */
const struct recipe_key *recipe_key_at(const struct recipe *recipe, int index);

/* The resolved recipe: every declared key in the order of declaration, with its
 * value and its help as comment.  Reading it gives the same values, bit for bit,
 * and the same text again.  help false: values alone, for metadata.
 * mem_free it; NULL as for mem_new. */
char *recipe_write(const struct recipe *recipe, bool help);

#endif
