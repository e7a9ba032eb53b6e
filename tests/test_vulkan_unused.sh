#!/bin/sh
# test_vulkan_unused.sh - a run on the CPU opens nothing of Vulkan, nor of a GPU; and
# without a GPU's device files a run that chooses by itself looks for them and opens
# nothing either.
#
# SPDX-License-Identifier: ISC
. "${srcdir:-.}/tests/tap.sh"

if ! strace -f -e trace=file -o trace true 2>err; then
    echo '1..0 # SKIP no strace here, or it is not allowed'
    exit 0
fi
tiny_recipe 2
# traced COMMAND...: the files that it asks for are in ./trace
traced() {
    strace -f -e trace=file -o trace "$@"
}
# of GPUs, without what bears the name of these tests' own folders
asked() {
    sed -n 's/^[^"]*"\([^"]*\)".*/\1/p' trace | grep -v "^$builddir\|^$srcdir" \
        | grep -i 'vulkan\|^/dev/dri\|nvidia\|icd\.d'
}

exits 0 'a run on the CPU' traced ebm-train --recipe ./tiny.recipe --out run --seed 7 -b cpu
grep -q 'tiny\.recipe' trace
ok $? 'is traced'
[ -z "$(asked)" ]
ok $? "and asks for nothing of a GPU $(asked | head -n 3 | tr '\n' ' ')"
if ls /dev/dri/renderD* /dev/nvidia[0-9]* >again 2>/dev/null; then
    skip 'there may be a GPU here'
    finish
fi
exits 0 'a run that chooses' traced ebm-train --recipe ./tiny.recipe --out chosen --seed 7
[ -z "$(asked | grep -v '^/dev/')" ]
ok $? "opens no driver without a GPU $(asked | head -n 3 | tr '\n' ' ')"
finish
