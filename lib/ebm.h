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

/* ------------------------------------------------------------------------
 * 5  Backends and stores
 * ------------------------------------------------------------------------ */

typedef struct ebm_backend ebm_backend;

/* Open the device that will compute.
 *
 * name     "auto", "cpu", "vulkan", "vulkan:1"
 * threads  of the CPU; 0 for as many as the machine has processors
 * Free it after the stores and programs made with it.
 * Returns EBM_OK, EBM_ERR_ARG, EBM_ERR_DEVICE or EBM_ERR_NOMEM. */
EBM_API int ebm_backend_open(ebm_context *context, const char *name,
                             int threads, ebm_backend **backend);
EBM_API void ebm_backend_free(ebm_backend *backend);

/* One line on the open device: "cpu: avx512, BLIS 0.9.0 skx, 2 threads". */
EBM_API const char *ebm_backend_describe(const ebm_backend *backend);

enum ebm_type { EBM_F32, EBM_I32, EBM_U8 };   /* element types */
#define EBM_MAX_RANK 6

/* A store: every tensor that outlives a run - parameters, moments, averages,
 * replay buffers, counters - under its name, on the backend's device.
 *
 * Trainable tensors lie side by side in a region, so that an optimiser is one
 * pass over one vector.  Tensors are declared through a graph (ebm_param,
 * ebm_state) and take memory and first values at ebm_store_alloc(). */
typedef struct ebm_store ebm_store;

EBM_API int ebm_store_new(ebm_backend *backend, ebm_store **store);
EBM_API void ebm_store_free(ebm_store *store);

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
 * values.  Regions cannot grow afterwards. */
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
 * store's backend.  All memory that running takes is allocated here.
 * Returns EBM_OK, the graph's latched error, EBM_ERR_NOMEM or EBM_ERR_DEVICE. */
EBM_API int ebm_compile(ebm_graph *g, int n, const ebm_val *outputs, ebm_program **program);
EBM_API void ebm_program_free(ebm_program *program);

/* The bytes of intermediates that the program holds. */
EBM_API size_t ebm_program_bytes(const ebm_program *program);

/* Give a feed; the data are copied. */
EBM_API int ebm_program_set(ebm_program *program, const char *feed,
                            const void *host, size_t size);
/* Run it, `times` times in a row. */
EBM_API int ebm_program_run(ebm_program *program, int times);
/* Read an output of the last run. */
EBM_API int ebm_program_get(ebm_program *program, ebm_val output, void *host, size_t size);

#ifdef __cplusplus
}
#endif
#endif
