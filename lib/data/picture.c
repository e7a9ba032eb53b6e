/* picture.c - images as one PNG picture.
 *
 * SPDX-License-Identifier: ISC */
#include "png_write.h"

enum {
    MAX_TEXTS = 32,
    COMFORTABLE = 80,         /* pixels: smaller images of a grid are enlarged */
    MAX_GRID = 1600           /* but not beyond this width of the picture */
};

static size_t scale_for_the_eye(const ebm_picture *p, size_t columns)
{
    size_t scale = COMFORTABLE / (size_t)p->width;
    size_t fits = MAX_GRID / ((size_t)p->width * columns);

    if (scale > fits)
        scale = fits;
    return scale > 1 ? scale : 1;
}

int ebm_picture_write(ebm_context *ctx, const char *path, const ebm_picture *p)
{
    struct png_text_pair texts[MAX_TEXTS];
    struct image picture;
    size_t columns = (size_t)p->columns;
    int n = p->n_text / 2, rc;

    if (p->n < 1 || p->height < 1 || p->width < 1 || p->columns < 0 || p->scale < 0
        || n > MAX_TEXTS)
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: a picture of %lld images of %d x %d cannot be "
                        "drawn", path, (long long)p->n, p->height, p->width);
    for (int i = 0; i < n; i++) {
        texts[i].key = p->text[2 * i];
        texts[i].value = p->text[2 * i + 1];
    }
    if (p->bytes && p->n == 1)
        return png_write(ctx, path, p->bytes, (size_t)p->height, (size_t)p->width, (size_t)p->channels,
                         texts, (size_t)n);
    while (p->columns == 0 && columns * columns < (size_t)p->n)
        columns++;
    if (columns > (size_t)p->n)
        columns = (size_t)p->n;
    rc = grid_draw(ctx, p->images, (size_t)p->n, (size_t)p->height, (size_t)p->width,
                   (size_t)p->channels, columns,
                   p->scale ? (size_t)p->scale : scale_for_the_eye(p, columns), &picture);
    if (rc < 0)
        return rc;
    rc = png_write(ctx, path, picture.bytes, picture.height, picture.width, picture.channels,
                   texts, (size_t)n);
    image_free(ctx, &picture);
    return rc;
}
