#!/bin/sh
# test_man.sh - every option of a tool's --help is in its man page, every setting
# of a recipe in ebm-recipe(5), and the examples of the pages work.
#
# SPDX-License-Identifier: ISC
. "${srcdir:-.}/tests/tap.sh"

man=$srcdir/man

# The words of a page, without roff's escapes of dashes.
plain() { sed 's/\\-/-/g' "$1"; }

for tool in ebm-train ebm-sample ebm-eval ebm-model ebm-devices; do
    plain "$man/$tool.1" > page
    missing=
    for option in $($tool --help | sed -n 's/^  .*\(--[a-z-]*\).*/\1/p' | sort -u); do
        grep -q -e "^\.BI\{0,1\} .*$option\($\|[^a-z-]\)" page || missing="$missing $option"
    done
    [ -z "$missing" ]
    ok $? "$tool(1) has every option of --help${missing:+, but$missing}"
    missing=
    for option in $(sed -n 's/^\.BI\{0,1\} .*\(--[a-z-]*\).*/\1/p' page | sort -u); do
        $tool --help | grep -q -e "$option\($\|[^a-z-]\)" || missing="$missing $option"
    done
    [ -z "$missing" ]
    ok $? "and none that is not there${missing:+, but$missing}"
done

plain "$man/ebm-recipe.5" > page
printf 'method = cd\n' > cd.recipe
printf 'method = icd\ndata.source = shapes:64\ndata.low = 0\ndata.high = 1\n' > icd.recipe
printf 'method = cdrl\ndata.source = shapes:64\ncdrl.width = 4\ncdrl.blocks = 1\nproposal.width = 4\nproposal.groups = 2\nsample.batch = 4\nbatch = 4\n' > cdrl.recipe
for method in cd icd cdrl; do
    ebm-train --recipe ./$method.recipe --seed 1 --dry-run > settings 2>err
    missing= n=0
    for key in $(sed -n 's/^\([a-z_.0-9]*\) = .*/\1/p' settings); do
        n=$((n + 1))
        grep -q "^\.BR\{0,1\} $key\( \|$\)" page || missing="$missing $key"
    done
    [ -z "$missing" ] && [ $n -gt 40 ]
    ok $? "ebm-recipe(5) has every setting of $n of $method${missing:+, but$missing}"
done

# ebm(7) has every method, and every recipe that comes along.
plain "$man/ebm.7" > page
ebm-train --recipe ./cd.recipe --set method=none --dry-run 2>err
methods=$(sed -n 's/.*must be one of //p' err | tr '|' ' ')
missing=${methods:- any}
for method in $methods; do
    grep -q "^\.B $method\$" page && missing=${missing#"$method"} && missing=${missing# }
done
for recipe in "$srcdir"/recipes/*.recipe; do
    name=$(basename "$recipe" .recipe)
    grep -q -w -e "$name" page || missing="$missing $name"
done
[ -z "$missing" ]
ok $? "ebm(7) has every method and recipe${missing:+, but $missing}"

plain "$man/ebm-recipe.5" > page
# The example recipe of ebm-recipe(5) is one.
sed -n '/^\.EX$/,/^\.EE$/{/^\.E/!p;}' page > circles.recipe
exits 0 'the recipe of ebm-recipe(5) is taken' ebm-train --recipe ./circles.recipe --dry-run

cp "$srcdir/tests/golden_import/icd-32.pth" checkpoint.pth

# Commands, page by page: later ones use what earlier ones made.
for tool in ebm-train ebm-sample ebm-eval ebm-model ebm-devices; do
    plain "$man/$tool.1" | sed -n '/^\.EX$/,/^\.EE$/{/^\.E/!p;}' > examples
    while IFS= read -r line; do
        sh -c "$line" >out 2>err </dev/null
        status=$?
        [ $status -eq 0 ] || sed 's/^/# /' err
        ok $status "$line"
    done < examples
done

# The program of libebm(3), against the library built here.
plain "$man/libebm.3" | sed -n '/^\.EX$/,/^\.EE$/{/^\.E/!p;}' | sed 's/\\e/\\/g' > program.c
shared=$builddir/lib/.libs/libebm.so
if [ -f "$shared" ] && command -v "${CC:-cc}" >/dev/null; then
    exits 0 'the program of libebm(3) compiles' "${CC:-cc}" -std=c99 -I"$srcdir/lib" program.c \
        -o program "$shared" -Wl,-rpath,"$builddir/lib/.libs"
    rm -f grid.png
    exits 0 'and runs' ./program
    [ -s grid.png ]
    ok $? 'and draws'
else
    skip 'no compiler or no shared library here'
fi

finish
