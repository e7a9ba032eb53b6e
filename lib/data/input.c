/* input.c - the bytes of a file, plain or gzip, or of a block of memory.
 *
 * SPDX-License-Identifier: ISC
 *
 * gzip is known by its first two bytes.  Content is decompressed as it is read,
 * straight to where it is wanted: nothing is allocated by what a file claims. */
#include <inttypes.h>
#include <string.h>
#include "image.h"
#include "input.h"

enum { CHUNK = 1 << 16, GZIP_WINDOW = 16 + MAX_WBITS };

int input_at(struct input *in, uint64_t offset, void *to, size_t size)
{
    if (!in->memory)
        return io_read(&in->file, offset, to, size);
    if (offset > in->size || size > in->size - offset)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: ends early, at byte %" PRIu64
                        " instead of %" PRIu64, in->name, in->size, offset + size);
    memcpy(to, in->memory + offset, size);
    return EBM_OK;
}

static voidpf z_new(voidpf ctx, uInt count, uInt size)
{
    return mem_new(ctx, count, size);
}

static void z_free(voidpf ctx, voidpf ptr)
{
    mem_free(ctx, ptr);
}

int input_rewind(struct input *in)
{
    int rc;

    in->position = 0;
    if (!in->gzip)
        return EBM_OK;
    if (!in->chunk && !(in->chunk = mem_new(in->ctx, CHUNK, 1)))
        return EBM_ERR_NOMEM;
    if (in->z_ready) {
        rc = inflateReset(&in->z);
    } else {
        in->z.zalloc = z_new;
        in->z.zfree = z_free;
        in->z.opaque = in->ctx;
        rc = inflateInit2(&in->z, GZIP_WINDOW);
        in->z_ready = rc == Z_OK;
    }
    in->z_position = 0;
    in->z_ended = false;
    in->z.avail_in = 0;
    return rc == Z_OK ? EBM_OK
         : ebm_fail(in->ctx, EBM_ERR_NOMEM, "%s: no memory for zlib", in->name);
}

/* The next chunk of the file for z; none are left at its end. */
static int refill(struct input *in)
{
    uint64_t left = in->size - in->z_position;
    size_t n = left < CHUNK ? (size_t)left : CHUNK;
    int rc = input_at(in, in->z_position, in->chunk, n);

    in->z.next_in = in->chunk;
    in->z.avail_in = rc < 0 ? 0 : (uInt)n;
    in->z_position += n;
    return rc;
}

/* Behind a gzip member another may follow; anything else there is not content. */
static int next_member(struct input *in)
{
    uint64_t at = in->z_position - in->z.avail_in;
    uint8_t magic[2] = { 0, 0 };
    int rc;

    if (in->size - at < sizeof magic) {
        in->z_ended = true;
        return EBM_OK;
    }
    if ((rc = input_at(in, at, magic, sizeof magic)) < 0)
        return rc;
    if (magic[0] != 0x1f || magic[1] != 0x8b) {
        in->z_ended = true;
        return EBM_OK;
    }
    inflateReset(&in->z);
    in->z_position = at;
    in->z.avail_in = 0;
    return EBM_OK;
}

static int read_gzip(struct input *in, uint8_t *to, size_t size, size_t *got)
{
    int rc;

    while (*got < size && !in->z_ended) {
        size_t want = size - *got < INT32_MAX ? size - *got : INT32_MAX;

        if (in->z.avail_in == 0 && (rc = refill(in)) < 0)
            return rc;
        if (in->z.avail_in == 0)
            return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: the gzip file of %" PRIu64
                            " bytes ends early; fetch it again", in->name, in->size);
        in->z.next_out = to + *got;
        in->z.avail_out = (uInt)want;
        rc = inflate(&in->z, Z_NO_FLUSH);
        *got += want - in->z.avail_out;
        if (rc == Z_STREAM_END) {
            if ((rc = next_member(in)) < 0)
                return rc;
        } else if (rc == Z_MEM_ERROR) {
            return EBM_ERR_NOMEM;   /* worded by mem_new */
        } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: damaged gzip data after %"
                            PRIu64 " bytes of content: %s", in->name,
                            in->position + *got, in->z.msg ? in->z.msg : "unknown");
        }
    }
    return EBM_OK;
}

int input_read(struct input *in, void *to, size_t size, size_t *got)
{
    int rc;

    *got = 0;
    if (in->gzip) {
        rc = read_gzip(in, to, size, got);
    } else {
        uint64_t left = in->position < in->size ? in->size - in->position : 0;

        *got = left < size ? (size_t)left : size;
        rc = *got ? input_at(in, in->position, to, *got) : EBM_OK;
    }
    in->position += *got;
    return rc;
}

int input_end(struct input *in)
{
    uint8_t more;
    size_t got = 0;
    uint64_t end = in->position;
    int rc;

    if (!in->memory && !in->file.ctx)
        return EBM_OK;
    if ((rc = input_read(in, &more, 1, &got)) < 0)
        return rc;
    if (got)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: goes on after the %" PRIu64 " bytes "
                        "that its header declares; fetch it again", in->name, end);
    return EBM_OK;
}

static int start(struct input *in)
{
    uint8_t magic[2] = { 0, 0 };
    int rc;

    if (in->size >= sizeof magic && (rc = input_at(in, 0, magic, sizeof magic)) < 0)
        return rc;
    in->gzip = magic[0] == 0x1f && magic[1] == 0x8b;
    if ((rc = input_rewind(in)) < 0
        || (rc = input_read(in, in->head, INPUT_HEAD, &in->head_size)) < 0)
        return rc;
    return input_rewind(in);
}

int input_open(ebm_context *ctx, const char *path, struct input *in)
{
    memset(in, 0, sizeof *in);
    in->ctx = ctx;
    in->name = path;
    int rc = io_open(ctx, path, &in->file);
    if (rc < 0)
        return rc;
    in->size = in->file.size;
    if ((rc = start(in)) < 0)
        input_close(in);
    return rc;
}

int input_memory(ebm_context *ctx, const char *name, const uint8_t *bytes,
                 size_t size, struct input *in)
{
    static const uint8_t nothing[1] = { 0 };
    int rc;

    memset(in, 0, sizeof *in);
    in->ctx = ctx;
    in->name = name;
    in->memory = bytes ? bytes : nothing;
    in->size = size;
    if ((rc = start(in)) < 0)
        input_close(in);
    return rc;
}

void input_close(struct input *in)
{
    if (in->z_ready)
        inflateEnd(&in->z);
    if (in->ctx)
        mem_free(in->ctx, in->chunk);
    io_close(&in->file);
    memset(in, 0, sizeof *in);
}

uint64_t input_bound(const struct input *in)
{
    if (!in->gzip)
        return in->size;
    return in->size > UINT64_MAX / DEFLATE_RATIO ? UINT64_MAX : in->size * DEFLATE_RATIO;
}

uint64_t fingerprint(uint64_t hash, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;

    while (size--)
        hash = (hash ^ *p++) * UINT64_C(0x100000001b3);
    return hash;
}
