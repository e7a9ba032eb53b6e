/* random_graph.c - random programs, for tests of fusion, placing and backends.
 *
 * SPDX-License-Identifier: ISC
 *
 * All values have the shape N H W C or that shape with some axes reduced to 1,
 * so that any two broadcast.  Each new value is an operation on random earlier
 * ones, kept near the unit range. */
#include "random_graph.h"

enum { N = 3, H = 6, W = 5, C = 7, VALUES_MAX = 64 };
static const int64_t full[4] = { N, H, W, C };

struct pool {
    struct trial *t;
    ebm_graph *g;
    bool smooth;
    ebm_val exact[2];        /* inputs, which every device has to the bit */
    int n;
    ebm_val value[VALUES_MAX];
};

static int below(struct pool *p, int n)
{
    return draw_below(&p->t->random, n);
}

static ebm_val any(struct pool *p)
{
    /* recent ones more often, so that chains grow */
    int i = below(p, p->n), j = below(p, p->n);

    return p->value[i > j ? i : j];
}

static ebm_val any_full(struct pool *p)
{
    return ebm_broadcast(p->g, any(p), 4, full);
}

static unsigned some_axes(struct pool *p)
{
    return 1u + (unsigned)below(p, 15);
}

static ebm_val fresh_input(struct pool *p)
{
    unsigned axes = below(p, 2) ? 0 : some_axes(p);
    int64_t n[4];

    for (int i = 0; i < 4; i++)
        n[i] = axes >> i & 1 ? 1 : full[i];
    return trial_input(p->t, EBM_F32, 4, n, -1, 1);
}

static ebm_val unary(struct pool *p, ebm_val a)
{
    ebm_graph *g = p->g;

    switch (below(p, p->smooth ? 9 : 14)) {
    case 0:  return ebm_tanh(g, a);
    case 1:  return ebm_sigmoid(g, a);
    case 2:  return ebm_sin(g, a);
    case 3:  return ebm_cos(g, a);
    case 4:  return ebm_neg(g, a);
    case 5:  return ebm_silu(g, a);
    case 6:  return ebm_softplus(g, a);
    case 7:  return ebm_exp(g, ebm_tanh(g, a));
    case 8:  return ebm_log(g, ebm_offset(g, ebm_square(g, ebm_tanh(g, a)), 0.5));
    case 9:  return ebm_abs(g, a);
    case 10: return ebm_relu(g, a);
    case 11: return ebm_leaky_relu(g, a, 0.2);
    case 12: return ebm_clamp(g, a, -0.5, 0.7);
    default: return ebm_sqrt(g, ebm_offset(g, ebm_abs(g, a), 0.25));
    }
}

static ebm_val binary(struct pool *p, ebm_val a, ebm_val b)
{
    ebm_graph *g = p->g;
    ebm_val mask;

    switch (below(p, p->smooth ? 5 : 7)) {
    case 0:  return ebm_add(g, a, b);
    case 1:  return ebm_sub(g, a, b);
    case 2:  return ebm_mul(g, a, ebm_tanh(g, b));
    case 3:  return ebm_div(g, a, ebm_offset(g, ebm_square(g, b), 1.5));
    case 4:     /* no device may see another mask */
        mask = ebm_less(g, p->exact[0], p->exact[1]);
        return ebm_select(g, mask, a, b);
    case 5:  return ebm_max(g, a, b);
    default: return ebm_min(g, a, b);
    }
}

static ebm_val filter(struct pool *p, int64_t k, int64_t r, int64_t c)
{
    ebm_val f = ebm_param(p->g, "r", "f", 4, (int64_t[]){ C, 3, 3, C },
                          (ebm_init){ EBM_INIT_NORMAL, 0, 0.1f });

    return ebm_slice(p->g, f, (int64_t[]){ 0, 0, 0, 0 }, (int64_t[]){ k, r, r, c }, NULL);
}

static ebm_val convolution(struct pool *p)
{
    static const ebm_conv_spec same = { .pad = { 1, 1, 1, 1 } }, half = { .stride = { 2, 2 } },
                               one = { .stride = { 1, 1 } }, wide = { .stride = { 1, 1 }, .groups = C,
                                                                      .pad = { 1, 1, 1, 1 } };
    ebm_graph *g = p->g;
    ebm_val x = any_full(p);

    switch (below(p, 5)) {
    case 0:  return ebm_conv(g, x, filter(p, C, 3, C), &same);
    case 1:  return ebm_conv(g, x, filter(p, C, 1, C), &one);
    case 2:  return ebm_conv(g, x, filter(p, C, 3, 1), &wide);
    case 3:  return ebm_conv_data(g, x, filter(p, C, 3, C), &same, H, W);
    default: return ebm_resample(g, ebm_conv(g, x, filter(p, C, 3, C), &half), EBM_BILINEAR, H, W);
    }
}

static ebm_val heavy(struct pool *p)
{
    static const ebm_pool_spec window = { { 3, 3 }, { 1, 1 }, { 1, 1, 1, 1 } };
    ebm_graph *g = p->g;
    ebm_val a = any_full(p), b;

    switch (below(p, p->smooth ? 8 : 10)) {
    case 0:
    case 1:
    case 2: return convolution(p);
    case 3:     /* rows of channels by a square matrix made of values */
        b = ebm_reshape(g, ebm_slice(g, filter(p, C, 1, C), (int64_t[]){ 0, 0, 0, 0 },
                                     (int64_t[]){ C, 1, 1, C }, NULL), 2, (int64_t[]){ C, C });
        a = ebm_matmul(g, ebm_reshape(g, a, 2, (int64_t[]){ N * H * W, C }), b, false, below(p, 2));
        return ebm_reshape(g, a, 4, full);
    case 4: return ebm_mean(g, a, some_axes(p));
    case 5: return ebm_softmax(g, a, below(p, 4));
    case 6: return ebm_avg_pool(g, a, &window);
    case 7: return ebm_logsumexp(g, any(p), below(p, 4));
    case 8: return ebm_max_pool(g, a, &window);
    default: return ebm_amax(g, a, some_axes(p));
    }
}

static ebm_val move(struct pool *p)
{
    static const int64_t one[4] = { 0, 1, 1, 0 }, none[4] = { 0, 0, 0, 0 },
                         inner[4] = { N, H - 2, W - 2, C }, row[4] = { 1, H, W, C },
                         rest[4] = { N - 1, H, W, C };
    static const int swap[4] = { 0, 2, 1, 3 };
    ebm_graph *g = p->g;
    ebm_val a = any_full(p), halves[2];

    switch (below(p, 6)) {
    case 0: return ebm_flip(g, a, some_axes(p));
    case 1: return ebm_pad(g, ebm_slice(g, a, one, inner, NULL), one, one);
    case 2:
        halves[0] = ebm_slice(g, a, none, row, NULL);
        halves[1] = ebm_slice(g, any_full(p), none, rest, NULL);
        return ebm_concat(g, 0, 2, halves);
    case 3:
        a = ebm_square(g, ebm_transpose(g, ebm_tanh(g, a), swap));
        return ebm_transpose(g, a, swap);
    case 4: return ebm_slice(g, a, none, row, NULL);
    default:
        a = ebm_reshape(g, a, 2, (int64_t[]){ N * H, W * C });
        return ebm_reshape(g, ebm_cos(g, a), 4, full);
    }
}

static void add(struct pool *p, ebm_val a)
{
    p->value[p->n++] = a;
}

static void grow(struct pool *p, int size)
{
    for (int i = 0; i < 2; i++) {
        p->exact[i] = trial_input(p->t, EBM_F32, 4, full, -1, 1);
        add(p, p->exact[i]);
    }
    add(p, fresh_input(p));
    while (p->n < size) {
        int kind = below(p, 10);
        if (kind < 3)
            add(p, unary(p, any(p)));
        else if (kind < 7)
            add(p, binary(p, any(p), any(p)));
        else if (kind == 7)
            add(p, move(p));
        else
            add(p, heavy(p));
    }
}

int random_graph(struct trial *t, bool smooth, ebm_val *outputs)
{
    struct pool p = { .t = t, .g = t->g, .smooth = smooth };
    int n = 1 + draw_below(&t->random, RANDOM_OUTPUTS);

    grow(&p, 6 + below(&p, VALUES_MAX - 6));
    for (int i = 0; i < n; i++)
        outputs[i] = i == 0 ? p.value[p.n - 1] : any(&p);
    return n;
}

void random_effects(struct trial *t, ebm_val *effects)
{
    struct pool p = { .t = t, .g = t->g, .smooth = true };
    ebm_init normal = { EBM_INIT_NORMAL, 0, 1 };
    ebm_val s = ebm_state(t->g, "s", EBM_F32, 4, full, normal), r;

    add(&p, s);
    grow(&p, 6 + below(&p, VALUES_MAX - 6));
    ebm_val a = ebm_tanh(t->g, any_full(&p)), b = ebm_tanh(t->g, ebm_mean_all(t->g, any(&p)));
    effects[0] = ebm_assign(t->g, s, ebm_add(t->g, ebm_scale(t->g, s, 0.5), a));
    filter(&p, C, 1, C);
    r = ebm_region(t->g, "r");
    effects[1] = ebm_assign(t->g, r, ebm_add(t->g, ebm_scale(t->g, r, 0.75), ebm_scale(t->g, b, 0.1)));
}
