/* io.c - files: whole or in ranges, written whole or not at all.
 *
 * SPDX-License-Identifier: ISC
 *
 * Temporaries are called ".NAME.PID.tmp", so that two processes never write the
 * same one and a sweep knows them.  See io.h for the order of the calls that
 * makes a file durable. */
#include "config.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include "io.h"

enum { BUFFER_SIZE = 1 << 16 };
static const char temporary_end[] = ".tmp";

static int fail_errno(ebm_context *ctx, const char *doing, const char *path)
{
    return ebm_fail(ctx, EBM_ERR_IO, "cannot %s %s: %s", doing, path, strerror(errno));
}

/* The folder part of a path, "." where it has none. */
static char *folder_of(ebm_context *ctx, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return mem_strdup(ctx, ".");
    return mem_printf(ctx, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* --- reading --- */

int io_open(ebm_context *ctx, const char *path, struct io_reader *r)
{
    struct stat st;
    int rc;

    memset(r, 0, sizeof *r);
    r->ctx = ctx;
    r->fd = -1;
    if (!(r->path = mem_strdup(ctx, path)))
        return EBM_ERR_NOMEM;
    do
        r->fd = open(path, O_RDONLY | O_CLOEXEC);
    while (r->fd < 0 && errno == EINTR);
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        rc = fail_errno(ctx, "open", path);
    else if (!S_ISREG(st.st_mode))
        rc = ebm_fail(ctx, EBM_ERR_IO, "cannot read %s: it is %s, not a file", path,
                      S_ISDIR(st.st_mode) ? "a folder" : "a device");
    else
        rc = EBM_OK;
    if (rc < 0) {
        io_close(r);
        return rc;
    }
    r->size = (uint64_t)st.st_size;
    return EBM_OK;
}

int io_open_memory(ebm_context *ctx, const void *bytes, size_t size, const char *name,
                   struct io_reader *r)
{
    memset(r, 0, sizeof *r);
    r->ctx = ctx;
    r->fd = -1;
    r->memory = bytes;
    r->size = size;
    return (r->path = mem_strdup(ctx, name)) ? EBM_OK : EBM_ERR_NOMEM;
}

int io_read(struct io_reader *r, uint64_t offset, void *to, size_t size)
{
    char *p = to;

    if (offset > r->size || size > r->size - offset)
        return ebm_fail(r->ctx, EBM_ERR_FORMAT, "%s ends early: bytes up to %llu are "
                        "needed, it has %llu", r->path,
                        (unsigned long long)(offset + size), (unsigned long long)r->size);
    if (r->memory) {
        memcpy(to, r->memory + offset, size);
        return EBM_OK;
    }
    while (size) {
        ssize_t n = pread(r->fd, p, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(r->ctx, "read", r->path);
        if (n == 0)
            return ebm_fail(r->ctx, EBM_ERR_FORMAT, "%s ends early, at byte %llu: it "
                            "was cut while it was read", r->path, (unsigned long long)offset);
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return EBM_OK;
}

void io_close(struct io_reader *r)
{
    if (!r->ctx)
        return;
    if (r->fd >= 0)
        close(r->fd);
    mem_free(r->ctx, r->path);
    memset(r, 0, sizeof *r);
}

int io_read_whole(ebm_context *ctx, const char *path, size_t limit,
                  char **text, size_t *size)
{
    struct io_reader r;
    int rc = io_open(ctx, path, &r);

    *text = NULL;
    *size = 0;
    if (rc < 0)
        return rc;
    if (r.size > limit)
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s has %llu bytes, more than the %zu that "
                      "such a file may have", path, (unsigned long long)r.size, limit);
    else if (!(*text = mem_new(ctx, (size_t)r.size + 1, 1)))
        rc = EBM_ERR_NOMEM;
    else if ((rc = io_read(&r, 0, *text, (size_t)r.size)) < 0) {
        mem_free(ctx, *text);
        *text = NULL;
    } else {
        *size = (size_t)r.size;
    }
    io_close(&r);
    return rc;
}

/* --- writing --- */

struct io_writer {
    ebm_context *ctx;
    char *path, *folder, *temporary;
    int fd;
    uint64_t flushed;             /* bytes in the file */
    size_t held;                  /* bytes in the buffer, after them */
    char buffer[BUFFER_SIZE];
};

static int write_all(ebm_context *ctx, int fd, const char *path, const char *from, size_t size)
{
    while (size) {
        ssize_t n = write(fd, from, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(ctx, "write", path);
        from += n;
        size -= (size_t)n;
    }
    return EBM_OK;
}

static int sync_fd(ebm_context *ctx, int fd, const char *path)
{
    int rc;

    do
        rc = fsync(fd);
    while (rc < 0 && errno == EINTR);
    /* some file systems cannot: then rename is all that can be had */
    if (rc < 0 && errno != EINVAL && errno != ENOTSUP)
        return fail_errno(ctx, "write to disk", path);
    return EBM_OK;
}

static int sync_folder(ebm_context *ctx, const char *folder)
{
    int fd = open(folder, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return fail_errno(ctx, "open", folder);
    int rc = sync_fd(ctx, fd, folder);
    close(fd);
    return rc;
}

int io_create(ebm_context *ctx, const char *path, struct io_writer **writer)
{
    struct io_writer *w = mem_new(ctx, 1, sizeof *w);
    int rc = EBM_OK;

    *writer = NULL;
    if (!w)
        return EBM_ERR_NOMEM;
    w->ctx = ctx;
    w->fd = -1;
    if (!(w->path = mem_strdup(ctx, path)) || !(w->folder = folder_of(ctx, path))
        || !(w->temporary = mem_printf(ctx, "%s/.%s.%ld%s", w->folder, name_of(path),
                                       (long)getpid(), temporary_end)))
        rc = EBM_ERR_NOMEM;
    else if (io_is_folder(path))
        rc = ebm_fail(ctx, EBM_ERR_IO, "cannot write %s: it is a folder", path);
    else {
        do
            w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        while (w->fd < 0 && errno == EINTR);
        if (w->fd < 0)
            rc = fail_errno(ctx, "write", path);
    }
    if (rc < 0) {
        io_abandon(w);
        return rc;
    }
    *writer = w;
    return EBM_OK;
}

static int flush(struct io_writer *w)
{
    int rc = write_all(w->ctx, w->fd, w->path, w->buffer, w->held);

    if (rc == EBM_OK) {
        w->flushed += w->held;
        w->held = 0;
    }
    return rc;
}

int io_write(struct io_writer *w, const void *from, size_t size)
{
    int rc = EBM_OK;

    if (size > BUFFER_SIZE - w->held)
        rc = flush(w);
    if (rc < 0)
        return rc;
    if (size >= BUFFER_SIZE) {
        rc = write_all(w->ctx, w->fd, w->path, from, size);
        w->flushed += size;
    } else {
        memcpy(w->buffer + w->held, from, size);
        w->held += size;
    }
    return rc;
}

int io_rewrite(struct io_writer *w, uint64_t offset, const void *from, size_t size)
{
    const char *p = from;
    int rc = flush(w);

    if (rc < 0)
        return rc;
    if (offset > w->flushed || size > w->flushed - offset)
        return ebm_fail(w->ctx, EBM_ERR_INTERNAL, "%s: bytes that are not written yet "
                        "cannot be replaced", w->path);
    while (size) {
        ssize_t n = pwrite(w->fd, p, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(w->ctx, "write", w->path);
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return EBM_OK;
}

int io_commit(struct io_writer *w)
{
    ebm_context *ctx = w->ctx;
    int rc;

    if ((rc = flush(w)) < 0 || (rc = sync_fd(ctx, w->fd, w->path)) < 0) {
        io_abandon(w);
        return rc;
    }
    int closed = close(w->fd);
    w->fd = -1;
    if (closed < 0 && errno != EINTR)
        rc = fail_errno(ctx, "write", w->path);
    else if (rename(w->temporary, w->path) < 0)
        rc = fail_errno(ctx, "write", w->path);
    if (rc < 0) {
        io_abandon(w);
        return rc;
    }
    mem_free(ctx, w->temporary);
    w->temporary = NULL;           /* nothing to remove any more */
    rc = sync_folder(ctx, w->folder);
    io_abandon(w);
    return rc;
}

void io_abandon(struct io_writer *w)
{
    if (!w)
        return;
    ebm_context *ctx = w->ctx;
    if (w->fd >= 0)
        close(w->fd);
    if (w->temporary)
        unlink(w->temporary);
    mem_free(ctx, w->path);
    mem_free(ctx, w->folder);
    mem_free(ctx, w->temporary);
    mem_free(ctx, w);
}

int io_write_whole(ebm_context *ctx, const char *path, const void *from, size_t size)
{
    struct io_writer *w;
    int rc = io_create(ctx, path, &w);

    if (rc < 0)
        return rc;
    if ((rc = io_write(w, from, size)) < 0) {
        io_abandon(w);
        return rc;
    }
    return io_commit(w);
}

/* --- logs --- */

struct io_log {
    ebm_context *ctx;
    char *path;
    int fd;
    uint64_t size;
};

/* Claim a file for this process; false if another one has it.  File systems
 * that know no locks are taken at their word. */
static bool lock(int fd)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    return fcntl(fd, F_SETLK, &whole) == 0 || (errno != EACCES && errno != EAGAIN);
}

int io_log_open(ebm_context *ctx, const char *path, uint64_t keep, struct io_log **log)
{
    struct io_log *l = mem_new(ctx, 1, sizeof *l);
    struct stat st;
    int rc = EBM_OK;

    *log = NULL;
    if (!l)
        return EBM_ERR_NOMEM;
    l->ctx = ctx;
    l->fd = -1;
    if (!(l->path = mem_strdup(ctx, path))) {
        io_log_close(l);
        return EBM_ERR_NOMEM;
    }
    do
        l->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    while (l->fd < 0 && errno == EINTR);
    if (l->fd < 0 || fstat(l->fd, &st) < 0)
        rc = fail_errno(ctx, "write", path);
    else if (!lock(l->fd))
        rc = ebm_fail(ctx, EBM_ERR_IO, "%s is in use by another process: only one may "
                      "train in a folder at a time", path);
    else if (keep != UINT64_MAX && (uint64_t)st.st_size < keep)
        rc = ebm_fail(ctx, EBM_ERR_FORMAT, "%s has %llu bytes, but had %llu when the "
                      "run was saved: it was altered", path,
                      (unsigned long long)st.st_size, (unsigned long long)keep);
    else if (keep == UINT64_MAX)
        l->size = (uint64_t)st.st_size;
    else if (ftruncate(l->fd, (off_t)keep) < 0)
        rc = fail_errno(ctx, "shorten", path);
    else
        l->size = keep;
    if (rc < 0) {
        io_log_close(l);
        return rc;
    }
    *log = l;
    return EBM_OK;
}

int io_log_write(struct io_log *log, const void *from, size_t size)
{
    int rc = write_all(log->ctx, log->fd, log->path, from, size);

    if (rc == EBM_OK)
        log->size += size;
    else if (ftruncate(log->fd, (off_t)log->size) < 0)
        return rc;                 /* half a record stays; the first error counts */
    return rc;
}

int io_log_sync(struct io_log *log)
{
    return sync_fd(log->ctx, log->fd, log->path);
}

uint64_t io_log_size(const struct io_log *log)
{
    return log->size;
}

void io_log_close(struct io_log *log)
{
    if (!log)
        return;
    if (log->fd >= 0)
        close(log->fd);
    mem_free(log->ctx, log->path);
    mem_free(log->ctx, log);
}

/* --- folders --- */

bool io_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool io_is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int io_make_folder(ebm_context *ctx, const char *path)
{
    char *part = mem_strdup(ctx, path);
    size_t n = strlen(path);
    int rc = EBM_OK;

    if (!part)
        return EBM_ERR_NOMEM;
    if (n == 0)
        rc = ebm_fail(ctx, EBM_ERR_ARG, "a folder needs a name");
    for (size_t i = 1; rc == EBM_OK && i <= n; i++) {
        if (part[i] && part[i] != '/')
            continue;
        part[i] = 0;
        if (mkdir(part, 0777) < 0) {
            int why = errno;
            if (!io_is_folder(part)) {
                errno = why;
                rc = fail_errno(ctx, "make the folder", part);
            }
        }
        part[i] = path[i];
    }
    mem_free(ctx, part);
    return rc;
}

char *io_join(ebm_context *ctx, const char *folder, const char *name)
{
    size_t n = strlen(folder);

    return mem_printf(ctx, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int io_names(ebm_context *ctx, const char *folder, char ***names, int *count)
{
    DIR *dir = opendir(folder);
    char **list = NULL;
    int n = 0, capacity = 0, rc = EBM_OK;

    *names = NULL;
    *count = 0;
    if (!dir)
        return fail_errno(ctx, "read the folder", folder);
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            if (errno)
                rc = fail_errno(ctx, "read the folder", folder);
            break;
        }
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (n == capacity) {
            int more = capacity ? 2 * capacity : 32;
            char **grown = mem_grow(ctx, list, (size_t)n, (size_t)more, sizeof *list);
            if (!grown) {
                rc = EBM_ERR_NOMEM;
                break;
            }
            list = grown;
            capacity = more;
        }
        if (!(list[n] = mem_strdup(ctx, e->d_name))) {
            rc = EBM_ERR_NOMEM;
            break;
        }
        n++;
    }
    closedir(dir);
    if (rc < 0) {
        io_free_names(ctx, list, n);
        return rc;
    }
    if (n)
        qsort(list, (size_t)n, sizeof *list, by_bytes);
    *names = list;
    *count = n;
    return EBM_OK;
}

void io_free_names(ebm_context *ctx, char **names, int count)
{
    for (int i = 0; i < count; i++)
        mem_free(ctx, names[i]);
    mem_free(ctx, names);
}

/* ".NAME.PID.tmp" */
static bool is_temporary(const char *name)
{
    size_t n = strlen(name), e = sizeof temporary_end - 1;

    if (n < e + 4 || name[0] != '.' || strcmp(name + n - e, temporary_end))
        return false;
    const char *p = name + n - e;
    const char *digits = p;
    while (digits > name && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    return digits < p && digits > name + 2 && digits[-1] == '.';
}

int io_remove(ebm_context *ctx, const char *path)
{
    return unlink(path) < 0 && errno != ENOENT ? fail_errno(ctx, "remove", path) : EBM_OK;
}

int io_sweep(ebm_context *ctx, const char *folder)
{
    char **names;
    int count, rc = io_names(ctx, folder, &names, &count);

    for (int i = 0; rc == EBM_OK && i < count; i++) {
        if (!is_temporary(names[i]))
            continue;
        char *path = io_join(ctx, folder, names[i]);
        rc = path ? io_remove(ctx, path) : EBM_ERR_NOMEM;
        mem_free(ctx, path);
    }
    io_free_names(ctx, names, count);
    return rc;
}
