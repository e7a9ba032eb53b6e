"""torch_work.py - the works of bench/work by PyTorch, in turn with it.

SPDX-License-Identifier: ISC

    python3 torch_work.py path/to/bench/work [THREADS [REPEATS [NAME]]] [--compile] [--bf16 | --bf16x3] [--peaks]

NAME is part of a work's, or a work of one's own, "KIND N H W C NETWORK":

    python3 torch_work.py bench/work 2 5 "backward 50 14 14 48 conv:96"

The same weights and inputs, results compared; each repeat times both sides one
after the other, so that a machine changing its pace changes both.  PyTorch's
figure is the best of eager in plain and in channels-last memory and, with
--compile, of torch.compile.  Ratios are medians of pairs, with quartiles: above 1,
libebm is faster.  Seconds are those on the wall.  of peak: libebm's operations of
contractions, by their definition and against float32 in registers, or else its bytes
against a plain copy, as bench/work has them.  --bf16: precision bf16 against
autocast; contractions and networks alone.  --peaks: the most memory of an update
above that of a process that does next to nothing, instead of times.

EBM_BENCH_BACKEND=vulkan:0 (say) lets libebm compute on a GPU; PyTorch then does, too,
if it knows CUDA, and without TF32, as libebm computes in float32.  Then there is no peak.
"""
import argparse
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from torch_net import Net, nchw, read_safetensors

TURN = 0.1      # seconds of a side's turn
PAUSE = 0.03    # before it: threads that spin at the end of the other's have gone to sleep
ON_GPU = os.environ.get("EBM_BENCH_BACKEND", "cpu") not in ("", "cpu") and torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")


def forward(net, x):
    with torch.no_grad():
        return net(x)


def with_autocast(call, bf16):
    """The call, its products in bfloat16 and its result in float32."""
    if not bf16:
        return call

    def cast(x):
        with torch.autocast(DEVICE.type, torch.bfloat16):
            y = call(x)
        return y.float()
    return cast


def make(kind, tensors, text, shape, channels_last, compiled, bf16=False):
    """(a step that changes what the work changes, its first result in NHWC)."""
    n, h, w, c = shape
    fmt = torch.channels_last if channels_last else torch.contiguous_format
    if kind == "adam":
        weight = torch.nn.Parameter(tensors["energy/weight"].clone())
        weight.grad = tensors["gradient"].clone()
        return trainer([weight], lambda: None), None
    x = nchw(tensors["x"]).contiguous(memory_format=fmt)
    net = Net(text, tensors, c, h)
    net = net.to(memory_format=fmt)
    call = with_autocast(torch.compile(net) if compiled else net, bf16)
    if kind == "forward":
        return lambda: forward(call, x), lambda: nhwc(forward(call, x))
    if kind in ("backward", "filter"):
        dy = tensors["dy"]
        dy = nchw(dy).contiguous(memory_format=fmt) if dy.dim() == 4 else dy
    if kind == "filter":
        def by_weights():
            y = call(x)
            return torch.autograd.grad(y, net.ordered, dy.reshape(y.shape))
        return gradient_alone(call, x, dy, net.ordered) if linear(text) else by_weights, \
            lambda: torch.cat([nhwc(p).flatten() for p in by_weights()])
    if kind == "backward":
        for p in net.parameters():
            p.requires_grad_(False)

        def gradient():
            z = x.detach().requires_grad_(True)
            y = call(z)
            return torch.autograd.grad(y, z, dy.reshape(y.shape))[0]
        if linear(text):
            z = x.detach().requires_grad_(True)
            return gradient_alone(call, z, dy, [z]), lambda: nhwc(gradient())
        return gradient, lambda: nhwc(gradient())
    if kind == "langevin":
        for p in net.parameters():
            p.requires_grad_(False)
        state = [x]

        def step(noise=0.01):
            z = state[0].detach().requires_grad_(True)
            dx = torch.autograd.grad(call(z).sum(), z)[0]
            with torch.no_grad():
                state[0] = (z - dx + noise * torch.randn_like(z)).clamp_(-3, 3)
            return state[0]

        def first():
            result = nhwc(step(0.0))
            state[0] = x
            return result
        return step, first
    chains = nchw(tensors["chains"]).contiguous(memory_format=fmt)

    def loss():
        e = call(torch.cat([x, chains])).flatten()
        data, fantasy = e[:n], e[n:]
        value = data.mean() - fantasy.mean() + 0.1 * (data.square().mean() + fantasy.square().mean())
        value.backward()

    def gradient():
        net.zero_grad(set_to_none=True)
        loss()
        return torch.cat([nhwc(p.grad).flatten() for p in net.ordered])
    return trainer(list(net.parameters()), loss), gradient


def linear(text):
    """One layer that is linear in its input and in its weights."""
    return re.fullmatch(r"(flatten )?(conv|linear):\S*", text)


def gradient_alone(call, x, dy, of):
    """The gradient of y = call(x) where y is there already: the gradients of a linear
    layer do not read it, and libebm does not compute it."""
    y = call(x)
    dy = dy.reshape(y.shape)
    return lambda: torch.autograd.grad(y, of, dy, retain_graph=True)


def trainer(parameters, loss):
    adam = torch.optim.Adam(parameters, 1e-4, fused=True)
    average = [p.detach().clone() for p in parameters]
    keep = parameters[0].grad is not None      # a gradient given once

    def step():
        if not keep:
            adam.zero_grad(set_to_none=True)
        loss()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 0.001)
    return step


def nhwc(x):
    return x.detach().permute(0, 2, 3, 1) if x.dim() == 4 else x.detach()


def finish():
    if ON_GPU:
        torch.cuda.synchronize()


def timed(step, calls):
    time.sleep(PAUSE)
    finish()
    start = time.perf_counter()
    for _ in range(calls):
        step()
    finish()
    return (time.perf_counter() - start) / calls


def differs(ours, theirs):
    """Largest difference by the largest element."""
    theirs = theirs.flatten().cpu()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30))


class Other:
    """bench/work at the other end of a pipe."""

    def __init__(self, program, threads, number, path, options=None):
        precision = [p for p in ("bf16", "bf16x3") if options and getattr(options, p)]
        words = [program, "serve", str(threads), str(number), path] + precision
        self.pipe = subprocess.Popen(words, text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        words = self.pipe.stdout.readline().split()
        if not words or words[0] != "ready":
            raise SystemExit("%s serve %d failed" % (program, number))
        self.counted = float(words[1]) or float(words[2])

    def timed(self, calls):
        time.sleep(PAUSE)
        start = time.perf_counter()
        self.pipe.stdin.write("%d\n" % calls)
        self.pipe.stdin.flush()
        self.pipe.stdout.readline()
        return (time.perf_counter() - start) / calls

    def share(self, seconds):
        """The part of the machine's peak that a run of so many seconds reaches."""
        self.pipe.stdin.write("peak\n")
        self.pipe.stdin.flush()
        peak = float(self.pipe.stdout.readline())
        return self.counted / seconds / peak if peak else math.nan

    def peak(self):
        """The most bytes that it ever had in memory."""
        with open("/proc/%d/status" % self.pipe.pid) as f:
            return 1024 * next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))

    def close(self):
        self.pipe.stdin.close()
        self.pipe.wait()


def calls_for(seconds):
    return max(1, int(TURN / max(seconds, 1e-6)))


class Line:
    """A work as bench/work lists it."""

    def __init__(self, line):
        head, self.text = line.split("|", 1)
        number, self.kind, n, h, w, c, self.name = head.split(" ", 6)
        self.number, self.shape = int(number), (int(n), int(h), int(w), int(c))

    def contracts(self):
        return any(word in self.text for word in ("conv", "linear"))


def modes_of(line, options):
    modes = {"plain": (False, False), "channels": (True, False)}
    if line.kind == "adam":
        modes.pop("channels")
    elif options.compile:
        modes["compile"] = (True, True)
    return modes


def quartiles(values):
    q = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return q[1], q[0], q[2]


def measure(line, options, folder):
    path = os.path.join(folder, "work")
    other = Other(options.program, options.threads, line.number, path, options)
    tensors = {name: t.to(DEVICE) for name, t in read_safetensors(path).items()}
    result = read_safetensors(path + ".result").get("result")
    steps, error = {}, 0.0
    for mode, (last, compiled) in modes_of(line, options).items():
        step, first = make(line.kind, tensors, line.text, line.shape, last, compiled, options.bf16)
        if first is not None:
            error = max(error, differs(result, first()))
        timed(step, 2)
        steps[mode] = step
    other.timed(2)
    calls = {mode: calls_for(timed(step, 1)) for mode, step in steps.items()}
    ours_calls = calls_for(other.timed(1))
    ours, shares, theirs = [], [], {mode: [] for mode in steps}
    for _ in range(options.repeats):
        ours.append(other.timed(ours_calls))
        shares.append(other.share(ours[-1]))
        for mode, step in steps.items():
            theirs[mode].append(timed(step, calls[mode]))
    other.close()
    best = min(theirs, key=lambda m: statistics.median(theirs[m]))
    ratio, low, high = quartiles([t / o for o, t in zip(ours, theirs[best])])
    share = statistics.median(shares)
    print("%-9s %-34s %10.3f %10.3f %-9s %6.3g (%.3g - %.3g) %9.1e %7s" % (line.kind, line.name,
          1e3 * statistics.median(ours), 1e3 * statistics.median(theirs[best]), best, ratio, low, high, error,
          "" if math.isnan(share) else "%.0f%%" % (100 * share)), flush=True)
    return ratio


def most_memory():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_here(line, options, path):
    """In a process of its own: the most bytes that two updates add."""
    warm = torch.nn.Conv2d(8, 8, 3)
    warm(torch.zeros(1, 8, 8, 8)).sum().backward()
    before = most_memory()
    step, _ = make(line.kind, read_safetensors(path), line.text, line.shape, options.channels, False, options.bf16)
    step()
    step()
    print(most_memory() - before)


def peak(line, options, folder, bare):
    path = os.path.join(folder, "work")
    other = Other(options.program, options.threads, line.number, path, options)
    other.timed(2)
    ours = other.peak() - bare
    other.close()
    theirs = min(int(subprocess.run([sys.executable, *sys.argv, "--peak-of", str(line.number), path, *last],
                                    check=True, capture_output=True, text=True).stdout)
                 for last in ([], ["--channels"]))
    print("%-9s %-26s %10.1f %10.1f %6.2f" % (line.kind, line.name, ours / 2**20, theirs / 2**20, ours / theirs),
          flush=True)
    return ours / theirs


def bare_peak(options, lines, folder):
    small = next(line for line in lines if line.name == "silu, 64x1x1x64")
    other = Other(options.program, options.threads, small.number, os.path.join(folder, "bare"))
    other.timed(2)
    bytes_ = other.peak()
    other.close()
    return bytes_


def parse():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("program")
    p.add_argument("threads", nargs="?", type=int, default=1)
    p.add_argument("repeats", nargs="?", type=int, default=5)
    p.add_argument("name", nargs="?", default="")
    for flag in ("--compile", "--bf16", "--bf16x3", "--peaks", "--channels"):
        p.add_argument(flag, action="store_true")
    p.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    return p.parse_intermixed_args()


def main():
    options = parse()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    text = subprocess.run([options.program, "list"], text=True, check=True, capture_output=True).stdout
    lines = [Line(line) for line in text.splitlines()]
    own = re.fullmatch(r"((?:forward|backward|filter|langevin|train)(?: \d+){4}) (\S.*)", options.name)
    if own:
        lines = [Line("0 %s own|%s" % own.groups())]
        lines[0].number, lines[0].name, options.name = options.name, own[2], own[2]
    if options.peak_of:
        peak_here(lines[int(options.peak_of[0])], options, options.peak_of[1])
        return
    where = torch.cuda.get_device_name() if ON_GPU else "%d thread%s" % (
        options.threads, "" if options.threads == 1 else "s")
    print("PyTorch %s, %s%s" % (torch.__version__, where, ", bf16" if options.bf16 else "; libebm with bf16x3" if options.bf16x3 else ""))
    if options.peaks:
        print("%-36s %10s %10s %6s" % ("MiB", "libebm", "PyTorch", "ratio"))
    else:
        print("%-44s %10s %10s %-9s %6s %15s %9s %7s" % ("ms", "libebm", "PyTorch", "its best", "ratio",
                                                         "quartiles", "error", "of peak"))
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_peak(options, lines, folder) if options.peaks else 0
        for line in lines:
            if options.name not in line.kind + " " + line.name or ((options.bf16 or options.bf16x3) and not line.contracts()):
                continue
            if options.peaks and line.kind != "train":
                continue
            ratio = peak(line, options, folder, bare) if options.peaks else measure(line, options, folder)
            ratios.setdefault(line.kind, []).append(ratio)
    for kind, list_ in ratios.items():
        print("%-9s %-48s %6.3g" % (kind, "geometric mean of ratios",
                                    math.exp(statistics.fmean(map(math.log, list_)))))


if __name__ == "__main__":
    main()
