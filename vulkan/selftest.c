/* selftest.c - a device is believed when it computes correctly.
 *
 * SPDX-License-Identifier: ISC
 *
 * When it is opened, a device runs a small program whose results are known:
 *
 *   x, f = normal numbers     the bits of philox.c
 *   y = conv(x, f)            against a loop
 *   d = conv_filter(x, y)     its gradient
 *   z = tanh(y) + x           a group; and as the epilogue of the convolution
 *
 * The plan is written by hand, as no graph is at hand here. */
#include <math.h>
#include <string.h>
#include "lower.h"
#include "philox.h"

enum { H = 8, C = 4, R = 3, X = H * H * C, F = C * R * R * C };   /* y is as large as x */
enum { V_NONE, V_COUNTER, V_X, V_F, V_Y, V_D, VALUES };
enum { AT_X = 0, AT_F = 4096, AT_Y = 8192, AT_D = 12288, AT_Z = 16384, AT_E = 20480, ARENA = 24576 };
static const float CLOSE = 1e-4f;

static const struct philox COUNTER = { { 1, 2 }, 3, 4 };

struct trial {
    float x[X], f[F], y[X], d[F], z[X], e[X];
};

/* f = false: y of x and f; true: the gradient d of x and y. */
static void convolve(struct trial *t, bool gradient)
{
    for (int h = 0; h < H; h++)
        for (int w = 0; w < H; w++)
            for (int k = 0; k < C; k++)
                for (int r = 0; r < R; r++)
                    for (int s = 0; s < R; s++)
                        for (int c = 0; c < C; c++) {
                            int i = h + r - 1, j = w + s - 1;
                            if (i < 0 || i >= H || j < 0 || j >= H)
                                continue;
                            float *y = &t->y[(h * H + w) * C + k], x = t->x[(i * H + j) * C + c];
                            int at = ((k * R + r) * R + s) * C + c;
                            if (gradient)
                                t->d[at] += x * *y;
                            else
                                *y += x * t->f[at];
                        }
}

static void expect(struct trial *t)
{
    memset(t, 0, sizeof *t);
    philox_normal(t->x, 0, X, &COUNTER, 1);
    philox_normal(t->f, 0, F, &COUNTER, 2);
    convolve(t, false);
    convolve(t, true);
    for (int i = 0; i < X; i++)
        t->z[i] = t->e[i] = tanhf(t->y[i]) + t->x[i];
}

static struct place arena(int64_t offset)
{
    return (struct place){ SPACE_ARENA, 0, offset };
}

static void set_nodes(struct node *n)
{
    const struct shape x = { 4, { 1, H, H, C } }, f = { 4, { C, R, R, C } };
    const ebm_conv_spec spec = { { 1, 1 }, { 1, 1, 1, 1 }, { 1, 1 }, 1 };

    n[V_COUNTER] = (struct node){ .op = OP_FEED, .type = EBM_I32, .shape = { 1, { 4 } } };
    n[V_X] = (struct node){ .op = OP_RANDOM, .shape = x, .n_in = 1, .in = { V_COUNTER } };
    n[V_X].attr.random.purpose = 1;
    n[V_X].attr.random.normal = 1;
    n[V_F] = n[V_X];
    n[V_F].shape = f;
    n[V_F].attr.random.purpose = 2;
    n[V_Y] = (struct node){ .op = OP_CONV, .shape = x, .n_in = 2, .in = { V_X, V_F } };
    n[V_D] = (struct node){ .op = OP_CONV_FILTER, .shape = f, .n_in = 2, .in = { V_X, V_Y } };
    n[V_Y].attr.conv = n[V_D].attr.conv = spec;
}

static int run_trial(struct vk *vk, struct trial *t)
{
    ebm_backend *b = &vk->base;
    struct node nodes[VALUES] = { { .op = OP_NONE } };
    ebm_graph graph = { .ctx = vk->ctx, .nodes = nodes, .count = VALUES, .n_feeds = 1 };
    struct place counter = { SPACE_FEED, 0, 0 };
    struct place of_conv[2] = { arena(AT_X), arena(AT_F) }, of_filter[2] = { arena(AT_X), arena(AT_Y) };
    struct ew_input in[2] = { { .place = arena(AT_Y), .linear = true, .stride = { 1 } },
                              { .place = arena(AT_X), .linear = true, .stride = { 1 } } };
    struct ew_output out = { .place = arena(AT_Z), .reg = 0 };
    struct ew_instr instr[] = { { EW_LOAD, 0, 0, 0, 0, 0 }, { EW_LOAD, 1, 1, 0, 0, 0 },
                                { EW_TANH, 0, 0, 0, 0, 0 }, { EW_ADD, 0, 0, 1, 0, 0 } };
    struct ew_group group = { .shape = { 1, { X } }, .n_in = 2, .n_out = 1, .n_instr = COUNT(instr),
                              .n_regs = 2, .in = in, .out = &out, .instr = instr };
    struct ew_output behind_out = { .place = arena(AT_E), .reg = 0 };
    struct ew_instr raw[] = { { EW_RAW, 0, 0, 0, 0, 0 }, { EW_LOAD, 1, 0, 0, 0, 0 }, instr[2], instr[3] };
    struct ew_group behind = { .shape = { 1, { X } }, .n_in = 1, .n_out = 1, .n_instr = COUNT(raw),
                               .n_regs = 2, .in = &in[1], .out = &behind_out, .instr = raw };
    struct step steps[] = {
        { OP_RANDOM, V_X, 1, &counter, arena(AT_X), NULL, true },
        { OP_RANDOM, V_F, 1, &counter, arena(AT_F), NULL, true },
        { OP_CONV, V_Y, 2, of_conv, arena(AT_Y), &behind, true },
        { OP_CONV_FILTER, V_D, 2, of_filter, arena(AT_D), NULL, true },
        { .op = OP_NONE, .group = &group },
    };
    struct plan plan = { .graph = &graph, .n_steps = COUNT(steps), .steps = steps, .arena = ARENA };
    const size_t feeds[1] = { sizeof COUNTER };
    const struct place places[] = { arena(AT_X), arena(AT_F), arena(AT_Y), arena(AT_D), arena(AT_Z),
                                    arena(AT_E) };
    float *to[] = { t->x, t->f, t->y, t->d, t->z, t->e };
    struct device_buffer *memory = NULL;
    struct device_program *program = NULL;
    size_t size, wish, own;
    int rc;

    set_nodes(nodes);
    if ((rc = b->v->measure(b, &plan, &size, &wish, &own)) >= 0
        && (rc = b->v->buffer_new(b, size, &memory)) >= 0
        && (rc = b->v->compile(b, &plan, memory, NULL, feeds, &program)) >= 0
        && (rc = b->v->feed(b, program, 0, &COUNTER, sizeof COUNTER)) >= 0)
        rc = b->v->run(b, program, 1);
    for (size_t i = 0; i < COUNT(places) && rc >= 0; i++)
        rc = b->v->fetch(b, program, &places[i], to[i], sizeof(float) * (to[i] == t->f || to[i] == t->d ? F : X));
    b->v->program_free(b, program);
    b->v->buffer_free(b, memory);
    return rc;
}

static bool close_to(const float *a, const float *b, int n)
{
    float scale = 1, worst = 0;

    for (int i = 0; i < n; i++) {
        scale = fmaxf(scale, fabsf(b[i]));
        worst = fabsf(a[i] - b[i]) <= worst ? worst : fabsf(a[i] - b[i]);
    }
    return worst <= CLOSE * scale;
}

int selftest(struct vk *vk)
{
    struct trial *got = mem_new(vk->ctx, 2, sizeof *got), *want = got ? got + 1 : NULL;
    const char *wrong = NULL;
    int rc = EBM_ERR_NOMEM;

    if (got && (rc = run_trial(vk, got)) >= 0) {
        expect(want);
        if (memcmp(got->x, want->x, sizeof got->x) != 0 || memcmp(got->f, want->f, sizeof got->f) != 0)
            wrong = "random numbers";
        else if (!close_to(got->y, want->y, X))
            wrong = "a convolution";
        else if (!close_to(got->d, want->d, F))
            wrong = "a gradient";
        else if (!close_to(got->z, want->z, X))
            wrong = "a group";
        else if (!close_to(got->e, want->e, X))
            wrong = "an epilogue";
        if (wrong)
            rc = ebm_fail(vk->ctx, EBM_ERR_DEVICE, "%s: it computes %s wrongly, so it is not used",
                          vk->base.description, wrong);
    }
    mem_free(vk->ctx, got);
    return rc;
}
