/* ebm-model.c - what a model file is; models from checkpoints of other programs.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "options.h"
#include "tool.h"

static struct {
    const char *out, *weights;
    struct texts settings;
    bool list, json;
} given;

#define JSON_ROW { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 }

static const struct option_row inspect_rows[] = { JSON_ROW };
static const struct option_row import_rows[] = {
    { "out", 'o', OPTION_TEXT, "MODEL", "write the model there", &given.out, 0, 0 },
    { "set", 's', OPTION_TEXTS, "KEY=VALUE", "a setting, before what is inferred",
      &given.settings, 0, 0 },
    { "weights", 'w', OPTION_TEXT, "NAME", "raw: the last, not their average; or a dictionary",
      &given.weights, 0, 0 },
    { "list", 'l', OPTION_FLAG, NULL, "only list the tensors of FILE", &given.list, 0, 0 },
    JSON_ROW
};
static const struct tool inspect_tool = {
    "ebm-model", "inspect", "FILE", "What a model file says of itself, without its weights "
    "being read.", inspect_rows, COUNT(inspect_rows)
};
static const struct tool import_tool = {
    "ebm-model", "import", "FILE", "A model from a checkpoint of PyTorch (.pth) or from "
    "safetensors.", import_rows, COUNT(import_rows)
};

static void print_tensors(int n, const ebm_model_tensor *tensors)
{
    for (int i = 0; i < n; i++) {
        const ebm_model_tensor *t = &tensors[i];
        printf("  %-32s %-5s ", t->name, t->type);
        for (int j = 0; j < t->rank; j++)
            printf("%s%" PRId64, j ? "x" : "", t->shape[j]);
        puts(t->rank ? "" : "scalar");
    }
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
    print_tensors(m->n_tensors, m->tensors);
}

static json_t *json_tensors(int n, const ebm_model_tensor *tensors)
{
    json_t *all = json_array();

    for (int i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int j = 0; j < tensors[i].rank; j++)
            json_array_append_new(shape, json_integer(tensors[i].shape[j]));
        json_array_append_new(all, json_pack("{s:s, s:s, s:o}", "name", tensors[i].name,
                                             "type", tensors[i].type, "shape", shape));
    }
    return all;
}

static json_t *json_info(const ebm_model_info *m)
{
    json_t *settings = json_object();

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
        "library", m->library, "sha256", m->digest, "settings", settings, "tensors", json_tensors(m->n_tensors, m->tensors));
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

/* ---- import ---- */

static int list_tensors(const ebm_foreign_info *info)
{
    if (given.json)
        return tool_print_json(json_pack("{s:s, s:o}", "format", info->format, "tensors",
                                         json_tensors(info->n_tensors, info->tensors)));
    printf("format       %s\n\ntensors\n", info->format);
    print_tensors(info->n_tensors, info->tensors);
    return EXIT_DONE;
}

static int import(ebm_context *context, const char *path)
{
    ebm_import_options options = { given.settings.v, given.settings.n, given.weights };
    ebm_foreign *file;
    int status = EXIT_DONE, rc = ebm_foreign_open(context, path, &file);

    if (rc < 0)
        return tool_fail(context, rc);
    if (given.list)
        status = list_tensors(ebm_foreign_describe(file));
    else if ((rc = ebm_foreign_import(file, &options, given.out)) < 0)
        status = tool_fail(context, rc);
    else
        status = inspect(context, given.out);
    ebm_foreign_free(file);
    return status;
}

/* ---- the commands ---- */

static int main_inspect(ebm_context *context, int argc, char **argv)
{
    int operand, rc = options_read(&inspect_tool, argc, argv, &operand);

    if (rc >= 0)
        return rc;
    if (operand == argc - 1)
        return inspect(context, argv[operand]);
    tool_say("one FILE is needed, as in: ebm-model inspect run/model.safetensors");
    return EXIT_USAGE;
}

static int main_import(ebm_context *context, int argc, char **argv)
{
    int operand, status = options_read(&import_tool, argc, argv, &operand);

    if (status < 0) {
        if (operand == argc - 1 && !given.out == given.list) {
            status = import(context, argv[operand]);
        } else {
            tool_say("one FILE and --out or --list are needed, as in: ebm-model import model_best.pth "
                     "--out model.safetensors");
            status = EXIT_USAGE;
        }
    }
    options_free(&import_tool);
    return status;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    ebm_context *context = tool_start("ebm-model");
    int status = EXIT_USAGE;

    if (!context)
        return EXIT_MEMORY;
    if (!strcmp(command, "inspect")) {
        status = main_inspect(context, argc - 1, argv + 1);
    } else if (!strcmp(command, "import")) {
        status = main_import(context, argc - 1, argv + 1);
    } else if (!strcmp(command, "--help") || !strcmp(command, "-h")) {
        options_print(&inspect_tool);
        putchar('\n');
        options_print(&import_tool);
        status = EXIT_DONE;
    } else if (!strcmp(command, "--version") || !strcmp(command, "-V")) {
        printf("ebm-model (libebm) %s\n", ebm_version());
        status = EXIT_DONE;
    } else {
        tool_say("the first word is inspect or import, as in: ebm-model inspect run/model.safetensors");
    }
    ebm_context_free(context);
    return tool_end(status);
}
