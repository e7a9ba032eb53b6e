/* loader.c - batches made ahead of their use.
 *
 * SPDX-License-Identifier: ISC
 *
 *   batch      b b+1 b+2 b+3 | b+4            a ring of `queue` slots
 *              ^next         ^claim
 *   worker     claims the lowest batch, fills its slot
 *   next       waits for its batch, copies it out, frees the slot
 *
 * Position p = b x batch + j in the endless stream of images has the image
 * order(p mod count) of epoch p / count, where order is a permutation computed
 * point by point, and all chance at p is drawn by Philox from p: batch b needs
 * nothing that was done before it, and the threads decide nothing but when.
 * Invariant: a slot is touched by the worker that claimed its batch until it is
 * ready, and by next alone thereafter. */
#include "config.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "data.h"
#include "philox.h"

enum { QUEUE_DEFAULT = 4, QUEUE_MAX = 1024, THREADS_MAX = 256, MESSAGE_SIZE = 1024 };

/* Draws of one position differ by purpose. */
enum { PURPOSE_ORDER = 0x6f726400, PURPOSE_PLACE = 0x706c6300,
       PURPOSE_DEQUANTISE = 0x64657100, PURPOSE_NOISE = 0x6e6f6900 };

struct slot {
    float *images;
    int32_t *labels;
    bool ready;
    int status;
    char message[MESSAGE_SIZE];
};

struct worker {
    ebm_loader *loader;
    ebm_context *ctx;          /* of its own; of the data without threads */
    float *read, *chance;      /* an image each */
    pthread_t thread;
    bool running;
};

struct ebm_loader {
    ebm_context *ctx;
    ebm_data *data;
    ebm_data_info info;
    ebm_loader_options options;
    size_t batch, image_size;
    uint32_t key[2];

    struct worker *workers;
    size_t n_workers;
    struct slot *slots;
    size_t queue;

    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    int ready;                 /* how many of the three are to be destroyed */
    uint64_t next, claim;
    size_t busy;
    bool paused, stop;
};

/* --- order --- */

/* A Feistel network of 8 rounds over the pairs of `half` bits. */
static uint64_t feistel(uint64_t x, unsigned half, uint64_t epoch, const uint32_t key[2])
{
    const uint32_t mask = (uint32_t)((UINT64_C(1) << half) - 1);
    uint32_t left = (uint32_t)(x >> half), right = (uint32_t)x & mask, out[4];
    uint32_t round;

    for (round = 0; round < 8; round++) {
        uint32_t counter[4] = { right, (uint32_t)epoch, (uint32_t)(epoch >> 32),
                                PURPOSE_ORDER + round };
        uint32_t was = right;

        philox_block(counter, key, out);
        right = left ^ (out[0] & mask);
        left = was;
    }
    return (uint64_t)left << half | right;
}

/* Where k goes in a permutation of 0 ... count-1: the network permutes the next
 * power of 4, and is walked until it comes back into the range (Black and Rogaway
 * 2002), 4 steps at most on average. */
static uint64_t permute(uint64_t k, uint64_t count, uint64_t epoch, const uint32_t key[2])
{
    unsigned half = 0;

    while (half < 32 && UINT64_C(1) << 2 * half < count)
        half++;
    do
        k = feistel(k, half, epoch, key);
    while (k >= count);
    return k;
}

/* --- one image --- */

/* A copy, mirrored and moved down and right; zeros come in. */
static void place(const ebm_loader *l, const float *from, float *to, bool mirrored,
                  int down, int right)
{
    const int H = l->info.height, W = l->info.width, C = l->info.channels;
    int y, x, c;

    for (y = 0; y < H; y++)
        for (x = 0; x < W; x++) {
            int v = y - down, u = x - right;
            bool outside = v < 0 || v >= H || u < 0 || u >= W;

            if (mirrored)
                u = W - 1 - u;
            for (c = 0; c < C; c++)
                *to++ = outside ? 0 : from[((size_t)v * (size_t)W + (size_t)u)
                                           * (size_t)C + (size_t)c];
        }
}

/* A number in [-most,most]. */
static int shift(uint32_t word, int most)
{
    return (int)((uint64_t)word * (2 * (uint64_t)most + 1) >> 32) - most;
}

static void dequantise(float *v, const float *chance, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        v[i] = (255 * v[i] + chance[i]) * (1.0f / 256);
}

static void map_range(float *v, size_t n, float low, float high)
{
    size_t i;

    for (i = 0; i < n; i++)
        v[i] = low + (high - low) * v[i];
}

static int make_image(struct worker *w, uint64_t p, float *to, int32_t *label)
{
    ebm_loader *l = w->loader;
    const ebm_loader_options *o = &l->options;
    const size_t n = l->image_size;
    const bool moved = o->flip || o->crop;
    const struct philox rng = { { l->key[0], l->key[1] }, (uint32_t)p, (uint32_t)(p >> 32) };
    uint64_t count = l->info.count, index = p % count;
    size_t i;

    if (!o->in_order)
        index = permute(index, count, p / count, l->key);
    int rc = data_read(w->ctx, l->data, (size_t)index, moved ? w->read : to, label);
    if (rc < 0)
        return rc;
    if (moved) {
        uint32_t counter[4] = { 0, rng.step, rng.stream, PURPOSE_PLACE }, word[4];

        philox_block(counter, l->key, word);
        place(l, w->read, to, o->flip && word[0] >> 31, shift(word[1], o->crop),
              shift(word[2], o->crop));
    }
    if (o->dequantise) {
        philox_uniform(w->chance, 0, (int64_t)n, &rng, PURPOSE_DEQUANTISE);
        dequantise(to, w->chance, n);
    }
    if (o->low < o->high)
        map_range(to, n, o->low, o->high);
    if (o->noise > 0) {
        philox_normal(w->chance, 0, (int64_t)n, &rng, PURPOSE_NOISE);
        for (i = 0; i < n; i++)
            to[i] += o->noise * w->chance[i];
    }
    return EBM_OK;
}

static int make_batch(struct worker *w, uint64_t b, float *images, int32_t *labels)
{
    const ebm_loader *l = w->loader;
    int32_t ignored;
    size_t j;
    int rc = EBM_OK;

    for (j = 0; j < l->batch && rc == EBM_OK; j++)
        rc = make_image(w, b * l->batch + j, images + j * l->image_size,
                        labels ? labels + j : &ignored);
    return rc;
}

/* --- threads --- */

static void *run(void *argument)
{
    struct worker *w = argument;
    ebm_loader *l = w->loader;

    pthread_mutex_lock(&l->mutex);
    for (;;) {
        while (!l->stop && (l->paused || l->claim - l->next >= l->queue))
            pthread_cond_wait(&l->work, &l->mutex);
        if (l->stop)
            break;
        uint64_t b = l->claim++;
        struct slot *s = &l->slots[b % l->queue];
        l->busy++;
        pthread_mutex_unlock(&l->mutex);
        s->status = make_batch(w, b, s->images, s->labels);
        if (s->status < 0)
            snprintf(s->message, sizeof s->message, "%s", ebm_message(w->ctx));
        pthread_mutex_lock(&l->mutex);
        s->ready = true;
        l->busy--;
        pthread_cond_broadcast(&l->done);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Threads that take no signals: these are the caller's. */
static int start_workers(ebm_loader *l)
{
    sigset_t all, before;
    size_t i;
    int rc = EBM_OK;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (i = 0; i < l->n_workers && rc == EBM_OK; i++) {
        struct worker *w = &l->workers[i];
        int error = pthread_create(&w->thread, NULL, run, w);

        w->running = error == 0;
        if (error)
            rc = ebm_fail(l->ctx, EBM_ERR_NOMEM, "cannot start thread %zu of the loader: %s",
                          i + 1, strerror(error));
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* --- interface --- */

static int check_options(ebm_context *ctx, int batch, const ebm_loader_options *o,
                         const ebm_data_info *info)
{
    int smaller = info->height < info->width ? info->height : info->width;

    if (batch < 1)
        return ebm_fail(ctx, EBM_ERR_ARG, "a batch of %d images: at least 1 is needed", batch);
    if (o->crop < 0 || o->crop >= smaller)
        return ebm_fail(ctx, EBM_ERR_ARG, "images of %d x %d cannot be shifted by %d pixels",
                        info->height, info->width, o->crop);
    if (!(o->low < o->high) && !(o->low == 0 && o->high == 0))
        return ebm_fail(ctx, EBM_ERR_ARG, "a range from %g to %g is empty", (double)o->low,
                        (double)o->high);
    if (!(o->noise >= 0) || o->noise > 1e6f)
        return ebm_fail(ctx, EBM_ERR_ARG, "noise of %g: it must not be negative",
                        (double)o->noise);
    if (o->threads < -1 || o->threads > THREADS_MAX || o->queue < 0 || o->queue > QUEUE_MAX)
        return ebm_fail(ctx, EBM_ERR_ARG, "%d threads and a queue of %d: up to %d and %d are "
                        "possible", o->threads, o->queue, THREADS_MAX, QUEUE_MAX);
    return EBM_OK;
}

static int make_worker(ebm_loader *l, struct worker *w)
{
    w->loader = l;
    w->ctx = l->ctx;
    if (l->queue && context_like(l->ctx, &w->ctx) < 0) {
        w->ctx = NULL;
        return ebm_fail_memory(l->ctx, "a loader thread", 0);
    }
    w->read = mem_new(l->ctx, l->image_size, sizeof *w->read);
    w->chance = mem_new(l->ctx, l->image_size, sizeof *w->chance);
    return w->read && w->chance ? EBM_OK : EBM_ERR_NOMEM;
}

static int make_room(ebm_loader *l)
{
    size_t i, size;

    if (!size_mul(l->batch, l->image_size, &size))
        return ebm_fail(l->ctx, EBM_ERR_NOMEM, "a batch of %zu images of %zu numbers is more "
                        "than this machine can address", l->batch, l->image_size);
    if (!(l->workers = mem_new(l->ctx, l->n_workers, sizeof *l->workers))
        || !(l->slots = mem_new(l->ctx, l->queue, sizeof *l->slots)))
        return EBM_ERR_NOMEM;
    for (i = 0; i < l->queue; i++) {
        l->slots[i].images = mem_new(l->ctx, size, sizeof *l->slots[i].images);
        l->slots[i].labels = mem_new(l->ctx, l->batch, sizeof *l->slots[i].labels);
        if (!l->slots[i].images || !l->slots[i].labels)
            return EBM_ERR_NOMEM;
    }
    for (i = 0; i < l->n_workers; i++)
        if (make_worker(l, &l->workers[i]) < 0)
            return EBM_ERR_NOMEM;
    return EBM_OK;
}

static int make_locks(ebm_loader *l)
{
    if (pthread_mutex_init(&l->mutex, NULL) == 0 && ++l->ready
        && pthread_cond_init(&l->work, NULL) == 0 && ++l->ready
        && pthread_cond_init(&l->done, NULL) == 0 && ++l->ready)
        return EBM_OK;
    return ebm_fail(l->ctx, EBM_ERR_NOMEM, "no memory for the loader's locks");
}

size_t loader_bytes(const ebm_data_info *info, int64_t batch)
{
    size_t image = (size_t)info->height * (size_t)info->width * (size_t)info->channels;

    return (QUEUE_DEFAULT * (size_t)batch + 2) * (image * sizeof(float) + sizeof(int32_t));
}

int ebm_loader_open(ebm_data *data, int batch, uint64_t seed,
                    const ebm_loader_options *options, ebm_loader **loader)
{
    static const ebm_loader_options defaults;
    ebm_context *ctx = data_context(data);
    ebm_data_info info;
    int rc;

    *loader = NULL;
    if (!options)
        options = &defaults;
    ebm_data_describe(data, &info);
    if ((rc = check_options(ctx, batch, options, &info)) < 0)
        return rc;
    ebm_loader *l = mem_new(ctx, 1, sizeof *l);
    if (!l)
        return EBM_ERR_NOMEM;
    l->ctx = ctx;
    l->data = data;
    l->info = info;
    l->options = *options;
    l->batch = (size_t)batch;
    l->image_size = (size_t)info.height * (size_t)info.width * (size_t)info.channels;
    l->key[0] = (uint32_t)seed;
    l->key[1] = (uint32_t)(seed >> 32);
    l->n_workers = options->threads > 0 ? (size_t)options->threads : 1;
    if (options->threads >= 0)
        l->queue = options->queue ? (size_t)options->queue : QUEUE_DEFAULT;
    if ((rc = make_locks(l)) < 0 || (rc = make_room(l)) < 0
        || (l->queue && (rc = start_workers(l)) < 0)) {
        ebm_loader_free(l);
        return rc;
    }
    *loader = l;
    return EBM_OK;
}

static void stop_workers(ebm_loader *l)
{
    size_t i;

    if (l->ready < 3)
        return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (i = 0; l->workers && i < l->n_workers; i++)
        if (l->workers[i].running)
            pthread_join(l->workers[i].thread, NULL);
}

void ebm_loader_free(ebm_loader *l)
{
    size_t i;

    if (!l)
        return;
    stop_workers(l);
    for (i = 0; l->workers && i < l->n_workers; i++) {
        mem_free(l->ctx, l->workers[i].read);
        mem_free(l->ctx, l->workers[i].chance);
        if (l->workers[i].ctx != l->ctx)
            ebm_context_free(l->workers[i].ctx);
    }
    for (i = 0; l->slots && i < l->queue; i++) {
        mem_free(l->ctx, l->slots[i].images);
        mem_free(l->ctx, l->slots[i].labels);
    }
    mem_free(l->ctx, l->workers);
    mem_free(l->ctx, l->slots);
    if (l->ready > 2)
        pthread_cond_destroy(&l->done);
    if (l->ready > 1)
        pthread_cond_destroy(&l->work);
    if (l->ready > 0)
        pthread_mutex_destroy(&l->mutex);
    mem_free(l->ctx, l);
}

int ebm_loader_next(ebm_loader *l, float *images, int32_t *labels)
{
    int rc;

    if (!l->queue) {
        rc = make_batch(&l->workers[0], l->next, images, labels);
        if (rc == EBM_OK)
            l->next++;
        return rc;
    }
    struct slot *s = &l->slots[l->next % l->queue];
    pthread_mutex_lock(&l->mutex);
    while (!s->ready)
        pthread_cond_wait(&l->done, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
    if (s->status < 0)
        return ebm_fail(l->ctx, s->status, "%s", s->message);
    memcpy(images, s->images, l->batch * l->image_size * sizeof *images);
    if (labels)
        memcpy(labels, s->labels, l->batch * sizeof *labels);
    pthread_mutex_lock(&l->mutex);
    s->ready = false;
    l->next++;
    pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->mutex);
    return EBM_OK;
}

int ebm_loader_seek(ebm_loader *l, uint64_t batch)
{
    size_t i;

    pthread_mutex_lock(&l->mutex);
    l->paused = true;
    while (l->busy > 0)
        pthread_cond_wait(&l->done, &l->mutex);
    for (i = 0; i < l->queue; i++)
        l->slots[i].ready = false;
    l->next = l->claim = batch;
    l->paused = false;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    return EBM_OK;
}

uint64_t ebm_loader_tell(const ebm_loader *l)
{
    return l->next;
}
