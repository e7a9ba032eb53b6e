/* reduce_loops.c - sums and maxima of runs and of rows, compiled once per
 * instruction set.
 *
 * SPDX-License-Identifier: ISC
 *
 * A block is added in WIDTH float lanes, each of which takes few terms; blocks
 * are added as double.  The order is fixed by the lengths alone. */
#include <math.h>
#include "kernels.h"

enum {
    WIDTH = 64,              /* lanes: hides the latency of additions */
    BLOCK = 2048,            /* elements of a run per float block: 32 a lane */
    ROWS = 32,               /* rows per float block */
    LINE = 16                /* floats of a cache line */
};

LANE_INLINE float larger(float m, float x)      /* NaN wins */
{
    return ((x > m) | (x != x)) ? x : m;
}

/* Begin to read WIDTH elements: what comes from memory comes while others are added. */
LANE_INLINE void fetch(const float *a)
{
#ifdef __GNUC__
    for (int j = 0; j < WIDTH; j += LINE)
        __builtin_prefetch(a + j);
#else
    (void)a;
#endif
}

double NAME(sum)(const float *a, int64_t n)
{
    double total = 0;

    while (n >= WIDTH) {
        int64_t block = n < BLOCK ? n & -WIDTH : BLOCK;
        float lane[WIDTH] = { 0 };
        for (int64_t i = 0; i < block; i += WIDTH) {
            if (i + BLOCK < n)
                fetch(a + i + BLOCK);
            for (int j = 0; j < WIDTH; j++)
                lane[j] += a[i + j];
        }
        for (int width = WIDTH / 2; width >= 4; width /= 2)
            for (int j = 0; j < width; j++)
                lane[j] += lane[j + width];
        total += ((double)lane[0] + lane[1]) + ((double)lane[2] + lane[3]);
        a += block;
        n -= block;
    }
    for (int64_t i = 0; i < n; i++)
        total += a[i];
    return total;
}

float NAME(amax)(const float *a, int64_t n)
{
    float m = -INFINITY;

    if (n >= WIDTH) {
        float lane[WIDTH];
        for (int j = 0; j < WIDTH; j++)
            lane[j] = a[j];
        int64_t whole = n & -WIDTH;
        for (int64_t i = WIDTH; i < whole; i += WIDTH)
            for (int j = 0; j < WIDTH; j++)
                lane[j] = larger(lane[j], a[i + j]);
        for (int j = 0; j < WIDTH; j++)
            m = larger(m, lane[j]);
        a += whole;
        n -= whole;
    }
    for (int64_t i = 0; i < n; i++)
        m = larger(m, a[i]);
    return m;
}

/* Narrow rows that lie side by side are added as wider rows, of a multiple of
 * WIDTH, and folded at the end: how many rows make one. */
enum { NARROW = 32, MERGED = WIDTH * NARROW };

LANE_INLINE int64_t rows_merged(int64_t ld, int64_t rows, int64_t n)
{
    int64_t m = WIDTH;

    if (ld != n || n > NARROW)
        return 1;
    for (int64_t even = n; even % 2 == 0; even /= 2)
        m /= 2;                          /* WIDTH / gcd(n, WIDTH) */
    return rows >= 4 * m ? m : 1;
}

static void sum_wide(double *acc, const float *a, int64_t ld, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r += ROWS) {
        int64_t last = r + ROWS < rows ? r + ROWS : rows;
        for (int64_t c = 0; c < n; c += WIDTH) {
            int64_t width = n - c < WIDTH ? n - c : WIDTH;
            float lane[WIDTH] = { 0 };
            if (width == WIDTH)
                for (int64_t i = r; i < last; i++) {
                    if (i + ROWS < rows)
                        fetch(a + (i + ROWS) * ld + c);
                    for (int j = 0; j < WIDTH; j++)
                        lane[j] += a[i * ld + c + j];
                }
            else
                for (int64_t i = r; i < last; i++)
                    for (int64_t j = 0; j < width; j++)
                        lane[j] += a[i * ld + c + j];
            for (int64_t j = 0; j < width; j++)
                acc[c + j] += lane[j];
        }
    }
}

void NAME(sum_rows)(double *acc, const float *a, int64_t ld, int64_t rows, int64_t n)
{
    int64_t m = rows_merged(ld, rows, n);

    if (m > 1) {
        double wide[MERGED] = { 0 };
        sum_wide(wide, a, m * n, rows / m, m * n);
        for (int64_t r = 0; r < m; r++)
            for (int64_t j = 0; j < n; j++)
                acc[j] += wide[r * n + j];
        a += rows / m * m * n;
        rows %= m;
    }
    sum_wide(acc, a, ld, rows, n);
}

static void amax_wide(float *acc, const float *a, int64_t ld, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r += ROWS) {
        int64_t last = r + ROWS < rows ? r + ROWS : rows;
        for (int64_t c = 0; c < n; c += WIDTH) {
            int64_t width = n - c < WIDTH ? n - c : WIDTH;
            if (width == WIDTH) {
                float lane[WIDTH];
                for (int j = 0; j < WIDTH; j++)
                    lane[j] = acc[c + j];
                for (int64_t i = r; i < last; i++)
                    for (int j = 0; j < WIDTH; j++)
                        lane[j] = larger(lane[j], a[i * ld + c + j]);
                for (int j = 0; j < WIDTH; j++)
                    acc[c + j] = lane[j];
            } else {
                for (int64_t i = r; i < last; i++)
                    for (int64_t j = 0; j < width; j++)
                        acc[c + j] = larger(acc[c + j], a[i * ld + c + j]);
            }
        }
    }
}

void NAME(amax_rows)(float *acc, const float *a, int64_t ld, int64_t rows, int64_t n)
{
    int64_t m = rows_merged(ld, rows, n);

    if (m > 1) {
        float wide[MERGED];
        for (int64_t i = 0; i < m * n; i++)
            wide[i] = -INFINITY;
        amax_wide(wide, a, m * n, rows / m, m * n);
        for (int64_t r = 0; r < m; r++)
            for (int64_t j = 0; j < n; j++)
                acc[j] = larger(acc[j], wide[r * n + j]);
        a += rows / m * m * n;
        rows %= m;
    }
    amax_wide(acc, a, ld, rows, n);
}

/* Rows of accumulators to one number each; LANES rows go side by side. */
void NAME(fold_sum)(float *d, const double *acc, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r += LANES) {
        int64_t left = rows - r < LANES ? rows - r : LANES;
        double lane[LANES] = { 0 };
        if (left == LANES)
            for (int64_t i = 0; i < n; i++)
                for (int j = 0; j < LANES; j++)
                    lane[j] += acc[(r + j) * n + i];
        else
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < left; j++)
                    lane[j] += acc[(r + j) * n + i];
        for (int64_t j = 0; j < left; j++)
            d[r + j] = (float)lane[j];
    }
}

void NAME(fold_max)(float *d, const float *acc, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r += LANES) {
        int64_t left = rows - r < LANES ? rows - r : LANES;
        float lane[LANES];
        for (int j = 0; j < LANES; j++)
            lane[j] = -INFINITY;
        if (left == LANES)
            for (int64_t i = 0; i < n; i++)
                for (int j = 0; j < LANES; j++)
                    lane[j] = larger(lane[j], acc[(r + j) * n + i]);
        else
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < left; j++)
                    lane[j] = larger(lane[j], acc[(r + j) * n + i]);
        for (int64_t j = 0; j < left; j++)
            d[r + j] = lane[j];
    }
}
