/* test_memory.c - what a dry run says of memory is what the run then takes; limits on
 * training and sampling are kept to.
 *
 * SPDX-License-Identifier: ISC
 *
 * Measured is the most memory that was ever resident in the process, less that of
 * a process that only tells its version.  Run in the build folder. */
#include "config.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "source.h"
#include "tap.h"

static const double ERROR = 0.05;
enum { COMMAND_SIZE = 2000, NPY_HEADER = 192 };

#define SMALL "apps/ebm-train --backend cpu --threads 2 --seed 1 --quiet --data shapes:64 "
#define SHORT "--steps 2 --set grid.every=0 --set grid.images=4 --set sample.batch=4 --set sample.steps=2 "
#define CD SMALL "--recipe digits " SHORT "--set data.height=32 --set data.width=32 --set data.channels=3 " \
    "--set buffer.size=500 --set langevin.steps=2 --set buffer.burn_in=0 " \
    "--set 'energy.net=conv:64 repeat:3(res(groupnorm:8 silu conv:64)) silu sum linear:1' "
#define ICD SMALL "--recipe icd-digits " SHORT "--set langevin.steps=2 --set sample.rounds=1 --set batch=48 "

#define WHOLE "apps/ebm-train --backend cpu --threads 2 --seed 1 --quiet --steps 2 --set grid.every=0 --recipe "

/* Run it; what it wrote comes back.  Returns the most bytes it had, or 0 where it
 * failed. */
static double run(const char *command, char *text, size_t size)
{
    FILE *out = tmpfile();
    double bytes = 0;
    int ends[2], status = -1;

    if (!out || pipe(ends) < 0)
        exit(99);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {          /* whose only child the command is */
        struct rusage usage;
        pid_t child = fork();
        if (child == 0) {
            dup2(fileno(out), 1);
            dup2(fileno(out), 2);
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
            _exit(99);
        }
        waitpid(child, &status, 0);
        getrusage(RUSAGE_CHILDREN, &usage);
        bytes = status == 0 ? 1024. * (double)usage.ru_maxrss : 0;
        _exit(write(ends[1], &bytes, sizeof bytes) != sizeof bytes);
    }
    close(ends[1]);
    if (read(ends[0], &bytes, sizeof bytes) != sizeof bytes)
        bytes = 0;
    close(ends[0]);
    waitpid(pid, NULL, 0);
    rewind(out);
    size_t n = fread(text, 1, size - 1, out);
    text[n] = '\0';
    fclose(out);
    return bytes;
}

/* "all" of a dry run's bytes; 0 where it failed. */
static double estimate(const char *settings)
{
    static char text[1 << 17];
    char command[COMMAND_SIZE];

    snprintf(command, sizeof command, "%s --dry-run --json", settings);
    run(command, text, sizeof text);
    const char *at = strstr(text, "\"all\":");
    if (!at)
        tap_note("%s", text);
    return at ? atof(at + 6) : 0;
}

static void compare(const char *name, const char *settings, double bare)
{
    static char text[1 << 16];
    char command[COMMAND_SIZE];
    double said = estimate(settings);

    snprintf(command, sizeof command, "rm -rf memory.tmp; %s --out memory.tmp", settings);
    double took = run(command, text, sizeof text) - bare;
    if (!(took > 0))
        tap_note("%s", text);
    tap_ok(fabs(said / took - 1) <= ERROR, "%s: %.1f MiB were said, %.1f taken: %+.1f %%", name, said / 1048576,
           took / 1048576, 100 * (said / took - 1));
}

/* A limit of two thirds: a part is chosen, said, and kept to. */
static void test_limit(double bare)
{
    static char text[1 << 16];
    char command[COMMAND_SIZE];
    double limit = floor(estimate(CD "--set batch=32") * 2 / 3);

    snprintf(command, sizeof command, "rm -rf memory.tmp; %s --set batch=32 --max-mem %.0f --out memory.tmp"
             " && grep batch.part memory.tmp/recipe", CD, limit);
    for (char *q; (q = strstr(command, "--quiet ")); )
        memmove(q, q + 8, strlen(q + 8) + 1);
    double took = run(command, text, sizeof text) - bare;
    tap_ok(took > 0 && took <= limit * (1 + ERROR), "--max-mem: of %.1f MiB allowed %.1f are taken", limit / 1048576,
           took / 1048576);
    tap_ok(strstr(text, "batches of 32 are computed") && strstr(text, "at a time"), "it says in which parts");
    const char *at = strstr(text, "batch.part");
    int part = at ? atoi(at + strcspn(at, "0123456789")) : 0;
    tap_ok(part > 0 && part < 32 && 32 % part == 0, "the recipe has it: %d", part);

    run(CD "--set batch=32 --max-mem 1M --dry-run", text, sizeof text);
    tap_ok(strstr(text, "at least") && strstr(text, "of 32 images at a time"), "too little: it says how much would do");
}

/* The pixels of two arrays of images; -1: they are not as many, or none. */
static double largest_difference(const char *a_path, const char *b_path)
{
    FILE *a = fopen(a_path, "rb"), *b = fopen(b_path, "rb");
    float x, y;
    double most = -1;

    if (a && b && !fseek(a, NPY_HEADER, SEEK_SET) && !fseek(b, NPY_HEADER, SEEK_SET))
        while (fread(&x, sizeof x, 1, a) == 1)
            most = fread(&y, sizeof y, 1, b) == 1 ? fmax(most, fabs((double)x - y)) : INFINITY;
    if (a)
        fclose(a);
    if (b)
        fclose(b);
    return isfinite(most) ? most : -1;
}

/* Sampling within two thirds of what it would take: a part of the batch is chosen, said, and
 * kept to, and the images are the same but for roundings. */
static void test_sampling_limit(double bare)
{
#define SAMPLE "apps/ebm-sample memory.tmp/model.safetensors --backend cpu --threads 2 --seed 1 -n 32 " \
    "--set sample.batch=32 --set sample.steps=2 "
    static char text[1 << 16];
    char command[COMMAND_SIZE];

    double trained = run("rm -rf memory.tmp; " CD "--set batch=4 --out memory.tmp", text, sizeof text);
    double whole = run(SAMPLE "--quiet --out memory.tmp/whole.npy", text, sizeof text) - bare;
    if (!tap_ok(trained > 0 && whole > 0, "a model is sampled from, with %.1f MiB", whole / 1048576))
        tap_note("%s", text);
    const double limit = floor(whole * 2 / 3);
    snprintf(command, sizeof command, SAMPLE "--max-mem %.0f --out memory.tmp/parts.npy", limit);
    double took = run(command, text, sizeof text) - bare;
    tap_ok(took > 0 && took <= limit * (1 + ERROR), "ebm-sample --max-mem: of %.1f MiB allowed %.1f are taken",
           limit / 1048576, took / 1048576);
    tap_ok(strstr(text, "batches of 32 are computed") && strstr(text, "at a time"), "it says in which parts");
    double difference = largest_difference("memory.tmp/whole.npy", "memory.tmp/parts.npy");
    tap_ok(difference >= 0 && difference < 1e-4, "and draws the same images, to %.0e", difference);
    tap_ok(run(SAMPLE "--max-mem 1M --out memory.tmp/none.npy", text, sizeof text) == 0 && strstr(text, "at least")
           && strstr(text, "of 32 images at a time"), "too little: it says how much would do");
    tap_ok(!fopen("memory.tmp/none.npy", "rb"), "and draws nothing");
}

/* Parts of a large batch do not wait for each other, so they need little at once. */
static void test_parts(void)
{
#define LARGE "apps/ebm-train --backend cpu --threads 2 --data shapes:64 --recipe icd-cifar10 --set batch.part="
    double whole = estimate(LARGE "0"), parts = estimate(LARGE "32");

    tap_ok(parts > 0 && parts < whole / 2, "128 images of 32x32: %.0f MiB, 32 at a time %.0f", whole / 1048576, parts / 1048576);
}

int main(void)
{
    char text[1000];

    use_source_folders();
    setenv("OMP_WAIT_POLICY", "passive", 0);
#ifdef __SANITIZE_ADDRESS__
    tap_skip_all("the address sanitizer takes memory of its own");
#endif
    double bare = run("apps/ebm-train --version", text, sizeof text);

    if (bare == 0)
        tap_skip_all("apps/ebm-train is not there, or memory is not measured");
    compare("cd", CD "--set batch=32", bare);
    compare("cd in parts", CD "--set batch=32 --set batch.part=8", bare);
    compare("icd", ICD, bare);
    compare("icd in parts", ICD "--set batch.part=24", bare);
    compare("digits as it is", WHOLE "digits", bare);
    compare("icd-digits as it is", WHOLE "icd-digits --set langevin.steps=2", bare);
    compare("cdrl-digits, 32 images", WHOLE "cdrl-digits --set batch=32", bare);
    compare("cdrl-toy as it is", WHOLE "cdrl-toy", bare);
    test_limit(bare);
    test_sampling_limit(bare);
    test_parts();
    run("rm -rf memory.tmp", text, sizeof text);
    return tap_done();
}
