/* test_loader.c - batches: their order, their bits, resuming, failures.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include "context.h"
#include "faults.h"
#include "folder.h"
#include "tap.h"

enum { SIDE = 8, IMAGE = SIDE * SIDE * 3, BATCH = 7, LIMIT = 40 };

static ebm_context *ctx;

static ebm_data *open_shapes(ebm_context *c, size_t count)
{
    ebm_data_options o = { .height = SIDE, .width = SIDE, .limit = count, .seed = 3 };
    ebm_data *d;

    return ebm_data_open(c, "shapes:1000", &o, &d) == EBM_OK ? d : NULL;
}

static ebm_loader *open_loader(ebm_data *d, int batch, uint64_t seed,
                               const ebm_loader_options *o)
{
    ebm_loader *l;

    if (ebm_loader_open(d, batch, seed, o, &l) < 0)
        tap_note("%s", ebm_message(ctx));
    return l;
}

static void must(int rc)
{
    if (rc < 0) {
        tap_ok(false, "status %d: %s", rc, ebm_message(ctx));
        exit(tap_done());
    }
}

/* Which image of the set a pixel array is, -1 if none. */
static int find(ebm_data *d, int count, const float *pixels)
{
    float image[IMAGE];
    int i;

    for (i = 0; i < count; i++) {
        must(ebm_data_read(d, (size_t)i, image, NULL));
        if (memcmp(image, pixels, sizeof image) == 0)
            return i;
    }
    return -1;
}

/* --- order --- */

static void take_epochs(ebm_data *d, uint64_t seed, int epochs, int order[])
{
    static float images[LIMIT * IMAGE];
    ebm_loader *l = open_loader(d, LIMIT, seed, NULL);
    int e, i;

    for (e = 0; e < epochs; e++) {
        must(ebm_loader_next(l, images, NULL));
        for (i = 0; i < LIMIT; i++)
            order[e * LIMIT + i] = find(d, LIMIT, images + i * IMAGE);
    }
    ebm_loader_free(l);
}

static void test_order(void)
{
    enum { EPOCHS = 3 };
    ebm_data *d = open_shapes(ctx, LIMIT);
    int order[EPOCHS * LIMIT], other[LIMIT], e, i, same = 0, fixed = 0;

    take_epochs(d, 1, EPOCHS, order);
    take_epochs(d, 2, 1, other);
    for (e = 0; e < EPOCHS; e++) {
        uint64_t seen = 0;

        for (i = 0; i < LIMIT; i++)
            if (order[e * LIMIT + i] >= 0)
                seen |= UINT64_C(1) << order[e * LIMIT + i];
        tap_ok(seen == (UINT64_C(1) << LIMIT) - 1, "epoch %d has each image once", e);
    }
    for (i = 0; i < LIMIT; i++) {
        same += (order[i] == order[LIMIT + i]) + (order[i] == other[i]);
        fixed += order[i] == i;
    }
    tap_ok(same < 12 && fixed < 8, "epochs and seeds are shuffled differently");

    float images[BATCH * IMAGE];
    ebm_loader_options o = { .in_order = true };
    ebm_loader *l = open_loader(d, BATCH, 1, &o);
    bool good = true;
    for (e = 0; e < 8; e++) {
        must(ebm_loader_next(l, images, NULL));
        for (i = 0; i < BATCH; i++)
            good = good && find(d, LIMIT, images + i * IMAGE) == (e * BATCH + i) % LIMIT;
    }
    tap_ok(good, "in order, and on from the start");
    ebm_loader_free(l);
    ebm_data_free(d);
}

/* Each position of a large set falls into each quarter of it equally often. */
static void test_uniform(void)
{
    enum { COUNT_ALL = 1000, EPOCHS = 40 };
    ebm_data *d = open_shapes(ctx, COUNT_ALL);
    static float images[COUNT_ALL * IMAGE];
    static int32_t label[COUNT_ALL], labels[COUNT_ALL];
    ebm_loader_options o = { .threads = -1 };
    ebm_loader *l = open_loader(d, COUNT_ALL, 9, &o);
    int e, i, agree = 0, total = 0, classes[6] = { 0 };
    double expected = 0;

    for (i = 0; i < COUNT_ALL; i++) {
        must(ebm_data_read(d, (size_t)i, images, &label[i]));
        classes[label[i]]++;
    }
    for (i = 0; i < 6; i++)
        expected += (double)classes[i] * classes[i] / COUNT_ALL / COUNT_ALL;
    for (e = 0; e < EPOCHS; e++) {
        must(ebm_loader_next(l, images, labels));
        for (i = 0; i < COUNT_ALL; i++, total++)
            agree += labels[i] == label[i];
    }
    double off = (agree - expected * total) / sqrt(expected * (1 - expected) * total);
    tap_ok(fabs(off) < 4, "labels agree with those in order by chance only: %.2f sigma", off);
    ebm_loader_free(l);
    ebm_data_free(d);
}

/* --- bits --- */

static const ebm_loader_options everything = {
    .flip = true, .crop = 2, .dequantise = true, .low = -1, .high = 1, .noise = 0.1f,
};

static void test_threads(void)
{
    static const int threads[] = { 1, 2, 5 };
    static float images[2][BATCH * IMAGE];
    int32_t labels[2][BATCH];
    ebm_data *d = open_shapes(ctx, LIMIT);
    size_t k;
    int b;

    for (k = 0; k < COUNT(threads); k++) {
        ebm_loader_options o = everything, p = everything;
        bool same = true;

        o.threads = -1;
        p.threads = threads[k];
        p.queue = 1 + (int)k;
        ebm_data *e = open_shapes(ctx, LIMIT);
        ebm_loader *l = open_loader(d, BATCH, 11, &o), *m = open_loader(e, BATCH, 11, &p);
        for (b = 0; b < 20; b++) {
            must(ebm_loader_next(l, images[0], labels[0]));
            must(ebm_loader_next(m, images[1], labels[1]));
            same = same && memcmp(images[0], images[1], sizeof images[0]) == 0
                && memcmp(labels[0], labels[1], sizeof labels[0]) == 0;
        }
        tap_ok(same, "%d threads make the bits of none", threads[k]);
        ebm_loader_free(l);
        ebm_loader_free(m);
        ebm_data_free(e);
    }
    ebm_data_free(d);
}

static void test_seek(void)
{
    enum { LAST = 12 };
    static float all[LAST][BATCH * IMAGE], images[BATCH * IMAGE];
    static const int threads[] = { -1, 1, 3 };
    static const int jumps[] = { 5, 11, 0, 7, 7, 1 };
    ebm_data *d = open_shapes(ctx, LIMIT);
    size_t k, j;
    int b;

    for (k = 0; k < COUNT(threads); k++) {
        ebm_loader_options o = everything;
        bool same = true;

        o.threads = threads[k];
        ebm_loader *l = open_loader(d, BATCH, 4, &o);
        for (b = 0; b < LAST; b++)
            must(ebm_loader_next(l, all[b], NULL));
        for (j = 0; j < COUNT(jumps); j++) {
            must(ebm_loader_seek(l, (uint64_t)jumps[j]));
            same = same && ebm_loader_tell(l) == (uint64_t)jumps[j];
            must(ebm_loader_next(l, images, NULL));
            same = same && memcmp(images, all[jumps[j]], sizeof images) == 0;
        }
        tap_ok(same, "%d threads: batch b is the same after a seek", threads[k]);
        must(ebm_loader_seek(l, UINT64_C(1) << 40));
        must(ebm_loader_next(l, images, NULL));
        tap_ok(memcmp(images, all[0], sizeof images) != 0, "a far one is another");
        ebm_loader_free(l);
    }
    ebm_data_free(d);
}

/* --- what is done to images --- */

/* Is `moved` the image mirrored (or not) and shifted, zeros coming in? */
static bool is_moved(const float *image, const float *moved, bool mirrored, int down, int right)
{
    int y, x, c;

    for (y = 0; y < SIDE; y++)
        for (x = 0; x < SIDE; x++)
            for (c = 0; c < 3; c++) {
                int v = y - down, u = x - right;
                float expected = 0;

                if (v >= 0 && v < SIDE && u >= 0 && u < SIDE)
                    expected = image[(v * SIDE + (mirrored ? SIDE - 1 - u : u)) * 3 + c];
                if (moved[(y * SIDE + x) * 3 + c] != expected)
                    return false;
            }
    return true;
}

static void test_moves(void)
{
    ebm_data *d = open_shapes(ctx, LIMIT);
    ebm_loader_options o = { .in_order = true, .flip = true, .crop = 1 };
    ebm_loader *l = open_loader(d, LIMIT, 6, &o);
    static float images[LIMIT * IMAGE];
    int i, m, down, right, explained = 0, kinds[2][3][3] = { 0 }, epochs, seen = 0;

    for (epochs = 0; epochs < 5; epochs++) {
        must(ebm_loader_next(l, images, NULL));
        for (i = 0; i < LIMIT; i++) {
            float image[IMAGE];

            must(ebm_data_read(d, (size_t)i, image, NULL));
            for (m = 0; m < 18; m++) {
                down = m % 3 - 1, right = m / 3 % 3 - 1;
                if (is_moved(image, images + i * IMAGE, m >= 9, down, right)) {
                    kinds[m >= 9][down + 1][right + 1]++;
                    explained++;
                    break;
                }
            }
        }
    }
    for (m = 0; m < 18; m++)
        seen += kinds[m >= 9][m % 3][m / 3 % 3] > 0;
    tap_ok(explained == 5 * LIMIT && seen == 18, "mirrored and shifted in all %d ways", seen);
    ebm_loader_free(l);
    ebm_data_free(d);
}

static void test_values(void)
{
    ebm_data *d = open_shapes(ctx, LIMIT);
    static float plain[LIMIT * IMAGE], made[LIMIT * IMAGE];
    ebm_loader_options in_order = { .in_order = true };
    ebm_loader_options dequantised = { .in_order = true, .dequantise = true };
    ebm_loader_options noisy = { .in_order = true, .low = -1, .high = 1, .noise = 0.25f };
    double sum = 0, squares = 0, n = LIMIT * IMAGE;
    bool good = true;
    size_t i;

    ebm_loader *l = open_loader(d, LIMIT, 1, &in_order);
    must(ebm_loader_next(l, plain, NULL));
    ebm_loader_free(l);
    l = open_loader(d, LIMIT, 1, &dequantised);
    must(ebm_loader_next(l, made, NULL));
    ebm_loader_free(l);
    for (i = 0; i < LIMIT * IMAGE; i++) {
        double u = (double)made[i] * 256 - (double)plain[i] * 255;
        good = good && u > -1e-4 && u < 1 + 1e-4;
        sum += u;
    }
    tap_ok(good && fabs(sum / n - 0.5) < 0.01, "dequantised: (255 v + U) / 256, mean of U %.3f",
           sum / n);
    l = open_loader(d, LIMIT, 1, &noisy);
    must(ebm_loader_next(l, made, NULL));
    ebm_loader_free(l);
    sum = 0;
    for (i = 0; i < LIMIT * IMAGE; i++) {
        double e = (double)made[i] - (2 * (double)plain[i] - 1);
        sum += e;
        squares += e * e;
    }
    tap_ok(fabs(sum / n) < 0.01 && fabs(sqrt(squares / n) - 0.25) < 0.01,
           "in [-1,1] with noise of deviation %.3f", sqrt(squares / n));
    ebm_data_free(d);
}

static void test_options(void)
{
    static const ebm_loader_options bad[] = {
        { .crop = -1 }, { .crop = SIDE }, { .low = 1, .high = -1 }, { .low = 1, .high = 1 },
        { .noise = -1 }, { .noise = NAN }, { .threads = -2 }, { .queue = -1 },
        { .threads = 1 << 20 }, { .low = NAN, .high = 1 },
    };
    ebm_data *d = open_shapes(ctx, LIMIT);
    ebm_loader *l;
    size_t i;

    for (i = 0; i < COUNT(bad); i++)
        tap_ok(ebm_loader_open(d, 4, 1, &bad[i], &l) == EBM_ERR_ARG && !l, "refused: %s",
               ebm_message(ctx));
    tap_ok(ebm_loader_open(d, 0, 1, NULL, &l) == EBM_ERR_ARG, "refused: %s", ebm_message(ctx));
    ebm_data_free(d);
}

/* --- failures --- */

static void write_picture(const char *name, float value)
{
    float pixels[4] = { value, value, value, value };
    ebm_picture p = { .images = pixels, .n = 1, .height = 2, .width = 2, .channels = 1,
                      .scale = 1 };

    must(ebm_picture_write(ctx, in_folder(name), &p));
}

static void test_vanished(int threads)
{
    ebm_loader_options o = { .in_order = true, .threads = threads };
    ebm_data *d;
    float images[2 * 4];

    write_picture("1.png", 0.2f);
    write_picture("2.png", 0.4f);
    write_picture("3.png", 0.6f);
    write_picture("4.png", 0.8f);
    must(ebm_data_open(ctx, folder, NULL, &d));
    remove(in_folder("3.png"));
    ebm_loader *l = open_loader(d, 2, 1, &o);
    tap_ok(ebm_loader_next(l, images, NULL) == EBM_OK, "%d threads: batch 0", threads);
    tap_ok(ebm_loader_next(l, images, NULL) == EBM_ERR_IO
           && strstr(ebm_message(ctx), "3.png"), "vanished data: %s", ebm_message(ctx));
    tap_ok(ebm_loader_next(l, images, NULL) == EBM_ERR_IO && ebm_loader_tell(l) == 1,
           "the same again");
    write_picture("3.png", 0.6f);
    must(ebm_loader_seek(l, 1));
    tap_ok(ebm_loader_next(l, images, NULL) == EBM_OK && fabsf(images[0] - 0.6f) < 0.01f,
           "once it is back, training goes on");
    ebm_loader_free(l);
    ebm_data_free(d);
}

static void test_faults(int threads)
{
    struct faults faults = { 0 };
    ebm_host host = fault_host(&faults);
    bool good = true;
    long n;

    for (n = 0; n < 10000; n++) {
        ebm_loader_options o = everything;
        float images[2 * IMAGE];
        ebm_context *c;

        o.threads = threads;
        fault_arm(&faults, n);
        int rc = ebm_context_new(&host, &c);
        if (rc == EBM_OK) {
            ebm_data *d = open_shapes(c, 4);
            ebm_loader *l = NULL;

            rc = d ? ebm_loader_open(d, 2, 1, &o, &l) : EBM_ERR_NOMEM;
            if (rc == EBM_OK)
                rc = ebm_loader_next(l, images, NULL);
            ebm_loader_free(l);
            ebm_data_free(d);
            ebm_context_free(c);
        }
        good = good && faults.live == 0 && (faults.fired ? rc == EBM_ERR_NOMEM || rc == EBM_OK
                                                         : rc == EBM_OK);
        if (!faults.fired || !good)
            break;
    }
    tap_ok(good && n > 10, "%d threads: each of %ld allocations may fail", threads, n);
}

static void note_speed(void)
{
    enum { TURNS = 200 };
    ebm_data_options padded = { .height = 32, .width = 32, .fit = EBM_FIT_PAD };
    static float images[64 * 32 * 32];
    struct timespec a, b;
    ebm_data *d;
    int i;

    if (ebm_data_open(ctx, "digits", &padded, &d) < 0) {
        tap_ok(false, "%s", ebm_message(ctx));
        return;
    }
    ebm_loader_options o = { .low = -1, .high = 1, .threads = -1 };
    ebm_loader *l = open_loader(d, 64, 1, &o);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (i = 0; i < TURNS; i++)
        must(ebm_loader_next(l, images, NULL));
    clock_gettime(CLOCK_MONOTONIC, &b);
    tap_note("64 digits at 32 x 32 take %.3f ms in one thread",
             ((double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6)
             / TURNS);
    ebm_loader_free(l);
    ebm_data_free(d);
}

int main(void)
{
    const char *srcdir = getenv("srcdir");
    char data[600];

    if (!folder_make() || ebm_context_new(NULL, &ctx) < 0)
        return EXIT_FAILURE;
    snprintf(data, sizeof data, "%s/data", srcdir ? srcdir : ".");
    setenv("EBM_DATA_DIR", data, 1);
    test_order();
    test_uniform();
    test_threads();
    test_seek();
    test_moves();
    test_values();
    test_options();
    test_vanished(-1);
    test_vanished(1);
    test_vanished(3);
    test_faults(-1);
    test_faults(2);
    note_speed();
    ebm_context_free(ctx);
    folder_remove();
    return tap_done();
}
