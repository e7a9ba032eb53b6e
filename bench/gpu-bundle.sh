#!/bin/sh
# gpu-bundle.sh - a folder that tests and times the Vulkan backend on another machine.
#
# SPDX-License-Identifier: ISC
#
#     gpu-bundle.sh SOURCE BUILD BUNDLE
#
# BUILD is configured and built here, with libebm inside each program; BUNDLE gets the
# programs, the libraries they need but those of libc, and everything else they read,
# and BUNDLE.tar.gz all of it.  Programs find the libraries by a path relative to
# themselves; libvulkan is used where the machine has none.  The other machine needs the same kind of processor, a libc no older than
# the one here, and a driver for its GPU.
set -e
source=$(cd "$1" && pwd)
mkdir -p "$2" "$3"
build=$(cd "$2" && pwd)
bundle=$(cd "$3" && pwd)

cd "$build"
[ -f Makefile ] || "$source/configure" -q --disable-shared --enable-static --with-pic --enable-vulkan
tools='apps/ebm-devices apps/ebm-eval apps/ebm-sample apps/ebm-train'
tests='tests/test_ops tests/test_fuse tests/test_vulkan tests/test_vulkan_contract
       tests/test_vulkan_large'
# the linker takes this where no other path is given
LD_RUN_PATH='$ORIGIN/../lib' make -s -j"${JOBS:-2}" $tools $tests bench/work

rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib" "$bundle/tests" "$bundle/bench"
cp $tools "$bundle/bin"
cp $tests "$bundle/tests"
cp bench/work "$source"/bench/torch_*.py "$bundle/bench"
cp -R "$source/recipes" "$source/data" "$bundle"
cp "$source/LICENSE" "$bundle"
cp "$source/bench/gpu-run.sh" "$bundle/run"
chmod +x "$bundle/run"

for program in "$bundle"/bin/* "$bundle"/tests/* "$bundle/bench/work"; do
    ldd "$program" | sed -n 's/.* => \(\/[^ ]*\).*/\1/p'
done | sort -u | while read -r library; do
    case ${library##*/} in
    libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | ld-linux*) ;;
    *) cp -L "$library" "$bundle/lib" ;;
    esac
done
loader=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | sed -n 's/.*libvulkan\.so\.1 .*=> //p' | head -n 1)
if [ -n "$loader" ]; then
    mkdir "$bundle/lib/loader"
    cp -L "$loader" "$bundle/lib/loader"
fi
tar -C "$bundle/.." -czf "$bundle.tar.gz" "${bundle##*/}"
echo "$bundle.tar.gz"
