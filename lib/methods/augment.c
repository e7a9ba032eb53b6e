/* augment.c - see augment.h.
 *
 * SPDX-License-Identifier: ISC
 *
 *   cut and flip   a box of random area and shape, bilinearly back to the size:
 *                  rows and columns are combined by two matrices of each image,
 *                  in which the mirror is, too
 *   jitter         brightness, contrast, saturation and hue in random order
 *   grey, blur
 *
 * Levels are whole after each part, rounded as 8-bit images are by the programs
 * that these transformations come from. */
#include <math.h>
#include "augment.h"
#include "build.h"

struct images {
    ebm_graph *g;
    int64_t n, h, w, c;
    ebm_val u;
};

/* ---- small things ---- */

/* A column of the random numbers, [n,1,1] or [n,1,1,1]. */
static ebm_val draw(struct images *i, int column, int rank)
{
    ebm_val u = ebm_slice(i->g, i->u, (int64_t[]){ 0, column }, (int64_t[]){ i->n, 1 }, NULL);

    return ebm_reshape(i->g, u, rank, (int64_t[]){ i->n, 1, 1, 1 });
}

static ebm_val between(ebm_graph *g, ebm_val u, double low, double high)
{
    return ebm_offset(g, ebm_scale(g, u, high - low), low);
}

/* 1 with probability p. */
static ebm_val chance(ebm_graph *g, ebm_val u, double p)
{
    return ebm_less(g, u, ebm_const(g, p));
}

static ebm_val rounded(ebm_graph *g, ebm_val a)
{
    return ebm_floor(g, ebm_offset(g, a, 0.5));
}

static ebm_val truncated(ebm_graph *g, ebm_val a)
{
    return ebm_floor(g, ebm_clamp(g, a, 0, 255));
}

/* a mod m, for a >= -m. */
static ebm_val modulo(ebm_graph *g, ebm_val a, double m)
{
    return ebm_sub(g, a, ebm_scale(g, ebm_floor(g, ebm_scale(g, a, 1 / m)), m));
}

/* 0, 1, 2 ... along the rows (axis 1) or columns (axis 2) of a matrix. */
static ebm_val along(ebm_graph *g, int axis, int64_t count)
{
    int64_t shape[3] = { 1, 1, 1 };

    shape[axis] = count;
    return ebm_iota(g, 3, shape, axis);
}

/* Rows of each image combined by m [n,h,h]; columns by m [n,w,w]. */
static ebm_val mix_rows(struct images *i, ebm_val m, ebm_val x)
{
    ebm_graph *g = i->g;

    x = ebm_reshape(g, x, 3, (int64_t[]){ i->n, i->h, i->w * i->c });
    return ebm_reshape(g, build_matmul(g, m, x, false, false, true), 4, (int64_t[]){ i->n, i->h, i->w, i->c });
}

static ebm_val mix_columns(struct images *i, ebm_val m, ebm_val x)
{
    static const int swap[] = { 0, 2, 1, 3 };
    ebm_graph *g = i->g;

    x = ebm_reshape(g, ebm_transpose(g, x, swap), 3, (int64_t[]){ i->n, i->w, i->h * i->c });
    x = ebm_reshape(g, build_matmul(g, m, x, false, false, true), 4, (int64_t[]){ i->n, i->w, i->h, i->c });
    return ebm_transpose(g, x, swap);
}

/* ---- cut and flip ---- */

struct box { ebm_val top, left, rows, columns; };     /* each [n,1,1] */

/* Area uniform, shape log-uniform in 3/4 ... 4/3; the first of ten tries that
 * is within the image, else as much of its middle as has such a shape. */
static struct box random_box(struct images *i, const struct augment *a)
{
    const double narrow = 3. / 4, wide = 4. / 3;
    ebm_graph *g = i->g;
    double h = (double)i->h, w = (double)i->w;
    double rows = fmin(h, round(w / narrow)), columns = fmin(w, round(h * wide));
    ebm_val zero = ebm_scale(g, draw(i, U_TOP, 3), 0);
    struct box box = { .top = ebm_offset(g, zero, floor((h - rows) / 2)),
                       .left = ebm_offset(g, zero, floor((w - columns) / 2)),
                       .rows = ebm_offset(g, zero, rows), .columns = ebm_offset(g, zero, columns) };

    for (int k = AUGMENT_TRIES - 1; k >= 0; k--) {
        ebm_val area = ebm_scale(g, between(g, draw(i, U_AREA + k, 3), a->area[0], a->area[1]), h * w);
        ebm_val ratio = ebm_exp(g, between(g, draw(i, U_RATIO + k, 3), log(narrow), log(wide)));
        ebm_val c = rounded(g, ebm_sqrt(g, ebm_mul(g, area, ratio)));
        ebm_val r = rounded(g, ebm_sqrt(g, ebm_div(g, area, ratio)));
        ebm_val fits = ebm_mul(g, chance(g, r, h + 0.5), chance(g, c, w + 0.5));
        ebm_val some = ebm_mul(g, ebm_sign(g, r), ebm_sign(g, c));
        ebm_val good = ebm_mul(g, fits, some);
        ebm_val down = ebm_offset(g, ebm_neg(g, r), h), right = ebm_offset(g, ebm_neg(g, c), w);
        ebm_val top = ebm_floor(g, ebm_mul(g, draw(i, U_TOP, 3), ebm_offset(g, down, 1)));
        ebm_val left = ebm_floor(g, ebm_mul(g, draw(i, U_LEFT, 3), ebm_offset(g, right, 1)));

        box.rows = ebm_select(g, good, r, box.rows);
        box.columns = ebm_select(g, good, c, box.columns);
        box.top = ebm_select(g, good, ebm_min(g, top, down), box.top);
        box.left = ebm_select(g, good, ebm_min(g, left, right), box.left);
    }
    return box;
}

/* Element (p,j): how much of element j is in element p of `size` elements that
 * cover begin ... begin + length - 1, bilinearly with half-pixel centres. */
static ebm_val stretch(ebm_graph *g, ebm_val begin, ebm_val length, ebm_val p, int64_t size)
{
    ebm_val at = ebm_offset(g, ebm_mul(g, ebm_offset(g, p, 0.5),
                                       ebm_scale(g, length, 1 / (double)size)), -0.5);

    at = ebm_min(g, ebm_max(g, at, ebm_const(g, 0)), ebm_offset(g, length, -1));
    ebm_val far = ebm_abs(g, ebm_sub(g, along(g, 2, size), ebm_add(g, begin, at)));
    return ebm_max(g, ebm_offset(g, ebm_neg(g, far), 1), ebm_const(g, 0));
}

static ebm_val cut_and_flip(struct images *i, const struct augment *a, ebm_val x)
{
    ebm_graph *g = i->g;
    bool cut = !(a->area[0] == 1 && a->area[1] == 1);
    ebm_val q = along(g, 1, i->w), zero = ebm_const(g, 0);
    struct box box = { zero, zero, ebm_const(g, (double)i->h), ebm_const(g, (double)i->w) };

    if (!cut && !a->flip)
        return x;
    if (cut)
        box = random_box(i, a);
    if (a->flip)
        q = ebm_select(g, chance(g, draw(i, U_FLIP, 3), 0.5),
                       ebm_offset(g, ebm_neg(g, q), (double)(i->w - 1)), q);
    x = rounded(g, mix_columns(i, stretch(g, box.left, box.columns, q, i->w), x));
    return cut ? rounded(g, mix_rows(i, stretch(g, box.top, box.rows, along(g, 1, i->h), i->h), x)) : x;
}

/* ---- colours ---- */

static ebm_val channel(struct images *i, ebm_val x, int64_t k)
{
    return ebm_slice(i->g, x, (int64_t[]){ 0, 0, 0, k }, (int64_t[]){ i->n, i->h, i->w, 1 }, NULL);
}

/* ITU-R 601: [n,h,w,1]. */
static ebm_val luma(struct images *i, ebm_val x)
{
    ebm_graph *g = i->g;

    if (i->c != 3)
        return x;
    ebm_val r = ebm_scale(g, channel(i, x, 0), 0.299), b = ebm_scale(g, channel(i, x, 2), 0.114);
    return rounded(g, ebm_add(g, ebm_add(g, r, ebm_scale(g, channel(i, x, 1), 0.587)), b));
}

/* From `from` to x, and beyond it where f > 1. */
static ebm_val blend(ebm_graph *g, ebm_val from, ebm_val x, ebm_val f)
{
    return truncated(g, ebm_add(g, from, ebm_mul(g, f, ebm_sub(g, x, from))));
}

/* Through 8-bit hue, saturation and value, hue moved by `shift` of 256. */
static ebm_val move_hue(struct images *i, ebm_val x, ebm_val shift)
{
    ebm_graph *g = i->g;
    ebm_val r = channel(i, x, 0), gr = channel(i, x, 1), b = channel(i, x, 2);
    ebm_val most = ebm_max(g, ebm_max(g, r, gr), b), least = ebm_min(g, ebm_min(g, r, gr), b);
    ebm_val range = ebm_sub(g, most, least), one = ebm_const(g, 1);
    ebm_val safe = ebm_max(g, range, one);
    ebm_val by_red = ebm_div(g, ebm_sub(g, gr, b), safe);
    ebm_val by_green = ebm_offset(g, ebm_div(g, ebm_sub(g, b, r), safe), 2);
    ebm_val by_blue = ebm_offset(g, ebm_div(g, ebm_sub(g, r, gr), safe), 4);
    ebm_val hue = ebm_select(g, ebm_equal(g, r, most), by_red,
                             ebm_select(g, ebm_equal(g, gr, most), by_green, by_blue));
    ebm_val parts[3];

    hue = ebm_floor(g, ebm_scale(g, modulo(g, hue, 6), 255. / 6));
    hue = ebm_scale(g, modulo(g, ebm_add(g, hue, shift), 256), 6. / 255);
    ebm_val saturation = ebm_floor(g, ebm_div(g, ebm_scale(g, range, 255), ebm_max(g, most, one)));
    ebm_val chroma = ebm_mul(g, most, ebm_scale(g, saturation, 1. / 255));
    for (int k = 0; k < 3; k++) {
        static const double turn[3] = { 5, 3, 1 };
        ebm_val at = modulo(g, ebm_offset(g, hue, turn[k]), 6);
        ebm_val fall = ebm_min(g, at, ebm_offset(g, ebm_neg(g, at), 4));
        parts[k] = rounded(g, ebm_sub(g, most, ebm_mul(g, chroma, ebm_clamp(g, fall, 0, 1))));
    }
    return ebm_concat(g, 3, 3, parts);
}

/* Towards zero, of 255. */
static ebm_val hue_shift(ebm_graph *g, ebm_val part)
{
    ebm_val shift = ebm_scale(g, part, 255);

    return ebm_mul(g, ebm_sign(g, shift), ebm_floor(g, ebm_abs(g, shift)));
}

/* The four in an order that sorts four random numbers. */
static ebm_val jitter(struct images *i, const struct augment *a, ebm_val x)
{
    ebm_graph *g = i->g;
    double least = fmax(0, 1 - 0.8 * a->colour), most = 1 + 0.8 * a->colour;
    ebm_val rank[4], brightness = between(g, draw(i, U_BRIGHTNESS, 4), least, most);
    ebm_val contrast = between(g, draw(i, U_CONTRAST, 4), least, most);
    ebm_val saturation = between(g, draw(i, U_SATURATION, 4), least, most);
    ebm_val hue = hue_shift(g, between(g, draw(i, U_HUE, 4), -0.4 * a->colour, 0.4 * a->colour));
    ebm_val y = x;

    for (int k = 0; k < 4; k++) {
        rank[k] = ebm_const(g, 0);
        for (int j = 0; j < 4; j++)
            if (j != k)                  /* of equal ones the first goes first */
                rank[k] = ebm_add(g, rank[k], j < k
                    ? ebm_offset(g, ebm_neg(g, ebm_less(g, draw(i, U_ORDER + k, 4), draw(i, U_ORDER + j, 4))), 1)
                    : ebm_less(g, draw(i, U_ORDER + j, 4), draw(i, U_ORDER + k, 4)));
    }
    for (int turn = 0; turn < 4; turn++) {
        ebm_val now = ebm_const(g, turn), grey = luma(i, y);
        ebm_val mean = rounded(g, ebm_mean(g, grey, 1u << 1 | 1u << 2));
        ebm_val next = i->c == 3 ? ebm_select(g, ebm_equal(g, rank[3], now), move_hue(i, y, hue), y) : y;
        next = ebm_select(g, ebm_equal(g, rank[2], now), blend(g, grey, y, saturation), next);
        next = ebm_select(g, ebm_equal(g, rank[1], now), blend(g, mean, y, contrast), next);
        y = ebm_select(g, ebm_equal(g, rank[0], now), truncated(g, ebm_mul(g, y, brightness)), next);
    }
    return ebm_select(g, chance(g, draw(i, U_JITTER, 4), 0.8), y, x);
}

/* ---- blur ---- */

/* Element (p,j) of a Gaussian filter with mirrored edges; the identity where an
 * image is not blurred. */
static ebm_val gaussian(struct images *i, const struct augment *a, int64_t size)
{
    ebm_graph *g = i->g;
    int radius = a->blur / 2;
    ebm_val sigma = between(g, draw(i, U_SIGMA, 3), 0.1, 2), on = chance(g, draw(i, U_BLUR, 3), 0.5);
    ebm_val factor = ebm_div(g, ebm_const(g, -0.5), ebm_square(g, sigma)), sum = 0, m = 0;

    for (int t = -radius; t <= radius; t++) {
        double last = (double)(size - 1);
        ebm_val weight = ebm_exp(g, ebm_scale(g, factor, (double)t * t));
        ebm_val at = ebm_abs(g, ebm_offset(g, along(g, 1, size), t));
        at = ebm_offset(g, ebm_neg(g, ebm_abs(g, ebm_offset(g, ebm_neg(g, at), last))), last);
        weight = ebm_select(g, on, weight, ebm_const(g, t == 0));
        ebm_val part = ebm_mul(g, weight, ebm_equal(g, at, along(g, 2, size)));
        m = m ? ebm_add(g, m, part) : part;
        sum = sum ? ebm_add(g, sum, weight) : weight;
    }
    return ebm_div(g, m, sum);
}

static ebm_val blur(struct images *i, const struct augment *a, ebm_val x)
{
    x = mix_rows(i, gaussian(i, a, i->h), x);
    return rounded(i->g, mix_columns(i, gaussian(i, a, i->w), x));
}

/* ---- all ---- */

ebm_val augment_with(ebm_graph *g, const struct augment *a, ebm_val u, ebm_val x)
{
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, x, n) != 4)
        return graph_fail(g, EBM_ERR_ARG, "only images [n,h,w,c] can be augmented");
    struct images i = { .g = g, .n = n[0], .h = n[1], .w = n[2], .c = n[3], .u = u };

    x = cut_and_flip(&i, a, x);
    if (a->colour > 0)
        x = jitter(&i, a, x);
    if (a->grey > 0 && i.c == 3)
        x = ebm_select(g, chance(g, draw(&i, U_GREY, 4), a->grey), luma(&i, x), x);
    return a->blur ? blur(&i, a, x) : x;
}

ebm_val augment_images(ebm_graph *g, const struct augment *a, ebm_val counter, uint32_t purpose,
                       ebm_val x)
{
    int64_t n[EBM_MAX_RANK];

    if (ebm_shape(g, x, n) != 4)
        return 0;
    return augment_with(g, a, ebm_uniform(g, counter, purpose, 2, (int64_t[]){ n[0], AUGMENT_DRAWS }), x);
}

int augment_check(ebm_context *ctx, const struct augment *a, const int64_t image[3])
{
    if (!(a->area[0] > 0 && a->area[0] <= a->area[1] && a->area[1] <= 1))
        return ebm_fail(ctx, EBM_ERR_ARG, "a cut keeps between %g and %g of an image: give two "
                        "numbers within (0,1], the smaller first", a->area[0], a->area[1]);
    if (a->blur && (a->blur % 2 == 0 || a->blur / 2 >= image[0] || a->blur / 2 >= image[1]))
        return ebm_fail(ctx, EBM_ERR_ARG, "blurring with a filter of %d pixels: the number must be "
                        "odd and its half less than the image's sides", a->blur);
    return EBM_OK;
}
