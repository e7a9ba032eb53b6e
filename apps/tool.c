/* tool.c - what all tools share: their start, their messages, how they end.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "progress.h"
#include "tool.h"

static const char *tool_name = "ebm";
static bool tool_quiet;

static void log_line(void *user, int level, const char *message)
{
    (void)user;
    if (level == EBM_LOG_WARN)
        tool_say("warning: %s", message);
    else if (level == EBM_LOG_INFO)
        tool_inform("%s", message);
}

void tool_be_quiet(bool quiet)
{
    tool_quiet = quiet;
}

ebm_context *tool_start(const char *name)
{
    const ebm_host host = { .log = log_line };
    ebm_context *context;

    tool_name = name;
    if (ebm_context_new(&host, &context) < 0)
        tool_fail_memory();
    return context;
}

static void say(const char *format, va_list args)
{
    progress_hide();
    fprintf(stderr, "%s: ", tool_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void tool_say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
}

void tool_inform(const char *format, ...)
{
    va_list args;

    if (tool_quiet)
        return;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

int tool_fail(const ebm_context *context, int status)
{
    static const int codes[] = {
        [-EBM_ERR_ARG] = EXIT_USAGE, [-EBM_ERR_FORMAT] = EXIT_FORMAT,
        [-EBM_ERR_IO] = EXIT_IO, [-EBM_ERR_NOMEM] = EXIT_MEMORY,
        [-EBM_ERR_DEVICE] = EXIT_DEVICE, [-EBM_ERR_DIVERGED] = EXIT_DIVERGED,
        [-EBM_ERR_STOPPED] = EXIT_STOPPED, [-EBM_ERR_INTERNAL] = EXIT_DEFECT,
    };
    const char *message = ebm_message(context);

    tool_say("%s", *message ? message : ebm_status_name(status));
    return status < 0 && -status < (int)COUNT(codes) ? codes[-status] : EXIT_DEFECT;
}

int tool_fail_memory(void)
{
    tool_say("no memory");
    return EXIT_MEMORY;
}

json_t *tool_json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

int tool_print_json(json_t *object)
{
    char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;

    json_decref(object);
    if (!text) {
        tool_say("no memory for the results as JSON, or a name in them is not UTF-8");
        return EXIT_MEMORY;
    }
    puts(text);
    free(text);
    return 0;
}

int tool_end(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    tool_say("cannot write the results: %s", strerror(errno));
    return status == EXIT_DONE ? EXIT_IO : status;
}

uint64_t tool_random_seed(void)
{
    uint32_t seed = (uint32_t)time(NULL) * 2654435761u ^ (uint32_t)getpid();
    FILE *f = fopen("/dev/urandom", "rb");

    if (f) {
        uint32_t drawn;
        if (fread(&drawn, sizeof drawn, 1, f) == 1)
            seed = drawn;
        fclose(f);
    }
    return seed;
}
