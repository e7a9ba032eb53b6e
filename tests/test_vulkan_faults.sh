#!/bin/sh
# test_vulkan_faults.sh - what is wrong with a driver or a GPU ends in a message and
# a documented status, and costs at most the work since the last checkpoint.
#
# SPDX-License-Identifier: ISC
#
# Vulkan's first device; a processor that plays a GPU will do.
. "${srcdir:-.}/tests/tap.sh"

faults=$builddir/tests/.libs/vulkan_faults.so
real=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | sed -n 's/.*libvulkan\.so\.1 .*=> //p' | head -n 1)
if [ ! -f "$faults" ] || [ -z "$real" ]; then
    echo '1..0 # SKIP no shared libraries here, or no libvulkan.so.1'
    exit 0
fi
[ ! -d "$builddir/apps/.libs" ] || PATH=$builddir/apps/.libs:$PATH
libraries=$builddir/lib/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
LD_LIBRARY_PATH=$libraries
EBM_CACHE_DIR=$here/cache
export LD_LIBRARY_PATH EBM_CACHE_DIR
if ! ebm-sample /dev/null -b vulkan:0 --out x.png 2>err && grep -q 'vulkan:' err; then
    echo "1..0 # SKIP $(sed 's/^ebm-sample: //' err)"
    exit 0
fi

tiny_recipe 8 'save.every = 2' 'log.every = 1'
train='ebm-train --recipe ./tiny.recipe --out run --seed 7 --quiet'

# with LIBRARY COMMAND...: LIBRARY takes the place of libvulkan
with() {
    rm -rf other && mkdir other
    cp "$1" other/libvulkan.so.1 && cp "$1" other/libvulkan.so
    LD_LIBRARY_PATH=$here/other:$libraries
    shift
    "$@"
    with_status=$?
    LD_LIBRARY_PATH=$libraries
    return $with_status
}

# --- what is missing ---
echo 'no library' >garbage
with garbage exits 6 'without a loader, asked for by name' $train -b vulkan
says 'there is no libvulkan'
with garbage exits 0 'and by itself the CPU is taken' \
    ebm-train --recipe ./tiny.recipe --out run --seed 7 --steps 2
says '(vulkan: .*); seed 7'
rm -rf run
printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s/garbage","api_version":"1.1.0"}}\n' "$here" >bogus.json
VK_ICD_FILENAMES=$here/bogus.json VK_DRIVER_FILES=$here/bogus.json
export VK_ICD_FILENAMES VK_DRIVER_FILES
exits 6 'a driver that is none' $train -b vulkan
says 'vulkan:'
exits 0 'and then devices are listed' ebm-devices
unset VK_ICD_FILENAMES VK_DRIVER_FILES

# --- what fails ---
EBM_REAL_VULKAN=$real
export EBM_REAL_VULKAN
with "$faults" exits 0 'a run that nothing disturbs' $train -b vulkan:0
mv run whole
ls cache/vulkan-*.bin >again 2>/dev/null
ok $? 'leaves its pipelines in the cache'

# --- a set of few descriptors, of shaders that may have more ---
EBM_VULKAN_SET=9
export EBM_VULKAN_SET
with "$faults" exits 0 'where a set has few descriptors' $train -b vulkan:0 --out set
cmp -s set/model.safetensors whole/model.safetensors
ok $? 'the model is the same'
unset EBM_VULKAN_SET
rm -rf set

# --- a GPU that does not open, and another ---
EBM_VULKAN_GPUS=2 EBM_VULKAN_FAULT=CreateDevice:1:-3once
export EBM_VULKAN_GPUS EBM_VULKAN_FAULT
with "$faults" exits 0 'where the best GPU does not open, the next serves' \
    ebm-train --recipe ./tiny.recipe --out second --seed 7 --steps 1 -b vulkan
says '(another: vulkan: opening the device: error -3)'
EBM_VULKAN_FAULT=CreateDevice:1:-3
with "$faults" exits 6 'where none does' ebm-train --recipe ./tiny.recipe --out third --seed 7 -b vulkan
says 'opening the device'
unset EBM_VULKAN_GPUS EBM_VULKAN_FAULT
rm -rf second

# --- how work is submitted ---
# counted NAME: of the last run with EBM_VULKAN_COUNTS
counted() {
    sed -n "s/^$1 //p" counts
}
EBM_VULKAN_COUNTS=$here/counts
export EBM_VULKAN_COUNTS
with "$faults" exits 0 'again, counted' $train -b vulkan:0 --out counted
few=$(counted submissions)
[ "$(counted 'in flight')" -le 2 ]
ok $? 'at most two submissions are in flight'
EBM_VULKAN_LIMITS=minimum
export EBM_VULKAN_LIMITS
with "$faults" exits 0 'on a slow device' $train -b vulkan:0 --out slow
[ "$(counted submissions)" -gt $((2 * few)) ] && [ "$(counted 'in flight')" -le 2 ]
ok $? "runs are cut into $(counted submissions) submissions, not $few, two in flight"
cmp -s slow/model.safetensors whole/model.safetensors
ok $? 'and give the same model'
unset EBM_VULKAN_COUNTS EBM_VULKAN_LIMITS
rm -rf slow counted

# --- memory ---
budget() {
    EBM_VULKAN_BUDGET=$1
    export EBM_VULKAN_BUDGET
    shift
    with "$faults" exits "$@"
    unset EBM_VULKAN_BUDGET
}
budget 64000000 0 'a run that the memory suffices for' $train -b vulkan:0 --dry-run
grep -q '^# memory .* programs [0-9.]*' out
ok $? 'tells what the programs will take'
budget 1000 5 'one that it does not' $train -b vulkan:0
says 'the run needs at least'
[ ! -e run/metrics.jsonl ]
ok $? 'and nothing was begun'

# what would save time - transforms of all images at once - is done without, if it is refused
sed -e '/^steps/s/8/1/' -e '/^batch/s/4/64/' -e '/^buffer/s/8/64/' -e '/^data/s/= 8$/= 16/' \
    -e '/^energy/s/".*"/"conv:64 silu conv:64 silu mean linear:1"/' tiny.recipe >fast.recipe
EBM_VULKAN_COUNTS=$here/counts
export EBM_VULKAN_COUNTS
fast_run() {
    name=$1
    shift
    with "$faults" exits 0 "$name" ebm-train --recipe ./fast.recipe --out "$@" --seed 7 -b vulkan:0
}
fast_run 'a run that has more memory than it must have' fast
most=$(counted largest)
EBM_VULKAN_LARGEST=$((most - 1))
export EBM_VULKAN_LARGEST
fast_run 'and is refused some of it' slow
says 'MiB at once were refused'
[ "$(counted largest)" -lt "$most" ]
ok $? "ends with $(counted largest) bytes at once, not $most"
EBM_VULKAN_LARGEST=1000000
with "$faults" exits 5 'but not with less than it must have' ebm-train --recipe ./fast.recipe --out none \
    --seed 7 -b vulkan:0
says 'the device has no memory left'
unset EBM_VULKAN_COUNTS EBM_VULKAN_LARGEST
rm -rf fast slow

# fails FUNCTION N RESULT STATUS: training ends with this status; if it left a
# checkpoint, the run goes on from there to the model of the whole one
fails() {
    rm -rf run
    EBM_VULKAN_FAULT=$1:$2:$3
    export EBM_VULKAN_FAULT
    with "$faults" exits "$4" "$1 answers $3 from call $2 on" $train -b vulkan:0
    unset EBM_VULKAN_FAULT
    says 'vulkan:'
    if ls run/checkpoint-* >again 2>/dev/null; then
        exits 0 'resumed' ebm-train --resume --out run -b vulkan:0 --quiet
        cmp -s run/model.safetensors whole/model.safetensors
        ok $? 'it ends with the same model'
    fi
}
host=-1 device=-2 lost=-4 initialization=-3
fails CreateDevice 1 $initialization 6
fails CreateBuffer 30 $host 5
fails AllocateMemory 2 $device 5
fails MapMemory 2 $host 5
fails CreateComputePipelines 9 $device 5
fails CreateDescriptorPool 2 $device 5
fails AllocateCommandBuffers 4 $host 5
fails QueueSubmit 1 $lost 6
fails QueueSubmit 20 $lost 6
fails QueueSubmit 21 drop 6
fails WaitForFences 19 $lost 6

# --- the cache ---
for file in cache/*; do
    printf 'nonsense' >"$file"
done
rm -rf run
exits 0 'a damaged cache is not used' $train -b vulkan:0
cmp -s run/model.safetensors whole/model.safetensors
ok $? 'and does no harm'
finish
