#!/usr/bin/env python3
"""Make the checkpoints of cooperative diffusion recovery likelihood for
test_import.c, and what their networks compute.

SPDX-License-Identifier: ISC

    make_import_cdrl.py [FOLDER]        (made with PyTorch 2.13)

The networks are those of golden/make_cdrl.py, saved as the authors save them
(wrapped, with averages as lists) and evaluated in float64 with weights as saved.

    cdrl.pth            zip; last weights, averages, optimisers
    cdrl-labels.pth     zip; conditional, last weights alone
    cdrl-outputs.safetensors    energies of two levels, by label; proposals
"""
import math
import os
import sys

import torch
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from make_cdrl import LogDensity, Proposal  # noqa: E402
from make_golden import write  # noqa: E402
from make_icd import value  # noqa: E402
from make_import import optimiser, some_images  # noqa: E402

SIZE = 32


# ---- section 2 of the paper's schedule ----

def log_snr(t):
    b = math.atan(math.exp(-9.8 / 2))
    a = math.atan(math.exp(5.1 / 2)) - b
    return -2 * math.log(math.tan(a * t / 6 + b))


def signal(t):
    return math.sqrt(1 / (1 + math.exp(-log_snr(t))))


def noise(t):
    return math.sqrt(1 / (1 + math.exp(log_snr(t))))


def scale(t):
    return 1 if t == 5 else signal(t + 1) / signal(t)


def step_squared(t):
    return 4e-4 * noise(t) / noise(0) * (1 - (signal(t + 1) / signal(t)) ** 2)


# ---- weights ----

def own(net, seed):
    """Weights of their own for each tensor; spectral norm's vectors after three steps."""
    for name, p in net.named_parameters():
        fan = math.prod(p.shape[1:]) if p.dim() > 1 else 4
        v = value(name + seed, (p.numel(),)) * math.sqrt(3 / fan)
        p.data = (v + (1 if name.endswith(".g") else 0)).float().double().view(p.shape)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    return {k: v.detach().float().clone() for k, v in net.state_dict().items()}


POOL = (value("pool", (20480,)) * 0.15).half()


def shared(net, seed):
    """Views of one storage of half precision."""
    pool, out = POOL, {}
    for n, (k, v) in enumerate(net.state_dict().items()):
        at = (31 * n + seed) % (len(pool) - v.numel() + 1)
        out[k] = pool[at:at + v.numel()].view(v.shape)
    return out


def average(net, tensors, seed):
    """Parameters alone, in order, without names."""
    names = [k for k, _ in net.named_parameters()]
    return [tensors[k] * (1 + 0.1 * value("average" + seed, tensors[k].shape).to(tensors[k].dtype)) for k in names]


def load(net, tensors, shadow=None):
    net.load_state_dict({k: v.double() for k, v in tensors.items()})
    if shadow:
        for p, v in zip(net.parameters(), shadow):
            p.data = v.double()
    return net.eval()


def wrapped(tensors):
    return {"module." + k: v for k, v in tensors.items()}


# ---- what they compute ----

def energies(net, labels, t):
    x = 2 * some_images(SIZE, 3) - 1
    rows = []
    for y in range(labels + 1):
        told = torch.full((2,), y) if labels else None
        with torch.no_grad():
            n = net(scale(t) * x, torch.full((2,), log_snr(t)), told)
        rows.append(-n / step_squared(t))
    return torch.cat(rows)


def proposal(net, labels):
    x = 2 * some_images(SIZE, 3) - 1
    with torch.no_grad():
        y = net(x, torch.full((2,), log_snr(1)), torch.full((2,), 1) if labels else None)
    return y.permute(0, 2, 3, 1)[:, ::8, ::8]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    results = {}

    f, g = LogDensity(4, (1, 2), 2, 3), Proposal(32, 2, 1, (1,), 32, 0, 0.0, 3)
    raw_f, raw_g = own(f, ""), shared(g, 3)
    mean_f = average(f, raw_f, "")
    other_g = shared(g, 1000)
    mean_g = [other_g[k] for k, _ in g.named_parameters()]
    ema = {"decay": 0.9999, "num_updates": 77}
    torch.save({"pi_state_dict": wrapped(raw_f), "p_state_dict": wrapped(raw_g),
                "pi_ema_state_dict": {**ema, "shadow_params": mean_f, "collected_params": [nn.Parameter(v) for v in mean_f]},
                "p_ema_state_dict": {**ema, "shadow_params": mean_g, "collected_params": None},
                "pi_optimizer": optimiser(f), "p_lr_scheduler": {"last_epoch": 77, "_step_count": 78}},
               os.path.join(folder, "cdrl.pth"))
    for name, df, dg in (("cdrl", load(f, raw_f, mean_f), load(g, raw_g, mean_g)), ("cdrl last", None, None)):
        if df is None:
            df, dg = load(f, raw_f), load(g, raw_g)
        results[name] = energies(df, 0, 0)
        results[name + " level 3"] = energies(df, 0, 3)
        results[name + " proposal"] = proposal(dg, 0)

    f, g = LogDensity(4, (1, 3), 1, 3, labels=2), Proposal(32, 2, 2, (0, 1), 32, 2, 0.0, 3)
    raw_f, raw_g = own(f, "labels"), shared(g, 7)
    torch.save({"pi_state_dict": raw_f, "p_state_dict": raw_g}, os.path.join(folder, "cdrl-labels.pth"))
    results["cdrl-labels"] = energies(load(f, raw_f), 2, 0)
    results["cdrl-labels proposal"] = proposal(load(g, raw_g), 2)
    for k, v in results.items():
        print(k, v.flatten()[:6].numpy())
    write(os.path.join(folder, "cdrl-outputs.safetensors"), results, {})


if __name__ == "__main__":
    main()
