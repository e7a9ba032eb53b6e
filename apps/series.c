/* series.c - a run's numbers over its steps, as metrics.jsonl has them.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "series.h"

void series_free(struct series *s)
{
    for (int i = 0; i < s->columns; i++)
        free(s->names[i]);
    free(s->names);
    free(s->values);
    memset(s, 0, sizeof *s);
}

int series_find(const struct series *s, const char *name)
{
    for (int i = 0; i < s->columns; i++)
        if (!strcmp(s->names[i], name))
            return i;
    return -1;
}

static double *row_at(const struct series *s, int64_t row)
{
    return s->values + row * (s->columns + 1);
}

double series_step(const struct series *s, int64_t row)
{
    return row_at(s, row)[0];
}

double series_value(const struct series *s, int64_t row, int column)
{
    return row_at(s, row)[1 + column];
}

static bool name_columns(struct series *s, int n, const char *const *names)
{
    if (!(s->names = calloc((size_t)n + 1, sizeof *s->names)))
        return false;
    for (; s->columns < n; s->columns++)
        if (!(s->names[s->columns] = strdup(names[s->columns])))
            return false;
    return true;
}

bool series_add(struct series *s, int64_t step, int n,
                const char *const *names, const double *values)
{
    if (!s->names && !name_columns(s, n, names))
        return false;
    while (s->rows && series_step(s, s->rows - 1) >= (double)step)
        s->rows--;
    if (s->rows == s->capacity) {
        int64_t more = s->capacity ? 2 * s->capacity : 1024;
        double *grown = realloc(s->values, (size_t)more * (size_t)(s->columns + 1)
                                * sizeof *grown);
        if (!grown)
            return false;
        s->values = grown;
        s->capacity = more;
    }
    double *row = row_at(s, s->rows++);
    row[0] = (double)step;
    for (int i = 0; i < s->columns; i++)
        row[1 + i] = NAN;
    for (int i = 0; i < n; i++) {
        int column = i < s->columns && !strcmp(names[i], s->names[i])
                   ? i : series_find(s, names[i]);
        if (column >= 0)
            row[1 + column] = values[i];
    }
    return true;
}

enum { MAX_COLUMNS = 64 };

static bool add_line(struct series *s, json_t *line)
{
    const char *names[MAX_COLUMNS], *key;
    double values[MAX_COLUMNS];
    json_t *v, *step = json_object_get(line, "step");
    int n = 0;

    if (!json_is_integer(step) || json_object_get(line, "event"))
        return true;
    json_object_foreach(line, key, v) {
        if (n == MAX_COLUMNS || !strcmp(key, "step") || !(json_is_number(v) || json_is_null(v)))
            continue;
        names[n] = key;
        values[n++] = json_is_null(v) ? NAN : json_number_value(v);
    }
    return n == 0 || series_add(s, json_integer_value(step), n, names, values);
}

bool series_read(struct series *s, const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    bool good = true;

    if (!f)
        return true;
    while (good && (n = getline(&line, &size, f)) > 0) {
        json_t *object = json_loadb(line, (size_t)n, 0, NULL);
        good = !object || add_line(s, object);
        json_decref(object);
    }
    free(line);
    fclose(f);
    return good;
}
