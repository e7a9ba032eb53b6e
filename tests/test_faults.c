/* test_faults.c - every allocation fails once, in every part of the library.
 *
 * SPDX-License-Identifier: ISC
 *
 * A scenario is a piece of work from a new context to freeing it.  It must
 * return EBM_ERR_NOMEM with a message, give every block back, and work when
 * nothing fails.  Of the thousands of a method's every 41st is tried after the first
 * hundred, unless EBM_TEST_LONG is set. */
#include "config.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "faults.h"
#include "folder.h"
#include "checkpoint.h"
#include "methods/method.h"
#include "recipe.h"
#include "safetensors.h"
#include "store.h"
#include "tap.h"

/* ---- scenarios: each returns the first failure's status ---- */

static int graph(ebm_context *ctx)
{
    static const int64_t in[4] = { 2, 8, 8, 1 };
    ebm_backend *backend = NULL;
    ebm_store *store = NULL;
    ebm_graph *g = NULL;
    ebm_program *program = NULL;
    float pixels[2 * 8 * 8] = { 0 };
    int rc;

    if ((rc = ebm_backend_open(ctx, "cpu", 2, &backend)) < 0
        || (rc = ebm_store_new(backend, &store)) < 0
        || (rc = ebm_graph_new(store, &g)) < 0)
        goto end;
    ebm_outputs out = { 0 };
    ebm_net net = { .graph = g, .region = "energy", .training = true, .effects = &out };
    ebm_val x = ebm_feed(g, "x", EBM_F32, 4, in);
    ebm_val e = ebm_sum_all(g, ebm_energy_net(&net, "conv:4,k3,s2,sn silu maxpool:2 mean linear:1", x));
    ebm_val dx = ebm_grad(g, e, x);
    ebm_optimiser adam = ebm_adam_defaults(1e-3);
    ebm_val parts[2] = { dx, x };
    ebm_output(g, &out, ebm_concat(g, 0, 2, parts));
    ebm_optimise(g, "energy", ebm_grad_region(g, e, "energy"), &adam, 0, &out);
    if ((rc = ebm_graph_status(g)) < 0
        || (rc = ebm_store_alloc(store, 1)) < 0
        || (rc = ebm_compile(g, out.count, out.list, &program)) < 0
        || (rc = ebm_program_set(program, "x", pixels, sizeof pixels)) < 0
        || (rc = ebm_program_run(program, 2)) < 0)
        goto end;
end:
    ebm_program_free(program);
    ebm_graph_free(g);
    ebm_store_free(store);
    ebm_backend_free(backend);
    return rc;
}

static int data(ebm_context *ctx)
{
    static float images[3 * 32 * 32 * 3];
    ebm_data_options options = { .limit = 20, .seed = 4 };
    ebm_loader_options ahead = { .flip = true, .crop = 2, .threads = -1 };
    ebm_data *set = NULL;
    ebm_loader *loader = NULL;
    int rc;

    if ((rc = ebm_data_open(ctx, "shapes:20,shape=circle|ring", &options, &set)) >= 0
        && (rc = ebm_loader_open(set, 3, 1, &ahead, &loader)) >= 0
        && (rc = ebm_loader_next(loader, images, NULL)) >= 0)
        rc = ebm_loader_next(loader, images, NULL);
    ebm_loader_free(loader);
    ebm_data_free(set);
    return rc;
}

static int checkpoint(ebm_context *ctx)
{
    static const int64_t shape[2] = { 3, 5 };
    float numbers[15] = { 1, 2, 3 };
    struct checkpoint_keep keep = { .last = 2 };
    struct safetensors_writer *writer = NULL;
    struct safetensors *file = NULL;
    int64_t step;
    int rc;

    if ((rc = safetensors_writer_new(ctx, &writer)) < 0)
        return rc;
    safetensors_add_metadata(writer, "made by", "a test");
    safetensors_add(writer, "numbers", EBM_F32, 2, shape, numbers);
    if ((rc = checkpoint_save(ctx, folder, 1, writer, &keep)) >= 0
        && (rc = checkpoint_save(ctx, folder, 2, writer, &keep)) >= 0
        && (rc = checkpoint_open(ctx, folder, &file, &step)) >= 0)
        rc = safetensors_read_shaped(file, "numbers", EBM_F32, 2, shape, numbers);
    safetensors_close(file);
    safetensors_writer_free(writer);
    return rc;
}

/* An update of both networks of points, labelled, and what draws from them: with
 * the networks of images there would be ten times the allocations, of the same kinds. */
static int cdrl_next(void *user, const float **images, const int32_t **labels)
{
    static const float points[4] = { 0.1f, -0.2f, 0.3f, 0.4f };
    static const int32_t of[2] = { 0, 1 };

    (void)user;
    *images = points;
    if (labels)
        *labels = of;
    return EBM_OK;
}

static int cdrl(ebm_context *ctx)
{
    static const char text[] = "method = cdrl\nbatch = 2\nsample.batch = 2\ncdrl.width = 4\ncdrl.blocks = 1\n"
        "cdrl.multipliers = 1\ncdrl.labels = 2\ncdrl.levels = 2\nlangevin.steps = 1\n"
        "proposal.width = 4\nproposal.blocks = 1\nproposal.groups = 2\n";
    const struct batch_source source = { cdrl_next, NULL };
    struct method_shown shown = { { 0 }, false, 0 };
    struct method_site site = { .ctx = ctx, .image = { 1, 2, 1 }, .classes = 2 }, other = site;
    struct method_draw draw = { .seed = 3 };
    const struct method *method = NULL;
    ebm_backend *backend = NULL;
    void *state = NULL, *model = NULL;
    float images[4], energies[2];
    int rc;

    if ((rc = recipe_new(ctx, &site.recipe)) >= 0
        && (rc = recipe_parse(site.recipe, text, sizeof text - 1, "test")) >= 0
        && (rc = method_declare(ctx, site.recipe, &method)) >= 0
        && (rc = ebm_backend_open(ctx, "cpu", 1, &backend)) >= 0
        && (rc = ebm_store_new(backend, &site.store)) >= 0
        && (rc = method->train_build(&site, &state)) >= 0
        && (rc = ebm_store_alloc(site.store, 1)) >= 0
        && (rc = method->train_compile(state)) >= 0)
        rc = method->train_step(state, &source, true, &shown);
    other.recipe = site.recipe;
    if (rc >= 0 && (rc = ebm_store_new(backend, &other.store)) >= 0
        && (rc = method->model_build(&other, &model)) >= 0
        && (rc = ebm_store_alloc(other.store, 1)) >= 0
        && (rc = method->model_compile(model)) >= 0
        && (rc = method->model_sample(model, &draw, images)) >= 0)
        rc = method->model_energy(model, images, energies);
    if (method) {
        method->train_free(state);
        method->model_free(model);
    }
    ebm_store_free(other.store);
    ebm_store_free(site.store);
    ebm_backend_free(backend);
    recipe_free(site.recipe);
    return rc;
}

/* ---- each, with each allocation failing ---- */

/* stride: of many allocations every so-many-th, after the first hundred. */
static void test_scenario(const char *name, int (*scenario)(ebm_context *ctx), int stride)
{
    struct faults f = { .left = -1 };
    ebm_host host = fault_host(&f);
    int wrong = 0, silent = 0, leaks = 0, rc;
    long n, tried = 0;

    for (n = 0; ; n += n < 100 ? 1 : stride, tried++) {
        ebm_context *ctx;
        fault_arm(&f, n);
        rc = ebm_context_new(&host, &ctx);
        if (rc >= 0) {
            rc = scenario(ctx);
            wrong += f.fired && !fault_told(&f, rc);
            silent += f.fired && rc < 0 && ebm_message(ctx)[0] == '\0';
            if (f.fired && !fault_told(&f, rc))
                tap_note("%s, allocation %ld: %s: %s", name, n, ebm_status_name(rc), ebm_message(ctx));
            else if (!f.fired && rc < 0)
                tap_note("%s: %s", name, ebm_message(ctx));
        }
        ebm_context_free(ctx);
        if (f.live != 0) {
            tap_note("%s, allocation %ld: %ld blocks are lost", name, n, f.live);
            leaks++;
            f.live = 0;
        }
        if (!f.fired)
            break;
    }
    tap_ok(rc >= 0, "%s: works when nothing fails", name);
    tap_ok(wrong == 0, "%s: each of %ld allocations that fails is reported as such", name, tried);
    tap_ok(silent == 0, "%s: with a message", name);
    tap_ok(leaks == 0, "%s: nothing is lost", name);
}

int main(void)
{
    if (!folder_make())
        return 99;
    test_scenario("graph", graph, 1);
    test_scenario("data", data, 1);
    test_scenario("checkpoint", checkpoint, 1);
    test_scenario("cdrl", cdrl, getenv("EBM_TEST_LONG") ? 1 : 41);
    folder_remove();
    return tap_done();
}
