#!/bin/sh
# startup.sh - seconds from the start of ebm-sample to its end, with one image
# and one Langevin step: an upper bound of what comes before the first step.
#
# SPDX-License-Identifier: ISC
#
#     startup.sh FOLDER_OF_TOOLS [REPEATS]
tools=${1:-apps} repeats=${2:-9}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# About 5 million parameters.
net='conv:64 res(silu conv:128 silu conv:128 avgpool:2) res(silu conv:256 silu conv:256 avgpool:2)
 res(silu conv:384 silu conv:384 avgpool:2) res(silu conv:256 silu conv:256) silu sum linear:1'
"$tools/ebm-train" --data shapes:8 --out "$folder/run" --quiet --seed 1 --steps 1 \
    --set "energy.net=$(echo $net)" --set batch=2 --set buffer.size=8 --set langevin.steps=1 --set buffer.burn_in=0 --set sample.steps=1 --set grid.images=1 \
    --recipe "$(dirname "$0")/../recipes/digits.recipe" --set data.height=32 --set data.width=32 >/dev/null || exit 1
"$tools/ebm-model" inspect "$folder/run/model.safetensors" | grep -i parameters
i=0
while [ $i -lt "$repeats" ]; do
    i=$((i + 1))
    # -p: seconds on the wall
    { time -p "$tools/ebm-sample" "$folder/run/model.safetensors" --count 1 --quiet --seed 1 \
        --set sample.steps=1 --set sample.batch=1 --out "$folder/one.png" >/dev/null; } 2>&1 |
        sed -n 's/^real *//p'
done | sort -n | awk '{ s[NR] = $1 } END {
    printf "start of ebm-sample, one step of one image: %.2f s (%.2f - %.2f)\n", s[int((NR + 1) / 2)], s[1], s[NR] }'
