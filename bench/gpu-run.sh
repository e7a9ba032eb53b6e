#!/bin/sh
# gpu-run.sh - test and time libebm on this machine's GPU.
#
# SPDX-License-Identifier: ISC
#
#     ./run [DEVICE [NAME]]     DEVICE: vulkan:0 if not given; NAME: of benchmarks
#
# Prints what there is, whether operations are right, a short training and its
# samples, and times; beside PyTorch, if python3 has it: on the same GPU, if it knows CUDA,
# and it says on what.
cd "$(dirname "$0")" || exit 99
here=$(pwd)
device=${1:-vulkan:0} name=$2
EBM_RECIPE_DIR=$here/recipes EBM_DATA_DIR=$here/data EBM_CACHE_DIR=$here/cache
export EBM_RECIPE_DIR EBM_DATA_DIR EBM_CACHE_DIR
failed=0
# some drivers come without the loader
if ! { PATH=$PATH:/sbin:/usr/sbin ldconfig -p; } 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    LD_LIBRARY_PATH=$here/lib/loader${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi

section() {
    printf '\n== %s\n' "$1"
}
# tested NAME COMMAND...: its failures and a verdict
tested() {
    what=$1
    shift
    "$@" >log 2>&1
    status=$?
    grep -v '^ok' log
    [ "$status" -eq 0 ] && ! grep -q '^1\.\.0' log || failed=1
    printf '%s: %d claims hold, exit status %d\n' "$what" "$(grep -c '^ok' log)" "$status"
}

# each COMMAND...: with the name of benchmarks, or those of Langevin and training steps
each() {
    if [ -n "$name" ]; then
        "$@" "$name" || failed=1
    else
        "$@" langevin && "$@" train || failed=1
    fi
}

section 'devices'
bin/ebm-devices
if ! bin/ebm-devices | grep -q "^$device "; then
    echo "there is no $device here"
    exit 1
fi
section "tests on $device"
tested 'operations' env EBM_TEST_BACKEND="$device" tests/test_ops
tested 'operations, as a minimal device' env EBM_TEST_BACKEND="$device" EBM_VULKAN_LIMITS=minimum tests/test_ops
tested 'random programs' env EBM_TEST_BACKEND="$device" tests/test_fuse
if [ "$device" = vulkan:0 ]; then
    tested 'beside the CPU' tests/test_vulkan
    tested 'contractions' tests/test_vulkan_contract
    tested 'large operands' tests/test_vulkan_large
else
    echo 'other tests know vulkan:0 alone'
fi
section 'a training and its samples'
rm -rf trial
tested 'training' bin/ebm-train --recipe digits --out trial --steps 10 --seed 1 --set batch=4 \
    --set grid.every=0 -b "$device"
tested 'sampling' bin/ebm-sample trial/model.safetensors -n 4 --seed 1 --set sample.steps=20 --set sample.batch=4 \
    -b "$device" --out trial/samples.png
section 'times'
EBM_BENCH_BACKEND=$device
export EBM_BENCH_BACKEND
each bench/work 2 9
section 'with precision bf16'
if [ -n "$name" ]; then
    bench/work 2 5 "$name" bf16 || failed=1
else
    bench/work 2 5 'conv 3x3' bf16 && bench/work 2 5 train bf16 || failed=1
fi
if [ -z "$name" ]; then
    section "convolutions, and by their definition alone"
    bench/work 2 5 'conv 3x3'
    EBM_EXACT=1 bench/work 2 5 'conv 3x3'
fi
if torch=$(python3 -c 'import numpy, torch
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "the processor: it knows no GPU here")' 2>log); then
    section "beside PyTorch on $torch"
    each python3 bench/torch_work.py bench/work 2 5
else
    printf '\n== beside PyTorch: left out: %s\n' "$(tail -n 1 log)"
fi
exit $failed
