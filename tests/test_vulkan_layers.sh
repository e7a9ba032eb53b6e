#!/bin/sh
# test_vulkan_layers.sh - the validation layers have nothing to say about our calls,
# about what waits for what, nor about what slows drivers down.
#
# SPDX-License-Identifier: ISC
#
# Vulkan's first device, as a minimal and as a tiny one, draws, trains and computes
# with large operands.  That the layers listen is seen by fences that are not reset.
. "${srcdir:-.}/tests/tap.sh"

cat >vk_layer_settings.txt <<'END'
khronos_validation.report_flags = error,warn,perf
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.log_filename = stdout
khronos_validation.duplicate_message_limit = 3
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,VK_VALIDATION_FEATURE_ENABLE_BEST_PRACTICES_EXT
END
VK_LAYER_SETTINGS_PATH=$here/vk_layer_settings.txt EBM_CACHE_DIR=$here/cache
export VK_LAYER_SETTINGS_PATH EBM_CACHE_DIR

# layered TEST: with the layers; what it and they say is in ./log
layered() {
    VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation "$builddir/tests/$1" >log 2>&1
}
# complaints in ./log
complaints() {
    grep -o 'VUID-[-A-Za-z0-9]*\|UNASSIGNED-[-A-Za-z0-9]*\|SYNC-HAZARD-[-A-Z]*' log | sort -u
}

# clean NAME: nothing failed and nothing was said
clean() {
    grep -q '^ok 1' log && ! grep -q '^not ok' log
    ok $? "$1"
    [ -z "$(complaints)" ]
    ok $? "$1: no complaints $(complaints | tr '\n' ' ')"
}

layered test_vulkan_large
if grep '^1\.\.0 # SKIP' log; then
    exit 0
fi
faults=$builddir/tests/.libs/vulkan_faults.so
real=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | sed -n 's/.*libvulkan\.so\.1 .*=> //p' | head -n 1)
if [ ! -f "$faults" ] || [ -z "$real" ]; then
    echo '1..0 # SKIP no shared libraries here, or no libvulkan.so.1'
    exit 0
fi
clean 'large operands'

# what waits for what is seen within a submission, so these are not cut
layered test_vulkan
clean 'draws and a training'
layered test_vulkan_contract
clean 'contractions'
EBM_VULKAN_LIMITS=minimum
export EBM_VULKAN_LIMITS
layered test_vulkan
clean 'as a minimal device'

mkdir other && cp "$faults" other/libvulkan.so.1
( EBM_REAL_VULKAN=$real EBM_VULKAN_FAULT=ResetFences:1:0 LD_LIBRARY_PATH=$here/other
  export EBM_REAL_VULKAN EBM_VULKAN_FAULT LD_LIBRARY_PATH
  layered test_vulkan )
if [ -z "$(complaints)" ]; then
    skip 'there are no validation layers here'
    finish
fi
complaints | grep -q VUID
ok $? 'the layers listen: fences that are not reset are noticed'
finish
