/* winograd_transform.c - the transforms of Winograd's convolutions.
 *
 * SPDX-License-Identifier: ISC
 *
 * Compiled once per ISA.  A convolution is a product of polynomials, and a
 * product of polynomials is known from its values at as many points as it has
 * coefficients (Toom and Cook).  For the points p of a set and infinity,
 *
 *     row p of A' is ... p^i ...,  of G: (1, p, p^2) / N(p),  N(p) = prod (p - q),
 *     row p of B' the coefficients of prod (x - q),  q over the other points
 *
 * where infinity selects the highest coefficient and has all points as q.
 *
 * F(2x2) has the points 0, 1, -1: no products at all but by 1/2.  F(4x4) has
 * 0, a, -a, b, -b with a = 11/16 and b = 23/16, whose powers and products below
 * are exact in float and closer to 1 than those of the usual 1 and 2, so that
 * less is lost to cancellation: errors are a third (doc/accuracy.md).  As points
 * come in pairs, even and odd parts are computed once for both.
 *
 * Two-dimensional transforms are one-dimensional ones of columns, then of rows,
 * LANES channels at a time.  The last vector is moved back where channels are no
 * whole vectors: it computes some again, with the same bits. */
#include <stddef.h>
#include "past.h"
#include "winograd.h"

#ifndef ISA
#define ISA base
#endif

#if defined __AVX512F__
#define LANES 16
#elif defined __AVX__
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), may_alias));
typedef float vec_at_float
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#define INLINE static inline __attribute__((always_inline))

/* Powers, products and sums of a^2 and b^2; 1 / N. */
#define A1 (11.0f / 16)
#define A2 (121.0f / 256)
#define A3 (1331.0f / 4096)
#define B1 (23.0f / 16)
#define B2 (529.0f / 256)
#define B3 (12167.0f / 4096)
#define AB2 (121.0f * 529 / 65536)
#define SUM2 (650.0f / 256)
#define N0 ((float)(65536.0 / (121.0 * 529.0)))
#define NA ((float)(65536.0 / (2.0 * 121.0 * (121.0 - 529.0))))
#define NB ((float)(65536.0 / (2.0 * 529.0 * (529.0 - 121.0))))

/* ---- one dimension: results `step` apart -------------- */

/* B': x (x^2 - b^2) (x + a) = (x^4 - b^2 x^2) + a (x^3 - b^2 x) and so on. */
INLINE void data4(const vec *d, vec *t, int step)
{
    vec d1 = d[1], d2 = d[2], d3 = d[3], d4 = d[4];
    vec even_a = d4 - B2 * d2, odd_a = d3 - B2 * d1;
    vec even_b = d4 - A2 * d2, odd_b = d3 - A2 * d1;

    t[0] = d4 - SUM2 * d2 + AB2 * d[0];
    t[step] = even_a + A1 * odd_a;
    t[2 * step] = even_a - A1 * odd_a;
    t[3 * step] = even_b + B1 * odd_b;
    t[4 * step] = even_b - B1 * odd_b;
    t[5 * step] = d[5] - SUM2 * d3 + AB2 * d1;
}

INLINE void filter4(const vec *g, vec *t, int step)
{
    vec g0 = g[0], g1 = g[1], g2 = g[2];
    vec even_a = g0 + A2 * g2, odd_a = A1 * g1;
    vec even_b = g0 + B2 * g2, odd_b = B1 * g1;

    t[0] = N0 * g0;
    t[step] = NA * (even_a + odd_a);
    t[2 * step] = NA * (even_a - odd_a);
    t[3 * step] = NB * (even_b + odd_b);
    t[4 * step] = NB * (even_b - odd_b);
    t[5 * step] = g2;
}

INLINE void result4(const vec *m, vec *t, int step)
{
    vec even_a = m[1] + m[2], odd_a = m[1] - m[2];
    vec even_b = m[3] + m[4], odd_b = m[3] - m[4];

    t[0] = m[0] + (even_a + even_b);
    t[step] = A1 * odd_a + B1 * odd_b;
    t[2 * step] = A2 * even_a + B2 * even_b;
    t[3 * step] = A3 * odd_a + (B3 * odd_b + m[5]);
}

INLINE void spread4(const vec *y, vec *t, int step)
{
    vec y0 = y[0], y1 = y[1], y2 = y[2], y3 = y[3];
    vec even_a = y0 + A2 * y2, odd_a = y1 + A2 * y3;
    vec even_b = y0 + B2 * y2, odd_b = y1 + B2 * y3;

    t[0] = y0;
    t[step] = even_a + A1 * odd_a;
    t[2 * step] = even_a - A1 * odd_a;
    t[3 * step] = even_b + B1 * odd_b;
    t[4 * step] = even_b - B1 * odd_b;
    t[5 * step] = y3;
}

INLINE void gather4(const vec *u, vec *t, int step)
{
    vec even_a = NA * (u[1] + u[2]), odd_a = NA * (u[1] - u[2]);
    vec even_b = NB * (u[3] + u[4]), odd_b = NB * (u[3] - u[4]);

    t[0] = N0 * u[0] + (even_a + even_b);
    t[step] = A1 * odd_a + B1 * odd_b;
    t[2 * step] = A2 * even_a + (B2 * even_b + u[5]);
}

INLINE void data2(const vec *d, vec *t, int step)
{
    vec d1 = d[1], d2 = d[2];

    t[0] = d2 - d[0];
    t[step] = d2 + d1;
    t[2 * step] = d2 - d1;
    t[3 * step] = d[3] - d1;
}

INLINE void filter2(const vec *g, vec *t, int step)
{
    vec even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1], last = g[2];

    t[0] = -g[0];
    t[step] = even + odd;
    t[2 * step] = even - odd;
    t[3 * step] = last;
}

INLINE void result2(const vec *m, vec *t, int step)
{
    vec even = m[1] + m[2], odd = m[1] - m[2];

    t[0] = m[0] + even;
    t[step] = odd + m[3];
}

INLINE void spread2(const vec *y, vec *t, int step)
{
    vec y0 = y[0], y1 = y[1];

    t[0] = y0;
    t[step] = y0 + y1;
    t[2 * step] = y0 - y1;
    t[3 * step] = y1;
}

INLINE void gather2(const vec *u, vec *t, int step)
{
    vec even = 0.5f * (u[1] + u[2]), odd = 0.5f * (u[1] - u[2]);

    t[0] = even - u[0];
    t[step] = odd;
    t[2 * step] = even + u[3];
}

/* ---- two dimensions ---------------------------------------------------- */

#define PUT(to, v) *(vec_at_float *)(to) = v
#if defined STREAM_VECTOR && LANES > 4
#define PUT_PAST STREAM_VECTOR
#else
#define PUT_PAST PUT
#endif

/* Of filters, neighbouring vectors are stored far apart in time: whole lines or none. */
#if defined STREAM_VECTOR && LANES == 16
#define PUT_LINE_PAST STREAM_VECTOR
#else
#define PUT_LINE_PAST PUT
#endif

/* FROM x FROM elements to TO x TO by `one`: columns first.  Addresses are found by steps
 * from one to the next, since so many do not fit the registers. */
#define TRANSFORM(name, FROM, TO, one, put, FROM_TYPE, element)          \
static void name(FROM_TYPE, float *to, struct grid to_at, int64_t n)     \
{                                                                        \
    for (int64_t i = 0; i < n; i += LANES) {                             \
        int64_t at = i < n - LANES ? i : n - LANES;                      \
        const float *top = NULL, *p = top;                               \
        float *left = to + at;                                           \
        vec half[TO][FROM];                                              \
        UNROLL for (int x = 0; x < FROM; x++) {                          \
            vec column[FROM > TO ? FROM : TO];                           \
            UNROLL for (int y = 0; y < FROM; y++) {                      \
                p = element(FROM, y, x);                                 \
                column[y] = *(const vec_at_float *)p;                    \
            }                                                            \
            one(column, &half[0][x], FROM);                              \
        }                                                                \
        UNROLL for (int y = 0; y < TO; y++, left += to_at.row) {         \
            float *q = left;                                             \
            vec row[TO];                                                 \
            one(half[y], row, 1);                                        \
            UNROLL for (int x = 0; x < TO; x++, q += to_at.column)       \
                put(q, row[x]);                                          \
        }                                                                \
    }                                                                    \
}
#define ON_GRID const float *from, struct grid from_at
#define GRID_ELEMENT(FROM, y, x) ((y) ? p + from_at.row : (top = (x) ? top + from_at.column : from + at))
#define ANYWHERE const float *const *from
#define ANY_ELEMENT(FROM, y, x) from[(y) * FROM + (x)] + at

TRANSFORM(data_4, 6, 6, data4, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(data_edge_4, 6, 6, data4, PUT, ANYWHERE, ANY_ELEMENT)
TRANSFORM(filter_4, 3, 6, filter4, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(filter_past_4, 3, 6, filter4, PUT_LINE_PAST, ON_GRID, GRID_ELEMENT)
TRANSFORM(result_4, 6, 4, result4, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(result_past_4, 6, 4, result4, PUT_PAST, ON_GRID, GRID_ELEMENT)
TRANSFORM(spread_4, 4, 6, spread4, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(gather_4, 6, 3, gather4, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(data_2, 4, 4, data2, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(data_edge_2, 4, 4, data2, PUT, ANYWHERE, ANY_ELEMENT)
TRANSFORM(filter_2, 3, 4, filter2, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(filter_past_2, 3, 4, filter2, PUT_LINE_PAST, ON_GRID, GRID_ELEMENT)
TRANSFORM(result_2, 4, 2, result2, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(result_past_2, 4, 2, result2, PUT_PAST, ON_GRID, GRID_ELEMENT)
TRANSFORM(spread_2, 2, 4, spread2, PUT, ON_GRID, GRID_ELEMENT)
TRANSFORM(gather_2, 4, 3, gather2, PUT, ON_GRID, GRID_ELEMENT)

#define PASTE(a, b) a##b
#define NAMED(prefix, isa) PASTE(prefix, isa)

const struct winograd NAMED(winograd_, ISA)[WINOGRAD_SIZES] = {
    { 2, 4, 16, data_2, data_edge_2, filter_2, filter_past_2, result_2, result_past_2, spread_2, gather_2 },
    { 4, 6, 36, data_4, data_edge_4, filter_4, filter_past_4, result_4, result_past_4, spread_4, gather_4 },
};
