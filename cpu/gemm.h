/* gemm.h - the micro-kernels that every matrix product and convolution ends in.
 *
 * SPDX-License-Identifier: ISC
 *
 * A micro-kernel computes a tile of MR rows and NR columns of  C = A B, kept in
 * registers while it goes along k:
 *
 *              k ->              NR (or NS)
 *          .----------.         .------.          .------.
 *       MR |    A     |   x   k |  B   |   =   MR |  C   |
 *          '----------'         '------'          '------'
 *
 * B (filters) is packed: b[k * NR + j].  A is not: a row of it is where the
 * image lies, as runs of consecutive floats that all rows share (a run is a row
 * of a filter's window, or a tap of it), so the im2col matrix exists nowhere,
 * not even in panels.  Rows of C are where the result has them. */
#ifndef EBM_CPU_GEMM_H
#define EBM_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>
#include "context.h"

/* Columns len of A follow each other in memory from element `at` of a row. */
struct run {
    int64_t at, len;
};

enum { GEMM_MAX_MR = 16, GEMM_MAX_NR = 64, GEMM_DOT_COLUMNS = 4, GEMM_PIECE = 16 };

/* c[i][j] (+)= sum_k a[i][k] b[k,j]: `add` adds to c, else c is overwritten.
 * Each sum starts at zero and is added last, in an order fixed by the runs. */
typedef void gemm_rows(int runs, const struct run *run, const float *const *a,
                       const float *b, float *const *c, bool add);

/* The same of rows of A and of C that are so far apart, MR, 2 MR ... of them. */
typedef void gemm_even(int64_t rows, int64_t depth, const float *a, int64_t lda, const float *b,
                       float *c, int64_t ldc, bool add);

/* rows_past, taps_past: c is stored past the caches and not added to.  It consists of
 * whole cache lines; kernels.h has stream_end(), which is to be called then. */

/* The same from columns of A: the MR elements of column k are at a + at[k], and B
 * is b[k * ldb + j]; to c[i * NR + j]. */
typedef void gemm_cols(int64_t columns, const int64_t *at, const float *a,
                       const float *b, int64_t ldb, float *c, bool add);

/* Few columns: c[i][at[j]], j < n <= GEMM_DOT_COLUMNS, with b[j * ldb + k]. */
typedef void gemm_dot(int runs, const struct run *run, const float *const *a,
                      const float *b, int64_t ldb, int n, const int64_t *at,
                      float *const *c);

/* One channel each (depthwise): c[i][j] = sum_t a[i][run[t].at + j] b[t n + j],
 * j < n. */
typedef void gemm_taps(int runs, const struct run *run, const float *const *a,
                       const float *b, int64_t n, float *const *c);

/* The partner of taps: c[t n + j] += sum_k a[at[k] + run[t].at + j] b[k ldb + j],
 * j < n. */
typedef void gemm_taps_cols(int taps, const struct run *run, int64_t columns,
                            const int64_t *at, const float *a, const float *b,
                            int64_t ldb, int64_t n, float *c);

/* Few channels: c[i step + j] = sum_t m[i ld + at[t] + j], j < n <= GEMM_DOT_COLUMNS.  Of m,
 * GEMM_DOT_COLUMNS floats are read each time. */
typedef void gemm_shifted(int64_t pixels, int taps, const int64_t *at, const float *m, int64_t ld,
                          int n, float *c, int64_t step);

/* Rows of A, their runs side by side: to[i ld + ...].  Up to GEMM_PIECE - 1 floats
 * behind each run are read, and as many behind each row's end written. */
typedef void gemm_gather(int64_t rows, const int64_t *at, const float *a, int runs,
                         const struct run *run, float *to, int64_t ld);

/* to[j] = part[j] + part[distance + j] + ..., in this order; n in whole vectors. */
typedef void gemm_total(int parts, const float *part, int64_t distance, int64_t n, float *to);

/* From two packed panels, a[k * MR + i] and b[k * NR + j], to c[i * ldc + j]. */
struct blis;
typedef void gemm_packed(const struct blis *blis, int64_t k, const float *a,
                         const float *b, float *c, int64_t ldc, bool add);

struct ukernel {
    const char *name;
    int MR, NR, NS;              /* rows; columns, and columns of the narrow ones */
    int TALL, FLAT;              /* rows of the tall ones; of those for few columns */
    int lanes;                   /* floats of a vector */
    gemm_rows *rows, *rows_narrow, *rows_past;
    gemm_even *even, *even_narrow;
    gemm_cols *cols, *cols_narrow, *cols_tall, *cols_tall_narrow, *cols_flat_narrow;
    gemm_dot *dot;
    gemm_taps *taps, *taps_past;
    gemm_taps_cols *taps_cols;
    gemm_shifted *shifted;
    gemm_gather *gather;
    gemm_total *total;
    const struct winograd *winograd;   /* transforms: winograd.h */
    gemm_packed *packed;         /* BLIS's, with the same MR and NR; or NULL */
    const struct blis *blis;     /* its first argument */
};

extern const struct ukernel ukernel_base, ukernel_avx2, ukernel_avx512;   /* gemm.c */

/* BLIS's micro-kernel added to an own one, if BLIS is there and can be trusted:
 * *own with `packed` set, to be given to blis_free; NULL if not, with the reason
 * (a string that needs no freeing; NULL: no memory).  blis.c */
struct ukernel *blis_new(ebm_context *ctx, unsigned flags, const struct ukernel *own,
                         const char **reason);
void blis_free(ebm_context *ctx, struct ukernel *kernel);

#endif
