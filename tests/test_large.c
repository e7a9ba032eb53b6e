/* test_large.c - operations on shapes that are large enough to be cut: into
 * tiles, pieces, chunks of sums, and among threads.
 *
 * SPDX-License-Identifier: ISC
 *
 * The small cases of test_ops.c never come there.  Each program runs with 1, 2
 * and 3 threads, which must give the same bits, and is held against the oracle;
 * adjoints come in as gradients. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cases.h"
#include "device.h"
#include "tap.h"

enum { THREADS_MAX = 3 };
#define SHAPE(...) (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]){ __VA_ARGS__ }

static ebm_val floats(struct trial *t, int rank, const int64_t *shape)
{
    return trial_input(t, EBM_F32, rank, shape, -1, 1);
}

static ebm_val indices(struct trial *t, int64_t n, int64_t rows)
{
    return trial_input(t, EBM_I32, 1, &n, 0, (double)rows);
}

/* The gradient by x of a random projection of y. */
static ebm_val adjoint(struct trial *t, ebm_val y, ebm_val x)
{
    struct shape s = node_of(t->g, y)->shape;

    return ebm_grad(t->g, ebm_sum_all(t->g, ebm_mul(t->g, y, floats(t, s.rank, s.n))), x);
}

static ebm_val sum_columns(struct trial *t)  { return ebm_sum(t->g, floats(t, SHAPE(9001, 64)), 1); }
static ebm_val sum_wide(struct trial *t)     { return ebm_sum(t->g, floats(t, SHAPE(3, 100003)), 1); }
static ebm_val sum_narrow(struct trial *t)   { return ebm_sum(t->g, floats(t, SHAPE(70001, 3)), 1); }
static ebm_val sum_all(struct trial *t)      { return ebm_sum_all(t->g, floats(t, SHAPE(300007))); }
static ebm_val sum_rows(struct trial *t)     { return ebm_sum(t->g, floats(t, SHAPE(64, 4099)), 2); }
static ebm_val sum_space(struct trial *t)    { return ebm_sum(t->g, floats(t, SHAPE(5, 3001, 40)), 2); }
static ebm_val sum_groups(struct trial *t)   { return ebm_sum(t->g, floats(t, SHAPE(40, 30, 20, 12)), 10); }
static ebm_val sum_crossed(struct trial *t)  { return ebm_sum(t->g, floats(t, SHAPE(40, 30, 20, 12)), 5); }
static ebm_val sum_outer(struct trial *t)    { return ebm_sum(t->g, floats(t, SHAPE(90, 7, 600)), 5); }
static ebm_val amax_columns(struct trial *t) { return ebm_amax(t->g, floats(t, SHAPE(9001, 64)), 1); }
static ebm_val amax_all(struct trial *t)     { return ebm_amax(t->g, floats(t, SHAPE(300007)), 1); }
static ebm_val amax_narrow(struct trial *t)  { return ebm_amax(t->g, floats(t, SHAPE(70001, 3)), 1); }
static ebm_val amax_rows(struct trial *t)    { return ebm_amax(t->g, floats(t, SHAPE(640, 410)), 2); }

static ebm_val transpose(struct trial *t)
{
    return ebm_transpose(t->g, floats(t, SHAPE(301, 517)), (const int[]){ 1, 0 });
}
static ebm_val to_channels_last(struct trial *t)
{
    return ebm_transpose(t->g, floats(t, SHAPE(3, 66, 32, 33)), (const int[]){ 0, 2, 3, 1 });
}
static ebm_val shuffle(struct trial *t)
{
    return ebm_transpose(t->g, floats(t, SHAPE(9, 16, 33, 40)), (const int[]){ 3, 1, 0, 2 });
}
static ebm_val transpose_bytes(struct trial *t)
{
    return ebm_transpose(t->g, trial_input(t, EBM_U8, SHAPE(401, 517), 0, 256), (const int[]){ 1, 0 });
}
static ebm_val broadcast(struct trial *t)
{
    return ebm_broadcast(t->g, floats(t, SHAPE(1, 503, 1)), SHAPE(20, 503, 31));
}
static ebm_val slice(struct trial *t)
{
    return ebm_slice(t->g, floats(t, SHAPE(40, 66, 120)), (const int64_t[]){ 1, 2, 3 },
                     (const int64_t[]){ 38, 31, 113 }, (const int64_t[]){ 1, 2, 1 });
}
static ebm_val pad(struct trial *t)
{
    return ebm_pad(t->g, floats(t, SHAPE(30, 64, 70)), (const int64_t[]){ 0, 1, 2 },
                   (const int64_t[]){ 0, 3, 0 });
}
static ebm_val flip(struct trial *t) { return ebm_flip(t->g, floats(t, SHAPE(30, 64, 71)), 6); }
static ebm_val concat(struct trial *t)
{
    ebm_val part[3] = { floats(t, SHAPE(50, 40, 61)), floats(t, SHAPE(50, 9, 61)), 0 };

    part[2] = part[0];
    return ebm_concat(t->g, 1, 3, part);
}

static const ebm_pool_spec OVERLAPPING = { { 3, 3 }, { 2, 2 }, { 1, 1, 1, 1 } };
static const ebm_pool_spec TILED = { { 2, 2 }, { 0, 0 }, { 0, 0, 0, 0 } };

static ebm_val images(struct trial *t) { return floats(t, SHAPE(9, 33, 34, 40)); }
static ebm_val sum_pool(struct trial *t) { return ebm_sum_pool(t->g, images(t), &OVERLAPPING); }
static ebm_val max_pool(struct trial *t) { return ebm_max_pool(t->g, images(t), &OVERLAPPING); }
static ebm_val max_pool_wide(struct trial *t)
{
    return ebm_max_pool(t->g, floats(t, SHAPE(2, 12, 11, 600)), &TILED);
}
static ebm_val sum_pool_adjoint(struct trial *t)
{
    ebm_val x = images(t);

    return adjoint(t, ebm_sum_pool(t->g, x, &OVERLAPPING), x);
}
static ebm_val max_pool_adjoint(struct trial *t)
{
    ebm_val x = images(t);

    return adjoint(t, ebm_max_pool(t->g, x, &OVERLAPPING), x);
}
static ebm_val enlarge(struct trial *t)
{
    return ebm_resample(t->g, floats(t, SHAPE(4, 16, 17, 40)), EBM_BILINEAR, 32, 51);
}
static ebm_val enlarge_adjoint(struct trial *t)
{
    ebm_val x = floats(t, SHAPE(4, 16, 17, 40));

    return adjoint(t, ebm_resample(t->g, x, EBM_BILINEAR, 32, 51), x);
}
static ebm_val nearest_adjoint(struct trial *t)
{
    ebm_val x = floats(t, SHAPE(4, 16, 17, 40));

    return adjoint(t, ebm_resample(t->g, x, EBM_NEAREST, 32, 51), x);
}
/* Results larger than caches, in whole vectors of channels: they are stored past them. */
static ebm_val enlarge_past_caches(struct trial *t)
{
    return ebm_resample(t->g, floats(t, SHAPE(3, 40, 50, 48)), EBM_BILINEAR, 90, 170);
}
static ebm_val unpool_past_caches(struct trial *t)
{
    ebm_val x = floats(t, SHAPE(3, 90, 170, 48));

    return adjoint(t, ebm_sum_pool(t->g, x, &OVERLAPPING), x);
}
static ebm_val shrink(struct trial *t)
{
    return ebm_resample(t->g, floats(t, SHAPE(4, 33, 32, 50)), EBM_BILINEAR, 15, 16);
}

static ebm_val gather(struct trial *t)
{
    return ebm_gather(t->g, floats(t, SHAPE(700, 601)), indices(t, 300, 700));
}
static ebm_val scatter(struct trial *t)
{
    return ebm_scatter(t->g, floats(t, SHAPE(400, 601)), indices(t, 400, 50), 50);
}
static ebm_val update(struct trial *t)
{
    return ebm_update(t->g, floats(t, SHAPE(700, 601)), indices(t, 300, 100), floats(t, SHAPE(300, 601)));
}

static ebm_val counter(struct trial *t)
{
    return ebm_state(t->g, "counter", EBM_I32, SHAPE(4), (ebm_init){ EBM_INIT_CONST, 0, 0 });
}
static ebm_val normal(struct trial *t)  { return ebm_normal(t->g, counter(t), 3, SHAPE(100003)); }
static ebm_val uniform(struct trial *t) { return ebm_uniform(t->g, counter(t), 3, SHAPE(301, 1001)); }

static ebm_val softmax(struct trial *t) { return ebm_softmax(t->g, floats(t, SHAPE(4001, 50)), 1); }
static ebm_val biased_silu(struct trial *t)
{
    return ebm_silu(t->g, ebm_add(t->g, floats(t, SHAPE(20, 30, 31, 24)), floats(t, SHAPE(24))));
}
static ebm_val per_sample(struct trial *t)
{
    ebm_val x = floats(t, SHAPE(64, 40, 121)), s = floats(t, SHAPE(64, 1, 1));

    return ebm_mul(t->g, x, ebm_exp(t->g, ebm_add(t->g, s, floats(t, SHAPE(40, 1)))));
}
static ebm_val per_pixel(struct trial *t)
{
    return ebm_sub(t->g, floats(t, SHAPE(12, 5001)), ebm_tanh(t->g, floats(t, SHAPE(5001))));
}
static ebm_val bytes_to_pixels(struct trial *t)
{
    ebm_val x = ebm_cast(t->g, trial_input(t, EBM_U8, SHAPE(64, 28, 101), 0, 256), EBM_F32);

    return ebm_offset(t->g, ebm_scale(t->g, x, 2.0 / 255), -1);
}
static ebm_val pixels_to_bytes(struct trial *t)
{
    return ebm_cast(t->g, ebm_scale(t->g, floats(t, SHAPE(64, 28, 101)), 512), EBM_U8);
}
static ebm_val index_along(struct trial *t)
{
    return ebm_add(t->g, ebm_iota(t->g, SHAPE(30, 71, 80), 1), floats(t, SHAPE(30, 1, 80)));
}

/* Steps that are done some rows of axis 0 after the other, the last of which are
 * fewer. */
static ebm_val rows_of_images(struct trial *t) { return floats(t, SHAPE(21, 16, 15, 64)); }
static ebm_net plain_net(struct trial *t) { return (ebm_net){ .graph = t->g, .region = "r" }; }

static ebm_val group_norm(struct trial *t)
{
    ebm_net net = plain_net(t);

    return ebm_silu(t->g, ebm_group_norm(&net, NULL, rows_of_images(t), 8, 1e-5));
}
static ebm_val group_norm_adjoint(struct trial *t)
{
    ebm_net net = plain_net(t);
    ebm_val x = rows_of_images(t);

    return adjoint(t, ebm_group_norm(&net, NULL, x, 4, 1e-5), x);
}
static ebm_val layer_norm_adjoint(struct trial *t)
{
    ebm_net net = plain_net(t);
    ebm_val x = rows_of_images(t);

    return adjoint(t, ebm_layer_norm(&net, NULL, x, 14, 1e-5), x);
}
static ebm_val softmax_adjoint(struct trial *t)
{
    ebm_val x = floats(t, SHAPE(3001, 129));

    return adjoint(t, ebm_softmax(t->g, x, 1), x);
}
/* The sum closes: each block of rows has its part. */
static ebm_val weight_gradient(struct trial *t)
{
    ebm_val w = floats(t, SHAPE(64)), x = rows_of_images(t);

    return adjoint(t, ebm_silu(t->g, ebm_mul(t->g, ebm_tanh(t->g, x), w)), w);
}
static ebm_val pools_adjoint(struct trial *t)
{
    ebm_val x = images(t), y = ebm_max_pool(t->g, ebm_silu(t->g, x), &TILED);

    y = ebm_resample(t->g, y, EBM_BILINEAR, 40, 31);
    return adjoint(t, ebm_sum_pool(t->g, ebm_square(t->g, y), &OVERLAPPING), x);
}
/* Moved by rows, and rows moved, which is no part of the strip. */
static ebm_val moves_of_rows(struct trial *t)
{
    ebm_val x = rows_of_images(t), y = ebm_flip(t->g, ebm_exp(t->g, x), 4);

    y = ebm_concat(t->g, 3, 2, (ebm_val[]){ y, ebm_square(t->g, x) });
    y = ebm_transpose(t->g, ebm_tanh(t->g, y), (const int[]){ 0, 3, 1, 2 });
    return ebm_flip(t->g, ebm_silu(t->g, y), 1);
}
/* Sums within rows, then over them. */
static ebm_val softmax_of_columns(struct trial *t)
{
    return ebm_softmax(t->g, ebm_softmax(t->g, floats(t, SHAPE(640, 700)), 1), 0);
}

/* Results that are written past the caches: whole lines and what is left over. */
static ebm_val past_caches(struct trial *t)
{
    ebm_val x = floats(t, SHAPE(2097153));

    return ebm_sub(t->g, ebm_mul(t->g, x, x), x);
}

#define CASE(f, tolerance) { #f, f, tolerance }
static const struct {
    const char *name;
    ebm_val (*build)(struct trial *t);
    double tolerance;        /* 0: nothing is rounded */
} cases[] = {
    /* sums keep one rounding of double accumulators and 32 of floats */
    CASE(sum_columns, 1e-6), CASE(sum_wide, 1e-6), CASE(sum_narrow, 1e-6), CASE(sum_all, 1e-6),
    CASE(sum_rows, 1e-6), CASE(sum_space, 1e-6), CASE(sum_groups, 1e-6),
    CASE(sum_crossed, 1e-6), CASE(sum_outer, 1e-6),
    CASE(amax_columns, 0), CASE(amax_all, 0), CASE(amax_narrow, 0), CASE(amax_rows, 0),
    CASE(transpose, 0), CASE(to_channels_last, 0), CASE(shuffle, 0), CASE(transpose_bytes, 0),
    CASE(broadcast, 0), CASE(slice, 0), CASE(pad, 0), CASE(flip, 0), CASE(concat, 0),
    CASE(sum_pool, 1e-6), CASE(sum_pool_adjoint, 1e-6), CASE(max_pool, 0), CASE(max_pool_wide, 0),
    CASE(max_pool_adjoint, 1e-6), CASE(enlarge, 1e-6), CASE(enlarge_adjoint, 1e-6),
    CASE(nearest_adjoint, 1e-6), CASE(shrink, 1e-6), CASE(enlarge_past_caches, 1e-6),
    CASE(unpool_past_caches, 1e-6),
    CASE(gather, 0), CASE(scatter, 1e-6), CASE(update, 0), CASE(normal, 0), CASE(uniform, 0),
    CASE(softmax, 1e-6), CASE(biased_silu, 1e-6), CASE(per_sample, 1e-6), CASE(per_pixel, 1e-6),
    CASE(bytes_to_pixels, 1e-6), CASE(pixels_to_bytes, 0), CASE(index_along, 1e-6), CASE(past_caches, 1e-6),
    CASE(group_norm, 1e-6), CASE(group_norm_adjoint, 1e-6), CASE(layer_norm_adjoint, 1e-6),
    CASE(softmax_adjoint, 1e-6), CASE(weight_gradient, 1e-6), CASE(pools_adjoint, 1e-6),
    CASE(moves_of_rows, 1e-6), CASE(softmax_of_columns, 1e-6),
};

static void test_case(ebm_backend *const *backend, size_t i)
{
    struct answer first = { NULL, 0 };
    double error = HUGE_VAL;
    bool same = true;

    for (int k = 0; k < THREADS_MAX; k++) {
        struct trial t;
        ebm_store *store;
        if (ebm_store_new(backend[k], &store) < 0)
            exit(99);
        trial_open(&t, store, 7 * i + 1);
        ebm_val y = cases[i].build(&t);
        struct answer answer = device_run(&t, 1, &y);
        if (k == 0 && answer.bytes)
            error = device_error(&t, 1, &y, &answer, NULL);
        if (k == 0) {
            first = answer;
        } else {
            same = same && first.bytes && answer.bytes && first.size == answer.size
                && memcmp(first.bytes, answer.bytes, first.size) == 0;
            free(answer.bytes);
        }
        if (!first.bytes)
            tap_note("%s", ebm_message(t.ctx));
        trial_close(&t);
        ebm_store_free(store);
    }
    free(first.bytes);
    tap_ok(error <= cases[i].tolerance, "%s: error %.1e", cases[i].name, error);
    tap_ok(same, "%s: any number of threads", cases[i].name);
}

int main(void)
{
    ebm_backend *backend[THREADS_MAX];
    ebm_context *ctx;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 99;
    for (int k = 0; k < THREADS_MAX; k++)
        if (ebm_backend_open(ctx, "cpu", k + 1, &backend[k]) < 0)
            return 99;
    for (size_t i = 0; i < COUNT(cases); i++)
        test_case(backend, i);
    for (int k = 0; k < THREADS_MAX; k++)
        ebm_backend_free(backend[k]);
    ebm_context_free(ctx);
    return tap_done();
}
