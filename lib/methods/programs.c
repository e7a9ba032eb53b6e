/* programs.c - see programs.h.
 *
 * SPDX-License-Identifier: ISC */
#include "context.h"
#include "profile.h"
#include "programs.h"
#include "work.h"

int programs_compile(ebm_graph *g, struct program *programs, int count, const char *const *labels)
{
    int status = EBM_OK;

    for (int i = 0; i < count && status >= 0; i++) {
        struct program *p = &programs[i];
        if (p->out.count && (status = ebm_compile(g, p->out.count, p->out.list, &p->program)) >= 0)
            program_label(p->program, labels[i]);
    }
    return status;
}

double programs_work(ebm_graph *g, const struct program *programs, int count, const double *times)
{
    double work = 0;

    for (int i = 0; i < count; i++)
        work += times[i] * graph_work(g, programs[i].out.count, programs[i].out.list);
    return work;
}

void programs_free(struct program *programs, int count)
{
    for (int i = 0; i < count; i++)
        ebm_program_free(programs[i].program);
}

int batch_bytes(const struct method_site *site, const char *key, size_t *bytes)
{
    int64_t batch = recipe_integer(site->recipe, key);

    /* An image's pixels fit: its data could be opened. */
    *bytes = (size_t)(site->image[0] * site->image[1] * site->image[2]) * sizeof(float);
    return size_mul(*bytes, (size_t)batch, bytes) ? EBM_OK
         : ebm_fail(site->ctx, EBM_ERR_ARG, "%s = %lld images are too many", key, (long long)batch);
}
