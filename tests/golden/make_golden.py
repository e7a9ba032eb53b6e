#!/usr/bin/env python3
"""Make the golden files of test_golden.c and test_optim.c with PyTorch.

SPDX-License-Identifier: ISC

    make_golden.py [FOLDER]          (made with PyTorch 2.13)

Each file holds one network or optimiser: inputs, weights, states, and what an
independent implementation makes of them.  Inputs and weights are float32
numbers; PyTorch computes in float64 and the results are rounded once, so the
files are exact to float32.  Names and layouts are those of libebm: images NHWC,
filters [out,r,s,in], and a network's description in the metadata.

    x, t           inputs              y            the output
    param.NAME     weights             dy           weights of the loss sum(dy y)
    state.NAME     states before       loss         (where it is not that sum)
    after.NAME     states after        dx, grad.NAME   gradients of the loss
"""
import json
import math
import os
import struct
import sys

import torch
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def rounded(a):
    """The nearest float32 numbers, as float64."""
    return a.to(torch.float32).to(torch.float64)


def draw(*shape, scale=1.0):
    return rounded(torch.randn(*shape) * scale)


def ours(a):
    """NCHW to NHWC, OIHW to [o,r,s,i]; others stay."""
    a = a.detach()
    return a.permute(0, 2, 3, 1) if a.dim() == 4 else a


def write(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, a in tensors.items():
        raw = a.contiguous().to(torch.float32).numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(a.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


# ---- layers that PyTorch lacks, or has in another layout ----

class Flatten(nn.Module):
    """Features in the order of NHWC."""
    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Sum(nn.Module):
    def forward(self, x):
        return x.sum((2, 3))


class Res(nn.Module):
    def __init__(self, body, shortcut=None, half=False, before=None):
        super().__init__()
        for name, layer in body.named_children():
            self.add_module(name, layer)
        self.order = [name for name, _ in body.named_children()]
        self.before, self.half = before, half
        if shortcut is not None:
            self.shortcut = shortcut

    def forward(self, x):
        y = x
        for name in self.order:
            y = getattr(self, name)(y)
        s = x if self.before is None else self.before(x)
        if hasattr(self, "shortcut"):
            s = self.shortcut(s)
        return (s + y) / math.sqrt(2) if self.half else s + y


class Attention(nn.Module):
    def __init__(self, c, heads=1, key=None, value=None, scaled=True, gamma=False, out=True,
                 bias=True, residual=True):
        super().__init__()
        self.heads, self.k, self.v, self.scaled = heads, key or c, value or c, scaled
        self.residual = residual
        self.query = nn.Linear(c, self.k, bias=bias)
        self.key = nn.Linear(c, self.k, bias=bias)
        self.value = nn.Linear(c, self.v, bias=bias)
        if out:
            self.out = nn.Linear(self.v, c, bias=bias)
        if gamma:
            self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        n, c, h, w = x.shape
        t = x.permute(0, 2, 3, 1).reshape(n, h * w, c)

        def split(a):
            return a.reshape(n, h * w, self.heads, -1).transpose(1, 2)
        q, k, v = split(self.query(t)), split(self.key(t)), split(self.value(t))
        scale = (self.k // self.heads) ** -0.5 if self.scaled else 1.0
        y = torch.softmax(scale * q @ k.transpose(2, 3), 3) @ v
        y = y.transpose(1, 2).reshape(n, h * w, self.v)
        if hasattr(self, "out"):
            y = self.out(y)
        if hasattr(self, "gamma"):
            y = y * self.gamma
        y = y.reshape(n, h, w, c).permute(0, 3, 1, 2)
        return x + y if self.residual else y


class StandardConv(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class LayerNorm(nn.Module):
    """Over all of an image, with the weight in the order of NHWC."""
    def __init__(self, h, w, c):
        super().__init__()
        self.shape = [h, w, c]
        self.weight = nn.Parameter(torch.ones(h, w, c))
        self.bias = nn.Parameter(torch.zeros(h, w, c))

    def forward(self, x):
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.shape, self.weight, self.bias)
        return y.permute(0, 3, 1, 2)


def spectral(layer):
    return nn.utils.spectral_norm(layer)


def named(*layers):
    """A sequence whose layers bear libebm's names: ("conv1", layer), or a plain
    function's module."""
    s, plain = nn.Sequential(), 0
    for layer in layers:
        if isinstance(layer, tuple):
            s.add_module(*layer)
        else:
            plain += 1
            s.add_module("plain%d" % plain, layer)
    return s


# ---- networks ----

def networks():
    """(name, description, module, input shape NCHW, training)"""
    conv = nn.Conv2d
    yield ("residual",
           "conv:8 silu res(silu conv:8 silu conv:12 avgpool:2) "
           "res:half(relu conv:12,nobias relu conv:12,s2) relu sum linear:1",
           named(("conv1", conv(3, 8, 3, padding=1)), nn.SiLU(),
                 ("res1", Res(named(nn.SiLU(), ("conv1", conv(8, 8, 3, padding=1)), nn.SiLU(),
                                    ("conv2", conv(8, 12, 3, padding=1)), nn.AvgPool2d(2)),
                              shortcut=conv(8, 12, 1), before=nn.AvgPool2d(2))),
                 ("res2", Res(named(nn.ReLU(), ("conv1", conv(12, 12, 3, padding=1, bias=False)),
                                    nn.ReLU(), ("conv2", conv(12, 12, 3, 2, 1))),
                              before=nn.AvgPool2d(2), half=True)),
                 nn.ReLU(), Sum(), ("linear1", nn.Linear(12, 1))),
           (2, 3, 8, 8), True)
    yield ("attention",
           "conv:8 attention:2 silu attention:1,k2,unscaled,gamma,noout silu mean linear:1",
           named(("conv1", conv(3, 8, 3, padding=1)), ("attention1", Attention(8, 2)), nn.SiLU(),
                 ("attention2", Attention(8, 1, 2, scaled=False, gamma=True, out=False)),
                 nn.SiLU(), Mean(), ("linear1", nn.Linear(8, 1))),
           (2, 3, 5, 4), True)
    for training in (True, False):
        yield ("spectral-norm-" + ("training" if training else "evaluation"),
               "sn conv:6,k3,s2,p1 silu deconv:4,k4,s2,p1 silu flatten linear:5 silu linear:1,plain",
               named(("conv1", spectral(conv(3, 6, 3, 2, 1))), nn.SiLU(),
                     ("deconv1", spectral(nn.ConvTranspose2d(6, 4, 4, 2, 1))), nn.SiLU(),
                     Flatten(), ("linear1", spectral(nn.Linear(144, 5))), nn.SiLU(),
                     ("linear2", nn.Linear(5, 1))),
               (3, 3, 6, 6), training)
    yield ("group-norm",
           "conv:8 groupnorm:4 silu conv:8,nobias groupnorm:2,e1e-6 silu mean linear:2",
           named(("conv1", conv(3, 8, 3, padding=1)), ("groupnorm1", nn.GroupNorm(4, 8)), nn.SiLU(),
                 ("conv2", conv(8, 8, 3, padding=1, bias=False)),
                 ("groupnorm2", nn.GroupNorm(2, 8, eps=1e-6)), nn.SiLU(), Mean(),
                 ("linear1", nn.Linear(8, 2))),
           (2, 3, 6, 5), True)
    yield ("layer-norm", "conv:4,s2 layernorm gelu flatten linear:6 layernorm tanh linear:1",
           named(("conv1", conv(3, 4, 3, 2, 1)), ("layernorm1", LayerNorm(3, 3, 4)),
                 nn.GELU(approximate="tanh"), Flatten(), ("linear1", nn.Linear(36, 6)),
                 ("layernorm2", nn.LayerNorm(6)), nn.Tanh(), ("linear2", nn.Linear(6, 1))),
           (3, 3, 6, 6), True)
    yield ("instance-norm", "ws conv:6 instnorm silu conv:6 instnorm silu ws:off conv:4,k1 mean",
           named(("conv1", StandardConv(3, 6, 3, padding=1)),
                 ("instnorm1", nn.InstanceNorm2d(6, affine=True)), nn.SiLU(),
                 ("conv2", StandardConv(6, 6, 3, padding=1)),
                 ("instnorm2", nn.InstanceNorm2d(6, affine=True)), nn.SiLU(),
                 ("conv3", conv(6, 4, 1)), Mean()),
           (2, 3, 6, 6), True)
    for training in (True, False):
        yield ("batch-norm-" + ("training" if training else "frozen"),
               "conv:6,nobias batchnorm leaky:0.2 conv:6 batchnorm:e1e-3 elu flatten linear:3 batchnorm",
               named(("conv1", conv(3, 6, 3, padding=1, bias=False)),
                     ("batchnorm1", nn.BatchNorm2d(6)), nn.LeakyReLU(0.2),
                     ("conv2", conv(6, 6, 3, padding=1)),
                     ("batchnorm2", nn.BatchNorm2d(6, eps=1e-3)), nn.ELU(), Flatten(),
                     ("linear1", nn.Linear(96, 3)), ("batchnorm3", nn.BatchNorm1d(3))),
               (4, 3, 4, 4), training)
    yield ("conv-transpose",
           "linear:4 deconv:6,k4,s2,p1 silu deconv:4,k3,s2,p1,o1 silu deconv:2,k3,s1,p0,d2,g2 tanh",
           named(("linear1", nn.Conv2d(3, 4, 1)), ("deconv1", nn.ConvTranspose2d(4, 6, 4, 2, 1)),
                 nn.SiLU(), ("deconv2", nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1)),
                 nn.SiLU(), ("deconv3", nn.ConvTranspose2d(4, 2, 3, groups=2, dilation=2)), nn.Tanh()),
           (2, 3, 3, 2), True)
    yield ("conv",
           "conv:8,k3,s2,p1 softplus conv:8,k3,d2,p2,g4 silu conv:6,k5,s3,p0,g2 sigmoid conv:4,k2,p1,nobias",
           named(("conv1", conv(3, 8, 3, 2, 1)), nn.Softplus(),
                 ("conv2", conv(8, 8, 3, padding=2, dilation=2, groups=4)), nn.SiLU(),
                 ("conv3", conv(8, 6, 5, 3, groups=2)), nn.Sigmoid(),
                 ("conv4", conv(6, 4, 2, padding=1, bias=False))),
           (2, 3, 17, 16), True)
    yield ("pooling",
           "conv:6 maxpool:3,s2,p1 silu avgpool:3,s2,p1 conv:4 maxpool:2 silu sum linear:1",
           named(("conv1", conv(2, 6, 3, padding=1)), nn.MaxPool2d(3, 2, 1), nn.SiLU(),
                 nn.AvgPool2d(3, 2, 1), ("conv2", conv(6, 4, 3, padding=1)), nn.MaxPool2d(2),
                 nn.SiLU(), Sum(), ("linear1", nn.Linear(4, 1))),
           (2, 2, 16, 15), True)
    yield ("resampling",
           "conv:4 up:2 silu conv:4 up:3,bilinear silu conv:2,k5,s5,p0 flatten linear:1",
           named(("conv1", conv(3, 4, 3, padding=1)), nn.Upsample(scale_factor=2), nn.SiLU(),
                 ("conv2", conv(4, 4, 3, padding=1)),
                 nn.Upsample(scale_factor=3, mode="bilinear"), nn.SiLU(),
                 ("conv3", conv(4, 2, 5, 5)), Flatten(), ("linear1", nn.Linear(24, 1))),
           (2, 3, 4, 3), True)


class Film(nn.Module):
    """conv, FiLM by the sinusoidal embedding of t, SiLU, mean, linear."""
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.embed = nn.Linear(8, 10)
        self.film = nn.Linear(10, 12)
        self.linear = nn.Linear(6, 1)

    def forward(self, x, t):
        f = torch.exp(-torch.arange(4.0) * math.log(10000.0) / 3)
        a = t[:, None] * f
        e = F.silu(self.embed(torch.cat([a.sin(), a.cos()], 1)))
        gain, bias = self.film(e).chunk(2, 1)
        h = self.conv(x)
        h = F.silu(h * (1 + gain[:, :, None, None]) + bias[:, :, None, None])
        return self.linear(h.mean((2, 3)))


class Classes(nn.Module):
    """The log of the sum of exponentials of logits, and their softmax."""
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 7)

    def forward(self, x):
        z = 4 * self.linear(x.permute(0, 2, 3, 1).flatten(1))
        return torch.cat([z.logsumexp(1, keepdim=True), z.softmax(1)], 1)


# ---- one file ----

def libebm_name(name):
    return name.replace("weight_orig", "weight")


def stored(name, a, module):
    """A parameter or state in libebm's layout."""
    if name.endswith("weight_v") and a.dim() == 1:
        weight = module.get_parameter(name.replace("weight_v", "weight_orig"))
        if weight.dim() == 4:           # columns c r s to r s c, or with the input first
            o, c, r, s = weight.shape
            transposed = "deconv" in name
            first = o if transposed else c
            return a.reshape(first, r, s) if transposed else \
                a.reshape(c, r, s).permute(1, 2, 0)
    return ours(a)


def flat(name, a):
    return a.reshape(-1) if name.endswith(("weight_v", "weight_u")) else a


def states_of(module):
    return {n: b for n, b in module.named_buffers() if "num_batches" not in n}


def settle(module):
    """Weights that are float32 numbers, none of them special."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "norm" in name or name.endswith("gamma"):
                p.copy_(torch.randn(p.shape) * 0.3 + (0 if "bias" in name else 1))
            p.copy_(rounded(p))
        for name, b in states_of(module).items():
            if "running_mean" in name:
                b.copy_(torch.randn(b.shape) * 0.2)
            if "running_var" in name:
                b.copy_(torch.rand(b.shape) + 0.5)
            b.copy_(rounded(b))


def before(module):
    tensors = {}
    for name, p in module.named_parameters():
        a = stored(name, p, module)
        if name == "linear1.weight" and p.dim() == 4:
            a = a.reshape(p.shape[0], p.shape[1])
        tensors["param." + libebm_name(name)] = a.clone()
    for name, b in states_of(module).items():
        tensors["state." + name] = flat(name, stored(name, b, module)).clone()
    return tensors


def gradients(module, tensors, loss, x):
    params = dict(module.named_parameters())
    found = torch.autograd.grad(loss, [x] + list(params.values()), allow_unused=True)
    if found[0] is not None:
        tensors["dx"] = ours(found[0])
    for (name, p), dp in zip(params.items(), found[1:]):
        a = ours(torch.zeros_like(p) if dp is None else dp)
        if name == "linear1.weight" and p.dim() == 4:
            a = a.reshape(p.shape[0], p.shape[1])
        tensors["grad." + libebm_name(name)] = a


def network_file(folder, name, description, module, shape, training, extra=()):
    settle(module)
    x = draw(*shape).requires_grad_()
    if "sn" in description.split() and not training:
        for _ in range(5):       # as after some training: sigma far from 0
            module(x)
        with torch.no_grad():
            for _, b in states_of(module).items():
                b.copy_(rounded(b))
    module.train(training)
    tensors = {"x": ours(x)}
    tensors.update({k: v for k, v in extra})
    tensors.update(before(module))
    y = module(x, *[v for _, v in extra])
    dy = draw(*y.shape)
    tensors["y"], tensors["dy"] = ours(y), ours(dy)
    gradients(module, tensors, (dy * y).sum(), x)
    for state, b in states_of(module).items():
        tensors["after." + state] = flat(state, stored(state, b, module))
    write(os.path.join(folder, name + ".safetensors"), tensors,
          {"network": description, "training": str(int(training))})


# ---- second order ----

SMOOTH = "conv:6 groupnorm:2 silu attention:1 silu conv:6,s2 silu mean linear:1"


def smooth():
    return named(("conv1", nn.Conv2d(3, 6, 3, padding=1)), ("groupnorm1", nn.GroupNorm(2, 6)),
                 nn.SiLU(), ("attention1", Attention(6)), nn.SiLU(),
                 ("conv2", nn.Conv2d(6, 6, 3, 2, 1)), nn.SiLU(), Mean(),
                 ("linear1", nn.Linear(6, 1)))


def r1_file(folder):
    """loss = mean over images of the squared norm of dE/dx."""
    module = smooth()
    settle(module)
    x = draw(3, 3, 6, 6).requires_grad_()
    tensors = {"x": ours(x), **before(module)}
    g, = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    loss = (g ** 2).sum((1, 2, 3)).mean()
    tensors["y"], tensors["loss"] = ours(g), loss.detach().reshape(1)
    gradients(module, tensors, loss, x)
    write(os.path.join(folder, "r1-penalty.safetensors"), tensors, {"network": SMOOTH})


def langevin_file(folder):
    """loss = mean E_frozen(x - 10 dE/dx): the gradient through one Langevin step
    (the KL term of improved contrastive divergence)."""
    module = smooth()
    settle(module)
    x = draw(3, 3, 6, 6).requires_grad_()
    tensors = {"x": ours(x), **before(module)}
    g, = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    moved = x - 10 * g
    frozen = {n: p.detach() for n, p in module.named_parameters()}
    loss = torch.func.functional_call(module, frozen, (moved,)).mean()
    tensors["y"], tensors["loss"] = ours(moved), loss.detach().reshape(1)
    gradients(module, tensors, loss, x)
    write(os.path.join(folder, "langevin-step.safetensors"), tensors, {"network": SMOOTH})


# ---- optimisers: 20 steps on two tensors, given gradients ----

STEPS = 20


def optimiser_file(folder, name, make, ema=None, schedule=None, clip=None, keras=None):
    """w.K and grad.K: tensors before and their gradients [STEPS,...]; after.K: [STEPS,...]"""
    shapes = {"a": (3, 5), "b": (7,)}
    params = {k: nn.Parameter(draw(*s)) for k, s in shapes.items()}
    grads = {k: draw(STEPS, *s, scale=0.1) for k, s in shapes.items()}
    tensors = {"w." + k: p.detach().clone() for k, p in params.items()}
    tensors.update({"grad." + k: g for k, g in grads.items()})
    average = {k: p.detach().clone() for k, p in params.items()}
    after = {k: [] for k in shapes}
    averages = {k: [] for k in shapes}
    optimiser = make(list(params.values())) if make else None
    moments = {k: (torch.zeros(s), torch.zeros(s)) for k, s in shapes.items()}
    for n in range(STEPS):
        for k, p in params.items():
            p.grad = grads[k][n].clone()
        if clip:
            nn.utils.clip_grad_norm_(list(params.values()), clip)
        if schedule:
            for group in optimiser.param_groups:
                group["lr"] = schedule(n)
        if keras:
            lr, b1, b2, eps = keras
            rate = lr * math.sqrt(1 - b2 ** (n + 1)) / (1 - b1 ** (n + 1))
            with torch.no_grad():
                for k, p in params.items():
                    m, v = moments[k]
                    m.copy_(b1 * m + (1 - b1) * p.grad)
                    v.copy_(b2 * v + (1 - b2) * p.grad ** 2)
                    p -= rate * m / (v.sqrt() + eps)
        else:
            optimiser.step()
        for k, p in params.items():
            if ema:
                d = ema(n + 1)
                average[k] = d * average[k] + (1 - d) * p.detach()
                averages[k].append(average[k].clone())
            after[k].append(p.detach().clone())
    for k in shapes:
        tensors["after." + k] = torch.stack(after[k])
        if ema:
            tensors["ema." + k] = torch.stack(averages[k])
    write(os.path.join(folder, name + ".safetensors"), tensors, {"optimiser": name})


def optimisers(folder):
    optim = torch.optim
    optimiser_file(folder, "adam-ema", lambda p: optim.Adam(p, 1e-2), ema=lambda t: 0.9,
                   clip=0.5)
    optimiser_file(folder, "adam-beta0-warmup-ema",
                   lambda p: optim.Adam(p, 2e-3, (0.0, 0.99)), schedule=lambda n: 2e-3 * min(1, n / 8),
                   ema=lambda t: min(0.999, (1 + t) / (10 + t)))
    optimiser_file(folder, "adam-decay", lambda p: optim.Adam(p, 1e-2, weight_decay=0.1))
    optimiser_file(folder, "adamw", lambda p: optim.AdamW(p, 1e-2, weight_decay=0.1),
                   schedule=lambda n: 1e-2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(n, 16) / 16))))
    optimiser_file(folder, "sgd-momentum", lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.01))
    optimiser_file(folder, "sgd-nesterov", lambda p: optim.SGD(p, 0.1, 0.9, nesterov=True),
                   schedule=lambda n: 0.1 * 0.5 ** (n // 6))
    optimiser_file(folder, "keras-adam", None, keras=(1e-2, 0.9, 0.999, 1e-7))


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.manual_seed(20)
    for name, description, module, shape, training in networks():
        network_file(folder, name, description, module, shape, training)
    t = rounded(torch.tensor([0.3, 5.0, 250.5]))
    network_file(folder, "film", "", Film(), (3, 3, 4, 4), True, extra=[("t", t)])
    network_file(folder, "softmax", "", Classes(), (3, 3, 2, 2), True)
    r1_file(folder)
    langevin_file(folder)
    optimisers(folder)
    block = Res(named(("groupnorm1", nn.GroupNorm(4, 8, eps=1e-6)),
                      ("attention1", Attention(8, 4, 8, 16, bias=False, residual=False))))
    network_file(folder, "attention-block",
                 "conv:8,k1 res(groupnorm:4,e1e-6 attention:4,k8,v16,nobias,nores) silu sum linear:1",
                 named(("conv1", nn.Conv2d(3, 8, 1)), ("res1", block), nn.SiLU(), Sum(),
                       ("linear1", nn.Linear(8, 1))), (2, 3, 4, 4), True)


main()
