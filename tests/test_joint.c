/* test_joint.c - several models as one: energies, chains, labels, refusals; chains
 * on their way.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "context.h"
#include "faults.h"
#include "io.h"
#include "run.h"
#include "tap.h"

#define ROOT "test_joint.tmp"
#define ICD ROOT "/icd/model.safetensors"
#define CD ROOT "/cd/model.safetensors"

enum { SIDE = 12, PIXELS = SIDE * SIDE * 3, N = 5, LABELS = 3 };

static ebm_context *ctx;
static ebm_backend *backend;
static float images[N * PIXELS];

static const char icd[] =
    "method = icd\nsteps = 2\nbatch = 4\n"
    "data.source = \"shapes:64,label=x/3\"\ndata.height = 12\ndata.width = 12\n"
    "data.low = 0\ndata.high = 1\ndata.dequantise = true\n"
    "icd.net = 28\nicd.width = 4\nicd.labels = 3\nicd.past = 4\nbuffer.size = 8\n"
    "langevin.steps = 2\n"
    "sample.rounds = 2\nsample.round_steps = 3\nsample.steps = 2, 4\nsample.step = 100\nsample.noise = 0.001\n"
    "sample.batch = 4\nsave.every = 10\ngrid.every = 0\n";

/* Another method, another range of pixels. */
static const char cd[] =
    "method = cd\nsteps = 2\nbatch = 4\n"
    "data.source = \"shapes:64\"\ndata.height = 12\ndata.width = 12\n"
    "energy.net = \"conv:4,s2 silu flatten linear:1\"\nbuffer.size = 8\nlangevin.steps = 2\n"
    "sample.steps = 6\nsample.batch = 4\nsave.every = 10\ngrid.every = 0\n";

static bool train(const char *text, size_t size, const char *recipe, const char *folder)
{
    ebm_train *t;
    ebm_train_options options = { .recipe = recipe, .folder = folder };

    if (io_write_whole(ctx, recipe, text, size) < 0 || ebm_train_open(backend, &options, &t) < 0)
        return false;
    bool ok = ebm_train_step(t, NULL) == EBM_OK && ebm_train_step(t, NULL) == EBM_OK
           && ebm_train_finish(t) == EBM_OK;
    ebm_train_free(t);
    return ok;
}

/* Energies of the images by one model, told a label. */
static bool energies_of(const char *path, int label, float *energies)
{
    char text[40];
    const char *const settings[] = { text };
    ebm_model *m;

    snprintf(text, sizeof text, "sample.label=%d", label);
    ebm_model_options options = { .settings = settings, .n_settings = label >= 0 };
    if (ebm_model_open(backend, path, &options, &m) < 0)
        return false;
    int status = ebm_model_energy(m, N, images, energies);
    ebm_model_free(m);
    return status == EBM_OK;
}

static bool joined_energies(int n, const ebm_model_part *parts, double any, float *energies)
{
    ebm_model *m;

    if (ebm_model_join(backend, n, parts, any, NULL, &m) < 0)
        return false;
    int status = ebm_model_energy(m, N, images, energies);
    ebm_model_free(m);
    return status == EBM_OK;
}

static double farthest(const float *a, const float *b, size_t n)
{
    double d = 0;

    for (size_t i = 0; i < n; i++)
        d = fmax(d, fabs((double)a[i] - b[i]));
    return d;
}

static void test_energies(void)
{
    const ebm_model_part sum[] = { { ICD, 2, 1 }, { CD, -0.5, -1 }, { ICD, 1, -1 } };
    const ebm_model_part two[] = { { ICD, 3, 0 }, { CD, 1, -1 } };
    float e[3][N], joint[N], expected[N], least[N];

    bool ok = energies_of(ICD, 1, e[0]) && energies_of(CD, -1, e[1]) && energies_of(ICD, -1, e[2])
           && joined_energies(3, sum, 0, joint);
    for (int i = 0; i < N; i++)
        expected[i] = 2 * e[0][i] - 0.5f * e[1][i] + e[2][i];
    tap_ok(ok && farthest(joint, expected, N) < 1e-5,
           "the sum of energies of two methods, two ranges of pixels, a label and any label%s%s",
           ok ? "" : ": ", ok ? "" : ebm_message(ctx));

    ok = energies_of(ICD, 0, e[0]) && joined_energies(2, two, 1.5, joint);
    for (int i = 0; i < N; i++)
        expected[i] = (float)(-log(3 * exp(-1.5 * e[0][i]) + exp(-1.5 * e[1][i])) / 1.5);
    tap_ok(ok && farthest(joint, expected, N) < 1e-5, "one model is enough: -1/b log sum w exp(-b E)");
    ok = joined_energies(2, two, 1e6, joint);
    for (int i = 0; i < N; i++)
        least[i] = fminf(e[0][i], e[1][i]);
    tap_ok(ok && farthest(joint, least, N) < 1e-5, "and with b large, the least energy");
}

/* Chains of a joined model. */
static bool drawn(int n, const ebm_model_part *parts, double any, float *out)
{
    ebm_model *m;

    if (ebm_model_join(backend, n, parts, any, NULL, &m) < 0)
        return false;
    int status = ebm_model_sample(m, 7, 0, N, out, NULL, NULL);
    ebm_model_free(m);
    return status == EBM_OK;
}

static void test_chains(void)
{
    static const char *const paths[] = { ICD, CD };
    static float one[N * PIXELS], two[N * PIXELS], other[N * PIXELS];

    for (int k = 0; k < 2; k++) {
        int label = k == 0 ? 2 : -1;
        const ebm_model_part alone[] = { { paths[k], 1, label } };
        const ebm_model_part twice[] = { { paths[k], 1, label }, { paths[k], 1, label } };
        const ebm_model_part mixed[] = { { paths[k], 1, label }, { paths[!k], 1, k == 0 ? -1 : 2 } };
        bool ok = drawn(1, alone, 0, one) && drawn(2, twice, 0, two) && drawn(2, mixed, 0, other);
        tap_ok(ok && farthest(one, two, N * PIXELS) < 1e-4, "%s joined with itself draws the same: %g",
               k == 0 ? "icd" : "cd", farthest(one, two, N * PIXELS));
        tap_ok(ok && farthest(one, other, N * PIXELS) > 1e-3, "and with another does not");
        /* w and 1 - w of the same in one of the two, as the gradient is that of one */
        tap_ok(drawn(2, twice, 100, two) && farthest(one, two, N * PIXELS) < 1e-4, "either of two equal ones too");
    }
}

static void test_members(void)
{
    const ebm_model_part two[] = { { ICD, 1, 0 }, { CD, 1, -1 } };
    ebm_model *m;

    if (!tap_ok(ebm_model_join(backend, 2, two, 0, NULL, &m) == EBM_OK, "a joined model"))
        return;
    tap_ok(strcmp(ebm_model_describe(m)->method, "icd") == 0 && strcmp(ebm_model_member(m, 1)->method, "cd") == 0
           && !ebm_model_member(m, 2) && !ebm_model_member(m, -1), "knows its members");
    tap_ok(strcmp(ebm_model_setting(m, "sample.rounds"), "2") == 0, "and draws as the first says");
    ebm_model_free(m);
}

static void test_refusals(void)
{
    static const struct { ebm_model_part parts[2]; double any; const char *why; int n; } wrong[] = {
        { { { ICD, 1, 3 }, { CD, 1, -1 } }, 0, "label 3", 2 },
        { { { ICD, 1, 0 }, { CD, 1, 0 } }, 0, "label 0", 2 },
        { { { ICD, 0, 0 }, { CD, 1, -1 } }, 0, "other than 0", 2 },
        { { { ICD, NAN, 0 }, { CD, 1, -1 } }, 0, "other than 0", 2 },
        { { { ICD, -1, 0 }, { CD, 1, -1 } }, 2, "above 0", 2 },
        { { { ICD, 1, 0 }, { CD, 1, -1 } }, -1, "sharpness", 2 },
        { { { ICD, 1, 0 }, { ROOT "/other/model.safetensors", 1, -1 } }, 0, "8x12x3", 2 },
        { { { ICD, 1, 0 } }, 0, "from 1", 0 },
    };
    ebm_model *m;

    for (size_t i = 0; i < COUNT(wrong); i++) {
        int rc = ebm_model_join(backend, wrong[i].n, wrong[i].parts, wrong[i].any, NULL, &m);
        tap_ok(rc == EBM_ERR_ARG && strstr(ebm_message(ctx), wrong[i].why) && !m, "refused: %s", ebm_message(ctx));
    }
    const ebm_model_part missing[] = { { ICD, 1, 0 }, { ROOT "/none", 1, -1 } };
    tap_ok(ebm_model_join(backend, 2, missing, 0, NULL, &m) == EBM_ERR_IO, "a file that is not there");
}

static int frames_of(ebm_model *m, int64_t first, int64_t n, int frames, float *chains)
{
    static float ends[N * PIXELS];
    const ebm_draw draw = { .seed = 7, .first = first, .n = n, .frames = frames, .chains = chains };

    return ebm_model_draw(m, &draw, ends);
}

/* Frames of all chains; of one start. */
static void test_frames(void)
{
    enum { FRAMES = 4 };
    static const char *const settings[] = { "sample.one_start=true" };
    const ebm_model_options from_one = { .settings = settings, .n_settings = 1 };
    static float ends[N * PIXELS], frames[N * FRAMES * PIXELS], last[PIXELS];
    ebm_model *m;

    for (int k = 0; k < 2; k++) {
        const char *path = k == 0 ? ICD : CD;
        if (!tap_ok(ebm_model_open(backend, path, NULL, &m) == EBM_OK
                    && ebm_model_sample(m, 7, 0, N, ends, NULL, NULL) == EBM_OK
                    && frames_of(m, 0, N, FRAMES, frames) == EBM_OK
                    && frames_of(m, 3, 1, 1, last) == EBM_OK, "frames of chains"))
            return;
        bool same = true, moves = true;
        for (int i = 0; i < N; i++) {
            const float *f = frames + (size_t)i * FRAMES * PIXELS;
            same = same && memcmp(f + (FRAMES - 1) * PIXELS, ends + i * PIXELS, sizeof last) == 0;
            for (int j = 1; j < FRAMES; j++)
                moves = moves && memcmp(f, f + j * PIXELS, sizeof last) != 0;
        }
        tap_ok(same && moves, "the last is the sample, others are before it");
        tap_ok(memcmp(last, ends + 3 * PIXELS, sizeof last) == 0, "one frame is the end");
        tap_ok(frames_of(m, 0, 1, 0, last) == EBM_ERR_ARG && frames_of(m, 0, 1, 2, NULL) == EBM_ERR_ARG,
               "room without frames, and frames without room, are refused");
        ebm_model_free(m);
        bool ok = ebm_model_open(backend, path, &from_one, &m) == EBM_OK
               && frames_of(m, 0, 4, FRAMES, frames) == EBM_OK;
        bool start = true, end = true;
        for (int i = 1; i < 4; i++) {
            const float *f = frames + (size_t)i * FRAMES * PIXELS;
            start = start && memcmp(f, frames, sizeof last) == 0;
            end = end && memcmp(f + (FRAMES - 1) * PIXELS, frames + (FRAMES - 1) * PIXELS, sizeof last) != 0;
        }
        tap_ok(ok && start && end, "from one start to different ends");
        ebm_model_free(m);
    }
}

/* Join and draw with an allocation failing. */
static int join_once(const ebm_host *host)
{
    const ebm_model_part two[] = { { ICD, 1, 0 }, { CD, 1, -1 } };
    float e[N];
    ebm_context *c;
    ebm_backend *b = NULL;
    ebm_model *m = NULL;
    int rc = ebm_context_new(host, &c);

    if (rc < 0)
        return rc;
    if ((rc = ebm_backend_open(c, "cpu", 1, &b)) >= 0
        && (rc = ebm_model_join(b, 2, two, 0, NULL, &m)) >= 0)
        rc = ebm_model_energy(m, N, images, e);
    ebm_model_free(m);
    ebm_backend_free(b);
    ebm_context_free(c);
    return rc;
}

static void test_faults(void)
{
    struct faults faults = { 0 };
    ebm_host host = fault_host(&faults);
    long n, wrong = 0;

    for (n = 0; ; n += n < 1200 ? 1 : 13) {
        fault_arm(&faults, n);
        int rc = join_once(&host);
        if (!faults.fired)
            break;
        wrong += !fault_told(&faults, rc) || faults.live != 0;
    }
    tap_ok(wrong == 0 && n > 100 && faults.live == 0, "up to allocation %ld failing: said, and nothing leaks", n);
}

int main(void)
{
    static char other[sizeof cd + 40];

    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 1;
    snprintf(other, sizeof other, "%s", cd);
    memcpy(strstr(other, "height = 12"), "height = 08", 11);
    if (!tap_ok(run_folder(ctx, ROOT) && train(icd, sizeof icd - 1, ROOT "/icd.recipe", ROOT "/icd")
                && train(cd, sizeof cd - 1, ROOT "/cd.recipe", ROOT "/cd")
                && train(other, strlen(other), ROOT "/other.recipe", ROOT "/other"),
                "three models: %s", ebm_message(ctx)))
        return tap_done();
    for (int i = 0; i < N * PIXELS; i++)
        images[i] = (float)((i * 37 + i / PIXELS * 11) % 101) / 101;
    test_energies();
    test_chains();
    test_members();
    test_refusals();
    test_frames();
    test_faults();
    run_remove(ctx, ROOT);
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    return tap_done();
}
