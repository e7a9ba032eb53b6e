/* test_data.c - sets of images: every format, sizes and channels, bad input.
 *
 * SPDX-License-Identifier: ISC
 *
 * The corpus of the fuzz targets holds the same small picture in many formats; it
 * serves as data here. */
#include "config.h"
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include "data/png_write.h"
#include "faults.h"
#include "folder.h"
#include "tap.h"

static const char *srcdir;
static ebm_context *ctx;

static const char *corpus(const char *name)
{
    static char paths[4][600];
    static int turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/tests/fuzz/corpus/%s", srcdir, name);
    return path;
}

static ebm_data *open_data(const char *source, const ebm_data_options *o)
{
    ebm_data *d;

    if (ebm_data_open(ctx, source, o, &d) < 0)
        tap_note("%s", ebm_message(ctx));
    return d;
}

/* Opening fails with the status, and a message that has the words. */
static void refused(const char *source, const ebm_data_options *o, int status,
                    const char *words)
{
    ebm_data *d;
    int rc = ebm_data_open(ctx, source, o, &d);
    bool good = rc == status && !d && strstr(ebm_message(ctx), words);

    tap_ok(good, "%s: refused, %s: '%s'", strrchr(source, '/') ? strrchr(source, '/') + 1
           : source, ebm_status_name(status), words);
    if (!good)
        tap_note("status %d: %s", rc, rc < 0 ? ebm_message(ctx) : "opened");
    ebm_data_free(d);
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");

    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0)
        tap_ok(false, "%s: written", path);
}

static float read_sum(ebm_data *d, size_t index, int32_t *label)
{
    ebm_data_info info;
    float sum = 0;
    int i, n;

    ebm_data_describe(d, &info);
    n = info.height * info.width * info.channels;
    float *pixels = malloc((size_t)n * sizeof *pixels);
    if (ebm_data_read(d, index, pixels, label) < 0)
        sum = NAN;
    for (i = 0; i < n; i++)
        sum += pixels[i];
    free(pixels);
    return sum;
}

/* --- the digits --- */

static void test_larger(void)
{
    ebm_data_options low = { .height = 14, .width = 20, .fit = EBM_FIT_PAD };
    ebm_data_options half = { .height = 14, .width = 14 };
    ebm_data *small = open_data("digits", &low), *halved = open_data("digits", &half);
    float a[14 * 20], b[14 * 14];
    bool inside = small && halved && ebm_data_read(small, 3, a, NULL) >= 0
               && ebm_data_read(halved, 3, b, NULL) >= 0;

    for (int y = 0; inside && y < 14; y++)
        inside = memcmp(a + 20 * y + 3, b + 14 * y, 14 * sizeof *b) == 0
              && a[20 * y + 2] == 0 && a[20 * y + 17] == 0;
    tap_ok(inside, "padding first resizes a larger image to fit in");
    ebm_data_free(small);
    ebm_data_free(halved);
}

static void test_digits(void)
{
    static const struct { const char *split; size_t count; } splits[] = {
        { "train", 9000 }, { "test", 1000 }, { "all", 10000 },
    };
    ebm_data_info info;
    unsigned seen = 0;
    size_t i;

    for (i = 0; i < COUNT(splits); i++) {
        ebm_data_options o = { .split = splits[i].split };
        ebm_data *d = open_data("digits", &o);

        if (!tap_ok(d != NULL, "digits: %s", splits[i].split))
            continue;
        ebm_data_describe(d, &info);
        tap_ok(info.count == splits[i].count && info.height == 28 && info.width == 28
               && info.channels == 1 && info.classes == 10
               && strcmp(info.split, splits[i].split) == 0,
               "digits: %zu images of 28 x 28 in 10 classes", info.count);
        ebm_data_free(d);
    }
    ebm_data_options padded = { .height = 32, .width = 32, .fit = EBM_FIT_PAD };
    ebm_data *plain = open_data("digits", NULL), *wide = open_data("digits", &padded);
    float a[28 * 28], b[32 * 32], border = 0;
    bool same = plain && wide;

    for (i = 0; same && i < 200; i++) {
        int32_t m, n;
        int y, x;

        same = !ebm_data_read(plain, i, a, &m) && !ebm_data_read(wide, i, b, &n) && m == n;
        seen |= 1u << m;
        for (y = 0; y < 32; y++)
            for (x = 0; x < 32; x++)
                if (y >= 2 && y < 30 && x >= 2 && x < 30)
                    same = same && b[32 * y + x] == a[28 * (y - 2) + x - 2];
                else
                    border += b[32 * y + x];
    }
    tap_ok(same && border == 0, "padding to 32 x 32 puts zeros around them");
    tap_ok(seen == 1023, "all ten labels occur");
    if (plain && wide) {
        ebm_data_info other;

        ebm_data_describe(plain, &info);
        ebm_data_describe(wide, &other);
        tap_ok(info.fingerprint != other.fingerprint, "another size, another fingerprint");
        tap_ok(ebm_data_read(plain, 9000, a, NULL) == EBM_ERR_ARG, "no image beyond the last");
    }
    ebm_data_free(plain);
    ebm_data_free(wide);
    test_larger();
    setenv("EBM_DATA_DIR", "/nonexistent", 1);
    refused("digits", NULL, EBM_ERR_IO, "EBM_DATA_DIR");
}

/* --- one picture in many formats --- */

static void test_formats(void)
{
    static const struct { const char *name, *as; int index, of; } cases[] = {
        { "npy/nhwc.npy", "npy/one.npy", 0, 2 },
        { "npy/nchw.npy", "npy/one.npy", 0, 2 },
        { "npy/float32.npy", "npy/one.npy", 0, 2 },
        { "npy/float64-big.npy", "npy/one.npy", 0, 1 },
        { "npy/float16.npy", "npy/one.npy", 0, 1 },
        { "npy/version2.npy", "npy/one.npy", 0, 1 },
        { "png/rgb.png", "npy/one.npy", 0, 1 },
        { "npz/deflated.npz", "npy/grey.npy", 0, 2 },
        { "npz/stored.npz", "npy/grey.npy", 0, 2 },
        { "npz/numpy.npz", "npy/grey.npy", 0, 2 },
        { "npz/unnamed.npz", "npy/grey.npy", 0, 2 },
        { "npz/zip64.npz", "npy/grey.npy", 0, 2 },
        { "npz/zip64-local.npz", "npy/grey.npy", 0, 2 },
        { "npz/splits.npz", "npy/grey.npy", 2, 3 },
        { "png/grey.png", "npy/grey.npy", 0, 1 },
        { "idx/images.gz", "idx/images", 2, 3 },
        { "idx/two-members.gz", "idx/images", 2, 3 },
    };
    size_t i;
    int k;

    for (i = 0; i < COUNT(cases); i++) {
        ebm_data_options all = { .split = "all" };
        ebm_data *d = open_data(corpus(cases[i].name), &all);
        ebm_data *e = open_data(corpus(cases[i].as), &all);
        const size_t ref = strncmp(cases[i].name, "idx", 3) ? 0 : (size_t)cases[i].index;
        float a[60], b[60], worst = d && e ? 0 : 1;
        ebm_data_info info = { 0 }, other;

        if (d && e) {
            ebm_data_describe(d, &info);
            ebm_data_describe(e, &other);
            if (ebm_data_read(d, (size_t)cases[i].index, a, NULL) < 0
                || ebm_data_read(e, ref, b, NULL) < 0 || info.channels != other.channels)
                worst = 1;
            for (k = 0; worst < 1 && k < 20 * info.channels; k++)
                worst = fmaxf(worst, fabsf(a[k] - b[k]));
        }
        tap_ok(worst < (strstr(cases[i].name, "16") ? 5e-4f : 1e-6f)
               && (int)info.count == cases[i].of, "%s has the pixels of %s", cases[i].name,
               cases[i].as);
        ebm_data_free(d);
        ebm_data_free(e);
    }
}

static void test_refusals(void)
{
    static const struct { const char *name, *words; } bad[] = {
        { "idx/bomb.gz", "cannot hold" }, { "idx/labels", "holds labels" },
        { "idx/short", "need a file of 76 bytes, it has 69" },
        { "idx/long", "goes on after the 76 bytes" }, { "idx/short.gz", "ends early" },
        { "idx/huge", "over the limit" }, { "idx/many", "it has 76" },
        { "idx/floats", "only bytes" }, { "idx/none", "no images" },
        { "idx/damaged.gz", "" }, { "idx/magic", "no known format" },
        { "cifar/label.bin", "record 0 has label 200" }, { "cifar/short.bin", "3073" },
        { "cifar/empty.bin", "empty" }, { "npy/beyond.npy", "divide them by 255" },
        { "npy/nan.npy", "nan" }, { "npy/int64.npy", "uint8" },
        { "npy/fortran.npy", "ascontiguousarray" }, { "npy/object.npy", "|O" },
        { "npy/short.npy", "it has 247" }, { "npy/long.npy", "goes on" },
        { "npy/huge.npy", "over the limit" }, { "npy/overflow.npy", "" },
        { "npy/length.npy", "4294967295" }, { "npy/twice.npy", "descr" },
        { "npz/bomb.npz", "cannot hold" }, { "npz/crc.npz", "checksum" },
        { "npz/end-missing.npz", "no directory" }, { "npz/encrypted.npz", "encrypted" },
        { "npz/method.npz", "method 14" }, { "npz/labels-short.npz", "one label" },
        { "npz/no-images.npz", "named" }, { "npz/count.npz", "65535" },
        { "png/short.png", "ends early" }, { "png/crc.png", "CRC" },
        { "png/bomb.png", "cannot hold" }, { "png/huge.png", "over the limit" },
        { "png/rows-missing.png", "Not enough" }, { "png/no-palette.png", "PLTE" },
#ifdef HAVE_JPEG
        { "jpeg/short.jpg", "ends early" }, { "jpeg/damaged.jpg", "Huffman" },
        { "jpeg/no-table.jpg", "able" }, { "jpeg/huge.jpg", "" },
#endif
    };
    ebm_data_options test = { .split = "test" }, other = { .split = "validation" };
    size_t i;

    for (i = 0; i < COUNT(bad); i++)
        refused(corpus(bad[i].name), NULL, EBM_ERR_FORMAT, bad[i].words);
    refused(in_folder("nothing"), NULL, EBM_ERR_IO, "No such file");
    refused(corpus("npy/one.npy"), &test, EBM_ERR_ARG, "only 'train'");
    refused(corpus("npy/one.npy"), &other, EBM_ERR_ARG, "train, test and all");
    write_file(in_folder("pickle"), "\x80\x02}q\1(U", 7);
    refused(in_folder("pickle"), NULL, EBM_ERR_FORMAT, "pickle");
}

/* --- CIFAR, with batches smaller than the original's --- */

static void write_cifar(const char *path, int n, int first)
{
    static uint8_t bytes[8 * 3073];
    int i, k;

    for (i = 0; i < n; i++) {
        bytes[3073 * i] = (uint8_t)((first + i) % 3);
        for (k = 0; k < 3072; k++)
            bytes[3073 * i + 1 + k] = (uint8_t)(first + i + 10 * (k / 1024) + k % 1024 / 32);
    }
    write_file(path, bytes, (size_t)n * 3073);
}

static void test_cifar(void)
{
    static const char names[] = "cat\r\ndog\n\nhorse\n";
    static float pixels[3072];
    ebm_data_options o = { .split = "all" };
    ebm_data_info info;
    int32_t label;

    mkdir(in_folder("cifar"), 0777);
    write_cifar(in_folder("cifar/data_batch_1.bin"), 4, 0);
    write_cifar(in_folder("cifar/data_batch_2.bin"), 2, 4);
    write_cifar(in_folder("cifar/test_batch.bin"), 3, 6);
    write_file(in_folder("cifar/batches.meta.txt"), names, sizeof names - 1);
    ebm_data *d = open_data(in_folder("cifar"), &o);
    if (tap_ok(d != NULL, "CIFAR: a folder")) {
        ebm_data_describe(d, &info);
        tap_ok(info.count == 9 && info.classes == 3 && info.class_names
               && strcmp(info.class_names[2], "horse") == 0
               && strcmp(info.format, "CIFAR-10") == 0, "CIFAR: batches, names of classes");
        tap_ok(ebm_data_read(d, 7, pixels, &label) == EBM_OK && label == 1
               && pixels[(5 * 32 + 9) * 3 + 2] == (float)(7 + 20 + 5) / 255,
               "CIFAR: planes become channels");
    }
    ebm_data_free(d);
    o.split = NULL;
    d = open_data(in_folder("cifar"), &o);
    if (d)
        ebm_data_describe(d, &info);
    tap_ok(d && info.count == 6, "CIFAR: training by default");
    ebm_data_free(d);
    o.limit = 5;
    d = open_data(in_folder("cifar"), &o);
    if (d)
        ebm_data_describe(d, &info);
    tap_ok(d && info.count == 5, "CIFAR: the first 5 only");
    ebm_data_free(d);
    remove(in_folder("cifar/test_batch.bin"));
    o.split = "test";
    refused(in_folder("cifar"), &o, EBM_ERR_ARG, "no split 'test', only 'train'");
    write_file(in_folder("cifar/test_batch.bin"), names, sizeof names);
    refused(in_folder("cifar"), &o, EBM_ERR_FORMAT, "whole number of CIFAR-10 records");
    remove(in_folder("cifar/test_batch.bin"));
    remove(in_folder("cifar/data_batch_1.bin"));
    remove(in_folder("cifar/data_batch_2.bin"));
    remove(in_folder("cifar/batches.meta.txt"));
    refused(in_folder("cifar"), NULL, EBM_ERR_FORMAT, "no PNG or JPEG");
}

/* --- folders of pictures --- */

static void write_grey(const char *path, size_t height, size_t width, size_t channels,
                       uint8_t value)
{
    uint8_t bytes[64 * 3];
    memset(bytes, value, sizeof bytes);
    if (png_write(ctx, path, bytes, height, width, channels, NULL, 0) < 0)
        tap_ok(false, "%s", ebm_message(ctx));
}

static void test_folders(void)
{
    static const char *const made[] = {
        "tree/b/2.png", "tree/b/1.png", "tree/a/x.PNG", "tree/a/without-an-ending",
        "tree/README.txt", "tree/a/notes.txt", "tree/a/.hidden.png", "tree/a/c.png",
    };
    ebm_data_options o = { .height = 4, .width = 4, .channels = 1 };
    int32_t label[4] = { 0 };
    ebm_data_info info;
    size_t i;

    mkdir(in_folder("tree"), 0777);
    mkdir(in_folder("tree/a"), 0777);
    mkdir(in_folder("tree/b"), 0777);
    write_grey(in_folder(made[0]), 4, 4, 1, 20);
    write_grey(in_folder(made[1]), 4, 4, 1, 10);
    write_grey(in_folder(made[2]), 4, 4, 1, 2);
    write_grey(in_folder(made[3]), 4, 4, 1, 1);
    write_file(in_folder(made[4]), "pictures", 8);
    write_file(in_folder(made[5]), "pictures", 8);
    write_file(in_folder(made[6]), "", 0);
    ebm_data *d = open_data(in_folder("tree"), NULL);
    if (tap_ok(d != NULL, "a folder with classes")) {
        ebm_data_describe(d, &info);
        tap_ok(info.count == 4 && info.classes == 2 && info.height == 4 && info.channels == 1
               && strcmp(info.class_names[1], "b") == 0, "its pictures and classes");
        tap_ok(fabsf(read_sum(d, 0, &label[0]) - 16 * 1 / 255.0f) < 1e-5f
               && fabsf(read_sum(d, 1, &label[1]) - 16 * 2 / 255.0f) < 1e-5f
               && fabsf(read_sum(d, 2, &label[2]) - 16 * 10 / 255.0f) < 1e-5f
               && fabsf(read_sum(d, 3, &label[3]) - 16 * 20 / 255.0f) < 1e-5f,
               "sorted by bytes");
        tap_ok(label[0] == 0 && label[1] == 0 && label[2] == 1 && label[3] == 1, "labels");
        tap_ok(fabsf(read_sum(d, 3, NULL) - 16 * 20 / 255.0f) < 1e-5f, "read again, as kept");
    }
    ebm_data_free(d);
    write_grey(in_folder(made[7]), 6, 8, 3, 9);
    refused(in_folder("tree"), NULL, EBM_ERR_ARG, "differ in size");
    d = open_data(in_folder("tree"), &o);
    tap_ok(d && fabsf(read_sum(d, 0, NULL) - read_sum(d, 1, NULL)) > 0, "a size given");
    ebm_data_free(d);
    write_file(in_folder(made[7]), "no picture", 10);
    refused(in_folder("tree"), NULL, EBM_ERR_FORMAT, "neither PNG nor JPEG");
    for (i = 0; i < COUNT(made); i++)
        remove(in_folder(made[i]));
    rmdir(in_folder("tree/a"));
    rmdir(in_folder("tree/b"));

    mkdir(in_folder("tree/train"), 0777);
    mkdir(in_folder("tree/val"), 0777);
    write_grey(in_folder("tree/train/1.png"), 4, 4, 1, 1);
    write_grey(in_folder("tree/val/2.png"), 4, 4, 3, 2);
    d = open_data(in_folder("tree"), NULL);
    if (d)
        ebm_data_describe(d, &info);
    tap_ok(d && info.count == 1 && info.classes == 0 && info.channels == 1,
           "folders train and val are splits");
    ebm_data_free(d);
    o = (ebm_data_options){ .split = "all" };
    d = open_data(in_folder("tree"), &o);
    if (d)
        ebm_data_describe(d, &info);
    tap_ok(d && info.count == 2 && info.channels == 3
           && fabsf(read_sum(d, 0, NULL) - 48 * 1 / 255.0f) < 1e-5f,
           "grey ones among coloured become coloured");
    ebm_data_free(d);
    remove(in_folder("tree/train/1.png"));
    remove(in_folder("tree/val/2.png"));
    rmdir(in_folder("tree/train"));
    rmdir(in_folder("tree/val"));
}

/* --- resizing, against Pillow 10 --- */

static void test_resize(void)
{
    static const uint8_t down[4 * 3 * 3] = {
        42, 133, 165, 125, 182, 81, 201, 101, 134, 100, 191, 55, 167, 103, 109, 118, 101, 192,
        168, 151, 94, 166, 102, 166, 78, 169, 133, 168, 68, 152, 87, 144, 180, 136, 150, 67,
    };
    static const uint8_t wider[3 * 8] = {   /* of red */
        32, 55, 88, 121, 155, 188, 190, 189, 111, 134, 166, 190, 167, 97, 85, 82,
        190, 173, 148, 112, 95, 94, 123, 146,
    };
    ebm_data_options o = { .height = 4, .width = 3, .fit = EBM_FIT_STRETCH };
    uint8_t bytes[7 * 5 * 3];
    float pixels[7 * 5 * 3];
    bool same;
    int i, k, c;

    for (i = 0; i < 7; i++)
        for (k = 0; k < 5; k++)
            for (c = 0; c < 3; c++)
                bytes[(i * 5 + k) * 3 + c] = (uint8_t)(i * 37 + k * 53 + c * 91);
    png_write(ctx, in_folder("r.png"), bytes, 7, 5, 3, NULL, 0);
    ebm_data *d = open_data(in_folder("r.png"), &o);
    same = d && ebm_data_read(d, 0, pixels, NULL) == EBM_OK;
    for (i = 0; i < 36 && same; i++)
        same = pixels[i] == (float)down[i] / 255;
    tap_ok(same, "7 x 5 stretched to 4 x 3: Pillow's bytes");
    ebm_data_free(d);
    o.height = 3, o.width = 8;
    d = open_data(in_folder("r.png"), &o);
    same = d && ebm_data_read(d, 0, pixels, NULL) == EBM_OK;
    for (i = 0; i < 24 && same; i++)
        same = pixels[3 * i] == (float)wider[i] / 255;
    tap_ok(same, "7 x 5 stretched to 3 x 8: Pillow's bytes");
    ebm_data_free(d);
    o = (ebm_data_options){ .height = 5, .width = 5 };
    d = open_data(in_folder("r.png"), &o);
    same = d && ebm_data_read(d, 0, pixels, NULL) == EBM_OK;
    for (i = 0; i < 75 && same; i++)
        same = pixels[i] == (float)bytes[15 + i] / 255;
    tap_ok(same, "7 x 5 cropped to 5 x 5: the middle rows, unchanged");
    ebm_data_free(d);
    o = (ebm_data_options){ .channels = 1 };
    d = open_data(in_folder("r.png"), &o);
    same = d && ebm_data_read(d, 0, pixels, NULL) == EBM_OK;
    for (i = 0; i < 35 && same; i++) {
        double grey = 0.299 * bytes[3 * i] + 0.587 * bytes[3 * i + 1] + 0.114 * bytes[3 * i + 2];
        same = fabs((double)pixels[i] * 255 - grey) <= 0.51;
    }
    tap_ok(same, "grey of colour");
    ebm_data_free(d);
    o = (ebm_data_options){ .height = 5 };
    refused(in_folder("r.png"), &o, EBM_ERR_ARG, "both sides");
    o = (ebm_data_options){ .channels = 2 };
    refused(in_folder("r.png"), &o, EBM_ERR_ARG, "channels");
}

/* --- shapes --- */

/* The class that an attribute's value belongs to. */
static void test_shape_labels(void)
{
    static const struct { const char *source; int classes; const char *last; } cases[] = {
        { "shapes:60,label=colour", 8, "white" },
        { "shapes:60,label=background", 5, "teal" },
        { "shapes:60,label=size,shape=star", 2, "size 0.25-0.35" },
        { "shapes:60,x=0.2..0.8,label=x/3", 3, "x 0.6-0.8" },
    };
    ebm_shapes_attributes a;
    ebm_data_info info;

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        ebm_data *d = open_data(cases[k].source, NULL);
        unsigned seen = 0;
        int wrong = !d;
        if (d)
            ebm_data_describe(d, &info);
        for (size_t i = 0; d && i < 60; i++) {
            float pixels[32 * 32 * 3];
            int32_t label;
            if (ebm_shapes_read(d, i, &a) < 0 || ebm_data_read(d, i, pixels, &label) < 0)
                break;
            int expected = k == 0 ? a.colour : k == 1 ? a.background
                         : k == 2 ? a.size >= 0.25f : (a.x >= 0.4f) + (a.x >= 0.6f);
            wrong += label != expected;
            seen |= 1u << label;
        }
        tap_ok(d && wrong == 0 && seen == (1u << cases[k].classes) - 1 && info.classes == cases[k].classes
               && strcmp(info.class_names[info.classes - 1], cases[k].last) == 0,
               "%s: %d classes, the last of them %s", cases[k].source, cases[k].classes, cases[k].last);
        ebm_data_free(d);
    }
}

/* Of several attributes a label tells one, each about as often. */
static void test_mixed_labels(void)
{
    enum { IMAGES = 600 };
    static const int first[] = { 0, 6, 9, 17 };           /* of shape, x/3, colour */
    ebm_data_options o = { .height = 8, .width = 8 };
    ebm_data *d = open_data("shapes:600,label=shape|x/3|colour", &o);
    ebm_data_info info = { 0 };
    int told[3] = { 0 }, wrong = 0;
    ebm_shapes_attributes a;

    if (d)
        ebm_data_describe(d, &info);
    for (size_t i = 0; d && i < IMAGES; i++) {
        float pixels[8 * 8 * 3];
        int32_t label;
        if (ebm_shapes_read(d, i, &a) < 0 || ebm_data_read(d, i, pixels, &label) < 0)
            break;
        const int expected[3] = { a.shape, (a.x >= 1 / 3.f) + (a.x >= 2 / 3.f), a.colour };
        int k = label >= first[2] ? 2 : label >= first[1];
        wrong += label - first[k] != expected[k];
        told[k]++;
    }
    tap_ok(wrong == 0 && told[0] > 150 && told[1] > 150 && told[2] > 150, "labels tell one of three attributes "
           "(%d, %d, %d times)", told[0], told[1], told[2]);
    tap_ok(info.classes == first[3] && strcmp(info.class_names[5], "ring") == 0
           && strcmp(info.class_names[6], "x 0-0.333") == 0 && strcmp(info.class_names[9], "red") == 0,
           "and their classes have the names of all");
    ebm_data_free(d);
}

/* Measuring finds what was drawn; of what is no shape, that it is none. */
static void test_measure(void)
{
    static const struct { const char *source; int size, channels, least; } cases[] = {
        { "shapes:60", 32, 3, 58 }, { "shapes:40,colour=white,background=black,size=0.2..0.35", 16, 1, 36 },
    };
    static float pixels[32 * 32 * 3];
    ebm_shapes_attributes a, found;
    double fit;

    for (size_t k = 0; k < 2; k++) {
        ebm_data_options o = { .height = cases[k].size, .width = cases[k].size, .channels = cases[k].channels };
        ebm_data *d = open_data(cases[k].source, &o);
        ebm_data_info info = { 0 };
        int right = 0, close = 0;
        if (d)
            ebm_data_describe(d, &info);
        for (size_t i = 0; i < info.count; i++) {
            if (ebm_shapes_read(d, i, &a) < 0 || ebm_data_read(d, i, pixels, NULL) < 0
                || ebm_shapes_measure(ctx, pixels, o.height, o.width, o.channels, &found, &fit) < 0)
                break;
            right += found.shape == a.shape && found.colour == a.colour && found.background == a.background;
            close += fabsf(found.x - a.x) < 0.04f && fabsf(found.y - a.y) < 0.04f
                  && fabsf(found.size - a.size) < 0.03f && fit > 0.97;
        }
        tap_ok(right >= cases[k].least && close >= cases[k].least,
               "measured: names of %d, places and sizes of %d of %zu pictures of %dx%dx%d", right, close,
               info.count, o.height, o.width, o.channels);
        ebm_data_free(d);
    }
    for (int i = 0; i < 32 * 32 * 3; i++)
        pixels[i] = (float)((i * 7919 + i / 96 * 31) % 101) / 101;
    tap_ok(ebm_shapes_measure(ctx, pixels, 32, 32, 3, &found, &fit) == EBM_OK && fit < 0.2, "noise is not explained");
    for (int i = 0; i < 32 * 32 * 3; i++)
        pixels[i] = 0.5f;
    tap_ok(ebm_shapes_measure(ctx, pixels, 32, 32, 3, &found, &fit) == EBM_OK && fit == 0, "a plain picture: 0");
    tap_ok(ebm_shapes_measure(ctx, pixels, 32, 32, 2, &found, NULL) == EBM_ERR_ARG
           && ebm_shapes_measure(ctx, pixels, 4, 32, 3, &found, NULL) == EBM_ERR_ARG, "other sizes are refused");
}

static void test_shapes(void)
{
    static const char filtered[] =
        "shapes:300,shape=star|circle,colour!=red|white,background=navy,x=0..0.4,size=0.2..0.3";
    ebm_data_options o = { .seed = 5 }, test = { .seed = 5, .split = "test" };
    ebm_data_options large = { .height = 48, .width = 64 };
    ebm_shapes_attributes a;
    ebm_data_info info;
    bool good = true, filled = true;
    unsigned shapes = 0;
    int32_t label;
    size_t i;

    ebm_data *d = open_data(filtered, &o);
    for (i = 0; d && i < 300; i++) {
        good = good && ebm_shapes_read(d, i, &a) == EBM_OK
            && (a.shape == 3 || a.shape == 0) && a.colour != 0 && a.colour != 7
            && a.background == 2 && a.size >= 0.2f && a.size <= 0.3f && a.x >= 0.2f
            && a.x <= 0.4f && a.y - a.size > -1e-6f && a.y + a.size < 1 + 1e-6f;
        shapes |= 1u << a.shape;
        read_sum(d, i, &label);
        good = good && label == a.shape;
    }
    tap_ok(d && good && shapes == 9, "shapes: filters hold, each value allowed occurs");
    ebm_data_free(d);

    d = open_data("shapes:40", &o);
    ebm_data *e = open_data("shapes:40", &test);
    ebm_data *f = open_data("shapes:40", &o);
    int differ = 0, same = 0;
    for (i = 0; d && e && f && i < 40; i++) {
        differ += read_sum(d, i, NULL) != read_sum(e, i, NULL);
        same += read_sum(d, i, NULL) == read_sum(f, 39 - (39 - i), NULL);
    }
    tap_ok(differ == 40 && same == 40, "shapes: training and test differ, the same is the same");
    ebm_data_free(d);
    ebm_data_free(e);
    ebm_data_free(f);

    d = open_data("shapes:60,shape=circle,colour=blue", &large);
    for (i = 0; d && i < 60; i++) {
        float pixels[48 * 64 * 3];

        ebm_shapes_read(d, i, &a);
        ebm_data_read(d, i, pixels, NULL);
        const float *centre = pixels + ((int)(a.y * 48) * 64 + (int)(a.x * 64)) * 3;
        float area = 0, expected = 3.14159265f * a.size * a.size * 48 * 48;
        filled = filled && centre[0] == 50 / 255.0f && centre[2] == 230 / 255.0f;
        for (int k = 0; k < 48 * 64; k++)
            area += (pixels[3 * k + 2] - pixels[2]) / (230 / 255.0f - pixels[2]);
        filled = filled && fabsf(area - expected) < 0.02f * expected;
    }
    if (d)
        ebm_data_describe(d, &info);
    tap_ok(d && filled && info.width == 64 && info.classes == 6,
           "shapes: a circle is where its attributes say, and as large");
    ebm_data_free(d);
    tap_ok(strcmp(ebm_shapes_name("shape", 3), "star") == 0 && !ebm_shapes_name("shape", 6)
           && !ebm_shapes_name("hue", 0) && !ebm_shapes_name("colour", -1), "shapes: names");
    test_shape_labels();
    test_mixed_labels();
    test_measure();
    refused("shapes:hue=3", NULL, EBM_ERR_ARG, "'hue' is no attribute");
    refused("shapes:label=hue", NULL, EBM_ERR_ARG, "'hue' is no attribute");
    refused("shapes:label=x/1", NULL, EBM_ERR_ARG, "parts");
    refused("shapes:label=shape|x|shape", NULL, EBM_ERR_ARG, "told twice");
    refused("shapes:label=colour/2", NULL, EBM_ERR_ARG, "names, not parts");
    refused("shapes:colour=pink", NULL, EBM_ERR_ARG, "'pink'");
    refused("shapes:x=0.6..0.2", NULL, EBM_ERR_ARG, "range");
    refused("shapes:x=a..b", NULL, EBM_ERR_ARG, "range");
    refused("shapes:0", NULL, EBM_ERR_ARG, "from 1");
    d = open_data(corpus("npy/one.npy"), NULL);
    tap_ok(d && ebm_shapes_read(d, 0, &a) == EBM_ERR_ARG, "attributes are known of shapes only");
    ebm_data_free(d);
}

/* --- points --- */

/* Coordinates are from [-10,10]; the squares have side 4 and form a board. */
static void test_squares(void)
{
    ebm_data_options o = { .seed = 5 }, test = { .seed = 5, .split = "test" }, large = { .height = 2, .width = 2 };
    ebm_data *d = open_data("squares:800", &o), *e = open_data("squares:800", &test);
    ebm_data_info info = { 0 };
    int inside = 0, differ = 0, of_class[8] = { 0 }, cell_of[8][2], apart = 0;
    float p[2], q[2];
    int32_t label;

    for (size_t i = 0; d && e && i < 800; i++) {
        if (ebm_data_read(d, i, p, &label) < 0 || ebm_data_read(e, i, q, NULL) < 0 || label < 0 || label > 7)
            break;
        int x = (int)floor((p[0] * 20 - 10) / 4), y = (int)floor((p[1] * 20 - 10) / 4);
        inside += x >= -2 && x < 2 && y >= -2 && y < 2 && (x + y) % 2 != 0;
        if (of_class[label]++ == 0) {
            cell_of[label][0] = x;
            cell_of[label][1] = y;
        }
        apart += cell_of[label][0] != x || cell_of[label][1] != y;
        differ += p[0] != q[0];
    }
    if (d)
        ebm_data_describe(d, &info);
    tap_ok(inside == 800 && apart == 0 && info.classes == 8 && info.height == 1 && info.width == 2
           && info.channels == 1, "squares: points of a class are in its square");
    int few = 0;
    for (int k = 0; k < 8; k++)
        few += of_class[k] < 60;
    tap_ok(few == 0 && differ > 790, "squares: all as often, others for testing");
    ebm_data_free(d);
    ebm_data_free(e);
    refused("squares:0", NULL, EBM_ERR_ARG, "squares:COUNT");
    refused("squares", &large, EBM_ERR_ARG, "1 x 2");
}

/* --- pictures written --- */

static void test_pictures(void)
{
    static const char *const texts[] = { "Software", "libebm", "Comment", "h\xc3\xa9" };
    float images[5 * 2 * 3];
    char bytes[4096];
    uint8_t row[3] = { 1, 2, 3 };
    int i;

    for (i = 0; i < 30; i++)
        images[i] = i == 0 ? NAN : i == 1 ? -3 : i == 2 ? 7 : (float)i / 30;
    ebm_picture p = { .images = images, .n = 5, .height = 2, .width = 3, .channels = 1,
                      .columns = 2, .scale = 1, .text = texts, .n_text = 4 };
    tap_ok(ebm_picture_write(ctx, in_folder("grid.png"), &p) == EBM_OK, "a grid is written");
    FILE *f = fopen(in_folder("grid.png"), "rb");
    size_t size = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f)
        fclose(f);
    bool text = false;
    for (i = 0; (size_t)i + 15 < size; i++)
        text = text || memcmp(bytes + i, "Software\0libebm", 15) == 0;
    tap_ok(text, "with its texts");
    ebm_data *d = open_data(in_folder("grid.png"), NULL);
    float pixels[10 * 8];
    ebm_data_info info = { 0 };
    if (d) {
        ebm_data_describe(d, &info);
        ebm_data_read(d, 0, pixels, NULL);
    }
    tap_ok(info.height == 10 && info.width == 8 && pixels[0] == 0 && pixels[1] == 0
           && pixels[2] == 1 && pixels[3] == 1 && fabsf(pixels[5] - 0.2f) < 0.002f
           && pixels[8 * 8 + 5] == 1, "rows of 2, gaps of 2, values clamped");
    ebm_data_free(d);
    tap_ok(png_write(ctx, in_folder("no/such.png"), row, 1, 1, 3, NULL, 0) == EBM_ERR_IO,
           "a folder that is missing: %s", ebm_message(ctx));
    p.channels = 2;
    tap_ok(ebm_picture_write(ctx, in_folder("grid.png"), &p) == EBM_ERR_ARG,
           "two channels are refused");
}

/* --- each allocation fails once --- */

static void test_faults(void)
{
    static const char *const names[] = {
        "idx/images.gz", "cifar/ten.bin", "npy/float32.npy", "npz/deflated.npz",
        "png/palette.png", "png", NULL,
    };
    size_t i;
    long n;

    for (i = 0; i < COUNT(names); i++) {
        const char *source = names[i] ? corpus(names[i]) : "shapes:5,shape=star|ring,label=x";
        ebm_data_options o = { .height = 8, .width = 8, .channels = 1,
                               .fit = EBM_FIT_STRETCH };
        struct faults faults = { 0 };
        ebm_host host = fault_host(&faults);
        bool good = true;

        if (names[i] && strcmp(names[i], "png") == 0) {   /* a folder */
            source = in_folder("");
            write_grey(in_folder("p.png"), 4, 4, 3, 50);
        }
        for (n = 0; n < 100000; n++) {
            float pixels[64];
            ebm_context *c;
            ebm_data *d = NULL;

            fault_arm(&faults, n);
            int rc = ebm_context_new(&host, &c);
            if (rc == EBM_OK) {
                rc = ebm_data_open(c, source, &o, &d);
                if (rc == EBM_OK)
                    rc = ebm_data_read(d, 0, pixels, NULL);
                good = good && (rc == EBM_OK || *ebm_message(c));
                if (rc < 0 && rc != EBM_ERR_NOMEM)
                    tap_note("%s", ebm_message(c));
                ebm_data_free(d);
                ebm_context_free(c);
            }
            good = good && faults.live == 0
                && rc == (faults.fired ? EBM_ERR_NOMEM : EBM_OK);
            if (!good)
                tap_note("allocation %ld: status %d, %ld blocks left", n, rc, faults.live);
            if (!faults.fired || !good)
                break;
        }
        tap_ok(good && n > 3, "%s: each of %ld allocations may fail",
               names[i] ? names[i] : "shapes", n);
    }
}

int main(void)
{
    char data[600];

    srcdir = getenv("srcdir") ? getenv("srcdir") : ".";
    if (!folder_make() || ebm_context_new(NULL, &ctx) < 0)
        return EXIT_FAILURE;
    snprintf(data, sizeof data, "%s/data", srcdir);
    setenv("EBM_DATA_DIR", data, 1);
    test_digits();
    test_formats();
    test_refusals();
    test_cifar();
    test_folders();
    test_resize();
    test_shapes();
    test_squares();
    test_pictures();
    rmdir(in_folder("cifar"));
    rmdir(in_folder("tree"));
    test_faults();
    ebm_context_free(ctx);
    folder_remove();
    return tap_done();
}
