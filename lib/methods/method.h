/* method.h - what a training method is.
 *
 * SPDX-License-Identifier: ISC
 *
 * A method owns its graphs, its programs and what it keeps in the store.  The
 * rest it shares: samplers, networks and optimisers are builders it calls; data,
 * log, checkpoints and model files belong to the trainer, which saves whatever
 * lies in the store and knows none of it by name but "rng".
 *
 *   training   build -> compile -> (memory) -> step, step, step ...
 *   a model    build -> compile -> (memory, weights) -> energy, sample
 *
 * The two lives of a method have stores of their own, in which a network has
 * one name: what training keeps as the average of a region "energy", or as the
 * region itself where there is none, is the model's region "energy".
 *
 * Adding a method: a file beside this one, and a line in the table of method.c. */
#ifndef EBM_METHOD_H
#define EBM_METHOD_H

#include "recipe.h"

/* Where a method works. */
struct method_site {
    ebm_context *ctx;
    ebm_store *store;
    struct recipe *recipe;
    int64_t image[3];            /* height, width, channels */
    int classes;                 /* of the labels; 0: none */
    const struct method *method;
    const struct joint_spec *joint;   /* a model of several: see joint.h; NULL: of one */
};

/* What a step showed.  The common ones come first in a method's values. */
enum {
    SHOWN_LOSS, SHOWN_DATA, SHOWN_SAMPLES, SHOWN_NOISE, SHOWN_GRADIENT, SHOWN_RATE,
    SHOWN_COMMON, SHOWN_MAX = 24
};
extern const char *const shown_common[SHOWN_COMMON];

struct method_shown {
    double values[SHOWN_MAX];
    bool accepted;               /* by the guard, on the device */
    double usual_gradient;       /* the guard's running mean */
};

/* Batches of the data, as many as a step wants: [batch,h,w,c] in
 * [data.low,data.high], and labels; they stay until the next call. */
struct batch_source {
    int (*next)(void *user, const float **images, const int32_t **labels);
    void *user;
};

struct key_table {
    const struct recipe_key *keys;
    int count;
};

/* A series of samples: its batch number `batch`, of sample.batch images. */
struct method_draw {
    uint64_t seed;
    uint32_t batch;
    const float *picture;        /* [h,w,c]: drawn where the mask [h,w] is not 0, */
    const float *mask;           /* kept elsewhere; NULL: all is drawn */
    float *stages;               /* [model_stages][batch,h,w,c], or NULL */
    ebm_progress *progress;      /* with the part of this batch; NULL: none */
    void *user;
    int frames;                  /* of the chains on their way: see walk.h; 0: none */
    void (*show)(void *shots, int frame);             /* it is in `images` now */
    void *shots;
};

/* A model's energy as a term that others' can be added to. */
struct method_energy {
    /* [n], of x in the model's range of pixels, with weights in `region`.  labels:
     * [n] as numbers where there are classes. */
    ebm_val (*at)(struct recipe *recipe, ebm_graph *g, const char *region, ebm_val x, ebm_val labels);
    int64_t (*classes)(struct recipe *recipe);        /* it is told, by sample.label;
                                                       * NULL or 0: none */
};

struct method {
    const char *name;
    const char *summary;
    const struct key_table *const *tables;   /* its keys of a recipe, besides the common
                                          * ones; ends with NULL */
    const char *const *more;             /* names of what it shows beyond the common */
    int n_more;

    /* Training. */
    int (*train_build)(const struct method_site *site, void **state);
    int (*train_compile)(void *state);
    int (*train_step)(void *state, const struct batch_source *source, bool probe,
                      struct method_shown *shown);    /* probe: energy of noise too */
    double (*train_work)(const void *state);          /* multiply-adds of a step */
    void (*train_free)(void *state);                  /* NULL and half-built too */

    /* A model.  Pixels are in [data.low,data.high], a call has sample.batch images. */
    int (*model_build)(const struct method_site *site, void **state);
    int (*model_compile)(void *state);
    int (*model_energy)(void *state, const float *images, float *energies);
    int (*model_sample)(void *state, const struct method_draw *draw, float *images);
    int (*model_stages)(const void *state);   /* pictures from noise to the image, which is
                                               * the last; NULL: that alone, and no picture
                                               * can be completed */
    void (*model_free)(void *state);
    bool model_frames;                    /* chains are shown on their way */
    const struct method_energy *energy;   /* NULL: its models cannot be composed */
};

extern const struct method method_cd, method_icd, method_cdrl;

/* The random counter of training: EBM_I32 [4], ticked by every program.  The
 * trainer sets its stream when it rolls back. */
#define METHOD_RNG "rng"
/* The ends of the last chains, EBM_F32 [batch,h,w,c], for the eye. */
#define METHOD_CHAINS "chains"

/* Declare the keys that every recipe has and, when `method` has been read, those
 * of the method; then check them all.  Read and set before. */
int method_declare(ebm_context *ctx, struct recipe *recipe, const struct method **method);
/* What the key `precision` says. */
enum ebm_precision method_precision(struct recipe *recipe);

#endif
