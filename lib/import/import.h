/* import.h - from a foreign checkpoint to a model.
 *
 * SPDX-License-Identifier: ISC
 *
 *   tensors' names -> family -> settings, inferred from shapes
 *   settings -> the method's graphs -> which tensors the model has
 *   those <- tensors of the file, in the library's layout -> the model's file
 *
 * Adding a family: a file beside import_icd.c, and a line in the table of
 * import.c. */
#ifndef EBM_IMPORT_H
#define EBM_IMPORT_H

#include "foreign.h"
#include "store.h"
#include "text.h"

enum { IMPORT_NETS = 2 };

/* A network's weights in a file: the tensors whose names begin with a prefix, such
 * as "model_state_dict_0/" or "pi_state_dict/module.". */
struct state_dict {
    char prefix[FOREIGN_NAME];
    char shadow[64];             /* "pi_ema_state_dict/shadow_params": instead of parameters
                                  * those of this list, in their order; "": none */
};

/* A network of the model. */
struct import_net {
    const char *region;          /* "energy" */
    struct state_dict weights, raw;
    bool has_raw;                /* raw are the last weights, weights the average */
    const char *const *unused;   /* ends of names that have no place in it; NULL ends */
    const char *scaled;          /* a weight that is multiplied, or NULL */
    float scale;
};

struct import {
    ebm_context *ctx;
    ebm_foreign *file;
    const ebm_import_options *options;
    char network[240];           /* by the family, for messages: what it is */
    struct text settings;        /* by the family: "key = value" lines */
    struct import_net nets[IMPORT_NETS];
    int n_nets;
    int64_t steps;               /* of training, if the file says it */
};

struct family {
    const char *name;            /* "improved contrastive divergence" */
    const char *const *marks;    /* names that tell it, NULL ends; the first is in no
                                  * other family */
    /* The state dicts with all marks, in the file's order: settings and networks. */
    int (*describe)(struct import *im, const struct state_dict *dicts, int count);
};

extern const struct family family_icd_28, family_icd, family_cdrl;

/* A tensor of a state dict, by its name there; NULL where there is none. */
const struct foreign_tensor *state_named(const struct import *im, const struct state_dict *dict,
                                         const char *name);
/* The same, or for a parameter its place in the list. */
const struct foreign_tensor *state_find(const struct import *im, const struct state_dict *dict,
                                        const char *name);
/* Size i of it; 0 where there is none. */
int64_t state_size(const struct import *im, const struct state_dict *dict, const char *name, int i);

/* Those with a tensor of this name, in the file's order; how many, at most `most`. */
int state_dicts(const struct import *im, const char *name, struct state_dict *dicts, int most);
/* Its parameters, without spectral norm's vectors. */
size_t state_parameters(const struct import *im, const struct state_dict *dict);
/* Is a tensor of the file one of it, by its whole name? */
bool state_has(const struct state_dict *dict, const char *name);
/* Does a name end with one, alone or behind '/' or '.'?  *prefix: bytes before it. */
bool name_ends(const char *name, const char *end, size_t *prefix);

/* Among state dicts of one network, the average and the last weights, or what the
 * options ask for, into the network. */
int choose_weights(struct import *im, const struct state_dict *dicts, int count, struct import_net *net);

/* A truth, or a number, that was saved beside the weights. */
bool flag_is(const struct import *im, const char *path, bool otherwise);
double flag_number(const struct import *im, const char *path, double otherwise);
bool flag_is_text(const struct import *im, const char *path, const char *text);

/* import_map.c: every tensor of the networks, and where it comes from.  The store
 * has the networks' declarations. */
struct mapping;
int mapping_new(struct import *im, ebm_store *store, struct mapping **mapping);
void mapping_free(struct mapping *mapping);          /* NULL is allowed */
void mapping_add(struct mapping *mapping, struct safetensors_writer *writer);

#endif
