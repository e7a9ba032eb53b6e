/* shapes.c - pictures drawn by code, whose attributes are known.
 *
 * SPDX-License-Identifier: ISC
 *
 * Everything about image i of a split comes from two Philox blocks with
 *   key      seed
 *   counter  block, i low, i high, split
 * so images can be read in any order and there are as many as wanted.  A pixel
 * is the mean of 4 x 4 points, each in the shape or not. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "number.h"
#include "philox.h"
#include "source.h"

enum { SIDE = 32, COUNT_DEFAULT = 10000, POINTS = SHAPES_POINTS, PURPOSE = 0x73686170 };

static const char *const shape_names[] = {
    "circle", "square", "triangle", "star", "cross", "ring",
};
enum { CIRCLE, SQUARE, TRIANGLE, STAR, CROSS, RING };

static const struct paint { const char *name; uint8_t rgb[3]; } colours[] = {
    { "red", { 220, 40, 40 } },    { "green", { 40, 170, 70 } },
    { "blue", { 50, 90, 230 } },   { "yellow", { 240, 210, 50 } },
    { "purple", { 150, 60, 190 } }, { "cyan", { 60, 200, 210 } },
    { "orange", { 245, 140, 40 } }, { "white", { 245, 245, 245 } },
}, grounds[] = {
    { "black", { 10, 10, 10 } },   { "grey", { 110, 110, 110 } },
    { "navy", { 20, 30, 80 } },    { "brown", { 90, 60, 35 } },
    { "teal", { 15, 80, 75 } },
};

/* Attributes: the first three are one of names, the others numbers. */
enum attribute { SHAPE, COLOUR, BACKGROUND, SIZE, X, Y, ROTATION, ATTRIBUTES };
enum { NAMED = 3, PARTS_MAX = 100 };

static const char *const attribute_names[ATTRIBUTES] = {
    "shape", "colour", "background", "size", "x", "y", "rotation",
};

struct range {
    double low, high;
};

static const struct range whole[ATTRIBUTES] = {
    [SIZE] = { 0.15, 0.35 }, [X] = { 0, 1 }, [Y] = { 0, 1 }, [ROTATION] = { 0, 360 },
};

struct shapes {
    size_t count;                     /* of each split */
    size_t first;                     /* index of image 0: count to skip training */
    size_t height, width;
    uint32_t key[2];
    unsigned allowed[NAMED];          /* bit: value */
    struct range range[ATTRIBUTES];
    struct told {
        int attribute, parts;         /* parts of the range of a number */
        int classes;
    } told[ATTRIBUTES];               /* what labels tell, each image's one of them */
    int n_told;
};

const char *ebm_shapes_name(const char *attribute, int value)
{
    size_t v = (size_t)value;

    if (strcmp(attribute, attribute_names[SHAPE]) == 0)
        return v < COUNT(shape_names) ? shape_names[v] : NULL;
    if (strcmp(attribute, attribute_names[COLOUR]) == 0)
        return v < COUNT(colours) ? colours[v].name : NULL;
    if (strcmp(attribute, attribute_names[BACKGROUND]) == 0)
        return v < COUNT(grounds) ? grounds[v].name : NULL;
    return NULL;
}

/* --- drawing lots --- */

static double unit(uint32_t word)
{
    return (double)(word >> 8) / (1 << 24);
}

static double between(const struct range *range, uint32_t word)
{
    return range->low + (range->high - range->low) * unit(word);
}

/* A bit of the mask. */
static int choose(unsigned mask, uint32_t word)
{
    unsigned n = 0, m, bit;

    for (m = mask; m; m &= m - 1)
        n++;
    unsigned skip = (unsigned)((uint64_t)word * n >> 32);
    for (bit = 0; !(mask >> bit & 1) || skip-- > 0; bit++)
        ;
    return (int)bit;
}

/* The part of the range in which a disc of radius r lies in [0,1]; the nearest
 * point to it if there is none. */
static struct range inside(const struct range *range, double r)
{
    struct range in = { fmax(range->low, r), fmin(range->high, 1 - r) };

    if (in.low > in.high)
        in.low = in.high = range->low > 0.5 ? 1 - r : r;
    return in;
}

/* What image `index` is.  Returns a lot that nothing else depends on. */
static uint32_t draw_lots(const struct shapes *s, size_t index, ebm_shapes_attributes *a)
{
    const size_t at = index + s->first;
    const uint64_t i = at % s->count;
    const double side = (double)(s->height < s->width ? s->height : s->width);
    uint32_t word[2][4];
    uint32_t block;

    for (block = 0; block < 2; block++) {
        uint32_t counter[4] = { block, (uint32_t)i, (uint32_t)(i >> 32),
                                PURPOSE + (at >= s->count) };
        philox_block(counter, s->key, word[block]);
    }
    a->shape = choose(s->allowed[SHAPE], word[0][0]);
    a->colour = choose(s->allowed[COLOUR], word[0][1]);
    a->background = choose(s->allowed[BACKGROUND], word[0][2]);
    double size = between(&s->range[SIZE], word[0][3]);
    struct range x = inside(&s->range[X], size * side / (double)s->width);
    struct range y = inside(&s->range[Y], size * side / (double)s->height);
    a->size = (float)size;
    a->x = (float)between(&x, word[1][0]);
    a->y = (float)between(&y, word[1][1]);
    a->rotation = a->shape == CIRCLE || a->shape == RING
                ? 0 : (float)between(&s->range[ROTATION], word[1][2]);
    return word[1][3];
}

/* The class within those of one attribute. */
static int class_of(const struct shapes *s, const struct told *t, const ebm_shapes_attributes *a)
{
    const int names[NAMED] = { a->shape, a->colour, a->background };
    const float numbers[ATTRIBUTES] = { [SIZE] = a->size, [X] = a->x, [Y] = a->y, [ROTATION] = a->rotation };

    if (t->attribute < NAMED)
        return names[t->attribute];
    const struct range *r = &s->range[t->attribute];
    double part = r->high > r->low ? ((double)numbers[t->attribute] - r->low) / (r->high - r->low) : 0;
    int label = (int)(part * t->parts);
    return label < 0 ? 0 : label < t->parts ? label : t->parts - 1;
}

/* Of several attributes the lot chooses one; its classes come after those before. */
static int label_of(const struct shapes *s, const ebm_shapes_attributes *a, uint32_t lot)
{
    int k = (int)(lot % (uint32_t)s->n_told), before = 0;

    for (int i = 0; i < k; i++)
        before += s->told[i].classes;
    return before + class_of(s, &s->told[k], a);
}

/* --- drawing --- */

/* Is the point in the shape of circumradius 1 around the origin, top up? */
static bool contains(int shape, double u, double v)
{
    /* to the corners of a pentagon, x then y, the first one up */
    static const double corner[5][2] = {
        { 0, -1 },
        { 0.95105651629515357, -0.30901699437494745 },
        { 0.58778525229247313, 0.80901699437494745 },
        { -0.58778525229247313, 0.80901699437494745 },
        { -0.95105651629515357, -0.30901699437494745 },
    };
    const double half_square = 0.70710678118654752, cos_30 = 0.86602540378443865;
    const double cos_72 = 0.30901699437494742;
    const double arm = 0.95, arm_width = 0.31, hole = 0.55;   /* 0.95^2 + 0.31^2 < 1 */
    double r2 = u * u + v * v;
    int k, within = 0;

    switch (shape) {
    case CIRCLE:
        return r2 <= 1;
    case RING:
        return r2 <= 1 && r2 >= hole * hole;
    case SQUARE:
        return fabs(u) <= half_square && fabs(v) <= half_square;
    case TRIANGLE:
        return v <= 0.5 && cos_30 * fabs(u) - 0.5 * v <= 0.5;
    case CROSS:
        return (fabs(u) <= arm_width && fabs(v) <= arm)
            || (fabs(v) <= arm_width && fabs(u) <= arm);
    case STAR:
        /* on the inner side of four of a pentagram's five lines */
        for (k = 0; k < 5; k++)
            within += corner[k][0] * u + corner[k][1] * v <= cos_72;
        return within >= 4;
    default:
        return false;
    }
}

void shapes_cover(const ebm_shapes_attributes *a, size_t height, size_t width, int points, uint8_t *hits)
{
    const double degree = 0.017453292519943295;
    const double side = (double)(height < width ? height : width);
    const double radius = (double)a->size * side;
    const double cosine = cos((double)a->rotation * degree) / radius;
    const double sine = sin((double)a->rotation * degree) / radius;

    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            double left = (double)x - (double)a->x * (double)width;
            double top = (double)y - (double)a->y * (double)height;
            unsigned n = 0;

            if (fabs(left + 0.5) < radius + 1 && fabs(top + 0.5) < radius + 1)
                for (int i = 0; i < points; i++)
                    for (int j = 0; j < points; j++) {
                        double dx = left + ((double)j + 0.5) / points;
                        double dy = top + ((double)i + 0.5) / points;
                        n += contains(a->shape, cosine * dx + sine * dy, cosine * dy - sine * dx);
                    }
            hits[y * width + x] = (uint8_t)n;
        }
}

const uint8_t *shapes_paint(int colour, int background)
{
    return colour >= 0 ? colours[colour].rgb : grounds[background].rgb;
}

static int read_shape(ebm_context *ctx, void *state, size_t index,
                      struct image *image, int32_t *label)
{
    const struct shapes *s = state;
    const unsigned all = POINTS * POINTS;
    ebm_shapes_attributes a;

    const uint32_t lot = draw_lots(s, index, &a);
    *label = label_of(s, &a, lot);
    int rc = image_new(ctx, image, s->height, s->width, 3, false);
    uint8_t *hits = rc < 0 ? NULL : mem_new(ctx, s->height * s->width, 1);
    if (rc >= 0 && !hits)
        image_free(ctx, image);
    if (!hits)
        return rc < 0 ? rc : EBM_ERR_NOMEM;
    shapes_cover(&a, s->height, s->width, POINTS, hits);
    const uint8_t *ink = shapes_paint(a.colour, 0), *ground = shapes_paint(-1, a.background);
    for (size_t i = 0; i < s->height * s->width; i++)
        for (size_t c = 0; c < 3; c++)
            image->bytes[3 * i + c] = (uint8_t)((ink[c] * hits[i] + ground[c] * (all - hits[i]) + all / 2) / all);
    mem_free(ctx, hits);
    return EBM_OK;
}

/* --- the source's name --- */

static int bad_filter(ebm_context *ctx, const char *spec, const char *item, const char *why)
{
    return ebm_fail(ctx, EBM_ERR_ARG, "%s: '%s' %s; write shapes:COUNT,ATTRIBUTE=NAME|NAME "
                    "ATTRIBUTE=LOW..HIGH or label=ATTRIBUTE|ATTRIBUTE, with shape, colour, background, size, "
                    "x, y or rotation", spec, item, why);
}

/* "circle|ring" to bits */
static int take_names(ebm_context *ctx, const char *spec, const char *attribute,
                      char *names, unsigned *mask)
{
    char *name, *end;

    *mask = 0;
    for (name = names; name; name = end) {
        int v;

        if ((end = strchr(name, '|')))
            *end++ = '\0';
        for (v = 0; ebm_shapes_name(attribute, v); v++)
            if (strcmp(ebm_shapes_name(attribute, v), name) == 0)
                break;
        if (!ebm_shapes_name(attribute, v))
            return bad_filter(ctx, spec, name, "is no value of its attribute");
        *mask |= 1u << v;
    }
    return EBM_OK;
}

static int take_range(ebm_context *ctx, const char *spec, const char *value,
                      const struct range *limits, struct range *range)
{
    const char *dots = strstr(value, "..");

    if (!dots || !number_read(value, (size_t)(dots - value), &range->low)
        || !number_read(dots + 2, strlen(dots + 2), &range->high))
        return bad_filter(ctx, spec, value, "is no range");
    if (!(range->low >= limits->low && range->low <= range->high
          && range->high <= limits->high))
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: a range must lie in %g..%g", spec,
                        limits->low, limits->high);
    return EBM_OK;
}

/* The attribute of a name; ATTRIBUTES if there is none. */
static int attribute_of(const char *name)
{
    int k = 0;

    while (k < ATTRIBUTES && strcmp(attribute_names[k], name) != 0)
        k++;
    return k;
}

/* "colour", "x/3" */
static int take_told(ebm_context *ctx, struct shapes *s, const char *spec, char *value)
{
    char *slash = strchr(value, '/');
    int64_t parts = 2;
    struct told t = { 0 };

    if (slash) {
        *slash++ = '\0';
        if (!number_read_integer(slash, strlen(slash), &parts) || parts < 2 || parts > PARTS_MAX)
            return ebm_fail(ctx, EBM_ERR_ARG, "%s: a range has from 2 to %d parts", spec, PARTS_MAX);
    }
    if ((t.attribute = attribute_of(value)) == ATTRIBUTES)
        return bad_filter(ctx, spec, value, "is no attribute");
    if (slash && t.attribute < NAMED)
        return bad_filter(ctx, spec, value, "has names, not parts");
    for (int i = 0; i < s->n_told; i++)
        if (s->told[i].attribute == t.attribute)
            return bad_filter(ctx, spec, value, "is told twice");
    t.parts = (int)parts;
    s->told[s->n_told++] = t;
    return EBM_OK;
}

/* "shape|x/3" */
static int take_label(ebm_context *ctx, struct shapes *s, const char *spec, char *value)
{
    char *name, *end;
    int rc = EBM_OK;

    s->n_told = 0;
    for (name = value; name && rc == EBM_OK; name = end) {
        if ((end = strchr(name, '|')))
            *end++ = '\0';
        rc = take_told(ctx, s, spec, name);
    }
    return rc;
}

static int take_filter(ebm_context *ctx, struct shapes *s, const char *spec, char *item)
{
    char *value = strchr(item, '=');
    int rc;

    if (!value)
        return bad_filter(ctx, spec, item, "is no filter");
    bool except = value > item && value[-1] == '!';
    value[except ? -1 : 0] = '\0';
    value++;
    if (strcmp(item, "label") == 0 && !except)
        return take_label(ctx, s, spec, value);
    int k = attribute_of(item);
    if (k == ATTRIBUTES)
        return bad_filter(ctx, spec, item, "is no attribute");
    if (k >= NAMED)
        return except ? bad_filter(ctx, spec, value, "cannot be excluded: it is a range")
                      : take_range(ctx, spec, value, &whole[k], &s->range[k]);
    unsigned mask;
    if ((rc = take_names(ctx, spec, item, value, &mask)) < 0)
        return rc;
    s->allowed[k] &= except ? ~mask : mask;
    return s->allowed[k] ? EBM_OK : bad_filter(ctx, spec, item, "has no value left");
}

static int take_spec(ebm_context *ctx, struct shapes *s, const char *spec, char *items)
{
    char *item, *next;
    int rc = EBM_OK;

    for (item = items; item && rc == EBM_OK; item = next) {
        if ((next = strchr(item, ',')))
            *next++ = '\0';
        if (item == items && strspn(item, "0123456789") == strlen(item) && *item) {
            unsigned long long n = strtoull(item, NULL, 10);

            if (n == 0 || n > INT32_MAX)
                return ebm_fail(ctx, EBM_ERR_ARG, "%s: from 1 to %d images can be asked "
                                "for", spec, INT32_MAX);
            s->count = (size_t)n;
        } else {
            rc = take_filter(ctx, s, spec, item);
        }
    }
    return rc;
}

static void close_shapes(ebm_context *ctx, void *state)
{
    mem_free(ctx, state);
}

/* "square"; "x 0.5-1" */
static char *class_name(ebm_context *ctx, const struct shapes *s, const struct told *t, int label)
{
    if (t->attribute < NAMED)
        return mem_strdup(ctx, ebm_shapes_name(attribute_names[t->attribute], label));
    const struct range *r = &s->range[t->attribute];
    double part = (r->high - r->low) / t->parts;
    return mem_printf(ctx, "%s %.3g-%.3g", attribute_names[t->attribute], r->low + part * label,
                      r->low + part * (label + 1));
}

static int name_classes(ebm_context *ctx, struct shapes *s, struct source *source)
{
    int n = 0;

    for (int i = 0; i < s->n_told; i++) {
        struct told *t = &s->told[i];
        t->classes = t->parts;
        if (t->attribute < NAMED)
            for (t->classes = 0; ebm_shapes_name(attribute_names[t->attribute], t->classes); t->classes++)
                ;
        n += t->classes;
    }
    if (!(source->class_names = mem_new(ctx, (size_t)n, sizeof *source->class_names)))
        return EBM_ERR_NOMEM;
    for (int i = 0; i < s->n_told; i++)
        for (int c = 0; c < s->told[i].classes; c++, source->classes++)
            if (!(source->class_names[source->classes] = class_name(ctx, s, &s->told[i], c)))
                return EBM_ERR_NOMEM;
    return EBM_OK;
}

int shapes_open(ebm_context *ctx, const char *spec, const struct request *request,
                struct source *source)
{
    const char *items = strchr(spec, ':');
    struct shapes *s = mem_new(ctx, 1, sizeof *s);
    char *copy = items ? mem_strdup(ctx, items + 1) : NULL;
    int rc = EBM_OK;

    if (!s || (items && !copy)) {
        mem_free(ctx, s);
        mem_free(ctx, copy);
        return EBM_ERR_NOMEM;
    }
    s->count = COUNT_DEFAULT;
    s->height = request->height ? request->height : SIDE;
    s->width = request->width ? request->width : SIDE;
    s->told[0] = (struct told){ .attribute = SHAPE };
    s->n_told = 1;
    s->key[0] = (uint32_t)request->seed;
    s->key[1] = (uint32_t)(request->seed >> 32);
    s->allowed[SHAPE] = (1u << COUNT(shape_names)) - 1;
    s->allowed[COLOUR] = (1u << COUNT(colours)) - 1;
    s->allowed[BACKGROUND] = (1u << COUNT(grounds)) - 1;
    memcpy(s->range, whole, sizeof whole);
    if (copy)
        rc = take_spec(ctx, s, spec, copy);
    s->first = request->split == SPLIT_TEST ? s->count : 0;
    mem_free(ctx, copy);
    if (rc == EBM_OK)
        rc = name_classes(ctx, s, source);
    if (rc < 0) {
        mem_free(ctx, s);
        source_close(ctx, source);
        return rc;
    }
    source->format = "shapes";
    source->splits = SPLIT_ALL;
    source->count = request->split == SPLIT_ALL ? 2 * s->count : s->count;
    source->height = s->height;
    source->width = s->width;
    source->channels = 3;
    source->coded = true;
    source->fingerprint = fingerprint(FINGERPRINT_START, &s->key, sizeof s->key);
    source->fingerprint = fingerprint(source->fingerprint, spec, strlen(spec));
    source->read = read_shape;
    source->close = close_shapes;
    source->state = s;
    return EBM_OK;
}

bool source_is_shapes(const struct source *source)
{
    return source->read == read_shape;
}

int shapes_attributes(const struct source *source, size_t index,
                      ebm_shapes_attributes *attributes)
{
    draw_lots(source->state, index, attributes);
    return EBM_OK;
}
