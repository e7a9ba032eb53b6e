# tap.sh - tests of the tools that speak TAP: sourced by them.
#
# SPDX-License-Identifier: ISC
#
# Called in the build folder, with srcdir in the environment.  A fresh folder is
# $here, left at the end; the built tools are found by their names.
srcdir=$(cd "${srcdir:-.}" && pwd)
builddir=$(pwd)
PATH=$builddir/apps:$PATH
EBM_DATA_DIR=$srcdir/data EBM_RECIPE_DIR=$srcdir/recipes
# idle threads sleep: other tests run beside this one
OMP_WAIT_POLICY=passive
export PATH EBM_DATA_DIR EBM_RECIPE_DIR OMP_WAIT_POLICY
count=0 failures=0

here=$(mktemp -d "${TMPDIR:-/tmp}/ebm-test-XXXXXX") || exit 99
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 99

# ok STATUS TEXT: a claim that holds if STATUS is 0
ok() {
    count=$((count + 1))
    if [ "$1" -eq 0 ]; then
        printf 'ok %d - %s\n' "$count" "$2"
    else
        failures=$((failures + 1))
        printf 'not ok %d - %s\n' "$count" "$2"
    fi
}

skip() {
    count=$((count + 1))
    printf 'ok %d # SKIP %s\n' "$count" "$1"
}

# exits STATUS TEXT COMMAND...: the command ends with this status; its output is
# in ./out and ./err
exits() {
    expected=$1 text=$2
    shift 2
    "$@" >out 2>err
    got=$?
    if [ "$got" -ne "$expected" ]; then
        sed 's/^/# /' err
        printf '# %s: status %d, not %d\n' "$*" "$got" "$expected"
    fi
    [ "$got" -eq "$expected" ]
    ok $? "$text"
}

# says PATTERN: the last command said so on stderr
says() {
    grep -q -e "$1" err
    said=$?
    [ "$said" -eq 0 ] || sed 's/^/# /' err
    ok "$said" "it says: $1"
}

# tiny_recipe STEPS [LINE]...: ./tiny.recipe, with these lines as well: a training of a moment
tiny_recipe() {
    steps=$1
    shift
    cat >tiny.recipe <<END
method = cd
steps = $steps
batch = 4
data.source = "shapes:16,shape=circle"
data.height = 8
data.width = 8
data.channels = 1
energy.net = "conv:4,s2 silu flatten linear:1"
buffer.size = 8
langevin.steps = 2
sample.steps = 2
sample.batch = 4
grid.every = 0
END
    [ $# -eq 0 ] || printf '%s\n' "$@" >>tiny.recipe
}

finish() {
    printf '1..%d\n' "$count"
    [ "$failures" -eq 0 ]
    exit
}
