/* ebm-model.c - what a model file is.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "options.h"
#include "tool.h"

static struct { bool json; } given;

static const struct option_row rows[] = {
    { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 },
};
static const struct tool tool = {
    "ebm-model", "inspect", "FILE", "What a model file says of itself, without its weights "
    "being read.", rows, COUNT(rows)
};

static void print_shape(const ebm_model_tensor *t)
{
    for (int i = 0; i < t->rank; i++)
        printf("%s%" PRId64, i ? "x" : "", t->shape[i]);
    printf("%s", t->rank ? "" : "scalar");
}

static void print_info(const ebm_model_info *m)
{
    printf("method       %s\n", m->method);
    printf("images       %d x %d x %d\n", m->height, m->width, m->channels);
    printf("parameters   %" PRId64 "\n", m->parameters);
    printf("trained      %" PRId64 " steps, seed %" PRIu64 "\n", m->steps, m->seed);
    printf("data         %s, fingerprint %s\n", m->data, m->fingerprint);
    printf("written by   libebm %s\n", m->library);
    printf("sha256       %s\n", m->digest);
    printf("\nsettings\n");
    for (const char *line = m->recipe; *line; ) {
        size_t n = strcspn(line, "\n");
        printf("  %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
    printf("\ntensors\n");
    for (int i = 0; i < m->n_tensors; i++) {
        printf("  %-32s %-5s ", m->tensors[i].name, m->tensors[i].type);
        print_shape(&m->tensors[i]);
        putchar('\n');
    }
}

static json_t *json_info(const ebm_model_info *m)
{
    json_t *tensors = json_array(), *settings = json_object();

    for (int i = 0; i < m->n_tensors; i++) {
        json_t *shape = json_array();
        for (int j = 0; j < m->tensors[i].rank; j++)
            json_array_append_new(shape, json_integer(m->tensors[i].shape[j]));
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o}", "name", m->tensors[i].name,
                                                 "type", m->tensors[i].type, "shape", shape));
    }
    for (const char *line = m->recipe; *line; ) {
        size_t n = strcspn(line, "\n"), key = strcspn(line, " =\n");
        size_t value = key + strspn(line + key, " =");
        char name[128];
        if (key < sizeof name && value <= n) {
            snprintf(name, sizeof name, "%.*s", (int)key, line);
            json_object_set_new(settings, name, json_stringn(line + value, n - value));
        }
        line += n + (line[n] == '\n');
    }
    return json_pack("{s:s, s:[i,i,i], s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:o, s:o}",
        "method", m->method, "shape", m->height, m->width, m->channels,
        "parameters", (json_int_t)m->parameters, "steps", (json_int_t)m->steps,
        "seed", (json_int_t)m->seed, "data", m->data, "fingerprint", m->fingerprint,
        "library", m->library, "sha256", m->digest, "settings", settings, "tensors", tensors);
}

static int inspect(ebm_context *context, const char *path)
{
    const ebm_model_info *info;
    int rc = ebm_model_inspect(context, path, &info);

    if (rc < 0)
        return tool_fail(context, rc);
    int status = EXIT_DONE;
    if (given.json)
        status = tool_print_json(json_info(info));
    else
        print_info(info);
    ebm_model_info_free(context, info);
    return status;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    ebm_context *context = tool_start(tool.name);
    int operand, status = EXIT_USAGE;

    if (!context)
        return EXIT_MEMORY;
    if (!strcmp(command, "inspect")) {
        int rc = options_read(&tool, argc - 1, argv + 1, &operand);
        if (rc >= 0)
            status = rc;
        else if (operand != argc - 2)
            tool_say("one FILE is needed, as in: ebm-model inspect run/model.safetensors");
        else
            status = inspect(context, argv[operand + 1]);
    } else if (!strcmp(command, "--help") || !strcmp(command, "-h")) {
        options_print(&tool);
        status = EXIT_DONE;
    } else if (!strcmp(command, "--version") || !strcmp(command, "-V")) {
        printf("ebm-model (libebm) %s\n", ebm_version());
        status = EXIT_DONE;
    } else {
        tool_say("the first word is inspect, as in: ebm-model inspect run/model.safetensors");
    }
    ebm_context_free(context);
    return tool_end(status);
}
