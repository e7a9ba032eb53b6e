/* device.c - run values of a trial on a backend and hold them against the oracle.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "store.h"
#include "tap.h"

void doubles_from(double *to, enum ebm_type type, const void *from, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = type == EBM_F32 ? (double)((const float *)from)[i]
              : type == EBM_I32 ? (double)((const int32_t *)from)[i]
                                : (double)((const uint8_t *)from)[i];
}

void doubles_to(void *to, enum ebm_type type, const double *from, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (type == EBM_F32)
            ((float *)to)[i] = (float)from[i];
        else if (type == EBM_I32)
            ((int32_t *)to)[i] = (int32_t)from[i];
        else
            ((uint8_t *)to)[i] = (uint8_t)from[i];
}

static size_t bytes_of(const ebm_graph *g, ebm_val a)
{
    const struct node *n = node_of(g, a);

    return (size_t)shape_count(&n->shape) * type_size(n->type);
}

/* The values that the outputs depend on. */
static bool *dependencies(const ebm_graph *g, int n, const ebm_val *outputs)
{
    bool *read = calloc((size_t)g->count, sizeof *read);

    for (int i = 0; i < n; i++)
        read[outputs[i]] = true;
    for (ebm_val a = g->count - 1; a > 0; a--)
        for (int i = 0; read[a] && i < node_of(g, a)->n_in; i++)
            read[operand(node_of(g, a), i)] = true;
    return read;
}

int device_inputs(struct trial *t, ebm_program *program, int n, const ebm_val *outputs)
{
    bool *read = dependencies(t->g, n, outputs);
    int rc = EBM_OK;

    for (int k = 0; k < t->n_in && rc >= 0; k++) {
        struct trial_input *in = &t->in[k];
        size_t size = (size_t)in->count * type_size(in->type);
        void *data = malloc(size);
        doubles_to(data, in->type, in->data, in->count);
        if (read[in->val])
            rc = ebm_program_set(program, in->name, data, size);
        free(data);
    }
    free(read);
    return rc;
}

const char *device_name(void)
{
    return getenv("EBM_TEST_BACKEND");
}

ebm_backend *device_backend(ebm_context *ctx, const char *name)
{
    ebm_backend *backend;

    if (ebm_backend_open(ctx, name, 0, &backend) < 0)
        tap_skip_all("%s", ebm_message(ctx));
    return backend;
}

struct answer device_run(struct trial *t, int n, const ebm_val *outputs)
{
    struct answer answer = { NULL, 0 };
    ebm_program *program = NULL;
    int rc = ebm_store_alloc(t->store, 1);

    if (rc >= 0)
        rc = ebm_compile(t->g, n, outputs, &program);
    if (rc >= 0 && store_find(t->store, "counter") >= 0)
        rc = ebm_store_write(t->store, "counter", trial_counter, sizeof trial_counter);
    if (rc >= 0)
        rc = device_inputs(t, program, n, outputs);
    if (rc >= 0)
        rc = ebm_program_run(program, 1);
    for (int i = 0; i < n; i++)
        answer.size += bytes_of(t->g, outputs[i]);
    if (rc >= 0)
        answer.bytes = calloc(1, answer.size + 1);
    size_t at = 0;
    for (int i = 0; i < n && rc >= 0; i++) {
        rc = ebm_program_get(program, outputs[i], answer.bytes + at, bytes_of(t->g, outputs[i]));
        at += bytes_of(t->g, outputs[i]);
    }
    if (rc < 0) {
        tap_note("%s", ebm_message(t->ctx));
        free(answer.bytes);
        answer.bytes = NULL;
    }
    ebm_program_free(program);
    return answer;
}

double device_error(const struct trial *t, int n, const ebm_val *outputs,
                    const struct answer *answer, const double *r)
{
    struct oracle *o = trial_oracle(t);
    const unsigned char *at = answer->bytes;
    double worst = 0;

    if (r)
        oracle_slot(o, store_find(t->store, "r"), r);
    for (int i = 0; i < n; i++) {
        const struct node *y = node_of(t->g, outputs[i]);
        const double *want = oracle_value(o, outputs[i]);
        int64_t count = shape_count(&y->shape);
        double *got = malloc((size_t)count * sizeof *got), scale = 1, error = 0;
        doubles_from(got, y->type, at, count);
        for (int64_t k = 0; k < count; k++) {
            double e = got[k] == want[k] ? 0 : fabs(got[k] - want[k]);
            if (op_info[y->op].class == EW)
                e /= fmax(1, fabs(want[k]));
            else
                scale = fmax(scale, fabs(want[k]));
            error = e <= error || isnan(error) ? error : e;
        }
        worst = error / scale <= worst || isnan(worst) ? worst : error / scale;
        free(got);
        at += bytes_of(t->g, outputs[i]);
    }
    oracle_free(o);
    return worst;
}
