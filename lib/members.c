/* members.c - see members.h.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include "members.h"
#include "model.h"

enum { MEMBERS_MAX = 64 };

struct member {
    const char *path;
    const ebm_model_info *info;
    struct recipe *recipe;               /* NULL of the first when begun: the model's */
    int label;
};

struct members {
    ebm_context *ctx;
    int count;
    struct member *list;
    struct joint_part *parts;
    struct joint_spec joint;
};

void members_free(struct members *m)
{
    if (!m)
        return;
    for (int i = 0; m->list && i < m->count; i++) {
        ebm_model_info_free(m->ctx, m->list[i].info);
        recipe_free(m->list[i].recipe);
    }
    mem_free(m->ctx, m->list);
    mem_free(m->ctx, m->parts);
    mem_free(m->ctx, m);
}

const struct joint_spec *members_joint(const struct members *m)
{
    return m ? &m->joint : NULL;
}

const ebm_model_info *members_info(const struct members *m, int index)
{
    return index >= 0 && index < m->count ? m->list[index].info : NULL;
}

/* Tell a recipe which class its chains have. */
static int set_label(ebm_context *ctx, const struct member *member, const struct joint_part *part,
                     struct recipe *recipe)
{
    const struct method_energy *energy = part->method->energy;
    int64_t classes = energy && energy->classes ? energy->classes(part->recipe) : 0;
    char setting[48];

    if (member->label < 0)
        return EBM_OK;
    /* A method whose models cannot be joined knows its classes by itself. */
    if (energy && member->label >= classes)
        return ebm_fail(ctx, EBM_ERR_ARG, "%s: label %d of a model that is told %" PRId64 " classes",
                        member->path, member->label, classes);
    snprintf(setting, sizeof setting, "sample.label=%d", member->label);
    return recipe_set(recipe, setting);
}

static int open_member(struct members *m, int i, const ebm_model_part *from)
{
    struct member *member = &m->list[i];
    struct joint_part *part = &m->parts[i];
    int64_t image[3];
    int status;

    member->path = from->path;
    member->label = from->label;
    part->weight = from->weight;
    snprintf(part->region, sizeof part->region, i ? "energy%d" : "energy", i + 1);
    if ((status = ebm_model_inspect(m->ctx, from->path, &member->info)) < 0
        || (status = model_settings(m->ctx, member->info->recipe, from->path, &member->recipe,
                                    &part->method, image)) < 0)
        return status;
    part->recipe = member->recipe;
    return set_label(m->ctx, member, part, member->recipe);
}

static int check_weights(ebm_context *ctx, int n, const ebm_model_part *parts, double any)
{
    if (n < 1 || n > MEMBERS_MAX)
        return ebm_fail(ctx, EBM_ERR_ARG, "%d models; from 1 to %d can be joined", n, MEMBERS_MAX);
    if (!(any >= 0 && any < HUGE_VAL))
        return ebm_fail(ctx, EBM_ERR_ARG, "a sharpness of %g: it is 0, or above", any);
    for (int i = 0; i < n; i++) {
        double w = parts[i].weight;
        if (!isfinite(w) || w == 0 || (any > 0 && w < 0))
            return ebm_fail(ctx, EBM_ERR_ARG, "%s: weight %g: it is %s", parts[i].path, w,
                            any > 0 ? "above 0 where one model is enough" : "a number other than 0");
    }
    return EBM_OK;
}

int members_open(ebm_context *ctx, int n, const ebm_model_part *parts, double any, struct members **members)
{
    struct members *m;
    int status = check_weights(ctx, n, parts, any);

    *members = NULL;
    if (status < 0)
        return status;
    if (!(m = mem_new(ctx, 1, sizeof *m)))
        return EBM_ERR_NOMEM;
    m->ctx = ctx;
    m->count = n;
    m->list = mem_new(ctx, (size_t)n, sizeof *m->list);
    m->parts = mem_new(ctx, (size_t)n, sizeof *m->parts);
    m->joint = (struct joint_spec){ n, m->parts, any };
    if (!m->list || !m->parts)
        status = EBM_ERR_NOMEM;
    for (int i = 0; i < n && status >= 0; i++)
        status = open_member(m, i, &parts[i]);
    if (status < 0)
        members_free(m);
    else
        *members = m;
    return status;
}

int members_begin(struct members *m, struct recipe *recipe, const int64_t image[3])
{
    int status;

    m->parts[0].recipe = recipe;
    if ((status = set_label(m->ctx, &m->list[0], &m->parts[0], recipe)) < 0)
        return status;
    for (int i = 0; i < m->count; i++) {
        const ebm_model_info *info = m->list[i].info;
        bool alone = m->count == 1 && m->joint.any == 0 && m->parts[i].weight == 1;
        if (!m->parts[i].method->energy && !alone)
            return ebm_fail(m->ctx, EBM_ERR_ARG, "%s: models of method %s cannot be joined",
                            m->list[i].path, info->method);
        if (info->height != image[0] || info->width != image[1] || info->channels != image[2])
            return ebm_fail(m->ctx, EBM_ERR_ARG, "%s is of %dx%dx%d images, %s of %" PRId64 "x%" PRId64 "x%"
                            PRId64, m->list[i].path, info->height, info->width, info->channels,
                            m->list[0].path, image[0], image[1], image[2]);
    }
    return EBM_OK;
}
