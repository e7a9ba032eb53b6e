/* joint.c - see joint.h.
 *
 * SPDX-License-Identifier: ISC */
#include <math.h>
#include <stdio.h>
#include "joint.h"
#include "profile.h"
#include "settings.h"

/* Values of sample.label that are no class. */
enum { ANY_LABEL = -1, NO_LABEL = -2 };

/* A model at work in a graph. */
struct member {
    const struct joint_part *part;
    int64_t classes, label;              /* classes 0: it is told nothing */
    ebm_val labels;                      /* state [batch] of chains; 0: none */
    ebm_val energies;                    /* of the feeds "images" and "labels" */
    ebm_program *program;
};

struct joint {
    ebm_context *ctx;
    ebm_graph *g;
    int64_t batch;
    size_t bytes;                        /* of a batch of images */
    double low, high;                    /* the chains' range of pixels */
    double any;
    int count;
    struct joint_part alone;             /* what parts are without a joint_spec */
    struct member *members;
    float *labels, *one, *all;           /* a batch: fed, of one label, of one model */
    double *sum;                         /* of the models so far */
    ebm_val *terms, *rows;               /* of the members, while they are added */
};

/* ---- graphs ---- */

/* x in the range of pixels that a model knows. */
static ebm_val as_seen(const struct joint *j, const struct member *m, ebm_val x)
{
    double low = recipe_number(m->part->recipe, "data.low"), high = recipe_number(m->part->recipe, "data.high");

    if (low == j->low && high == j->high)
        return x;
    double scale = (high - low) / (j->high - j->low);
    return ebm_offset(j->g, ebm_scale(j->g, x, scale), low - scale * j->low);
}

static ebm_val energy_of_member(const struct joint *j, const struct member *m, ebm_val x, ebm_val labels)
{
    return m->part->method->energy->at(m->part->recipe, j->g, m->part->region, as_seen(j, m, x), labels);
}

/* -1/b log sum w_i e^(-b E_i) */
static ebm_val any_of(const struct joint *j, const ebm_val *e)
{
    ebm_graph *g = j->g;

    for (int i = 0; i < j->count; i++)
        j->rows[i] = ebm_reshape(g, ebm_offset(g, ebm_scale(g, e[i], -j->any), log(j->members[i].part->weight)),
                                 2, (const int64_t[]){ 1, j->batch });
    ebm_val all = ebm_logsumexp(g, ebm_concat(g, 0, j->count, j->rows), 0);
    return ebm_scale(g, ebm_reshape(g, all, 1, &j->batch), -1 / j->any);
}

static ebm_val sum_of(const struct joint *j, const ebm_val *e)
{
    ebm_val sum = 0;
    double weights = 0;

    for (int i = 0; i < j->count; i++)
        weights += fabs(j->members[i].part->weight);
    for (int i = 0; i < j->count; i++) {
        ebm_val term = ebm_scale(j->g, e[i], j->members[i].part->weight / weights);
        sum = i ? ebm_add(j->g, sum, term) : term;
    }
    return sum;
}

ebm_val joint_at(ebm_graph *g, ebm_val x, void *user)
{
    struct joint *j = user;

    (void)g;
    for (int i = 0; i < j->count; i++)
        j->terms[i] = energy_of_member(j, &j->members[i], x, j->members[i].labels);
    return j->count == 1 ? j->terms[0] : j->any > 0 ? any_of(j, j->terms) : sum_of(j, j->terms);
}

void joint_begin(struct joint *j, ebm_val counter, ebm_outputs *effects)
{
    ebm_graph *g = j->g;

    for (int i = 0; i < j->count; i++) {
        const struct member *m = &j->members[i];
        if (!m->classes)
            continue;
        ebm_val u = ebm_uniform(g, counter, DRAW_LABELS + (uint32_t)i, 1, &j->batch);
        ebm_val any = ebm_floor(g, ebm_scale(g, u, (double)m->classes));
        any = ebm_min(g, any, ebm_const(g, (double)(m->classes - 1)));
        ebm_output(g, effects, ebm_assign(g, m->labels,
                                          m->label < 0 ? any : ebm_fill(g, any, (double)m->label)));
    }
}

static void build_member(struct joint *j, int i, const int64_t shape[4])
{
    struct member *m = &j->members[i];
    ebm_graph *g = j->g;
    ebm_val labels = 0;
    char name[40];

    if (m->classes) {
        snprintf(name, sizeof name, i ? "sample.labels.%d" : "sample.labels", i + 1);
        m->labels = ebm_state(g, name, EBM_F32, 1, &j->batch, (ebm_init){ EBM_INIT_CONST, 0, 0 });
        snprintf(name, sizeof name, i ? "labels.%d" : "labels", i + 1);
        labels = ebm_feed(g, name, EBM_F32, 1, &j->batch);
    }
    m->energies = energy_of_member(j, m, ebm_feed(g, "images", EBM_F32, 4, shape), labels);
}

static int check_member(struct joint *j, struct member *m)
{
    const struct method *method = m->part->method;

    if (!method->energy)
        return ebm_fail(j->ctx, EBM_ERR_ARG, "models of method %s cannot be composed", method->name);
    m->classes = method->energy->classes ? method->energy->classes(m->part->recipe) : 0;
    m->label = m->classes ? recipe_integer(m->part->recipe, "sample.label") : ANY_LABEL;
    if (m->label == NO_LABEL)
        m->classes = 0;
    if (m->label >= m->classes && m->label >= 0)
        return ebm_fail(j->ctx, EBM_ERR_ARG, "sample.label = %lld is none of %lld classes",
                        (long long)m->label, (long long)m->classes);
    return EBM_OK;
}

int joint_new(const struct method_site *site, ebm_graph *g, const int64_t shape[4], struct joint **joint)
{
    const struct joint_spec *spec = site->joint;
    struct joint *j = mem_new(site->ctx, 1, sizeof *j);
    int status = EBM_OK;

    *joint = j;
    if (!j)
        return EBM_ERR_NOMEM;
    j->ctx = site->ctx;
    j->g = g;
    j->batch = shape[0];
    j->bytes = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]) * sizeof(float);
    j->low = recipe_number(site->recipe, "data.low");
    j->high = recipe_number(site->recipe, "data.high");
    j->any = spec ? spec->any : 0;
    j->alone = (struct joint_part){ site->method, site->recipe, "energy", 1 };
    j->count = spec ? spec->count : 1;
    j->members = mem_new(j->ctx, (size_t)j->count, sizeof *j->members);
    j->labels = mem_new(j->ctx, (size_t)j->batch, sizeof *j->labels);
    j->one = mem_new(j->ctx, (size_t)j->batch, sizeof *j->one);
    j->all = mem_new(j->ctx, (size_t)j->batch, sizeof *j->all);
    j->sum = mem_new(j->ctx, (size_t)j->batch, sizeof *j->sum);
    j->terms = mem_new(j->ctx, (size_t)j->count, sizeof *j->terms);
    j->rows = mem_new(j->ctx, (size_t)j->count, sizeof *j->rows);
    if (!j->members || !j->labels || !j->one || !j->all || !j->sum || !j->terms || !j->rows)
        return EBM_ERR_NOMEM;
    for (int i = 0; i < j->count && status >= 0; i++) {
        j->members[i].part = spec ? &spec->parts[i] : &j->alone;
        if ((status = check_member(j, &j->members[i])) >= 0)
            build_member(j, i, shape);
    }
    return status;
}

void joint_free(struct joint *j)
{
    if (!j)
        return;
    for (int i = 0; j->members && i < j->count; i++)
        ebm_program_free(j->members[i].program);
    mem_free(j->ctx, j->members);
    mem_free(j->ctx, j->labels);
    mem_free(j->ctx, j->one);
    mem_free(j->ctx, j->all);
    mem_free(j->ctx, j->sum);
    mem_free(j->ctx, j->terms);
    mem_free(j->ctx, j->rows);
    mem_free(j->ctx, j);
}

/* ---- energies ---- */

int joint_compile(struct joint *j)
{
    int status = EBM_OK;

    for (int i = 0; i < j->count && status >= 0; i++) {
        struct member *m = &j->members[i];
        if ((status = ebm_compile(j->g, 1, &m->energies, &m->program)) >= 0)
            program_label(m->program, "energy");
    }
    return status;
}

/* log(e^a + e^b) */
static double log_add(double a, double b)
{
    return fmax(a, b) + log1p(exp(-fabs(a - b)));
}

static int energy_of_label(struct joint *j, int i, int64_t label, float *energies)
{
    struct member *m = &j->members[i];
    char name[40];
    int status;

    if (m->classes) {
        snprintf(name, sizeof name, i ? "labels.%d" : "labels", i + 1);
        for (int64_t k = 0; k < j->batch; k++)
            j->labels[k] = (float)label;
        if ((status = ebm_program_set(m->program, name, j->labels,
                                      (size_t)j->batch * sizeof *j->labels)) < 0)
            return status;
    }
    if ((status = ebm_program_run(m->program, 1)) < 0)
        return status;
    return ebm_program_get(m->program, m->energies, energies, (size_t)j->batch * sizeof *energies);
}

/* Of one model, into j->all. */
static int member_energy(struct joint *j, int i, const float *images)
{
    struct member *m = &j->members[i];
    int status;

    if ((status = ebm_program_set(m->program, "images", images, j->bytes)) < 0
        || (status = energy_of_label(j, i, m->label < 0 ? 0 : m->label, j->all)) < 0)
        return status;
    for (int64_t label = 1; m->label < 0 && label < m->classes; label++) {
        if ((status = energy_of_label(j, i, label, j->one)) < 0)
            return status;
        for (int64_t k = 0; k < j->batch; k++)
            j->all[k] = (float)-log_add(-(double)j->all[k], -(double)j->one[k]);
    }
    return EBM_OK;
}

int joint_energy(struct joint *j, const float *images, float *energies)
{
    int status;

    for (int i = 0; i < j->count; i++) {
        double w = j->members[i].part->weight;
        if ((status = member_energy(j, i, images)) < 0)
            return status;
        for (int64_t k = 0; k < j->batch; k++) {
            double e = j->all[k];
            if (j->any == 0)
                j->sum[k] = (i ? j->sum[k] : 0) + w * e;
            else                         /* its log until the end */
                j->sum[k] = i ? log_add(j->sum[k], log(w) - j->any * e) : log(w) - j->any * e;
        }
    }
    for (int64_t k = 0; k < j->batch; k++)
        energies[k] = (float)(j->any == 0 ? j->sum[k] : -j->sum[k] / j->any);
    return EBM_OK;
}
