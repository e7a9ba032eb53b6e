/* test_checkpoint.c - a run's newest intact state is found again, whatever
 * happened to the files or to the process.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <signal.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include "checkpoint.h"
#include "folder.h"
#include "tap.h"

static ebm_context *ctx;
static char logged[4000];

static void keep_log(void *user, int level, const char *message)
{
    size_t n = strlen(logged);

    (void)user;
    if (level == EBM_LOG_WARN)
        snprintf(logged + n, sizeof logged - n, "%s\n", message);
}

enum { ELEMENTS = 100000 };

/* A checkpoint whose tensor is filled with its step. */
static int save(int64_t step, int last, int64_t every)
{
    static int32_t data[ELEMENTS];
    const struct checkpoint_keep keep = { .last = last, .every = every };
    const int64_t shape = ELEMENTS;
    struct safetensors_writer *w;

    for (int i = 0; i < ELEMENTS; i++)
        data[i] = (int32_t)step;
    if (safetensors_writer_new(ctx, &w) < 0)
        return -1;
    safetensors_add(w, "state", EBM_I32, 1, &shape, data);
    int rc = checkpoint_save(ctx, folder, step, w, &keep);
    safetensors_writer_free(w);
    return rc;
}

/* The step whose state is opened, or the status. */
static int64_t reopen(void)
{
    static int32_t data[ELEMENTS];
    struct safetensors *f;
    int64_t step, shape = ELEMENTS;

    logged[0] = 0;
    int rc = checkpoint_open(ctx, folder, &f, &step);
    if (rc <= 0)
        return rc;
    rc = safetensors_read_shaped(f, "state", EBM_I32, 1, &shape, data);
    for (int i = 0; rc == 0 && i < ELEMENTS; i++)
        if (data[i] != step)
            rc = -100;
    safetensors_close(f);
    return rc < 0 ? rc : step;
}

static const char *listed(void)
{
    static char text[200];
    int64_t *steps;
    int count;

    text[0] = 0;
    if (checkpoint_list(ctx, folder, &steps, &count) < 0)
        return ebm_message(ctx);
    for (int i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i ? " " : "",
                 (int)steps[i]);
    mem_free(ctx, steps);
    return text;
}

static void cut(const char *name, long size)
{
    if (truncate(in_folder(name), size) < 0)
        perror(name);
}

static void alter(const char *name, long at)
{
    FILE *f = fopen(in_folder(name), "r+b");

    if (!f || fseek(f, at, SEEK_SET) || fputc('x', f) < 0 || fclose(f))
        perror(name);
}

static void test_retention(void)
{
    tap_ok(reopen() == 0, "an empty folder has no checkpoint");
    for (int64_t step = 100; step <= 1000; step += 100)
        if (save(step, 2, 400) < 0)
            tap_ok(false, "saving: %s", ebm_message(ctx));
    tap_ok(!strcmp(listed(), "400 800 900 1000"), "kept: %s", listed());
    tap_ok(reopen() == 1000 && !*logged, "the newest is opened, silently");
}

static void test_damage(void)
{
    cut("checkpoint-000001000.safetensors", 5000);
    tap_ok(reopen() == 900, "after a cut the one before is used");
    tap_ok(strstr(logged, "000001000") && strstr(logged, "900"), "said: %s", strtok(logged, "\n"));
    alter("checkpoint-000000900.safetensors", 300000);
    tap_ok(reopen() == 800, "after an altered byte too");
    tap_ok(save(850, 1, 0) == EBM_OK && !strcmp(listed(), "850"),
           "saving then leaves no damaged ones of later steps");
    tap_ok(rename(in_folder("checkpoint-000000850.safetensors"),
                  in_folder("checkpoint-000002000.safetensors")) == 0
           && reopen() == EBM_ERR_FORMAT, "a renamed one is refused: %s", ebm_message(ctx));
    remove(in_folder("checkpoint-000002000.safetensors"));
    tap_ok(save(2000000000, 1, 0) == EBM_OK && reopen() == 2000000000,
           "steps beyond nine digits");
    remove(in_folder("checkpoint-2000000000.safetensors"));
}

/* Kill a child that saves without pause; what it had saved must be there. */
static void test_kill(void)
{
    int good = 0, rounds = 12;

    for (int round = 0; round < rounds; round++) {
        int64_t before = reopen();
        pid_t child = fork();
        if (child == 0) {
            for (int64_t step = before + 1; ; step++)
                if (save(step, 2, 0) < 0)
                    _exit(1);
        }
        struct timespec pause = { 0, 15000000 + 3700000L * round };
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        int64_t after = reopen();
        good += after >= before && !*logged;
    }
    char **names;
    int count, others = 0;
    io_names(ctx, folder, &names, &count);
    for (int i = 0; i < count; i++)
        others += strncmp(names[i], "checkpoint-", 11) != 0;
    io_free_names(ctx, names, count);
    tap_ok(good == rounds, "after kill -9 the newest saved state opens (%d of %d)", good, rounds);
    tap_ok(others == 0, "and leftovers are removed");
}

static void test_log(void)
{
    struct io_log *log;
    char *text;
    size_t size;

    tap_ok(io_log_open(ctx, in_folder("log"), 0, &log) == EBM_OK
           && io_log_write(log, "one\n", 4) == EBM_OK && io_log_write(log, "two\n", 4) == EBM_OK
           && io_log_size(log) == 8, "a log grows");
    pid_t child = fork();
    if (child == 0) {
        struct io_log *second;
        _exit(io_log_open(ctx, in_folder("log"), UINT64_MAX, &second) == EBM_ERR_IO ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    tap_ok(status == 0, "a second process is kept out");
    io_log_close(log);
    tap_ok(io_log_open(ctx, in_folder("log"), 4, &log) == EBM_OK
           && io_log_write(log, "2\n", 2) == EBM_OK, "a log is cut when it is resumed");
    io_log_close(log);
    tap_ok(io_read_whole(ctx, in_folder("log"), 100, &text, &size) == EBM_OK
           && !strcmp(text, "one\n2\n"), "and goes on from there");
    mem_free(ctx, text);
    tap_ok(io_log_open(ctx, in_folder("log"), 7, &log) == EBM_ERR_FORMAT, "%s", ebm_message(ctx));
    tap_ok(io_make_folder(ctx, in_folder("a/b//c/")) == EBM_OK
           && io_is_folder(in_folder("a/b/c")), "folders with their parents");
    rmdir(in_folder("a/b/c"));
    rmdir(in_folder("a/b"));
    tap_ok(io_make_folder(ctx, in_folder("log/x")) == EBM_ERR_IO, "%s", ebm_message(ctx));
}

int main(void)
{
    const ebm_host host = { .log = keep_log };

    if (!folder_make() || ebm_context_new(&host, &ctx) < 0)
        return 99;
    test_retention();
    test_damage();
    test_kill();
    test_log();
    ebm_context_free(ctx);
    folder_remove();
    return tap_done();
}
