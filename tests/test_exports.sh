#!/bin/sh
# test_exports.sh - the installed header stands alone, and the library exports
# what it declares and nothing else.
#
# SPDX-License-Identifier: ISC
. "${srcdir:-.}/tests/tap.sh"
header=$srcdir/lib/ebm.h
library=$builddir/lib/.libs/libebm.so

# silent TEXT COMMAND...: it succeeds and says nothing
silent() {
    text=$1
    shift
    "$@" >out 2>&1 && [ ! -s out ]
    good=$?
    sed 's/^/# /' out
    ok $good "$text"
}

echo '#include "ebm.h"' >alone.c
cp alone.c alone.cc
for std in c99 c11; do
    silent "ebm.h alone, $std" ${CC:-cc} -std=$std -pedantic -Wall -Wextra -Werror \
        -I"$srcdir/lib" -fsyntax-only alone.c
done
if command -v "${CXX:-c++}" >/dev/null 2>&1; then
    silent 'ebm.h alone, C++11' ${CXX:-c++} -std=c++11 -pedantic -Wall -Wextra -Werror \
        -I"$srcdir/lib" -fsyntax-only alone.cc
else
    skip 'no C++ compiler'
fi

# Functions are declared as "EBM_API type name(".
tr '\n' ' ' <"$header" | tr ';' '\n' |
    sed -n 's/.*EBM_API[^(]*[ *]\(ebm_[a-z0-9_]*\)(.*/\1/p' | sort -u >declared
if [ -f "$library" ] && command -v nm >/dev/null 2>&1; then
    nm -D --defined-only "$library" | sed 's/.* //; s/@.*//' | sort -u >exported
    silent 'every function of ebm.h is exported' comm -23 declared exported
    silent 'nothing else is exported' comm -13 declared exported
else
    skip 'no shared library to look at'
    skip 'no shared library to look at'
fi
finish
