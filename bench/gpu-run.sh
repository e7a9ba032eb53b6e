#!/bin/sh
# gpu-run.sh - test and time libebm on this machine's GPU.
#
# SPDX-License-Identifier: ISC
#
# What `./run --help` prints:
#
#: usage: ./run [--short] [DEVICE [NAME]]
#:
#: Tests and times libebm on this machine's GPU: what there is, whether operations are
#: right, a short training and its samples, times; beside PyTorch, if python3 has it, on
#: the same GPU, if it knows CUDA.  What was not done is said, with the reason.
#:
#:   DEVICE    as bin/ebm-devices lists them; vulkan:0 if not given
#:   NAME      times of works whose line has it, as `bench/work list` has them; if not
#:             given, of Langevin steps and training steps of networks
#:   --short   times of small works alone, by one repeat: ten minutes in all, not hours,
#:             where a processor plays the GPU
#:
#: The exit status is 0 if all that was done is right.
cd "$(dirname "$0")" || exit 99
here=$(pwd)
works='langevin train' bf16_works='conv_3x3 train' convolutions='conv_3x3' repeats=9 few=5
case $1 in
-h | --help)
    sed -n 's/^#: \{0,1\}//p' "$here/run"
    exit 0 ;;
--short)
    works='digits' bf16_works='digits' convolutions='forward_conv_3x3_128,_16x16' repeats=1 few=1
    shift ;;
-*)
    echo "run: unknown option '$1'; ./run --help lists them" >&2
    exit 2 ;;
esac
device=${1:-vulkan:0} name=$2
EBM_RECIPE_DIR=$here/recipes EBM_DATA_DIR=$here/data EBM_CACHE_DIR=$here/cache
export EBM_RECIPE_DIR EBM_DATA_DIR EBM_CACHE_DIR
failed=0
# some drivers come without the loader
if ! { PATH=$PATH:/sbin:/usr/sbin ldconfig -p; } 2>/dev/null | grep -q 'libvulkan\.so\.1'; then
    LD_LIBRARY_PATH=$here/lib/loader${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi

began=$(date +%s)
section() {
    printf '\n== %s (after %d s)\n' "$1" $(($(date +%s) - began))
}
# run NAME COMMAND...: what it says goes to ./log; its name is printed before, as it may take long
run() {
    printf '%s: ' "$1"
    shift
    started=$(date +%s)
    "$@" >log 2>&1
    status=$?
    took=$(($(date +%s) - started))
    return $status
}
# count PATTERN: of lines in ./log
count() {
    grep -c "$1" log
}
# tested NAME COMMAND...: a test's claims, and those that do not hold
tested() {
    run "$@"
    holds=$(grep '^ok' log | grep -vc '# SKIP')
    printf '%d claims hold, %d do not, %d left out, exit status %d, %d s\n' "$holds" "$(count '^not ok')" \
        "$(count '# SKIP')" "$status" "$took"
    grep -v -e '^ok [^#]*$' -e '^1\.\.[1-9]' log
    [ "$status" -eq 0 ] && [ "$holds" -gt 0 ] || failed=1
}
# tried NAME COMMAND...: a tool's success, and what it says
tried() {
    if run "$@"; then
        echo "done, $took s"
    else
        echo "FAILED, exit status $status"
        failed=1
    fi
    cat log
}
# each NAMES COMMAND...: with each of these (their spaces are _), or with the user's
each() {
    names=$1
    shift
    if [ -n "$name" ]; then
        "$@" "$name" || failed=1
        return
    fi
    for work in $names; do
        "$@" "$(echo "$work" | tr _ ' ')" || failed=1
    done
}
# timed REPEATS NAME [bf16]
timed() {
    bench/work 2 "$@"
}
timed_bf16() {
    bench/work 2 "$@" bf16
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
    echo 'left out: beside the CPU, contractions, large operands: these tests know vulkan:0 alone'
fi
section 'a training and its samples'
rm -rf trial
tried 'training' bin/ebm-train --recipe digits --out trial --steps 10 --seed 1 --set batch=4 \
    --set grid.every=0 -b "$device"
tried 'sampling' bin/ebm-sample trial/model.safetensors -n 4 --seed 1 --set sample.steps=20 --set sample.batch=4 \
    -b "$device" --out trial/samples.png
EBM_BENCH_BACKEND=$device
export EBM_BENCH_BACKEND
section 'times'
each "$works" timed "$repeats"
section 'times with precision bf16'
each "$bf16_works" timed_bf16 "$few"
if [ -z "$name" ]; then
    section 'times of convolutions'
    each "$convolutions" timed "$few"
    section 'and by their definition alone'
    EBM_EXACT=1
    export EBM_EXACT
    each "$convolutions" timed "$few"
    unset EBM_EXACT
fi
if torch=$(python3 -c 'import torch, numpy
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")' 2>log); then
    if [ -n "$torch" ]; then
        section "$device beside PyTorch on $torch"
    else
        section "$device beside PyTorch on the processor"
        echo "not on the same device: this PyTorch knows no GPU here"
    fi
    each "$works" python3 bench/torch_work.py bench/work 2 "$few"
else
    section 'beside PyTorch'
    echo "left out, nothing was compared: $(tail -n 1 log)"
fi
if [ "$failed" -eq 0 ]; then
    section 'all that was done is right'
else
    section 'SOMETHING FAILED, see above'
fi
exit $failed
