/* works.c - see works.h.
 *
 * SPDX-License-Identifier: ISC
 *
 * All that is read is a state of the store with random content, so that another
 * implementation can be given the same. */
#include "works.h"
#include <stdio.h>
#include <string.h>
#include "work.h"

#define DIGITS "conv:16,k5,s2 silu conv:32,s2 silu conv:64,s2 silu conv:64,s2 silu " \
               "flatten linear:64 silu linear:1"
/* Of the fact sheets, by the layers that take the time: improved CD for images of 32
 * and of 128 (one scale of three, no attention), CDRL with 2 blocks a stage for 8, and
 * SN-GAN's discriminator. */
#define BLOCK(c) "res(silu conv:" #c " silu conv:" #c ") "
#define DOWN(c) "res(silu conv:" #c " silu conv:" #c " avgpool:2) "
#define ICD32 "conv:64 " DOWN(64) BLOCK(64) DOWN(128) BLOCK(128) DOWN(256) BLOCK(256) "silu sum linear:1"
#define ICD128 "conv:64 " DOWN(64) DOWN(64) BLOCK(64) DOWN(128) BLOCK(128) DOWN(256) BLOCK(256) DOWN(256) \
               "silu sum linear:1"
#define LEAKY(c) "repeat:2(res(leaky conv:" #c " leaky conv:" #c ")) "
#define CDRL32 "conv:128 " LEAKY(128) "avgpool:2 " LEAKY(256) "avgpool:2 " LEAKY(256) "avgpool:2 " LEAKY(256) \
               "leaky sum linear:1"
#define HAT "res(conv:128 relu conv:128 avgpool:2) res(relu conv:128 relu conv:128 avgpool:2) " \
            "repeat:2(res(relu conv:128 relu conv:128)) relu sum linear:1"
#define NORMED "conv:64 repeat:2(res(groupnorm:8 silu conv:64 groupnorm:8 silu conv:64)) " \
               "conv:128,s2 repeat:2(res(groupnorm:8 silu conv:128 groupnorm:8 silu conv:128)) " \
               "silu mean linear:1"
/* A layer and its two gradients. */
#define LAYER(name, n, h, c, net) \
    { name, FORWARD, n, h, h, c, net }, { name, BACKWARD, n, h, h, c, net }, { name, FILTER, n, h, h, c, net }
/* A network's Langevin step and its update. */
#define NETWORK(name, n, h, c, net) { name, LANGEVIN, n, h, h, c, net }, { name, TRAIN, n, h, h, c, net }

const char *const kind_names[] = { "forward", "backward", "filter", "langevin", "train", "adam" };

const struct work works[] = {
    { "silu",                    FORWARD,  64,  32, 32, 64, "silu" },
    { "silu, gradient",          BACKWARD, 64,  32, 32, 64, "silu" },
    { "relu tanh affine",        FORWARD,  64,  32, 32, 64, "relu tanh affine:2,1" },
    { "residual add",            FORWARD,  64,  32, 32, 64, "add( | relu | affine:2,1)" },
    { "silu, 64x1x1x64",         FORWARD,  64,   1,  1, 64, "silu" },
    { "groupnorm:8",             FORWARD,  64,  32, 32, 64, "groupnorm:8" },
    { "groupnorm:8, gradient",   BACKWARD, 64,  32, 32, 64, "groupnorm:8" },
    { "groupnorm:8 silu",        FORWARD,  64,  32, 32, 64, "groupnorm:8 silu" },
    { "instnorm",                FORWARD,  64,  32, 32, 64, "instnorm" },
    { "groupnorm:8, 64x64x128",  FORWARD,   8,  64, 64, 128, "groupnorm:8" },
    { "groupnorm:8, 64x64x128, gradient", BACKWARD, 8, 64, 64, 128, "groupnorm:8" },
    { "instnorm, gradient",      BACKWARD, 64,  32, 32, 64, "instnorm" },
    { "layernorm, gradient",     BACKWARD, 64,  32, 32, 64, "layernorm" },
    { "layernorm",               FORWARD,  64,  32, 32, 64, "layernorm" },
    { "batchnorm",               FORWARD,  64,  32, 32, 64, "batchnorm:frozen" },
    { "avgpool:2",               FORWARD,  64,  32, 32, 64, "avgpool:2" },
    { "avgpool:2, gradient",     BACKWARD, 64,  32, 32, 64, "avgpool:2" },
    { "maxpool:2",               FORWARD,  64,  32, 32, 64, "maxpool:2" },
    { "maxpool:2, gradient",     BACKWARD, 64,  32, 32, 64, "maxpool:2" },
    { "avgpool:3,s2,p1",         FORWARD,  64,  32, 32, 64, "avgpool:3,s2,p1" },
    { "mean over space",         FORWARD,  64,  32, 32, 64, "mean" },
    { "sum over space, gradient",BACKWARD, 64,  32, 32, 64, "sum" },
    { "up:2",                    FORWARD,  64,  16, 16, 64, "up:2" },
    { "up:2, gradient",          BACKWARD, 64,  16, 16, 64, "up:2" },
    { "up:2,bilinear",           FORWARD,  64,  16, 16, 64, "up:2,bilinear" },
    { "up:2,bilinear, gradient", BACKWARD, 64,  16, 16, 64, "up:2,bilinear" },
    { "adam, 4 M weights",       ADAM,      1,   1,  1, 4194304, "" },
    LAYER("conv 3x3 64, 64x64",    8, 64,  64, "conv:64"),
    LAYER("conv 3x3 64, 32x32",   32, 32,  64, "conv:64"),
    LAYER("conv 3x3 128, 32x32",  16, 32, 128, "conv:128"),
    LAYER("conv 3x3 128, 16x16",  64, 16, 128, "conv:128"),
    LAYER("conv 3x3 256, 16x16",  16, 16, 256, "conv:256"),
    LAYER("conv 3x3 256, 8x8",    64,  8, 256, "conv:256"),
    LAYER("conv 3x3 512, 8x8",    32,  8, 512, "conv:512"),
    LAYER("conv 3x3 96, 24x24",   32, 24,  96, "conv:96"),
    LAYER("1x1 128, 32x32",       16, 32, 128, "conv:128,k1"),
    LAYER("1x1 256 to 64, 16x16", 64, 16, 256, "conv:64,k1"),
    LAYER("4x4 s2 64 to 128, 32x32",  32, 32,  64, "conv:128,k4,s2,p1"),
    LAYER("3x3 s2 128 to 256, 16x16", 32, 16, 128, "conv:256,s2"),
    LAYER("3x3 of 3 to 64, 32x32",    64, 32,   3, "conv:64"),
    LAYER("3x3 in 4 groups, 32x32",   32, 32,  64, "conv:64,g4"),
    LAYER("3x3 depthwise, 32x32",     32, 32,  64, "conv:64,g64"),
    LAYER("product 512x512x512",     512,  1, 512, "flatten linear:512"),
    LAYER("product 64x1024x1024",     64,  1, 1024, "flatten linear:1024"),
    { "conv 3x3 64 silu",        FORWARD,  64,  32, 32, 64, "conv:64 silu" },
    { "attention",               FORWARD,  16,  16, 16, 64, "attention:1" },
    { "digits, 3",               LANGEVIN,  3,  32, 32,  1, DIGITS },
    NETWORK("digits, 64",            64,  32, 1, DIGITS),
    NETWORK("improved CD 32, 16",    16,  32, 3, ICD32),
    NETWORK("improved CD 32, 64",    64,  32, 3, ICD32),
    NETWORK("improved CD 128, 2",     2, 128, 3, ICD128),
    NETWORK("CDRL 32, 8",             8,  32, 3, CDRL32),
    NETWORK("CDRL 32, 32",           32,  32, 3, CDRL32),
    NETWORK("hat 32, 16",            16,  32, 3, HAT),
    NETWORK("hat 32, 64",            64,  32, 3, HAT),
    NETWORK("normed 32, 16",         16,  32, 3, NORMED),
};
const int n_works = (int)COUNT(works);

bool work_parse(const char *text, struct work *work)
{
    char kind[16];
    int at = 0;

    *work = (struct work){ .name = text };
    if (sscanf(text, "%15s %d %d %d %d %n", kind, &work->n, &work->h, &work->w, &work->c, &at) < 5
        || at == 0 || work->n < 1 || work->h < 1 || work->w < 1 || work->c < 1)
        return false;
    work->name = work->net = text + at;
    for (size_t i = 0; i < COUNT(kind_names); i++)
        if (!strcmp(kind, kind_names[i])) {
            work->kind = (enum kind)i;
            return true;
        }
    return false;
}

static ebm_val normal_state(ebm_graph *g, const char *name, int rank, const int64_t *shape)
{
    return ebm_state(g, name, EBM_F32, rank, shape, (ebm_init){ EBM_INIT_NORMAL, 0, 0.5f });
}

static ebm_val counter_of(ebm_graph *g)
{
    return ebm_state(g, "rng", EBM_I32, 1, (const int64_t[]){ 4 }, (ebm_init){ EBM_INIT_CONST, 0, 0 });
}

struct energy { const char *text; ebm_net net; };

static ebm_val energy_of_images(ebm_graph *g, ebm_val x, void *user)
{
    struct energy *e = user;

    (void)g;
    return ebm_energy_net(&e->net, e->text, x);
}

static void build_layers(struct ready *r, const struct work *work, ebm_val x, ebm_outputs *out)
{
    ebm_graph *g = r->graph;
    ebm_net net = { .graph = g, .region = "energy" };
    ebm_val y = ebm_sequential(&net, work->net, x), result = y;
    int64_t shape[EBM_MAX_RANK];
    int rank = ebm_shape(g, y, shape);

    if (work->kind == BACKWARD) {
        ebm_val dy = normal_state(g, "dy", rank, shape);
        result = ebm_grad(g, ebm_sum_all(g, ebm_mul(g, y, dy)), x);
    } else if (work->kind == FILTER) {
        ebm_val dy = normal_state(g, "dy", rank, shape);
        result = ebm_grad_region(g, ebm_sum_all(g, ebm_mul(g, y, dy)), "energy");
    }
    r->result = result;
    ebm_output(g, out, result);
}

static void build_langevin(struct ready *r, const struct work *work, ebm_val x, ebm_outputs *out)
{
    ebm_graph *g = r->graph;
    struct energy energy = { work->net, { .graph = g, .region = "energy", .frozen = true } };
    const ebm_langevin_options options = {
        .order = EBM_NOISE_LAST, .clamp = true, .low = -3, .high = 3
    };
    ebm_val counter = counter_of(g), noise = ebm_feed(g, "noise", EBM_F32, 0, NULL);

    ebm_output(g, out, ebm_assign(g, x, ebm_langevin(g, energy_of_images, &energy, x,
                                                     ebm_const(g, 1), noise, counter, &options)));
    ebm_output(g, out, ebm_assign(g, counter, ebm_tick(g, counter)));
}

/* mean E(x) - mean E(chains) + 0.1 (mean E(x)^2 + mean E(chains)^2) */
static void build_train(struct ready *r, const struct work *work, ebm_val x, ebm_outputs *out)
{
    ebm_graph *g = r->graph;
    int64_t shape[] = { work->n, work->h, work->w, work->c }, begin[] = { 0, work->n };
    ebm_val chains = normal_state(g, "chains", 4, shape);
    ebm_net net = { .graph = g, .region = "energy", .training = true, .effects = out };
    ebm_val e = ebm_energy_net(&net, work->net, ebm_concat(g, 0, 2, (ebm_val[]){ x, chains }));
    ebm_val data = ebm_slice(g, e, &begin[0], shape, NULL);
    ebm_val fantasy = ebm_slice(g, e, &begin[1], shape, NULL);
    ebm_val squares = ebm_add(g, ebm_mean_all(g, ebm_square(g, data)),
                              ebm_mean_all(g, ebm_square(g, fantasy)));
    ebm_val loss = ebm_add(g, ebm_sub(g, ebm_mean_all(g, data), ebm_mean_all(g, fantasy)),
                           ebm_scale(g, squares, 0.1));
    ebm_optimiser adam = ebm_adam_defaults(1e-4);

    adam.ema = 0.999;
    r->result = ebm_grad_region(g, loss, "energy");
    ebm_optimise(g, "energy", r->result, &adam, 0, out);
    ebm_output(g, out, r->result);
}

static void build_adam(struct ready *r, const struct work *work, ebm_outputs *out)
{
    ebm_graph *g = r->graph;
    const int64_t shape[] = { work->c };
    ebm_optimiser adam = ebm_adam_defaults(1e-4);

    adam.ema = 0.999;
    ebm_param(g, "energy", "weight", 1, shape, (ebm_init){ EBM_INIT_NORMAL, 0, 0.1f });
    ebm_optimise(g, "energy", normal_state(g, "gradient", 1, shape), &adam, 0, out);
}

int ready_new(ebm_backend *device, const struct work *work, enum ebm_precision precision, struct ready *r)
{
    const int64_t shape[] = { work->n, work->h, work->w, work->c };
    ebm_outputs out = { 0 };
    ebm_val x = 0;
    int rc;

    *r = (struct ready){ 0 };
    if ((rc = ebm_store_new(device, &r->store)) < 0 || (rc = ebm_graph_new(r->store, &r->graph)) < 0)
        return rc;
    ebm_store_precision(r->store, precision);
    if (work->kind != ADAM)
        x = normal_state(r->graph, "x", 4, shape);
    switch (work->kind) {
    case FORWARD:
    case BACKWARD:
    case FILTER:   build_layers(r, work, x, &out); break;
    case LANGEVIN: build_langevin(r, work, x, &out); break;
    case TRAIN:    build_train(r, work, x, &out); break;
    case ADAM:     build_adam(r, work, &out); break;
    }
    if ((rc = ebm_graph_status(r->graph)) < 0 || (rc = ebm_store_alloc(r->store, 1)) < 0
        || (rc = ebm_compile(r->graph, out.count, out.list, &r->program)) < 0)
        return rc;
    if (work->kind == LANGEVIN) {
        const float none = 0;
        if ((rc = ebm_program_set(r->program, "noise", &none, sizeof none)) < 0)
            return rc;
    }
    r->flop = 2 * graph_work(r->graph, out.count, out.list);
    if (r->result)
        r->result_size = (size_t)shape_count(&node_of(r->graph, r->result)->shape) * sizeof(float);
    /* States that are only read, once; Adam moves w, m, v and the average. */
    r->bytes = (double)ebm_store_bytes(r->store)
             + (work->kind == ADAM ? 16.0 * work->c : (double)r->result_size);
    return EBM_OK;
}

void ready_free(struct ready *r)
{
    ebm_program_free(r->program);
    ebm_graph_free(r->graph);
    ebm_store_free(r->store);
}
