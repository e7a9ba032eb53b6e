/* window_loops.c - the windows of PICK and PLACE, compiled once per instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * A few vectors of channels at a time go through the pixels of a window; the largest
 * so far and what it picks stay in registers. */
#include <string.h>
#include "kernels.h"

#if defined __AVX512F__
#define VECTOR 16
#elif defined __AVX__
#define VECTOR 8
#else
#define VECTOR 4
#endif
enum { FEW = 4 };

typedef float vec __attribute__((vector_size(VECTOR * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef int32_t mask __attribute__((vector_size(VECTOR * sizeof(float)), aligned(sizeof(float)), may_alias));

LANE_INLINE vec load(const float *a)
{
    return *(const vec *)(const void *)a;
}

LANE_INLINE void put(float *d, vec v)
{
    *(vec *)(void *)d = v;
}

LANE_INLINE vec choose(mask m, vec a, vec b)
{
    return (vec)(((mask)a & m) | ((mask)b & ~m));
}

/* NaN wins, and the first of equals stays. */
#define WINS(k, m) (((k) > (m)) | (((k) != (k)) & ((m) == (m))))

#define EACH_PIXEL(w, at)                                                           \
    for (int64_t r_ = 0, at; r_ < (w)->rows; r_++)                                  \
        for (int64_t q_ = 0; at = r_ * (w)->down + q_ * (w)->along, q_ < (w)->columns; q_++)

/* What b has where key is largest, by channel; of b == key only the latter. */
LANE_INLINE void pick_few(vec *best, vec *chosen, const float *key, const float *b,
                          const struct panes *w, const int vectors)
{
    UNROLL for (int v = 0; v < vectors; v++) {
        best[v] = load(key + v * VECTOR);
        chosen[v] = load(b + v * VECTOR);
    }
    EACH_PIXEL(w, at)
        UNROLL for (int v = 0; v < vectors; v++) {
            vec k = load(key + at + v * VECTOR);
            mask wins = WINS(k, best[v]);
            best[v] = choose(wins, k, best[v]);
            if (b != key)
                chosen[v] = choose(wins, load(b + at + v * VECTOR), chosen[v]);
        }
}

LANE_INLINE void pick_vectors(float *d, const float *key, const float *b, const struct panes *w,
                              const int vectors)
{
    vec best[FEW], chosen[FEW];

    if (b == key) {
        pick_few(best, chosen, key, key, w, vectors);
        memcpy(chosen, best, sizeof chosen);
    } else {
        pick_few(best, chosen, key, b, w, vectors);
    }
    UNROLL for (int v = 0; v < vectors; v++)
        put(d + v * VECTOR, chosen[v]);
}

void NAME(pick)(float *d, const float *key, const float *b, const struct panes *w, int64_t n)
{
    int64_t c = 0;

    for (; c + FEW * VECTOR <= n; c += FEW * VECTOR)
        pick_vectors(d + c, key + c, b + c, w, FEW);
    for (; c + VECTOR <= n; c += VECTOR)
        pick_vectors(d + c, key + c, b + c, w, 1);
    for (; c < n; c++) {
        float best = key[c];
        d[c] = b[c];
        EACH_PIXEL(w, at) {
            float k = key[at + c];
            if (WINS(k, best)) {
                best = k;
                d[c] = b[at + c];
            }
        }
    }
}

LANE_INLINE void place_vectors(float *x, const float *key, const float *b, const struct panes *w,
                               const int vectors)
{
    vec best[FEW], unused[FEW];
    mask open[FEW];

    pick_few(best, unused, key, key, w, vectors);
    UNROLL for (int v = 0; v < vectors; v++)
        open[v] = (mask){ 0 } == (mask){ 0 };
    EACH_PIXEL(w, at)
        UNROLL for (int v = 0; v < vectors; v++) {
            vec k = load(key + at + v * VECTOR), was = load(x + at + v * VECTOR);
            mask here = ((k == best[v]) | (k != k)) & open[v];
            put(x + at + v * VECTOR, was + (vec)((mask)load(b + v * VECTOR) & here));
            open[v] &= ~here;
        }
}

void NAME(place)(float *x, const float *key, const float *b, const struct panes *w, int64_t n)
{
    int64_t c = 0;

    for (; c + FEW * VECTOR <= n; c += FEW * VECTOR)
        place_vectors(x + c, key + c, b + c, w, FEW);
    for (; c + VECTOR <= n; c += VECTOR)
        place_vectors(x + c, key + c, b + c, w, 1);
    for (; c < n; c++) {
        float best = key[c];
        bool open = true;
        EACH_PIXEL(w, at) {
            float k = key[at + c];
            best = WINS(k, best) ? k : best;
        }
        EACH_PIXEL(w, at) {
            float k = key[at + c];
            bool here = ((k == best) | (k != k)) & open;
            x[at + c] += here ? b[c] : 0.0f;
            open &= !here;
        }
    }
}
