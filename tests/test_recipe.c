/* test_recipe.c - recipes are read, checked, and written so that they read the
 * same again.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include "io.h"
#include "number.h"
#include "recipe.h"
#include "folder.h"
#include "tap.h"

static ebm_context *ctx;

static const struct recipe_key common[] = {
    { "method", KEY_TEXT, "cd", 0, 0, "the method", "cd|icd|drl" },
    { "steps", KEY_INTEGER, "1000", 1, 1e9, "updates", NULL },
    { "seed", KEY_INTEGER, "-1", 0, 0, NULL, NULL },
};
static const struct recipe_key method[] = {
    { "langevin.steps", KEY_INTEGER, "40", 1, 100000, "steps of a chain", NULL },
    { "langevin.step", KEY_NUMBER, "10", 0, 1e6, "size of a step", NULL },
    { "langevin.range", KEY_NUMBERS, "0, 1", -10, 10, "clamp", NULL },
    { "energy.net", KEY_TEXT, "conv:16 # silu", 0, 0, "the network", NULL },
    { "energy.bias", KEY_BOOL, "true", 0, 0, "with biases", NULL },
    { "adam.rate", KEY_NUMBER, "1e-3", 1e-12, HUGE_VAL, "learning rate", NULL },
};

/* Read a text with all keys declared, the method's after the reading. */
static int read_text(const char *text, struct recipe **recipe)
{
    int rc;

    if ((rc = recipe_new(ctx, recipe)) < 0
        || (rc = recipe_declare(*recipe, common, COUNT(common))) < 0
        || (rc = recipe_parse(*recipe, text, strlen(text), "my.recipe")) < 0
        || (rc = recipe_declare(*recipe, method, COUNT(method))) < 0)
        return rc;
    return recipe_check(*recipe);
}

static void test_values(void)
{
    struct recipe *r;
    const double *range;
    int rc = read_text("# a comment\n\n  method = drl\t# why\r\nlangevin.steps=1e2\n"
                       "langevin.range = -1, 0.1\nenergy.net = \"a # \\\"b\\\" \\\\\"  # c\n"
                       "energy.bias = false", &r);

    tap_ok(rc == EBM_OK, "reads: %s", ebm_message(ctx));
    tap_ok(!strcmp(recipe_text(r, "method"), "drl"), "a text");
    tap_ok(recipe_integer(r, "langevin.steps") == 100, "1e2 is an integer");
    tap_ok(recipe_integer(r, "seed") == -1 && !recipe_given(r, "seed"), "a default");
    tap_ok(recipe_given(r, "method"), "a given one");
    tap_ok(recipe_numbers(r, "langevin.range", &range) == 2 && range[0] == -1
           && range[1] == 0.1, "numbers");
    tap_ok(!strcmp(recipe_text(r, "energy.net"), "a # \"b\" \\"), "quotes");
    tap_ok(!recipe_bool(r, "energy.bias"), "a truth");
    tap_ok(recipe_set(r, "langevin.steps = 7") == EBM_OK
           && recipe_integer(r, "langevin.steps") == 7, "--set replaces");
    tap_ok(recipe_set(r, "method = icd") == EBM_OK && recipe_check(r) == EBM_OK, "and once more");
    tap_ok(recipe_number(r, "method") == 0 && recipe_check(r) == EBM_ERR_INTERNAL,
           "a wrong getter is a defect: %s", ebm_message(ctx));
    recipe_free(r);
}

static void test_refusals(void)
{
    static const struct { const char *text, *why; } cases[] = {
        { "langevin.stpes = 3", "my.recipe:1: there is no setting 'langevin.stpes'; did you "
          "mean 'langevin.steps'?" },
        { "\n\nsampler.steps = 3", "my.recipe:3" },
        { "lr.rate = 3", "'adam.rate'" },
        { "wholly_unlike_anything = 3", "ebm-recipe(5)" },
        { "steps = 0", "a whole number from 1 to 1e+09" },
        { "steps = 1.5", "a whole number" },
        { "steps = many", "a whole number" },
        { "steps =", "a whole number" },
        { "adam.rate = 0", "a number of at least 1e-12" },
        { "adam.rate = nan", "a number" },
        { "adam.rate = 0x10", "a number" },
        { "adam.rate = 0.1.2", "a number" },
        { "adam.rate = 1e999", "a number" },
        { "langevin.range = 0, 11", "from -10 to 10" },
        { "langevin.range = 0; 1", "separated by commas" },
        { "energy.bias = yes", "true or false" },
        { "method = ecd", "one of cd|icd|drl" },
        { "method = c", "one of" },
        { "method = cd|icd", "one of" },
        { "steps", "key = value" },
        { "Steps = 3", "small letters" },
        { "= 3", "cannot name" },
        { "steps = 3\nsteps = 4", "my.recipe:2: steps stands here a second time, after line 1" },
        { "energy.net = \"a", "closing quote" },
        { "energy.net = \"a\" b", "nothing after" },
        { "energy.net = a\x01", "no text" },
    };
    struct recipe *r;

    for (size_t i = 0; i < COUNT(cases); i++) {
        int rc = read_text(cases[i].text, &r);
        tap_ok(rc == EBM_ERR_ARG && strstr(ebm_message(ctx), cases[i].why),
               "refused: %s", ebm_message(ctx));
        recipe_free(r);
    }
    recipe_new(ctx, &r);
    tap_ok(recipe_set(r, "steps") == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(recipe_declare(r, common, 2) == EBM_OK
           && recipe_declare(r, common, 1) == EBM_ERR_INTERNAL, "%s", ebm_message(ctx));
    recipe_free(r);
}

static void test_round_trip(void)
{
    struct recipe *r, *s;
    char *text, *again;

    read_text("adam.rate = 0.1000000000000000055511151231257827\nlangevin.step = 3e-320\n"
              "energy.net = \" two\\nlines\"\nlangevin.range = 0.333333333333333331,-1e1", &r);
    text = recipe_write(r, true);
    tap_ok(text && strstr(text, "adam.rate = 0.1 "), "numbers are as short as can be");
    tap_ok(read_text(text, &s) == EBM_OK, "what is written is read: %s", ebm_message(ctx));
    again = recipe_write(s, true);
    tap_ok(again && !strcmp(text, again), "and written the same again");
    tap_ok(recipe_number(s, "langevin.step") == 3e-320
           && !strcmp(recipe_text(s, "energy.net"), " two\nlines"), "bit for bit");
    printf("# %.*s\n", (int)strcspn(text, "\n"), text);
    mem_free(ctx, text);
    mem_free(ctx, again);
    text = recipe_write(s, false);
    tap_ok(text && !strchr(text, '#'), "without help there are values alone");
    mem_free(ctx, text);
    recipe_free(r);
    recipe_free(s);
}

static void test_numbers(void)
{
    uint64_t bits = 88172645463325252u;
    int wrong = 0;
    char text[NUMBER_TEXT];
    double v, w;

    for (int i = 0; i < 100000; i++) {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&v, &bits, sizeof v);
        if (isnan(v) || isinf(v))
            continue;
        number_write(v, text);
        wrong += !number_read(text, strlen(text), &w) || memcmp(&v, &w, sizeof v);
    }
    tap_ok(wrong == 0, "100,000 random doubles read back as they were");
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8")) {
        tap_skip("no locale with a decimal comma is installed");
        return;
    }
    number_write(0.5, text);
    tap_ok(!strcmp(text, "0.5") && number_read("2.5", 3, &v) && v == 2.5,
           "the point stays in a locale of commas");
    setlocale(LC_NUMERIC, "C");
}

static void test_files(void)
{
    struct recipe *r;
    static const char text[] = "steps = 12\n";

    recipe_new(ctx, &r);
    recipe_declare(r, common, COUNT(common));
    io_write_whole(ctx, in_folder("mine.recipe"), text, sizeof text - 1);
    setenv("EBM_RECIPE_DIR", folder, 1);
    tap_ok(recipe_read(r, "mine") == EBM_OK && recipe_integer(r, "steps") == 12,
           "a recipe by its name");
    tap_ok(recipe_read(r, "nime") == EBM_ERR_ARG && strstr(ebm_message(ctx), "mine"),
           "%s", ebm_message(ctx));
    tap_ok(recipe_read(r, in_folder("mine.recipe")) == EBM_OK, "and by its path");
    tap_ok(recipe_read(r, in_folder("none.recipe")) == EBM_ERR_IO, "%s", ebm_message(ctx));
    recipe_free(r);
}

int main(void)
{
    if (!folder_make() || ebm_context_new(NULL, &ctx) < 0)
        return 99;
    test_values();
    test_refusals();
    test_round_trip();
    test_numbers();
    test_files();
    ebm_context_free(ctx);
    folder_remove();
    return tap_done();
}
