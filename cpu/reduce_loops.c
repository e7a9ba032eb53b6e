/* reduce_loops.c - sums, moments and maxima of runs and of rows, compiled once per
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

#if defined __AVX512F__
#define VECTOR 16
#elif defined __AVX__
#define VECTOR 8
#else
#define VECTOR 4
#endif
enum { VECTORS = WIDTH / VECTOR };
typedef float vec __attribute__((vector_size(VECTOR * sizeof(float)), aligned(sizeof(float)), may_alias));

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

LANE_INLINE vec load(const float *a)
{
    return *(const vec *)(const void *)a;
}

LANE_INLINE void put(float *d, vec v)
{
    *(vec *)(void *)d = v;
}

/* lane[j] = the sum of rows of WIDTH elements, ld apart; what lies `ahead` elements on, of
 * the first `fetched` rows, is fetched meanwhile. */
LANE_INLINE void add_lanes(float *lane, const float *a, int64_t ld, int64_t rows, int64_t ahead, int64_t fetched)
{
    vec sum[VECTORS];

    UNROLL for (int v = 0; v < VECTORS; v++)
        sum[v] = (vec){ 0 };
    for (int64_t i = 0; i < rows; i++, a += ld) {
        if (i < fetched)
            fetch(a + ahead);
        UNROLL for (int v = 0; v < VECTORS; v++)
            sum[v] += load(a + v * VECTOR);
    }
    UNROLL for (int v = 0; v < VECTORS; v++)
        put(lane + v * VECTOR, sum[v]);
}

/* e[j] and ee[j] = the sums of what rows are off centre[j], and of its squares. */
LANE_INLINE void add_distances(float *e, float *ee, const float *centre, const float *a, int64_t ld, int64_t rows,
                               int64_t ahead, int64_t fetched)
{
    enum { FEW = 4 };                    /* vectors, three registers each */

    for (int j = 0; j < WIDTH; j += FEW * VECTOR) {
        const float *at = a + j;
        vec m[FEW], sum[FEW], square[FEW];
        UNROLL for (int v = 0; v < FEW; v++) {
            m[v] = load(centre + j + v * VECTOR);
            sum[v] = square[v] = (vec){ 0 };
        }
        for (int64_t i = 0; i < rows; i++, at += ld) {
            if (j == 0 && i < fetched)
                fetch(at + ahead);
            UNROLL for (int v = 0; v < FEW; v++) {
                vec d = load(at + v * VECTOR) - m[v];
                sum[v] += d;
                square[v] += d * d;
            }
        }
        UNROLL for (int v = 0; v < FEW; v++) {
            put(e + j + v * VECTOR, sum[v]);
            put(ee + j + v * VECTOR, square[v]);
        }
    }
}

/* The same, the sums of b besides, and of its products with what a is off the centre. */
LANE_INLINE void add_products(float *e, float *ee, float *y, float *ey, const float *centre, const float *a,
                              const float *b, int64_t ld, int64_t rows, int64_t ahead, int64_t fetched)
{
    enum { FEW = 2 };                    /* vectors, five registers each */

    for (int j = 0; j < WIDTH; j += FEW * VECTOR) {
        const float *at = a + j, *other = b + j;
        vec m[FEW], sum[FEW], square[FEW], with[FEW], product[FEW];
        UNROLL for (int v = 0; v < FEW; v++) {
            m[v] = load(centre + j + v * VECTOR);
            sum[v] = square[v] = with[v] = product[v] = (vec){ 0 };
        }
        for (int64_t i = 0; i < rows; i++, at += ld, other += ld) {
            if (j == 0 && i < fetched) {
                fetch(at + ahead);
                fetch(other + ahead);
            }
            UNROLL for (int v = 0; v < FEW; v++) {
                vec d = load(at + v * VECTOR) - m[v], w = load(other + v * VECTOR);
                sum[v] += d;
                square[v] += d * d;
                with[v] += w;
                product[v] += d * w;
            }
        }
        UNROLL for (int v = 0; v < FEW; v++) {
            put(e + j + v * VECTOR, sum[v]);
            put(ee + j + v * VECTOR, square[v]);
            put(y + j + v * VECTOR, with[v]);
            put(ey + j + v * VECTOR, product[v]);
        }
    }
}

LANE_INLINE double fold_lanes(float *lane)
{
    for (int width = WIDTH / 2; width >= 4; width /= 2)
        for (int j = 0; j < width; j++)
            lane[j] += lane[j + width];
    return ((double)lane[0] + lane[1]) + ((double)lane[2] + lane[3]);
}

double NAME(sum)(const float *a, int64_t n)
{
    double total = 0;

    while (n >= WIDTH) {
        int64_t block = n < BLOCK ? n & -WIDTH : BLOCK;
        float lane[WIDTH];
        add_lanes(lane, a, WIDTH, block / WIDTH, BLOCK, (n - BLOCK + WIDTH - 1) / WIDTH);
        total += fold_lanes(lane);
        a += block;
        n -= block;
    }
    for (int64_t i = 0; i < n; i++)
        total += a[i];
    return total;
}

/* Blocks are added about the mean of what came before, the first about its own: near
 * enough for their squares to be of the size of the result. */
LANE_INLINE void moments_run(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t n)
{
    while (n >= WIDTH) {
        const int64_t block = n < BLOCK ? n & -WIDTH : BLOCK, rows = block / WIDTH;
        const int64_t fetched = (n - BLOCK + WIDTH - 1) / WIDTH;
        float lane[WIDTH], squares[WIDTH], centre[WIDTH], others[WIDTH], products[WIDTH];
        double mean = seen ? *m->sum / (double)seen : 0, off, sum, other;
        if (!seen) {
            add_lanes(lane, a, WIDTH, rows, 0, 0);
            mean = fold_lanes(lane) / (double)block;
        }
        for (int j = 0; j < WIDTH; j++)
            centre[j] = (float)mean;
        if (b)
            add_products(lane, squares, others, products, centre, a, b, WIDTH, rows, BLOCK, fetched);
        else
            add_distances(lane, squares, centre, a, WIDTH, rows, BLOCK, fetched);
        off = fold_lanes(lane);
        sum = centre[0] * (double)block + off;
        if (b) {
            other = fold_lanes(others);
            join_products(m->other, m->product, *m->sum, seen, other,
                          fold_lanes(products) - off / (double)block * other, sum, block);
            b += block;
        }
        join_moments(m->sum, m->square, seen, sum, fold_lanes(squares) - off * off / (double)block, block);
        seen += block;
        a += block;
        n -= block;
    }
    for (int64_t i = 0; i < n; i++, seen++) {
        if (b)
            join_products(m->other, m->product, *m->sum, seen, b[i], 0, a[i], 1);
        join_moments(m->sum, m->square, seen, a[i], 0, 1);
    }
}

void NAME(moments)(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t n)
{
    if (b)
        moments_run(m, seen, a, b, n);
    else
        moments_run(m, seen, a, NULL, n);
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
        const int64_t height = rows - r < ROWS ? rows - r : ROWS;
        const float *block = a + r * ld;
        for (int64_t c = 0; c < n; c += WIDTH) {
            int64_t width = n - c < WIDTH ? n - c : WIDTH;
            float lane[WIDTH] = { 0 };
            if (width == WIDTH)
                add_lanes(lane, block + c, ld, height, ROWS * ld, rows - r - ROWS);
            else
                for (int64_t i = 0; i < height; i++)
                    for (int64_t j = 0; j < width; j++)
                        lane[j] += block[i * ld + c + j];
            for (int64_t j = 0; j < width; j++)
                acc[c + j] += lane[j];
        }
    }
}

LANE_INLINE void moments_wide(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t ld,
                              int64_t rows, int64_t n)
{
    double *acc = m->sum, *square = m->square;

    for (int64_t r = 0; r < rows; r += ROWS) {
        const int64_t height = rows - r < ROWS ? rows - r : ROWS;
        const float *block = a + r * ld, *other = b ? b + r * ld : NULL;
        const double before = (double)(seen + r), here = (double)height;
        const double each = before > 0 ? 1 / before : 0, weight = before * here / (before + here);
        for (int64_t c = 0; c < n; c += WIDTH) {
            int64_t width = n - c < WIDTH ? n - c : WIDTH;
            float lane[WIDTH] = { 0 }, squares[WIDTH] = { 0 }, centre[WIDTH];
            float others[WIDTH] = { 0 }, products[WIDTH] = { 0 };
            for (int64_t j = 0; j < width; j++)
                centre[j] = (float)(acc[c + j] * each);
            if (seen + r == 0) {
                for (int64_t i = 0; i < height; i++)
                    for (int64_t j = 0; j < width; j++)
                        lane[j] += block[i * ld + c + j];
                for (int64_t j = 0; j < width; j++) {
                    centre[j] = lane[j] / (float)height;
                    lane[j] = 0;
                }
            }
            if (width == WIDTH && b)
                add_products(lane, squares, others, products, centre, block + c, other + c, ld, height, ROWS * ld,
                             rows - r - ROWS);
            else if (width == WIDTH)
                add_distances(lane, squares, centre, block + c, ld, height, ROWS * ld, rows - r - ROWS);
            else
                for (int64_t i = 0; i < height; i++)
                    for (int64_t j = 0; j < width; j++) {
                        float e = block[i * ld + c + j] - centre[j], w = b ? other[i * ld + c + j] : 0;
                        lane[j] += e;
                        squares[j] += e * e;
                        others[j] += w;
                        products[j] += e * w;
                    }
            for (int64_t j = 0; j < width; j++) {        /* join_products(), join_moments() */
                double mean = centre[j] + lane[j] / here, d = mean - acc[c + j] * each;
                if (b) {
                    m->product[c + j] += products[j] - (double)lane[j] / here * others[j]
                                       + d * (before * others[j] - here * m->other[c + j]) / (before + here);
                    m->other[c + j] += others[j];
                }
                square[c + j] += squares[j] - (double)lane[j] * lane[j] / here + d * d * weight;
                acc[c + j] += mean * here;
            }
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

LANE_INLINE void moments_rows(const struct moments *to, int64_t seen, const float *a, const float *b, int64_t ld,
                              int64_t rows, int64_t n)
{
    int64_t m = rows_merged(ld, rows, n);

    if (m > 1) {
        double wide[MERGED] = { 0 }, squares[MERGED] = { 0 }, others[MERGED] = { 0 }, products[MERGED] = { 0 };
        const struct moments merged = { wide, squares, others, products };
        const int64_t each = rows / m;
        moments_wide(&merged, 0, a, b, m * n, each, m * n);
        for (int64_t r = 0; r < m; r++, seen += each)
            for (int64_t j = 0; j < n; j++) {
                int64_t i = r * n + j;
                if (b)
                    join_products(&to->other[j], &to->product[j], to->sum[j], seen, others[i], products[i], wide[i],
                                  each);
                join_moments(&to->sum[j], &to->square[j], seen, wide[i], squares[i], each);
            }
        a += each * m * n;
        b = b ? b + each * m * n : NULL;
        rows %= m;
    }
    moments_wide(to, seen, a, b, ld, rows, n);
}

void NAME(moments_rows)(const struct moments *m, int64_t seen, const float *a, const float *b, int64_t ld,
                        int64_t rows, int64_t n)
{
    if (b)
        moments_rows(m, seen, a, b, ld, rows, n);
    else
        moments_rows(m, seen, a, NULL, ld, rows, n);
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
