#!/bin/sh
# test_tool_faults.sh - the n-th allocation and the n-th call on files fail in
# each tool, for every n.
#
# SPDX-License-Identifier: ISC
#
# The tool must end with a documented status and a message, or, where it can do
# without, with the right result.  A training that was hit must, resumed, end
# with the model of one that was not.
#
# On the CPU: drivers of GPUs do not take it well when memory ends.
#
# After the first 20 only every 29th n is tried, and of the largest graph (icd) ever
# fewer, unless EBM_TEST_LONG is set.
. "${srcdir:-.}/tests/tap.sh"

preload=$builddir/tests/.libs/faults_preload.so
if [ ! -f "$preload" ]; then
    echo '1..0 # SKIP no shared libraries here'
    exit 0
fi
case $(nm "$builddir/lib/.libs/libebm.so" 2>/dev/null | grep -c __asan_init) in
0) ;;
*) echo '1..0 # SKIP the address sanitizer has an allocator of its own'; exit 0 ;;
esac
# the programs themselves, not libtool's scripts around them
[ ! -d "$builddir/apps/.libs" ] || PATH=$builddir/apps/.libs:$PATH
LD_LIBRARY_PATH=$builddir/lib/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
OMP_NUM_THREADS=1
export LD_LIBRARY_PATH OMP_NUM_THREADS

tiny_recipe 4 'save.every = 2' 'log.every = 1'

cat >icd.recipe <<'END'
method = icd
steps = 4
batch = 4
data.source = "shapes:16,shape=circle|ring"
data.height = 9
data.width = 9
data.channels = 1
data.low = 0
data.high = 1
icd.net = 28
icd.width = 4
icd.labels = 6
icd.past = 4
icd.past_after = 4
buffer.size = 8
buffer.keep = reservoir
langevin.steps = 2
sample.rounds = 2
sample.round_steps = 1
sample.steps = 2
sample.batch = 4
save.every = 2
log.every = 1
grid.every = 0
END
icd='ebm-train -b cpu --recipe ./icd.recipe --out run-icd --seed 7 --threads 1 --quiet'
exits 0 'improved contrastive divergence, undisturbed' $icd
mv run-icd whole-icd

train='ebm-train -b cpu --recipe ./tiny.recipe --out run --seed 7 --threads 1 --quiet'
exits 0 'a run that nothing disturbs' $train
cp -r run whole
cp whole/model.safetensors .
rm -rf half && cp -r whole half && rm -f half/model.safetensors half/checkpoint-000000004.safetensors
exits 0 'and what it leaves' ebm-sample model.safetensors -b cpu -n 4 --seed 3 --out whole.png
ebm-model inspect model.safetensors >whole.inspect 2>err
ebm-eval score model.safetensors -b cpu --data shapes:8 >whole.scores 2>err

# A folder left with the very bytes of one that resumed well would do so again.
: >good
left_before() { # FOLDER
    left="$what $(find "$1" -type f -exec cksum {} + 2>/dev/null | sort | cksum)"
    grep -qxF "$left" good
}
good_again() { echo "$left" >>good; }

# What is done, and whether it was done well.
begin_train() { rm -rf run; }
do_train() { $train; }
good_train() {
    [ "$status" -ne 0 ] || cmp -s run/model.safetensors whole/model.safetensors || return
    left_before run && return
    again=
    [ ! -f run/recipe ] || again=--resume
    $train $again >out2 2>err2 && cmp -s run/model.safetensors whole/model.safetensors && good_again
}

begin_icd() { rm -rf run-icd; }
do_icd() { $icd; }
good_icd() {
    [ "$status" -ne 0 ] || cmp -s run-icd/model.safetensors whole-icd/model.safetensors || return
    left_before run-icd && return
    again=
    [ ! -f run-icd/recipe ] || again=--resume
    $icd $again >out2 2>err2 && cmp -s run-icd/model.safetensors whole-icd/model.safetensors && good_again
}

begin_resume() { rm -rf run && cp -r half run; }
do_resume() { ebm-train -b cpu --out run --threads 1 --quiet --resume; }
good_resume() {
    [ "$status" -ne 0 ] || cmp -s run/model.safetensors whole/model.safetensors || return
    left_before run && return
    ebm-train -b cpu --out run --threads 1 --quiet --resume >out2 2>err2 &&
        cmp -s run/model.safetensors whole/model.safetensors && good_again
}

begin_sample() { rm -f picture.png; }
do_sample() { ebm-sample model.safetensors -b cpu -n 4 --seed 3 --out picture.png; }
good_sample() { [ "$status" -ne 0 ] || cmp -s picture.png whole.png; }

begin_inspect() { :; }
do_inspect() { ebm-model inspect model.safetensors; }
good_inspect() { [ "$status" -ne 0 ] || cmp -s out whole.inspect; }

begin_score() { :; }
do_score() { ebm-eval score model.safetensors -b cpu --data shapes:8; }
good_score() { [ "$status" -ne 0 ] || cmp -s out whole.scores; }

begin_devices() { :; }
do_devices() { ebm-devices; }
good_devices() { [ "$status" -ne 0 ] || [ -s out ]; }

# each WHAT KIND: with every n, until nothing fails any more
each() {
    what=$1 kind=$2 n=0 tried=0 statuses=0 silent=0 wrong=0
    while :; do
        begin_$what
        rm -f fired
        (
            LD_PRELOAD=$preload EBM_FAULT=$kind:$n EBM_FAULT_FIRED=$here/fired
            export LD_PRELOAD EBM_FAULT EBM_FAULT_FIRED
            do_$what
        ) >out 2>err
        status=$?
        [ -f fired ] || break
        tried=$((tried + 1))
        case $kind-$status in
        memory-5 | memory-0 | io-0 | io-3 | io-4) ;;
        *) statuses=$((statuses + 1))
           echo "# $what, $kind $n: status $status: $(head -n 1 err)" ;;
        esac
        if [ "$status" -ne 0 ] && [ ! -s err ]; then
            silent=$((silent + 1))
            echo "# $what, $kind $n: status $status without a word"
        fi
        if ! good_$what; then
            wrong=$((wrong + 1))
            echo "# $what, $kind $n: status $status, wrong result: $(head -n 1 err2 2>/dev/null)"
        fi
        if [ $n -lt 20 ] || [ -n "${EBM_TEST_LONG:-}" ]; then
            n=$((n + 1))
        else
            stride=29
            [ $what != icd ] || stride=$((1 + n / 4))
            n=$((n + stride))
        fi
    done
    [ $tried -gt 0 ] && [ $statuses -eq 0 ]
    ok $? "$what, $kind: a documented status each of $tried times"
    [ $silent -eq 0 ]
    ok $? "$what, $kind: with a message"
    [ $wrong -eq 0 ]
    ok $? "$what, $kind: the result is right, or was not given"
}

for scenario in devices inspect score sample resume train icd; do
    each $scenario memory
    each $scenario io
done
finish
