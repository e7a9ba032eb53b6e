/* test_import.c - checkpoints of other programs: what they hold, what their
 * networks compute, and what is said of those that are malformed.
 *
 * SPDX-License-Identifier: ISC
 *
 * The files, and the script that makes them with PyTorch, are in
 * tests/golden_import. */
#include "config.h"
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "faults.h"
#include "folder.h"
#include "import/foreign.h"
#include "nets/cdrl.h"
#include "tap.h"
#include "weights.h"

static ebm_context *ctx;
static ebm_backend *backend;

/* A status that should be good. */
static bool works(int status)
{
    if (status < 0)
        tap_note("%s", ebm_message(ctx));
    return status >= 0;
}

static const char *golden(const char *name)
{
    static char path[2][4096];
    static int turn;
    const char *srcdir = getenv("srcdir");
    char *to = path[turn++ % 2];

    snprintf(to, sizeof path[0], "%s/tests/golden_import/%s", srcdir ? srcdir : ".", name);
    return to;
}

/* ---- tensors of all kinds ---- */

static double counted(int i, int first)
{
    return i + first;
}

static bool elements_are(ebm_foreign *f, const char *name, int rank, const int64_t *shape,
                         double (*expected)(int i, int first), int first)
{
    const struct foreign_tensor *t = foreign_find(f, name);
    float x[64];

    if (!t || t->rank != rank || (rank > 0 && memcmp(t->shape, shape, (size_t)rank * sizeof *shape) != 0)
        || t->elements > 64 || foreign_read(f, t, x) < 0)
        return false;
    for (int i = 0; i < t->elements; i++)
        if (x[i] != (float)expected(i, first))
            return false;
    return true;
}

static double third(int i, int first)
{
    return i % 3 == first;
}

static double of_transposed(int i, int first)
{
    (void)first;
    return 2 * (i / 4 + 6 * (i % 4));
}

static double of_part(int i, int first)
{
    return 2 * (i + first);
}

static double of_step(int i, int first)
{
    (void)first;
    return 2 * (6 + 12 * (i / 2) + 3 * (i % 2));
}

static double constant(int i, int first)
{
    (void)i;
    return first;
}

static void test_kinds(const char *name, const char *format)
{
    static const char *const whole[] = { "float32", "float64", "float16", "bfloat16", "int64",
                                         "int32", "int16", "int8" };
    static const int64_t box[] = { 2, 3, 4 }, turned[] = { 6, 4 }, four[] = { 4 }, step[] = { 2, 2 },
                         two_five[] = { 2, 5 }, none[] = { 0, 3 }, three[] = { 3 };
    ebm_foreign *f;
    char full[64];
    bool all = true;

    if (!tap_ok(works(ebm_foreign_open(ctx, golden(name), &f)), "%s opens", name))
        return;
    tap_ok(!strcmp(ebm_foreign_describe(f)->format, format) && ebm_foreign_describe(f)->n_tensors == 20,
           "it is %s, of %d tensors", ebm_foreign_describe(f)->format, ebm_foreign_describe(f)->n_tensors);
    for (size_t i = 0; i < COUNT(whole); i++) {
        snprintf(full, sizeof full, "kinds/%s", whole[i]);
        bool right = elements_are(f, full, 3, box, counted, -5);
        all = all && right;
        if (!right)
            tap_note("%s", full);
    }
    tap_ok(all, "elements of eight types");
    tap_ok(elements_are(f, "kinds/uint8", 3, box, counted, 0)
           && elements_are(f, "kinds/bool", 1, (int64_t[]){ 24 }, third, 0), "and of bytes and truths");
    tap_ok(elements_are(f, "kinds/transposed", 2, turned, of_transposed, 0)
           && elements_are(f, "kinds/step", 2, step, of_step, 0), "with strides");
    tap_ok(elements_are(f, "kinds/part", 1, four, of_part, 5)
           && elements_are(f, "kinds/parameter", 1, three, of_part, 0), "parts of a storage, parameters");
    tap_ok(elements_are(f, "kinds/expanded", 2, two_five, constant, 3)
           && elements_are(f, "kinds/scalar", 0, NULL, constant, 7)
           && elements_are(f, "kinds/empty", 2, none, counted, 0), "one for many, one, none");
    tap_ok(elements_are(f, "nested/list/0", 1, four, of_part, 5)
           && elements_are(f, "nested/list/1/1", 0, NULL, constant, 7)
           && elements_are(f, "nested/same", 1, four, of_part, 5), "in lists and dictionaries");
    tap_ok(!foreign_find(f, "complex") && !foreign_find(f, "text") && pickle_is_text(foreign_value(f, "text"), "none"),
           "what is no tensor of numbers is none, and can be looked at");
    float one;
    tap_ok(ebm_foreign_read(f, 0, &one, 1) == EBM_ERR_ARG && ebm_foreign_read(f, 20, &one, 1) == EBM_ERR_ARG,
           "%s", ebm_message(ctx));
    ebm_foreign_free(f);
}

/* ---- energies ---- */

static double value(const char *name, uint64_t i)
{
    uint64_t z = 14695981039346656037u;

    for (; *name; name++)
        z = (z ^ (unsigned char)*name) * 1099511628211u;
    z += (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) / 8388608 - 1;
}

/* Two images, the second brighter, both brighter below. */
static float *images_of(int size, int channels)
{
    int row = size * channels, image = size * row;
    float *x = malloc(2 * (size_t)image * sizeof *x);

    for (int i = 0; x && i < 2 * image; i++) {
        double rise = (double)(i % image / row) / size;
        x[i] = (float)((value("x", (uint64_t)i) + 1) / 2 * (i / image + 1 + rise) / 3);
    }
    return x;
}

static int import(const char *from, const char *to, const char *setting, const char *weights)
{
    ebm_import_options options = { &setting, setting != NULL, weights };
    ebm_foreign *f;
    int status;

    if ((status = ebm_foreign_open(ctx, from, &f)) < 0)
        return status;
    status = ebm_foreign_import(f, &options, to);
    ebm_foreign_free(f);
    return status;
}

/* Of two images, label by label; false where there is no model. */
static bool energies_of(const char *model, int size, int channels, int labels, bool raw, float *energies)
{
    float *images = images_of(size, channels);
    bool fine = images != NULL;

    for (int label = 0; fine && label < (labels ? labels : 1); label++) {
        char chosen[40];
        const char *settings[] = { "sample.batch=2", chosen };
        ebm_model_options options = { settings, 2, raw, 0 };
        ebm_model *m;
        snprintf(chosen, sizeof chosen, "sample.label=%d", labels ? label : -2);
        fine = ebm_model_open(backend, model, &options, &m) >= 0;
        fine = fine && ebm_model_energy(m, 2, images, energies + 2 * label) >= 0;
        ebm_model_free(m);
    }
    if (!fine)
        tap_note("%s", ebm_message(ctx));
    free(images);
    return fine;
}

static void check_energies(const char *what, const char *model, int size, int channels, int labels, bool raw)
{
    struct safetensors *file;
    float is[8] = { 0 }, expected[8] = { 0 };
    double worst = 0, largest = 0;

    if (safetensors_open(ctx, golden("energies.safetensors"), &file) < 0)
        exit(99);
    const struct safetensor *t = safetensors_find(file, what);
    bool there = t && t->elements == 2 * (labels ? labels : 1)
              && safetensors_read(file, t, EBM_F32, expected, (size_t)t->elements * sizeof *is) >= 0
              && energies_of(model, size, channels, labels, raw, is);
    for (int i = 0; there && i < t->elements; i++) {
        worst = fmax(worst, fabs((double)is[i] - expected[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    tap_ok(there && worst < 1e-5 * largest, "%s: energies up to %.3g differ by %.1e", what, largest, worst);
    safetensors_close(file);
}

static void test_networks(void)
{
    const char *to = in_folder("model.safetensors");

    tap_ok(works(import(golden("icd-32.pth"), to, NULL, NULL)), "icd-32.pth is imported");
    check_energies("icd-32", to, 32, 3, 3, false);
    check_energies("icd-32 last", to, 32, 3, 3, true);
    check_energies("icd-32 without labels", to, 32, 3, 0, false);
    tap_ok(works(import(golden("icd-32.pth"), to, NULL, "raw")), "its last weights alone");
    check_energies("icd-32 last", to, 32, 3, 3, false);
    tap_ok(works(import(golden("icd-32.pth"), to, NULL, "model_state_dict_0")), "or by their name");
    check_energies("icd-32 last", to, 32, 3, 3, false);
    tap_ok(works(import(golden("icd-32.pth"), to, "icd.labels=0", NULL)), "without the maps of labels");
    check_energies("icd-32 without labels", to, 32, 3, 0, false);
    tap_ok(works(import(golden("icd-published.pth"), to, NULL, NULL)), "icd-published.pth is imported");
    check_energies("icd-published", to, 128, 3, 2, false);
    tap_ok(works(import(golden("icd-sum.safetensors"), to, NULL, NULL)), "icd-sum.safetensors is imported");
    check_energies("icd-sum", to, 32, 3, 2, false);
    tap_ok(works(import(golden("icd-28.safetensors"), to, NULL, NULL)), "icd-28.safetensors is imported");
    check_energies("icd-28", to, 28, 1, 0, false);
    tap_ok(works(import(golden("icd-spectral-32.pth"), to, NULL, NULL)), "icd-spectral-32.pth is imported");
    check_energies("icd-spectral-32", to, 32, 3, 2, false);
    tap_ok(works(import(golden("icd-spectral-128.pth"), to, NULL, NULL)), "icd-spectral-128.pth is imported");
    check_energies("icd-spectral-128", to, 128, 3, 2, false);
}

/* ---- cooperative diffusion recovery likelihood ---- */

static void expect(const char *what, const float *is, int64_t count)
{
    struct safetensors *file;
    float expected[256];
    double worst = 0, largest = 0;

    if (safetensors_open(ctx, golden("cdrl-outputs.safetensors"), &file) < 0)
        exit(99);
    const struct safetensor *t = safetensors_find(file, what);
    bool there = t && t->elements == count && count <= 256
              && safetensors_read(file, t, EBM_F32, expected, (size_t)count * sizeof *is) >= 0;
    for (int64_t i = 0; there && i < count; i++) {
        worst = fmax(worst, fabs((double)is[i] - expected[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    tap_ok(there && worst < 1e-5 * largest, "%s: up to %.3g, differing by %.1e", what, largest, worst);
    safetensors_close(file);
}

/* Of two images, for each setting. */
static void check_settings(const char *what, const char *model, bool raw, int n, const char *const *settings)
{
    float *images = images_of(32, 3), energies[8] = { 0 };
    bool fine = images != NULL;

    for (int i = 0; fine && i < n; i++) {
        const char *both[] = { "sample.batch=2", settings[i] };
        ebm_model_options options = { both, 2, raw, 0 };
        ebm_model *m = NULL;
        fine = works(ebm_model_open(backend, model, &options, &m))
            && works(ebm_model_energy(m, 2, images, energies + 2 * i));
        ebm_model_free(m);
    }
    if (fine)
        expect(what, energies, 2 * n);
    else
        tap_ok(false, "%s", what);
    free(images);
}

/* What the initializer of a model's file makes of the images; every 8th pixel. */
static int propose(const char *model, bool raw, const struct cdrl_proposal_spec *spec, float *part)
{
    static const int64_t shape[] = { 2, 32, 32, 3 }, one = 1;
    static float y[2 * 32 * 32 * 3];
    const float level = 2.688820f, label = 1;
    float *x = images_of(32, 3);
    struct safetensors *file = NULL;
    ebm_store *store = NULL;
    ebm_graph *g = NULL;
    ebm_program *program = NULL;
    int status;

    for (int i = 0; x && i < 2 * 32 * 32 * 3; i++)
        x[i] = 2 * x[i] - 1;
    if (!x || (status = safetensors_open(ctx, model, &file)) < 0
        || (status = ebm_store_new(backend, &store)) < 0
        || (status = ebm_graph_new(store, &g)) < 0)
        exit(99);
    ebm_net net = { .graph = g, .region = "proposal" };
    ebm_val told = spec->labels ? ebm_feed(g, "label", EBM_F32, 1, &one) : 0;
    ebm_val out = cdrl_proposal(&net, spec, ebm_feed(g, "x", EBM_F32, 4, shape),
                                ebm_feed(g, "level", EBM_F32, 1, &one), told);
    if ((status = ebm_graph_status(g)) >= 0 && (status = ebm_store_alloc(store, 1)) >= 0
        && (status = weights_load(file, raw, store)) >= 0
        && (status = ebm_compile(g, 1, &out, &program)) >= 0
        && (status = ebm_program_set(program, "x", x, sizeof y)) >= 0
        && (status = ebm_program_set(program, "level", &level, sizeof level)) >= 0
        && (!told || (status = ebm_program_set(program, "label", &label, sizeof label)) >= 0)
        && (status = ebm_program_run(program, 1)) >= 0)
        status = ebm_program_get(program, out, y, sizeof y);
    for (int i = 0; i < 2 * 4 * 4 * 3; i++)
        part[i] = y[(((i / 48) * 32 + i / 12 % 4 * 8) * 32 + i / 3 % 4 * 8) * 3 + i % 3];
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
    safetensors_close(file);
    free(x);
    return status;
}

static void check_proposal(const char *what, const char *model, bool raw, const struct cdrl_proposal_spec *spec)
{
    float part[96] = { 0 };

    works(propose(model, raw, spec, part));
    expect(what, part, 96);
}

static void test_cdrl(void)
{
    const struct cdrl_proposal_spec plain = { .width = 32, .stages = 2, .blocks = 1, .attention = 2 };
    const struct cdrl_proposal_spec labelled = { .width = 32, .stages = 2, .blocks = 2, .attention = 3, .labels = 2 };
    const char *to = in_folder("model.safetensors");
    const ebm_model_info *info;

    tap_ok(works(import(golden("cdrl.pth"), to, NULL, NULL)), "cdrl.pth is imported");
    check_settings("cdrl", to, false, 1, (const char *[]){ "sample.level=0" });
    check_settings("cdrl level 3", to, false, 1, (const char *[]){ "sample.level=3" });
    check_settings("cdrl last", to, true, 1, (const char *[]){ "sample.level=0" });
    check_proposal("cdrl proposal", to, false, &plain);
    check_proposal("cdrl last proposal", to, true, &plain);
    if (tap_ok(works(ebm_model_inspect(ctx, to, &info)), "the model can be looked at"))
        tap_ok(info->steps == 77 && strstr(info->recipe, "cdrl.multipliers = 1, 2\n")
               && strstr(info->recipe, "cdrl.blocks = 2\n") && strstr(info->recipe, "proposal.attention = 2\n"),
               "its steps and sizes are found");
    ebm_model_info_free(ctx, info);
    tap_ok(works(import(golden("cdrl.pth"), to, NULL, "raw")), "its last weights alone");
    check_settings("cdrl last level 3", to, false, 1, (const char *[]){ "sample.level=3" });
    tap_ok(import(golden("cdrl.pth"), to, NULL, "p_state_dict") == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(works(import(golden("cdrl-labels.pth"), to, NULL, NULL)), "cdrl-labels.pth is imported");
    check_settings("cdrl-labels", to, false, 3, (const char *[]){ "sample.label=-2", "sample.label=0", "sample.label=1" });
    check_proposal("cdrl-labels proposal", to, false, &labelled);
}

static void test_model(void)
{
    const ebm_model_info *info;
    const char *to = in_folder("model.safetensors");

    import(golden("icd-32.pth"), to, "sample.rounds=3", NULL);
    if (!tap_ok(ebm_model_inspect(ctx, to, &info) == EBM_OK, "an imported model can be looked at"))
        return;
    tap_ok(!strcmp(info->method, "icd") && info->height == 32 && info->channels == 3
           && strstr(info->data, "icd-32.pth"), "%s, %dx%d, %s", info->method, info->height, info->width,
           info->data);
    tap_ok(strstr(info->recipe, "icd.width = 4\n") && strstr(info->recipe, "icd.labels = 3\n")
           && strstr(info->recipe, "sample.step = 10\n") && strstr(info->recipe, "sample.rounds = 3\n"),
           "its settings are inferred, found beside the weights, and given");
    ebm_model_info_free(ctx, info);
    tap_ok(import(golden("icd-32.pth"), to, NULL, "model_state_dict_7") == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(import(golden("icd-32.pth"), to, "icd.wdith=8", NULL) == EBM_ERR_ARG, "%s", ebm_message(ctx));
    tap_ok(import(golden("icd-32.pth"), to, "icd.width=8", NULL) == EBM_ERR_FORMAT, "%s", ebm_message(ctx));
    tap_ok(import(golden("icd-32.pth"), "/nonexistent/model", NULL, NULL) == EBM_ERR_IO, "%s", ebm_message(ctx));
    tap_ok(import(golden("types-zip.pth"), to, NULL, NULL) == EBM_ERR_FORMAT, "%s", ebm_message(ctx));
}

/* ---- malformed ---- */

/* Opening bytes fails with EBM_ERR_FORMAT, worded with `says`. */
static void refused(const char *what, const void *bytes, size_t size, const char *says)
{
    ebm_foreign *f = NULL;
    int status = foreign_memory(ctx, bytes, size, "it", &f);

    tap_ok(status == EBM_ERR_FORMAT && strstr(ebm_message(ctx), says), "%s: %s", what,
           status < 0 ? ebm_message(ctx) : "was taken");
    ebm_foreign_free(f);
}

static uint8_t *read_file(const char *name, size_t *size)
{
    FILE *in = fopen(golden(name), "rb");
    uint8_t *bytes = malloc(1 << 20);

    if (!in || !bytes)
        exit(99);
    *size = fread(bytes, 1, 1 << 20, in);
    fclose(in);
    return bytes;
}

#define MAGIC "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define START MAGIC "\x80\x02M\xe9\x03." "\x80\x02}."
#define STORAGE "(U\x07storagectorch\nFloatStorage\nU\x01" "0U\x03" "cpuK\x04tQ"
#define TENSOR(offset, shape, strides) \
    "\x80\x02}U\x01w" "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE offset shape strides "\x89}tRs."
#define KEYS "\x80\x02]U\x01" "0a."
#define FLOATS "\4\0\0\0\0\0\0\0" "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40"
#define LEGACY(what, says, bytes) refused(what, START bytes, sizeof(START bytes) - 1, says)

static void test_legacy(void)
{
    static const char good[] = START TENSOR("K\x01", "K\x03\x85", "K\x01\x85") KEYS FLOATS;
    ebm_foreign *f;

    tap_ok(works(foreign_memory(ctx, good, sizeof good - 1, "it", &f))
           && elements_are(f, "w", 1, (int64_t[]){ 3 }, counted, 2), "a handmade file");
    ebm_foreign_free(f);
    refused("nothing", "", 0, "no checkpoint");
    refused("some text", "hello, this is no checkpoint at all", 30, "no checkpoint");
    refused("a pickle of something else", "\x80\x02}q\0.", 6, "not one of PyTorch");
    refused("the magic alone", MAGIC, sizeof MAGIC - 1, "ends early");
    refused("another version", MAGIC "\x80\x02M\xe8\x03." "\x80\x02}.", sizeof MAGIC + 10, "another version");
    LEGACY("beyond its storage", "beyond its storage", TENSOR("K\x01", "K\x04\x85", "K\x01\x85") KEYS FLOATS);
    LEGACY("beyond by its stride", "beyond its storage", TENSOR("K\x01", "K\x03\x85", "K\x02\x85") KEYS FLOATS);
    LEGACY("beyond by its offset", "beyond its storage", TENSOR("K\x05", "K\x01\x85", "K\x01\x85") KEYS FLOATS);
    LEGACY("a negative size", "no count", TENSOR("K\x01", "J\xff\xff\xff\xff\x85", "K\x01\x85") KEYS FLOATS);
    LEGACY("a huge size", "too many", TENSOR("K\0", "\x8a\x08\0\0\0\0\0\0\0\x40K\x10\x86", "K\0K\0\x86") KEYS FLOATS);
    LEGACY("many from one element", "more elements than are stored",
           TENSOR("K\0", "\x8a\x08\0\0\0\0\x01\0\0\0\x85", "K\0\x85") KEYS FLOATS);
    LEGACY("shape and strides apart", "not described", TENSOR("K\0", "K\x01\x85", ")") KEYS FLOATS);
    LEGACY("seven axes", "more axes", TENSOR("K\0", "(K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1t") KEYS FLOATS);
    LEGACY("without storages", "ends early", TENSOR("K\x01", "K\x03\x85", "K\x01\x85") KEYS);
    LEGACY("without keys", "missing", TENSOR("K\x01", "K\x03\x85", "K\x01\x85") "\x80\x02]." FLOATS);
    LEGACY("a key twice", "there already", TENSOR("K\x01", "K\x03\x85", "K\x01\x85") "\x80\x02]U\x01" "0aU\x01" "0a." FLOATS FLOATS);
    LEGACY("storages of another size", "elements", TENSOR("K\x01", "K\x03\x85", "K\x01\x85") KEYS "\5\0\0\0\0\0\0\0" "0123456789abcdefghij");
    LEGACY("a storage too short", "early", TENSOR("K\x01", "K\x03\x85", "K\x01\x85") KEYS "\4\0\0\0\0\0\0\0" "\0\0");
    LEGACY("an unknown storage", "not known", "\x80\x02(U\x07storagectorch\nOddStorage\nU\x01" "0U\x03" "cpuK\x04tQ.");
    LEGACY("a tensor without a storage", "no storage",
           "\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n(NK\0)" ")tR." "\x80\x02].");
    LEGACY("two sizes of a storage", "in two ways", "\x80\x02(" STORAGE
           "(U\x07storagectorch\nFloatStorage\nU\x01" "0U\x03" "cpuK\x05tQt." "\x80\x02].");
}

/* An archive with every `from` in it changed to `to`, of the same length. */
static void changed(const char *what, const char *from, const char *to, const char *says)
{
    size_t size, n = strlen(from);
    uint8_t *bytes = read_file("types-zip.pth", &size);

    for (size_t i = 0; i + n <= size; i++)
        if (memcmp(bytes + i, from, n) == 0)
            memcpy(bytes + i, to, n);
    refused(what, bytes, size, says);
    free(bytes);
}

static void test_zip(void)
{
    changed("no data.pkl", "/data.pkl", "/data.pkx", "without data.pkl");
    changed("a storage missing", "/data/0", "/data/x", "'0' is missing");
    changed("a damaged pickle", "_rebuild_tensor_v2", "_rebuild_tensor_v9", "checksum");
    changed("another byte order", "little", "middle", "checksum");
    changed("no directory", "PK\1\2", "PK\1\3", "directory");
}

/* A pickle alone. */
static int pickled(const char *bytes, size_t size, struct pickle **p)
{
    size_t used;

    return pickle_read(ctx, "it", (const uint8_t *)bytes, size, p, &used);
}

#define WRONG(what, says, bytes) do { struct pickle *p_; \
    int s_ = pickled(bytes, sizeof(bytes) - 1, &p_); \
    tap_ok(s_ == EBM_ERR_FORMAT && strstr(ebm_message(ctx), says), "%s: %s", what, \
           s_ < 0 ? ebm_message(ctx) : "was taken"); pickle_free(p_); } while (0)

static void test_pickle(void)
{
    static const char all[] = "\x80\x02(I12\nL34L\nL123456789012345678901\nI01\nF2.5\nS'text'\nVmore\n"
        "(i__main__\nthing\n(cm\nn\nK\1o}(U\1aK\1U\1aK\2u]p0\ng0\nal.";
    static const char frame[] = "\x80\x04\x95\x08\0\0\0\0\0\0\0\x8c\1a\x94\x8c\1b\x93)\x81}\x8c\1xK\x07sb.";
    struct pickle *p;

    bool read = tap_ok(works(pickled(all, sizeof all - 1, &p)), "opcodes of protocol 0");
    const struct pickle_value *v = read ? pickle_root(p) : NULL;
    tap_ok(v && v->count == 11 && v->items[1]->integer == 34 && v->items[2]->kind == PICKLE_LONG
           && v->items[3]->kind == PICKLE_BOOL && v->items[4]->number == 2.5
           && pickle_is_text(v->items[5], "text") && pickle_is_global(v->items[7]->callable, "__main__.thing")
           && v->items[8]->arguments->count == 1, "and what they say");
    tap_ok(v && pickle_get(v->items[9], "a")->integer == 2 && !pickle_get(v->items[9], "b"),
           "the last of equal keys counts");
    tap_ok(v && v->items[10]->items[0] == v->items[10], "a list may hold itself");
    pickle_free(p);
    read = tap_ok(works(pickled(frame, sizeof frame - 1, &p)), "and of protocol 4");
    tap_ok(read && pickle_get(pickle_root(p), "x")->integer == 7
           && pickle_is_global(pickle_root(p)->callable, "a.b"), "an object by its state");
    pickle_free(p);
    WRONG("nothing", "ends early", "");
    WRONG("no end", "ends early", "\x80\x02K\1");
    WRONG("protocol 6", "protocol", "\x80\x06.");
    WRONG("an unknown opcode", "opcode", "\x80\x02\xff.");
    WRONG("an extension", "opcode", "\x80\x02\x82\1.");
    WRONG("an empty stack", "missing", "\x80\x02.");
    WRONG("no arguments", "missing", "\x80\x02NR.");
    WRONG("no mark", "mark", "\x80\x02Nt.");
    WRONG("below a mark", "missing", "\x80\x02N(R.");
    WRONG("a key alone", "no value", "\x80\x02(Nd.");
    WRONG("a key alone, later", "takes none", "\x80\x02}(Nu.");
    WRONG("items of a number", "takes none", "\x80\x02K\1Na.");
    WRONG("pairs for a list", "takes none", "\x80\x02]NNs.");
    WRONG("a text without end", "ends within", "\x80\x02X\xff\xff\xff\x7fno.");
    WRONG("a text of 2^63 bytes", "ends within", "\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fno.");
    WRONG("a line without end", "ends within", "\x80\x02" "cmodule");
    WRONG("a memo far away", "memo", "\x80\x02Nr\xff\xff\xff\x7f.");
    WRONG("a memo never written", "not remembered", "\x80\x02h\x05.");
    WRONG("two values", "left over", "\x80\x02NN.");
    WRONG("a name that is none", "no text", "\x80\x04NN\x93.");
}

/* A list of a list of a list ..., each of two of the next: as many tensors as there
 * are paths, 2^40. */
static void test_paths(void)
{
    static char bytes[4096] = START;
    size_t n = sizeof START - 1;
    static const char tensor[] = "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\0)" ")\x89}tR";

    memcpy(bytes + n, "\x80\x02", 2);
    n += 2;
    memcpy(bytes + n, tensor, sizeof tensor - 1);
    n += sizeof tensor - 1;
    for (int i = 0; i < 14; i++) {
        memcpy(bytes + n, "2\x86", 2);
        n += 2;
    }
    bytes[n++] = '.';
    memcpy(bytes + n, KEYS FLOATS, sizeof(KEYS FLOATS) - 1);
    n += sizeof(KEYS FLOATS) - 1;
    refused("2^14 paths to a tensor in a small file", bytes, n, "too many tensors");
}

/* Any byte changed or cut away: an answer, and if it opens, all can be read. */
static void test_damage(const char *name)
{
    size_t size;
    uint8_t *bytes = read_file(name, &size), *copy = malloc(size);
    long opened = 0, silent = 0;

    for (size_t at = 0; copy && at < size; at++)
        for (int cut = 0; cut < 2; cut++) {
            ebm_foreign *f = NULL;
            memcpy(copy, bytes, size);
            copy[at] ^= 0x21;
            int status = foreign_memory(ctx, copy, cut ? at : size, "it", &f);
            opened += status >= 0;
            silent += status < 0 && !*ebm_message(ctx);
            for (int i = 0; f && i < ebm_foreign_describe(f)->n_tensors; i++) {
                float x[256];
                const struct foreign_tensor *t = &f->tensors[i];
                if (t->elements <= 256 && foreign_read(f, t, x) < 0)
                    silent += !*ebm_message(ctx);
            }
            ebm_foreign_free(f);
        }
    tap_ok(copy && silent == 0, "%s, every byte changed or cut: answered (%ld of %zu opened)", name, opened,
           2 * size);
    free(copy);
    free(bytes);
}

/* Each allocation fails once. */
static void test_memory(const char *name)
{
    struct faults f = { .left = -1 };
    ebm_host host = fault_host(&f);
    long wrong = 0, leaks = 0, n;

    for (n = 0; ; n += n < 400 ? 1 : 17) {
        ebm_context *own;
        ebm_foreign *file = NULL;
        fault_arm(&f, n);
        int status = ebm_context_new(&host, &own);
        if (status >= 0) {
            status = ebm_foreign_open(own, golden(name), &file);
            if (status >= 0)
                status = ebm_foreign_import(file, NULL, in_folder("faults.safetensors"));
            ebm_foreign_free(file);
            wrong += f.fired && status != EBM_ERR_NOMEM;
            if (f.fired && status != EBM_ERR_NOMEM)
                tap_note("allocation %ld: %s", n, ebm_message(own));
            ebm_context_free(own);
        }
        leaks += f.live != 0;
        if (!f.fired)
            break;
    }
    tap_ok(wrong == 0 && leaks == 0, "%s: of %ld allocations each may fail", name, n);
}

int main(void)
{
    if (!folder_make() || ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 99;
    test_kinds("types-zip.pth", "PyTorch (zip)");
    test_kinds("types-legacy.pth", "PyTorch (legacy)");
    test_kinds("types-legacy-4.pth", "PyTorch (legacy)");
    test_kinds("types-big.pth", "PyTorch (zip)");
    test_networks();
    test_cdrl();
    test_model();
    test_pickle();
    test_legacy();
    test_zip();
    test_paths();
    test_damage("types-legacy.pth");
    test_damage("types-legacy-4.pth");
    test_damage("types-zip.pth");
    test_memory("icd-28.safetensors");
    test_memory("icd-published.pth");
    test_memory("cdrl.pth");
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    folder_remove();
    return tap_done();
}
