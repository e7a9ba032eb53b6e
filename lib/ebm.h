/* ebm.h - energy-based models of images: the public interface of libebm.
 *
 * SPDX-License-Identifier: ISC
 *
 * An energy-based model is a network E that gives each image a number: low for
 * images like those it was trained on, high for others.  It defines the
 * density p(x) ~ exp(-E(x)); samples of it are drawn by Langevin dynamics,
 * which follows -dE/dx with noise.
 *
 * This header is the manual.  It goes from the simple to the powerful:
 *
 *   1  Status and context      errors, memory, log
 *   2  Data                    images from files, batches
 *   3  Models                  open a trained one: energies, samples
 *   4  Training                recipes, runs, checkpoints
 *   5  Backends and stores     where tensors live and programs run
 *   6  Graphs                  values, operations, gradients
 *   7  Programs                compile once, run many times
 *   8  Layers and networks     what energies are built of
 *   9  Optimisers and samplers
 *
 * Conventions
 *   Status   Functions that can fail return 0 or more when they succeed and a
 *            negative EBM_ERR_ code when not; ebm_message() then says what was
 *            wrong, where, and what to do.
 *   Images   float32, NHWC (batch, row, column, channel), row-major.
 *   Strings  UTF-8, copied by the library unless stated.
 *   Threads  Objects made from one context are used by one thread at a time.
 *            Contexts are independent; there is no global state.
 *   Results  The same seed, device and build give the same bits, however many
 *            threads compute them.
 */
#ifndef EBM_H
#define EBM_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(EBM_BUILD) && defined(__GNUC__)
#define EBM_API __attribute__((visibility("default")))
#else
#define EBM_API
#endif

/* ------------------------------------------------------------------------
 * 1  Status and context
 * ------------------------------------------------------------------------ */

enum ebm_status {
    EBM_OK             =  0,
    EBM_ERR_ARG        = -1,  /* an argument, a recipe or a shape is wrong */
    EBM_ERR_FORMAT     = -2,  /* an input file is malformed or not supported */
    EBM_ERR_IO         = -3,  /* reading or writing failed: missing, full, forbidden */
    EBM_ERR_NOMEM      = -4,  /* no memory, or more than was allowed */
    EBM_ERR_DEVICE     = -5,  /* no such device, or it was lost */
    EBM_ERR_DIVERGED   = -6,  /* training left the guard and could not be saved */
    EBM_ERR_STOPPED    = -7,  /* the caller asked to stop */
    EBM_ERR_INTERNAL   = -8   /* a defect of the library: please report */
};

/* The version of the library, "1.2.3". */
EBM_API const char *ebm_version(void);

/* The name of a status: "ok", "argument", "format" ... */
EBM_API const char *ebm_status_name(int status);

#define EBM_MAX_RANK 6      /* axes of a tensor */

typedef struct ebm_context ebm_context;

enum ebm_log_level { EBM_LOG_DEBUG, EBM_LOG_INFO, EBM_LOG_WARN };

/* What the caller lends the library.  Zeros stand for: malloc and free of the C
 * library, no log.  alloc returns memory aligned for any type, or NULL. */
typedef struct ebm_host {
    void *(*alloc)(void *user, size_t size);
    void (*release)(void *user, void *ptr);
    void (*log)(void *user, int level, const char *message);
    void *user;
} ebm_host;

/* A context: the error message, the caller's allocator and log.
 *
 * host     copied; NULL for the defaults
 * context  receives the context; free it last, after all made from it
 * Returns EBM_OK or EBM_ERR_NOMEM. */
EBM_API int ebm_context_new(const ebm_host *host, ebm_context **context);
EBM_API void ebm_context_free(ebm_context *context);

/* The message of the last failure in this context; "" if there was none.  It
 * belongs to the context and stays until the next failure. */
EBM_API const char *ebm_message(const ebm_context *context);

/* The device that computes, opened by ebm_backend_open() of section 5. */
typedef struct ebm_backend ebm_backend;

/* ------------------------------------------------------------------------
 * 2  Data
 * ------------------------------------------------------------------------ */

/* How an image comes to the size that was asked for. */
enum ebm_fit {
    EBM_FIT_CROP,     /* resized until it covers, then cut to the centre */
    EBM_FIT_PAD,      /* zeros around it; a larger one is first resized to fit in */
    EBM_FIT_STRETCH   /* resized, whatever its proportions */
};

/* Zeros stand for the defaults. */
typedef struct ebm_data_options {
    const char *split;    /* "train" (the default), "test" or "all" */
    int height, width;    /* 0: as stored */
    int channels;         /* 1 or 3; 0: as stored */
    enum ebm_fit fit;
    size_t limit;         /* use the first so many images only; 0: all */
    uint64_t seed;        /* of the source "shapes" */
} ebm_data_options;

/* A set of images. */
typedef struct ebm_data ebm_data;

/* Open a set of images.
 *
 * source
 *   "digits"        10,000 of the digits of MNIST, 28x28 grey, which come with
 *                   the library: from $EBM_DATA_DIR/digits if that variable is
 *                   set, else from where the library was installed
 *   "shapes"        32x32 colour pictures drawn by code: see ebm_shapes_attributes
 *   "squares"       points of the plane, as images of 1x2: uniform on eight squares
 *                   of a board of 4x4, each a class; "squares:COUNT", else 50,000
 *   anything else   a file or folder ("./digits" for a folder of that name),
 *                   known by its content, never by the end of its name:
 *     IDX           images [n,h,w] or [n,h,w,c] of bytes, plain or gzip; or a
 *                   folder with the four names of MNIST (train-images-idx3-ubyte,
 *                   train-labels-idx1-ubyte, t10k-...), each with .gz or without
 *     CIFAR         a file of CIFAR-10 or CIFAR-100 records (binary version), or
 *                   a folder with data_batch_*.bin and test_batch.bin, or with
 *                   train.bin and test.bin; any number of records; class names
 *                   from batches.meta.txt or fine_label_names.txt beside them
 *     images        one PNG or JPEG, or a folder of them: flat, without labels,
 *                   or with a sub-folder for each class.  Sorted by bytes.
 *                   Hidden files, and files that neither are images nor have
 *                   the name of one, are passed over.  If the folder holds
 *                   folders train and test (or val), they are its splits.
 *     NPY           bytes, or floats in [0,1]: [n,h,w,c], else [n,c,h,w], where
 *                   c is 1, 3 or (the last only) 4; [h,w,c] of one image, else
 *                   [n,h,w]; [n,3072] and [n,12288], planes of red, green and
 *                   blue as CIFAR and ImageNet32 have them; [n,784]; else [h,w]
 *     NPZ           such an array named data, images, x or arr_0 (labels: labels,
 *                   y or arr_1), or by splits: x_train, y_train, x_test, y_test
 *                   or train_images, train_labels, test_images, test_labels.
 *                   Labels of rows of planes named data, if none is 0, are
 *                   taken to start at 1, as those of ImageNet32 do
 *   A source without splits counts as train.
 * options  NULL for the defaults
 *
 * Pixels: 16 bits are scaled to 8, palettes expanded, alpha dropped without
 * compositing, CMYK converted; grey becomes colour by repetition, colour grey by
 * 0.299 R + 0.587 G + 0.114 B.  Resizing is bilinear with antialiasing, as
 * Pillow 10 does it, to the bit.  Where a size or the channels are 0 and images of a
 * folder differ, that is an error, except that grey ones among coloured become
 * coloured.
 * Memory: arrays up to 256 MiB are kept in memory, larger plain ones read on
 * demand; decoded images are kept, as bytes, if all take up to 256 MiB.
 * Limits: 16384 pixels a side, 64 Mi pixels an image.
 *
 * Returns EBM_OK, EBM_ERR_ARG (no such split, sizes), EBM_ERR_FORMAT (malformed,
 * not known), EBM_ERR_IO or EBM_ERR_NOMEM. */
EBM_API int ebm_data_open(ebm_context *context, const char *source,
                          const ebm_data_options *options, ebm_data **data);
EBM_API void ebm_data_free(ebm_data *data);

/* What a set is.  Strings belong to the data. */
typedef struct ebm_data_info {
    size_t count;
    int height, width, channels;       /* of the images as they are given */
    int classes;                       /* 0: no labels */
    const char *const *class_names;    /* [classes], or NULL */
    const char *format;                /* "IDX", "CIFAR-10", "images" ... */
    const char *split;                 /* "train", "test", "all" */
    /* A hash (FNV-1a, 64 bits) of contents, split and options.  Folders: of
     * names and file sizes; arrays read on demand: of size, start and end. */
    uint64_t fingerprint;
} ebm_data_info;
EBM_API void ebm_data_describe(const ebm_data *data, ebm_data_info *info);

/* One image: height x width x channels floats in [0,1] (a byte v is v/255), and
 * its label, -1 if it has none; label may be NULL. */
EBM_API int ebm_data_read(ebm_data *data, size_t index, float *pixels, int32_t *label);

/* The source "shapes": one shape on a plain ground, with known attributes.
 *
 *   shapes[:COUNT][,FILTER]...      "shapes:5000,shape=circle|ring,x=0..0.5"
 *   FILTER  ATTRIBUTE=NAME[|NAME]...    one of these
 *           ATTRIBUTE!=NAME[|NAME]...   none of these
 *           ATTRIBUTE=LOW..HIGH         within, for numbers
 *           label=ATTRIBUTE[/PARTS]     what labels tell, if not the shape; of a
 *                                       number, in which of so many equal parts
 *                                       (2) of its range it lies
 *           label=shape|colour          of several attributes the label tells one,
 *                                       by chance; their classes follow each other
 *
 * Without COUNT there are 10,000.  Image i is a function of seed, split and i,
 * not of what labels tell.  Other sizes than 32x32 are drawn, not resized. */
typedef struct ebm_shapes_attributes {
    int shape;         /* circle square triangle star cross ring */
    int colour;        /* red green blue yellow purple cyan orange white */
    int background;    /* black grey navy brown teal */
    float size;        /* radius by the picture's shorter side, 0.15 ... 0.35 */
    float x, y;        /* centre, from the left and from the top, 0 ... 1; the
                        * whole shape is in the picture */
    float rotation;    /* degrees clockwise, 0 ... 360; 0 for circle and ring */
} ebm_shapes_attributes;
/* The attributes of image `index`; EBM_ERR_ARG if data is not of shapes. */
EBM_API int ebm_shapes_read(const ebm_data *data, size_t index,
                            ebm_shapes_attributes *attributes);
/* What a picture [height,width,channels] of pixels in [0,1] shows, whatever made
 * it: the attributes of that picture of one shape on a plain ground, in any two
 * colours, that is nearest to it; then the names of colours that are nearest to
 * those two (of grey pictures, by their grey).  Rotation is up to the shape's
 * symmetry.  fit, if not NULL: the part of the picture's variance that is
 * explained, 1 for a picture of shapes, near 0 for noise.
 * EBM_ERR_ARG for sizes below 8 or above 256, EBM_ERR_NOMEM. */
EBM_API int ebm_shapes_measure(ebm_context *context, const float *pixels, int height, int width,
                               int channels, ebm_shapes_attributes *attributes, double *fit);
/* The name of value `value` of "shape", "colour" or "background", NULL beyond
 * the last. */
EBM_API const char *ebm_shapes_name(const char *attribute, int value);

/* How batches are made of a set.  Zeros stand for the defaults. */
typedef struct ebm_loader_options {
    bool in_order;      /* images in their order instead of shuffled anew each
                         * time all have been seen */
    bool flip;          /* mirror left and right, every other image by chance */
    int  crop;          /* shift by up to so many pixels, zeros come in */
    bool dequantise;    /* v becomes (255 v + U[0,1)) / 256 */
    float low, high;    /* then [0,1] is mapped to [low,high]; both 0: kept */
    float noise;        /* then noise N(0,1) is added, in units of that range */
    int  threads;       /* that work ahead; 0: one, -1: none */
    int  queue;         /* batches ahead; 0: 4 */
} ebm_loader_options;

/* Batches of images, made ahead of their use by threads.
 *
 * What batch b holds is a function of data, options (but threads and queue),
 * seed, batch size and b alone, so that training goes on where it stopped by
 * ebm_loader_seek().  Batches run on over the end of an epoch.
 * data must outlive the loader, and is used by nothing else meanwhile.  With
 * threads, the host's alloc and release are called from them too. */
typedef struct ebm_loader ebm_loader;
EBM_API int ebm_loader_open(ebm_data *data, int batch, uint64_t seed,
                            const ebm_loader_options *options, ebm_loader **loader);
EBM_API void ebm_loader_free(ebm_loader *loader);

/* The next batch: images [batch,h,w,c], labels [batch] (may be NULL).  A failure
 * is that of reading an image; the batch is not passed then, and the calls that
 * follow return the same until ebm_loader_seek(). */
EBM_API int ebm_loader_next(ebm_loader *loader, float *images, int32_t *labels);
/* The batch that ebm_loader_next() gives next; at first 0. */
EBM_API int ebm_loader_seek(ebm_loader *loader, uint64_t batch);
EBM_API uint64_t ebm_loader_tell(const ebm_loader *loader);

/* Images as one PNG picture: a grid in rows, with thin gaps.  Zeros stand for
 * the defaults. */
typedef struct ebm_picture {
    const float *images;       /* [n,height,width,channels], pixels in [0,1] */
    const unsigned char *bytes;   /* or one image that is written as it is, n = 1 */
    int64_t n;
    int height, width;
    int channels;              /* 1 or 3 */
    int columns;               /* 0: as many as rows, or one more */
    int scale;                 /* a pixel becomes a square of so many; 0: small
                                * images are enlarged for the eye */
    const char *const *text;   /* what is noted in the file: key, text, key ... */
    int n_text;                /* of both together */
} ebm_picture;
/* Write it to path, which appears whole or not at all.
 * Returns EBM_OK, EBM_ERR_ARG (sizes), EBM_ERR_IO or EBM_ERR_NOMEM. */
EBM_API int ebm_picture_write(ebm_context *context, const char *path,
                              const ebm_picture *picture);

/* ------------------------------------------------------------------------
 * 3  Models
 * ------------------------------------------------------------------------ */

/* A trained model: one file holds the weights (their moving average, where one
 * was kept), the settings that rebuild its network and draw from it, and where
 * it comes from. */
typedef struct ebm_model ebm_model;

/* Open a model for computing.
 *
 * device   outlives the model
 * path     a safetensors file that training wrote
 * options  NULL for the defaults
 * Returns EBM_OK, EBM_ERR_IO, EBM_ERR_FORMAT (no model, or malformed),
 * EBM_ERR_ARG (a setting), EBM_ERR_NOMEM or EBM_ERR_DEVICE. */
typedef struct ebm_model_options {
    const char *const *settings;    /* "sample.noise=0.01": changes to what the */
    int n_settings;                 /* model says; keys sample.* and precision only */
    bool raw;                       /* the last weights, not their average */
    size_t max_memory;              /* bytes it may take; 0: any */
} ebm_model_options;
EBM_API int ebm_model_open(ebm_backend *device, const char *path,
                           const ebm_model_options *options, ebm_model **model);
EBM_API void ebm_model_free(ebm_model *model);

/* The energies of images [n,h,w,c] with pixels in [0,1], of the model's size:
 * low for what looks like the data it was trained on.  An energy does not depend
 * on the other images of the call. */
EBM_API int ebm_model_energy(ebm_model *model, int64_t n, const float *images,
                             float *energies);

/* Draw images [n,h,w,c] with pixels in [0,1]: numbers first, first + 1, ... of
 * the series that belongs to the seed.  An image is the same whatever first and
 * n are (they are drawn in batches of the model's sample.batch, always whole).
 *
 * progress  called now and then with the part that is done, 0 to 1; what is not
 *           0 stops the call with EBM_ERR_STOPPED.  NULL: none */
typedef int ebm_progress(void *user, double done);
EBM_API int ebm_model_sample(ebm_model *model, uint64_t seed, int64_t first, int64_t n,
                             float *images, ebm_progress *progress, void *user);

/* The same with more to say; zeros stand for nothing of the kind.  Some methods
 * go through stages, from noise to the image, and can complete a picture: draw
 * what the mask leaves open, given the rest; others can show their chains.
 * EBM_ERR_ARG where the model's method cannot. */
typedef struct ebm_draw {
    uint64_t seed;
    int64_t first, n;
    const float *picture;       /* [h,w,c], kept where ... */
    const float *mask;          /* ... this [h,w] is 0, drawn elsewhere */
    float *stages;              /* receives [ebm_model_stages()][n,h,w,c], noise first */
    int frames;                 /* so many pictures of each chain on its way, the start
                                 * first, the end last, equal numbers of steps between */
    float *chains;              /* receives them: [n,frames,h,w,c] */
    ebm_progress *progress;
    void *user;
} ebm_draw;
EBM_API int ebm_model_draw(ebm_model *model, const ebm_draw *draw, float *images);
/* How many pictures there are on the way; the last is the image.  1: it alone. */
EBM_API int ebm_model_stages(const ebm_model *model);

/* Several models as one.  Their images have one size; otherwise they may differ in
 * everything, in method too (of cd and icd; models of cdrl cannot be joined).
 *
 *   any = 0   E = sum w_i E_i: images must please all (a product of experts).
 *             Chains follow E / sum |w_i|, so that a model joined with itself
 *             is that model.
 *   any > 0   E = -1/any log sum w_i exp(-any E_i), w_i > 0: images must please
 *             one; the larger `any`, the more it is the least E_i.
 *
 * The first model says how chains start and step, and its settings are those that
 * can be changed; ebm_model_describe() describes it.
 * Returns as ebm_model_open(); EBM_ERR_ARG if they cannot be joined.
 * Source: Du, Li and Mordatch 2020; Du et al. 2021. */
typedef struct ebm_model_part {
    const char *path;
    double weight;                  /* below 0: images must displease it; not 0 */
    int label;                      /* class that it is told; -1: any */
} ebm_model_part;
EBM_API int ebm_model_join(ebm_backend *device, int n, const ebm_model_part *parts, double any,
                           const ebm_model_options *options, ebm_model **model);

/* What a model file says of itself, without its weights being read.  All belongs
 * to the info; free it with ebm_model_info_free(). */
typedef struct ebm_model_tensor {
    const char *name;               /* "energy/conv1.weight" */
    const char *type;               /* "F32" */
    int rank;
    int64_t shape[EBM_MAX_RANK];
} ebm_model_tensor;
typedef struct ebm_model_info {
    const char *method;             /* "cd" */
    const char *recipe;             /* settings, lines of "key = value" */
    const char *library;            /* the version that wrote it */
    const char *data;               /* the source it was trained on */
    const char *fingerprint;        /* of the data, hexadecimal */
    const char *digest;             /* SHA-256 of the file */
    uint64_t seed;
    int64_t steps;                  /* updates of the weights */
    int height, width, channels;    /* of its images */
    enum ebm_fit fit;               /* how pictures of other sizes come to it */
    int64_t parameters;
    int n_tensors;
    const ebm_model_tensor *tensors;
} ebm_model_info;
EBM_API int ebm_model_inspect(ebm_context *context, const char *path,
                              const ebm_model_info **info);
EBM_API void ebm_model_info_free(ebm_context *context, const ebm_model_info *info);
/* The same of an open model; it belongs to the model. */
EBM_API const ebm_model_info *ebm_model_describe(const ebm_model *model);
/* Of the models that were joined, number `index`; NULL beyond the last. */
EBM_API const ebm_model_info *ebm_model_member(const ebm_model *model, int index);
/* The value of a setting as it is in force, "sample.steps"; NULL: no such key.
 * It belongs to the model and stays until the next call. */
EBM_API const char *ebm_model_setting(ebm_model *model, const char *key);

/* A checkpoint that another program wrote: PyTorch's .pth in both of its forms, or
 * safetensors.  It is read as data: nothing that a pickle names is looked up or
 * run, and objects that are no tensors are stepped over.
 *
 * Tensors are named by the path of the dictionaries that hold them:
 * "ema_model_state_dict_0/conv1.weight".
 * EBM_ERR_IO, EBM_ERR_FORMAT (what is malformed, or of an unknown kind),
 * EBM_ERR_NOMEM. */
typedef struct ebm_foreign ebm_foreign;
typedef struct ebm_foreign_info {
    const char *format;             /* "PyTorch (zip)" */
    int n_tensors;
    const ebm_model_tensor *tensors;
} ebm_foreign_info;
EBM_API int ebm_foreign_open(ebm_context *context, const char *path, ebm_foreign **file);
EBM_API void ebm_foreign_free(ebm_foreign *file);
/* It belongs to the file. */
EBM_API const ebm_foreign_info *ebm_foreign_describe(const ebm_foreign *file);
/* The elements of a tensor, by its index, in the order of its shape; count is
 * checked against it.  Other types than float are rounded to it. */
EBM_API int ebm_foreign_read(ebm_foreign *file, int tensor, float *to, int64_t count);

/* Make a model of it, written to `path`: its network must be one of those that
 * the library has, whose sizes are inferred from the shapes of the tensors.
 *
 *   improved contrastive divergence             Du, Li, Tenenbaum and Mordatch 2021
 *   cooperative diffusion recovery likelihood   Zhu, Xie, Wu and Gao 2024
 *
 * EBM_ERR_FORMAT: no such network (the message names the nearest, and what it
 * lacks); EBM_ERR_ARG: a setting, or weights that are not there. */
typedef struct ebm_import_options {
    const char *const *settings;    /* "icd.labels=0": go before what was inferred */
    int n_settings;
    const char *weights;            /* NULL: the moving average, if there is one, and
                                     * the last weights beside it, as ebm_model_options
                                     * has them; "raw": the last alone; or the path of
                                     * a dictionary, "model_state_dict_1" */
} ebm_import_options;
EBM_API int ebm_foreign_import(ebm_foreign *file, const ebm_import_options *options,
                               const char *path);

/* How well scores tell foreign images (out: the positives) from those of the
 * kind that a model knows (in).  Scores rise with foreignness: energies do.
 *
 *   auroc      probability that a foreign image scores higher than a known one,
 *              ties counted half
 *   aupr_out   area under precision over recall, foreign ones the positives
 *   aupr_in    the same with known ones the positives and scores negated
 *     _ap      as average precision: sum of (R[k] - R[k-1]) P[k] over thresholds
 *     _trapezoid   by the trapezoid rule, from the point (0, 1)
 *   fpr95      false positive rate at the first threshold, going down, where 95 %
 *              of the foreign images are found
 * EBM_ERR_ARG where a side is empty or a score is not a number. */
typedef struct ebm_detection {
    double auroc;
    double aupr_out_ap, aupr_out_trapezoid;
    double aupr_in_ap, aupr_in_trapezoid;
    double fpr95;
} ebm_detection;
EBM_API int ebm_detect(ebm_context *context, size_t n_in, const float *in,
                       size_t n_out, const float *out, ebm_detection *result);

/* How far two sets of images are apart by d features of each, [n,d]: the distance of
 * two normal distributions with the means and covariances (over n - 1) of the sets,
 *
 *   |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))
 *
 * Of the 2048 features of the Inception network it is called FID (Heusel et al. 2017);
 * sets of 50,000 are usual, and fewer images come to larger distances.  Time grows as
 * d^3, memory is 24 d^2 bytes.
 * EBM_ERR_ARG where a set has fewer than two images, a feature is not finite, or d is
 * 0 or above 16384; EBM_ERR_NOMEM. */
EBM_API int ebm_frechet(ebm_context *context, size_t d, size_t n_a, const float *a,
                        size_t n_b, const float *b, double *distance);

/* ------------------------------------------------------------------------
 * 4  Training
 * ------------------------------------------------------------------------ */

/* A run: a recipe at work in a folder.
 *
 *   run/recipe                             every setting in force
 *   run/metrics.jsonl                      a line of JSON per logged step, event
 *   run/checkpoint-000001000.safetensors   all that resuming needs
 *   run/model.safetensors                  at the end: ebm_model_open()
 *
 * A run that is killed at any instant and resumed ends with the same model and
 * the same log, byte for byte, as one that was not. */
typedef struct ebm_train ebm_train;

typedef struct ebm_train_options {
    const char *recipe;             /* "digits", or a file; resuming: NULL for the run's own */
    const char *folder;             /* of the run; NULL: nothing is written */
    const char *const *settings;    /* "langevin.steps=40": go before the recipe's */
    int n_settings;
    uint64_t seed;                  /* where neither recipe nor settings say one */
    bool resume;                    /* go on from the newest good checkpoint, or
                                     * from the start where there is none yet */
    bool dry;                       /* only for ebm_train_describe(): nothing is
                                     * written, a step is refused */
    size_t max_memory;              /* bytes it may take; 0: any */
} ebm_train_options;

/* Read the recipe, open the data, build the method, make or resume the run.
 * A folder that holds a run is refused unless resuming.  When resuming, recipe
 * and settings may only change steps, save.*, log.*, grid.* and data.source.
 * Returns EBM_OK, EBM_ERR_ARG (recipe, settings, folder), EBM_ERR_FORMAT (data,
 * checkpoint), EBM_ERR_IO, EBM_ERR_NOMEM or EBM_ERR_DEVICE. */
EBM_API int ebm_train_open(ebm_backend *device, const ebm_train_options *options,
                           ebm_train **train);
EBM_API void ebm_train_free(ebm_train *train);

/* What a run is.  Strings belong to the run. */
typedef struct ebm_train_info {
    const char *recipe;             /* every setting, with its meaning as comment */
    const char *method;             /* "cd" */
    const char *source;             /* of the data */
    size_t images;                  /* in the data */
    int height, width, channels;
    uint64_t seed;
    int64_t steps;                  /* of the whole run */
    int64_t step;                   /* done so far */
    int64_t parameters;
    double work;                    /* multiply-adds of one step, contractions only */
    size_t weight_bytes;            /* parameters, moments, averages */
    size_t state_bytes;             /* replay buffer, chains, counters */
    size_t program_bytes;           /* intermediates of the programs, which share memory */
    size_t other_bytes;             /* data, batches, graphs, code */
    int64_t grid_every;             /* show samples every so many steps; 0: never */
    int grid_images;                /* and so many */
} ebm_train_info;
EBM_API const ebm_train_info *ebm_train_describe(ebm_train *train);

/* What a step showed: numbers by name, the same names at every step.
 *   loss               what was minimised
 *   energy.data        mean energy of the batch
 *   energy.samples     and of the chains' ends
 *   energy.noise       and of noise, as chains start from; NaN where a step is
 *                      not logged
 *   gradient           norm of the gradient, before clipping
 *   rate               learning rate
 * and more that a method may add.  Names and values belong to the run and stay
 * until its next call. */
enum ebm_train_event {
    EBM_EVENT_NONE,
    EBM_EVENT_SKIPPED,              /* the guard refused the update */
    EBM_EVENT_ROLLED_BACK           /* the run went back to a checkpoint */
};
typedef struct ebm_train_metrics {
    int64_t step;                   /* steps done; less than before after a roll-back */
    int n;
    const char *const *names;
    const double *values;
    enum ebm_train_event event;
    const char *reason;             /* of the event; "" without one */
    bool logged;                    /* it went to metrics.jsonl */
    bool saved;                     /* a checkpoint was written */
} ebm_train_metrics;
/* The value of a name; NaN where there is none. */
EBM_API double ebm_train_metric(const ebm_train_metrics *metrics, const char *name);

/* One update; metrics may be NULL.  Checkpoints are written as the recipe says.
 * After the last step it does nothing.
 * EBM_ERR_DIVERGED: rolled back guard.rollbacks times in vain; EBM_ERR_IO, with
 * the last good checkpoint intact. */
EBM_API int ebm_train_step(ebm_train *train, ebm_train_metrics *metrics);

/* Write a checkpoint now, as when a signal asks to stop. */
EBM_API int ebm_train_save(ebm_train *train);

/* Images for the eye, [n,h,w,c] with pixels in [0,1]; training is not touched.
 * chains: ends of the last update's chains (n is at most the batch).
 * samples: drawn anew, as the finished model would draw them. */
EBM_API int ebm_train_chains(ebm_train *train, int64_t n, float *images);
EBM_API int ebm_train_samples(ebm_train *train, uint64_t seed, int64_t n, float *images,
                              ebm_progress *progress, void *user);

/* The end: the last checkpoint and run/model.safetensors are written. */
EBM_API int ebm_train_finish(ebm_train *train);
/* The model as it is now, to any path. */
EBM_API int ebm_train_export(ebm_train *train, const char *path);

/* ------------------------------------------------------------------------
 * 5  Backends and stores
 * ------------------------------------------------------------------------ */

/* Open the device that will compute.
 *
 * name     "auto", "cpu", "vulkan", "vulkan:1"
 * threads  of the CPU; 0 for as many as the machine has processors
 * Free it after the stores and programs made with it.
 * Returns EBM_OK, EBM_ERR_ARG, EBM_ERR_DEVICE or EBM_ERR_NOMEM. */
EBM_API int ebm_backend_open(ebm_context *context, const char *name,
                             int threads, ebm_backend **backend);
EBM_API void ebm_backend_free(ebm_backend *backend);

/* How many devices "vulkan:N" can name, usable or not; "cpu" is one.  Where it is
 * 0, ebm_message() tells why.  EBM_ERR_ARG: there is no such backend. */
EBM_API int ebm_backend_devices(ebm_context *context, const char *name);

/* One line on the open device: "cpu: avx512, BLIS 0.9.0 skx, 2 threads".  After
 * "auto" it ends, in brackets, with the reason why no GPU was taken. */
EBM_API const char *ebm_backend_describe(const ebm_backend *backend);

/* What the device reaches at best, measured now, in about a fifth of a second. */
typedef struct ebm_peaks {
    double flops;          /* of contractions' kernels, a second */
    double bytes;          /* read and written by a plain copy, a second */
} ebm_peaks;
EBM_API int ebm_backend_peaks(ebm_backend *backend, ebm_peaks *peaks);

/* Where the time goes: programs compiled after ebm_backend_profile() are timed
 * step by step.  A step is a heavy operation, with what is computed on its
 * result while it is at hand, or a group of elementwise operations.
 *
 * read   rows for all steps of all programs so far, of freed ones too, in the
 *        order of compiling and running.  They belong to the backend and stay
 *        until the next read
 * EBM_ERR_ARG where the backend cannot, EBM_ERR_NOMEM. */
typedef struct ebm_profile_row {
    char program[32];      /* "langevin", "update"; a number for the caller's own */
    char op[16];           /* "conv", "sum", "elementwise"; "copy" at the end */
    char layer[80];        /* the weight it uses, "conv1.weight"; or "" */
    char shape[96];        /* of its result */
    int64_t calls;
    double seconds;        /* of all calls */
    double flop, bytes;    /* of a call: operations of contractions; what must be
                            * moved, operands and results */
} ebm_profile_row;
EBM_API int ebm_backend_profile(ebm_backend *backend);
EBM_API int ebm_backend_profile_read(ebm_backend *backend, const ebm_profile_row **rows,
                                     size_t *count);

enum ebm_type { EBM_F32, EBM_I32, EBM_U8 };   /* element types */

/* A store: every tensor that outlives a run - parameters, moments, averages,
 * replay buffers, counters - under its name, on the backend's device.
 *
 * Trainable tensors lie side by side in a region, so that an optimiser is one
 * pass over one vector.  Tensors are declared through a graph (ebm_param,
 * ebm_state) and take memory and first values at ebm_store_alloc(). */
typedef struct ebm_store ebm_store;

EBM_API int ebm_store_new(ebm_backend *backend, ebm_store **store);
EBM_API void ebm_store_free(ebm_store *store);

/* How precisely the contractions of programs compute: matrix products and
 * convolutions of layers, their gradients too.
 *
 * EBM_FP32  in float32
 * EBM_BF16X3  where EBM_BF16 would round and the CPU has AMX: operands are sums of
 *           two bfloat16, a + a' and b + b', and products a b + a b' + a' b, summed
 *           in float32.  An error is at most 1.3e-5 of the sum of |a||b|, and an
 *           infinity, or a number above 3.38e38, becomes NaN.  Elsewhere EBM_FP32.
 * EBM_BF16  operands are rounded to bfloat16, to nearest, ties to even; products
 *           are exact and summed in float32.  Weights, states, results and all
 *           other operations stay float32, and so do the products that norms of
 *           weights and changes of images are made of, convolutions in groups,
 *           and what has fewer than 8 channels (of a product: terms or columns)
 *           to read or to make, where it would gain nothing.  Fast where the
 *           processor has instructions for it; the same values, but for the
 *           order of sums, where not.
 *
 * It holds for programs compiled from the store's graphs afterwards.  A backend
 * that cannot refuses to compile: EBM_ERR_DEVICE. */
enum ebm_precision { EBM_FP32, EBM_BF16, EBM_BF16X3 };
EBM_API void ebm_store_precision(ebm_store *store, enum ebm_precision precision);

/* How the elements of a tensor start.  Random ones are drawn from the seed and
 * the tensor's name alone. */
typedef struct ebm_init {
    enum { EBM_INIT_CONST, EBM_INIT_UNIFORM, EBM_INIT_NORMAL, EBM_INIT_UNIT } kind;
    float a;   /* CONST: the value; UNIFORM: bound, of [-a,a); NORMAL: mean;
                * UNIT: none (a normal vector scaled to norm 1) */
    float b;   /* NORMAL: standard deviation; UNIFORM: if not 0, the upper
                * bound of [a,b) */
} ebm_init;

/* Allocate what has been declared and not allocated yet, and give it its first
 * values; then programs that wait for it get their memory.  Regions cannot grow
 * afterwards. */
EBM_API int ebm_store_alloc(ebm_store *store, uint64_t seed);

/* Bytes that ebm_store_alloc() would have allocated in all. */
EBM_API size_t ebm_store_bytes(const ebm_store *store);

/* Copy a whole tensor, or a parameter by its name "region/name", from or to the
 * host.  size is checked against the tensor's. */
EBM_API int ebm_store_read(ebm_store *store, const char *name,
                           void *host, size_t size);
EBM_API int ebm_store_write(ebm_store *store, const char *name,
                            const void *host, size_t size);

/* ------------------------------------------------------------------------
 * 6  Graphs
 * ------------------------------------------------------------------------ */

/* A graph holds values: every value is an operation on earlier values.  It is
 * built once, differentiated, compiled, and run many times.
 *
 * Builders latch the first error: they then return 0, which every builder takes
 * and passes on, so that a model is written like its formula and checked once,
 * by ebm_graph_status() or by ebm_compile().  Values belong to the graph. */
typedef struct ebm_graph ebm_graph;
typedef int32_t ebm_val;

EBM_API int ebm_graph_new(ebm_store *store, ebm_graph **graph);
EBM_API void ebm_graph_free(ebm_graph *graph);
EBM_API int ebm_graph_status(const ebm_graph *graph);

/* The shape of a value: up to EBM_MAX_RANK sizes go to shape, the rank is
 * returned (0 for a scalar, -1 for no value). */
EBM_API int ebm_shape(const ebm_graph *g, ebm_val a, int64_t *shape);

/* Leaves.  feed: given at each run under its name.  param: trainable, in a
 * region.  state: any other tensor of the store.  A second declaration of a
 * name returns the same tensor and must agree in type and shape. */
EBM_API ebm_val ebm_feed(ebm_graph *g, const char *name, enum ebm_type type,
                         int rank, const int64_t *shape);
EBM_API ebm_val ebm_param(ebm_graph *g, const char *region, const char *name,
                          int rank, const int64_t *shape, ebm_init init);
EBM_API ebm_val ebm_state(ebm_graph *g, const char *name, enum ebm_type type,
                          int rank, const int64_t *shape, ebm_init init);
/* A whole region as one vector, in the order of declaration. */
EBM_API ebm_val ebm_region(ebm_graph *g, const char *region);
EBM_API ebm_val ebm_const(ebm_graph *g, double value);             /* scalar */
EBM_API ebm_val ebm_fill(ebm_graph *g, ebm_val like, double value); /* like's shape */
/* 0, 1, 2 ... along one axis of a shape. */
EBM_API ebm_val ebm_iota(ebm_graph *g, int rank, const int64_t *shape, int axis);

/* Elementwise.  Shapes broadcast as in NumPy: aligned at the last axis, sizes
 * equal or 1. */
EBM_API ebm_val ebm_neg(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_abs(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_sign(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_floor(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_exp(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_log(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_sqrt(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_sin(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_cos(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_tanh(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_sigmoid(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_softplus(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_cast(ebm_graph *g, ebm_val a, enum ebm_type type);
EBM_API ebm_val ebm_stop(ebm_graph *g, ebm_val a);     /* no gradient flows through */
EBM_API ebm_val ebm_square(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_relu(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_leaky_relu(ebm_graph *g, ebm_val a, double slope);
EBM_API ebm_val ebm_silu(ebm_graph *g, ebm_val a);      /* a sigmoid(a), also swish */
EBM_API ebm_val ebm_elu(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_gelu(ebm_graph *g, ebm_val a);      /* the tanh form */
EBM_API ebm_val ebm_add(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_sub(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_mul(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_div(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_max(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_min(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_less(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_equal(ebm_graph *g, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_select(ebm_graph *g, ebm_val c, ebm_val a, ebm_val b);
EBM_API ebm_val ebm_clamp(ebm_graph *g, ebm_val a, double lo, double hi);
EBM_API ebm_val ebm_scale(ebm_graph *g, ebm_val a, double factor);
EBM_API ebm_val ebm_offset(ebm_graph *g, ebm_val a, double add);

/* Moving elements. */
EBM_API ebm_val ebm_broadcast(ebm_graph *g, ebm_val a, int rank, const int64_t *shape);
EBM_API ebm_val ebm_reshape(ebm_graph *g, ebm_val a, int rank, const int64_t *shape); /* one size may be -1 */
EBM_API ebm_val ebm_transpose(ebm_graph *g, ebm_val a, const int *perm);
EBM_API ebm_val ebm_slice(ebm_graph *g, ebm_val a, const int64_t *begin,
                          const int64_t *size, const int64_t *step); /* step NULL: ones */
EBM_API ebm_val ebm_pad(ebm_graph *g, ebm_val a, const int64_t *before,
                        const int64_t *after);
EBM_API ebm_val ebm_flip(ebm_graph *g, ebm_val a, unsigned axes);   /* bit i: axis i */
EBM_API ebm_val ebm_concat(ebm_graph *g, int axis, int n, const ebm_val *parts);

/* Reductions over the axes of a bit mask (bit i: axis i), which keep size 1. */
EBM_API ebm_val ebm_sum(ebm_graph *g, ebm_val a, unsigned axes);
EBM_API ebm_val ebm_mean(ebm_graph *g, ebm_val a, unsigned axes);
EBM_API ebm_val ebm_amax(ebm_graph *g, ebm_val a, unsigned axes);
EBM_API ebm_val ebm_sum_all(ebm_graph *g, ebm_val a);    /* a scalar of rank 0 */
EBM_API ebm_val ebm_mean_all(ebm_graph *g, ebm_val a);
EBM_API ebm_val ebm_softmax(ebm_graph *g, ebm_val a, int axis);
EBM_API ebm_val ebm_logsumexp(ebm_graph *g, ebm_val a, int axis);

/* c = op(a) op(b), op(a) [m,k], op(b) [k,n]; rank 2, or rank 3 with the same
 * batch first.  ta, tb: the operand is stored transposed. */
EBM_API ebm_val ebm_matmul(ebm_graph *g, ebm_val a, ebm_val b, bool ta, bool tb);

/* Convolution (a correlation, as the field has it).  x [n,h,w,c],
 * f [k,r,s,c/groups], result [n,p,q,k] with
 *   p = (h + top + bottom - dilation (r-1) - 1) / stride + 1.
 * Zeros in a spec stand for: stride 1, no padding, dilation 1, one group. */
typedef struct ebm_conv_spec {
    int stride[2];      /* rows, columns */
    int pad[4];         /* top, left, bottom, right */
    int dilation[2];
    int groups;
} ebm_conv_spec;
EBM_API ebm_val ebm_conv(ebm_graph *g, ebm_val x, ebm_val f, const ebm_conv_spec *spec);
/* Its partners: the partial derivatives of the form sum y (x conv f).  data:
 * y [n,p,q,k] to [n,h,w,c] (transposed convolution); filter: to [k,r,s,c/groups]. */
EBM_API ebm_val ebm_conv_data(ebm_graph *g, ebm_val y, ebm_val f,
                              const ebm_conv_spec *spec, int64_t h, int64_t w);
EBM_API ebm_val ebm_conv_filter(ebm_graph *g, ebm_val x, ebm_val y,
                                const ebm_conv_spec *spec, int64_t r, int64_t s);

/* Pooling over windows; stride 0 stands for the window's size. */
typedef struct ebm_pool_spec {
    int window[2], stride[2];
    int pad[4];         /* top, left, bottom, right */
} ebm_pool_spec;
EBM_API ebm_val ebm_sum_pool(ebm_graph *g, ebm_val x, const ebm_pool_spec *spec);
EBM_API ebm_val ebm_avg_pool(ebm_graph *g, ebm_val x, const ebm_pool_spec *spec); /* padding counts */
EBM_API ebm_val ebm_max_pool(ebm_graph *g, ebm_val x, const ebm_pool_spec *spec); /* padding never wins */

enum ebm_resample { EBM_NEAREST, EBM_BILINEAR };
EBM_API ebm_val ebm_resample(ebm_graph *g, ebm_val x, enum ebm_resample mode,
                             int64_t h, int64_t w);

/* Rows: a [v,...], index int32 [n]; indices outside are clamped. */
EBM_API ebm_val ebm_gather(ebm_graph *g, ebm_val a, ebm_val index);
EBM_API ebm_val ebm_scatter(ebm_graph *g, ebm_val rows, ebm_val index, int64_t v);
EBM_API ebm_val ebm_update(ebm_graph *g, ebm_val a, ebm_val index, ebm_val rows);
/* 1 at the label, 0 elsewhere: labels [n] of any type to [n,classes]. */
EBM_API ebm_val ebm_one_hot(ebm_graph *g, ebm_val labels, int64_t classes);

/* Random numbers (Philox4x32-10).  counter is a state of type EBM_I32 and shape
 * [4]: seed low, seed high, step, stream; draws of one program differ by their
 * purpose (any number).  Assign ebm_tick(counter) to the state to move on. */
EBM_API ebm_val ebm_uniform(ebm_graph *g, ebm_val counter, uint32_t purpose,
                            int rank, const int64_t *shape);        /* [0,1) */
EBM_API ebm_val ebm_normal(ebm_graph *g, ebm_val counter, uint32_t purpose,
                           int rank, const int64_t *shape);         /* N(0,1) */
EBM_API ebm_val ebm_tick(ebm_graph *g, ebm_val counter);

/* Gradients: dx[i] = d(sum y)/d x[i], as values that can be differentiated
 * again.  x[i] on which y does not depend give zeros.  A program never pays for
 * gradients that it does not use. */
EBM_API void ebm_gradients(ebm_graph *g, ebm_val y, int n, const ebm_val *x, ebm_val *dx);
EBM_API ebm_val ebm_grad(ebm_graph *g, ebm_val y, ebm_val x);
/* The gradient by a whole region, as one vector in the region's order. */
EBM_API ebm_val ebm_grad_region(ebm_graph *g, ebm_val y, const char *region);

/* ------------------------------------------------------------------------
 * 7  Programs
 * ------------------------------------------------------------------------ */

/* An effect: when the program ends, a becomes the content of the state (or
 * region) that `state` reads whole.  Every read in the program sees the content
 * from before it. */
EBM_API ebm_val ebm_assign(ebm_graph *g, ebm_val state, ebm_val a);

typedef struct ebm_program ebm_program;

/* Compile what the outputs need - values to fetch, and effects - for the
 * store's backend.  All memory that running takes is allocated here, or later, by
 * ebm_store_alloc(), where the store has none yet: the graph must live until then.
 * Programs of a device share memory for intermediates, as they never run at once.
 * Returns EBM_OK, the graph's latched error, EBM_ERR_NOMEM or EBM_ERR_DEVICE (it
 * fails, or has no such precision). */
EBM_API int ebm_compile(ebm_graph *g, int n, const ebm_val *outputs, ebm_program **program);
EBM_API void ebm_program_free(ebm_program *program);

/* The bytes of intermediates, feeds and outputs that it takes by itself. */
EBM_API size_t ebm_program_bytes(const ebm_program *program);

/* Give a feed; the data are copied. */
EBM_API int ebm_program_set(ebm_program *program, const char *feed,
                            const void *host, size_t size);
/* Run it, `times` times in a row. */
EBM_API int ebm_program_run(ebm_program *program, int times);
/* Read an output of the last run. */
EBM_API int ebm_program_get(ebm_program *program, ebm_val output, void *host, size_t size);

/* ------------------------------------------------------------------------
 * 8  Layers and networks
 * ------------------------------------------------------------------------ */

/* Everything below is written in the operations of section 6: no layer is
 * special to gradients, to any order, or to a backend. */

/* What a program shall be compiled for: values to fetch and effects, in one
 * list, which ebm_compile() takes as (count, list). */
#define EBM_MAX_OUTPUTS 1024
typedef struct ebm_outputs {
    int count;
    ebm_val list[EBM_MAX_OUTPUTS];
} ebm_outputs;

/* Append a value; one that is in the list already is not repeated.  A second
 * effect on the same state and a full list are errors of the graph. */
EBM_API void ebm_output(ebm_graph *g, ebm_outputs *outputs, ebm_val a);

/* How weights start.  fan_in and fan_out count the weights that reach an output
 * and that leave an input. */
enum ebm_scheme {
    EBM_SCHEME_NET,       /* as the network says; there: PyTorch's */
    EBM_SCHEME_PYTORCH,   /* uniform within gain / sqrt(fan_in); biases too */
    EBM_SCHEME_XAVIER,    /* uniform within gain sqrt(6 / (fan_in + fan_out)),
                           * Keras' "Glorot"; biases zero.  Glorot and Bengio 2010 */
    EBM_SCHEME_HE,        /* normal, deviation gain sqrt(2 / fan_in); biases zero.
                           * He et al. 2015 */
    EBM_SCHEME_NORMAL,    /* normal, deviation gain; biases zero */
    EBM_SCHEME_ZERO
};

/* A network while it is built: where its weights are and what building it does.
 * It is the caller's, lives on the stack and owns nothing; zeros are defaults.
 *
 *     ebm_outputs out = { 0 };
 *     ebm_net net = { .graph = g, .region = "energy", .training = true,
 *                     .effects = &out };
 *     ebm_val e = ebm_energy_net(&net, "conv:16,k5,s2 silu mean linear:1", x);
 *
 * Building the same layers with the same names again uses the same weights:
 * that is how one network is applied to data and to samples. */
typedef struct ebm_net {
    ebm_graph *graph;
    const char *region;          /* weights are "region/scope.layer.weight" */
    bool training;               /* dropout drops; spectral norm and batch norm
                                  * learn, if there is a list of effects */
    bool frozen;                 /* no gradient reaches the weights */
    ebm_val weights;             /* 0, or a vector laid out like the region that
                                  * stands for it: its moving average */
    ebm_val counter;             /* random counter for dropout; 0: no dropout */
    uint32_t purpose;            /* tells this network's draws from others' */
    ebm_outputs *effects;        /* receives the updates of the layers' states */
    enum ebm_scheme init, bias_init;   /* of layers that do not say */
    float gain;                  /* of `init`; 0 stands for 1 */
    bool spectral_norm, weight_standard;   /* of all convolutions and linears */
    char scope[96];              /* prefix of names: see ebm_net_enter() */
} ebm_net;

/* Names within "block1." until left; scopes nest, and their names have no dot. */
EBM_API void ebm_net_enter(ebm_net *net, const char *name);
EBM_API void ebm_net_leave(ebm_net *net);

/* A weight of the network, and a state beside its weights ("region/scope.name"). */
EBM_API ebm_val ebm_net_param(ebm_net *net, const char *name, int rank,
                              const int64_t *shape, ebm_init init);
EBM_API ebm_val ebm_net_state(ebm_net *net, const char *name, int rank,
                              const int64_t *shape, ebm_init init);

/* A convolution, transposed convolution or linear map.  Zeros stand for: kernel
 * 1, stride 1, no padding, dilation 1, one group, the network's settings. */
#define EBM_PAD_SAME (-1)        /* stride 1 keeps the size; else divides it */
typedef struct ebm_layer {
    int64_t out;                 /* output channels or features */
    int kernel, stride, pad, dilation, groups;
    int out_pad;                 /* transposed: rows and columns more at the end */
    bool no_bias;
    bool spectral_norm;          /* weight / its largest singular value, by one
                                  * power iteration a training step (Miyato et
                                  * al. 2018); states name.weight_u, .weight_v */
    bool plain;                  /* neither spectral norm nor standardisation,
                                  * whatever the network says */
    bool weight_standard;        /* filters centred, divided by (deviation + 1e-5) */
    enum ebm_scheme init, bias_init;
    float gain;
} ebm_layer;

/* x [...,c] to [...,out]; weight [out,c]. */
EBM_API ebm_val ebm_linear(ebm_net *net, const char *name, ebm_val x, const ebm_layer *layer);
/* x [n,h,w,c] to [n,p,q,out]; weight [out,r,s,c/groups]. */
EBM_API ebm_val ebm_conv_layer(ebm_net *net, const char *name, ebm_val x, const ebm_layer *layer);
/* x [n,p,q,c] to [n,h,w,out], h = (p - 1) stride - 2 pad + dilation (kernel - 1)
 * + out_pad + 1; weight [c,r,s,out/groups]. */
EBM_API ebm_val ebm_conv_transpose_layer(ebm_net *net, const char *name, ebm_val x,
                                         const ebm_layer *layer);

/* Normalisation: (x - mean) / sqrt(variance + epsilon), the biased variance,
 * then weight and bias by channel; with no name, without these.
 * group: channels in `groups` of neighbours, over space; as many groups as
 * channels are instance norm.  layer: over the axes of the mask (bit i: axis i),
 * whose shape the weight has.  batch: over all axes but the last in training;
 * else, or when frozen, with the states name.running_mean (from 0) and
 * name.running_var (from 1), which move by `momentum` a training step. */
EBM_API ebm_val ebm_group_norm(ebm_net *net, const char *name, ebm_val x,
                               int64_t groups, double epsilon);
EBM_API ebm_val ebm_instance_norm(ebm_net *net, const char *name, ebm_val x, double epsilon);
EBM_API ebm_val ebm_layer_norm(ebm_net *net, const char *name, ebm_val x,
                               unsigned axes, double epsilon);
EBM_API ebm_val ebm_batch_norm(ebm_net *net, const char *name, ebm_val x,
                               bool frozen, double momentum, double epsilon);

/* softmax(scale q k') v over keys: q [b,t,d], k [b,u,d], v [b,u,e] to [b,t,e]. */
EBM_API ebm_val ebm_attend(ebm_graph *g, ebm_val q, ebm_val k, ebm_val v, double scale);

/* Self-attention over the pixels of x [n,h,w,c], added to x.  query, key and
 * value are linear; zeros stand for: one head, c key and value channels.
 * Attention to a normalised image is added to the image itself by the caller,
 * with no_residual. */
typedef struct ebm_attention_spec {
    int heads;
    int64_t key, value;          /* channels of all heads together */
    bool unscaled;               /* scores not divided by sqrt(key / heads) */
    bool gamma;                  /* a learned factor from 0 (Zhang et al. 2019) */
    bool no_out;                 /* no output map; value must be c */
    bool no_residual;            /* not added to x */
    bool no_bias;
} ebm_attention_spec;
EBM_API ebm_val ebm_attention(ebm_net *net, const char *name, ebm_val x,
                              const ebm_attention_spec *spec);

/* FiLM (Perez et al. 2018): gain and bias by channel, linear in e [n,d]:
 * x (offset + gain(e)) + bias(e); offset 1 is usual.  One linear map makes both,
 * gains first. */
EBM_API ebm_val ebm_film(ebm_net *net, const char *name, ebm_val x, ebm_val e, double offset);

/* The sinusoidal embedding of numbers t [n]: [n,dim], sines of t f(j) and then
 * cosines, f(j) = period^(-j / (dim/2 - 1)).  dim is even and at least 4. */
EBM_API ebm_val ebm_sinusoidal(ebm_graph *g, ebm_val t, int64_t dim, double period);

/* Elements dropped with probability p, others divided by 1 - p, in training and
 * with a counter; else x.  Each name draws apart from others. */
EBM_API ebm_val ebm_dropout(ebm_net *net, const char *name, ebm_val x, double p);

/* A network from its description: layers separated by blanks.
 *
 *   conv:OUT[,kK][,sS][,pP][,dD][,gG]   kernel K (3), stride, padding ("same"),
 *                     dilation, groups
 *   deconv:OUT[,kK][,sS][,pP][,oO]      transposed (kernel 4, stride 2, padding 1)
 *   linear:OUT        on the channels; all features after "flatten"
 *                     of all three: ,nobias ,sn ,ws ,plain ,zero (weights from 0)
 *   relu silu elu gelu tanh sigmoid softplus leaky[:SLOPE]
 *   avgpool:K maxpool:K sumpool:K       [,sS][,pP]
 *   up:F[,bilinear]   F times the size
 *   groupnorm:G instnorm layernorm batchnorm[:frozen]   [,eE] epsilon
 *   attention[:HEADS][,kKEY][,vVALUE][,unscaled][,gamma][,noout][,nores][,nobias]
 *                     nores: not added to its input, as in
 *                     "res(groupnorm:8 attention:1,nores)"
 *   dropout:P
 *   affine:A,B        A x + B
 *   flatten  reshape:H,W,C  mean  sum   (over space)
 *   init:SCHEME[,GAIN]   pytorch, xavier, he, normal, zero: of later layers
 *   bias:SCHEME
 *   sn ws             of later layers; sn:off, ws:off
 *   res[:half][,nobias]( ... )   the input plus what the layers within make of
 *                     it; where shapes differ the input is average-pooled or
 *                     repeated to the size and taken through a 1x1 convolution
 *                     (nobias: without a bias); half: the sum divided by sqrt 2
 *   add( ... | ... )  concat( ... | ... )   branches from the same input, added
 *                     or their channels joined; an empty one is the input
 *   repeat:N( ... )   the layers N times, with weights of their own
 *
 * Layers are named by kind and number: "conv1", "res2.conv1", "add1.2.linear1".
 * Errors name the column of the text. */
EBM_API ebm_val ebm_sequential(ebm_net *net, const char *text, ebm_val x);

/* The same for an energy: x [n,...] to [n].  The description must end with one
 * number for an image. */
EBM_API ebm_val ebm_energy_net(ebm_net *net, const char *text, ebm_val x);

/* ------------------------------------------------------------------------
 * 9  Optimisers and samplers
 * ------------------------------------------------------------------------ */

/* The learning rate of step n (0, 1, 2 ...), a scalar of the graph: it changes
 * without the host.
 *
 *   rate * min(1, (n + warmup_offset) / warmup)      (warmup 0: no such factor)
 *        * CONSTANT 1
 *        | LINEAR   from 1 at `begin` to `end_factor` at `end`
 *        | COSINE   the same along half a cosine (Loshchilov and Hutter 2017)
 *        | STEP     drop^k, k = (n - begin) / every, rounded down, from `begin` on
 *        | DROPS    drop^k, k = how many of drops[] are at or before n (0 ends) */
typedef struct ebm_schedule {
    double rate;
    double warmup, warmup_offset;
    enum { EBM_CONSTANT, EBM_LINEAR, EBM_COSINE, EBM_STEP, EBM_DROPS } kind;
    double begin, end, end_factor;
    double every, drop, drops[8];
} ebm_schedule;
EBM_API ebm_val ebm_schedule_at(ebm_graph *g, ebm_val n, const ebm_schedule *schedule);

/* The L2 norm of all elements, a scalar. */
EBM_API ebm_val ebm_norm(ebm_graph *g, ebm_val a);
/* Scaled so that the norm is at most `limit`: factor min(1, limit / (norm + 1e-6)). */
EBM_API ebm_val ebm_clip_norm(ebm_graph *g, ebm_val a, double limit);
/* The same for each row a[i,...] by itself; rows within the limit are unchanged. */
EBM_API ebm_val ebm_clip_rows(ebm_graph *g, ebm_val a, double limit);
/* The same for each parameter tensor of a region's gradient by itself. */
EBM_API ebm_val ebm_clip_tensors(ebm_graph *g, const char *region, ebm_val grad, double limit);

/* What moves a region down its gradient.  Zeros stand for: no such thing;
 * ebm_adam_defaults() and the like give the usual figures.
 *
 * ADAM  m = b1 m + (1-b1) d,  v = b2 v + (1-b2) d^2,  of step t = 1, 2 ...
 *       w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + epsilon)
 *       epsilon_hat: w -= lr sqrt(1-b2^t) / (1-b1^t) m / (sqrt v + epsilon), as
 *       Keras has it.  Kingma and Ba 2015
 * SGD   b = momentum b + d;  w -= lr (nesterov ? d + momentum b : b)
 * with d the gradient, clipped to clip_norm, plus weight_decay w; decoupled:
 * instead w is first multiplied by 1 - lr weight_decay (AdamW, Loshchilov and
 * Hutter 2019).
 * EMA   e += (1 - ema) (w - e) after each step, from the weights before the
 *       first; ema_warmup: of decay min(ema, (1+t) / (10+t)). */
typedef struct ebm_optimiser {
    enum { EBM_ADAM, EBM_SGD } kind;
    ebm_schedule lr;
    double beta1, beta2, epsilon;
    bool epsilon_hat;
    double momentum;
    bool nesterov;
    double weight_decay;
    bool decoupled;
    double clip_norm;            /* of the whole region's gradient; 0: none */
    double clip_tensor;          /* of each tensor's by itself; 0: none */
    double ema;                  /* decay; 0: no average */
    bool ema_warmup;
} ebm_optimiser;

/* PyTorch's Adam: betas 0.9 and 0.999, epsilon 1e-8, constant rate. */
EBM_API ebm_optimiser ebm_adam_defaults(double rate);
/* Keras' Adam: the same with epsilon 1e-7, "epsilon hat". */
EBM_API ebm_optimiser ebm_keras_adam_defaults(double rate);
EBM_API ebm_optimiser ebm_sgd_defaults(double rate, double momentum);

/* One step of an optimiser: effects on the region and on its states
 * "region.step" (steps taken, a float32 scalar), ".m" and ".v" or ".momentum",
 * and ".ema" are appended to outputs.  Call it when the region is complete.
 *
 * grad    as of ebm_grad_region()
 * enable  0, or a scalar: where it is 0 nothing changes (a skipped step)
 * Returns the region's vector after the step, or 0 with the error latched. */
EBM_API ebm_val ebm_optimise(ebm_graph *g, const char *region, ebm_val grad,
                             const ebm_optimiser *optimiser, ebm_val enable,
                             ebm_outputs *outputs);
/* The count of steps taken and the average of a region, as states. */
EBM_API ebm_val ebm_steps(ebm_graph *g, const char *region);
EBM_API ebm_val ebm_average(ebm_graph *g, const char *region);

/* An energy as a sampler sees it: x [n,...] to energies [n]. */
typedef ebm_val ebm_energy_fn(ebm_graph *g, ebm_val x, void *user);

/* One step of Langevin dynamics:  x' = x - step clip(dE/dx) + noise N(0,1).
 *
 * x            [n,...]; the result has its shape
 * step, noise  scalars, or of a shape that broadcasts to x: feeds, states or
 *              constants, so that a run may change them.  Proper dynamics at
 *              temperature T have noise^2 = 2 T step; models of images are
 *              trained with far less (Nijkamp et al. 2019)
 * counter      random counter; tick it after each step
 * Source: Welling and Teh 2011, with step and noise uncoupled. */
typedef struct ebm_langevin_options {
    enum {
        EBM_NOISE_FIRST,    /* x + noise, clamped; then down the gradient there,
                             * so that the result is free of fresh noise */
        EBM_NOISE_LAST      /* gradient and noise at once */
    } order;
    enum {
        EBM_CLIP_NONE,
        EBM_CLIP_ELEMENT,   /* each element of dE/dx to [-limit, limit] */
        EBM_CLIP_NORM       /* each image's dE/dx to a norm of at most limit */
    } clip;
    double limit;
    bool clamp;             /* x stays within [low, high] */
    double low, high;
    uint32_t purpose;       /* tells its draws from others of the program */
} ebm_langevin_options;
EBM_API ebm_val ebm_langevin(ebm_graph *g, ebm_energy_fn *energy, void *user,
                             ebm_val x, ebm_val step, ebm_val noise, ebm_val counter,
                             const ebm_langevin_options *options);

#ifdef __cplusplus
}
#endif
#endif
