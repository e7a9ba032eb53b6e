/* parts.c - see parts.h.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "parts.h"

static int read_weights(struct parts *p)
{
    const char *at = p->weights;
    int n = 0;

    for (bool more = at != NULL; more; n++) {
        char *end;
        double w = strtod(at, &end);
        more = *end == ',';
        if (end == at || (*end && !more) || !isfinite(w) || w == 0) {
            tool_say("--weights %s: numbers other than 0 with commas between them, as in 1,0.5", p->weights);
            return EXIT_USAGE;
        }
        if (n < p->count)
            p->list[n].weight = w;
        at = end + 1;
    }
    if (p->weights && n != p->count) {
        tool_say("--weights %s: %d for %d models", p->weights, n, p->count);
        return EXIT_USAGE;
    }
    return 0;
}

static int read_labels(struct parts *p)
{
    if (p->labels.n > p->count) {
        tool_say("%d times --label for %d models: the first is for the first model, and so on",
                 p->labels.n, p->count);
        return EXIT_USAGE;
    }
    for (int i = 0; i < p->labels.n; i++) {
        char *end;
        errno = 0;
        long label = strtol(p->labels.v[i], &end, 10);
        if (!strcmp(p->labels.v[i], "any"))
            continue;
        if (errno || end == p->labels.v[i] || *end || label < 0 || label > INT_MAX) {
            tool_say("--label %s: the number of a class, or any", p->labels.v[i]);
            return EXIT_USAGE;
        }
        p->list[i].label = (int)label;
    }
    return 0;
}

static int read_any(struct parts *p)
{
    char *end;

    if (!p->any)
        return 0;
    p->sharpness = strtod(p->any, &end);
    if (end != p->any && !*end && isfinite(p->sharpness) && p->sharpness > 0)
        return 0;
    tool_say("--any %s: a number above 0, as in 100", p->any);
    return EXIT_USAGE;
}

int parts_read(struct parts *p, int count, char **paths)
{
    int status;

    p->count = count;
    if (!(p->list = calloc((size_t)count, sizeof *p->list)))
        return tool_fail_memory();
    for (int i = 0; i < count; i++)
        p->list[i] = (ebm_model_part){ paths[i], 1, -1 };
    p->joined = count > 1 || p->weights || p->labels.n || p->any;
    if ((status = read_weights(p)) || (status = read_labels(p)))
        return status;
    return read_any(p);
}

void parts_free(struct parts *p)
{
    free(p->list);
}

int parts_open(const struct parts *p, ebm_backend *device, const ebm_model_options *options,
               ebm_model **model)
{
    if (!p->joined)
        return ebm_model_open(device, p->list[0].path, options, model);
    return ebm_model_join(device, p->count, p->list, p->sharpness, options, model);
}

char *parts_digests(const struct parts *p, const ebm_model *model)
{
    enum { LINE = 160 };
    char *text = malloc((size_t)p->count * LINE);
    size_t n = 0;

    for (int i = 0; text && i < p->count; i++) {
        const char *digest = ebm_model_member(model, i)->digest;
        size_t room = (size_t)p->count * LINE - n;
        n += (size_t)snprintf(text + n, room, "%s%.64s", i ? "\n" : "", digest);
        if (p->joined)
            n += (size_t)snprintf(text + n, (size_t)p->count * LINE - n, " weight %.9g label %d",
                                  p->list[i].weight, p->list[i].label);
    }
    return text;
}

json_t *parts_json(const struct parts *p, const ebm_model *model)
{
    json_t *list = json_array();

    for (int i = 0; i < p->count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:i}", "model", p->list[i].path,
            "model_sha256", ebm_model_member(model, i)->digest,
            "weight", tool_json_number(p->list[i].weight), "label", p->list[i].label));
    return list;
}
