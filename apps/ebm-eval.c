/* ebm-eval.c - energies of images, and how well they tell foreign ones.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "attributes.h"
#include "idle.h"
#include "made.h"
#include "options.h"
#include "output.h"
#include "progress.h"
#include "stop.h"
#include "tool.h"

enum { CHUNK = 256 };               /* images read and scored at once */

static struct {
    const char *data, *split, *out, *in, *backend, *precision;
    struct texts out_of, settings;
    struct integer limit, threads;
    bool raw, quiet, json;
} given = { .backend = "auto" };

#define SHARED_ROWS \
    { "set", 's', OPTION_TEXTS, "KEY=VALUE", "change a setting sample.*; again for others", \
      &given.settings, 0, 0 }, \
    { "split", 0, OPTION_TEXT, "NAME", "train, test or all; test where there is one", \
      &given.split, 0, 0 }, \
    { "limit", 0, OPTION_INTEGER, "N", "use the first N images of a source only", \
      &given.limit, 1, INT64_MAX }, \
    { "raw", 0, OPTION_FLAG, NULL, "the last weights, not their moving average", \
      &given.raw, 0, 0 }, \
    { "backend", 'b', OPTION_TEXT, "NAME", "auto, cpu, vulkan or vulkan:N: what computes", &given.backend, 0, 0 }, \
    { "precision", 0, OPTION_TEXT, "NAME", "fp32, bf16 or bf16x3: how layers' products are computed", \
      &given.precision, 0, 0 }, \
    { "threads", 't', OPTION_INTEGER, "N", "of the CPU; all processors if not given", \
      &given.threads, 1, 4096 }, \
    { "quiet", 'q', OPTION_FLAG, NULL, "no progress", &given.quiet, 0, 0 }, \
    { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 }

static const struct option_row score_rows[] = {
    { "data", 'd', OPTION_TEXT, "SOURCE", "images: digits, shapes, a file or a folder",
      &given.data, 0, 0 },
    { "out", 'o', OPTION_TEXT, "FILE", "write index, label and energy there, as CSV",
      &given.out, 0, 0 },
    SHARED_ROWS
};
static const struct option_row ood_rows[] = {
    { "in", 'i', OPTION_TEXT, "SOURCE", "images of the kind the model knows", &given.in, 0, 0 },
    { "out-of", 'x', OPTION_TEXTS, "SOURCE", "foreign images, or interpolations, noise, constant; again,\n"
      "                            or as further operands",
      &given.out_of, 0, 0 },
    SHARED_ROWS
};
static const struct tool score_tool = {
    "ebm-eval", "score", "MODEL", "The energy of each image: low for what looks like the "
    "training data.", score_rows, COUNT(score_rows)
};
static const struct tool ood_tool = {
    "ebm-eval", "ood", "MODEL", "How well energies tell foreign images from known ones; "
    "foreign ones are\nthe positives, high energy is the sign.", ood_rows, COUNT(ood_rows)
};

struct work {
    ebm_context *context;
    ebm_backend *device;
    ebm_model *model;
    const ebm_model_info *info;
};

/* The energies of a source. */
struct scores {
    const char *source;
    enum made made;                 /* of images like those of the source */
    char split[8];
    size_t n;
    float *energies;
    int32_t *labels;
};

static void free_scores(struct scores *s)
{
    free(s->energies);
    free(s->labels);
}

/* Open a source for the model: its test images where it has such. */
static int open_data(struct work *w, const char *source, ebm_data **data)
{
    ebm_data_options options = {
        given.split ? given.split : "test", w->info->height, w->info->width,
        w->info->channels, w->info->fit, (size_t)given.limit.value, 0
    };
    int rc = ebm_data_open(w->context, source, &options, data);

    if (rc == EBM_ERR_ARG && !given.split) {
        options.split = "all";
        rc = ebm_data_open(w->context, source, &options, data);
    }
    return rc;
}

/* images: room for a chunk */
static int score_data(struct work *w, ebm_data *data, struct scores *s, float *images,
                      size_t pixels)
{
    struct progress bar;
    int rc = EBM_OK;

    progress_begin(&bar, "scoring", 0, (double)s->n, given.quiet);
    for (size_t done = 0; rc == EBM_OK && done < s->n; ) {
        size_t some = s->n - done < CHUNK ? s->n - done : CHUNK;
        for (size_t i = 0; rc == EBM_OK && i < some; i++)
            rc = s->made ? made_read(s->made, data, done + i, images + i * pixels)
                         : ebm_data_read(data, done + i, images + i * pixels, &s->labels[done + i]);
        if (rc == EBM_OK)
            rc = ebm_model_energy(w->model, (int64_t)some, images, s->energies + done);
        if (stop_asked())
            rc = EBM_ERR_STOPPED;
        done += some;
        progress_show(&bar, (double)done, NULL);
    }
    progress_end(&bar);
    return rc;
}

/* 0, or an exit status after a message. */
static int score(struct work *w, const char *source, struct scores *s)
{
    size_t pixels = (size_t)w->info->height * (size_t)w->info->width * (size_t)w->info->channels;
    ebm_data *data = NULL;
    ebm_data_info info;
    int status, rc = open_data(w, source, &data);

    if (rc < 0)
        return tool_fail(w->context, rc);
    ebm_data_describe(data, &info);
    s->source = source;
    s->n = info.count;
    snprintf(s->split, sizeof s->split, "%s", info.split);
    s->energies = calloc(s->n + 1, sizeof *s->energies);
    s->labels = calloc(s->n + 1, sizeof *s->labels);
    float *images = calloc(CHUNK + 1, pixels * sizeof *images);
    if (!s->energies || !s->labels || !images)
        status = tool_fail_memory();
    else if ((rc = score_data(w, data, s, images, pixels)) == EBM_ERR_STOPPED)
        tool_say("stopped"), status = EXIT_STOPPED;
    else
        status = rc < 0 ? tool_fail(w->context, rc) : 0;
    free(images);
    ebm_data_free(data);
    return status;
}

static void mean_and_deviation(const struct scores *s, double *mean, double *deviation)
{
    double sum = 0, squares = 0;

    for (size_t i = 0; i < s->n; i++)
        sum += s->energies[i];
    *mean = s->n ? sum / (double)s->n : NAN;
    for (size_t i = 0; i < s->n; i++)
        squares += (s->energies[i] - *mean) * (s->energies[i] - *mean);
    *deviation = s->n ? sqrt(squares / (double)s->n) : NAN;
}

/* --- score --- */

static void print_csv(FILE *f, const struct scores *s)
{
    fprintf(f, "index,label,energy\n");
    for (size_t i = 0; i < s->n; i++) {
        if (s->labels[i] >= 0)
            fprintf(f, "%zu,%" PRId32 ",%.9g\n", i, s->labels[i], s->energies[i]);
        else
            fprintf(f, "%zu,,%.9g\n", i, s->energies[i]);
    }
}

static json_t *json_energies(const struct scores *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(list, tool_json_number(s->energies[i]));
    return list;
}

static int run_score(struct work *w)
{
    struct scores s = { 0 };
    struct output o;
    double mean, deviation;
    int status = score(w, given.data, &s);

    if (!status && given.out && !(status = output_begin(&o, given.out))) {
        print_csv(o.file, &s);
        status = output_end(&o, true);
    }
    mean_and_deviation(&s, &mean, &deviation);
    if (!status && given.json) {
        json_t *object = json_pack("{s:s, s:s, s:I, s:o, s:o}", "data", given.data, "split",
            s.split, "images", (json_int_t)s.n, "mean", tool_json_number(mean), "deviation",
            tool_json_number(deviation));
        json_object_set_new(object, given.out ? "out" : "energies",
                            given.out ? json_string(given.out) : json_energies(&s));
        status = tool_print_json(object);
    } else if (!status && given.out) {
        printf("%zu images of %s (%s): energy %.6g +- %.6g\n", s.n, given.data, s.split,
               mean, deviation);
    } else if (!status) {
        print_csv(stdout, &s);
    }
    free_scores(&s);
    return status;
}

/* --- ood --- */

static json_t *json_detection(const struct scores *out, const ebm_detection *d)
{
    double mean, deviation;

    mean_and_deviation(out, &mean, &deviation);
    return json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "source", out->source,
        "split", out->split, "images", (json_int_t)out->n, "mean", tool_json_number(mean),
        "auroc", tool_json_number(d->auroc), "aupr_out_ap", tool_json_number(d->aupr_out_ap),
        "aupr_out_trapezoid", tool_json_number(d->aupr_out_trapezoid),
        "aupr_in_ap", tool_json_number(d->aupr_in_ap),
        "aupr_in_trapezoid", tool_json_number(d->aupr_in_trapezoid),
        "fpr95", tool_json_number(d->fpr95));
}

static int detect_one(struct work *w, const struct scores *in, const char *source, json_t *list,
                      double *auroc)
{
    struct scores out = { .made = made_of_name(source) };
    ebm_detection d;
    int status = score(w, out.made ? given.in : source, &out);

    out.source = source;
    if (!status) {
        int rc = ebm_detect(w->context, in->n, in->energies, out.n, out.energies, &d);
        if (rc < 0)
            status = tool_fail(w->context, rc);
    }
    if (!status)
        *auroc += d.auroc;
    if (!status && given.json)
        json_array_append_new(list, json_detection(&out, &d));
    else if (!status)
        printf("%-24s %8zu  %7.4f  %7.4f  %7.4f  %7.4f\n", source, out.n, d.auroc,
               d.aupr_out_ap, d.aupr_in_ap, d.fpr95);
    free_scores(&out);
    return status;
}

static int run_ood(struct work *w, int n_more, char **more)
{
    struct scores in = { 0 };
    double mean, deviation, auroc = 0;
    int sources = given.out_of.n + n_more;
    json_t *list = json_array();
    int status = score(w, given.in, &in);

    if (!status && !given.json) {
        printf("# score: energy; foreign images are the positives; in: %s (%s), %zu images\n",
               given.in, in.split, in.n);
        printf("%-24s %8s  %7s  %7s  %7s  %7s\n", "# out of", "images", "AUROC", "AUPR-out",
               "AUPR-in", "FPR@95");
    }
    for (int i = 0; !status && i < given.out_of.n; i++)
        status = detect_one(w, &in, given.out_of.v[i], list, &auroc);
    for (int i = 0; !status && i < n_more; i++)
        status = detect_one(w, &in, more[i], list, &auroc);
    if (!status && !given.json && sources > 1)
        printf("%-24s %8s  %7.4f\n", "# mean", "", auroc / sources);
    mean_and_deviation(&in, &mean, &deviation);
    if (!status && given.json)
        status = tool_print_json(json_pack("{s:s, s:s, s:{s:s, s:s, s:I, s:o}, s:O}", "score", "energy",
            "positive", "out of distribution", "in", "source", given.in, "split", in.split,
            "images", (json_int_t)in.n, "mean", tool_json_number(mean), "out_of", list));
    json_decref(list);
    free_scores(&in);
    return status;
}

/* --- the tool --- */

static int open_model(struct work *w, const char *path)
{
    char precision[64];
    int n = given.settings.n, rc;
    const char **settings = calloc((size_t)n + 1, sizeof *settings);

    if (!settings)
        return tool_fail_memory();
    for (int i = 0; i < n; i++)
        settings[i] = given.settings.v[i];
    if (given.precision) {
        snprintf(precision, sizeof precision, "precision=%s", given.precision);
        settings[n++] = precision;
    }
    const ebm_model_options options = { .settings = settings, .n_settings = n, .raw = given.raw };
    if ((rc = ebm_backend_open(w->context, given.backend, (int)given.threads.value,
                               &w->device)) >= 0)
        rc = ebm_model_open(w->device, path, &options, &w->model);
    free(settings);
    if (rc < 0)
        return tool_fail(w->context, rc);
    w->info = ebm_model_describe(w->model);
    stop_on_signals();
    return 0;
}

static int main_score(struct work *w, int argc, char **argv)
{
    int operand, status = options_read(&score_tool, argc, argv, &operand);

    tool_be_quiet(given.quiet);
    if (status < 0 && (operand != argc - 1 || !given.data)) {
        tool_say("one MODEL and --data are needed, as in: ebm-eval score model.safetensors "
                 "--data digits");
        status = EXIT_USAGE;
    }
    if (status < 0 && !(status = open_model(w, argv[operand])))
        status = run_score(w);
    options_free(&score_tool);
    return status;
}

static int main_ood(struct work *w, int argc, char **argv)
{
    int operand, status = options_read(&ood_tool, argc, argv, &operand);

    tool_be_quiet(given.quiet);
    if (status < 0 && (operand >= argc || !given.in
                       || given.out_of.n + (argc - operand - 1) == 0)) {
        tool_say("a MODEL, --in and --out-of are needed, as in: ebm-eval ood "
                 "model.safetensors --in digits --out-of shapes");
        status = EXIT_USAGE;
    }
    if (status < 0 && !(status = open_model(w, argv[operand])))
        status = run_ood(w, argc - operand - 1, argv + operand + 1);
    options_free(&ood_tool);
    return status;
}

int main(int argc, char **argv)
{
    struct work w = { 0 };
    const char *command = argc > 1 ? argv[1] : "";
    int status = EXIT_USAGE;

    idle_soon(argv);
    if (!(w.context = tool_start("ebm-eval")))
        return EXIT_MEMORY;
    if (!strcmp(command, "score")) {
        status = main_score(&w, argc - 1, argv + 1);
    } else if (!strcmp(command, "ood")) {
        status = main_ood(&w, argc - 1, argv + 1);
    } else if (!strcmp(command, "attributes")) {
        status = attributes_main(w.context, argc - 1, argv + 1);
    } else if (!strcmp(command, "--help") || !strcmp(command, "-h")) {
        options_print(&score_tool);
        putchar('\n');
        options_print(&ood_tool);
        putchar('\n');
        options_print(&attributes_tool);
        status = EXIT_DONE;
    } else if (!strcmp(command, "--version") || !strcmp(command, "-V")) {
        printf("ebm-eval (libebm) %s\n", ebm_version());
        status = EXIT_DONE;
    } else {
        tool_say("the first word is score, ood or attributes, as in: ebm-eval score model.safetensors "
                 "--data digits");
    }
    ebm_model_free(w.model);
    ebm_backend_free(w.device);
    ebm_context_free(w.context);
    return tool_end(status);
}
