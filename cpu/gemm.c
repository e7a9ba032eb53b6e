/* gemm.c - the micro-kernels, written once for every instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * Compiled once per ISA.  Tiles are chosen so that accumulators, one row of B
 * and one broadcast element of A fill the vector registers: 12 x 2 + 2 + 1 of
 * the 32 of AVX-512 (14 x 2 + 2 + 1 where one pointer is enough for A), 6 x 2 + 2 + 1
 * of the 16 of AVX2 and SSE.  The loops have
 * constant bounds and are unrolled whole, so that the accumulators become
 * registers.  On packed panels this is as fast as BLIS's assembly, since both
 * wait for the multipliers alone. */
#include <string.h>
#include "gemm.h"
#include "past.h"
#include "winograd.h"

#ifndef ISA
#define ISA base
#endif

#if defined __AVX512F__
#define LANES 16
#define EACH_LANE(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), \
                     f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
enum { MR = 12, TALL = 14, FLAT = 16 };
#elif defined __AVX__
#define LANES 8
#define EACH_LANE(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
enum { MR = 6, TALL = 6, FLAT = 8 };
#else
#define LANES 4
#define EACH_LANE(f) f(0), f(1), f(2), f(3)
enum { MR = 6, TALL = 6, FLAT = 8 };
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

/* Half a line at a time would be slower than with the caches. */
#if defined STREAM_VECTOR && LANES > 4
#define store_past STREAM_VECTOR
#else
#define store_past store
#endif

static inline vec broadcast(float a)
{
    return a - (vec){ 0 };
}

/* acc += column of A x row of B. */
#define MULTIPLY(R, V, a_of_row) do {                                   \
        vec bv[V];                                                      \
        UNROLL for (int v = 0; v < V; v++)                              \
            bv[v] = load(b + v * LANES);                                \
        UNROLL for (int i = 0; i < R;  i++) {                           \
            vec ai = broadcast(a_of_row);                               \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[i][v] += ai * bv[v];                                \
        }                                                               \
    } while (0)

#define CLEAR(R, V)                                                     \
    UNROLL for (int i = 0; i < R;  i++)                                 \
        UNROLL for (int v = 0; v < V; v++)                              \
            acc[i][v] = (vec){ 0 }

#define ROWS(name, V, put)                                              \
static void name(int runs, const struct run *run, const float *const *a,\
                 const float *b, float *const *c, bool add)             \
{                                                                       \
    const float *row[MR];                                               \
    vec acc[MR][V];                                                     \
                                                                        \
    CLEAR(MR, V);                                                       \
    for (int t = 0; t < runs; t++) {                                    \
        UNROLL for (int i = 0; i < MR; i++)                             \
            row[i] = a[i] + run[t].at;                                  \
        int64_t len = run[t].len;                                       \
        for (int64_t k = 0; k < len; k++, b += V * LANES)               \
            MULTIPLY(MR, V, row[i][k]);                                 \
    }                                                                   \
    if (add)                                                            \
        UNROLL for (int i = 0; i < MR; i++)                             \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[i][v] += load(c[i] + v * LANES);                    \
    UNROLL for (int i = 0; i < MR; i++)                                 \
        UNROLL for (int v = 0; v < V; v++)                              \
            put(c[i] + v * LANES, acc[i][v]);                           \
}

#define EVEN(name, V)                                                   \
static void name(int64_t rows, int64_t depth, const float *a, int64_t lda, \
                 const float *panel, float *c, int64_t ldc, bool add)   \
{                                                                       \
    for (; rows > 0; rows -= MR, a += MR * lda, c += MR * ldc) {        \
        const float *b = panel, *row[MR];                               \
        vec acc[MR][V];                                                 \
                                                                        \
        CLEAR(MR, V);                                                   \
        UNROLL for (int i = 0; i < MR; i++)                             \
            row[i] = a + i * lda;                                       \
        for (int64_t k = 0; k < depth; k++, b += V * LANES)             \
            MULTIPLY(MR, V, row[i][k]);                                 \
        if (add)                                                        \
            UNROLL for (int i = 0; i < MR; i++)                         \
                UNROLL for (int v = 0; v < V; v++)                      \
                    acc[i][v] += load(c + i * ldc + v * LANES);         \
        UNROLL for (int i = 0; i < MR; i++)                             \
            UNROLL for (int v = 0; v < V; v++)                          \
                store(c + i * ldc + v * LANES, acc[i][v]);              \
    }                                                                   \
}

#define COLS(name, R, V)                                                \
static void name(int64_t columns, const int64_t *at, const float *a,    \
                 const float *b, int64_t ldb, float *c, bool add)       \
{                                                                       \
    vec acc[R][V];                                                      \
                                                                        \
    CLEAR(R, V);                                                        \
    for (int64_t k = 0; k < columns; k++, b += ldb) {                   \
        const float *column = a + at[k];                                \
        MULTIPLY(R, V, column[i]);                                      \
    }                                                                   \
    if (add)                                                            \
        UNROLL for (int i = 0; i < R; i++)                              \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[i][v] += load(c + (i * V + v) * LANES);             \
    UNROLL for (int i = 0; i < R; i++)                                  \
        UNROLL for (int v = 0; v < V; v++)                              \
            store(c + (i * V + v) * LANES, acc[i][v]);                  \
}

ROWS(rows, 2, store)
ROWS(rows_past, 2, store_past)
ROWS(rows_narrow, 1, store)
EVEN(even, 2)
EVEN(even_narrow, 1)
COLS(cols, MR, 2)
COLS(cols_narrow, MR, 1)
COLS(cols_tall, TALL, 2)
COLS(cols_tall_narrow, TALL, 1)
COLS(cols_flat_narrow, FLAT, 1)

/* Lanes of a and b, by constant indices; b's lanes follow a's. */
#ifdef __clang__
#define SHUFFLE(a, b, lane) __builtin_shufflevector(a, b, EACH_LANE(lane))
#else
typedef int ivec __attribute__((vector_size(LANES * sizeof(int))));
#define SHUFFLE(a, b, lane) __builtin_shuffle(a, b, (ivec){ EACH_LANE(lane) })
#endif

/* Sums of the lanes of four vectors, two into one at a time:
 *
 *     x xxxxxxxx                        x is halved: [xxxx yyyy]; then, within
 *     y yyyyyyyy  -> [xxxx yyyy] ...    halves, quartered: [xx zz yy ww]; what
 *                                       is left of each is summed in place */
#define HALF (LANES / 2)
#define QUARTER (LANES / 4)
#define HALF_LOW(i)     ((i) < HALF ? (i) : LANES + (i) - HALF)
#define HALF_HIGH(i)    ((i) < HALF ? (i) + HALF : LANES + (i))
#define QUARTER_LOW(i)  ((i) % HALF < QUARTER ? (i) : LANES + (i) - QUARTER)
#define QUARTER_HIGH(i) ((i) % HALF < QUARTER ? (i) + QUARTER : LANES + (i))
#define OTHER_PAIR(i)   ((i) ^ 2)
#define OTHER(i)        ((i) ^ 1)

static inline void sums(vec x, vec y, vec z, vec w, float *sum)
{
    vec xy = SHUFFLE(x, y, HALF_LOW) + SHUFFLE(x, y, HALF_HIGH);
    vec zw = SHUFFLE(z, w, HALF_LOW) + SHUFFLE(z, w, HALF_HIGH);
    vec all = SHUFFLE(xy, zw, QUARTER_LOW) + SHUFFLE(xy, zw, QUARTER_HIGH);

#if LANES == 16
    all += SHUFFLE(all, all, OTHER_PAIR);
#endif
#if LANES >= 8
    all += SHUFFLE(all, all, OTHER);
#endif
    sum[0] = all[0];
    sum[2] = all[QUARTER];
    sum[1] = all[2 * QUARTER];
    sum[3] = all[3 * QUARTER];
}

/* What is left of the runs behind their last whole vectors: rest[i * n + j]. */
static void dot_rest(int rows, int runs, const struct run *run, const float *const *a,
                     const float *b, int64_t ldb, int n, float *rest)
{
    for (int t = 0; t < runs; b += run[t].len, t++)
        for (int64_t k = run[t].len / LANES * LANES; k < run[t].len; k++)
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < n; j++)
                    rest[i * n + j] += a[i][run[t].at + k] * b[j * ldb + k];
}

/* R rows at a time against N columns.  The rest is a call apart, since its loops
 * would take the registers from these. */
#define ACC(i, N) acc[(i) / (N)][(i) % (N)]
#define DOT(name, N, R)                                                 \
static void name(int runs, const struct run *run, const float *const *a,\
                 const float *b, int64_t ldb, const int64_t *column,    \
                 float *const *c)                                       \
{                                                                       \
    const float *bt = b;                                                \
    float rest[R][N] = { { 0 } };                                       \
    bool odd = false;                                                   \
    vec acc[R][N];                                                      \
                                                                        \
    UNROLL for (int i = 0; i < R; i++)                                  \
        UNROLL for (int j = 0; j < N; j++)                              \
            acc[i][j] = (vec){ 0 };                                     \
    for (int t = 0; t < runs; bt += run[t].len, t++) {                  \
        int64_t at = run[t].at, len = run[t].len;                       \
        odd |= len % LANES != 0;                                        \
        for (int64_t k = 0; k + LANES <= len; k += LANES) {             \
            vec bk[N];                                                  \
            UNROLL for (int j = 0; j < N; j++)                          \
                bk[j] = load(bt + j * ldb + k);                         \
            UNROLL for (int i = 0; i < R; i++) {                        \
                vec ai = load(a[i] + at + k);                           \
                UNROLL for (int j = 0; j < N; j++)                      \
                    acc[i][j] += ai * bk[j];                            \
            }                                                           \
        }                                                               \
    }                                                                   \
    if (odd)                                                            \
        dot_rest(R, runs, run, a, b, ldb, N, rest[0]);                  \
    UNROLL for (int i = 0; i < R * N; i += 4) {                         \
        const int f = i > R * N - 4 ? R * N - 4 : i;                    \
        float sum[4];                                                   \
        sums(ACC(f, N), ACC(f + 1, N), ACC(f + 2, N), ACC(f + 3, N), sum); \
        UNROLL for (int l = 0; l < 4; l++)                              \
            c[(f + l) / N][column[(f + l) % N]] = sum[l] + rest[(f + l) / N][(f + l) % N]; \
    }                                                                   \
}

/* As many rows as registers bear. */
#if LANES == 16
enum { ROWS_OF_2 = MR, ROWS_OF_4 = 6 };
#else
enum { ROWS_OF_2 = MR, ROWS_OF_4 = 4 };
#endif
DOT(dot1, 1, ROWS_OF_2)
DOT(dot2, 2, ROWS_OF_2)
DOT(dot3, 3, ROWS_OF_4)
DOT(dot4, 4, ROWS_OF_4)

static void dot(int runs, const struct run *run, const float *const *a,
                const float *b, int64_t ldb, int n, const int64_t *column,
                float *const *c)
{
    static const struct {
        void (*dot)(int, const struct run *, const float *const *, const float *,
                    int64_t, const int64_t *, float *const *);
        int rows;
    } by_columns[GEMM_DOT_COLUMNS] = {
        { dot1, ROWS_OF_2 }, { dot2, ROWS_OF_2 }, { dot3, ROWS_OF_4 }, { dot4, ROWS_OF_4 },
    };
    int rows = by_columns[n - 1].rows;

    for (int i = 0; i < MR; i += rows) {
        int first = i > MR - rows ? MR - rows : i;    /* some again, none too many */
        by_columns[n - 1].dot(runs, run, a + first, b, ldb, column, c + first);
    }
}

/* V vectors of channels of TAPS_ROWS pixels: as many as have their pointers in registers. */
enum { TAPS_ROWS = 6 };
#define TAPS_PART(name, V, put)                                         \
static void name(int runs, const struct run *run, const float *const *a,\
                 const float *b, int64_t n, int64_t j, float *const *c) \
{                                                                       \
    vec acc[TAPS_ROWS][V];                                              \
                                                                        \
    CLEAR(TAPS_ROWS, V);                                                \
    for (int t = 0; t < runs; t++) {                                    \
        int64_t at = run[t].at + j;                                     \
        vec bt[V];                                                      \
        UNROLL for (int v = 0; v < V; v++)                              \
            bt[v] = load(b + t * n + j + v * LANES);                    \
        UNROLL for (int i = 0; i < TAPS_ROWS; i++)                      \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[i][v] += load(a[i] + at + v * LANES) * bt[v];       \
    }                                                                   \
    UNROLL for (int i = 0; i < TAPS_ROWS; i++)                          \
        UNROLL for (int v = 0; v < V; v++)                              \
            put(c[i] + j + v * LANES, acc[i][v]);                       \
}

#define TAPS(name, part1, part2)                                        \
static void name(int runs, const struct run *run, const float *const *a,\
                 const float *b, int64_t n, float *const *c)            \
{                                                                       \
    for (int r = 0; r < MR; r += TAPS_ROWS, a += TAPS_ROWS, c += TAPS_ROWS) { \
        int64_t j = 0;                                                  \
        for (; j + 2 * LANES <= n; j += 2 * LANES)                      \
            part2(runs, run, a, b, n, j, c);                            \
        for (; j < n && n >= LANES; j += LANES)       /* the last moved back */ \
            part1(runs, run, a, b, n, j < n - LANES ? j : n - LANES, c); \
        for (; j < n; j++)                                              \
            for (int i = 0; i < TAPS_ROWS; i++) {                       \
                float one = 0;                                          \
                for (int t = 0; t < runs; t++)                          \
                    one += a[i][run[t].at + j] * b[t * n + j];          \
                c[i][j] = one;                                          \
            }                                                           \
    }                                                                   \
}

TAPS_PART(taps_1, 1, store)
TAPS_PART(taps_2, 2, store)
TAPS_PART(taps_past_1, 1, store_past)
TAPS_PART(taps_past_2, 2, store_past)
TAPS(taps, taps_1, taps_2)
TAPS(taps_past, taps_past_1, taps_past_2)

/* T taps of V vectors of channels: a vector of b serves T sums. */
#define TAPS_COLS(name, T, V)                                           \
static void name(const struct run *run, int64_t columns, const int64_t *at, \
                 const float *a, const float *b, int64_t ldb, int64_t n, float *c) \
{                                                                       \
    vec acc[T][V];                                                      \
                                                                        \
    UNROLL for (int t = 0; t < T; t++)                                  \
        UNROLL for (int v = 0; v < V; v++)                              \
            acc[t][v] = (vec){ 0 };                                     \
    for (int64_t k = 0; k < columns; k++, b += ldb) {                   \
        vec bk[V];                                                      \
        UNROLL for (int v = 0; v < V; v++)                              \
            bk[v] = load(b + v * LANES);                                \
        UNROLL for (int t = 0; t < T; t++) {                            \
            const float *row = a + at[k] + run[t].at;                   \
            UNROLL for (int v = 0; v < V; v++)                          \
                acc[t][v] += load(row + v * LANES) * bk[v];             \
        }                                                               \
    }                                                                   \
    UNROLL for (int t = 0; t < T; t++)                                  \
        UNROLL for (int v = 0; v < V; v++)                              \
            store(c + t * n + v * LANES, load(c + t * n + v * LANES) + acc[t][v]); \
}

enum { TAPS_AT_ONCE = 3 };
TAPS_COLS(taps3_cols2, TAPS_AT_ONCE, 2)
TAPS_COLS(taps3_cols1, TAPS_AT_ONCE, 1)
TAPS_COLS(taps1_cols1, 1, 1)

/* Channels [j, n) behind the whole vectors: the last vector moved back, and of it what
 * is new. */
static void taps_cols_rest(int taps, const struct run *run, int64_t columns, const int64_t *at,
                           const float *a, const float *b, int64_t ldb, int64_t j, int64_t n,
                           float *c)
{
    float sum[LANES];
    int64_t last = n - LANES;

    for (int t = 0; t < taps; t++, c += n) {
        if (last >= 0) {
            memset(sum, 0, sizeof sum);
            taps1_cols1(run + t, columns, at, a + last, b + last, ldb, LANES, sum);
        }
        for (int64_t l = j; l < n; l++) {
            float one = last >= 0 ? sum[l - last] : 0;
            for (int64_t k = 0; last < 0 && k < columns; k++)
                one += a[at[k] + run[t].at + l] * b[k * ldb + l];
            c[l] += one;
        }
    }
}

static void taps_cols(int taps, const struct run *run, int64_t columns, const int64_t *at,
                      const float *a, const float *b, int64_t ldb, int64_t n, float *c)
{
    int64_t whole = n - n % LANES;

    for (int t = 0; t < taps; ) {
        bool more = t + TAPS_AT_ONCE <= taps;
        int64_t j = 0;
        float *ct = c + t * n;
        for (; more && j + 2 * LANES <= n; j += 2 * LANES)
            taps3_cols2(run + t, columns, at, a + j, b + j, ldb, n, ct + j);
        for (; j < whole; j += LANES)
            (more ? taps3_cols1 : taps1_cols1)(run + t, columns, at, a + j, b + j, ldb, n, ct + j);
        t += more ? TAPS_AT_ONCE : 1;
    }
    if (whole < n)
        taps_cols_rest(taps, run, columns, at, a, b, ldb, whole, n, c);
}

/* N channels of a pixel are a part of a short vector; several pixels at a time, since each
 * addition waits for the one before. */
typedef float quad
    __attribute__((vector_size(GEMM_DOT_COLUMNS * sizeof(float)), aligned(sizeof(float)), may_alias));
enum { SHIFTED_PIXELS = 4 };
#define SHIFTED_SUM(P, N) do {                                          \
        quad sum[P];                                                    \
        UNROLL for (int p = 0; p < P; p++)                              \
            sum[p] = (quad){ 0 };                                       \
        for (int t = 0; t < taps; t++) {                                \
            const float *from = m + at[t];                              \
            UNROLL for (int p = 0; p < P; p++)                          \
                sum[p] += *(const quad *)(from + p * ld);               \
        }                                                               \
        UNROLL for (int p = 0; p < P; p++)                              \
            UNROLL for (int j = 0; j < N; j++)                          \
                c[p * step + j] = sum[p][j];                            \
    } while (0)
#define SHIFTED(name, N)                                                \
static void name(int64_t pixels, int taps, const int64_t *at, const float *m, int64_t ld, \
                 float *c, int64_t step)                                \
{                                                                       \
    for (; pixels >= SHIFTED_PIXELS; pixels -= SHIFTED_PIXELS) {        \
        SHIFTED_SUM(SHIFTED_PIXELS, N);                                 \
        m += SHIFTED_PIXELS * ld;                                       \
        c += SHIFTED_PIXELS * step;                                     \
    }                                                                   \
    for (; pixels > 0; pixels--, m += ld, c += step)                    \
        SHIFTED_SUM(1, N);                                              \
}

SHIFTED(shifted_1, 1)
SHIFTED(shifted_2, 2)
SHIFTED(shifted_3, 3)
SHIFTED(shifted_4, 4)

static void shifted(int64_t pixels, int taps, const int64_t *at, const float *m, int64_t ld,
                    int n, float *c, int64_t step)
{
    static void (*const of[GEMM_DOT_COLUMNS])(int64_t, int, const int64_t *, const float *, int64_t,
                                              float *, int64_t)
        = { shifted_1, shifted_2, shifted_3, shifted_4 };

    of[n - 1](pixels, taps, at, m, ld, c, step);
}

/* Copies go eight or sixteen floats at a time: what a run's last copy writes behind its
 * end, the next run's first writes over. */
enum { PIECE = GEMM_PIECE / 2 };
typedef float piece
    __attribute__((vector_size(PIECE * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef float long_piece
    __attribute__((vector_size(GEMM_PIECE * sizeof(float)), aligned(sizeof(float)), may_alias));

static void gather(int64_t rows, const int64_t *at, const float *a, int runs,
                   const struct run *run, float *to, int64_t ld)
{
    int64_t longest = 0;

    for (int t = 0; t < runs; t++)
        longest = run[t].len > longest ? run[t].len : longest;
    if (longest <= PIECE) {
        for (int64_t i = 0; i < rows; i++) {
            float *row = to + i * ld;
            for (int t = 0; t < runs; row += run[t].len, t++)
                *(piece *)row = *(const piece *)(a + at[i] + run[t].at);
        }
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        float *row = to + i * ld;
        for (int t = 0; t < runs; row += run[t].len, t++)
            for (int64_t k = 0; k < run[t].len; k += GEMM_PIECE)
                *(long_piece *)(row + k) = *(const long_piece *)(a + at[i] + run[t].at + k);
    }
}

static void total(int parts, const float *part, int64_t distance, int64_t n, float *to)
{
    for (int64_t j = 0; j < n; j += LANES) {
        vec sum = { 0 };
        for (int i = 0; i < parts; i++)
            sum += load(part + i * distance + j);
        store(to + j, sum);
    }
}

#define PASTE(a, b) a##b
#define NAMED(prefix, isa) PASTE(prefix, isa)
#define TEXT(a) #a
#define NAME_OF(isa) TEXT(isa)

const struct ukernel NAMED(ukernel_, ISA) = {
    .name = NAME_OF(ISA), .MR = MR, .NR = NR, .NS = NS, .lanes = LANES,
    .rows = rows, .rows_narrow = rows_narrow, .rows_past = rows_past,
    .even = even, .even_narrow = even_narrow,
    .TALL = TALL, .FLAT = FLAT, .cols = cols, .cols_narrow = cols_narrow,
    .cols_tall = cols_tall, .cols_tall_narrow = cols_tall_narrow,
    .cols_flat_narrow = cols_flat_narrow,
    .dot = dot, .taps = taps, .taps_past = taps_past, .taps_cols = taps_cols,
    .shifted = shifted, .gather = gather, .total = total,
    .winograd = NAMED(winograd_, ISA),
};
