/* torch_legacy.c - checkpoints of PyTorch before 1.6, and of later versions where
 * they were asked for the older form.
 *
 * SPDX-License-Identifier: ISC
 *
 *   pickle   0x1950a86a20f9469cfc6c
 *   pickle   1001, the version
 *   pickle   {"protocol_version": 1001, "little_endian": True, ...}
 *   pickle   the content, with ids for storages
 *   pickle   ["key", ...]
 *   for each key: u64 n, n elements; both little-endian, whatever wrote them */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "foreign.h"

enum { PROTOCOL = 1001, FIRST_WINDOW = 1 << 16, LAST_WINDOW = 16 << 20 };

/* LONG1 of ten bytes, STOP: what PROTO and, from protocol 4 on, FRAME precede. */
static const uint8_t magic[] = {
    0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'
};
enum { PROTO_SIZE = 2, FRAME_SIZE = 9 };

size_t torch_legacy_start(const uint8_t *head, size_t size)
{
    size_t at = PROTO_SIZE;

    if (size < PROTO_SIZE || head[0] != 0x80)
        return 0;
    if (size > at && head[at] == 0x95)
        at += FRAME_SIZE;
    return size >= at + sizeof magic && memcmp(head + at, magic, sizeof magic) == 0 ? at + sizeof magic : 0;
}

/* The pickle at *at, which moves behind it.  Its size is not known before: more
 * is read until it is whole. */
static int next_pickle(ebm_foreign *f, uint64_t *at, struct pickle **pickle)
{
    uint64_t left = f->in.size - *at;
    int status = EBM_ERR_FORMAT;

    for (size_t window = FIRST_WINDOW; status == EBM_ERR_FORMAT && window <= LAST_WINDOW; window *= 4) {
        size_t n = left < window ? (size_t)left : window, used;
        uint8_t *bytes = mem_new(f->ctx, n ? n : 1, 1);
        if (!bytes)
            return EBM_ERR_NOMEM;
        if ((status = input_at(&f->in, *at, bytes, n)) >= 0
            && (status = pickle_read(f->ctx, f->path, bytes, n, pickle, &used)) >= 0)
            *at += used;
        mem_free(f->ctx, bytes);
        if (n == left)
            break;
    }
    return status;
}

static int check_version(ebm_foreign *f, uint64_t *at)
{
    struct pickle *version = NULL, *system = NULL;
    int status = next_pickle(f, at, &version);

    if (status >= 0 && (pickle_root(version)->kind != PICKLE_INTEGER
                        || pickle_root(version)->integer != PROTOCOL))
        status = ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: a PyTorch file of another version than %d",
                          f->path, PROTOCOL);
    if (status >= 0)
        status = next_pickle(f, at, &system);
    pickle_free(version);
    pickle_free(system);
    return status;
}

static int by_key(const void *a, const void *b)
{
    const struct foreign_storage *x = a, *y = b;

    return strcmp(x->key, y->key);
}

/* Where each storage lies: they follow each other in the order of the keys. */
static int find_storages(ebm_foreign *f, const struct pickle_value *keys, uint64_t at)
{
    size_t placed = 0;
    int status;

    for (size_t i = 0; i < f->n_storages; i++)
        f->storages[i].at = 0;
    if (keys->kind != PICKLE_LIST)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: a PyTorch file without a list of storages", f->path);
    for (size_t i = 0; i < keys->count; i++) {
        const struct pickle_value *key = keys->items[i];
        struct foreign_storage *s = key->kind != PICKLE_TEXT ? NULL
            : bsearch(&(struct foreign_storage){ .key = key->text }, f->storages, f->n_storages,
                      sizeof *s, by_key);
        uint8_t size[8];
        uint64_t count = 0;
        if (!s || s->at)
            return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: item %zu of its list of storages is unknown or "
                            "there already", f->path, i);
        if ((status = input_at(&f->in, at, size, sizeof size)) < 0)
            return status;
        for (int j = 8; j-- > 0; )
            count = count << 8 | size[j];
        at += sizeof size;
        if (count != s->count || count > (f->in.size - at) / (uint64_t)s->size)
            return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: storage '%.100s' has %" PRIu64 " elements, not %"
                            PRIu64 ", or the file ends early", f->path, s->key, count, s->count);
        s->at = at;
        at += count * (uint64_t)s->size;
        placed++;
    }
    if (placed != f->n_storages)
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: %zu of its %zu storages are missing", f->path,
                        f->n_storages - placed, f->n_storages);
    return EBM_OK;
}

int torch_legacy_open(ebm_foreign *f, uint64_t at)
{
    struct pickle *keys = NULL;
    int status;

    f->format = "PyTorch (legacy)";
    if ((status = check_version(f, &at)) < 0
        || (status = next_pickle(f, &at, &f->pickle)) < 0
        || (status = torch_storages(f)) < 0
        || (status = next_pickle(f, &at, &keys)) < 0)
        return status;
    status = find_storages(f, pickle_root(keys), at);
    pickle_free(keys);
    return status < 0 ? status : torch_tensors(f);
}
