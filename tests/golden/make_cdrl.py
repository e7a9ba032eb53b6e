#!/usr/bin/env python3
"""Make the golden files of test_cdrl_nets.c with PyTorch.

SPDX-License-Identifier: ISC

    make_cdrl.py [FOLDER]            (made with PyTorch 2.13)

Small instances of the networks of diffusion recovery likelihood, written from
their descriptions (Gao et al. 2021; Zhu et al. 2024) with PyTorch's own layers
and spectral norm; attributes have the names of the published checkpoints.
PyTorch computes in float64; results are rounded once to float32.  Inputs and
weights are not stored: both sides make them by value(), element by element in
the layout of libebm.

    n, dx, grad.NAME    log densities; gradients of sum(value("dn") n)
    after.NAME          spectral norm's vectors afterwards
    rest.n, rest.dx     log densities outside training, with these vectors
    y, dx, grad.NAME    proposals; gradients of sum(value("dy") y)
    rest.y              proposals without dropout
"""
import math
import os
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

from make_golden import ours, rounded, write
from make_icd import value

RANDOM = (11, 22, 33, 44)                 # the random counter of dropout


def lrelu(x):
    return F.leaky_relu(x, 0.2)


def sinusoids(t, dim):
    half = dim // 2
    f = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    return torch.cat([torch.sin(t[:, None] * f), torch.cos(t[:, None] * f)], 1)


def noise_level(log_snr):
    return 1000 * torch.arctan(torch.exp(-log_snr.clamp(-20, 20) / 2)) / (math.pi / 2)


def spread(e, x):
    """[n,c] as an addend of images or of points."""
    return e[:, :, None, None] if x.dim() == 4 else e


# ---- weights and states by name ----

def give(module):
    """Every parameter and vector of a module, made in the layout of libebm."""
    for name, a in list(module.named_parameters()) + list(module.named_buffers()):
        name = name.replace("weight_orig", "weight")
        if name.endswith(("weight_u", "weight_v")):
            a.data = rounded(value(name, tuple(a.shape)))
            continue
        shape = tuple(ours(a).shape)
        if name.endswith(".g") or a.dim() == 1:
            one = name.endswith(".g") or (".norm" in "." + name and name.endswith("weight"))
            v = value(name, (a.numel(),)) / 2 + (1 if one else 0)
            a.data = rounded(v).view(a.shape)
            continue
        v = rounded(value(name, shape) * math.sqrt(3 * shape[0] / math.prod(shape)))
        a.data = v.permute(0, 3, 1, 2).contiguous() if a.dim() == 4 else v
    return module


def our_grad(name, a):
    a = a.detach()
    if name.endswith(".g"):
        return a.flatten()
    return ours(a).flatten(1) if a.dim() == 4 else a


def vectors(module):
    """Spectral norm's vectors, those of filters in the order [r,s,in]."""
    found = {}
    for name, layer in module.named_modules():
        if hasattr(layer, "weight_u"):
            found[name + ".weight_u"] = layer.weight_u.detach()
            v = layer.weight_v.detach()
            if layer.weight_orig.dim() == 4:
                v = v.view(layer.weight_orig.shape[1:]).permute(1, 2, 0).flatten()
            found[name + ".weight_v"] = v
    return found


def image(*shape):
    n, h, w, c = shape
    return rounded(value("x", shape)).permute(0, 3, 1, 2).contiguous().requires_grad_()


def points(*shape):
    return rounded(value("x", shape)).requires_grad_()


# ---- the log density of CDRL ----

class Block(nn.Module):
    def __init__(self, ins, outs, told, act, flat):
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, outs) if flat else torch.ones(1, outs, 1, 1))
        conv = nn.Linear if flat else lambda i, o: nn.Conv2d(i, o, 3, padding=1)
        self.conv1 = spectral_norm(conv(ins, outs))
        self.conv2 = spectral_norm(conv(outs, outs))
        self.temb_map = spectral_norm(nn.Linear(told, outs))
        self.short_cut = spectral_norm(conv(ins, outs)) if ins != outs else nn.Identity()
        self.act = act

    def forward(self, x, e):
        h = self.conv1(self.act(x)) + spread(self.act(self.temb_map(self.act(e))), x)
        return self.short_cut(x) + self.conv2(self.act(h)) * self.g


class LogDensity(nn.Module):
    def __init__(self, width, multipliers, blocks, channels, labels=0, swish=False, quadratic=False, flat=False):
        super().__init__()
        self.act, self.last = (F.silu, F.silu) if swish else (lrelu, F.relu)
        self.width, self.labels, self.quadratic, self.flat = width, labels, quadratic, flat
        self.temb_map1 = spectral_norm(nn.Linear(width, 4 * width))
        self.temb_map2 = spectral_norm(nn.Linear(4 * width, 4 * width))
        if labels:
            self.y_map = spectral_norm(nn.Linear(labels + 1, 4 * width))
        first = nn.Linear(channels, width) if flat else nn.Conv2d(channels, width, 3, padding=1)
        layers, ins = [spectral_norm(first)], width
        for i, m in enumerate(multipliers):
            if i > 0 and not flat:
                layers.append(nn.AvgPool2d(2))
            for _ in range(blocks):
                layers.append(Block(ins, m * width, 4 * width, self.act, flat))
                ins = m * width
        self.module_list = nn.ModuleList(layers)
        if flat:
            self.final_dense = nn.Linear(ins, 1, bias=False)
        else:
            self.temb_final = nn.Linear(4 * width, ins, bias=False)

    def forward(self, x, level, labels=None):
        e = self.temb_map2(self.act(self.temb_map1(sinusoids(noise_level(level), self.width))))
        if self.labels:
            e = e + self.y_map(F.one_hot(labels, self.labels + 1).to(x.dtype))
        h = self.module_list[0](x)
        for layer in self.module_list[1:]:
            h = layer(h, e) if isinstance(layer, Block) else layer(h)
        h = self.last(h)
        n = self.final_dense(h)[:, 0] if self.flat else (h.sum((2, 3)) * self.temb_final(self.act(e))).sum(1)
        return n - (x ** 2).flatten(1).sum(1) / 2 if self.quadratic else n


def log_density(folder, name, net, x, levels, labels=None, iterations=3):
    give(net).train()
    level = rounded(torch.tensor(levels))
    for _ in range(iterations):
        n = net(x, level, labels)
    loss = (value("dn", n.shape) * n).sum()
    named = list(net.named_parameters())
    dx, *grads = torch.autograd.grad(loss, [x] + [p for _, p in named])
    tensors = {"n": n.detach(), "dx": ours(dx)}
    for (key, _), a in zip(named, grads):
        tensors["grad." + key.replace("weight_orig", "weight")] = our_grad(key, a)
    tensors.update({"after." + k: v for k, v in vectors(net).items()})
    net.eval()
    n = net(x, level[:1].expand(len(x)), None if labels is None else labels[:1].expand(len(x)))
    dx, = torch.autograd.grad((value("dn", n.shape) * n).sum(), x)
    tensors.update({"rest.n": n.detach(), "rest.dx": ours(dx)})
    print("%s: %d parameters, N %s" % (name, sum(p.numel() for _, p in named), n.detach().numpy()))
    write(os.path.join(folder, name + ".safetensors"), tensors, {})


# ---- the log density of DRL ----

class Drl:
    """As functions of named weights; every call of a map iterates once."""
    def __init__(self, width, multipliers, blocks, attention):
        self.width, self.multipliers, self.blocks, self.attention = width, multipliers, blocks, attention
        self.made, self.u = {}, {}

    def weight(self, name, *shape, one=False, scale=1.0):
        if name not in self.made:
            v = value(name, shape)
            v = v / 2 + one if len(shape) == 1 else v * scale * math.sqrt(3 * shape[0] / math.prod(shape))
            self.made[name] = rounded(v).requires_grad_()
        return self.made[name]

    def normed(self, name, w, small):
        m = w.flatten(1).T                                     # [rest,out]
        u = self.u.setdefault(name, rounded(value(name + ".u", (1, w.shape[0]))))

        def unit(a):
            return a * torch.rsqrt(torch.clamp((a ** 2).sum(), min=1e-12))
        with torch.no_grad():
            v = unit(u @ m.T)
            u = self.u[name] = unit(v @ m)
        sigma = (v @ m @ u.T).squeeze()
        if small:
            return w / (sigma + 1e-6) * torch.clamp(sigma + 1e-6, max=1.0)
        return w / sigma

    def map(self, name, x, out, kind="normed", scale=1.0):
        shape = (out, 3, 3, x.shape[1]) if x.dim() == 4 else (out, x.shape[1])
        w = self.weight(name + ".W", *shape, scale=scale)
        if kind != "free":
            w = self.normed(name, w, kind == "small")
        b = self.weight(name + ".b", out)
        y = F.conv2d(x, w.permute(0, 3, 1, 2), b, padding=1) if x.dim() == 4 else F.linear(x, w, b)
        return y * self.weight(name + ".g", out, one=True).view(1, -1, 1, 1) if kind == "small" else y

    def block(self, name, x, e, out, scale):
        h = self.map(name + ".conv2d_1", lrelu(x), out) + spread(self.map(name + ".dense", lrelu(e), out), x)
        h = self.map(name + ".conv2d_2", lrelu(h), out, "small", scale)
        return h + (x if x.shape[1] == out else self.map(name + ".conv2d_shortcut", x, out))

    def attend(self, name, x):
        n, c, h, w = x.shape
        t = x.permute(0, 2, 3, 1).reshape(-1, c)
        q, k, v = (self.map(name + ".nin_" + i, t, c, "free").view(n, h * w, c) for i in "qkv")
        y = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c), -1) @ v
        y = self.map(name + ".nin_proj_out", y.reshape(-1, c), c, "free")
        return x + y.view(n, h, w, c).permute(0, 3, 1, 2)

    def __call__(self, x, level):
        e = self.map("temb_dense_0", sinusoids(level, self.width), 4 * self.width)
        e = self.map("temb_dense_1", lrelu(e), 4 * self.width)
        h = self.map("conv2d_in", x, self.width)
        for stage, m in enumerate(self.multipliers):
            if stage > 0:
                h = F.avg_pool2d(h, 2)
            for i in range(self.blocks):
                h = self.block("res_levels.%d.%d" % (stage, i), h, e, m * self.width, 1.0 if stage else 0.1)
                if stage in self.attention:
                    h = self.attend("attn_s.%d.%d" % (h.shape[2], i), h)
        v = self.map("temb_dense_2", lrelu(e), h.shape[1], "free")
        return (F.relu(h).sum((2, 3)) * v).sum(1)


def drl(folder, name, net, x, levels):
    """Two calls in a row: of x, and of x / 2."""
    level = torch.tensor(levels)
    first, second = net(x, level), net(x / 2, level)
    dn = value("dn", first.shape)
    dx, *grads = torch.autograd.grad((dn * (first - second)).sum(), [x] + list(net.made.values()))
    tensors = {"n": first.detach(), "second.n": second.detach(), "dx": ours(dx)}
    tensors.update({"grad." + k: a.flatten(1) if a.dim() == 4 else a for k, a in zip(net.made, grads)})
    tensors.update({"after." + k + ".u": u.flatten() for k, u in net.u.items()})
    print("%s: N %s" % (name, first.detach().numpy()))
    write(os.path.join(folder, name + ".safetensors"), tensors, {})


# ---- the initializer ----

def philox(counter, purpose, count):
    """Uniform numbers of Philox4x32-10 (Salmon et al. 2011), four to a block."""
    low, high, step, stream = counter
    n = -(-count // 4)
    x = [np.arange(n, dtype=np.uint64)] + [np.full(n, k, np.uint64) for k in (step, stream, purpose)]
    k = [low, high]
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        low32, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
        x = [(b >> shift) ^ x[1] ^ np.uint64(k[0]), b & low32, (a >> shift) ^ x[3] ^ np.uint64(k[1]), a & low32]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return (np.stack(x, 1).reshape(-1)[:count] >> np.uint64(8)).astype(np.float64) / 2.0**24


class Dropout(nn.Module):
    """The elements that libebm drops: by the layer's name, in the order of NHWC."""
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        purpose = 2166136261
        for c in ("net" + self.name).encode():
            purpose = ((purpose ^ c) * 16777619) & 0xFFFFFFFF
        shape = (x.shape[0],) + tuple(x.shape[2:]) + (x.shape[1],)
        u = torch.from_numpy(philox(RANDOM, purpose, x.numel())).view(shape)
        return x * (u < 1 - self.p).permute(0, 3, 1, 2) / (1 - self.p)


class UBlock(nn.Module):
    def __init__(self, ins, outs, told, groups, dropout, how=None, flat=False):
        super().__init__()
        conv = nn.Linear if flat else lambda i, o: nn.Conv2d(i, o, 3, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(groups, ins, 1e-6), nn.GroupNorm(groups, outs, 1e-6)
        self.conv1, self.conv2 = conv(ins, outs), conv(outs, outs)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(told, 2 * outs))
        self.res_conv = nn.Conv2d(ins, outs, 1) if ins != outs else nn.Identity()
        self.how = {None: nn.Identity(), "down": nn.AvgPool2d(2), "up": nn.Upsample(scale_factor=2)}[how]

    def forward(self, x, e):
        h = self.conv1(self.how(F.silu(self.norm1(x))))
        scale, shift = (spread(a, x) for a in self.mlp(e).chunk(2, 1))
        h = self.dropout(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.conv2(h) + self.res_conv(self.how(x))


class Attend(nn.Module):
    def __init__(self, width, groups):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.to_qkv, self.to_out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x, e):
        q, k, v = self.to_qkv(self.norm(x)).flatten(2).chunk(3, 1)       # [n,c,t]
        a = torch.softmax(torch.einsum("nci,ncj->nij", q, k) / math.sqrt(x.shape[1]), -1)
        return x + self.to_out(torch.einsum("nij,ncj->nci", a, v).reshape(x.shape))


class Proposal(nn.Module):
    def __init__(self, width, stages, blocks, attention, groups, labels, dropout, channels):
        super().__init__()
        told = 4 * width
        self.width, self.labels = width, labels
        self.init_conv = nn.Conv2d(channels, width, 3, padding=1)
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        if labels:
            self.y_mlp = nn.Sequential(nn.Linear(labels + 1, told))

        def stage(i, count, ins, last):
            layers = []
            for _ in range(count):
                layers.append(UBlock(ins, width, told, groups, dropout))
                if i in attention:
                    layers.append(Attend(width, groups))
            if last:
                layers.append(UBlock(width, width, told, groups, dropout, last))
            return nn.ModuleList(layers)
        self.downs = nn.ModuleList(stage(i, blocks, width, "down" if i < stages - 1 else None)
                                   for i in range(stages))
        self.ups = nn.ModuleList(stage(i, blocks + 1, 2 * width, "up" if i > 0 else None)
                                 for i in reversed(range(stages)))
        self.mid_block1 = UBlock(width, width, told, groups, dropout)
        self.mid_attn = Attend(width, groups)
        self.mid_block2 = UBlock(width, width, told, groups, dropout)
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.final_conv = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x, level, labels):
        e = self.time_mlp(sinusoids(noise_level(level), self.width))
        if self.labels:
            e = e + self.y_mlp(F.one_hot(labels, self.labels + 1).to(x.dtype))
        h = self.init_conv(x)
        kept = [h]
        for stage in self.downs:
            for layer in stage:
                h = layer(h, e)
                if isinstance(layer, Attend):
                    kept.pop()
                kept.append(h)
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, e), e), e)
        for stage in self.ups:
            for layer in stage:
                if isinstance(layer, UBlock) and layer.conv1.in_channels == 2 * self.width:
                    h = torch.cat([h, kept.pop()], 1)
                h = layer(h, e)
        assert not kept
        return x + self.final_conv(F.silu(self.norm(h)))


class PointProposal(nn.Module):
    def __init__(self, width, blocks, groups, d):
        super().__init__()
        self.width = width
        self.h1 = nn.Linear(d, width)
        self.temb_map = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.module_list = nn.ModuleList(UBlock(width, width, 2 * width, groups, 0, flat=True)
                                         for _ in range(blocks))
        self.final_dense = nn.Linear(width, d, bias=False)

    def forward(self, x, level, labels):
        e = self.temb_map(sinusoids(noise_level(level), 2 * self.width))
        h = self.h1(x)
        for layer in self.module_list:
            h = layer(h, e)
        return x + self.final_dense(F.silu(h))


def proposal(folder, name, net, x, levels, labels=None):
    give(net).train()
    for key, layer in net.named_modules():
        if isinstance(layer, Dropout):
            layer.name = key
    level = rounded(torch.tensor(levels))
    y = net(x, level, labels)
    dy = value("dy", tuple(ours(y).shape))
    named = list(net.named_parameters())
    dx, *grads = torch.autograd.grad((dy * (y.permute(0, 2, 3, 1) if y.dim() == 4 else y)).sum(),
                                     [x] + [p for _, p in named])
    tensors = {"y": ours(y), "dx": ours(dx)}
    tensors.update({"grad." + key: our_grad(key, a) for (key, _), a in zip(named, grads)})
    net.eval()
    tensors["rest.y"] = ours(net(x, level, labels))
    print("%s: %d parameters" % (name, sum(p.numel() for _, p in named)))
    write(os.path.join(folder, name + ".safetensors"), tensors, {})


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    labels = torch.tensor([2, 0, 3])
    log_density(folder, "cdrl", LogDensity(4, (1, 2, 2), 2, 3, 3), image(3, 9, 10, 3),
                [9.8, -0.876073, 1.19688], labels)
    log_density(folder, "cdrl-swish", LogDensity(4, (1, 2), 1, 3, swish=True, quadratic=True),
                image(2, 4, 6, 3), [-2.172388, 2.68882], iterations=1)
    log_density(folder, "cdrl-points", LogDensity(4, (1, 2), 1, 2, flat=True), points(5, 2),
                [9.8, 2.68882, 1.19688, 0.141071, -0.876073])
    drl(folder, "drl", Drl(4, (1, 2, 2), 1, (1,)), image(3, 8, 8, 3), [0., 3., 5.])
    proposal(folder, "cdrl-proposal", Proposal(4, 2, 2, (1,), 2, 3, 0.25, 3), image(3, 4, 6, 3),
             [-5.1, 0.141071, 2.68882], labels)
    proposal(folder, "cdrl-proposal-points", PointProposal(8, 2, 4, 2), points(5, 2),
             [-5.1, 2.68882, 1.19688, 0.141071, -0.876073])


if __name__ == "__main__":
    main()
