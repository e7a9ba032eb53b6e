/* ebm-devices.c - what could compute here, what is chosen, and why.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdio.h>
#include <string.h>
#include "options.h"
#include "tool.h"

static struct {
    struct integer threads;
    bool json;
} given;

static const struct option_row rows[] = {
    { "threads", 't', OPTION_INTEGER, "N", "of the CPU; all processors if not given",
      &given.threads, 1, 4096 },
    { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 },
};
static const struct tool tool = {
    "ebm-devices", NULL, "", "What could compute here, what is chosen and why.",
    rows, COUNT(rows)
};

enum { DEVICES_MOST = 64 };

struct candidate {
    char name[24];
    bool opens, chosen, measured;
    int status;
    ebm_peaks peaks;           /* zeros where they cannot be measured */
    char text[400];            /* its description, or why it does not open */
};

static void try_device(ebm_context *context, struct candidate *c)
{
    ebm_backend *device = NULL;
    int rc = ebm_backend_open(context, c->name, (int)given.threads.value, &device);

    c->status = rc;
    c->opens = rc == EBM_OK;
    snprintf(c->text, sizeof c->text, "%s",
             c->opens ? ebm_backend_describe(device) : ebm_message(context));
    if (c->opens && c->measured && ebm_backend_peaks(device, &c->peaks) < 0)
        c->peaks = (ebm_peaks){ 0, 0 };
    ebm_backend_free(device);
}

/* The GPUs by their numbers, or "vulkan" for the reason why there is none; then the
 * CPU. */
static size_t list_candidates(ebm_context *context, struct candidate *list)
{
    int gpus = ebm_backend_devices(context, "vulkan");
    size_t n = 0;

    for (int i = 0; i < gpus && i < DEVICES_MOST; i++) {
        list[n] = (struct candidate){ .measured = true };
        snprintf(list[n++].name, sizeof list->name, "vulkan:%d", i);
    }
    if (gpus <= 0)
        list[n++] = (struct candidate){ .name = "vulkan" };
    list[n++] = (struct candidate){ .name = "cpu", .measured = true };
    return n;
}

static bool any_chosen(const struct candidate *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].chosen)
            return true;
    return false;
}

static int run(ebm_context *context)
{
    struct candidate list[DEVICES_MOST + 1], automatic = { .name = "auto" };
    json_t *devices = json_array();
    size_t n = list_candidates(context, list);
    bool graphics = false;

    try_device(context, &automatic);
    for (size_t i = 0; i < n; i++) {
        struct candidate *c = &list[i];
        try_device(context, c);
        /* Two like cards: the first of them. */
        c->chosen = c->opens && automatic.opens && !any_chosen(list, i)
                 && !strncmp(c->text, automatic.text, strlen(c->text));
        graphics |= c->chosen && i + 1 < n;
        if (given.json)
            json_array_append_new(devices, json_pack("{s:s, s:b, s:b, s:f, s:f, s:s}", "name", c->name,
                "usable", c->opens, "chosen", c->chosen, "flops", c->peaks.flops,
                "bytes_per_second", c->peaks.bytes, c->opens ? "description" : "reason",
                c->text));
        else
            printf("%-9s %s%s\n", c->name, c->opens ? c->text : "not usable: ",
                   c->opens ? "" : c->text);
        if (!given.json && c->peaks.flops > 0)
            printf("%-9s at best %.1f GFLOP/s, %.1f GB/s copied\n", "", 1e-9 * c->peaks.flops,
                   1e-9 * c->peaks.bytes);
    }
    const char *why = !automatic.opens ? automatic.text
        : graphics ? "a graphics processor goes before the CPU"
        : "no graphics processor is usable, the CPU does everything";
    for (size_t i = 0; i < n; i++)
        if (!given.json && list[i].chosen)
            printf("chosen    %s: %s\n", list[i].name, why);
    int status = given.json
               ? tool_print_json(json_pack("{s:O, s:s}", "devices", devices, "why", why)) : 0;
    json_decref(devices);
    if (!status && !automatic.opens) {
        tool_say("%s", automatic.text);
        status = automatic.status == EBM_ERR_NOMEM ? EXIT_MEMORY : EXIT_DEVICE;
    }
    return status;
}

int main(int argc, char **argv)
{
    ebm_context *context = tool_start(tool.name);
    int operand, status = EXIT_USAGE;

    if (!context)
        return EXIT_MEMORY;
    int rc = options_read(&tool, argc, argv, &operand);
    if (rc >= 0)
        status = rc;
    else if (operand < argc)
        tool_say("'%s' is not expected: ebm-devices takes options only", argv[operand]);
    else
        status = tool_end(run(context));
    ebm_context_free(context);
    return status;
}
