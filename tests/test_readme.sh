#!/bin/sh
# test_readme.sh - the commands and the program of the README do what it says.
#
# SPDX-License-Identifier: ISC
. "${srcdir:-.}/tests/tap.sh"

# The lines of the fenced blocks of one language.
block() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/!p;}" "$srcdir/README.md"; }

# Some pictures of one's own: what a hurried model draws of circles.
cat > circles.recipe <<'END'
method = cd
steps = 2
batch = 8
data.source = "shapes:64,shape=circle"
energy.net = "conv:4,s4 silu flatten linear:1"
buffer.size = 32
langevin.steps = 1
sample.steps = 2
sample.batch = 8
END
exits 0 'pictures to begin with' ebm-train --recipe ./circles.recipe --out circles --seed 1
exits 0 'as a folder' ebm-sample circles/model.safetensors -n 80 --out pictures/

block sh > commands
while IFS= read -r line; do
    exits 0 "$line" sh -c "$line"
done < commands
[ -s samples.png ] && [ -s scores.csv ]
ok $? 'and leave what they name'

block c > energy.c
shared=$(ls "$builddir"/lib/.libs/libebm.so 2>/dev/null)
if [ -n "$shared" ] && command -v "${CC:-cc}" >/dev/null; then
    exits 0 'the program of the README compiles' "${CC:-cc}" -std=c99 -Wall -Wextra -Werror \
        -I"$srcdir/lib" energy.c -o energy "$shared" -Wl,-rpath,"$builddir/lib/.libs"
    exits 0 'and runs' ./energy run/model.safetensors samples.png
    [ "$(grep -c 'energy of' out)" -eq 2 ]
    ok $? 'and prints two energies'
    exits 1 'or says what is wrong' ./energy nosuch.safetensors samples.png
    says 'nosuch.safetensors'
else
    skip 'no compiler or no shared library here'
fi

finish
