/* random.c - RANDOM and TICK.
 *
 * SPDX-License-Identifier: ISC
 *
 * Every number depends on its own index (philox.h), so any cut into chunks
 * gives the same draw. */
#include <string.h>
#include "step.h"

enum { CHUNK = 16384 };          /* numbers: whole groups of philox.c */

static void random_run(const struct cpu *cpu, const struct step_run *s)
{
    int64_t count = shape_count(&s->node.shape), chunks = (count + CHUNK - 1) / CHUNK;
    uint32_t purpose = s->node.attr.random.purpose;
    float *out = s->out;
    struct philox rng;

    memcpy(&rng, s->in[0], sizeof rng);
#pragma omp parallel for num_threads(threads_for(cpu, 8 * count)) schedule(static)
    for (int64_t c = 0; c < chunks; c++) {
        int64_t begin = c * CHUNK, end = begin + CHUNK < count ? begin + CHUNK : count;
        (s->node.attr.random.normal ? cpu->kernels->normal : cpu->kernels->uniform)
            (out + begin, begin, end, &rng, purpose);
    }
}

static void tick_run(const struct cpu *cpu, const struct step_run *s)
{
    struct philox rng;

    (void)cpu;
    memcpy(&rng, s->in[0], sizeof rng);
    rng.step++;
    memcpy(s->out, &rng, sizeof rng);
}

int random_prepare(const struct cpu *cpu, struct step_run *s)
{
    (void)cpu;
    s->run = s->node.op == OP_TICK ? tick_run : random_run;
    return EBM_OK;
}
