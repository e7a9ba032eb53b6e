/* png_write.c - pictures as PNG files, by libpng.
 *
 * SPDX-License-Identifier: ISC
 *
 * The file goes through io.h's writer, so a name never holds half a picture.  The
 * bytes depend on the arguments alone: there is no time chunk. */
#include <setjmp.h>
#include <string.h>
#include <png.h>
#include "io.h"
#include "png_write.h"

struct job {
    ebm_context *ctx;
    const char *path;
    const uint8_t *bytes;
    size_t height, width, channels;
    const struct png_text_pair *texts;
    size_t n_texts;
    struct io_writer *writer;
    png_structp png;
    png_infop info;
    int status;
};

static void on_error(png_structp png, png_const_charp message)
{
    struct job *job = png_get_error_ptr(png);

    if (job->status == EBM_OK)
        job->status = ebm_fail(job->ctx, EBM_ERR_ARG, "%s: cannot be written as PNG: %s",
                               job->path, message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_write(png_structp png, png_bytep from, size_t size)
{
    struct job *job = png_get_io_ptr(png);

    int rc = io_write(job->writer, from, size);

    if (rc < 0) {
        job->status = rc;
        png_error(png, "");
    }
}

static void on_flush(png_structp png)
{
    (void)png;      /* io_commit does */
}

static void *on_alloc(png_structp png, png_alloc_size_t size)
{
    struct job *job = png_get_mem_ptr(png);
    void *block = mem_new(job->ctx, size, 1);

    if (!block)
        job->status = EBM_ERR_NOMEM;   /* worded by mem_new */
    return block;
}

static void on_release(png_structp png, void *ptr)
{
    struct job *job = png_get_mem_ptr(png);

    mem_free(job->ctx, ptr);
}

static bool is_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

/* tEXt for ASCII, iTXt for the rest. */
static void add_text(struct job *job, const struct png_text_pair *pair)
{
    png_text text;

    memset(&text, 0, sizeof text);
    text.compression = is_ascii(pair->value) ? PNG_TEXT_COMPRESSION_NONE
                                             : PNG_ITXT_COMPRESSION_NONE;
    text.key = (png_charp)pair->key;        /* libpng copies both */
    text.text = (png_charp)pair->value;
    text.text_length = strlen(pair->value);
    png_set_text(job->png, job->info, &text, 1);
}

static void run(struct job *job)
{
    size_t i;

    if (setjmp(png_jmpbuf(job->png)))
        return;
    png_set_write_fn(job->png, job, on_write, on_flush);
    png_set_IHDR(job->png, job->info, (png_uint_32)job->width, (png_uint_32)job->height, 8,
                 job->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    for (i = 0; i < job->n_texts; i++)
        add_text(job, &job->texts[i]);
    png_write_info(job->png, job->info);
    for (i = 0; i < job->height; i++)
        png_write_row(job->png, job->bytes + i * job->width * job->channels);
    png_write_end(job->png, NULL);
}

int png_write(ebm_context *ctx, const char *path, const uint8_t *bytes,
              size_t height, size_t width, size_t channels,
              const struct png_text_pair *texts, size_t n_texts)
{
    struct job job = { ctx, path, bytes, height, width, channels, texts, n_texts,
                       NULL, NULL, NULL, EBM_OK };

    if (!height || !width || height > INT32_MAX || width > INT32_MAX
        || (channels != 1 && channels != 3))
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: a picture of %zu x %zu x %zu cannot be "
                        "written", path, height, width, channels);
    int rc = io_create(ctx, path, &job.writer);
    if (rc < 0)
        return rc;
    job.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning,
                                        &job, on_alloc, on_release);
    if (job.png)
        job.info = png_create_info_struct(job.png);
    if (job.info)
        run(&job);
    else if (job.status == EBM_OK)
        job.status = ebm_fail(ctx, EBM_ERR_NOMEM, "%s: no memory for libpng", path);
    png_destroy_write_struct(&job.png, &job.info);
    if (job.status < 0) {
        io_abandon(job.writer);
        return job.status;
    }
    return io_commit(job.writer);
}
