/* window.c - PICK (the maximum of windows) and its adjoint PLACE.
 *
 * SPDX-License-Identifier: ISC
 *
 * x [n,h,w,c] and y [n,p,q,c]: window (p,q) covers the pixels (h,w) with
 *   h = p stride - pad + r,  0 <= r < window       (w likewise)
 * PICK gathers each pixel of y.  PLACE spreads windows one by one, so threads share
 * images and channels only; rows of x are cleared just before the first window over
 * them. */
#include <string.h>
#include "step.h"

enum { CHANNELS = 256 };         /* of a pixel that a thread takes, spreading */

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

static struct window window_of(const struct step_run *s, const struct shape *x,
                               const struct shape *y)
{
    return (struct window){ x->n[0], x->n[1], x->n[2], x->n[3], y->n[1], y->n[2],
                            shape_count(x), &s->node.attr.pool };
}

/* Window (p,q) and where its first pixel lies in an image. */
static struct panes panes_of(const struct window *t, struct span h, int64_t q, int64_t *at)
{
    struct span w = pixels(q, t->v->stride[1], t->v->pad[1], t->v->window[1], t->W);

    *at = (h.from * t->W + w.from) * t->C;
    return (struct panes){ h.to - h.from, w.to - w.from, t->W * t->C, t->C };
}

static void pick_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct window t = window_of(s, &s->shape[0], &s->node.shape);
    const float *key = s->in[0], *b = s->in[1];
    float *y = s->out;

#pragma omp parallel for num_threads(threads_for(cpu, t.work)) schedule(static)
    for (int64_t row = 0; row < t.N * t.P; row++) {
        int64_t image = row / t.P * t.H * t.W * t.C, at;
        struct span h = pixels(row % t.P, t.v->stride[0], t.v->pad[0], t.v->window[0], t.H);
        for (int64_t q = 0; q < t.Q; q++) {
            const struct panes w = panes_of(&t, h, q, &at);
            cpu->kernels->pick(y + (row * t.Q + q) * t.C, key + image + at, b + image + at, &w, t.C);
        }
    }
}

/* n channels of rows [from,to) of an image; returns where that ends. */
static int64_t clear_rows(const struct window *t, float *x, int64_t from, int64_t to, int64_t n)
{
    if (n == t->C && to > from)
        memset(x + from * t->W * t->C, 0, (size_t)((to - from) * t->W * t->C) * sizeof *x);
    else
        for (int64_t i = from * t->W; i < to * t->W; i++)
            memset(x + i * t->C, 0, (size_t)n * sizeof *x);
    return to > from ? to : from;
}

static void place_run(const struct cpu *cpu, const struct step_run *s)
{
    const struct window t = window_of(s, &s->shape[0], &s->shape[1]);
    const int64_t parts = (t.C + CHANNELS - 1) / CHANNELS;

#pragma omp parallel for num_threads(threads_for(cpu, t.work)) schedule(static)
    for (int64_t part = 0; part < t.N * parts; part++) {
        int64_t n = part / parts, c = part % parts * CHANNELS, cleared = 0, at;
        int64_t channels = t.C - c < CHANNELS ? t.C - c : CHANNELS;
        const float *key = (const float *)s->in[0] + n * t.H * t.W * t.C + c;
        const float *b = (const float *)s->in[1] + n * t.P * t.Q * t.C + c;
        float *x = (float *)s->out + n * t.H * t.W * t.C + c;
        for (int64_t p = 0; p < t.P; p++) {
            struct span h = pixels(p, t.v->stride[0], t.v->pad[0], t.v->window[0], t.H);
            cleared = clear_rows(&t, x, cleared, h.to, channels);
            for (int64_t q = 0; q < t.Q; q++) {
                const struct panes w = panes_of(&t, h, q, &at);
                cpu->kernels->place(x + at, key + at, b + (p * t.Q + q) * t.C, &w, channels);
            }
        }
        clear_rows(&t, x, cleared, t.H, channels);
    }
}

int window_prepare(const struct cpu *cpu, struct step_run *s)
{
    (void)cpu;
    s->run = s->node.op == OP_PICK ? pick_run : place_run;
    return EBM_OK;
}
