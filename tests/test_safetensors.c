/* test_safetensors.c - what is written is read back; what is malformed is
 * refused with a reason.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <math.h>
#include <stdint.h>
#include "safetensors.h"
#include "folder.h"
#include "tap.h"

static ebm_context *ctx;

static void put_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");

    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
        perror(path);
        exit(99);
    }
}

/* A file of a header and `size` bytes of data. */
static void put_safetensors(const char *path, const char *header, const void *data, size_t size)
{
    size_t n = strlen(header);
    char *all = calloc(8 + n + size, 1);

    for (int i = 0; i < 8; i++)
        all[i] = (char)(n >> 8 * i);
    memcpy(all + 8, header, n);
    if (data)
        memcpy(all + 8 + n, data, size);
    put_file(path, all, 8 + n + size);
    free(all);
}

static int fetch_bytes(void *user, const char *name, size_t offset, void *to, size_t size)
{
    (void)name;
    (void)offset;
    memset(to, *(int *)user, size);
    return EBM_OK;
}

static int fetch_fails(void *user, const char *name, size_t offset, void *to, size_t size)
{
    (void)user;
    (void)offset;
    (void)to;
    (void)size;
    return ebm_fail(ctx, EBM_ERR_DEVICE, "no '%s' today", name);
}

static int write_example(const char *path, char digest[SHA256_TEXT])
{
    static const float weights[6] = { 1, -2.5f, 3, 4, INFINITY, 6e-40f };
    static const int32_t counter[2] = { INT32_MIN, 7 };
    static const uint8_t bytes[3] = { 0, 128, 255 };
    static const int64_t shape[2] = { 2, 3 }, two = 2, three = 3, none = 0, many = 100000;
    static const float scalar = 42;
    static int seven = 7;
    struct safetensors_writer *w;

    if (safetensors_writer_new(ctx, &w) < 0)
        return -1;
    safetensors_add_metadata(w, "format", "ebm");
    safetensors_add_metadata(w, "recipe", "a = 1\nb = \"x\\y\"\t\x01\n");
    safetensors_add_metadata(w, "format", "ebm 1");
    safetensors_add(w, "energy/conv1.weight", EBM_F32, 2, shape, weights);
    safetensors_add(w, "odd \"name\"", EBM_U8, 1, &three, bytes);
    safetensors_add(w, "rng", EBM_I32, 1, &two, counter);
    safetensors_add(w, "nothing", EBM_F32, 1, &none, NULL);
    safetensors_add(w, "scalar", EBM_F32, 0, NULL, &scalar);
    safetensors_add_fetched(w, "buffer", EBM_U8, 1, &many, fetch_bytes, &seven);
    int rc = safetensors_write(w, path, digest);
    safetensors_writer_free(w);
    return rc;
}

static void test_round_trip(void)
{
    char digest[SHA256_TEXT], again[SHA256_TEXT];
    struct safetensors *f;
    float weights[6], scalar;
    int32_t counter[2];
    uint8_t *buffer = malloc(100000);
    const int64_t shape[2] = { 2, 3 }, wrong[2] = { 3, 2 };
    const char *path = in_folder("example.safetensors"), *key, *text;

    tap_ok(write_example(path, digest) == EBM_OK, "writes");
    tap_ok(write_example(in_folder("again.safetensors"), again) == EBM_OK
           && !strcmp(digest, again), "the same calls make the same bytes");
    if (!tap_ok(safetensors_open(ctx, path, &f) == EBM_OK, "opens: %s", ebm_message(ctx)))
        return;
    tap_ok(safetensors_count(f) == 6, "has six tensors");
    tap_ok(!strcmp(safetensors_metadata(f, "format"), "ebm 1"), "a key again replaces");
    tap_ok(!strcmp(safetensors_metadata(f, "recipe"), "a = 1\nb = \"x\\y\"\t\x01\n"),
           "metadata keep every character");
    tap_ok(safetensors_metadata_at(f, 2, &key, &text) && !strcmp(key, "sha256")
           && !strcmp(text, digest) && !safetensors_metadata_at(f, 3, &key, &text),
           "the checksum is the last entry");
    tap_ok(safetensors_read_shaped(f, "energy/conv1.weight", EBM_F32, 2, shape, weights) == 0
           && weights[1] == -2.5f && isinf(weights[4]) && weights[5] == 6e-40f, "floats");
    tap_ok(safetensors_read_shaped(f, "energy/conv1.weight", EBM_F32, 2, wrong, weights)
           == EBM_ERR_FORMAT && strstr(ebm_message(ctx), "[2,3]"), "%s", ebm_message(ctx));
    tap_ok(safetensors_read(f, safetensors_find(f, "rng"), EBM_I32, counter, 8) == 0
           && counter[0] == INT32_MIN && counter[1] == 7, "integers");
    tap_ok(safetensors_read(f, safetensors_find(f, "rng"), EBM_I32, counter, 4) == EBM_ERR_ARG,
           "the size of the room is checked");
    tap_ok(safetensors_read(f, safetensors_find(f, "rng"), EBM_F32, counter, 8)
           == EBM_ERR_FORMAT, "%s", ebm_message(ctx));
    tap_ok(safetensors_read_shaped(f, "scalar", EBM_F32, 0, NULL, &scalar) == 0
           && scalar == 42, "a scalar");
    tap_ok(safetensors_find(f, "nothing")->elements == 0, "an empty tensor");
    tap_ok(safetensors_find(f, "odd \"name\"") != NULL, "an odd name");
    tap_ok(safetensors_read(f, safetensors_find(f, "buffer"), EBM_U8, buffer, 100000) == 0
           && buffer[0] == 7 && buffer[99999] == 7, "a fetched tensor");
    tap_ok(safetensors_verify(f) == EBM_OK, "its checksum is right");
    safetensors_close(f);
    free(buffer);
}

static void test_damage(void)
{
    const char *path = in_folder("example.safetensors"), *bad = in_folder("bad.safetensors");
    struct safetensors *f;
    FILE *in = fopen(path, "rb");
    static char all[200000], copy[200000];
    size_t n = in ? fread(all, 1, sizeof all, in) : 0;
    int missed = 0;

    if (in)
        fclose(in);
    for (size_t at = 0; at < n; at += at < 1200 ? 1 : 4099) {
        memcpy(copy, all, n);
        copy[at] ^= 0x20;
        put_file(bad, copy, n);
        if (safetensors_open(ctx, bad, &f) == EBM_OK) {
            missed += safetensors_verify(f) == EBM_OK;
            safetensors_close(f);
        }
    }
    tap_ok(n > 100000 && missed == 0, "any altered byte is noticed (%d missed)", missed);
    missed = 0;
    for (size_t cut = 0; cut < n; cut += cut < 1200 ? 1 : 997) {
        put_file(bad, all, cut);
        missed += safetensors_open(ctx, bad, &f) != EBM_ERR_FORMAT;
    }
    tap_ok(missed == 0, "any cut is noticed: %s", ebm_message(ctx));
}

static void test_conversions(void)
{
    static const uint8_t halves[] = { 0, 0x3c, 1, 0, 0, 0xc0, 0, 0x7c };
    static const uint8_t bf16[] = { 0x80, 0x3f, 0x20, 0xc1 };
    static const uint8_t longs[] = { 255, 255, 255, 255, 255, 255, 255, 255,
                                     0, 0, 0, 128, 0, 0, 0, 0 };
    const char *path = in_folder("types.safetensors");
    uint8_t data[8 + 4 + 16 + 8 + 1];
    const double pi = 3.141592653589793;
    struct safetensors *f;
    float v[4];
    int32_t i[2];
    uint8_t b;
    uint64_t bits;

    memcpy(data, halves, 8);
    memcpy(data + 8, bf16, 4);
    memcpy(data + 12, longs, 16);
    memcpy(&bits, &pi, 8);
    for (int k = 0; k < 8; k++)
        data[28 + k] = (uint8_t)(bits >> 8 * k);
    data[36] = 1;
    put_safetensors(path,
        "{\"h\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[0,8]},"
        "\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[8,12]},"
        "\"l\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[12,20]},"
        "\"big\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[20,28]},"
        "\"d\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[28,36]},"
        "\"t\":{\"dtype\":\"BOOL\",\"shape\":[1,1,1],\"data_offsets\":[36,37]}}   ",
        data, sizeof data);
    if (!tap_ok(safetensors_open(ctx, path, &f) == EBM_OK, "types: %s", ebm_message(ctx)))
        return;
    tap_ok(safetensors_read(f, safetensors_find(f, "h"), EBM_F32, v, 16) == 0 && v[0] == 1
           && v[1] == ldexpf(1, -24) && v[2] == -2 && isinf(v[3]), "F16 to float");
    tap_ok(safetensors_read(f, safetensors_find(f, "b"), EBM_F32, v, 8) == 0 && v[0] == 1
           && v[1] == -10, "BF16 to float");
    tap_ok(safetensors_read(f, safetensors_find(f, "d"), EBM_F32, v, 4) == 0
           && v[0] == (float)pi, "F64 to float");
    tap_ok(safetensors_read(f, safetensors_find(f, "l"), EBM_I32, i, 4) == 0 && i[0] == -1,
           "I64 to int32");
    tap_ok(safetensors_read(f, safetensors_find(f, "big"), EBM_I32, i, 4) == EBM_ERR_FORMAT,
           "%s", ebm_message(ctx));
    tap_ok(safetensors_read(f, safetensors_find(f, "t"), EBM_U8, &b, 1) == 0 && b == 1,
           "BOOL to byte");
    safetensors_close(f);
}

static void test_refusals(void)
{
    static const struct { const char *header; int data; const char *why; } cases[] = {
        { "[]", 0, "'{'" },
        { "{", 0, "header" },
        { "{\"a\":1}", 0, "needs dtype" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "duplicate" },
        { "{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "type" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "whole" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "whole" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "fit" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "fit" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "two" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "ends early" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "end at" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "gap" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "overlap" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
          "\"data_offsets\":[0,0]}}", 0, "counted" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],"
          "\"data_offsets\":[0,0]}}", 0, "header" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],"
          "\"data_offsets\":[0,1]}}", 1, "axes" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, "whole" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, "else" },
        { "{\"__metadata__\":{\"a\":1}}", 0, "no text" },
        { "{\"__metadata__\":[]}", 0, "no object" },
    };
    const char *path = in_folder("refused.safetensors");
    struct safetensors *f;

    for (size_t i = 0; i < COUNT(cases); i++) {
        put_safetensors(path, cases[i].header, NULL, (size_t)cases[i].data);
        int rc = safetensors_open(ctx, path, &f);
        tap_ok(rc == EBM_ERR_FORMAT && !f && strstr(ebm_message(ctx), cases[i].why),
               "refused: %s", ebm_message(ctx) + strlen(folder) + 1);
        safetensors_close(f);
    }
    put_file(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    tap_ok(safetensors_open(ctx, path, &f) == EBM_ERR_FORMAT, "a header beyond the file");
    tap_ok(safetensors_open(ctx, in_folder("absent"), &f) == EBM_ERR_IO, "%s", ebm_message(ctx));
    tap_ok(safetensors_open(ctx, folder, &f) == EBM_ERR_IO, "a folder is no file");
    put_safetensors(path, "{}", NULL, 0);
    tap_ok(safetensors_open(ctx, path, &f) == EBM_OK, "no tensors at all are allowed");
    tap_ok(safetensors_verify(f) == EBM_ERR_FORMAT, "but there is no checksum");
    safetensors_close(f);
}

static void test_writer_errors(void)
{
    const int64_t one = 1, huge[2] = { INT64_MAX, INT64_MAX };
    const char *path = in_folder("kept.safetensors");
    struct safetensors_writer *w;
    float x = 1;

    put_file(path, "kept", 4);
    if (safetensors_writer_new(ctx, &w) < 0)
        return;
    safetensors_add(w, "a", EBM_F32, 1, &one, &x);
    safetensors_add_fetched(w, "b", EBM_F32, 1, &one, fetch_fails, NULL);
    tap_ok(safetensors_write(w, path, NULL) == EBM_ERR_DEVICE, "a fetch that fails ends it");
    char *text;
    size_t size;
    tap_ok(io_read_whole(ctx, path, 100, &text, &size) == EBM_OK && size == 4,
           "and leaves the file as it was");
    mem_free(ctx, text);
    char **names;
    int n, temporaries = 0;
    io_names(ctx, folder, &names, &n);
    for (int i = 0; i < n; i++)
        temporaries += names[i][0] == '.';
    io_free_names(ctx, names, n);
    tap_ok(temporaries == 0, "and no temporary");
    safetensors_add(w, "a", EBM_F32, 1, &one, &x);
    tap_ok(safetensors_write(w, path, NULL) == EBM_ERR_ARG, "a name twice: %s", ebm_message(ctx));
    safetensors_writer_free(w);

    if (safetensors_writer_new(ctx, &w) < 0)
        return;
    safetensors_add(w, "a", EBM_F32, 2, huge, &x);
    tap_ok(safetensors_write(w, path, NULL) == EBM_ERR_ARG, "%s", ebm_message(ctx));
    safetensors_writer_free(w);
    if (safetensors_writer_new(ctx, &w) < 0)
        return;
    safetensors_add_metadata(w, "a", "\xc0\x80");
    tap_ok(safetensors_write(w, path, NULL) == EBM_ERR_ARG, "%s", ebm_message(ctx));
    safetensors_writer_free(w);
    if (safetensors_writer_new(ctx, &w) < 0)
        return;
    tap_ok(safetensors_write(w, "/nowhere/at/all", NULL) == EBM_ERR_IO, "%s", ebm_message(ctx));
    safetensors_writer_free(w);
}

static void test_sha256(bool fast)
{
    char text[SHA256_TEXT];
    struct sha256 h;

    sha256_begin(&h);
    h.fast = h.fast && fast;
    sha256_end(&h, text);
    tap_ok(!strcmp(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
           "SHA-256 of nothing");
    sha256_begin(&h);
    h.fast = h.fast && fast;
    sha256_add(&h, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    sha256_end(&h, text);
    tap_ok(!strcmp(text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
           "SHA-256 of two blocks");
    sha256_begin(&h);
    h.fast = h.fast && fast;
    for (int i = 0; i < 1000000; i += 125)
        for (int n = 1; n <= 125; n += 124)
            sha256_add(&h, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                       (size_t)(n == 1 ? 1 : 124));
    sha256_end(&h, text);
    tap_ok(!strcmp(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
           "SHA-256 of a million letters, in pieces");
}

int main(void)
{
    if (!folder_make() || ebm_context_new(NULL, &ctx) < 0)
        return 99;
    test_sha256(true);                /* as the processor can; then the plain way */
    test_sha256(false);
    test_round_trip();
    test_damage();
    test_conversions();
    test_refusals();
    test_writer_errors();
    ebm_context_free(ctx);
    folder_remove();
    return tap_done();
}
