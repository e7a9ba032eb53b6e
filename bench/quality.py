"""quality.py - whether a faster way of computing changes what is learned.

SPDX-License-Identifier: ISC

    PATH=apps:$PATH python3 quality.py FOLDER [--out NEW] [--recipe icd-digits]
                [--data SOURCE] [--seeds 1 2 3] [--set KEY=VALUE ...]

For each seed the same recipe is trained from the same first weights with exact
convolutions (EBM_EXACT=1), with Winograd's algorithm, and with bfloat16, each on
one thread.  1,000 samples of each model are compared with the test pictures by
the distance of compare_icd.py; a difference between ways is to be read beside that
between seeds.
"""
import argparse
import json
import os
import subprocess
import sys

import numpy as np
import torch

from compare_icd import Judge, ours_samples

WAYS = (("exact", {"EBM_EXACT": "1"}, []), ("Winograd", {}, []), ("bf16", {}, ["--precision", "bf16"]))


def train(args, seed, run, variables, options):
    """The root mean square of the gap between the energies, over the last half."""
    data = ["--data", args.data[0]] if args.data else []
    settings = [part for s in args.set for part in ("--set", s)]
    subprocess.run(["ebm-train", "--recipe", args.recipe, "--seed", str(seed), "--out", run, "-t", "1", "-q",
                    *data, *settings, *options], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, **variables})
    with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    gaps = [n["energy.data"] - n["energy.samples"] for n in lines if "energy.data" in n]
    return float(np.sqrt(np.mean(np.square(gaps[len(gaps) // 2:]))))


def main():
    a = argparse.ArgumentParser(description="Whether a faster way of computing changes what is learned.")
    a.add_argument("folder")
    a.add_argument("--out", default="quality", help="folder of the runs, new")
    a.add_argument("--recipe", default="icd-digits")
    a.add_argument("--data", nargs=1, help="data.source for ebm-train, the same pictures")
    a.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    a.add_argument("--set", nargs="*", default=[])
    args = a.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    judge = Judge(args.folder)
    os.makedirs(args.out)
    found = {way: [] for way, _, _ in WAYS}
    for seed in args.seeds:
        for way, variables, options in WAYS:
            run = os.path.join(args.out, "%s-%d" % (way, seed))
            gap = train(args, seed, run, variables, options)
            value = judge("seed %d, %s" % (seed, way), ours_samples(run, seed))
            found[way].append((value, gap))
    print("means of the seeds (deviations): distance, gap of the energies")
    for way, values in found.items():
        mean, spread = np.mean(values, 0), np.std(values, 0, ddof=1) if len(values) > 1 else np.zeros(2)
        print("  %-10s %.4f (%.4f)  %.4f (%.4f)" % (way, mean[0], spread[0], mean[1], spread[1]))


if __name__ == "__main__":
    sys.exit(main())
