/* train.h - a run, as the trainer's files share it.
 *
 * SPDX-License-Identifier: ISC
 *
 *   train.c    a run from its recipe; steps; the end
 *   resume.c   the run folder: starting it, checkpoints, going on, going back */
#ifndef EBM_TRAIN_H
#define EBM_TRAIN_H

#include "guard.h"
#include "journal.h"
#include "methods/method.h"
#include "model.h"
#include "needs.h"

struct ebm_train {
    ebm_context *ctx;
    ebm_backend *backend;
    struct recipe *recipe;
    struct recipe *former;           /* that of the run that is resumed, or NULL */
    const struct method *method;
    void *state;                     /* the method's */
    ebm_store *store;
    ebm_data *data;
    ebm_data_info set;
    ebm_loader *loader;
    struct batch_source source;
    float *images;                   /* a batch */
    int32_t *labels;
    int64_t batch, image[3], pixels;
    float low, high;
    uint64_t seed;
    bool dry;

    int64_t step, steps;
    struct guard guard;
    char *folder;                    /* NULL: nothing is written */
    struct journal *journal;
    struct safetensors *newest;      /* resuming: the checkpoint, of newest_step */
    int64_t newest_step;
    int64_t save_every, log_every;
    int64_t saved;                   /* the step of the last checkpoint, -1: none */
    int back;                        /* returns since a checkpoint was written that can be
                                      * returned to */

    ebm_model *model;                /* draws samples; its weights are copies */
    char *text;                      /* the resolved recipe */
    struct needs needs;              /* memory */
    ebm_train_info info;
    int n_shown;
    const char *names[SHOWN_MAX];
    struct method_shown shown;
    char reason[GUARD_TEXT];
};

/* Start the folder of a new run. */
int run_start(ebm_train *t);
/* Put the newest good checkpoint in force, if there is one; else start anew. */
int run_resume(ebm_train *t);
/* Write a checkpoint. */
int run_save(ebm_train *t);
/* A run that diverged goes back, with another stream of noise; else
 * EBM_ERR_DIVERGED. */
int run_back(ebm_train *t);

/* The recipe of a run to resume: that of the newest good checkpoint, which is
 * opened here and put in force by run_resume(), else the run's own file.
 * mem_free the text. */
int run_recipe(ebm_train *t, char **text);
/* Are the settings in force those of the run, apart from what may change? */
int run_same(ebm_train *t);

/* A metadata entry that is a count. */
void run_add_count(struct safetensors_writer *writer, const char *key, uint64_t value);

#endif
