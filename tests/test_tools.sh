#!/bin/sh
# test_tools.sh - the tools' options, messages and exit statuses; a run that is
# stopped, killed and resumed.
#
# SPDX-License-Identifier: ISC
. "${srcdir:-.}/tests/tap.sh"

# A network so small that a step takes a moment.
cat > tiny.recipe <<'END'
method = cd
steps = 12
batch = 8
data.source = "shapes:64,shape=circle"
data.height = 8
data.width = 8
data.channels = 1
energy.net = "conv:4,s2 silu flatten linear:1"
buffer.size = 32
langevin.steps = 3
sample.steps = 4
sample.batch = 8
save.every = 4
log.every = 1
grid.every = 5
grid.images = 4
END

# --- usage ---

for tool in ebm-train ebm-sample ebm-eval ebm-model ebm-devices; do
    exits 0 "$tool --help" $tool --help
    grep -q -- '--json' out
    ok $? "$tool --help names its options"
    exits 0 "$tool --version" $tool --version
done
exits 2 'a misspelt option' ebm-train --recipe tiny.recipe --out run --resum2
says "did you mean '--resume'"
exits 2 'no recipe' ebm-train --out run
exits 2 'no folder' ebm-train --recipe tiny.recipe
exits 2 'an option without its argument' ebm-train --recipe
exits 2 'a number out of range' ebm-train --recipe tiny.recipe --out run --steps 0
exits 2 'a misspelt setting' ebm-train --recipe tiny.recipe --out run --set langevin.stpes=3
says "did you mean 'langevin.steps'"
exits 2 'a value out of range' ebm-train --recipe tiny.recipe --out run --set langevin.steps=-3
says 'a whole number from 1'
printf 'steps = 3\nlangevin.setps = 4\n' > wrong.recipe
exits 2 'a misspelt setting in a recipe' ebm-train --recipe ./wrong.recipe --out run
says 'wrong.recipe:2'
exits 2 'an unknown recipe' ebm-train --recipe nosuch --out run
says 'digits'
exits 2 'an unknown backend' ebm-train --recipe tiny.recipe --out run --backend abacus
exits 2 'no first word' ebm-eval
exits 2 'a wrong first word' ebm-model look
exits 2 'an unknown kind of output' ebm-sample model.safetensors --out x.gif
[ ! -e run ]
ok $? 'none of these made a folder'

# --- files ---

exits 4 'a recipe that is not there' ebm-train --recipe ./none.recipe --out run
exits 4 'data that are not there' ebm-train --recipe tiny.recipe --data ./none --out run-none
exits 4 'a model that is not there' ebm-model inspect none.safetensors
printf 'no model' > text
exits 3 'a file that is no model' ebm-model inspect text
exits 3 'a file that is no checkpoint' ebm-model import text --out imported.safetensors
says 'neither a .pth file of PyTorch'
exits 4 'a checkpoint that is not there' ebm-model import none.pth --out imported.safetensors
exits 2 'an import to nowhere' ebm-model import text
exits 2 'an import and a list' ebm-model import text --list --out imported.safetensors
[ ! -e imported.safetensors ]
ok $? 'and nothing is written'
exits 3 'sampling from it' ebm-sample text --out x.png
if [ "$(id -u)" -ne 0 ]; then
    mkdir closed && chmod a-w closed
    exits 4 'a folder that cannot be written' ebm-train --recipe tiny.recipe --out closed/run
    says 'Permission denied'
else
    exits 4 'a folder that cannot be made' ebm-train --recipe tiny.recipe --out text/run
fi
exits 5 'less memory than is needed' ebm-train --recipe tiny.recipe --out run --max-mem 1K

# --- a run ---

exits 0 'a dry run' ebm-train --recipe tiny.recipe --dry-run --seed 3
grep -q '^langevin.steps = 3 ' out && grep -q '^# memory' out
ok $? 'it prints settings and memory'
exits 0 'training' ebm-train --recipe tiny.recipe --out run --seed 3 --threads 1
grep -q '^seed     3$' out
ok $? 'it prints the seed'
for file in recipe metrics.jsonl samples.png curves.png model.safetensors samples/step-000000005.png; do
    [ -s "run/$file" ]
    ok $? "the run has $file"
done
exits 2 'the folder is not overwritten' ebm-train --recipe tiny.recipe --out run
says 'resume'
exits 0 'training as JSON on two threads' \
    ebm-train --recipe tiny.recipe --out again --seed 3 --threads 2 --json
cmp -s run/model.safetensors again/model.safetensors && cmp -s run/metrics.jsonl again/metrics.jsonl
ok $? 'the same seed gives the same model and log, on any number of threads'
exits 0 'another seed' ebm-train --recipe tiny.recipe --out other --seed 4 --quiet
! cmp -s run/model.safetensors other/model.safetensors
ok $? 'gives another model'
[ ! -s err ]
ok $? '--quiet says nothing'

ebm-train --recipe tiny.recipe --out torch --seed 3 --quiet --set optimiser.epsilon=0.01 &&
    ebm-train --recipe tiny.recipe --out keras --seed 3 --quiet --set optimiser.epsilon=0.01 \
        --set optimiser.epsilon_hat=true && ! cmp -s torch/model.safetensors keras/model.safetensors
ok $? 'Adam as Keras has it is another optimiser'
ebm-train --recipe drl-cifar10 --data shapes:10 --dry-run 2>err | grep -q '^optimiser.epsilon_hat = true'
ok $? 'and that of the plain method, as its authors had it'

# Points come as a picture of the plane; levels can be shown, pictures completed.
exits 0 'training on points' ebm-train --recipe cdrl-squares --out plane --seed 1 --threads 1 --quiet \
    --steps 2 --set batch=8 --set cdrl.width=4 --set proposal.width=8 --set proposal.groups=2
[ "$(od -A n -t u1 -j 18 -N 2 plane/samples.png | tr -s ' ')" = ' 4 16' ]
ok $? 'the picture has four panels side by side'
exits 0 'detection by the lowest of several levels' ebm-eval ood plane/model.safetensors --in squares:40 \
    --out-of noise --limit 40
exits 0 'energies of the lowest level' ebm-eval score plane/model.safetensors --data squares:3
cp out lowest
exits 0 'of the level that is said' ebm-eval score plane/model.safetensors --data squares:3 --set sample.level=0
cmp -s out lowest
ok $? 'the lowest is 0'
exits 0 'of another' ebm-eval score plane/model.safetensors --data squares:3 --set sample.level=3
! cmp -s out lowest
ok $? 'has other energies'
exits 0 'detection by another level' ebm-eval ood plane/model.safetensors --in squares:40 --out-of noise \
    --limit 40 --set sample.level=3 --precision fp32
exits 2 'a level that is not there' ebm-eval score plane/model.safetensors --data squares:3 --set sample.level=6
exits 2 'a setting that is none of a model' ebm-eval score plane/model.safetensors --data squares:3 --set batch=3
exits 0 'the way from noise' ebm-sample plane/model.safetensors -n 3 --seed 1 --stages --out way.png
[ -s way.png ]
ok $? 'is a picture'
exits 0 'completing' ebm-sample plane/model.safetensors -n 3 --seed 1 --image run/samples.png \
    --mask run/samples.png --out completed.npy
exits 2 'an image without a mask' ebm-sample plane/model.safetensors --image run/samples.png --out completed.npy
exits 2 'completing by a model that draws images as a whole' ebm-sample run/model.safetensors \
    --image run/samples.png --mask run/samples.png --out completed.npy

exits 0 'training with a profile' ebm-train --recipe tiny.recipe --out profiled --seed 3 --profile
grep -q '^langevin .* conv1.weight .* GFLOP/s' out && grep -q "this machine's best" out
ok $? 'it names programs, layers and rates'
cmp -s run/model.safetensors profiled/model.safetensors
ok $? 'and the model is the same'
exits 0 'sampling with a profile as JSON' \
    ebm-sample run/model.safetensors -n 2 --seed 5 --out profiled.png --profile --json
grep -q '"peak_flops"' out && grep -q '"layer": "conv1.weight"' out
ok $? 'it is in the object'

# --- stopped, killed, resumed ---

ebm-train --recipe tiny.recipe --out stopped --seed 3 --set steps=100000 >out 2>err &
job=$!
while [ ! -s stopped/metrics.jsonl ]; do sleep 0.05; done
kill -TERM $job
wait $job
[ $? -eq 75 ]
ok $? 'SIGTERM: status 75'
says 'resume'

# Both signals wait until it may run again: the second must not wait for a checkpoint.
ebm-train --recipe tiny.recipe --out hurried --seed 3 --set steps=100000 >out 2>err &
job=$!
while [ ! -s hurried/metrics.jsonl ]; do sleep 0.05; done
kill -STOP $job
kill -INT $job
kill -TERM $job
kill -CONT $job
wait $job
status=$?
[ $status -eq 130 ] || [ $status -eq 143 ]
ok $? 'a second signal stops at once'
exits 0 'and the run goes on from its last checkpoint' ebm-train --resume --out hurried --steps 1 --quiet

ebm-train --recipe tiny.recipe --out killed --seed 3 >out 2>err &
job=$!
while [ ! -e killed/checkpoint-000000004.safetensors ] && kill -0 $job 2>/dev/null; do :; done
kill -KILL $job 2>/dev/null
wait $job 2>/dev/null
exits 0 'after kill -9 the run goes on' ebm-train --resume --out killed
cmp -s run/model.safetensors killed/model.safetensors && cmp -s run/metrics.jsonl killed/metrics.jsonl
ok $? 'and ends with the same model and log'

newest=$(ls again/checkpoint-*.safetensors | tail -n 1)
cp -r again cut
rm cut/model.safetensors
printf 'x' | dd of="cut/${newest#again/}" bs=1 seek=3000 conv=notrunc 2>/dev/null
exits 0 'an altered checkpoint' ebm-train --resume --out cut
says 'altered'
cmp -s run/model.safetensors cut/model.safetensors
ok $? 'is not used, and the model is the same'

# --- sampling ---

m=run/model.safetensors
exits 0 'a grid' ebm-sample $m -n 6 --seed 5 --out a.png
exits 0 'the same again, on two threads' ebm-sample $m -n 6 --seed 5 --out b.png --threads 2
cmp -s a.png b.png
ok $? 'the same seed gives the same file'
for text in Model-SHA256 Seed Settings Software; do
    grep -q -a $text a.png
    ok $? "the picture says $text"
done
ebm-train --recipe tiny.recipe --set 'energy.net=conv:8,s2 silu conv:8 silu flatten linear:1' --out less \
    --seed 3 --precision bf16 --quiet && grep -q '^precision = bf16' less/recipe
ok $? 'training with precision bf16'
exits 2 'an unknown precision' ebm-train --recipe tiny.recipe --out no --precision fp8
ebm-sample less/model.safetensors -n 6 --seed 5 --out less.npy --threads 1 --quiet &&
    ebm-sample less/model.safetensors -n 6 --seed 5 --out same.npy --threads 2 --set precision=bf16 --quiet &&
    ebm-sample less/model.safetensors -n 6 --seed 5 --out full.npy --precision fp32 --quiet &&
    cmp -s less.npy same.npy && ! cmp -s less.npy full.npy
ok $? 'a model is drawn from as it was trained, or as asked for'
ebm-train --recipe tiny.recipe --out three --seed 3 --precision bf16x3 --quiet &&
    grep -q '^precision = bf16x3' three/recipe &&
    ebm-sample three/model.safetensors -n 6 --seed 5 --out three.npy --threads 1 --quiet &&
    ebm-sample three/model.safetensors -n 6 --seed 5 --out same.npy --threads 2 --quiet && cmp -s three.npy same.npy
ok $? 'training and samples with precision bf16x3'
exits 0 'an array' ebm-sample $m -n 12 --seed 5 --out all.npy --json
exits 0 'its second part' ebm-sample $m -n 7 --first 5 --seed 5 --out part.npy
tail -c $((7 * 8 * 8 * 4)) all.npy > all.tail
tail -c $((7 * 8 * 8 * 4)) part.npy > part.tail
cmp -s all.tail part.tail
ok $? 'an image is the same whatever others are drawn'
[ "$(wc -c < all.npy)" -eq $((192 + 12 * 8 * 8 * 4)) ]
ok $? 'the array has its size'
exits 0 'a folder' ebm-sample $m -n 3 --seed 5 --out pictures/
[ "$(ls pictures | wc -l)" -eq 3 ]
ok $? 'has three pictures'
exits 2 'a setting that is none of sampling' ebm-sample $m --set langevin.steps=3 --out a.png
exits 4 'a folder that is not there' ebm-sample $m -n 1 --out none/a.png
if [ -w /dev/full ]; then
    ebm-sample $m -n 1 --out a.png > /dev/full 2>err
    [ $? -eq 4 ]
    ok $? 'results that cannot be printed: status 4'
else
    skip 'no /dev/full here'
fi

# --- several models, chains on their way ---

exits 0 'two models' ebm-sample $m other/model.safetensors -n 4 --seed 5 --out two.png --weights 1,-0.5 --json
grep -q '"weight": -0.5' out && grep -q -a ' weight -0.5 label -1' two.png
ok $? 'weights are in the object and the picture'
exits 0 'a model with itself' ebm-sample $m $m -n 6 --seed 5 --out twice.npy
exits 0 'and alone' ebm-sample $m -n 6 --seed 5 --out once.npy
cmp -s once.npy twice.npy
ok $? 'draw the same'
exits 2 'a weight too few' ebm-sample $m $m --weights 1 --out x.png
exits 2 'a weight of 0' ebm-sample $m $m --weights 1,0 --out x.png
exits 2 'a label of a model without' ebm-sample $m --label 0 --out x.png
says 'told 0 classes'
exits 2 'a label that is none' ebm-sample $m --label red --out x.png
exits 2 'labels without models' ebm-sample $m --label any --label any --out x.png
exits 2 'a sharpness of 0' ebm-sample $m $m --any 0 --out x.png
exits 0 'either of two' ebm-sample $m other/model.safetensors --any 100 -n 2 --seed 5 --out x.png
exits 0 'frames' ebm-sample $m -n 6 --seed 5 --frames 3 --out frames.npy --json
[ "$(wc -c < frames.npy)" -eq $((192 + 6 * 3 * 8 * 8 * 4)) ]
ok $? 'three of each chain'
tail -c $((8 * 8 * 4)) once.npy > once.tail
tail -c $((8 * 8 * 4)) frames.npy > frames.tail
cmp -s once.tail frames.tail
ok $? 'the last is the sample'
exits 0 'frames as pictures' ebm-sample $m -n 2 --seed 5 --frames 3 --out strips/
[ "$(ls strips | wc -l)" -eq 2 ]
ok $? 'a strip for each chain'

# --- evaluation ---

exits 0 'scores' ebm-eval score $m --data pictures
[ "$(head -n 1 out)" = index,label,energy ] && [ "$(wc -l < out)" -eq 4 ]
ok $? 'a line for each picture'
exits 0 'scores with bf16' ebm-eval score $m --data pictures --precision bf16
exits 0 'scores to a file' ebm-eval score $m --data shapes:40 --out scores.csv --json
[ "$(wc -l < scores.csv)" -eq 41 ]
ok $? 'a line for each shape'
exits 0 'detection' ebm-eval ood $m --in shapes:40,shape=circle --out-of digits shapes:40,shape=star --limit 40
[ "$(grep -c -v '^#' out)" -eq 2 ]
ok $? 'a line for each source'
exits 0 'detection of images that are made' \
    ebm-eval ood $m --in shapes:40 --out-of interpolations noise constant --limit 40
[ "$(grep -c -v '^#' out)" -eq 3 ] && grep -q '^# mean' out
ok $? 'a line for each kind, and their mean'
exits 0 'detection as JSON' ebm-eval ood $m --in shapes:40 --out-of shapes:40 --json
grep -q '"auroc": 0.5,' out
ok $? 'a source against itself: 0.5'
exits 2 'nothing foreign' ebm-eval ood $m --in digits
exits 0 'attributes' ebm-eval attributes shapes:12,shape=ring,colour=red,x=0..0.4 --limit 12 \
    --want shape=ring --want 'colour=red|orange' --want x=0..0.42 --want shape=star
[ "$(grep -c ' 1.000$' out)" -eq 3 ] && grep -q '^shape=star .* 0.000$' out && grep -q '^all of them .* 0.000$' out
ok $? 'what is there is counted, what is not, not'
exits 0 'each picture' ebm-eval attributes shapes:5 --split test
[ "$(wc -l < out)" -eq 6 ]
ok $? 'a line each'
exits 0 'attributes as JSON' ebm-eval attributes shapes:4,shape=star --want shape=star --json
grep -q '"all": 1.0' out
ok $? 'with the part that has all'
exits 2 'an attribute that is none' ebm-eval attributes shapes:5 --want hue=3
exits 2 'a value that is none' ebm-eval attributes shapes:5 --want colour=pink
exits 2 'a range that is none' ebm-eval attributes shapes:5 --want x=0.5
exits 0 'inspection' ebm-model inspect $m
grep -q 'energy/conv1.weight' out
ok $? 'lists the tensors'
exits 0 'inspection as JSON' ebm-model inspect --json $m
exits 0 'devices' ebm-devices
grep -q '^chosen' out
ok $? 'one is chosen'

finish
