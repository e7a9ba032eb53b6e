/* import_cdrl.c - checkpoints of cooperative diffusion recovery likelihood (Zhu, Xie,
 * Wu and Gao 2024).
 *
 * SPDX-License-Identifier: ISC
 *
 *   pi_state_dict       the energy               region "energy"
 *   p_state_dict        the initializer          region "proposal"
 *   pi_ema_state_dict   its average: a list, parameters in the order of the first
 *   p_ema_state_dict
 *
 * What is not in the files, the size of images and the schedule, is that of the
 * published ones. */
#include <stdio.h>
#include <string.h>
#include "import.h"
#include "nets/cdrl.h"

static const char *const marks[] = {
    "temb_final.weight", "temb_map1.weight_orig", "temb_map2.weight_orig", "module_list.0.weight_orig",
    "module_list.1.conv1.weight_orig", "module_list.1.g", NULL
};
static const char initializer_mark[] = "final_conv.weight";

enum { SIDE = 32 };

static int odd(struct import *im, const char *what)
{
    return ebm_fail(im->ctx, EBM_ERR_FORMAT, "%s is near to cooperative diffusion recovery likelihood, but "
                    "%s", im->file->path, what);
}

/* "pi_state_dict/module." has its average in "pi_ema_state_dict/shadow_params". */
static int find_average(struct import *im, struct state_dict *dict)
{
    const char *end = strstr(dict->prefix, "_state_dict/");
    char first[sizeof dict->shadow + 8], wanted[sizeof dict->shadow];
    size_t n = 0;

    if (!end || (size_t)snprintf(wanted, sizeof wanted, "%.*s_ema_state_dict/shadow_params",
                                 (int)(end - dict->prefix), dict->prefix) >= sizeof wanted)
        return EBM_OK;
    snprintf(first, sizeof first, "%s/0", wanted);
    if (!foreign_find(im->file, first))
        return EBM_OK;
    for (size_t i = 0; i < im->file->n_tensors; i++)
        n += strncmp(im->file->tensors[i].name, wanted, strlen(wanted)) == 0;
    if (n != state_parameters(im, dict))
        return odd(im, "its lists of averages have other lengths than there are parameters");
    memcpy(dict->shadow, wanted, sizeof wanted);
    return EBM_OK;
}

/* The state dict, as it is and with its average. */
static int choose(struct import *im, const struct state_dict *dict, const char *region)
{
    const char *asked = im->options ? im->options->weights : NULL;
    struct import_net *net = &im->nets[im->n_nets++];
    int status;

    *net = (struct import_net){ .region = region, .weights = *dict, .raw = *dict };
    if (asked && strcmp(asked, "raw") == 0)
        return EBM_OK;
    if (asked)
        return ebm_fail(im->ctx, EBM_ERR_ARG, "%s has no weights '%s'; there are raw ones and, if not asked "
                        "for those, their average", im->file->path, asked);
    if ((status = find_average(im, &net->weights)) < 0)
        return status;
    net->has_raw = *net->weights.shadow;
    return EBM_OK;
}

/* ---- sizes ---- */

static int64_t block_size(const struct import *im, const struct state_dict *d, int i, int axis)
{
    char name[64];

    snprintf(name, sizeof name, "module_list.%d.conv1.weight_orig", i);
    return state_size(im, d, name, axis);
}

/* Blocks of each stage, with a pooling between stages, which has no tensors. */
static int read_energy(struct import *im, const struct state_dict *d, struct cdrl_energy_spec *spec)
{
    int64_t labels = state_size(im, d, "y_map.weight_orig", 1);
    int stage = 0, blocks = 0;

    spec->width = state_size(im, d, "module_list.0.weight_orig", 0);
    spec->labels = labels > 1 ? labels - 1 : 0;
    for (int i = 1; stage < CDRL_STAGES; i++) {
        int64_t out = block_size(im, d, i, 0);
        if (out == 0) {
            if (spec->blocks && blocks != spec->blocks)
                return odd(im, "its stages have different numbers of blocks");
            spec->blocks = blocks;
            stage++;
            blocks = 0;
            if (block_size(im, d, i + 1, 0) == 0)
                return EBM_OK;
            continue;
        }
        if (spec->width < 1 || out % spec->width || out / spec->width > 64
            || (blocks && out != block_size(im, d, i - 1, 0)))
            return odd(im, "the channels of its blocks are no multiples of those of the first");
        spec->multipliers[stage] = (int)(out / spec->width);
        blocks++;
    }
    return odd(im, "it has too many stages");
}

static bool listed(const struct import *im, const struct state_dict *d, int stage, int i, const char *what)
{
    char name[64];

    snprintf(name, sizeof name, "downs.%d.%d.%s", stage, i, what);
    return state_find(im, d, name);
}

/* Blocks, each perhaps with attention; then, but for the last stage, one that halves. */
static int read_proposal(struct import *im, const struct state_dict *d, struct cdrl_proposal_spec *spec)
{
    spec->width = state_size(im, d, "init_conv.weight", 0);
    while (spec->stages < CDRL_STAGES && listed(im, d, spec->stages, 0, "conv1.weight"))
        spec->stages++;
    for (int stage = 0; stage < spec->stages; stage++) {
        int blocks = stage == spec->stages - 1 ? 0 : -1;
        for (int i = 0; ; i++)
            if (listed(im, d, stage, i, "conv1.weight"))
                blocks++;
            else if (listed(im, d, stage, i, "to_qkv.weight"))
                spec->attention |= 1u << stage;
            else
                break;
        if (stage && blocks != spec->blocks)
            return odd(im, "the stages of its initializer have different numbers of blocks");
        spec->blocks = blocks;
    }
    return EBM_OK;
}

/* ---- settings ---- */

static void write_energy(struct import *im, const struct cdrl_energy_spec *spec, int64_t channels)
{
    struct text *t = &im->settings;

    text_printf(t, "method = cdrl\ndata.low = -1\ndata.high = 1\ndata.height = %d\ndata.width = %d\n"
                "data.channels = %lld\n", SIDE, SIDE, (long long)channels);
    text_printf(t, "cdrl.width = %lld\ncdrl.blocks = %d\ncdrl.labels = %lld\ncdrl.multipliers = ",
                (long long)spec->width, spec->blocks, (long long)spec->labels);
    for (int i = 0; i < CDRL_STAGES && spec->multipliers[i]; i++)
        text_printf(t, "%s%d", i ? ", " : "", spec->multipliers[i]);
    text_put(t, "\n");
}

static void write_proposal(struct text *t, const struct cdrl_proposal_spec *spec)
{
    const char *between = "";

    text_printf(t, "proposal.width = %lld\nproposal.stages = %d\nproposal.blocks = %d\nproposal.attention = ",
                (long long)spec->width, spec->stages, spec->blocks);
    for (int i = 0; i < spec->stages; i++)
        if (spec->attention & 1u << i) {
            text_printf(t, "%s%d", between, i + 1);
            between = ", ";
        }
    text_put(t, spec->attention ? "\n" : "0\n");
}

static int describe(struct import *im, const struct state_dict *dicts, int count)
{
    struct state_dict initializer[2];
    struct cdrl_energy_spec energy = { 0 };
    struct cdrl_proposal_spec proposal = { 0 };
    int status, n = state_dicts(im, initializer_mark, initializer, 2);

    snprintf(im->network, sizeof im->network, "cooperative diffusion recovery likelihood");
    if (count > 1 || n > 1)
        return odd(im, "it has more than one energy or initializer");
    if ((status = choose(im, &dicts[0], "energy")) < 0
        || (status = read_energy(im, &dicts[0], &energy)) < 0)
        return status;
    write_energy(im, &energy, state_size(im, &dicts[0], "module_list.0.weight_orig", 1));
    if (n == 0)
        text_put(&im->settings, "cdrl.start = above\n");
    else if ((status = choose(im, &initializer[0], "proposal")) < 0
             || (status = read_proposal(im, &initializer[0], &proposal)) < 0)
        return status;
    else
        write_proposal(&im->settings, &proposal);
    im->steps = (int64_t)flag_number(im, "pi_ema_state_dict/num_updates", 0);
    snprintf(im->network, sizeof im->network, "cooperative diffusion recovery likelihood: width %lld, %d "
             "blocks, %lld labels%s", (long long)energy.width, energy.blocks, (long long)energy.labels,
             n ? "" : ", no initializer");
    return EBM_OK;
}

const struct family family_cdrl = { "cooperative diffusion recovery likelihood", marks, describe };
