/* test_keep.c - weights that stay packed from run to run: room that is asked for,
 * and results that do not know of it.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <stdlib.h>
#include <string.h>
#include "ebm.h"
#include "program.h"
#include "tap.h"

enum { N = 4, SIZE = 8, CHANNELS = 64, STEPS = 3, COUNT_ = N * SIZE * SIZE * CHANNELS };

static const char *const net = "conv:64 silu conv:64 silu sum linear:1";

static ebm_val energy_of(ebm_graph *g, ebm_val x, void *user)
{
    (void)g;
    return ebm_energy_net(user, net, x);
}

/* A Langevin step in a store without memory.  part: rows at a time, 0: all. */
struct trial { ebm_store *store; ebm_graph *graph; ebm_program *program; };

static void open_trial(ebm_backend *device, int64_t part, struct trial *t)
{
    const int64_t shape[] = { N, SIZE, SIZE, CHANNELS }, four = 4;
    const ebm_langevin_options options = { .order = EBM_NOISE_LAST };

    if (ebm_store_new(device, &t->store) < 0 || ebm_graph_new(t->store, &t->graph) < 0)
        exit(99);
    t->store->batch = N;
    t->store->part = part;
    ebm_graph *g = t->graph;
    ebm_net e = { .graph = g, .region = "energy", .frozen = true };
    ebm_val x = ebm_state(g, "x", EBM_F32, 4, shape, (ebm_init){ EBM_INIT_NORMAL, 0, 0.5f });
    ebm_val counter = ebm_state(g, "rng", EBM_I32, 1, &four, (ebm_init){ EBM_INIT_CONST, 0, 0 });
    ebm_val next = ebm_langevin(g, energy_of, &e, x, ebm_const(g, 0.1), ebm_const(g, 0.01), counter, &options);
    const ebm_val outputs[] = { ebm_assign(g, x, next), ebm_assign(g, counter, ebm_tick(g, counter)) };

    if (ebm_compile(g, 2, outputs, &t->program) < 0)
        exit(99);
}

static void close_trial(struct trial *t)
{
    ebm_program_free(t->program);
    ebm_graph_free(t->graph);
    ebm_store_free(t->store);
}

/* The chains after some steps in a row. */
static bool run(struct trial *t, float *x)
{
    return ebm_store_alloc(t->store, 7) >= 0 && ebm_program_run(t->program, STEPS) >= 0
        && ebm_store_read(t->store, "x", x, COUNT_ * sizeof *x) >= 0;
}

int main(void)
{
    static float with[COUNT_], without[COUNT_], some[COUNT_];
    ebm_context *ctx;
    ebm_backend *device;
    struct trial t;
    size_t spare, of_parts, all;

    if (ebm_context_new(NULL, &ctx) < 0 || ebm_backend_open(ctx, "cpu", 2, &device) < 0)
        return 99;
    open_trial(device, 0, &t);
    all = programs_waiting_bytes(device, &spare);
    tap_ok(spare > 4 * 9 * 64 * 64 * sizeof(float) && spare < all, "packed filters of %d steps in a row: %zu bytes of %zu",
           STEPS, spare, all);
    bool good = run(&t, with);
    close_trial(&t);

    open_trial(device, 0, &t);
    device->withheld = spare;
    tap_ok(programs_waiting_bytes(device, &of_parts) == all - spare && of_parts == 0, "withheld, they are not asked for");
    good = good && run(&t, without);
    close_trial(&t);
    tap_ok(good && memcmp(with, without, sizeof with) == 0, "without them, the same bits");

    open_trial(device, 0, &t);
    device->withheld = spare / 2;
    good = good && run(&t, some);
    close_trial(&t);
    tap_ok(good && memcmp(with, some, sizeof with) == 0, "with half of them, too");

    device->withheld = 0;
    open_trial(device, 1, &t);
    programs_waiting_bytes(device, &of_parts);
    tap_ok(of_parts <= spare, "%d parts share them: %zu bytes", N, of_parts);
    good = good && run(&t, some);
    close_trial(&t);
    double most = 0;
    for (int i = 0; i < COUNT_; i++) {
        double d = with[i] > some[i] ? with[i] - some[i] : some[i] - with[i];
        most = d > most ? d : most;
    }
    tap_ok(good && most < 1e-4, "chains in parts go the same way, %.1e apart", most);
    ebm_backend_free(device);
    ebm_context_free(ctx);
    return tap_done();
}
