/* ebm-sample.c - draw images from a trained model, or from several composed.
 *
 * SPDX-License-Identifier: ISC
 *
 * Images are drawn in the model's own batches, so that a signal loses only the
 * batch at work: what is finished is written.  Single pictures are written after
 * each batch, grids and arrays at the end. */
#include "config.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "idle.h"
#include "options.h"
#include "output.h"
#include "parts.h"
#include "profile.h"
#include "progress.h"
#include "stop.h"
#include "tool.h"

enum { DEFAULT_COUNT = 64 };

static struct {
    const char *out, *backend, *image, *mask, *precision;
    struct texts settings;
    struct parts parts;
    struct integer n, first, seed, threads, columns, frames;
    size_t max_memory;
    bool stages, raw, profile, quiet, json;
} given = { .backend = "auto" };

static const struct option_row rows[] = {
    { "out", 'o', OPTION_TEXT, "PATH", "a grid FILE.png, an array FILE.npy or a folder DIR/",
      &given.out, 0, 0 },
    { "count", 'n', OPTION_INTEGER, "N", "images to draw; 64 if not given", &given.n, 1, 100000000 },
    { "seed", 0, OPTION_INTEGER, "N", "of all random numbers; drawn and shown if not given",
      &given.seed, 0, 9007199254740992 },
    { "first", 0, OPTION_INTEGER, "N", "number of the first image in the seed's series; 0 if not given",
      &given.first, 0, 1000000000000 },
    { "set", 's', OPTION_TEXTS, "KEY=VALUE", "change a setting sample.*; again for others",
      &given.settings, 0, 0 },
    { "columns", 'c', OPTION_INTEGER, "N", "of the grid", &given.columns, 1, 10000 },
    { "image", 0, OPTION_TEXT, "FILE", "complete this image, with --mask", &given.image, 0, 0 },
    { "mask", 0, OPTION_TEXT, "FILE", "an image: white is drawn anew, black kept", &given.mask, 0, 0 },
    { "stages", 0, OPTION_FLAG, NULL, "a row for each image: its way from noise", &given.stages, 0, 0 },
    { "weights", 'w', OPTION_TEXT, "W,W...", "of the models' energies; ones if not given",
      &given.parts.weights, 0, 0 },
    { "label", 'l', OPTION_TEXTS, "N", "class that is drawn, or any; again for further models",
      &given.parts.labels, 0, 0 },
    { "any", 0, OPTION_TEXT, "B", "images that please one model at least, at this sharpness",
      &given.parts.any, 0, 0 },
    { "frames", 'f', OPTION_INTEGER, "N", "so many pictures of each chain on its way", &given.frames, 1, 10000 },
    { "raw", 0, OPTION_FLAG, NULL, "the last weights, not their moving average", &given.raw, 0, 0 },
    { "backend", 'b', OPTION_TEXT, "NAME", "auto, cpu, vulkan or vulkan:N: what computes", &given.backend, 0, 0 },
    { "precision", 0, OPTION_TEXT, "NAME", "fp32, bf16 or bf16x3: how layers' products are computed",
      &given.precision, 0, 0 },
    { "threads", 't', OPTION_INTEGER, "N", "of the CPU; all processors if not given",
      &given.threads, 1, 4096 },
    { "max-mem", 0, OPTION_SIZE, "SIZE", "take no more memory, as in 2G: smaller parts of a batch", &given.max_memory, 0, 0 },
    { "profile", 0, OPTION_FLAG, NULL, "show at the end where the time went", &given.profile, 0, 0 },
    { "quiet", 'q', OPTION_FLAG, NULL, "no progress", &given.quiet, 0, 0 },
    { "json", 0, OPTION_FLAG, NULL, "results as JSON", &given.json, 0, 0 },
};
static const struct tool tool = {
    "ebm-sample", NULL, "MODEL...", "Draw images from a trained model, or from several composed.", rows, COUNT(rows)
};

struct work {
    ebm_context *context;
    ebm_backend *device;
    ebm_model *model;
    const ebm_model_info *info;
    uint64_t seed;
    char *digests;
    size_t pixels;                  /* of an image */
    float *images;
    float *picture, *mask;          /* to complete, or NULL */
    int64_t stages;                 /* pictures of an image; 1: it alone */
    int64_t done;
    struct progress bar;
    char *precision;                /* the setting made of the option */
    char settings[2048];            /* sample.* and precision in force, a line each */
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), e = strlen(end);

    return n > e && !strcmp(s + n - e, end);
}

static bool is_folder_name(const char *s)
{
    return ends_with(s, "/");
}

static int on_progress(void *user, double done)
{
    struct work *w = user;
    const char *batch = ebm_model_setting(w->model, "sample.batch");
    double size = batch ? atof(batch) : 1;

    progress_show(&w->bar, (double)w->done + done * size < w->bar.total
                         ? (double)w->done + done * size : w->bar.total, NULL);
    return stop_asked();
}

/* Those that change what is drawn. */
static bool noted(const char *line)
{
    return !strncmp(line, "sample.", 7) || !strncmp(line, "precision", 9);
}

/* These settings as they are in force, by their names in the recipe; false
 * without memory. */
static bool note_settings(struct work *w)
{
    size_t n = 0;

    for (const char *line = w->info->recipe; *line; line += strcspn(line, "\n"),
         line += *line == '\n') {
        char key[64];
        if (!noted(line) || sscanf(line, "%63[a-z0-9_.]", key) != 1)
            continue;
        const char *value = ebm_model_setting(w->model, key);
        if (!value)
            return false;
        if (n < sizeof w->settings - 1)
            n += (size_t)snprintf(w->settings + n, sizeof w->settings - n, "%s%s = %s",
                                  n ? "\n" : "", key, value);
        if (n >= sizeof w->settings)
            n = sizeof w->settings - 1;
    }
    return true;
}

/* --- writing --- */

/* n images, the first of which has this number in the series. */
static int write_picture(struct work *w, const char *path, const float *images,
                         int64_t number, int64_t n, int scale)
{
    char seed[32], numbers[64], software[64];
    const char *text[] = {
        "Software", software, "Model-SHA256", w->digests, "Seed", seed,
        "Images", numbers, "Settings", w->settings,
    };
    const ebm_picture picture = {
        .images = images, .n = n,
        .height = w->info->height, .width = w->info->width, .channels = w->info->channels,
        .columns = w->stages > 1 ? (int)w->stages : n > 1 ? (int)given.columns.value : 1,
        .scale = scale,
        .text = text, .n_text = COUNT(text),
    };

    snprintf(software, sizeof software, "ebm-sample %s", ebm_version());
    snprintf(seed, sizeof seed, "%" PRIu64, w->seed);
    snprintf(numbers, sizeof numbers, "%" PRId64 "-%" PRId64, number, number + n / w->stages - 1);
    int rc = ebm_picture_write(w->context, path, &picture);
    return rc < 0 ? tool_fail(w->context, rc) : 0;
}

static int write_single(struct work *w, const float *images, int64_t number, int64_t n)
{
    char path[PATH_MAX];
    int status = 0;

    for (int64_t i = 0; !status && i < n; i++) {
        snprintf(path, sizeof path, "%s%06" PRId64 ".png", given.out, number + i);
        status = write_picture(w, path, images + (size_t)(i * w->stages) * w->pixels, number + i, w->stages, 1);
    }
    return status;
}

/* An array of floats [n,h,w,c], or [n,frames,h,w,c], in the format of NumPy, version 1.0. */
static int write_npy(struct work *w)
{
    const uint16_t one = 1;
    struct output o;
    char header[192], shape[182], frames[32] = "";
    int status = output_begin(&o, given.out);

    if (status)
        return status;
    if (given.frames.given)
        snprintf(frames, sizeof frames, "%" PRId64 ", ", given.frames.value);
    snprintf(shape, sizeof shape, "{'descr': '%cf4', 'fortran_order': False, 'shape': (%" PRId64
             ", %s%d, %d, %d), }", *(const char *)&one ? '<' : '>', w->done, frames, w->info->height,
             w->info->width, w->info->channels);
    /* magic, version, length of the rest: 182 = 0xb6, so that all is 192 */
    memcpy(header, "\x93NUMPY\x01\x00\xb6\x00", 10);
    snprintf(header + 10, 182, "%-181s", shape);
    header[191] = '\n';
    fwrite(header, 1, sizeof header, o.file);
    fwrite(w->images, w->pixels * sizeof *w->images, (size_t)(w->done * w->stages), o.file);
    return output_end(&o, true);
}

static int write_together(struct work *w)
{
    if (is_folder_name(given.out))
        return 0;
    if (ends_with(given.out, ".npy"))
        return write_npy(w);
    return write_picture(w, given.out, w->images, given.first.value, w->done * w->stages, 0);
}

/* --- drawing --- */

/* Chains on their way: [n,frames,pixels]. */
static int draw_chains(struct work *w, ebm_draw *draw, float *images)
{
    float *ends = calloc((size_t)draw->n, w->pixels * sizeof *ends);

    draw->frames = (int)given.frames.value;
    draw->chains = images;
    int rc = ends ? ebm_model_draw(w->model, draw, ends) : EBM_ERR_NOMEM;
    free(ends);
    return rc;
}

/* Some images of the series, their stages side by side. */
static int draw_some(struct work *w, int64_t first, int64_t n, float *images)
{
    ebm_draw draw = {
        .seed = w->seed, .first = first, .n = n, .picture = w->picture, .mask = w->mask,
        .progress = on_progress, .user = w,
    };
    float *last;
    int rc;

    if (w->stages == 1 && !given.frames.given)
        return ebm_model_draw(w->model, &draw, images);
    if (given.frames.given)
        return draw_chains(w, &draw, images);
    draw.stages = calloc((size_t)(w->stages * n), w->pixels * sizeof *images);
    last = calloc((size_t)n, w->pixels * sizeof *images);
    rc = draw.stages && last ? ebm_model_draw(w->model, &draw, last) : EBM_ERR_NOMEM;
    for (int64_t i = 0; rc >= 0 && i < n; i++)
        for (int64_t k = 0; k < w->stages; k++)
            memcpy(images + (size_t)(i * w->stages + k) * w->pixels,
                   draw.stages + (size_t)(k * n + i) * w->pixels, w->pixels * sizeof *images);
    free(draw.stages);
    free(last);
    return rc;
}

/* Draw n images in steps of at most `batch`. */
static int draw(struct work *w, int64_t n, int64_t batch)
{
    bool single = is_folder_name(given.out);
    int status = 0, rc = EBM_OK;

    progress_begin(&w->bar, "drawing", 0, (double)n, given.quiet);
    while (!status && rc == EBM_OK && w->done < n && !stop_asked()) {
        /* up to the next multiple: batches of the series are drawn whole */
        int64_t at = given.first.value + w->done;
        int64_t some = batch - at % batch;
        float *images = w->images + (single ? 0 : (size_t)(w->done * w->stages) * w->pixels);
        if (some > n - w->done)
            some = n - w->done;
        rc = draw_some(w, at, some, images);
        if (rc == EBM_OK && single)
            status = write_single(w, images, at, some);
        if (rc == EBM_OK)
            w->done += some;
    }
    progress_end(&w->bar);
    return rc == EBM_ERR_STOPPED || rc >= 0 ? status : tool_fail(w->context, rc);
}

/* One image of a file, as the model has its own, in so many channels. */
static int read_image(struct work *w, const char *path, int channels, float **pixels)
{
    const ebm_data_options options = {
        .split = "all", .height = w->info->height, .width = w->info->width,
        .channels = channels, .fit = w->info->fit,
    };
    size_t size = (size_t)w->info->height * (size_t)w->info->width * (size_t)channels;
    ebm_data *data = NULL;
    int rc = ebm_data_open(w->context, path, &options, &data);

    if (rc >= 0)
        rc = (*pixels = calloc(size, sizeof **pixels)) ? ebm_data_read(data, 0, *pixels, NULL) : EBM_ERR_NOMEM;
    ebm_data_free(data);
    return rc;
}

/* The image to complete and its mask, of black and white. */
static int read_given(struct work *w)
{
    int rc;

    if ((rc = read_image(w, given.image, w->info->channels, &w->picture)) < 0
        || (rc = read_image(w, given.mask, 1, &w->mask)) < 0)
        return rc;
    for (int i = 0; i < w->info->height * w->info->width; i++)
        w->mask[i] = w->mask[i] >= 0.5f;
    return rc;
}

/* --precision is a setting too, and comes after --set; false without memory. */
static bool make_setting(struct work *w)
{
    static const char format[] = "precision=%s";
    struct texts *all = &given.settings;

    if (!given.precision)
        return true;
    size_t size = sizeof format + strlen(given.precision);
    if (!(w->precision = malloc(size)) || (!all->v && !(all->v = calloc(1, sizeof *all->v))))
        return false;
    snprintf(w->precision, size, format, given.precision);
    all->v[all->n++] = w->precision;     /* there is room for every argument */
    return true;
}

static int run(struct work *w)
{
    if (!make_setting(w))
        return tool_fail_memory();
    const ebm_model_options options = {
        given.settings.v, given.settings.n, given.raw, given.max_memory
    };
    int64_t n = given.n.given ? given.n.value : DEFAULT_COUNT;
    int rc, status;

    if ((rc = ebm_backend_open(w->context, given.backend, (int)given.threads.value,
                               &w->device)) < 0
        || (given.profile && (rc = ebm_backend_profile(w->device)) < 0)
        || (rc = parts_open(&given.parts, w->device, &options, &w->model)) < 0)
        return tool_fail(w->context, rc);
    w->info = ebm_model_describe(w->model);
    w->seed = given.seed.given ? (uint64_t)given.seed.value : tool_random_seed();
    if (!note_settings(w) || !(w->digests = parts_digests(&given.parts, w->model)))
        return tool_fail_memory();
    tool_inform("%s; seed %" PRIu64, ebm_backend_describe(w->device), w->seed);

    w->stages = given.stages ? ebm_model_stages(w->model) : given.frames.given ? given.frames.value : 1;
    if (given.image && (rc = read_given(w)) < 0)
        return tool_fail(w->context, rc);
    w->pixels = (size_t)w->info->height * (size_t)w->info->width * (size_t)w->info->channels;
    const char *text = ebm_model_setting(w->model, "sample.batch");
    if (!text)
        return tool_fail_memory();
    int64_t batch = atoll(text) > 0 ? atoll(text) : n;
    bool single = is_folder_name(given.out);
    if (single && (status = output_folder(given.out)) != 0)
        return status;
    if (!(w->images = calloc((size_t)((single && batch < n ? batch : n) * w->stages),
                             w->pixels * sizeof *w->images)))
        return tool_fail_memory();
    stop_on_signals();
    if ((status = draw(w, n, batch)) != 0)
        return status;
    if (w->done && (status = write_together(w)) != 0)
        return status;
    if (w->done < n) {
        tool_say("stopped: %" PRId64 " of %" PRId64 " images were finished", w->done, n);
        return EXIT_STOPPED;
    }
    if (given.json) {
        json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:o}", "out", given.out,
            "images", (json_int_t)w->done, "first", (json_int_t)given.first.value,
            "seed", (json_int_t)w->seed, "model_sha256", w->info->digest,
            "settings", w->settings, "models", parts_json(&given.parts, w->model));
        return tool_print_json(given.profile && all ? profile_add_json(all, w->device) : all);
    }
    printf("images  %s\nseed    %" PRIu64 "\n", given.out, w->seed);
    return given.profile ? profile_print(w->context, w->device) : EXIT_DONE;
}

int main(int argc, char **argv)
{
    struct work w = { 0 };
    int operand, status = EXIT_USAGE;

    idle_soon(argv);
    if (!(w.context = tool_start(tool.name)))
        return EXIT_MEMORY;
    int rc = options_read(&tool, argc, argv, &operand);
    tool_be_quiet(given.quiet);
    if (rc >= 0)
        status = rc;
    else if (operand > argc - 1)
        tool_say("one MODEL is needed, as in: ebm-sample run/model.safetensors --out grid.png");
    else if (!given.out)
        tool_say("--out is missing: FILE.png, FILE.npy or a folder DIR/");
    else if (!is_folder_name(given.out) && !ends_with(given.out, ".npy")
             && !ends_with(given.out, ".png"))
        tool_say("--out %s: it ends in .png (a grid), .npy (an array) or / (a folder)", given.out);
    else if (!given.image != !given.mask)
        tool_say("--image and --mask are given together");
    else if (given.stages && !ends_with(given.out, ".png"))
        tool_say("--stages makes a picture: --out FILE.png");
    else if (given.stages && given.frames.given)
        tool_say("--stages and --frames: one of them");
    else if (!(status = parts_read(&given.parts, argc - operand, argv + operand)))
        status = tool_end(run(&w));
    free(w.images);
    free(w.picture);
    free(w.mask);
    free(w.digests);
    free(w.precision);
    parts_free(&given.parts);
    ebm_model_free(w.model);
    ebm_backend_free(w.device);
    ebm_context_free(w.context);
    options_free(&tool);
    return status;
}
