/* zip.c - members of ZIP archives, as NPZ files and those of PyTorch have them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   | local header, content | ... | directory entry | ... | [zip64 end] | end |
 *
 * All is read from the directory: NumPy's local headers may lack sizes.  Sizes
 * are checked against each other and the file before memory is taken, so that an
 * archive cannot ask for more than 1032 times its own size; content is checked
 * by its CRC.  Stored and deflated members, with and without zip64.
 * Source: PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3. */
#include <inttypes.h>
#include <string.h>
#include "image.h"
#include "zip.h"

enum {
    END_SIZE = 22, COMMENT_MAX = 65535, END64_SIZE = 56, LOCATOR_SIZE = 20,
    ENTRY_SIZE = 46, LOCAL_SIZE = 30,
    MEMBERS_MAX = 65535, DIRECTORY_MAX = 16 << 20,
    STORED = 0, DEFLATED = 8, ENCRYPTED = 1, ZIP64_FIELD = 1
};

static uint32_t u16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return u32(p) | (uint64_t)u32(p + 4) << 32;
}

static int damaged(const struct zip *zip, const char *what)
{
    return ebm_fail(zip->in->ctx, EBM_ERR_FORMAT, "%s: damaged ZIP archive: %s; fetch it "
                    "again", zip->in->name, what);
}

struct directory {
    uint64_t count, size, offset;
};

/* The end record, searched from behind as a comment may follow it. */
static int find_end(const struct zip *zip, struct directory *d)
{
    struct input *in = zip->in;
    size_t size = in->size < END_SIZE + COMMENT_MAX ? (size_t)in->size
                                                    : END_SIZE + COMMENT_MAX;
    uint64_t base = in->size - size;
    uint8_t locator[LOCATOR_SIZE], end64[END64_SIZE], *tail;
    int rc;

    if (size < END_SIZE)
        return damaged(zip, "it ends early");
    if (!(tail = mem_new(in->ctx, size, 1)))
        return EBM_ERR_NOMEM;
    if ((rc = input_at(in, base, tail, size)) < 0) {
        mem_free(in->ctx, tail);
        return rc;
    }
    size_t at = size - END_SIZE;
    while (at > 0 && memcmp(tail + at, "PK\5\6", 4) != 0)
        at--;
    bool found = memcmp(tail + at, "PK\5\6", 4) == 0;
    d->count = u16(tail + at + 10);
    d->size = u32(tail + at + 12);
    d->offset = u32(tail + at + 16);
    mem_free(in->ctx, tail);
    if (!found)
        return damaged(zip, "it has no directory, as if its end were missing");
    if (base + at < LOCATOR_SIZE)
        return EBM_OK;
    if ((rc = input_at(in, base + at - LOCATOR_SIZE, locator, LOCATOR_SIZE)) < 0)
        return rc;
    if (memcmp(locator, "PK\6\7", 4) != 0)
        return EBM_OK;
    if ((rc = input_at(in, u64(locator + 8), end64, END64_SIZE)) < 0)
        return rc;
    if (memcmp(end64, "PK\6\6", 4) != 0)
        return damaged(zip, "its zip64 record is missing");
    d->count = u64(end64 + 32);
    d->size = u64(end64 + 40);
    d->offset = u64(end64 + 48);
    return EBM_OK;
}

/* Sizes that do not fit into 32 bits are in an extra field, in this order. */
static bool take_zip64(const uint8_t *extra, size_t size, struct zip_member *m)
{
    uint64_t *wanted[3] = { &m->size, &m->packed, &m->header };
    size_t i;

    while (size >= 4) {
        size_t field = u16(extra + 2);

        if (field > size - 4)
            return false;
        if (u16(extra) == ZIP64_FIELD) {
            const uint8_t *p = extra + 4;
            for (i = 0; i < 3; i++) {
                if (*wanted[i] != UINT32_MAX)
                    continue;
                if ((size_t)(p - extra) + 8 > field + 4)
                    return false;
                *wanted[i] = u64(p);
                p += 8;
            }
        }
        extra += field + 4;
        size -= field + 4;
    }
    return true;
}

static int read_directory(struct zip *zip, const struct directory *d, const uint8_t *p)
{
    ebm_context *ctx = zip->in->ctx;
    size_t left = (size_t)d->size, i;

    for (i = 0; i < d->count; i++) {
        struct zip_member *m = &zip->members[i];

        if (left < ENTRY_SIZE || memcmp(p, "PK\1\2", 4) != 0)
            return damaged(zip, "its directory is cut short");
        size_t name = u16(p + 28), extra = u16(p + 30), comment = u16(p + 32);
        if (name + extra + comment > left - ENTRY_SIZE)
            return damaged(zip, "its directory is cut short");
        m->method = u16(p + 8 + 2);
        m->crc = u32(p + 16);
        m->packed = u32(p + 20);
        m->size = u32(p + 24);
        m->header = u32(p + 42);
        if (!take_zip64(p + ENTRY_SIZE + name, extra, m))
            return damaged(zip, "an extra field is cut short");
        if (!(m->name = mem_printf(ctx, "%.*s", (int)name, (const char *)p + ENTRY_SIZE)))
            return EBM_ERR_NOMEM;
        zip->count++;
        if (u16(p + 8) & ENCRYPTED)
            return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: '%s' is encrypted", zip->in->name,
                            m->name);
        p += ENTRY_SIZE + name + extra + comment;
        left -= ENTRY_SIZE + name + extra + comment;
    }
    return EBM_OK;
}

int zip_open(struct input *in, struct zip *zip)
{
    struct directory d = { 0, 0, 0 };
    uint8_t *bytes = NULL;
    int rc;

    memset(zip, 0, sizeof *zip);
    zip->in = in;
    if ((rc = find_end(zip, &d)) < 0)
        return rc;
    if (d.count > MEMBERS_MAX || d.size > DIRECTORY_MAX || d.size < d.count * ENTRY_SIZE)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: a ZIP directory of %" PRIu64
                        " members in %" PRIu64 " bytes; at most %d are read", in->name,
                        d.count, d.size, MEMBERS_MAX);
    zip->members = mem_new(in->ctx, (size_t)d.count, sizeof *zip->members);
    bytes = mem_new(in->ctx, (size_t)d.size, 1);
    if (!zip->members || !bytes)
        rc = EBM_ERR_NOMEM;
    else if ((rc = input_at(in, d.offset, bytes, (size_t)d.size)) == EBM_OK)
        rc = read_directory(zip, &d, bytes);
    mem_free(in->ctx, bytes);
    if (rc < 0)
        zip_close(zip);
    return rc;
}

void zip_close(struct zip *zip)
{
    size_t i;

    for (i = 0; i < zip->count; i++)
        mem_free(zip->in->ctx, zip->members[i].name);
    if (zip->members)
        mem_free(zip->in->ctx, zip->members);
    memset(zip, 0, sizeof *zip);
}

const struct zip_member *zip_find(const struct zip *zip, const char *name)
{
    size_t i;

    for (i = 0; i < zip->count; i++)
        if (strcmp(zip->members[i].name, name) == 0)
            return &zip->members[i];
    return NULL;
}

static voidpf z_new(voidpf ctx, uInt count, uInt size)
{
    return mem_new(ctx, count, size);
}

static void z_free(voidpf ctx, voidpf ptr)
{
    mem_free(ctx, ptr);
}

/* Exactly m->size bytes out of exactly m->packed. */
static int unpack(struct input *in, const struct zip_member *m, uint64_t offset,
                  uint8_t *to)
{
    enum { CHUNK = 1 << 16, STEP = 1 << 30 };
    z_stream z = { 0 };
    uint64_t read = 0, made = 0;
    int rc = EBM_OK, end = Z_OK;

    z.zalloc = z_new;
    z.zfree = z_free;
    z.opaque = in->ctx;
    uint8_t *chunk = mem_new(in->ctx, CHUNK, 1);
    if (!chunk)
        return EBM_ERR_NOMEM;
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK) {
        mem_free(in->ctx, chunk);
        return EBM_ERR_NOMEM;
    }
    while (rc == EBM_OK && end != Z_STREAM_END) {
        if (z.avail_in == 0) {
            uint64_t left = m->packed - read;
            size_t n = left < CHUNK ? (size_t)left : CHUNK;

            if (n == 0 || (rc = input_at(in, offset + read, chunk, n)) < 0)
                break;
            z.next_in = chunk;
            z.avail_in = (uInt)n;
            read += n;
        }
        uInt room = m->size - made < STEP ? (uInt)(m->size - made) : STEP;
        z.next_out = to + made;
        z.avail_out = room;
        end = inflate(&z, Z_NO_FLUSH);
        made += room - z.avail_out;
        if (end != Z_OK && end != Z_STREAM_END)
            break;    /* damaged, or more than was declared */
    }
    inflateEnd(&z);
    mem_free(in->ctx, chunk);
    if (rc == EBM_OK && end == Z_MEM_ERROR)
        return EBM_ERR_NOMEM;   /* worded by mem_new */
    if (rc == EBM_OK && (end != Z_STREAM_END || made != m->size))
        rc = ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: '%s' does not decompress to the %"
                      PRIu64 " bytes declared; fetch it again", in->name, m->name, m->size);
    return rc;
}

int zip_extract(const struct zip *zip, const struct zip_member *m, uint64_t limit,
                uint8_t **bytes)
{
    struct input *in = zip->in;
    uint8_t local[LOCAL_SIZE];
    uint64_t offset, done;
    uLong crc = crc32(0, NULL, 0);
    int rc;

    *bytes = NULL;
    if (m->method != STORED && m->method != DEFLATED)
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: '%s' is compressed by method %u; "
                        "only deflate and none are read", in->name, m->name, m->method);
    if (m->packed > in->size || m->size > (m->method == STORED ? m->packed
                                           : DEFLATE_RATIO * m->packed)
        || (m->method == STORED && m->size != m->packed))
        return ebm_fail(in->ctx, EBM_ERR_FORMAT, "%s: '%s' declares %" PRIu64 " bytes, which "
                        "%" PRIu64 " compressed ones cannot hold", in->name, m->name, m->size,
                        m->packed);
    if (m->size > limit || m->size > SIZE_MAX)
        return ebm_fail(in->ctx, EBM_ERR_NOMEM, "%s: '%s' has %" PRIu64 " bytes, more than "
                        "the %" PRIu64 " that are decompressed in memory", in->name, m->name, m->size, limit);
    if ((rc = input_at(in, m->header, local, LOCAL_SIZE)) < 0)
        return rc;
    if (memcmp(local, "PK\3\4", 4) != 0)
        return damaged(zip, "a member is not where the directory says");
    offset = m->header + LOCAL_SIZE + u16(local + 26) + u16(local + 28);
    if (!(*bytes = mem_new(in->ctx, (size_t)m->size, 1)))
        return EBM_ERR_NOMEM;
    rc = m->method == STORED ? input_at(in, offset, *bytes, (size_t)m->size)
                             : unpack(in, m, offset, *bytes);
    for (done = 0; rc == EBM_OK && done < m->size; ) {
        uInt n = m->size - done < UINT32_MAX ? (uInt)(m->size - done) : UINT32_MAX;

        crc = crc32(crc, *bytes + done, n);
        done += n;
    }
    if (rc == EBM_OK && crc != m->crc)
        rc = damaged(zip, "a checksum is wrong");
    if (rc < 0) {
        mem_free(in->ctx, *bytes);
        *bytes = NULL;
    }
    return rc;
}
