/* gemm.c - the micro-kernels, written once for every instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * Compiled once per ISA.  Tiles are chosen so that accumulators, one row of B
 * and one broadcast element of A fill the vector registers: 12 x 2 + 2 + 1 of
 * the 32 of AVX-512, 6 x 2 + 2 + 1 of the 16 of AVX2 and SSE.  The loops have
 * constant bounds and are unrolled whole, so that the accumulators become
 * registers.  On packed panels this is as fast as BLIS's assembly, since both
 * wait for the multipliers alone. */
#include <string.h>
#include "gemm.h"

#ifndef ISA
#define ISA base
#endif

#if defined __AVX512F__
enum { LANES = 16, MR = 12 };
#elif defined __AVX__
enum { LANES = 8, MR = 6 };
#else
enum { LANES = 4, MR = 6 };
#endif
enum { NS = LANES, NR = 2 * LANES };

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), may_alias));
typedef float vec_at_float
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline vec load(const float *p)
{
    return *(const vec_at_float *)p;
}

static inline void store(float *p, vec v)
{
    *(vec_at_float *)p = v;
}

static inline vec broadcast(float a)
{
    return a - (vec){ 0 };
}

/* acc += column of A x row of B. */
#define MULTIPLY(V, a_of_row) do {                                      \
        vec bv[V];                                                      \
        UNROLL for (int v = 0; v < V; v++)                              \
            bv[v] = load(b + v * LANES);                                \
        UNROLL for (int i = 0; i < MR; i++) {                           \
            vec ai = broadcast(a_of_row);                               \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[i][v] += ai * bv[v];                                \
        }                                                               \
    } while (0)

#define CLEAR(V)                                                        \
    UNROLL for (int i = 0; i < MR; i++)                                 \
        UNROLL for (int v = 0; v < V; v++)                              \
            acc[i][v] = (vec){ 0 }

#define ROWS(name, V)                                                   \
static void name(int runs, const struct run *run, const float *const *a,\
                 const float *b, float *const *c, bool add)             \
{                                                                       \
    const float *row[MR];                                               \
    vec acc[MR][V];                                                     \
                                                                        \
    CLEAR(V);                                                           \
    for (int t = 0; t < runs; t++) {                                    \
        UNROLL for (int i = 0; i < MR; i++)                             \
            row[i] = a[i] + run[t].at;                                  \
        int64_t len = run[t].len;                                       \
        for (int64_t k = 0; k < len; k++, b += V * LANES)               \
            MULTIPLY(V, row[i][k]);                                     \
    }                                                                   \
    if (add)                                                            \
        UNROLL for (int i = 0; i < MR; i++)                             \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[i][v] += load(c[i] + v * LANES);                    \
    UNROLL for (int i = 0; i < MR; i++)                                 \
        UNROLL for (int v = 0; v < V; v++)                              \
            store(c[i] + v * LANES, acc[i][v]);                         \
}

#define COLS(name, V)                                                   \
static void name(int64_t columns, const int64_t *at, const float *a,    \
                 const float *b, float *c)                              \
{                                                                       \
    vec acc[MR][V];                                                     \
                                                                        \
    CLEAR(V);                                                           \
    for (int64_t k = 0; k < columns; k++, b += V * LANES) {             \
        const float *column = a + at[k];                                \
        MULTIPLY(V, column[i]);                                         \
    }                                                                   \
    UNROLL for (int i = 0; i < MR; i++)                                 \
        UNROLL for (int v = 0; v < V; v++, c += LANES)                  \
            store(c, load(c) + acc[i][v]);                              \
}

ROWS(rows, 2)
ROWS(rows_narrow, 1)
COLS(cols, 2)
COLS(cols_narrow, 1)

/* The sum of the lanes, by halves. */
static inline float sum(vec v)
{
    float part[LANES];

    store(part, v);
    UNROLL for (int half = LANES / 2; half > 4; half /= 2)
        UNROLL for (int l = 0; l < half; l++)
            part[l] += part[l + half];
    if (LANES > 4)
        UNROLL for (int l = 0; l < 4; l++)
            part[l] += part[l + 4];
    return (part[0] + part[2]) + (part[1] + part[3]);
}

/* Four rows at a time against N columns; what is left of a run behind the last
 * whole vector is summed apart. */
enum { DOT_ROWS = 4 };

#define DOT(name, N)                                                    \
static void name(int runs, const struct run *run, const float *const *a,\
                 const float *b, int64_t ldb, float *const *c)          \
{                                                                       \
    vec acc[DOT_ROWS][N];                                               \
    float rest[DOT_ROWS][N] = { { 0 } };                                \
                                                                        \
    UNROLL for (int i = 0; i < DOT_ROWS; i++)                           \
        UNROLL for (int j = 0; j < N; j++)                              \
            acc[i][j] = (vec){ 0 };                                     \
    for (int t = 0; t < runs; b += run[t].len, t++) {                   \
        int64_t k = 0, at = run[t].at;                                  \
        for (; k + LANES <= run[t].len; k += LANES) {                   \
            vec ai[DOT_ROWS];                                           \
            UNROLL for (int i = 0; i < DOT_ROWS; i++)                   \
                ai[i] = load(a[i] + at + k);                            \
            UNROLL for (int j = 0; j < N; j++) {                        \
                vec bj = load(b + j * ldb + k);                         \
                UNROLL for (int i = 0; i < DOT_ROWS; i++)               \
                    acc[i][j] += ai[i] * bj;                            \
            }                                                           \
        }                                                               \
        for (; k < run[t].len; k++)                                     \
            for (int i = 0; i < DOT_ROWS; i++)                          \
                for (int j = 0; j < N; j++)                             \
                    rest[i][j] += a[i][at + k] * b[j * ldb + k];        \
    }                                                                   \
    UNROLL for (int i = 0; i < DOT_ROWS; i++)                           \
        UNROLL for (int j = 0; j < N; j++)                              \
            c[i][j] = sum(acc[i][j]) + rest[i][j];                      \
}

DOT(dot1, 1)
DOT(dot2, 2)
DOT(dot3, 3)
DOT(dot4, 4)

static void dot(int runs, const struct run *run, const float *const *a,
                const float *b, int64_t ldb, int n, float *const *c)
{
    static void (*const by_columns[])(int, const struct run *, const float *const *,
                                      const float *, int64_t, float *const *) = {
        dot1, dot2, dot3, dot4,
    };
    for (int i = 0; i < MR; i += DOT_ROWS) {
        if (i > MR - DOT_ROWS)
            i = MR - DOT_ROWS;    /* rows again rather than rows too many */
        by_columns[n - 1](runs, run, a + i, b, ldb, c + i);
    }
}

static void taps(int runs, const struct run *run, const float *const *a,
                 const float *b, int64_t n, float *const *c)
{
    enum { TAP_ROWS = 3 };        /* divides MR */

    for (int i = 0; i < MR; i += TAP_ROWS) {
        int64_t j = 0;
        for (; j + LANES <= n; j += LANES) {
            vec acc[TAP_ROWS];
            UNROLL for (int r = 0; r < TAP_ROWS; r++)
                acc[r] = (vec){ 0 };
            for (int t = 0; t < runs; t++) {
                vec bt = load(b + t * n + j);
                UNROLL for (int r = 0; r < TAP_ROWS; r++)
                    acc[r] += load(a[i + r] + run[t].at + j) * bt;
            }
            UNROLL for (int r = 0; r < TAP_ROWS; r++)
                store(c[i + r] + j, acc[r]);
        }
        for (; j < n; j++)
            for (int r = 0; r < TAP_ROWS; r++) {
                float one = 0;
                for (int t = 0; t < runs; t++)
                    one += a[i + r][run[t].at + j] * b[t * n + j];
                c[i + r][j] = one;
            }
    }
}

static void taps_cols(int64_t columns, const int64_t *at, const float *a,
                      const float *b, int64_t ldb, int64_t n, float *c)
{
    int64_t j = 0;

    for (; j + LANES <= n; j += LANES) {
        vec acc = { 0 };
        for (int64_t k = 0; k < columns; k++)
            acc += load(a + at[k] + j) * load(b + k * ldb + j);
        store(c + j, load(c + j) + acc);
    }
    for (; j < n; j++) {
        float one = 0;
        for (int64_t k = 0; k < columns; k++)
            one += a[at[k] + j] * b[k * ldb + j];
        c[j] += one;
    }
}

#define PASTE(a, b) a##b
#define NAMED(prefix, isa) PASTE(prefix, isa)
#define TEXT(a) #a
#define NAME_OF(isa) TEXT(isa)

const struct ukernel NAMED(ukernel_, ISA) = {
    .name = NAME_OF(ISA), .MR = MR, .NR = NR, .NS = NS, .lanes = LANES,
    .rows = rows, .rows_narrow = rows_narrow,
    .cols = cols, .cols_narrow = cols_narrow,
    .dot = dot, .taps = taps, .taps_cols = taps_cols,
};
