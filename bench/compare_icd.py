"""compare_icd.py - what ebm-train and PyTorch learn in the same time.

SPDX-License-Identifier: ISC

    PATH=apps:$PATH python3 compare_icd.py FOLDER [--out NEW] [--recipe icd-digits]
                [--data SOURCE] [--seeds 1 2 3] [--set KEY=VALUE ...] [--updates]
                [--samples 1000]

FOLDER has the digits (IDX, gzip), or pictures in CIFAR-10's binary form; SOURCE,
where it is given, names the same pictures to ebm-train.  For each
seed ebm-train and torch_icd.py learn by the same recipe from the same first
weights, side by side, with one thread each; PyTorch's training is looked at when
ebm-train ends (the same time), and again after as many updates as ebm-train made.
Where the rate falls, it falls with the time in the former case, and a second
training, by its count of updates, is the latter.

Samples of each model by its own sampler are compared with the test
pictures by a kernel inception distance (Binkowski et al. 2018: the unbiased
estimate of MMD^2 with the kernel (xy/d + 1)^3) on 64 features of a small
classifier, which is trained here first, each feature divided by its deviation.  Standard
errors are those of the samples, to first order; parts of the training pictures
in the place of samples give the floor.
"""
import argparse
import glob
import gzip
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from torch_icd import Energy, Settings, Training, read_recipe, sample
from torch_net import read_safetensors

# ---- pictures ----

def read_idx(path):
    with gzip.open(path) as f:
        raw = np.frombuffer(f.read(), np.uint8)
    sizes = raw[4:4 + 4 * raw[3]].view(">u4").astype(int)
    return torch.from_numpy(raw[4 + 4 * raw[3]:].reshape(sizes).copy())


def read_pictures(folder, kind):
    """(uint8 [n,c,h,w], labels) of a part, train or test."""
    idx = {"train": "train", "test": "t10k"}[kind]
    path = os.path.join(folder, idx + "-images-idx3-ubyte.gz")
    if os.path.exists(path):
        return read_idx(path)[:, None], read_idx(path.replace("images-idx3", "labels-idx1")).long()
    pattern = {"train": "data_batch_*.bin", "test": "test_batch.bin"}[kind]
    raw = np.concatenate([np.fromfile(p, np.uint8) for p in sorted(glob.glob(os.path.join(folder, pattern)))])
    raw = torch.from_numpy(raw.reshape(-1, 3073))
    return raw[:, 1:].reshape(-1, 3, 32, 32).contiguous(), raw[:, 0].long()


# ---- the distance ----

class Classifier(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        layers = []
        for c, before in ((16, channels), (32, 16), (64, 32)):
            layers += [nn.Conv2d(before, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (size // 8) ** 2, 64), nn.ReLU())
        self.last = nn.Linear(64, classes)

    def forward(self, x):
        return self.last(F.dropout(self.features(x), .3, self.training))


def train_classifier(train, test, epochs=8):
    torch.manual_seed(0)
    (x, y), (xt, yt) = train, test
    net = Classifier(x.shape[1], x.shape[2], int(y.max()) + 1)
    count = epochs * (len(x) // 100)
    adam = torch.optim.Adam(net.parameters(), 2e-3)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, count)
    for i in range(count):
        if i % (len(x) // 100) == 0:
            order = torch.randperm(len(x))
        rows = order[100 * (i % (len(x) // 100)):][:100]
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        loss = F.cross_entropy(net(torch.roll(x[rows], (dy, dx), (2, 3)) / 255.), y[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        fall.step()
    net.eval()
    with torch.no_grad():
        right = (net(xt / 255.).argmax(1) == yt).float().mean().item()
    print("classifier: %.1f %% of the %d test pictures right" % (100 * right, len(xt)), flush=True)
    return net


def features_of(net, x):
    with torch.no_grad():
        return torch.cat([net.features(part / 255.) for part in x.split(500)]).double()


def distance(x, y):
    """Unbiased MMD^2 and its standard error to first order."""
    (m, d), n = x.shape, len(y)
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    by_x, by_y = ((k.sum(1) - k.diagonal()) / (len(k) - 1) for k in (xx, yy))
    value = by_x.mean() + by_y.mean() - 2 * xy.mean()
    of_x, of_y = 2 * (by_x - xy.mean(1)), 2 * (by_y - xy.mean(0))
    return value.item(), (of_x.var() / m + of_y.var() / n).sqrt().item()


class Judge:
    def __init__(self, folder, samples=1000):
        train, test = read_pictures(folder, "train"), read_pictures(folder, "test")
        self.train, self.net = train[0], train_classifier(train, test)
        fitted = features_of(self.net, train[0])
        self.deviation = fitted.std(0).clamp(min=1e-6)
        self.test = features_of(self.net, test[0]) / self.deviation
        parts = (fitted / self.deviation).split(samples)
        floor = [distance(part, self.test)[0] for part in parts if len(part) == samples]
        print("floor: %.4f, deviation %.4f of %d parts of the training pictures"
              % (np.mean(floor), np.std(floor, ddof=1), len(floor)), flush=True)

    def __call__(self, what, images):
        value, error = distance(features_of(self.net, images) / self.deviation, self.test)
        print("  %-34s KID %.4f +- %.4f" % (what, value, error), flush=True)
        return value


# ---- both trainings ----

def progress_of(run, steps):
    """The part of ebm-train's run that is over."""
    try:
        with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as f:
            done = [line for line in f if line.endswith("}\n")]
        return json.loads(done[-1]).get("step", 0) / steps if done else 0
    except (OSError, IndexError):
        return 0


def torch_training(run, seed, pictures):
    s = Settings(read_recipe(os.path.join(run, "recipe")))
    torch.manual_seed(seed)
    net = Energy(s.whole("icd.net"), s.whole("icd.width"), pictures.shape[1])
    first = os.path.join(run, "first.safetensors")
    net.start_from(read_safetensors(first))
    return s, Training(s, pictures, net)


def start_ours(args, seed, run):
    """ebm-train, begun; its first weights are kept in first.safetensors."""
    settings = [part for s in args.set for part in ("--set", s)]
    data = ["--data", args.data[0]] if args.data else []
    process = subprocess.Popen(["ebm-train", "--recipe", args.recipe, "--seed", str(seed), "--out", run, "-t", "1",
                                "-q", *data, *settings])
    first = os.path.join(run, "checkpoint-000000000.safetensors")
    while not os.path.exists(first):
        if process.poll() is not None:
            raise SystemExit("ebm-train ended with %d before its first checkpoint" % process.returncode)
        time.sleep(0.02)
    os.link(first, os.path.join(run, "first.safetensors"))
    return process


def train_both(args, seed, run, pictures):
    """(settings, [(what, weights)], as lines of a report are printed)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours, began = start_ours(args, seed, run), time.monotonic()
    s, training = torch_training(run, seed, pictures)
    steps, cpu, snaps, gap = s.whole("steps"), time.process_time(), [], 0
    while ours.poll() is None:
        gap = training.update(progress_of(run, steps))
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    if ours.returncode:
        raise SystemExit("ebm-train ended with %d" % ours.returncode)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print("seed %d, %.0f s: libebm %d updates in %.0f s of processor, PyTorch %d in %.0f s; PyTorch's energies "
          "%.3f %.3f" % (seed, wall, steps, own, training.updates, cpu, *gap), flush=True)
    snaps.append(("PyTorch, %d updates, the same time" % training.updates, training.averaged()))
    if args.updates:
        if s.recipe["optimiser.decay"] != "constant":
            s, training = torch_training(run, seed, pictures)
        while training.updates < steps:
            training.update(training.updates / steps)
        snaps.append(("PyTorch, %d updates" % training.updates, training.averaged()))
    return s, training.net, snaps


def ours_samples(run, seed, samples=1000):
    out = os.path.join(run, "samples.npy")
    subprocess.run(["ebm-sample", os.path.join(run, "model.safetensors"), "-n", str(samples), "--seed", str(seed),
                    "-q", "-t", "1", "--out", out], check=True, stdout=subprocess.DEVNULL)
    a = torch.from_numpy(np.load(out))
    return (a if a.dtype == torch.uint8 else (255 * a).to(torch.uint8)).permute(0, 3, 1, 2)


def main():
    a = argparse.ArgumentParser(description="What ebm-train and PyTorch learn in the same time.")
    a.add_argument("folder")
    a.add_argument("--out", default="compare-icd", help="folder of the runs and samples, new")
    a.add_argument("--recipe", default="icd-digits")
    a.add_argument("--data", nargs=1, help="data.source for ebm-train, the same pictures")
    a.add_argument("--seeds", nargs="+", type=int, default=[1])
    a.add_argument("--set", nargs="*", default=[])
    a.add_argument("--updates", action="store_true", help="PyTorch after as many updates, too")
    a.add_argument("--samples", type=int, default=1000, help="samples of each model")
    args = a.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    judge, shape = Judge(args.folder, args.samples), None
    os.makedirs(args.out)
    for seed in args.seeds:
        run = os.path.join(args.out, "seed-%d" % seed)
        shape = judge.train.shape[1:]
        s, net, snaps = train_both(args, seed, run, judge.train)
        judge("libebm, %d updates" % s.whole("steps"), ours_samples(run, seed, args.samples))
        for i, (what, weights) in enumerate(snaps):
            net.load_state_dict(weights)
            images = sample(net, s, args.samples, shape)
            np.save(os.path.join(run, "torch-%d.npy" % i), images.permute(0, 2, 3, 1).numpy())
            judge(what, images)


if __name__ == "__main__":
    sys.exit(main())
