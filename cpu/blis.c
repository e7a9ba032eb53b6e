/* blis.c - the micro-kernel of BLIS, called on our own panels.
 *
 * SPDX-License-Identifier: ISC
 *
 * BLIS exports no micro-kernel, but its context holds one, which the header's
 * inline functions read out of a structure.  The library's soname stayed the
 * same when that structure changed, so it is read only if the library that runs
 * is of the version that was compiled against, only used if its tile is the own
 * kernel's, and only trusted after a product that comes out right.
 *
 * A kernel that likes columns (skx: 32 x 12) gets the operands swapped, so that
 * for us a row of C is always contiguous. */
#include "config.h"
#include <stdlib.h>
#include <string.h>
#include "gemm.h"
#include "isa.h"

#ifdef HAVE_BLIS
#include <blis.h>

struct blis {
    struct ukernel kernel;       /* first: what the caller holds */
    sgemm_ukr_ft ukr;
    cntx_t *cntx;
    bool swapped;
};

static void packed(const struct blis *blis, int64_t k, const float *a, const float *b,
                   float *c, int64_t ldc, bool add)
{
    int MR = blis->kernel.MR, NR = blis->kernel.NR;
    float one = 1, beta = add;
    auxinfo_t next;              /* what to prefetch: nothing better is known */

    memset(&next, 0, sizeof next);
    bli_auxinfo_set_next_a((void *)a, &next);
    bli_auxinfo_set_next_b((void *)b, &next);
    if (blis->swapped)
        blis->ukr(NR, MR, k, &one, (float *)b, (float *)a, &beta, c, 1, ldc, &next, blis->cntx);
    else
        blis->ukr(MR, NR, k, &one, (float *)a, (float *)b, &beta, c, ldc, 1, &next, blis->cntx);
}

/* Small integers: any order of summing gives the same floats. */
static bool multiplies(const struct blis *blis)
{
    enum { DEPTH = 7 };
    const struct ukernel *u = &blis->kernel;
    float a[DEPTH * GEMM_MAX_MR] __attribute__((aligned(64)));
    float b[DEPTH * GEMM_MAX_NR] __attribute__((aligned(64)));
    float c[GEMM_MAX_MR * GEMM_MAX_NR] __attribute__((aligned(64)));

    for (int i = 0; i < DEPTH * u->MR; i++)
        a[i] = (float)(i * 7 % 11 - 5);
    for (int i = 0; i < DEPTH * u->NR; i++)
        b[i] = (float)(i * 5 % 13 - 6);
    packed(blis, DEPTH, a, b, c, u->NR, false);
    for (int i = 0; i < u->MR; i++)
        for (int j = 0; j < u->NR; j++) {
            float sum = 0;
            for (int k = 0; k < DEPTH; k++)
                sum += a[k * u->MR + i] * b[k * u->NR + j];
            if (c[i * u->NR + j] != sum)
                return false;
        }
    return true;
}

/* The context of this processor.  BLIS 0.9 knows the brands of processors with
 * two AVX-512 units and takes others for `haswell`; its way of being told is the
 * environment, which is read at its first call and put back at once.  A choice
 * of the user stays. */
static cntx_t *context(unsigned flags)
{
    static const char variable[] = "BLIS_ARCH_TYPE";
    bool told = (flags & CPU_AVX512) && !getenv(variable)
                && setenv(variable, "skx", 0) == 0;
    cntx_t *cntx = (cntx_t *)bli_gks_query_cntx();

    if (told)
        unsetenv(variable);
    return cntx;
}

struct ukernel *blis_new(ebm_context *ctx, unsigned flags, const struct ukernel *own,
                         const char **reason)
{
    struct blis *blis;

    *reason = "BLIS is of another version than the one compiled against";
    if (strcmp(bli_info_get_version_str(), BLIS_VERSION_BUILT) != 0)
        return NULL;
    cntx_t *cntx = context(flags);
    dim_t m = bli_cntx_get_blksz_def_dt(BLIS_FLOAT, BLIS_MR, cntx);
    dim_t n = bli_cntx_get_blksz_def_dt(BLIS_FLOAT, BLIS_NR, cntx);
    bool swapped = m == own->NR && n == own->MR;
    *reason = "BLIS's tile is not the own kernel's";
    if (!swapped && !(m == own->MR && n == own->NR))
        return NULL;

    *reason = NULL;
    blis = mem_new(ctx, 1, sizeof *blis);
    if (!blis)
        return NULL;
    blis->kernel = *own;
    blis->kernel.packed = packed;
    blis->kernel.blis = blis;
    blis->ukr = bli_cntx_get_l3_nat_ukr_dt(BLIS_FLOAT, BLIS_GEMM_UKR, cntx);
    blis->cntx = cntx;
    blis->swapped = swapped;
    *reason = "BLIS's kernel gives wrong results";
    if (!multiplies(blis)) {
        mem_free(ctx, blis);
        return NULL;
    }
    *reason = NULL;
    return &blis->kernel;
}

#else

struct ukernel *blis_new(ebm_context *ctx, unsigned flags, const struct ukernel *own,
                         const char **reason)
{
    (void)ctx;
    (void)flags;
    (void)own;
    *reason = "built without BLIS";
    return NULL;
}

#endif

void blis_free(ebm_context *ctx, struct ukernel *kernel)
{
    mem_free(ctx, kernel);       /* a struct blis begins with it */
}
