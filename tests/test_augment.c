/* test_augment.c - images changed by chance: against Pillow, and what must hold
 * for any random numbers.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "methods/augment.h"
#include "tap.h"

enum { N = 16, H = 12, W = 10, PIXELS = N * H * W * 3 };

static double image[PIXELS], u[N * AUGMENT_DRAWS];

/* The images changed with the random numbers u; to be freed. */
static double *changed(struct golden *t, const struct augment *a)
{
    ebm_outputs out = { 0 };
    ebm_val x = ebm_feed(t->g, "x", EBM_F32, 4, (int64_t[]){ N, H, W, 3 });
    ebm_val draws = ebm_feed(t->g, "u", EBM_F32, 2, (int64_t[]){ N, AUGMENT_DRAWS });
    ebm_val y = augment_with(t->g, a, draws, x);

    ebm_output(t->g, &out, y);
    golden_ready(t, &out);
    golden_feed(t, "x", image, PIXELS);
    golden_feed(t, "u", u, N * AUGMENT_DRAWS);
    golden_run(t, &out);
    return golden_value(t, y);
}

/* Programs that work on bytes round weights too: a level more or less here and
 * there, and a change of hue or contrast enlarges it. */
static void check_golden(ebm_context *ctx, ebm_backend *backend, const char *name, const struct augment *a)
{
    struct golden t;
    int64_t count;
    int near = 0;
    double mean = 0;

    golden_open(&t, ctx, backend, "augment");
    double *is = changed(&t, a), *expected = golden_tensor(&t, name, &count);
    for (int i = 0; i < PIXELS; i++) {
        near += fabs(is[i] - expected[i]) <= 1;
        mean += fabs(is[i] - expected[i]) / PIXELS;
    }
    tap_ok(near > 0.99 * PIXELS && mean < 0.2, "%s by %s: %.2f %% of the levels within 1 of Pillow's, "
           "mean difference %.3f", name, backend ? "the CPU" : "the oracle", 100. * near / PIXELS, mean);
    free(is);
    free(expected);
    golden_close(&t);
}

static void check_nothing(ebm_context *ctx)
{
    const struct augment none = { .area = { 1, 1 } };
    struct golden t;

    golden_open(&t, ctx, NULL, NULL);
    double *is = changed(&t, &none);
    tap_ok(memcmp(is, image, sizeof image) == 0, "with all parts off an image stays");
    free(is);
    golden_close(&t);
}

/* Mirrored where the number says so, and else the same. */
static void check_flip(ebm_context *ctx)
{
    const struct augment flip = { .area = { 1, 1 }, .flip = true };
    struct golden t;
    int wrong = 0;

    golden_open(&t, ctx, NULL, NULL);
    double *is = changed(&t, &flip);
    for (int i = 0; i < PIXELS; i++) {
        int n = i / (H * W * 3), x = i / 3 % W;
        int from = u[n * AUGMENT_DRAWS + U_FLIP] < 0.5 ? i + (W - 1 - 2 * x) * 3 : i;
        wrong += is[i] != image[from];
    }
    tap_ok(wrong == 0, "every image is itself or its mirror image");
    free(is);
    golden_close(&t);
}

static void check_range(ebm_context *ctx)
{
    const struct augment all = { { 0.08, 1 }, true, 1, 0.2, 5 };
    struct golden t;
    int wrong = 0;

    golden_open(&t, ctx, NULL, NULL);
    double *is = changed(&t, &all);
    for (int i = 0; i < PIXELS; i++)
        wrong += !(is[i] >= 0 && is[i] <= 255 && is[i] == floor(is[i]));
    tap_ok(wrong == 0, "levels stay whole and within 0 ... 255");
    free(is);
    golden_close(&t);
}

int main(void)
{
    static const struct { const char *name; struct augment augment; } parts[] = {
        { "cut", { .area = { 0.2, 1 }, .flip = true } },
        { "colours", { .area = { 1, 1 }, .colour = 1, .grey = 0.2 } },
        { "blur", { .area = { 1, 1 }, .blur = 5 } },
    };
    ebm_context *ctx;
    ebm_backend *cpu;

    if (ebm_context_new(NULL, &ctx) < 0)
        return 1;
    for (int i = 0; i < PIXELS; i++)
        image[i] = floor((golden_number("image", (uint64_t)i) + 1) * 128);
    for (int i = 0; i < N * AUGMENT_DRAWS; i++)
        u[i] = (golden_number("u", (uint64_t)i) + 1) / 2;
    check_nothing(ctx);
    check_flip(ctx);
    check_range(ctx);
    if (ebm_backend_open(ctx, "cpu", 1, &cpu) < 0) {
        tap_ok(false, "the CPU opens: %s", ebm_message(ctx));
        return tap_done();
    }
    for (size_t i = 0; i < COUNT(parts); i++) {
        check_golden(ctx, NULL, parts[i].name, &parts[i].augment);
        check_golden(ctx, cpu, parts[i].name, &parts[i].augment);
    }
    tap_ok(augment_check(ctx, &(struct augment){ { 0.5, 0.2 }, false, 0, 0, 0 }, (int64_t[]){ H, W, 3 })
           == EBM_ERR_ARG, "refused: %s", ebm_message(ctx));
    tap_ok(augment_check(ctx, &(struct augment){ { 1, 1 }, false, 0, 0, 4 }, (int64_t[]){ H, W, 3 })
           == EBM_ERR_ARG, "refused: %s", ebm_message(ctx));
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
