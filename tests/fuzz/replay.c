/* replay.c - runs a fuzz target on its corpus, without a fuzzer.
 *
 * SPDX-License-Identifier: ISC
 *
 *   replay [FILE|FOLDER]...
 *
 * Each file is given to the target as it is, cut short at many lengths, and with
 * bytes changed, the same ones each time.  It prints TAP, a line a file.  Without
 * arguments the folder is $srcdir/tests/fuzz/corpus/CORPUS, CORPUS being set when
 * it is compiled.
 * Each copy lies in a block of exactly its size, for checkers of memory. */
#include "config.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include "../tap.h"

#ifndef CORPUS
#define CORPUS ""
#endif

enum { CUTS = 200, CHANGES = 400, FILE_MAX = 1 << 24 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void give(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        return;
    if (size)
        memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* Marsaglia's xorshift */
static uint32_t random_next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* One to four bytes become others; those of extremes are likely. */
static void change(uint8_t *bytes, size_t size, uint32_t *state)
{
    static const uint8_t extremes[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
    uint32_t n = 1 + random_next(state) % 4;
    size_t at = random_next(state) % size;

    for (; n && at < size; n--, at++) {
        uint32_t word = random_next(state);
        bytes[at] = word & 1 ? extremes[(word >> 8) % sizeof extremes]
                             : (uint8_t)(bytes[at] ^ 1u << (word >> 8) % 8);
    }
}

static unsigned exercise(const uint8_t *bytes, size_t size)
{
    uint32_t state = 2463534242u;
    unsigned runs = 1, i;
    uint8_t *copy = malloc(size ? size : 1);

    give(bytes, size);
    for (i = 0; i < CUTS && i < size; i++, runs++)
        give(bytes, size <= CUTS ? i : (size_t)((uint64_t)size * i / CUTS));
    for (i = 0; copy && size && i < CHANGES; i++, runs++) {
        memcpy(copy, bytes, size);
        change(copy, size, &state);
        give(copy, size);
    }
    free(copy);
    return runs;
}

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(FILE_MAX);
    size_t size = file && bytes ? fread(bytes, 1, FILE_MAX, file) : 0;

    if (!file || !bytes || ferror(file))
        tap_ok(false, "%s: cannot be read", path);
    else
        tap_ok(true, "%s: survived in %u forms", path, exercise(bytes, size));
    if (file)
        fclose(file);
    free(bytes);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void replay(const char *path)
{
    struct dirent **entries;
    struct stat st;
    int i, n;

    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
        replay_file(path);
        return;
    }
    n = scandir(path, &entries, visible, alphasort);
    tap_ok(n > 0, "%s: %d files", path, n);
    for (i = 0; i < n; i++) {
        char name[4096];

        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        replay_file(name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    const char *srcdir = getenv("srcdir");
    char folder[4096];
    int i;

    for (i = 1; i < argc; i++)
        replay(argv[i]);
    if (argc < 2) {
        snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".",
                 CORPUS);
        replay(folder);
    }
    return tap_done();
}
