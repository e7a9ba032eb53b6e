/* attributes.c - see attributes.h.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "attributes.h"
#include "progress.h"
#include "stop.h"

static struct {
    const char *split;
    struct texts want;
    struct integer limit;
    bool quiet, json;
} given;

static const struct option_row rows[] = {
    { "want", 'w', OPTION_TEXTS, "ATTRIBUTE=VALUE", "count pictures that have it; again for others",
      &given.want, 0, 0 },
    { "split", 0, OPTION_TEXT, "NAME", "train, test or all; all if not given", &given.split, 0, 0 },
    { "limit", 0, OPTION_INTEGER, "N", "use the first N images only", &given.limit, 1, INT64_MAX },
    { "quiet", 'q', OPTION_FLAG, NULL, "no progress", &given.quiet, 0, 0 },
    { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 },
};
const struct tool attributes_tool = {
    "ebm-eval", "attributes", "SOURCE", "The attributes that pictures of shapes show, measured "
    "without any model.", rows, COUNT(rows)
};

/* "shape=ring|star", "x=0..0.5" */
struct want {
    const char *text;
    int attribute;                   /* index in names[] or numbers[] + NAMES */
    unsigned allowed;                /* bit: value of a name */
    double low, high;                /* of a number */
    size_t found;
};

static const char *const names[] = { "shape", "colour", "background" };
static const char *const numbers[] = { "size", "x", "y", "rotation" };
enum { NAMES = COUNT(names) };

static int value_of(const ebm_shapes_attributes *a, int name)
{
    return name == 0 ? a->shape : name == 1 ? a->colour : a->background;
}

static double number_of(const ebm_shapes_attributes *a, int number)
{
    const float all[] = { a->size, a->x, a->y, a->rotation };

    return (double)all[number];
}

static bool has(const struct want *w, const ebm_shapes_attributes *a)
{
    if (w->attribute < NAMES)
        return w->allowed >> value_of(a, w->attribute) & 1;
    double v = number_of(a, w->attribute - NAMES);
    return v >= w->low && v <= w->high;
}

/* --- what is wanted --- */

/* A value of the name as long as `size`; -1 if there is none. */
static int find_value(const char *attribute, const char *name, size_t size)
{
    for (int v = 0; ebm_shapes_name(attribute, v); v++)
        if (strlen(ebm_shapes_name(attribute, v)) == size && !strncmp(ebm_shapes_name(attribute, v), name, size))
            return v;
    return -1;
}

static bool read_names(struct want *w, const char *at)
{
    for (bool more = true; more; ) {
        size_t n = strcspn(at, "|");
        int v = find_value(names[w->attribute], at, n);
        if (v < 0)
            return false;
        w->allowed |= 1u << v;
        more = at[n] == '|';
        at += n + 1;
    }
    return true;
}

/* "0..0.5": strtod alone would take a dot of the two for its own. */
static bool read_range(struct want *w, const char *at)
{
    const char *dots = strstr(at, "..");
    char low[32], *end;

    if (!dots || dots == at || dots - at >= (long)sizeof low)
        return false;
    memcpy(low, at, (size_t)(dots - at));
    low[dots - at] = '\0';
    w->low = strtod(low, &end);
    if (*end)
        return false;
    w->high = strtod(dots + 2, &end);
    return end != dots + 2 && !*end && w->low <= w->high;
}

static bool read_want(struct want *w, const char *text)
{
    size_t n = strcspn(text, "=");

    w->text = text;
    w->attribute = -1;
    for (int i = 0; i < NAMES; i++)
        if (strlen(names[i]) == n && !strncmp(names[i], text, n))
            w->attribute = i;
    for (int i = 0; i < (int)COUNT(numbers); i++)
        if (strlen(numbers[i]) == n && !strncmp(numbers[i], text, n))
            w->attribute = NAMES + i;
    if (w->attribute < 0 || text[n] != '=')
        return false;
    return w->attribute < NAMES ? read_names(w, text + n + 1) : read_range(w, text + n + 1);
}

/* --- measuring --- */

struct measured {
    ebm_shapes_attributes a;
    double fit;
};

static int measure(ebm_context *context, ebm_data *data, const ebm_data_info *info, struct measured *list)
{
    float *pixels = calloc((size_t)info->height * (size_t)info->width * (size_t)info->channels, sizeof *pixels);
    struct progress bar;
    int rc = EBM_OK;

    if (!pixels)
        return tool_fail_memory();
    progress_begin(&bar, "measuring", 0, (double)info->count, given.quiet);
    for (size_t i = 0; rc >= 0 && i < info->count && !stop_asked(); i++) {
        if ((rc = ebm_data_read(data, i, pixels, NULL)) >= 0)
            rc = ebm_shapes_measure(context, pixels, info->height, info->width, info->channels,
                                    &list[i].a, &list[i].fit);
        progress_show(&bar, (double)(i + 1), NULL);
    }
    progress_end(&bar);
    free(pixels);
    if (rc >= 0 && stop_asked()) {
        tool_say("stopped");
        return EXIT_STOPPED;
    }
    return rc < 0 ? tool_fail(context, rc) : 0;
}

/* --- results --- */

static void print_each(size_t n, const struct measured *list)
{
    printf("index,shape,colour,background,size,x,y,rotation,fit\n");
    for (size_t i = 0; i < n; i++) {
        const ebm_shapes_attributes *a = &list[i].a;
        printf("%zu,%s,%s,%s,%.4f,%.4f,%.4f,%.1f,%.4f\n", i, ebm_shapes_name("shape", a->shape),
               ebm_shapes_name("colour", a->colour), ebm_shapes_name("background", a->background),
               (double)a->size, (double)a->x, (double)a->y, (double)a->rotation, list[i].fit);
    }
}

static json_t *json_each(size_t n, const struct measured *list)
{
    json_t *all = json_array();

    for (size_t i = 0; i < n; i++) {
        const ebm_shapes_attributes *a = &list[i].a;
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f}",
            "shape", ebm_shapes_name("shape", a->shape), "colour", ebm_shapes_name("colour", a->colour),
            "background", ebm_shapes_name("background", a->background), "size", (double)a->size,
            "x", (double)a->x, "y", (double)a->y, "rotation", (double)a->rotation, "fit", list[i].fit));
    }
    return all;
}

/* What part of the pictures has each, and all, of what is wanted. */
static int report(const char *source, size_t n, const struct measured *list, struct want *wants, int n_wants)
{
    size_t all = 0;
    double fit = 0;

    for (size_t i = 0; i < n; i++) {
        bool each = true;
        for (int k = 0; k < n_wants; k++) {
            bool so = has(&wants[k], &list[i].a);
            wants[k].found += so;
            each = each && so;
        }
        all += each;
        fit += list[i].fit;
    }
    double count = n ? (double)n : 1;
    if (given.json) {
        json_t *found = json_object();
        for (int k = 0; k < n_wants; k++)
            json_object_set_new(found, wants[k].text, json_real((double)wants[k].found / count));
        json_t *object = json_pack("{s:s, s:I, s:f}", "source", source, "images", (json_int_t)n, "fit", fit / count);
        if (n_wants) {
            json_object_set_new(object, "accuracy", found);
            json_object_set_new(object, "all", json_real((double)all / count));
        } else {
            json_decref(found);
            json_object_set_new(object, "attributes", json_each(n, list));
        }
        return tool_print_json(object);
    }
    if (!n_wants) {
        print_each(n, list);
        return 0;
    }
    printf("# %zu pictures of %s; mean fit %.3f\n", n, source, fit / count);
    for (int k = 0; k < n_wants; k++)
        printf("%-32s %6.3f\n", wants[k].text, (double)wants[k].found / count);
    printf("%-32s %6.3f\n", "all of them", (double)all / count);
    return 0;
}

static int run(ebm_context *context, const char *source, struct want *wants)
{
    const ebm_data_options options = { .split = given.split ? given.split : "all",
                                       .limit = (size_t)given.limit.value };
    struct measured *list = NULL;
    ebm_data *data = NULL;
    ebm_data_info info;
    int status, rc = ebm_data_open(context, source, &options, &data);

    if (rc < 0)
        return tool_fail(context, rc);
    ebm_data_describe(data, &info);
    list = calloc(info.count + 1, sizeof *list);
    status = list ? measure(context, data, &info, list) : tool_fail_memory();
    if (!status)
        status = report(source, info.count, list, wants, given.want.n);
    free(list);
    ebm_data_free(data);
    return status;
}

int attributes_main(ebm_context *context, int argc, char **argv)
{
    int operand, status = options_read(&attributes_tool, argc, argv, &operand);
    struct want *wants = NULL;

    tool_be_quiet(given.quiet);
    if (status < 0 && operand != argc - 1) {
        tool_say("one SOURCE is needed, as in: ebm-eval attributes samples.npy --want shape=ring");
        status = EXIT_USAGE;
    }
    if (status < 0 && !(wants = calloc((size_t)given.want.n + 1, sizeof *wants)))
        status = tool_fail_memory();
    for (int i = 0; status < 0 && i < given.want.n; i++)
        if (!read_want(&wants[i], given.want.v[i])) {
            tool_say("--want %s: as in shape=ring|star, colour=red, background=navy, x=0..0.5; size, y and "
                     "rotation too", given.want.v[i]);
            status = EXIT_USAGE;
        }
    stop_on_signals();
    if (status < 0)
        status = run(context, argv[operand], wants);
    free(wants);
    options_free(&attributes_tool);
    return status;
}
