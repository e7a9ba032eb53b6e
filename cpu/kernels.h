/* kernels.h - the vector loops that are compiled once per instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * Each set fills one table.  Loops over registers ("lanes") take lengths that
 * are multiples of LANES, so that no element ever goes through remainder code:
 * its bits do not depend on where a range was cut.  Arrays need no alignment
 * beyond that of their elements, and a result may be one of the operands. */
#ifndef EBM_CPU_KERNELS_H
#define EBM_CPU_KERNELS_H

#include "plan.h"
#include "philox.h"

enum { LANES = 16 };         /* of the widest set; all use it */
enum { PAST_CACHES = 8 << 20 };     /* bytes of a result from which on it is stored past them */

/* Which of two operands are one number (LANES copies of it): a and b of a binary
 * operation, b and c of a selection. */
enum ew_kind { EW_VV, EW_SV, EW_VS, EW_SS, EW_KINDS };

/* Two of ADD, SUB, MUL as one loop: (a first b) second c, or c - (a first b), which comes behind
 * these three.  Kinds: of the first, and whether c is one number. */
enum { PAIR_FIRST = 3, PAIR_SECOND = 4, PAIR_FROM = 3, PAIR_KINDS = 2 * EW_SS };
static inline bool ew_pairs(int op)
{
    return op >= EW_ADD && op < EW_ADD + PAIR_FIRST;
}

/* d = op(a, b, c), what an operation does not read being anything.  d is float but where
 * a loop's name says otherwise.  All have one type, so that a tile is a list of them. */
typedef void ew_loop(void *d, const float *a, const float *b, const float *c, int64_t n);

/* A line of pixels and its weight; what of it a pixel takes, and with which weight. */
struct weighed { const float *a; float w; };
struct tapped { int64_t at; float weight; };
/* The pixels of a window. */
struct panes { int64_t rows, columns, down, along; };

/* Sums of a, and of its squares about the mean; sums of b, and of b times a less that mean. */
struct moments { double *sum, *square, *other, *product; };

struct kernels {
    const char *name;                              /* "avx512" */
    ew_loop *loop[EW_COUNT][EW_KINDS];             /* those that an operation can have */
    ew_loop *const (*pair)[PAIR_SECOND][PAIR_KINDS];
    ew_loop *positive[EW_KINDS];                   /* d = 0 < a ? b : c; kinds of b and c */

    /* Conversions and copies; any n.  spread: d = a[0].  stream: past the caches,
     * stream_end before others read.  fetch: begin to read a. */
    ew_loop *to_i32, *to_u8, *copy, *spread, *stream, *fetch;
    void (*stream_end)(void);
    void (*from_i32)(float *d, const int32_t *a, int64_t n);
    void (*from_u8)(float *d, const uint8_t *a, int64_t n);
    void (*round_bf16)(float *d, const float *a, int64_t n);   /* to nearest, ties to even */
    void (*fill)(float *d, float value, int64_t n);

    /* Channels of pixels; any n.  add: d += a.
     * weave: pixel j of d is the sum over lines and over taps first[j] ... first[j+1]-1
     * of the weights' product times line.a[tap.at ...], stored past the caches or not.
     * pick: d is b where key is largest (the first of equals; NaN is) among pixels rows x
     * columns, `down` and `along` elements apart.  place: there b is added to x. */
    void (*add)(float *d, const float *a, int64_t n);
    void (*weave)(float *d, const struct weighed *line, int64_t lines, const int64_t *first,
                  const struct tapped *tap, int64_t pixels, int64_t n, bool past);
    void (*pick)(float *d, const float *key, const float *b, const struct panes *w, int64_t n);
    void (*place)(float *x, const float *key, const float *b, const struct panes *w, int64_t n);

    /* Reductions, exact to about one rounding: blocks are added as float, the
     * blocks' sums as double.  rows: acc[j] (op)= a[r ld + j], r < rows, j < n. */
    double (*sum)(const float *a, int64_t n);
    float (*amax)(const float *a, int64_t n);
    void (*sum_rows)(double *acc, const float *a, int64_t ld, int64_t rows, int64_t n);
    void (*amax_rows)(float *acc, const float *a, int64_t ld, int64_t rows, int64_t n);
    /* Moments of a and, where it is not NULL, b, to which `seen` terms have gone before. */
    void (*moments)(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t n);
    void (*moments_rows)(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t ld,
                         int64_t rows, int64_t n);
    /* fold: d[r] = what acc[r n] ... acc[r n + n-1] add up to. */
    void (*fold_sum)(float *d, const double *acc, int64_t rows, int64_t n);
    void (*fold_max)(float *d, const float *acc, int64_t rows, int64_t n);

    /* philox.h */
    void (*uniform)(float *out, int64_t begin, int64_t end,
                    const struct philox *rng, uint32_t purpose);
    void (*normal)(float *out, int64_t begin, int64_t end,
                   const struct philox *rng, uint32_t purpose);
};

extern const struct kernels kernels_base, kernels_avx2, kernels_avx512;

/* In a file compiled per set: NAME(f) is f_avx2 and so on. */
#ifdef ISA
#define NAME_JOIN(f, isa) f##_##isa
#define NAME_OF(f, isa) NAME_JOIN(f, isa)
#define NAME(f) NAME_OF(f, ISA)

void NAME(weave)(float *d, const struct weighed *line, int64_t lines, const int64_t *first,
                 const struct tapped *tap, int64_t pixels, int64_t n, bool past);
void NAME(pick)(float *d, const float *key, const float *b, const struct panes *w, int64_t n);
void NAME(place)(float *x, const float *key, const float *b, const struct panes *w, int64_t n);
extern ew_loop *const NAME(pairs)[PAIR_FIRST][PAIR_SECOND][PAIR_KINDS];
ew_loop NAME(stream);
void NAME(stream_end)(void);
double NAME(sum)(const float *a, int64_t n);
float NAME(amax)(const float *a, int64_t n);
void NAME(sum_rows)(double *acc, const float *a, int64_t ld, int64_t rows, int64_t n);
void NAME(moments)(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t n);
void NAME(moments_rows)(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t ld,
                        int64_t rows, int64_t n);
void NAME(amax_rows)(float *acc, const float *a, int64_t ld, int64_t rows, int64_t n);
void NAME(fold_sum)(float *d, const double *acc, int64_t rows, int64_t n);
void NAME(fold_max)(float *d, const float *acc, int64_t rows, int64_t n);
#endif

/* A loop that calls a function is no vector loop. */
#ifdef __GNUC__
#define LANE_INLINE static inline __attribute__((always_inline))
#else
#define LANE_INLINE static inline
#endif

/* A loop whose iterations are independent (operands may be the result, element
 * for element) and which is wanted as vectors of at most LANES elements. */
#if defined(__clang__)
#define LANE_LOOP _Pragma("clang loop vectorize(assume_safety) interleave(disable)")
#elif defined(__GNUC__)
#define LANE_LOOP _Pragma("GCC ivdep")
#else
#define LANE_LOOP
#endif

/* A loop with so small constant bounds that it is written out. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

/* Behind LANE_LOOP, of a short body: the loop over a tile then has few enough turns for its
 * end to be foreseen. */
#if defined(__clang__)
#define UNROLLED
#elif defined(__GNUC__)
#define UNROLLED _Pragma("GCC unroll 8")
#else
#define UNROLLED
#endif

/* Moments of n and of n2 terms become one set's (Chan, Golub and LeVeque 1979): sums, and those
 * of squares about the mean; before that, while `sum` is that of n terms, sums of another array
 * and of its products with what is off the mean. */
static inline void join_products(double *other, double *product, double sum, int64_t n, double other2,
                                 double product2, double sum2, int64_t n2)
{
    double d = n ? sum2 / (double)n2 - sum / (double)n : 0;

    *product += product2 + d * (((double)n * other2 - (double)n2 * *other) / (double)(n + n2));
    *other += other2;
}

static inline void join_moments(double *sum, double *square, int64_t n, double sum2, double square2, int64_t n2)
{
    double d = n ? sum2 / (double)n2 - *sum / (double)n : 0;

    *square += square2 + d * d * ((double)n * (double)n2 / (double)(n + n2));
    *sum += sum2;
}

#endif
