/* golden.c - run graphs on the contents of a golden file.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

static void must(struct golden *t, bool done, const char *what)
{
    if (done)
        return;
    printf("Bail out! %s: %s\n", what, ebm_message(t->ctx));
    exit(1);
}

static void *need(void *ptr)
{
    if (!ptr) {
        printf("Bail out! no memory\n");
        exit(1);
    }
    return ptr;
}

void golden_open(struct golden *t, ebm_context *ctx, ebm_backend *backend, const char *name)
{
    const char *folder = getenv("srcdir");
    char path[1024];

    memset(t, 0, sizeof *t);
    t->ctx = ctx;
    t->backend = backend;
    t->nothing.ctx = ctx;
    must(t, ebm_store_new(backend ? backend : &t->nothing, &t->store) >= 0, "store");
    must(t, ebm_graph_new(t->store, &t->g) >= 0, "graph");
    if (name) {
        snprintf(path, sizeof path, "%s/tests/golden/%s.safetensors", folder ? folder : ".", name);
        must(t, safetensors_open(ctx, path, &t->file) >= 0, name);
    }
}

void golden_close(struct golden *t)
{
    ebm_program_free(t->program);
    oracle_free(t->oracle);
    for (int i = 0; i < GOLDEN_SLOTS; i++)
        free(t->slot[i]);
    for (int i = 0; i < t->n_feeds; i++)
        free(t->feed[i]);
    ebm_graph_free(t->g);
    ebm_store_free(t->store);
    safetensors_close(t->file);
}

double *golden_tensor(struct golden *t, const char *name, int64_t *count)
{
    const struct safetensor *tensor = safetensors_find(t->file, name);

    if (!tensor)
        return NULL;
    size_t n = (size_t)tensor->elements;
    float *stored = need(malloc(n * sizeof *stored + 1));
    double *data = need(malloc(n * sizeof *data + 1));
    must(t, safetensors_read(t->file, tensor, EBM_F32, stored, n * sizeof *stored) >= 0, name);
    for (size_t i = 0; i < n; i++)
        data[i] = (double)stored[i];
    free(stored);
    *count = tensor->elements;
    return data;
}

void golden_ready(struct golden *t, const ebm_outputs *outputs)
{
    must(t, ebm_graph_status(t->g) >= 0, "graph");
    if (t->backend) {
        must(t, ebm_store_alloc(t->store, 1) >= 0, "store");
        must(t, ebm_compile(t->g, outputs->count, outputs->list, &t->program) >= 0, "compile");
        return;
    }
    t->oracle = need(oracle_new(t->g));
    must(t, t->store->count <= GOLDEN_SLOTS, "the test has room for fewer states");
    for (int i = 0; i < t->store->count; i++) {
        size_t count = (size_t)shape_count(&t->store->tensors[i].shape);
        t->slot[i] = need(calloc(count, sizeof(double)));
        oracle_slot(t->oracle, i, t->slot[i]);
    }
}

/* Where a state or "region/parameter" lies for the oracle. */
static double *place_of(struct golden *t, const char *name, int64_t *count)
{
    for (int i = 0; i < t->store->count; i++) {
        const struct tensor *tensor = &t->store->tensors[i];
        size_t n = strlen(tensor->name);

        if (strcmp(tensor->name, name) == 0) {
            *count = shape_count(&tensor->shape);
            return t->slot[i];
        }
        for (int j = 0; j < tensor->n_parts; j++)
            if (strncmp(tensor->name, name, n) == 0 && name[n] == '/'
                && strcmp(tensor->parts[j].name, name + n + 1) == 0) {
                *count = shape_count(&tensor->parts[j].shape);
                return t->slot[i] + tensor->parts[j].offset;
            }
    }
    ebm_fail(t->ctx, EBM_ERR_ARG, "no tensor of the name");
    must(t, false, name);
    return NULL;
}

static float *as_floats(const double *data, int64_t count)
{
    float *f = need(malloc((size_t)count * sizeof *f));

    for (int64_t i = 0; i < count; i++)
        f[i] = (float)data[i];
    return f;
}

void golden_put(struct golden *t, const char *name, const double *data, int64_t count)
{
    int64_t has;

    if (t->backend) {
        float *f = as_floats(data, count);
        must(t, ebm_store_write(t->store, name, f, (size_t)count * sizeof *f) >= 0, name);
        free(f);
        return;
    }
    double *to = place_of(t, name, &has);
    must(t, has == count, name);
    memcpy(to, data, (size_t)count * sizeof *to);
}

void golden_feed(struct golden *t, const char *name, const double *data, int64_t count)
{
    if (t->backend) {
        float *f = as_floats(data, count);
        must(t, ebm_program_set(t->program, name, f, (size_t)count * sizeof *f) >= 0, name);
        free(f);
        return;
    }
    must(t, t->n_feeds < GOLDEN_FEEDS, "the test has room for fewer feeds");
    double *kept = need(malloc((size_t)count * sizeof *kept));
    memcpy(kept, data, (size_t)count * sizeof *kept);
    t->feed[t->n_feeds++] = kept;
    oracle_feed(t->oracle, name, kept);
}

/* Effects: all are computed from the contents before, then written. */
static void run_oracle(struct golden *t, const ebm_outputs *outputs)
{
    oracle_forget(t->oracle);
    for (int i = 0; i < outputs->count; i++) {
        const struct node *n = node_of(t->g, outputs->list[i]);
        oracle_value(t->oracle, n->op == OP_ASSIGN ? operand(n, 0) : outputs->list[i]);
    }
    for (int i = 0; i < outputs->count; i++) {
        const struct node *n = node_of(t->g, outputs->list[i]);
        if (n->op == OP_ASSIGN)
            memcpy(t->slot[n->attr.state.slot], oracle_value(t->oracle, operand(n, 0)),
                   (size_t)shape_count(&n->shape) * sizeof(double));
    }
}

void golden_run(struct golden *t, const ebm_outputs *outputs)
{
    if (t->backend) {
        must(t, ebm_program_run(t->program, 1) >= 0, "run");
        return;
    }
    run_oracle(t, outputs);
    while (t->n_feeds > 0)       /* values are computed: feeds are given anew */
        free(t->feed[--t->n_feeds]);
}

double *golden_value(struct golden *t, ebm_val a)
{
    int64_t count = shape_count(&node_of(t->g, a)->shape);
    double *data = need(malloc((size_t)count * sizeof *data));

    if (t->backend) {
        float *f = need(malloc((size_t)count * sizeof *f));
        must(t, ebm_program_get(t->program, a, f, (size_t)count * sizeof *f) >= 0, "value");
        for (int64_t i = 0; i < count; i++)
            data[i] = (double)f[i];
        free(f);
    } else {
        memcpy(data, oracle_value(t->oracle, a), (size_t)count * sizeof *data);
    }
    return data;
}

double *golden_state(struct golden *t, const char *name)
{
    int64_t count;

    place_of(t, name, &count);
    double *data = need(malloc((size_t)count * sizeof *data));
    if (t->backend) {
        float *f = need(malloc((size_t)count * sizeof *f));
        must(t, ebm_store_read(t->store, name, f, (size_t)count * sizeof *f) >= 0, name);
        for (int64_t i = 0; i < count; i++)
            data[i] = (double)f[i];
        free(f);
    } else {
        memcpy(data, place_of(t, name, &count), (size_t)count * sizeof *data);
    }
    return data;
}

double relative_error(const double *a, const double *b, int64_t count, double least)
{
    double largest = least, difference = 0;

    for (int64_t i = 0; i < count; i++) {
        double d = fabs(a[i] - b[i]);
        largest = fmax(largest, fabs(b[i]));
        if (!(d <= difference))          /* NaN counts */
            difference = isnan(d) ? INFINITY : d;
    }
    return difference / largest;
}

double golden_error(struct golden *t, const char *name, ebm_val a)
{
    int64_t count;
    double *expected = golden_tensor(t, name, &count);

    if (!expected || count != shape_count(&node_of(t->g, a)->shape)) {
        printf("# the file has no %s of this shape\n", name);
        free(expected);
        return 1;
    }
    double *is = golden_value(t, a), error = relative_error(is, expected, count, 0);
    free(expected);
    free(is);
    return error;
}

/* The gradient by a parameter in the file; NULL and a note where there is none. */
static double *gradient_of(struct golden *t, const struct part *part)
{
    char name[256];
    int64_t count;

    snprintf(name, sizeof name, "grad.%s", part->name);
    double *expected = golden_tensor(t, name, &count);
    if (expected && count == shape_count(&part->shape))
        return expected;
    printf("# the file has no %s of this shape\n", name);
    free(expected);
    return NULL;
}

double golden_gradient_error(struct golden *t, ebm_val gradient)
{
    const struct tensor *region = &t->store->tensors[store_find(t->store, "net")];
    double *is = golden_value(t, gradient), largest = 0, worst = 0;

    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < region->n_parts; i++) {
            const struct part *part = &region->parts[i];
            int64_t count = shape_count(&part->shape);
            double *expected = gradient_of(t, part);

            for (int64_t j = 0; expected && pass == 0 && j < count; j++)
                largest = fmax(largest, fabs(expected[j]));
            if (pass == 1)
                worst = fmax(worst, expected ? relative_error(is + part->offset, expected, count, largest) : 1);
            free(expected);
        }
    free(is);
    return worst;
}

double golden_number(const char *name, uint64_t i)
{
    uint64_t z = 14695981039346656037u;

    for (; *name; name++)
        z = (z ^ (unsigned char)*name) * 1099511628211u;
    z += (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 40) / 8388608 - 1;
}

void golden_weights(struct golden *t,
                    void (*change)(const char *name, int rank, double *factor, double *addend))
{
    const struct tensor *region = &t->store->tensors[store_find(t->store, "net")];

    for (int i = 0; i < region->n_parts; i++) {
        const struct part *part = &region->parts[i];
        int64_t count = shape_count(&part->shape);
        double factor = 1, addend = 0, *data = need(malloc((size_t)count * sizeof *data));
        char full[256];

        if (change)
            change(part->name, part->shape.rank, &factor, &addend);
        factor *= part->shape.rank == 1 ? 0.5 : sqrt(3 * (double)part->shape.n[0] / (double)count);
        for (int64_t j = 0; j < count; j++)
            data[j] = (double)(float)(factor * golden_number(part->name, (uint64_t)j) + addend);
        snprintf(full, sizeof full, "net/%s", part->name);
        golden_put(t, full, data, count);
        free(data);
    }
}
