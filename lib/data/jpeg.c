/* jpeg.c - JPEG files, by libjpeg.
 *
 * SPDX-License-Identifier: ISC
 *
 * Decoded as Pillow does: accurate integer DCT, smooth chroma.  libjpeg reports
 * damage as warnings and fills in grey; here damage is an error.  It leaves by
 * longjmp; what survives lies in struct job. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include "image.h"
#include "config.h"

#ifdef HAVE_JPEG
#include <jpeglib.h>
#include <jerror.h>

enum {
    SCAN_LIMIT = 200,          /* progressive files have about ten */
    MEMORY_LIMIT = 1 << 30     /* of libjpeg, for progressive files */
};

struct job {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr error;        /* jpeg.err */
    struct jpeg_source_mgr source;      /* jpeg.src */
    struct jpeg_progress_mgr progress;  /* jpeg.progress */
    jmp_buf leave;
    ebm_context *ctx;
    const char *name;
    size_t size;
    struct image *image;
    struct image_size *found;
    JSAMPLE *cmyk;                      /* a row */
    int status;
};

static struct job *job_of(j_common_ptr jpeg)
{
    return jpeg->client_data;
}

static void fail(struct job *job, int status, const char *message)
{
    if (job->status == EBM_OK)
        job->status = ebm_fail(job->ctx, status, "%s: %s", job->name, message);
    longjmp(job->leave, 1);
}

static void on_error(j_common_ptr jpeg)
{
    struct job *job = job_of(jpeg);
    char text[JMSG_LENGTH_MAX], message[JMSG_LENGTH_MAX + 32];

    jpeg->err->format_message(jpeg, text);
    snprintf(message, sizeof message, "damaged JPEG: %s", text);
    fail(job, jpeg->err->msg_code == JERR_OUT_OF_MEMORY ? EBM_ERR_NOMEM : EBM_ERR_FORMAT,
         message);
}

static void on_message(j_common_ptr jpeg, int level)
{
    /* bytes between segments are harmless, and cameras write them */
    if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA)
        on_error(jpeg);
}

static void on_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void on_progress(j_common_ptr jpeg)
{
    struct job *job = job_of(jpeg);

    if (job->jpeg.input_scan_number > SCAN_LIMIT)
        fail(job, EBM_ERR_FORMAT, "damaged JPEG: too many scans");
}

static void on_begin(j_decompress_ptr jpeg)
{
    (void)jpeg;
}

static boolean on_fill(j_decompress_ptr jpeg)
{
    struct job *job = job_of((j_common_ptr)jpeg);
    char message[64];

    snprintf(message, sizeof message, "the JPEG ends early, at byte %zu", job->size);
    fail(job, EBM_ERR_FORMAT, message);
    return FALSE;
}

static void on_skip(j_decompress_ptr jpeg, long count)
{
    if (count <= 0)
        return;
    if ((unsigned long)count > jpeg->src->bytes_in_buffer)
        on_fill(jpeg);
    jpeg->src->next_input_byte += count;
    jpeg->src->bytes_in_buffer -= (unsigned long)count;
}

static void read_header(struct job *job)
{
    struct jpeg_decompress_struct *jpeg = &job->jpeg;

    jpeg_read_header(jpeg, TRUE);
    job->found->height = jpeg->image_height;
    job->found->width = jpeg->image_width;
    job->found->channels = jpeg->jpeg_color_space == JCS_GRAYSCALE ? 1 : 3;
    job->status = image_check_size(job->ctx, job->name, jpeg->image_height,
                                   jpeg->image_width);
    if (job->status < 0)
        longjmp(job->leave, 1);
}

/* Inks to light.  Adobe stores them inverted. */
static void paint(const struct job *job, uint8_t *row)
{
    const bool inverted = job->jpeg.saw_Adobe_marker;
    size_t i, c;

    for (i = 0; i < job->found->width; i++) {
        const JSAMPLE *ink = job->cmyk + 4 * i;
        for (c = 0; c < 3; c++) {
            unsigned colour = inverted ? ink[c] : 255u - ink[c];
            unsigned black = inverted ? ink[3] : 255u - ink[3];
            row[3 * i + c] = (uint8_t)((colour * black + 127) / 255);
        }
    }
}

static void read_pixels(struct job *job)
{
    struct jpeg_decompress_struct *jpeg = &job->jpeg;
    const struct image_size *size = job->found;
    bool inks = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    size_t y;

    jpeg->out_color_space = inks ? JCS_CMYK : size->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    if (inks && !(job->cmyk = mem_new(job->ctx, size->width, 4)))
        job->status = EBM_ERR_NOMEM;
    else
        job->status = image_new(job->ctx, job->image, size->height, size->width,
                                size->channels, false);
    if (job->status < 0)
        longjmp(job->leave, 1);
    jpeg_start_decompress(jpeg);
    for (y = 0; y < size->height; y++) {
        uint8_t *row = job->image->bytes + y * size->width * size->channels;
        JSAMPROW to = inks ? job->cmyk : row;

        if (jpeg_read_scanlines(jpeg, &to, 1) != 1)
            fail(job, EBM_ERR_FORMAT, "damaged JPEG: a row is missing");
        if (inks)
            paint(job, row);
    }
    jpeg_finish_decompress(jpeg);
}

static void run(struct job *job, const uint8_t *bytes)
{
    job->jpeg.err = jpeg_std_error(&job->error);
    job->error.error_exit = on_error;
    job->error.emit_message = on_message;
    job->error.output_message = on_output;
    job->jpeg.client_data = job;
    if (setjmp(job->leave))
        return;
    jpeg_create_decompress(&job->jpeg);
    job->jpeg.mem->max_memory_to_use = MEMORY_LIMIT;
    job->progress.progress_monitor = on_progress;
    job->jpeg.progress = &job->progress;
    job->source.init_source = on_begin;
    job->source.term_source = on_begin;
    job->source.fill_input_buffer = on_fill;
    job->source.skip_input_data = on_skip;
    job->source.resync_to_restart = jpeg_resync_to_restart;
    job->source.next_input_byte = bytes;
    job->source.bytes_in_buffer = job->size;
    job->jpeg.src = &job->source;
    read_header(job);
    if (job->image)
        read_pixels(job);
}

int jpeg_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
              struct image *image, struct image_size *found)
{
    struct job job;

    memset(&job, 0, sizeof job);
    job.ctx = ctx;
    job.name = name;
    job.size = size;
    job.image = image;
    job.found = found;
    run(&job, bytes);
    jpeg_destroy_decompress(&job.jpeg);
    mem_free(ctx, job.cmyk);
    return job.status;
}

#else

int jpeg_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
              struct image *image, struct image_size *found)
{
    (void)bytes; (void)size; (void)image; (void)found;
    return ebm_fail(ctx, EBM_ERR_FORMAT, "%s: this build reads no JPEG (it was configured "
                    "without libjpeg); convert the images to PNG", name);
}

#endif
