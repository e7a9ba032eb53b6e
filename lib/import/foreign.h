/* foreign.h - checkpoints that other programs wrote, as the importer sees them.
 *
 * SPDX-License-Identifier: ISC
 *
 *   .pth, zip      torch_zip.c      NAME/data.pkl, NAME/data/KEY
 *   .pth, older    torch_legacy.c   five pickles, then the storages
 *   safetensors    as everywhere
 *
 * Whatever the container, it holds tensors, each under the path of the dictionaries
 * that hold it: "ema_model_state_dict_0/conv1.weight", "optimizer/state/0/exp_avg". */
#ifndef EBM_FOREIGN_H
#define EBM_FOREIGN_H

#include "data/zip.h"
#include "pickle.h"
#include "safetensors.h"

enum { FOREIGN_NAME = 512 };             /* bytes of a tensor's name, with its 0 */

/* A run of elements that tensors are views of. */
struct foreign_storage {
    const char *key;                     /* the pickle's */
    int type;                            /* enum safetensors_dtype, or -1: not readable */
    int size;                            /* bytes of an element */
    uint64_t count;                      /* elements */
    uint64_t at;                         /* legacy: offset in the file; zip: the member's index */
};

struct foreign_tensor {
    char *name;
    int type;                            /* enum safetensors_dtype */
    int rank;
    int64_t shape[EBM_MAX_RANK], stride[EBM_MAX_RANK], offset, elements;
    size_t storage;                      /* an index; safetensors: of the tensor in the file */
};

struct foreign_named { const char *name; size_t index; };
/* For qsort() and bsearch(): by name, then by index. */
int foreign_by_name(const void *a, const void *b);
/* The first of a name, or NULL. */
const struct foreign_named *foreign_lookup(const struct foreign_named *sorted, size_t n, const char *name);

struct ebm_foreign {
    ebm_context *ctx;
    const char *format;                  /* "PyTorch (zip)" */
    char *path;
    struct input in;
    struct pickle *pickle;               /* NULL: safetensors */
    struct zip zip;
    struct safetensors *safetensors;
    bool zipped, big_endian;
    size_t n_storages, n_tensors, tensors_capacity;
    struct foreign_storage *storages;    /* by key */
    struct foreign_tensor *tensors;      /* in the order of the file */
    struct foreign_named *by_name;       /* the same, sorted */
    ebm_foreign_info info;
    ebm_model_tensor *listed;            /* the info's */
    uint8_t *cache;                      /* a storage of the archive */
    size_t cached;
};

/* The same of bytes in memory, which outlive it; name: for messages. */
int foreign_memory(ebm_context *ctx, const void *bytes, size_t size, const char *name,
                   ebm_foreign **file);

/* NULL where there is none; of several of a name, the first. */
const struct foreign_tensor *foreign_find(const ebm_foreign *file, const char *name);
/* Its elements as floats, to[tensor->elements]; those of other types are rounded. */
int foreign_read(ebm_foreign *file, const struct foreign_tensor *tensor, float *to);
/* A value that is no tensor, by the path of dictionaries and objects: "FLAGS/cond";
 * NULL where there is none, and in safetensors. */
const struct pickle_value *foreign_value(const ebm_foreign *file, const char *path);

/* torch.c: from the pickle's values to storages and tensors. */
int torch_storages(ebm_foreign *file);
int torch_tensors(ebm_foreign *file);
/* The containers: what of them is not in the pickle. */
int torch_zip_open(ebm_foreign *file);
int torch_zip_storage(ebm_foreign *file, size_t storage, const uint8_t **bytes);
/* Bytes of the magic pickle that such files begin with; 0: this is none. */
size_t torch_legacy_start(const uint8_t *head, size_t size);
int torch_legacy_open(ebm_foreign *file, uint64_t start);

#endif
