/* test_cdrl_toy.c - the recipe cdrl-squares learns: points on eight squares of a
 * chessboard, whose energies become sharper from the noisiest level down.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ebm.h"
#include "io.h"
#include "run.h"
#include "source.h"
#include "tap.h"

#define ROOT "test_cdrl_toy.tmp"

enum { LEVELS = 6, FIELDS = 16, POINTS = 1000 };

/* How much of an image each level's state has: the authors' schedule. */
static const double signal[LEVELS] = { 0.99997228, 0.96765888, 0.87633861, 0.73158007, 0.54221050, 0.31977747 };

/* Of a chessboard of 4 x 4 fields of side 4 around the origin: has it points? */
static bool filled(int column, int row)
{
    return (column + row) % 2 != 0;
}

static int learn(ebm_backend *backend)
{
    static const char *const settings[] = { "steps=300", "seed=1", "grid.every=0", "save.every=300", "log.every=100" };
    ebm_train_options options = {
        .folder = ROOT, .recipe = "cdrl-squares", .settings = settings, .n_settings = 5,
    };
    ebm_train_metrics metrics = { 0 };
    ebm_train *train = NULL;
    int rc;

    if ((rc = ebm_train_open(backend, &options, &train)) < 0)
        return rc;
    while (rc >= 0 && metrics.step < 300)
        rc = ebm_train_step(train, &metrics);
    if (rc >= 0)
        rc = ebm_train_finish(train);
    ebm_train_free(train);
    return rc;
}

static void test_samples(ebm_backend *backend)
{
    static float points[POINTS][2];
    int in[FIELDS] = { 0 }, inside = 0, least = POINTS;
    ebm_model *model = NULL;
    bool ok = ebm_model_open(backend, ROOT "/model.safetensors", NULL, &model) == EBM_OK
           && ebm_model_sample(model, 2, 0, POINTS, points[0], NULL, NULL) == EBM_OK;

    for (int i = 0; ok && i < POINTS; i++) {
        /* fields are 4 of the 20 that [0,1] stands for */
        double x = points[i][0] * 5 - 0.5, y = points[i][1] * 5 - 0.5;
        if (x >= 0 && x < 4 && y >= 0 && y < 4)
            in[4 * (int)x + (int)y]++;
    }
    for (int k = 0; k < FIELDS; k++)
        if (filled(k / 4, k % 4)) {
            inside += in[k];
            least = in[k] < least ? in[k] : least;
        }
    ebm_model_free(model);
    tap_ok(ok && least > POINTS / 40, "samples are in all eight squares, at least %d of %d in each", least, POINTS);
    tap_ok(ok && inside > 0.55 * POINTS, "most are within them (%d); the squares are a third of the plane", inside);
}

/* Mean energy amid the empty fields less that amid the filled ones, as level t sees them. */
static double contrast(ebm_backend *backend, int t)
{
    char level[40];
    const char *const settings[] = { level };
    ebm_model_options options = { .settings = settings, .n_settings = 1 };
    float points[FIELDS][2], energies[FIELDS];
    ebm_model *model = NULL;
    double difference = NAN;

    snprintf(level, sizeof level, "sample.level=%d", t);
    for (int k = 0; k < FIELDS; k++) {
        points[k][0] = (float)(0.5 + signal[t] * (k / 4 - 1.5) / 5);
        points[k][1] = (float)(0.5 + signal[t] * (k % 4 - 1.5) / 5);
    }
    if (ebm_model_open(backend, ROOT "/model.safetensors", &options, &model) == EBM_OK
        && ebm_model_energy(model, FIELDS, points[0], energies) == EBM_OK) {
        difference = 0;
        for (int k = 0; k < FIELDS; k++)
            difference += (filled(k / 4, k % 4) ? -1 : 1) * energies[k] / (FIELDS / 2);
    }
    ebm_model_free(model);
    return difference;
}

static void test_levels(ebm_backend *backend)
{
    double of[LEVELS];

    for (int t = 0; t < LEVELS; t++) {
        of[t] = contrast(backend, t);
        tap_note("level %d: empty fields lie higher by %.2f", t, of[t]);
    }
    tap_ok(of[0] > 2 * of[2] && of[2] > of[4] && of[4] > of[5] && of[0] > 1,
           "energies become sharper from level to level");
}

int main(void)
{
    ebm_context *ctx;
    ebm_backend *backend;

    use_source_folders();
    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &backend) < 0)
        return 99;
    run_remove(ctx, ROOT);
    if (tap_ok(learn(backend) >= 0, "300 updates of cdrl-squares: %s", ebm_message(ctx))) {
        test_samples(backend);
        test_levels(backend);
    }
    run_remove(ctx, ROOT);
    ebm_backend_free(backend);
    ebm_context_free(ctx);
    return tap_done();
}
