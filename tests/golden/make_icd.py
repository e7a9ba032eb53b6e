#!/usr/bin/env python3
"""Make the golden files of test_icd.c with PyTorch.

SPDX-License-Identifier: ISC

    make_icd.py [FOLDER]             (made with PyTorch 2.13)

Small instances of the networks of improved contrastive divergence (Du et al.
2021), and one step of training.  PyTorch computes in float64; results are
rounded once to float32.  Inputs and weights are not stored: both sides make
them by value(), element by element in the layout of libebm (images NHWC,
filters [out,r,s,in]).

    e, dx            energies [n,scales]; the gradient of their sum by x
    ends, cd, kl, entropy, grad.NAME   of a step of training
"""
import math
import os
import sys

import numpy as np
import torch
from torch.nn import functional as F

from make_golden import ours, write

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def value(name, shape):
    """Numbers in [-1,1): splitmix64 of the index, from the FNV-1a of the name."""
    h = 14695981039346656037
    for c in name.encode():
        h = ((h ^ c) * 1099511628211) & (2**64 - 1)
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1
    return torch.from_numpy(u.reshape(shape))


def image(name, n, h, w, c):
    return ((value(name, (n, h, w, c)) + 1) / 2).permute(0, 3, 1, 2).contiguous()


class Weights:
    """Weights by name, made when they are first asked for; shapes are libebm's."""
    def __init__(self):
        self.made = {}

    def __call__(self, name, *shape):
        if name not in self.made:
            v = value(name, shape)
            if len(shape) == 1:
                one = name == "heir_weight" or name.endswith((".gamma", "bn1.weight", "bn2.weight"))
                v = v / 2 + (1 if one else 0)
            else:
                v = v * math.sqrt(3 * shape[0] / math.prod(shape))
            v = v.to(torch.float32).to(torch.float64)
            self.made[name] = v.requires_grad_()
        return self.made[name]

    def frozen(self):
        return lambda name, *shape: self(name, *shape).detach()


def conv(w, name, x, out, standard=False):
    f = w(name + ".weight", out, 3, 3, x.shape[1]).permute(0, 3, 1, 2)
    if standard:
        mean = f.mean((1, 2, 3), keepdim=True)
        f = f - mean
        f = f / (f.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
    return F.conv2d(x, f, w(name + ".bias", out), padding=1)


def linear(w, name, x, out):
    return F.linear(x, w(name + ".weight", out, x.shape[-1]), w(name + ".bias", out))


def norm(w, name, x):
    c = x.shape[1]
    gain, bias = w(name + ".weight", c), w(name + ".bias", c)
    # By its formula: the input gradient of PyTorch 2.13's own differs from finite
    # differences for a single image.
    g = x.reshape(x.shape[0], c if c <= 128 else 32, -1)
    var, mean = torch.var_mean(g, 2, correction=0, keepdim=True)
    g = ((g - mean) / torch.sqrt(var + 1e-5)).reshape(x.shape)
    return g * gain[:, None, None] + bias[:, None, None]


def cond(w, name, x, y):
    if y is None:
        return x
    c = x.shape[1]
    both = linear(w, name, y, 2 * c)[:, :, None, None]
    return both[:, :c] * x + both[:, c:]


def block(w, name, x, y, down=False, rescale=False):
    c = x.shape[1]
    h = F.silu(cond(w, name + ".latent_map", norm(w, name + ".bn1", conv(w, name + ".conv1", x, c, True)), y))
    h = F.silu(cond(w, name + ".latent_map_2", norm(w, name + ".bn2", conv(w, name + ".conv2", h, c, True)), y))
    x = x + h
    if down:
        x = conv(w, name + ".conv_downsample", x, 2 * c if rescale else c)
        x = F.silu(F.avg_pool2d(x, 3, stride=2, padding=1))
    return x


def attention(w, x):
    n, c, h, wd = x.shape
    t = x.flatten(2).transpose(1, 2)
    q, k = linear(w, "self_attn.query_conv", t, c // 8), linear(w, "self_attn.key_conv", t, c // 8)
    v = linear(w, "self_attn.value_conv", t, c)
    a = torch.softmax(q @ k.transpose(1, 2), -1) @ v
    return x + w("self_attn.gamma", 1) * a.transpose(1, 2).reshape(n, c, h, wd)


def scale(w, prefix, x, y, first, blocks):
    x = F.silu(conv(w, prefix + "conv1", x, first))
    for b in blocks.split():
        if b == "attention":
            x = attention(w, x)
        else:
            name, *how = b.split(",")
            x = block(w, prefix + name, x, y, "down" in how or "rescale" in how, "rescale" in how)
    return linear(w, prefix + "energy_map", F.silu(x).mean((2, 3)), 1)


def blur_down(x):
    t = torch.tensor([1.0, 2.0, 1.0])
    f = (t[:, None] * t / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), f, stride=2, groups=x.shape[1])


def pool(x):
    return F.avg_pool2d(x, 3, stride=2, padding=1)


def network(w, size, width, x, y, published=False, label_width=0):
    if label_width:
        for i in range(4):
            y = F.silu(linear(w, "map_fc%d" % (i + 1), y, label_width))
    down = blur_down if published else pool
    if size == 28:
        return scale(w, "", x, y, width, "res1,rescale res2,rescale res3,rescale")
    if size == 32:
        large = scale(w, "", x, y, width, "res_1a res_1b,down res_2a res_2b,rescale attention "
                                          "res_3a res_3b,rescale res_4a res_4b,rescale")
        mid = scale(w, "mid_", down(x), y, width, "res_1a res_1b,down res_2a res_2b,rescale "
                                                  "res_3a res_3b,rescale")
        small = scale(w, "small_", down(down(x)), y, width, "res_1a res_1b,down res_2a res_2b,rescale")
    else:
        large = scale(w, "", x, y, width // 2, "res_1a,rescale res_1b,down res_2a,down res_2b,rescale "
                                               "res_3a res_3b,rescale attention res_4a res_4b,rescale")
        mid = scale(w, "mid_", down(x), y, width, "res_1a,down res_1b,down res_2a,down res_2b,rescale "
                                                  "res_3a res_3b,rescale")
        small = scale(w, "small_", down(down(x)), y, width, "res_1a,down res_1b,down res_2a,down "
                                                            "res_2b,rescale")
    if published:
        h = w("heir_weight", 3)
        return h[0] * large + h[1] * mid + h[2] * small
    return torch.cat([small, mid, large], 1)


def labels(n, count):
    return F.one_hot((torch.arange(n) + 1) % count, count).to(torch.float64)


def energies(folder, name, size, width, shape, count, **how):
    w = Weights()
    x = image("x", *shape).requires_grad_()
    e = network(w, size, width, x, labels(shape[0], count) if count else None, **how)
    dx, = torch.autograd.grad(e.sum(), x)
    write(os.path.join(folder, name + ".safetensors"), {"e": e.detach(), "dx": ours(dx)}, {})


def step(folder, name, n, kl_images, past, size, width, shape, count, lam, penalty, kl, entropy):
    w, y = Weights(), labels(n, count)
    data, noised = image("data", n, *shape), image("noised", n, *shape).requires_grad_()
    before = image("past", past, *shape)
    g, = torch.autograd.grad(network(w, size, width, noised, y).sum(), noised, create_graph=True)
    ends = torch.clamp(noised.detach() - lam * g, 0, 1)
    xhat = ends[:kl_images]
    e_data, e_ends = (network(w, size, width, x, y) for x in (data, ends.detach()))
    cd = e_data.mean() - e_ends.mean() + penalty * ((e_data ** 2).mean() + (e_ends ** 2).mean())
    opt = network(w.frozen(), size, width, xhat, y[:kl_images]).mean()
    d = torch.stack([(xhat - b).flatten(1).norm(dim=1) for b in before], 1)
    log = d.min(1).values.log().mean()
    total = cd + kl * opt - entropy * log
    grads = torch.autograd.grad(total, list(w.made.values()))
    clipped = ((ends == 0) | (ends == 1)).double().mean()
    print("%s: %.0f %% of the pixels are clamped, loss %g" % (name, 100 * clipped, total.item()))
    tensors = {"ends": ours(ends), "cd": cd.detach().view(1), "kl": (total - cd).detach().view(1),
               "entropy": log.detach().view(1)}
    tensors.update({"grad." + k: a.detach() for k, a in zip(w.made, grads)})
    write(os.path.join(folder, name + ".safetensors"), tensors, {})


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    energies(folder, "icd-32", 32, 4, (2, 32, 32, 3), 3)
    energies(folder, "icd-128", 128, 4, (1, 72, 72, 3), 2)
    energies(folder, "icd-published", 128, 4, (1, 72, 72, 3), 2, published=True, label_width=6)
    energies(folder, "icd-28", 28, 40, (1, 28, 28, 1), 0)
    step(folder, "icd-step", 3, 2, 5, 32, 4, (20, 20, 3), 3, 20.0, 1.0, 1.0, 0.3)


if __name__ == "__main__":
    main()
