/* png_read.c - PNG files, by libpng.
 *
 * SPDX-License-Identifier: ISC
 *
 * libpng leaves by longjmp.  Everything that must survive it lies in struct job,
 * in the frame of the caller of setjmp's function, and no local of that function
 * is used after the jump. */
#include <inttypes.h>
#include <setjmp.h>
#include <string.h>
#include <png.h>
#include "image.h"

struct job {
    ebm_context *ctx;
    const char *name;
    const uint8_t *bytes;
    size_t size, position;
    struct image *image;
    struct image_size *found;
    png_structp png;
    png_infop info;
    int status;        /* of a failure of ours; libpng's are EBM_ERR_FORMAT */
};

static void on_error(png_structp png, png_const_charp message)
{
    struct job *job = png_get_error_ptr(png);

    if (job->status == EBM_OK)
        job->status = ebm_fail(job->ctx, EBM_ERR_FORMAT, "%s: damaged PNG: %s",
                               job->name, message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep to, size_t size)
{
    struct job *job = png_get_io_ptr(png);

    if (job->status < 0)      /* libpng went on without memory it asked for */
        png_error(png, "");
    if (size > job->size - job->position) {
        job->status = ebm_fail(job->ctx, EBM_ERR_FORMAT, "%s: the PNG ends early, at "
                               "byte %zu", job->name, job->size);
        png_error(png, "");
    }
    memcpy(to, job->bytes + job->position, size);
    job->position += size;
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

/* A failure of ours ends the reading too; an earlier one stays. */
static void leave_if(struct job *job, int rc)
{
    if (rc < 0) {
        job->status = rc;
        png_error(job->png, "");
    }
}

static void read_header(struct job *job)
{
    png_structp png = job->png;
    png_infop info = job->info;

    png_set_user_limits(png, (png_uint_32)SIDE_LIMIT, (png_uint_32)SIDE_LIMIT);
    png_set_chunk_cache_max(png, 128);
    png_set_chunk_malloc_max(png, 8000000);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_read_fn(png, job, on_read);
    png_read_info(png, info);
    job->found->height = png_get_image_height(png, info);
    job->found->width = png_get_image_width(png, info);
    job->found->channels = png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR ? 3 : 1;
    leave_if(job, image_check_size(job->ctx, job->name, job->found->height,
                                   job->found->width));
}

static void read_pixels(struct job *job)
{
    png_structp png = job->png;
    png_infop info = job->info;
    const struct image_size *size = job->found;
    uint64_t packed = (uint64_t)png_get_rowbytes(png, info) * size->height;
    int pass, passes;
    size_t y;

    if (packed > DEFLATE_RATIO * job->size)
        leave_if(job, ebm_fail(job->ctx, EBM_ERR_FORMAT, "%s: %zu bytes cannot hold the "
                               "%zu x %zu pixels that the PNG declares", job->name,
                               job->size, size->height, size->width));
    png_set_scale_16(png);
    png_set_expand(png);
    png_set_strip_alpha(png);
    passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != size->width * size->channels)
        png_error(png, "its colours are of a kind that is not supported");
    leave_if(job, image_new(job->ctx, job->image, size->height, size->width,
                            size->channels, false));
    for (pass = 0; pass < passes; pass++)
        for (y = 0; y < size->height; y++)
            png_read_row(png, job->image->bytes + y * size->width * size->channels, NULL);
    png_read_end(png, NULL);
}

static void run(struct job *job)
{
    if (setjmp(png_jmpbuf(job->png)))
        return;
    read_header(job);
    if (job->image)
        read_pixels(job);
}

int png_read(ebm_context *ctx, const char *name, const uint8_t *bytes, size_t size,
             struct image *image, struct image_size *found)
{
    struct job job = { ctx, name, bytes, size, 0, image, found, NULL, NULL, EBM_OK };

    job.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning,
                                       &job, on_alloc, on_release);
    if (job.png)
        job.info = png_create_info_struct(job.png);
    if (job.info)
        run(&job);
    else if (job.status == EBM_OK)
        job.status = ebm_fail(ctx, EBM_ERR_NOMEM, "%s: no memory for libpng", name);
    png_destroy_read_struct(&job.png, &job.info, NULL);
    return job.status;
}
