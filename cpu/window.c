/* window.c - pooling: POOL, PICK (maximum) and their adjoints UNPOOL, PLACE.
 *
 * SPDX-License-Identifier: ISC
 *
 * x [n,h,w,c] and y [n,p,q,c]: window (p,q) covers the pixels (h,w) with
 *   h = p stride - pad + r,  0 <= r < window       (w likewise)
 * Loops run along rows of channels.  POOL and PICK gather each element of y;
 * UNPOOL gathers each element of x from the windows over it; PLACE spreads
 * windows one by one, so threads share images and channels only. */
#include <math.h>
#include <string.h>
#include "step.h"

enum { CHANNELS = 256 };         /* of a pixel that are treated at once */

struct window {
    int64_t N, H, W, C, P, Q, work;
    const ebm_pool_spec *v;
};

/* The pixels [from,to) of window i along an axis of `size` pixels. */
struct span {
    int64_t from, to;
};

static struct span pixels(int64_t i, int stride, int pad, int window, int64_t size)
{
    int64_t first = i * stride - pad, last = first + window;

    return (struct span){ first > 0 ? first : 0, last < size ? last : size };
}

/* The windows [from,to) over pixel i, of `count`. */
static struct span windows(int64_t i, int stride, int pad, int window, int64_t count)
{
    int64_t behind = i + pad - window, last = (i + pad) / stride + 1;
    int64_t first = behind < 0 ? 0 : behind / stride + 1;

    return (struct span){ first, last < count ? last : count };
}

static struct window window_of(const struct step_run *s, const struct shape *x,
                               const struct shape *y)
{
    return (struct window){ x->n[0], x->n[1], x->n[2], x->n[3], y->n[1], y->n[2],
                            shape_count(x), &s->node.attr.pool };
}

/* d += a; a call would cost more than a few channels. */
static void add_channels(const struct kernels *k, float *d, const float *a, int64_t n)
{
    if (n < LANES)
        for (int64_t c = 0; c < n; c++)
            d[c] += a[c];
    else
        k->add(d, a, n);
}

static void clear_channels(float *d, int64_t n)
{
    if (n < LANES)
        for (int64_t c = 0; c < n; c++)
            d[c] = 0;
    else
        memset(d, 0, (size_t)n * sizeof *d);
}

static void pool_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct window t = window_of(s, &s->shape[0], &s->node.shape);
    const float *x = s->in[0];
    float *y = s->out;

#pragma omp parallel for num_threads(threads_for(cpu, t.work)) schedule(static)
    for (int64_t row = 0; row < t.N * t.P; row++) {
        int64_t n = row / t.P;
        struct span h = pixels(row % t.P, t.v->stride[0], t.v->pad[0], t.v->window[0], t.H);
        for (int64_t q = 0; q < t.Q; q++) {
            struct span w = pixels(q, t.v->stride[1], t.v->pad[1], t.v->window[1], t.W);
            float *d = y + (row * t.Q + q) * t.C;
            clear_channels(d, t.C);
            for (int64_t i = h.from; i < h.to; i++)
                for (int64_t j = w.from; j < w.to; j++)
                    add_channels(cpu->kernels, d, x + ((n * t.H + i) * t.W + j) * t.C, t.C);
        }
    }
}

static void unpool_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct window t = window_of(s, &s->node.shape, &s->shape[0]);
    const float *y = s->in[0];
    float *x = s->out;

#pragma omp parallel for num_threads(threads_for(cpu, t.work)) schedule(static)
    for (int64_t row = 0; row < t.N * t.H; row++) {
        int64_t n = row / t.H;
        struct span p = windows(row % t.H, t.v->stride[0], t.v->pad[0], t.v->window[0], t.P);
        for (int64_t w = 0; w < t.W; w++) {
            struct span q = windows(w, t.v->stride[1], t.v->pad[1], t.v->window[1], t.Q);
            float *d = x + (row * t.W + w) * t.C;
            clear_channels(d, t.C);
            for (int64_t i = p.from; i < p.to; i++)
                for (int64_t j = q.from; j < q.to; j++)
                    add_channels(cpu->kernels, d, y + ((n * t.P + i) * t.Q + j) * t.C, t.C);
        }
    }
}

/* For n channels from `at` (of key) on, the elements of b where key is largest
 * in the window; the first of equal ones. */
static void pick_channels(const struct kernels *k, const struct window *t, float *d,
                          const float *key, const float *b, struct span h, struct span w,
                          int64_t n)
{
    float best[CHANNELS];

    for (int64_t i = h.from; i < h.to; i++)
        for (int64_t j = w.from; j < w.to; j++) {
            int64_t at = (i * t->W + j) * t->C;
            if (i == h.from && j == w.from) {
                memcpy(best, key + at, (size_t)n * sizeof *best);
                memcpy(d, b + at, (size_t)n * sizeof *d);
            } else {
                k->larger(d, best, b + at, key + at, n);
            }
        }
}

static void pick_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct window t = window_of(s, &s->shape[0], &s->node.shape);
    const float *key = s->in[0], *b = s->in[1];
    float *y = s->out;

#pragma omp parallel for num_threads(threads_for(cpu, t.work)) schedule(static)
    for (int64_t row = 0; row < t.N * t.P; row++) {
        int64_t image = row / t.P * t.H * t.W * t.C;
        struct span h = pixels(row % t.P, t.v->stride[0], t.v->pad[0], t.v->window[0], t.H);
        for (int64_t q = 0; q < t.Q; q++) {
            struct span w = pixels(q, t.v->stride[1], t.v->pad[1], t.v->window[1], t.W);
            for (int64_t c = 0; c < t.C; c += CHANNELS)
                pick_channels(cpu->kernels, &t, y + (row * t.Q + q) * t.C + c,
                              key + image + c, b + image + c, h, w,
                              t.C - c < CHANNELS ? t.C - c : CHANNELS);
        }
    }
}

/* One window of PLACE: b is added where each channel's key is largest. */
static void place_channels(const struct kernels *k, const struct window *t, float *x,
                           const float *key, const float *b, struct span h, struct span w,
                           int64_t n)
{
    float best[CHANNELS], open[CHANNELS];

    pick_channels(k, t, open, key, key, h, w, n);
    memcpy(best, open, (size_t)n * sizeof *best);
    k->fill(open, 1.0f, n);
    for (int64_t i = h.from; i < h.to; i++)
        for (int64_t j = w.from; j < w.to; j++) {
            int64_t at = (i * t->W + j) * t->C;
            k->place(x + at, open, best, key + at, b, n);
        }
}

static void place_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct window t = window_of(s, &s->shape[0], &s->shape[1]);
    const int64_t parts = (t.C + CHANNELS - 1) / CHANNELS;
    const float *key = s->in[0], *b = s->in[1];
    float *x = s->out;

    memset(x, 0, (size_t)(t.N * t.H * t.W * t.C) * sizeof *x);
#pragma omp parallel for num_threads(threads_for(cpu, t.work)) schedule(static)
    for (int64_t part = 0; part < t.N * parts; part++) {
        int64_t n = part / parts, c = part % parts * CHANNELS;
        int64_t image = n * t.H * t.W * t.C + c;
        for (int64_t p = 0; p < t.P; p++) {
            struct span h = pixels(p, t.v->stride[0], t.v->pad[0], t.v->window[0], t.H);
            for (int64_t q = 0; q < t.Q; q++) {
                struct span w = pixels(q, t.v->stride[1], t.v->pad[1], t.v->window[1], t.W);
                place_channels(cpu->kernels, &t, x + image, key + image,
                               b + ((n * t.P + p) * t.Q + q) * t.C + c, h, w,
                               t.C - c < CHANNELS ? t.C - c : CHANNELS);
            }
        }
    }
}

int window_prepare(const struct cpu *cpu, struct step_run *s)
{
    (void)cpu;
    s->run = s->node.op == OP_POOL ? pool_run : s->node.op == OP_UNPOOL ? unpool_run
           : s->node.op == OP_PICK ? pick_run : place_run;
    return EBM_OK;
}
