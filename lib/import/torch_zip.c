/* torch_zip.c - checkpoints of PyTorch 1.6 and later.
 *
 * SPDX-License-Identifier: ISC
 *
 *   NAME/data.pkl      the pickle
 *   NAME/data/KEY      the storages, not compressed
 *   NAME/byteorder     "little" or "big"; missing: little
 *   NAME/version, ...  not needed */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "foreign.h"

static const uint64_t pickle_max = 16 << 20, unpacked_max = (uint64_t)1 << 30;

/* The folder of data.pkl, with its '/': bytes of the member's name. */
static const struct zip_member *find_pickle(const struct zip *zip, size_t *folder)
{
    static const char name[] = "data.pkl";

    for (size_t i = 0; i < zip->count; i++) {
        const char *slash = strrchr(zip->members[i].name, '/');
        const char *last = slash ? slash + 1 : zip->members[i].name;
        if (strcmp(last, name) == 0) {
            *folder = (size_t)(last - zip->members[i].name);
            return &zip->members[i];
        }
    }
    return NULL;
}

static int read_pickle(ebm_foreign *f, const struct zip_member *m)
{
    uint8_t *bytes;
    size_t used;
    int status = zip_extract(&f->zip, m, pickle_max, &bytes);

    if (status >= 0)
        status = pickle_read(f->ctx, f->path, bytes, (size_t)m->size, &f->pickle, &used);
    mem_free(f->ctx, bytes);
    return status;
}

static int read_byte_order(ebm_foreign *f, const struct zip_member *data, size_t folder)
{
    char *name = mem_printf(f->ctx, "%.*sbyteorder", (int)folder, data->name);
    const struct zip_member *m = name ? zip_find(&f->zip, name) : NULL;
    uint8_t *bytes;
    int status;

    mem_free(f->ctx, name);
    if (!name || !m)
        return name ? EBM_OK : EBM_ERR_NOMEM;
    if ((status = zip_extract(&f->zip, m, 64, &bytes)) < 0)
        return status;
    f->big_endian = m->size == 3 && memcmp(bytes, "big", 3) == 0;
    if (!f->big_endian && (m->size != 6 || memcmp(bytes, "little", 6) != 0))
        status = ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: its byte order is neither big nor little", f->path);
    mem_free(f->ctx, bytes);
    return status;
}

/* Which member each storage is. */
static int find_storages(ebm_foreign *f, const struct zip_member *data, size_t folder)
{
    const size_t skip = folder + strlen("data/");
    struct foreign_named *names = mem_new(f->ctx, f->zip.count + 1, sizeof *names);
    size_t n = 0;
    int status = names ? EBM_OK : EBM_ERR_NOMEM;

    for (size_t i = 0; names && i < f->zip.count; i++) {
        const char *name = f->zip.members[i].name;
        if (strncmp(name, data->name, folder) == 0 && strncmp(name + folder, "data/", 5) == 0)
            names[n++] = (struct foreign_named){ name + skip, i };
    }
    if (names)
        qsort(names, n, sizeof *names, foreign_by_name);
    for (size_t i = 0; status >= 0 && i < f->n_storages; i++) {
        struct foreign_storage *s = &f->storages[i];
        const struct foreign_named *found = foreign_lookup(names, n, s->key);
        if (!found)
            status = ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: storage '%.100s' is missing; fetch it again",
                              f->path, s->key);
        else if (s->count != f->zip.members[found->index].size / (uint64_t)s->size)
            status = ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: storage '%.100s' has %" PRIu64 " bytes, not %"
                              PRIu64 " elements of %d", f->path, s->key,
                              f->zip.members[found->index].size, s->count, s->size);
        else
            s->at = found->index;
    }
    mem_free(f->ctx, names);
    return status;
}

int torch_zip_open(ebm_foreign *f)
{
    const struct zip_member *data;
    size_t folder = 0;
    int status;

    f->format = "PyTorch (zip)";
    if ((status = zip_open(&f->in, &f->zip)) < 0)
        return status;
    f->zipped = true;
    if (!(data = find_pickle(&f->zip, &folder)))
        return ebm_fail(f->ctx, EBM_ERR_FORMAT, "%s: a ZIP archive without data.pkl is no checkpoint "
                        "of PyTorch", f->path);
    if ((status = read_byte_order(f, data, folder)) < 0
        || (status = read_pickle(f, data)) < 0
        || (status = torch_storages(f)) < 0
        || (status = find_storages(f, data, folder)) < 0)
        return status;
    return torch_tensors(f);
}

/* Whole, checked, and kept until another is asked for. */
int torch_zip_storage(ebm_foreign *f, size_t storage, const uint8_t **bytes)
{
    const struct zip_member *m = &f->zip.members[f->storages[storage].at];
    int status;

    if (!f->cache || f->cached != storage) {
        mem_free(f->ctx, f->cache);
        f->cache = NULL;
        /* What is stored as it is has its size in the file. */
        if ((status = zip_extract(&f->zip, m, m->size == m->packed ? UINT64_MAX : unpacked_max,
                                  &f->cache)) < 0)
            return status;
        f->cached = storage;
    }
    *bytes = f->cache;
    return EBM_OK;
}
