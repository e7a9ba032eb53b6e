/* work.c - speed of whole programs: layers, Langevin steps, training steps.
 *
 * SPDX-License-Identifier: ISC
 *
 *     work [THREADS [REPEATS [NAME [PRECISION]]]]  a table; NAME: work whose line holds it,
 *                                             or one's own: "KIND N H W C NETWORK"
 *     work scaling [REPEATS [NAME]]           networks by one thread and by two
 *     work list                               "number kind n h w c name|network"
 *     work serve THREADS NUMBER FILE [PRECISION]  for torch_work.py; NUMBER: or one's own
 *
 * PRECISION: bf16 or bf16x3, and float32 where nothing is said.
 *
 * EBM_BENCH_BACKEND names what computes instead of the CPU; it is timed on the wall, and has
 * no peak here.
 *
 * GFLOP/s count the operations of contractions by their definition, in float32 or
 * bfloat16, and their peak is that of float32 multiplications in registers: Winograd's
 * algorithm may pass it.  GB/s count what must be moved: each input read and each result
 * written once; their peak is memcpy of as many bytes by as many threads.  Peaks are
 * measured in turn with the work, figures are medians.  scaling runs both in turn, and says whether the
 * states in their stores are then the same bits.
 *
 * serve writes a work's weights and inputs, and the result of a first run as
 * "result", to the safetensors FILE, says "ready", and then for every line with
 * a number runs the work so many times and says how many seconds that took, and for
 * "peak" the operations or bytes a second of the peak, 0 if it is not known. */
#include "config.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../apps/idle.h"
#include "isa.h"
#include "safetensors.h"
#include "store.h"
#include "peak.h"
#include "works.h"

#ifdef _OPENMP
#include <omp.h>
#endif

enum { MAX_REPEATS = 101, NAME_SIZE = 256 };

static int threads = 1;
static enum ebm_precision precision = EBM_FP32;

static const char *backend_name(void)
{
    const char *name = getenv("EBM_BENCH_BACKEND");

    return name && *name ? name : "cpu";
}

static bool on_cpu(void)
{
    return strcmp(backend_name(), "cpu") == 0;
}

static double now(void)
{
    return seconds_of(on_cpu() ? threads : 2);
}

/* Runs of a turn. */
static int calls_for(double once)
{
    return once < 0.02 ? 1 + (int)(0.02 / (once + 1e-7)) : 1;
}

/* Seconds of a run, so often in a row that the clock is fine enough. */
static int time_of(struct ready *r, int calls, double *seconds)
{
    double start = now();
    int rc = ebm_program_run(r->program, calls);

    *seconds = (now() - start) / calls;
    return rc;
}

/* The processor's peak in what a work is counted in: operations or bytes a second; 0 where
 * something else computes. */
struct peak {
    const struct ukernel *ukernel;
    char *to, *from;         /* to be copied; NULL of operations */
    size_t half;
    int calls;
};

static int peak_new(ebm_context *ctx, const struct ready *r, struct peak *p)
{
    *p = (struct peak){ .ukernel = ukernel_best(cpu_flags()), .calls = 1 };
    if (r->flop > 0 || !on_cpu())
        return EBM_OK;
    p->half = (size_t)(r->bytes / 2);
    p->from = mem_new(ctx, p->half + 1, 1);
    p->to = mem_new(ctx, p->half + 1, 1);
    if (!p->from || !p->to)
        return EBM_ERR_NOMEM;
    p->calls = calls_for(time_of_copy(p->to, p->from, p->half, 1, threads));
    return EBM_OK;
}

static double peak_now(const struct peak *p)
{
    return !on_cpu() ? 0
         : p->from ? 2 * (double)p->half / time_of_copy(p->to, p->from, p->half, p->calls, threads)
                   : peak_of(p->ukernel, threads);
}

static void peak_free(ebm_context *ctx, struct peak *p)
{
    mem_free(ctx, p->from);
    mem_free(ctx, p->to);
}

/* Prints the line of a work; its name before it begins, as it may take long. */
static int measure(ebm_context *ctx, ebm_backend *device, const struct work *work, int repeats)
{
    double ours[MAX_REPEATS], top[MAX_REPEATS], share[MAX_REPEATS], once = 0;
    struct ready r;
    struct peak peak = { 0 };
    int rc;

    printf("%-9s %-34s", kind_names[work->kind], work->name);
    fflush(stdout);
    rc = ready_new(device, work, precision, &r);
    if (rc >= 0 && (rc = time_of(&r, 1, &once)) >= 0 && (rc = time_of(&r, 1, &once)) >= 0)
        rc = peak_new(ctx, &r, &peak);
    const double counted = r.flop > 0 ? r.flop : r.bytes;
    for (int i = 0; rc >= 0 && i < repeats; i++) {
        if ((rc = time_of(&r, calls_for(once), &ours[i])) < 0)
            break;
        top[i] = peak_now(&peak);
        share[i] = top[i] > 0 ? 100 * counted / ours[i] / top[i] : 0;
    }
    if (rc >= 0) {
        double s = median(ours, repeats);
        printf(" %10.3f %9.1f %-7s", 1e3 * s, 1e-9 * counted / s, r.flop > 0 ? "GFLOP/s" : "GB/s");
        if (on_cpu())
            printf(" %9.1f %5.0f%%", 1e-9 * median(top, repeats), median(share, repeats));
    }
    printf("\n");
    fflush(stdout);
    peak_free(ctx, &peak);
    ready_free(&r);
    return rc;
}

static int table(ebm_context *ctx, ebm_backend *device, int repeats, const char *name)
{
    int rc = EBM_OK;
    struct work own;
    bool any = name && work_parse(name, &own);

    printf("%s\n%-44s %10s %17s", ebm_backend_describe(device), "", "ms", "rate");
    if (on_cpu())
        printf(" %9s %6s", "peak", "share");
    printf("\n");
    if (any)
        return measure(ctx, device, &own, repeats);
    for (int i = 0; rc >= 0 && i < n_works; i++) {
        char line[NAME_SIZE];
        snprintf(line, sizeof line, "%s %s", kind_names[works[i].kind], works[i].name);
        if (!name || strstr(line, name)) {
            any = true;
            rc = measure(ctx, device, &works[i], repeats);
        }
    }
    return any || rc < 0 ? rc : ebm_fail(ctx, EBM_ERR_ARG, "no line has '%s'", name);
}

/* ---- one thread and two ---- */

/* 1: their states are the same bits; 0: they differ. */
static int same_states(ebm_context *ctx, ebm_store *a, ebm_store *b)
{
    int same = 1;

    for (int i = 0; same == 1 && i < a->count; i++) {
        size_t size = tensor_bytes(&a->tensors[i]);
        char *x = mem_new(ctx, size + 1, 1), *y = mem_new(ctx, size + 1, 1);
        int rc = x && y ? ebm_store_read(a, a->tensors[i].name, x, size) : EBM_ERR_NOMEM;
        if (rc >= 0)
            rc = ebm_store_read(b, a->tensors[i].name, y, size);
        same = rc < 0 ? rc : memcmp(x, y, size) == 0;
        mem_free(ctx, x);
        mem_free(ctx, y);
    }
    return same;
}

static int scale(ebm_context *ctx, ebm_backend *const *devices, const struct work *work, int repeats)
{
    double seconds[2][MAX_REPEATS], gain[MAX_REPEATS], once = 0;
    struct ready r[2] = { { 0 } };
    int rc = EBM_OK, calls = 1;

    for (int i = 0; i < 2 && rc >= 0; i++)
        if ((rc = ready_new(devices[i], work, precision, &r[i])) >= 0)
            rc = time_of(&r[i], 1, &once);
    calls = once < 0.1 ? 1 + (int)(0.1 / once) : 1;
    for (int k = 0; k < repeats && rc >= 0; k++) {
        for (int i = 0; i < 2 && rc >= 0; i++)
            rc = time_of(&r[i], calls, &seconds[i][k]);
        gain[k] = seconds[0][k] / seconds[1][k];
    }
    if (rc >= 0)
        rc = same_states(ctx, r[0].store, r[1].store);
    if (rc >= 0)
        printf("%-9s %-26s %10.3f %10.3f %8.2f %s\n", kind_names[work->kind], work->name,
               1e3 * median(seconds[0], repeats), 1e3 * median(seconds[1], repeats), median(gain, repeats),
               rc ? "the same bits" : "DIFFERENT BITS");
    fflush(stdout);
    for (int i = 0; i < 2; i++)
        ready_free(&r[i]);
    return rc == 0 ? EBM_ERR_INTERNAL : rc;
}

static int scaling(ebm_context *ctx, int repeats, const char *name)
{
    ebm_backend *devices[2] = { NULL, NULL };
    int rc = EBM_OK;

    threads = 2;                             /* both by the clock on the wall */
    for (int i = 0; i < 2 && rc >= 0; i++)
        rc = ebm_backend_open(ctx, "cpu", 1 + i, &devices[i]);
    printf("%-36s %10s %10s %8s\n", "", "1 thread", "2 threads", "gain");
    for (int i = 0; rc >= 0 && i < n_works; i++)
        if ((works[i].kind == LANGEVIN || works[i].kind == TRAIN) && (!name || strstr(works[i].name, name)))
            rc = scale(ctx, devices, &works[i], repeats);
    for (int i = 0; i < 2; i++)
        ebm_backend_free(devices[i]);
    return rc;
}

/* ---- for another implementation ---- */

static int fetch(void *user, const char *name, size_t offset, void *to, size_t size)
{
    return store_read_at(user, name, offset, to, size);
}

/* What the store holds: weights by their names, states whole. */
static int write_store(struct safetensors_writer *writer, ebm_store *store)
{
    char name[NAME_SIZE];

    for (int i = 0; i < store->count; i++) {
        const struct tensor *t = &store->tensors[i];
        if (!t->region && t->type == EBM_F32)
            safetensors_add_fetched(writer, t->name, t->type, t->shape.rank, t->shape.n, fetch, store);
        for (int j = 0; j < t->n_parts; j++) {
            const struct part *p = &t->parts[j];
            if (snprintf(name, sizeof name, "%s/%s", t->name, p->name) >= (int)sizeof name)
                return EBM_ERR_ARG;
            safetensors_add_fetched(writer, name, EBM_F32, p->shape.rank, p->shape.n, fetch, store);
        }
    }
    return EBM_OK;
}

/* FILE with what is read, and the result of the first run, and FILE.result. */
static int write_files(ebm_context *ctx, struct ready *r, const struct work *work, const char *path)
{
    size_t size = work->kind == LANGEVIN ? sizeof(float) * (size_t)work->n * (size_t)work->h
                                           * (size_t)work->w * (size_t)work->c : r->result_size;
    float *result = mem_new(ctx, size + 1, 1);
    struct safetensors_writer *inputs = NULL, *results = NULL;
    char *other = mem_printf(ctx, "%s.result", path);
    const int64_t count = (int64_t)(size / sizeof *result);
    int rc = result && other ? EBM_OK : EBM_ERR_NOMEM;

    if (rc < 0 || (rc = safetensors_writer_new(ctx, &inputs)) < 0
        || (rc = safetensors_writer_new(ctx, &results)) < 0
        || (rc = write_store(inputs, r->store)) < 0
        || (rc = safetensors_write(inputs, path, NULL)) < 0
        || (rc = ebm_program_run(r->program, 1)) < 0)
        goto done;
    if (r->result)
        rc = ebm_program_get(r->program, r->result, result, size);
    else if (work->kind == LANGEVIN)
        rc = ebm_store_read(r->store, "x", result, size);
    if (rc >= 0) {
        safetensors_add(results, "result", EBM_F32, 1, &count, result);
        rc = safetensors_write(results, other, NULL);
    }
done:
    safetensors_writer_free(inputs);
    safetensors_writer_free(results);
    mem_free(ctx, result);
    mem_free(ctx, other);
    return rc;
}

static int serve(ebm_context *ctx, ebm_backend *device, const struct work *work, const char *path)
{
    const float noise = 0.01f;
    char line[32];
    struct ready r;
    struct peak peak = { 0 };
    int rc = ready_new(device, work, precision, &r);

    if (rc >= 0)
        rc = write_files(ctx, &r, work, path);
    if (rc >= 0 && work->kind == LANGEVIN)
        rc = ebm_program_set(r.program, "noise", &noise, sizeof noise);
    if (rc >= 0 && (rc = peak_new(ctx, &r, &peak)) >= 0)
        printf("ready %g %g\n", r.flop, r.bytes);
    while (rc >= 0 && fflush(stdout) == 0 && fgets(line, sizeof line, stdin)) {
        if (!strcmp(line, "peak\n")) {
            printf("%g\n", peak_now(&peak));
            continue;
        }
        int calls = atoi(line);
        double seconds;
        if ((rc = time_of(&r, calls > 0 ? calls : 1, &seconds)) >= 0)
            printf("%.9f\n", seconds);
    }
    peak_free(ctx, &peak);
    ready_free(&r);
    return rc;
}

static void list(void)
{
    for (int i = 0; i < n_works; i++) {
        const struct work *w = &works[i];
        printf("%d %s %d %d %d %d %s|%s\n", i, kind_names[w->kind], w->n, w->h, w->w, w->c,
               w->name, w->net);
    }
}

static const char usage[] = "usage: work [THREADS [REPEATS [NAME [PRECISION]]]] | scaling [REPEATS [NAME]] | list"
                            " | serve THREADS NUMBER FILE [bf16]\n";

/* serve THREADS NUMBER FILE; or the table of all. */
static int measure_or_serve(ebm_context *ctx, bool serving, char **words)
{
    ebm_backend *device = NULL;
    int repeats = words[1] && !serving ? atoi(words[1]) : 9, number = 0;
    struct work own;
    bool is_own = serving && work_parse(words[1], &own);
    int rc = ebm_backend_open(ctx, backend_name(), threads, &device);

    if (serving && !is_own)
        number = atoi(words[1]);
    if (repeats < 1 || repeats > MAX_REPEATS || number < 0 || number >= n_works)
        rc = ebm_fail(ctx, EBM_ERR_ARG, "%s", usage);
    if (rc >= 0)
        rc = serving ? serve(ctx, device, is_own ? &own : &works[number], words[2])
                     : table(ctx, device, repeats, words[1] ? words[2] : NULL);
    ebm_backend_free(device);
    return rc;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    bool serving = argc >= 5 && !strcmp(mode, "serve"), pairs = !strcmp(mode, "scaling");
    int repeats = pairs && argc > 2 ? atoi(argv[2]) : 9, rc;
    ebm_context *ctx = NULL;
    static char one[] = "1";
    char *words[4] = { one, NULL, NULL, NULL };

    idle_soon(argv);
    if (argc == 2 && !strcmp(mode, "list")) {
        list();
        return 0;
    }
    for (int i = 1 + serving, n = 0; i < argc && n < 4; i++)
        words[n++] = argv[i];
    threads = pairs ? 2 : atoi(words[0]);
    if (words[3])
        precision = !strcmp(words[3], "bf16") ? EBM_BF16 : !strcmp(words[3], "bf16x3") ? EBM_BF16X3 : -1;
    if ((int)precision < 0 || argc > 5 + serving || threads < 1 || repeats < 1 || repeats > MAX_REPEATS) {
        fputs(usage, stderr);
        return 2;
    }
    if ((rc = ebm_context_new(NULL, &ctx)) >= 0)
        rc = pairs ? scaling(ctx, repeats, argc > 3 ? argv[3] : NULL) : measure_or_serve(ctx, serving, words);
    if (rc < 0)
        fprintf(stderr, "work: %s\n", ctx ? ebm_message(ctx) : "no memory");
    ebm_context_free(ctx);
    return rc < 0;
}
