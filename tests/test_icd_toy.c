/* test_icd_toy.c - improved contrastive divergence learns a ring in the plane.
 *
 * SPDX-License-Identifier: ISC
 *
 * Points are images of 1 x 2, uniform on 0.25 < r < 0.35 about the middle of the
 * unit square; the settings are those with which an independent implementation has
 * 96 to 98 % of its chains' ends in 0.23 < r < 0.37, in all sectors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "context.h"
#include "io.h"
#include "philox.h"
#include "run.h"
#include "tap.h"

#define ROOT "test_icd_toy.tmp"

static const char recipe[] =
    "method = icd\nsteps = 2500\nbatch = 128\n"
    "data.source = " ROOT "/ring.npy\ndata.low = 0\ndata.high = 1\n"
    "icd.net = any\n"
    "energy.net = \"flatten linear:64 silu linear:64 silu linear:64 silu linear:1\"\n"
    "icd.penalty = 0.05\nicd.entropy = 0.01\n"
    "langevin.steps = 30\nlangevin.step = 5e-4\nlangevin.noise = 0.005\n"
    "augment.area = 1, 1\naugment.flip = false\naugment.colour = 0\naugment.grey = 0\n"
    "optimiser.rate = 0.001\noptimiser.betas = 0, 0.9\noptimiser.clip = 0.5\nema.decay = 0.99\n"
    "sample.rounds = 0\nsample.area = 1, 1\nsample.colour = 0\n"
    "sample.steps = 300\nsample.step = 5e-4\nsample.noise = 0.005\nsample.batch = 500\n"
    "guard.gap = 0\nsave.every = 2500\ngrid.every = 0\nlog.every = 2500\n";

enum { POINTS = 10000, DRAWN = 500, SECTORS = 30 };
static const double PI = 3.14159265358979324;

/* An array of 1 x 2 x 1 images. */
static bool write_ring(ebm_context *ctx)
{
    static char file[128 + POINTS * 2 * sizeof(float)];
    const uint32_t key[2] = { 1, 2 };

    memset(file, ' ', 128);
    memcpy(file, "\x93NUMPY\x01\x00\x76\x00", 10);
    int n = snprintf(file + 10, 118, "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 1, 2, 1), }", POINTS);
    file[10 + n] = ' ';
    file[127] = '\n';
    for (int i = 0; i < POINTS; i++) {
        uint32_t word[4], counter[4] = { (uint32_t)i, 0, 0, 0 };
        philox_block(counter, key, word);
        double angle = 2 * PI * word[0] / 4294967296., part = word[1] / 4294967296.;
        double r = sqrt(0.25 * 0.25 + part * (0.35 * 0.35 - 0.25 * 0.25));
        for (int k = 0; k < 2; k++) {
            float v = (float)(0.5 + r * (k ? sin(angle) : cos(angle)));
            uint32_t bits;
            memcpy(&bits, &v, sizeof bits);
            for (int b = 0; b < 4; b++)
                file[128 + 4 * (2 * i + k) + b] = (char)(bits >> 8 * b & 0xff);
        }
    }
    return io_write_whole(ctx, ROOT "/ring.npy", file, sizeof file) >= 0;
}

int main(void)
{
    static float points[DRAWN * 2];
    int hits[SECTORS] = { 0 }, inside = 0, sectors = 0;
    ebm_context *ctx;
    ebm_backend *cpu;
    ebm_model *model;

    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 1, &cpu) < 0)
        return 1;
    bool ok = run_folder(ctx, ROOT) && write_ring(ctx)
        && io_write_whole(ctx, ROOT "/tiny.recipe", recipe, sizeof recipe - 1) >= 0
        && run(cpu, &(struct run){ ROOT "/run", NULL, false, 0, false }) >= 0
        && ebm_model_open(cpu, ROOT "/run/model.safetensors", NULL, &model) >= 0;
    if (ok) {
        ok = ebm_model_sample(model, 2, 0, DRAWN, points, NULL, NULL) >= 0;
        ebm_model_free(model);
    }
    tap_ok(ok, "a ring is learned and drawn from%s%s", ok ? "" : ": ", ok ? "" : ebm_message(ctx));
    for (int i = 0; i < DRAWN; i++) {
        double x = (double)points[2 * i] - 0.5, y = (double)points[2 * i + 1] - 0.5, r = sqrt(x * x + y * y);
        if (r < 0.23 || r > 0.37)
            continue;
        inside++;
        hits[(int)((atan2(y, x) / (2 * PI) + 0.5) * (SECTORS - 1e-9))]++;
    }
    for (int i = 0; i < SECTORS; i++)
        sectors += hits[i] > 0;
    tap_ok(inside > 0.9 * DRAWN && sectors >= SECTORS - 1, "%.1f %% of the chains end in it, in %d of %d sectors",
           100. * inside / DRAWN, sectors, SECTORS);
    run_remove(ctx, ROOT);
    ebm_backend_free(cpu);
    ebm_context_free(ctx);
    return tap_done();
}
