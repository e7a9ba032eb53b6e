/* faults_preload.c - a library that makes the n-th call of a process fail.
 *
 * SPDX-License-Identifier: ISC
 *
 *   LD_PRELOAD=faults_preload.so EBM_FAULT=memory:17 EBM_FAULT_FIRED=file tool...
 *
 *   memory:N   the N-th malloc, calloc or realloc (from 0) gives NULL
 *   io:N       the N-th call that opens, reads, writes, syncs, renames, closes
 *              or makes a folder fails: a write with ENOSPC, the others with EIO
 *
 * Only calls made by this project's own code, and by the libraries of pictures
 * and archives, count.  OpenMP's run-time ends the process when it has no memory;
 * Jansson 2.14 loses characters of strings, and sometimes writes past their end.
 * The file is made when the call has failed; a tool that ends without it has had
 * its last turn. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { NONE, MEMORY, IO };

static enum kind kind_wanted(long *n)
{
    const char *s = getenv("EBM_FAULT");

    if (s && strncmp(s, "memory:", 7) == 0)
        return *n = strtol(s + 7, NULL, 10), MEMORY;
    if (s && strncmp(s, "io:", 3) == 0)
        return *n = strtol(s + 3, NULL, 10), IO;
    return NONE;
}

/* Whose call is it? */
static int counts(const void *caller)
{
    static const char *const ours[] = { "libebm", "ebm-", "libpng", "libzip", "libjpeg", "libz." };
    Dl_info info;

    if (!dladdr(caller, &info) || !info.dli_fname)
        return 0;
    const char *name = strrchr(info.dli_fname, '/');
    name = name ? name + 1 : info.dli_fname;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strncmp(strncmp(name, "lt-", 3) ? name : name + 3, ours[i], strlen(ours[i])) == 0)
            return 1;
    return 0;
}

/* Is it this call's turn? */
static int turn(enum kind kind, const void *caller)
{
    static long calls;
    long n;

    if (kind_wanted(&n) != kind || !counts(caller)
        || __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED) != n)
        return 0;
    const char *fired = getenv("EBM_FAULT_FIRED");
    int (*real)(const char *, mode_t) = (int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "creat");
    if (fired && real)
        close(real(fired, 0666));
    return 1;
}

#define TURN(kind) turn(kind, __builtin_return_address(0))
/* ISO C has no cast from data to functions; POSIX has. */
#define REAL(name) static __typeof__(&name) real; \
    if (!real) \
        *(void **)&real = dlsym(RTLD_NEXT, #name)

/* ---- memory ---- */

void *malloc(size_t size)
{
    REAL(malloc);
    return TURN(MEMORY) ? (errno = ENOMEM, NULL) : real(size);
}

void *realloc(void *ptr, size_t size)
{
    REAL(realloc);
    return TURN(MEMORY) ? (errno = ENOMEM, NULL) : real(ptr, size);
}

/* calloc() is left alone: dlsym() itself may call it. */

/* ---- files ---- */

#define FAIL(code, value) do { if (TURN(IO)) { errno = code; return value; } } while (0)

static mode_t mode_of(int flags, va_list args)
{
    return flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    FAIL(EIO, -1);
    return real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    FAIL(EIO, -1);
    return real(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    REAL(fopen);
    FAIL(EIO, NULL);
    return real(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    REAL(fopen64);
    FAIL(EIO, NULL);
    return real(path, mode);
}

ssize_t read(int fd, void *to, size_t size)
{
    REAL(read);
    FAIL(EIO, -1);
    return real(fd, to, size);
}

ssize_t pread(int fd, void *to, size_t size, off_t at)
{
    REAL(pread);
    FAIL(EIO, -1);
    return real(fd, to, size, at);
}

ssize_t write(int fd, const void *from, size_t size)
{
    REAL(write);
    if (fd != STDERR_FILENO)
        FAIL(ENOSPC, -1);
    return real(fd, from, size);
}

int fflush(FILE *file)
{
    REAL(fflush);
    if (file != stderr)
        FAIL(ENOSPC, EOF);
    return real(file);
}

int fclose(FILE *file)
{
    REAL(fclose);
    if (TURN(IO)) {
        real(file);
        errno = ENOSPC;
        return EOF;
    }
    return real(file);
}

int close(int fd)
{
    REAL(close);
    if (TURN(IO)) {
        real(fd);
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fsync(int fd)
{
    REAL(fsync);
    FAIL(EIO, -1);
    return real(fd);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    FAIL(EIO, -1);
    return real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    FAIL(EIO, -1);
    return real(path, mode);
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    FAIL(EIO, -1);
    return real(fd, size);
}
