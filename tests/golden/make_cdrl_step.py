#!/usr/bin/env python3
"""Make cdrl-step.safetensors of test_cdrl_train.c with PyTorch.

SPDX-License-Identifier: ISC

    make_cdrl_step.py [FOLDER]       (made with PyTorch 2.13)

The first update of cooperative diffusion recovery likelihood, written from its
description (Zhu et al. 2024) with PyTorch's networks of make_cdrl.py, autograd,
clipping and Adam, in float64, on the noise that libebm draws: its random
counter is {5, 0, 0, 0}.  Weights, images and labels are made by value().

    loss, proposal.loss        scalars
    level, chains              level of each image; ends of the chains, as states
    NET/NAME                   weights after the update
    grad.NET/NAME              their gradients, clipped
"""
import math
import os
import sys

import numpy as np
import torch

import make_cdrl
from make_cdrl import Dropout, LogDensity, Proposal, give, our_grad, philox
from make_golden import ours, write
from make_icd import value

BATCH, HEIGHT, WIDTH, CHANNELS, CLASSES = 6, 4, 6, 3, 3
LEVELS, STEPS, STEP = 6, 3, 4e-4
SEED = 5
LANGEVIN, DROPOUT, LEVEL, NOISE, PROPOSAL, DROP = 5, 8, 128, 129, 131, 132   # purposes of draws


def words(step, purpose, count):
    """The lanes of Philox as integers."""
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    n = -(-count // 4)
    x = [np.arange(n, dtype=np.uint64)] + [np.full(n, k, np.uint64) for k in (step, 0, purpose)]
    k = [SEED, 0]
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [(b >> shift) ^ x[1] ^ np.uint64(k[0]), b & low, (a >> shift) ^ x[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return x


def normal(step, purpose, *shape):
    """Box-Muller: radius and angle are neighbouring lanes; the angle's first two
    bits count quarters, the others reach from -1/8 to 1/8 of a turn."""
    count = math.prod(shape)
    x, out = words(step, purpose, count), []
    for r, a in ((x[0], x[1]), (x[2], x[3])):
        radius = np.sqrt(-2 * np.log(((r >> np.uint64(8)) + np.uint64(1)).astype(np.float64) / 2**24))
        quarter = (a >> np.uint64(30)).astype(np.int64)
        part = (((a >> np.uint64(8)) & np.uint64(0x3FFFFF)).astype(np.int64) * 2 + 1 - 2**22) / 2**23
        angle = np.pi / 2 * (quarter + part)
        out += [radius * np.cos(angle), radius * np.sin(angle)]
    return torch.from_numpy(np.stack(out, 1).reshape(-1)[:count].reshape(shape))


def uniform(step, purpose, count):
    return torch.from_numpy(philox((SEED, 0, step, 0), purpose, count))


def images(a):
    return a.permute(0, 3, 1, 2).contiguous()


def noise(step, purpose):
    return images(normal(step, purpose, BATCH, HEIGHT, WIDTH, CHANNELS))


class Drop(Dropout):
    """As the library draws for the network "proposal" of purpose DROPOUT."""
    def forward(self, x):
        if not self.training:
            return x
        purpose = 2166136261 ^ DROPOUT
        for c in ("proposal" + self.name).encode():
            purpose = ((purpose ^ c) * 16777619) & 0xFFFFFFFF
        shape = (x.shape[0],) + tuple(x.shape[2:]) + (x.shape[1],)
        u = uniform(1, purpose, x.numel()).view(shape)
        return x * (u < 1 - self.p).permute(0, 3, 1, 2) / (1 - self.p)


def schedule():
    """Of every state 0 ... LEVELS: log SNR, signal, noise."""
    b = math.atan(math.exp(-9.8 / 2))
    a = math.atan(math.exp(5.1 / 2)) - b
    snr = torch.tensor([-2 * math.log(math.tan(a * t / LEVELS + b)) for t in range(LEVELS + 1)])
    return snr, torch.sigmoid(snr).sqrt(), torch.sigmoid(-snr).sqrt()


def update(net, grads, rate, epsilon):
    """Clip to norm 1 and make Adam's first step; returns the clipped gradients."""
    parameters = list(net.parameters())
    for p, g in zip(parameters, grads):
        p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    clipped = [p.grad.clone() for p in parameters]
    torch.optim.Adam(parameters, lr=rate, eps=epsilon).step()
    return clipped


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.set_default_dtype(torch.float64)
    make_cdrl.Dropout = Drop
    energy = give(LogDensity(4, (1, 2), 1, CHANNELS, CLASSES))
    initializer = give(Proposal(4, 2, 1, (1,), 2, CLASSES, 0.25, CHANNELS))
    for key, layer in initializer.named_modules():
        if isinstance(layer, Drop):
            layer.name = key

    t = torch.floor(uniform(0, LEVEL, BATCH) * LEVELS).long()
    labels = torch.arange(BATCH) % CLASSES + 1
    labels = torch.where(uniform(0, DROP, BATCH) < 0.5, torch.zeros_like(labels), labels)
    snr, signal, sigma_bar = schedule()
    alpha = signal[1:] / signal[:-1]
    sigma = (1 - alpha ** 2).sqrt()

    def by(a):
        return a[:, None, None, None]
    top = t == LEVELS - 1
    scale = torch.where(top, torch.ones(BATCH), alpha[t])
    c = sigma_bar[t] / sigma_bar[0]
    s2 = STEP * c * sigma[t] ** 2
    proposed = sigma_bar[t] / sigma_bar[t + 1] * sigma[t] * scale
    weight = sigma[0] / sigma[t]

    # two states of each image, of the same noise
    x, e = images(value("data", (BATCH, HEIGHT, WIDTH, CHANNELS))), noise(0, NOISE)
    above = by(signal[t + 1]) * x + by(sigma_bar[t + 1]) * e
    data = by(scale) * (by(signal[t]) * x + by(sigma_bar[t]) * e)

    energy.train()
    n_data = energy(data, snr[t], labels)          # spectral norm iterates here
    energy.eval()                                  # and no more
    initializer.train()
    guess = initializer(above, snr[t + 1], labels) + by(proposed) * noise(1, PROPOSAL)
    y = guess.detach()
    for k in range(STEPS):
        y = y.requires_grad_()
        pull = torch.where(top, 0, c * STEP / 2) * ((y - above) ** 2).flatten(1).sum(1)
        slope, = torch.autograd.grad((energy(y, snr[t], labels) - pull).sum(), y)
        y = (y + slope / 2 + by(s2.sqrt()) * noise(1 + k, LANGEVIN)).detach()
    n_chains = energy(y, snr[t], labels)
    loss = (weight * (n_chains - n_data)).mean()
    proposal_loss = ((y - guess) ** 2).flatten(1).sum(1).mean()

    tensors = {"loss": loss.detach(), "proposal.loss": proposal_loss.detach(), "level": t.double(),
               "chains": ours(y / by(scale))}
    for name, net, of, rate in (("energy", energy, loss, 0.01), ("proposal", initializer, proposal_loss, 0.02)):
        grads = torch.autograd.grad(of, list(net.parameters()))
        clipped = update(net, grads, rate, 1e-3)
        for (key, p), g in zip(net.named_parameters(), clipped):
            key = key.replace("weight_orig", "weight")
            tensors["grad.%s/%s" % (name, key)] = our_grad(key, g)
            tensors["%s/%s" % (name, key)] = our_grad(key, p)
        print(name, of.item(), sum((g ** 2).sum() for g in grads).item() ** 0.5)
    write(os.path.join(folder, "cdrl-step.safetensors"), tensors, {})


if __name__ == "__main__":
    main()
