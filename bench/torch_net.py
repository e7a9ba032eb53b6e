"""torch_net.py - the descriptions of ebm_sequential() as PyTorch modules.

SPDX-License-Identifier: ISC

The layers that bench/works.c uses, with the same names of weights, so that a
file of weights fits.  Images are NCHW in channels-last memory or plain.
"""
import json
import re
import struct

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def read_safetensors(path):
    """Float32 tensors of a file, by name."""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: torch.from_numpy(np.frombuffer(data, np.float32, offset=t["data_offsets"][0],
                count=int(np.prod(t["shape"], dtype=np.int64))).reshape(t["shape"]).copy())
            for name, t in header.items() if t["dtype"] == "F32"}


def nchw(x):
    """[n,h,w,c] as [n,c,h,w]; the memory stays."""
    return x.permute(0, 3, 1, 2)


class Net(nn.Module):
    """A list of layers; `weights` has theirs under prefix + name."""

    def __init__(self, text, weights, channels, size, prefix="energy/", numbers=None):
        super().__init__()
        self.layers = nn.ModuleList()
        self.channels, self.size, self.flat = channels, size, False
        self.weights, self.prefix = weights, prefix
        self.numbers = {} if numbers is None else numbers
        self.ordered = []            # parameters in the order of declaration
        for item in split(text):
            self.add(item)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def name(self, kind):
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        return "%s%s%d" % (self.prefix, kind, self.numbers[kind])

    def fill(self, layer, name):
        w = self.weights[name + ".weight"]
        if isinstance(layer, nn.Conv2d):
            w = w.permute(0, 3, 1, 2)
        with torch.no_grad():
            layer.weight.copy_(w.reshape(layer.weight.shape))
            self.ordered.append(layer.weight)
            if layer.bias is not None:
                layer.bias.copy_(self.weights[name + ".bias"])
                self.ordered.append(layer.bias)
        self.layers.append(layer)

    def inner(self, text, prefix, numbers=None):
        net = Net(text, self.weights, self.channels, self.size, prefix, numbers)
        self.ordered += net.ordered
        return net

    def add(self, item):
        kind = re.match(r"[a-z]+", item)
        kind = kind.group() if kind else ""
        if "(" in item:
            return self.add_block(kind, item)
        args = item[len(kind) + 1:].split(",") if len(item) > len(kind) else []
        number = next((int(a) for a in args if a.isdigit()), 0)
        letter = {a[0]: int(a[1:]) for a in args if re.fullmatch(r"[a-z]\d+", a)}
        if kind == "conv":
            k, s = letter.get("k", 3), letter.get("s", 1)
            d = letter.get("d", 1)
            pad = letter.get("p", d * (k - 1) // 2)
            self.fill(nn.Conv2d(self.channels, number, k, s, pad, d, letter.get("g", 1)), self.name(kind))
            self.channels, self.size = number, (self.size + 2 * pad - d * (k - 1) - 1) // s + 1
        elif kind == "linear":
            self.fill(nn.Linear(self.channels, number), self.name(kind))
            self.channels = number
        elif kind == "groupnorm":
            self.fill(nn.GroupNorm(number, self.channels), self.name(kind))
        elif kind == "instnorm":
            self.fill(nn.GroupNorm(self.channels, self.channels), self.name(kind))
        elif kind == "layernorm":
            self.fill(LayerNorm(self.weights[self.prefix + "layernorm1.weight"].shape), self.name(kind))
        elif kind == "batchnorm":
            name = self.name(kind)
            self.fill(nn.BatchNorm2d(self.channels).eval(), name)
        elif kind == "attention":
            self.layers.append(Attention(self, self.name(kind)))
        elif kind in ("avgpool", "maxpool"):
            s, pad = letter.get("s", number), letter.get("p", 0)
            pool = nn.AvgPool2d if kind == "avgpool" else nn.MaxPool2d
            self.layers.append(pool(number, s, pad))
            self.size = (self.size + 2 * pad - number) // s + 1
        elif kind == "up":
            mode = "bilinear" if "bilinear" in args else "nearest"
            self.layers.append(nn.Upsample(scale_factor=number, mode=mode))
            self.size *= number
        elif kind in ("mean", "sum"):
            self.layers.append(Space(kind))
        elif kind == "flatten":
            self.layers.append(Flatten())
            self.channels *= self.size * self.size
        elif kind == "affine":
            self.layers.append(Affine(float(args[0]), float(args[1])))
        else:
            self.layers.append({"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh,
                                "leaky": lambda: nn.LeakyReLU(0.2)}[kind]())

    def add_block(self, kind, item):
        head, body = item[:item.index("(")], item[item.index("(") + 1:-1]
        if kind == "repeat":
            for _ in range(int(head.split(":")[1])):
                for part in split(body):
                    self.add(part)
        elif kind == "res":
            name = self.name(kind)
            before, size = self.channels, self.size
            net = self.inner(body, name + ".")
            skip = None
            if name + ".shortcut.weight" in self.weights:
                skip = nn.Conv2d(before, net.channels, 1)
            self.layers.append(Residual(net, skip, size // net.size))
            if skip is not None:
                self.fill(skip, name + ".shortcut")
                del self.layers[-1]      # it is the residual's
            self.channels, self.size = net.channels, net.size
        else:
            name = self.name(kind)
            nets = [self.inner(b, "%s.%d." % (name, i + 1)) for i, b in enumerate(split(body, "|"))]
            self.layers.append(Sum(nets) if kind == "add" else Joined(nets))
            self.size = nets[0].size
            self.channels = nets[0].channels if kind == "add" else sum(n.channels for n in nets)


def split(text, at=" "):
    """Items of a description, brackets kept whole."""
    items, depth, item = [], 0, ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == at and depth == 0:
            items.append(item.strip())
            item = ""
        else:
            item += c
    items.append(item.strip())
    return [i for i in items if i] if at == " " else items


class Residual(nn.Module):
    def __init__(self, net, skip, pool):
        super().__init__()
        self.net, self.skip, self.pool = net, skip, pool

    def forward(self, x):
        y = self.net(x)
        if self.pool > 1:
            x = F.avg_pool2d(x, self.pool)
        return y + (self.skip(x) if self.skip is not None else x)


class Sum(nn.Module):
    def __init__(self, nets):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x):
        return sum(net(x) for net in self.nets)


class Joined(Sum):
    def forward(self, x):
        return torch.cat([net(x) for net in self.nets], 1)


class Space(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.mean = kind == "mean"

    def forward(self, x):
        return x.mean((2, 3)) if self.mean else x.sum((2, 3))


class Flatten(nn.Module):
    def forward(self, x):                # NHWC order, as the weights have it
        return x.permute(0, 2, 3, 1).flatten(1)


class Affine(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        return self.a * x + self.b


class LayerNorm(nn.LayerNorm):
    """Over h, w and c, in that order."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """One head over the pixels, added to the image."""

    def __init__(self, net, name):
        super().__init__()
        self.maps = nn.ModuleList()
        c = net.channels
        for part in ("query", "key", "value", "out"):
            net.fill(nn.Linear(c, c), name + "." + part)
            self.maps.append(net.layers[-1])
            del net.layers[-1]

    def forward(self, x):
        n, c, h, w = x.shape
        t = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = (m(t) for m in self.maps[:3])
        t = self.maps[3](F.scaled_dot_product_attention(q, k, v))
        return x + t.reshape(n, h, w, c).permute(0, 3, 1, 2)
