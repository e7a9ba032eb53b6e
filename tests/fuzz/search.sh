#!/bin/sh
# search.sh - search for inputs that break a reader, with Clang's libFuzzer.
#
# SPDX-License-Identifier: ISC
#
#   search.sh [TARGET]...      all targets without arguments
#
# Called by make fuzz, which sets the variables below, in the build folder.  Each
# target has FUZZ_SECONDS; what it finds stays in fuzz/TARGET beside the programs,
# so that a later search goes on from there.  Exit status 1: a target was broken;
# the input that did it is in fuzz/.
set -eu
: "${srcdir:=.}" "${FUZZ_CC:=clang}" "${FUZZ_SECONDS:=60}" "${FUZZ_FLAGS:=}" "${FUZZ_LIBS:=}"
checks='-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined'

echo 'int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n);
int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n) { return !b && n; }' |
    if ! "$FUZZ_CC" $checks -x c - -o /dev/null 2>/dev/null; then
        echo "$FUZZ_CC has no -fsanitize=fuzzer,address,undefined: nothing was searched" >&2
        exit 77
    fi

if [ $# -eq 0 ]; then
    for target in "$srcdir"/tests/fuzz/fuzz_*.c; do
        name=${target##*/fuzz_}
        set -- "$@" "${name%.c}"
    done
fi

# What readers need of the library: no graphs and no kernels.
lib=$srcdir/lib
sources="$lib/context.c $lib/io.c $lib/number.c $lib/philox.c $lib/sha256.c
         $lib/safetensors_read.c $lib/recipe.c $lib/recipe_find.c $lib/text.c $lib/data/*.c
         $lib/import/pickle*.c $lib/import/foreign.c $lib/import/torch*.c"

mkdir -p fuzz
# The processor's own SHA-256, where configure found it.
if grep -q '^#define HAVE_SHA_X86' config.h; then
    "$FUZZ_CC" -std=c99 -O1 -msha -msse4.1 -DEBM_BUILD -I. -I"$lib" -c "$lib/sha256_x86.c" -o fuzz/sha256_x86.o
    sources="$sources fuzz/sha256_x86.o"
fi
status=0
for name in "$@"; do
    mkdir -p "fuzz/$name"
    echo "== $name"
    # unquoted on purpose: lists of words
    "$FUZZ_CC" -std=c99 -O1 -g $checks -DEBM_BUILD -DEBM_PKGDATADIR='"."' -D_GNU_SOURCE \
        -I. -I"$srcdir" $FUZZ_FLAGS "$srcdir/tests/fuzz/fuzz_$name.c" $sources $FUZZ_LIBS \
        -lpthread -o "fuzz/fuzz_$name"
    "fuzz/fuzz_$name" -max_total_time="$FUZZ_SECONDS" -max_len=8192 -rss_limit_mb=4096 \
        -timeout=25 -print_final_stats=1 -artifact_prefix="fuzz/$name-" \
        "fuzz/$name" "$srcdir/tests/fuzz/corpus/$name" || status=1
done
exit $status
