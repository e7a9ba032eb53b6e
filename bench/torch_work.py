"""torch_work.py - the works of bench/work by PyTorch, in turn with it.

SPDX-License-Identifier: ISC

    python3 torch_work.py path/to/bench/work [THREADS [REPEATS [NAME]]] [--compile]

The same weights and inputs, results compared; each repeat times both sides one
after the other, so that a machine changing its pace changes both.  PyTorch's
figure is the best of eager in plain and in channels-last memory and, with
--compile, of torch.compile.  Ratios are medians of pairs: above 1, libebm is
faster.  Seconds are those on the wall.
"""
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from torch_net import Net, nchw, read_safetensors

TURN = 0.1      # seconds of a side's turn


def forward(net, x):
    with torch.no_grad():
        return net(x)


def make(kind, tensors, text, shape, channels_last, compiled):
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
    call = torch.compile(net) if compiled else net
    if kind == "forward":
        return lambda: forward(call, x), lambda: nhwc(forward(call, x))
    if kind == "backward":
        dy = tensors["dy"]
        dy = nchw(dy).contiguous(memory_format=fmt) if dy.dim() == 4 else dy
        for p in net.parameters():
            p.requires_grad_(False)

        def gradient():
            z = x.detach().requires_grad_(True)
            y = call(z)
            return torch.autograd.grad(y, z, dy.reshape(y.shape))[0]
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


def timed(step, calls):
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def differs(ours, theirs):
    """Largest difference by the largest element."""
    theirs = theirs.flatten()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30))


class Other:
    """bench/work at the other end of a pipe."""

    def __init__(self, program, threads, number, path):
        self.pipe = subprocess.Popen([program, "serve", str(threads), str(number), path], text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        words = self.pipe.stdout.readline().split()
        if not words or words[0] != "ready":
            raise SystemExit("%s serve %d failed" % (program, number))

    def timed(self, calls):
        start = time.perf_counter()
        self.pipe.stdin.write("%d\n" % calls)
        self.pipe.stdin.flush()
        self.pipe.stdout.readline()
        return (time.perf_counter() - start) / calls

    def close(self):
        self.pipe.stdin.close()
        self.pipe.wait()


def calls_for(seconds):
    return max(1, int(TURN / max(seconds, 1e-6)))


def measure(program, line, threads, repeats, compiling, folder):
    head, text = line.split("|", 1)
    number, kind, n, h, w, c, name = head.split(" ", 6)
    path = os.path.join(folder, "work")
    other = Other(program, threads, int(number), path)
    tensors, result = read_safetensors(path), read_safetensors(path + ".result").get("result")
    shape = int(n), int(h), int(w), int(c)
    modes = {"plain": (False, False), "channels": (True, False)}
    if kind == "adam":
        modes.pop("channels")
    elif compiling:
        modes["compile"] = (True, True)
    steps, error = {}, 0.0
    for mode, (last, compiled) in modes.items():
        step, first = make(kind, tensors, text, shape, last, compiled)
        if first is not None:
            error = max(error, differs(result, first()))
        timed(step, 2)
        steps[mode] = step
    other.timed(2)
    calls = {mode: calls_for(timed(step, 1)) for mode, step in steps.items()}
    ours_calls = calls_for(other.timed(1))
    ours, theirs = [], {mode: [] for mode in steps}
    for _ in range(repeats):
        ours.append(other.timed(ours_calls))
        for mode, step in steps.items():
            theirs[mode].append(timed(step, calls[mode]))
    other.close()
    best = min(theirs, key=lambda m: statistics.median(theirs[m]))
    ratio = statistics.median(t / o for o, t in zip(ours, theirs[best]))
    print("%-9s %-26s %10.3f %10.3f %-9s %6.2f %9.1e" % (kind, name, 1e3 * statistics.median(ours),
          1e3 * statistics.median(theirs[best]), best, ratio, error), flush=True)
    return kind, ratio


def main():
    words = [a for a in sys.argv[1:] if a != "--compile"]
    if not words:
        raise SystemExit(__doc__)
    program = words[0]
    threads, repeats = (int(words[i]) if len(words) > i else d for i, d in ((1, 1), (2, 5)))
    wanted = words[3] if len(words) > 3 else ""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    print("PyTorch %s, %d thread%s" % (torch.__version__, threads, "" if threads == 1 else "s"))
    print("%-36s %10s %10s %-9s %6s %9s" % ("", "libebm ms", "PyTorch ms", "its best", "ratio", "error"))
    ratios = {}
    lines = subprocess.run([program, "list"], text=True, check=True, capture_output=True).stdout
    for line in lines.splitlines():
        _, kind, _, _, _, _, name = line.split("|")[0].split(" ", 6)
        if wanted not in kind + " " + name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            kind, ratio = measure(program, line, threads, repeats, "--compile" in sys.argv, folder)
        ratios.setdefault(kind, []).append(ratio)
    for kind, list_ in ratios.items():
        print("%-9s %-48s %6.2f" % (kind, "geometric mean of ratios",
                                    math.exp(statistics.fmean(map(math.log, list_)))))


main()
