#!/usr/bin/env python3
"""Make the checkpoints of test_import.c, and what their networks compute.

SPDX-License-Identifier: ISC

    make_import.py [FOLDER]             (made with PyTorch 2.13)

The networks are written here as modules with the names of the authors'
checkpoints, and evaluated in float64.  To keep files small, the tensors of a
.pth file are views of one storage, each at another place of it.

    icd-32.pth          zip      last weights and average, FLAGS as a Namespace
    icd-published.pth   legacy   average alone, FLAGS as an EasyDict
    icd-sum.safetensors          the published form for 32x32: a state dict, half precision
    icd-28.safetensors           the same for MNIST
    icd-spectral-32.pth, icd-spectral-128.pth   spectral norm: of all blocks, and of the
                                 large scale's alone; average, FLAGS
    energies.safetensors         of images that value() makes, by file and label
    types-zip.pth, types-legacy.pth, types-big.pth   tensors of all kinds
    types-legacy-4.pth  the legacy form by pickle protocol 4
"""
import argparse
import json
import os
import struct
import sys
import types
import zipfile

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from make_golden import write  # noqa: E402
from make_icd import value  # noqa: E402

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


# ---- networks, after section 4 and 7 of the paper's code ----

class WSConv(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = w - w.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.flatten(1).std(dim=1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, w, self.bias, padding=1)


def norm(c):
    return nn.InstanceNorm2d(c, affine=True) if c <= 128 else nn.GroupNorm(32, c)


def residual_conv(c, spectral):
    return nn.utils.spectral_norm(nn.Conv2d(c, c, 3, padding=1)) if spectral else WSConv(c, c, 3)


class Block(nn.Module):
    def __init__(self, c, labels, down=True, rescale=True, spectral=False):
        super().__init__()
        self.bn1, self.conv1 = norm(c), residual_conv(c, spectral)
        self.bn2, self.conv2 = norm(c), residual_conv(c, spectral)
        self.latent_map, self.latent_map_2 = nn.Linear(labels, 2 * c), nn.Linear(labels, 2 * c)
        if down:
            self.conv_downsample = nn.Conv2d(c, 2 * c if rescale else c, 3, padding=1)

    def forward(self, x, y):
        h = x
        for conv, bn, latent in ((self.conv1, self.bn1, self.latent_map),
                                 (self.conv2, self.bn2, self.latent_map_2)):
            h = bn(conv(h))
            if y is not None:
                gain, bias = latent(y)[:, :, None, None].chunk(2, 1)
                h = gain * h + bias
            h = F.silu(h)
        x = x + h
        if hasattr(self, "conv_downsample"):
            x = F.silu(F.avg_pool2d(self.conv_downsample(x), 3, stride=2, padding=1))
        return x


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.query_conv, self.key_conv = nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c // 8, 1)
        self.value_conv = nn.Conv2d(c, c, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        q, k, v = (f(x).flatten(2) for f in (self.query_conv, self.key_conv, self.value_conv))
        a = torch.softmax(q.transpose(1, 2) @ k, dim=-1)
        return self.gamma * (v @ a.transpose(1, 2)).view(x.shape) + x


KEEP, DOWN, RESCALE = (False, False), (True, False), (True, True)
LARGE_32 = [(1, KEEP), (1, DOWN), (1, KEEP), (1, RESCALE), (2, KEEP), (2, RESCALE), (4, KEEP), (4, RESCALE)]
LARGE_128 = [(.5, RESCALE), (1, DOWN), (1, DOWN), (1, RESCALE), (2, KEEP), (2, RESCALE), (4, KEEP), (4, RESCALE)]
BLOCKS = ["res_1a", "res_1b", "res_2a", "res_2b", "res_3a", "res_3b", "res_4a", "res_4b"]


class Net(nn.Module):
    """32: CIFAR-10; 128: CelebA-HQ; and the published form of each."""
    def __init__(self, size, w, labels, label_width=0, spectral=False):
        super().__init__()
        self.spectral = spectral
        self.size, self.published = size, label_width > 0
        if size == 128 or label_width:
            self.heir_weight = nn.Parameter(torch.ones(3))
        self.scales = {}
        table = LARGE_32 if size == 32 else LARGE_128
        wide = label_width or labels
        self.add("", table, int(w * table[0][0]), wide)
        self.self_attn = Attention(2 * w if size == 32 else 4 * w)
        if label_width:
            self.map_fc1 = nn.Linear(labels, label_width)
            for i in (2, 3, 4):
                setattr(self, "map_fc%d" % i, nn.Linear(label_width, label_width))
        first = [(1, DOWN if size == 128 else KEEP), (1, DOWN), (1, DOWN if size == 128 else KEEP), (1, RESCALE)]
        self.add("mid_", [(c * w, how) for c, how in first + [(2, KEEP), (2, RESCALE)]], w, wide, 1)
        self.add("small_", [(c * w, how) for c, how in first], w, wide, 1)
        self.w = w

    def add(self, prefix, table, first, labels, unit=None):
        unit = unit or (first if self.size == 32 else 2 * first)
        setattr(self, prefix + "conv1", nn.Conv2d(3, first, 3, padding=1))
        for name, (c, how) in zip(BLOCKS, table):
            spectral = self.spectral and (self.size == 32 or prefix == "")
            setattr(self, prefix + name, Block(int(c * unit), labels, *how, spectral))
        out = int(table[-1][0] * unit) * 2
        setattr(self, prefix + "energy_map", nn.Linear(out, 1))
        self.scales[prefix] = [prefix + n for n, _ in zip(BLOCKS, table)]

    def one(self, prefix, x, y):
        x = F.silu(getattr(self, prefix + "conv1")(x))
        attended = "res_2b" if self.size == 32 else "res_3b"
        for name in self.scales[prefix]:
            x = getattr(self, name)(x, y)
            if name == attended:
                x = self.self_attn(x)
        x = F.silu(x)
        large_sums = self.size == 32 and self.published and prefix == ""
        return getattr(self, prefix + "energy_map")(x.sum(dim=(2, 3)) if large_sums else x.mean(dim=(2, 3)))

    def smaller(self, x):
        if not self.published:
            return F.avg_pool2d(x, 3, stride=2, padding=1)
        row = torch.tensor([1., 2., 1.])
        f = (row[:, None] * row / 16).expand(3, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), f, stride=2, groups=3)

    def forward(self, x, y):
        if self.published and y is not None:
            for i in (1, 2, 3, 4):
                y = F.silu(getattr(self, "map_fc%d" % i)(y))
        half = self.smaller(x)
        parts = [self.one("", x, y), self.one("mid_", half, y), self.one("small_", self.smaller(half), y)]
        h = self.heir_weight if self.published else torch.ones(3)
        return sum(a * b for a, b in zip(h, parts))[:, 0]


class Digits(nn.Module):
    """28: MNIST, told no labels although it has maps for them."""
    def __init__(self, w):
        super().__init__()
        self.conv1 = nn.Conv2d(1, w, 3, padding=1)
        self.res1, self.res2, self.res3 = (Block(c * w, 512) for c in (1, 2, 4))
        self.energy_map = nn.Linear(8 * w, 1)

    def forward(self, x, y):
        x = F.silu(self.conv1(x))
        for block in (self.res1, self.res2, self.res3):
            x = block(x, None)
        return self.energy_map(F.silu(x).mean(dim=(2, 3)))[:, 0]


# ---- their weights ----

POOL = 5003


def views(net, name, seed):
    """All tensors as views of one storage: the n-th at 97 n + seed, around the end."""
    pool = (value(name, (2 * POOL,)) * 0.9).float()
    out = {}
    for n, (key, t) in enumerate(net.state_dict().items()):
        at = (97 * n + seed) % POOL
        assert t.numel() <= POOL
        flat = pool[at:at + t.numel()]
        if t.dim() == 4 and n % 3 == 0:        # as a transposed tensor lies
            o, i, r, s = t.shape
            out[key] = flat.view(o, r, s, i).permute(0, 3, 1, 2)
        else:
            out[key] = flat.view(t.shape)
    return out


def load(net, tensors):
    net.load_state_dict({k: v.double() for k, v in tensors.items()})
    return net


def some_images(size, channels):
    """Two, the second brighter, both brighter below."""
    x = (value("x", (2, size, size, channels)) + 1) / 2
    row = torch.arange(size)[:, None, None] / size
    x = x * (torch.arange(2)[:, None, None, None] + 1 + row) / 3
    return x.float().double().permute(0, 3, 1, 2)


def energies(net, size, channels, labels):
    x = some_images(size, channels)
    with torch.no_grad():
        if not labels:
            return net(x, None)
        return torch.cat([net(x, F.one_hot(torch.full((2,), y), labels).double()) for y in range(labels)])


def write_halves(path, tensors):
    header, data = {}, b""
    for name, a in tensors.items():
        raw = a.numpy().astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(a.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


class EasyDict(dict):
    """As the module of this name has it: a dictionary with attributes."""
    def __init__(self, d):
        super().__init__(d)
        self.__dict__.update(d)


def foreign_module():
    m = types.ModuleType("easydict")
    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    m.EasyDict = EasyDict
    sys.modules["easydict"] = m


def optimiser(net):
    p = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(()))]
    adam = torch.optim.Adam(p, lr=2e-4, betas=(0., .9))
    sum((q.sum() for q in p)).backward()
    adam.step()
    return adam.state_dict()


def spectral(folder, size, results):
    """Vectors as after a few steps of training, in which each forward pass is one
    power iteration."""
    name = "icd-spectral-%d" % size
    net = Net(size, 4, 2, spectral=True)
    vectors = {k: v for k, v in net.state_dict().items() if k.endswith(("_u", "_v"))}
    torch.manual_seed(size)
    for v in vectors.values():
        v.copy_(F.normalize(torch.randn(v.shape), dim=0))
    load(net, {**views(net, name, 23), **{k: v.float() for k, v in vectors.items()}})
    energies(net.train(), size, 3, 2)
    mean = {**views(net, name, 23), **{k: v.clone().float() for k, v in vectors.items()}}
    flags = argparse.Namespace(cond=True, multiscale=True, self_attn=True, norm=True, spec_norm=True,
                               square_energy=False, dataset="cifar10" if size == 32 else "celeba", step_lr=10.0)
    torch.save({"FLAGS": flags, "ema_model_state_dict_0": mean}, os.path.join(folder, name + ".pth"))
    results[name] = energies(load(net, mean).eval(), size, 3, 2)


def checkpoints(folder):
    results = {}
    net = Net(32, 4, 3)
    last, mean = views(net, "icd-32", 11), views(net, "icd-32", 41)
    blur = {"downsample.filt": torch.ones(3, 1, 3, 3).float(), "avg_pool.filt": torch.ones(3, 1, 3, 3).float()}
    flags = argparse.Namespace(cond=True, multiscale=True, self_attn=True, norm=True, spec_norm=False,
                               square_energy=False, dataset="cifar10", step_lr=10.0, lr=2e-4)
    torch.save({"optimizer_state_dict": optimiser(net), "FLAGS": flags, "best_inception": np.float64(6.5),
                "model_state_dict_0": {"module." + k: v for k, v in {**last, **blur}.items()},
                "ema_model_state_dict_0": {"module." + k: v for k, v in {**mean, **blur}.items()}},
               os.path.join(folder, "icd-32.pth"))
    results["icd-32"] = energies(load(net, mean), 32, 3, 3)
    results["icd-32 without labels"] = energies(net, 32, 3, 0)
    results["icd-32 last"] = energies(load(net, last), 32, 3, 3)

    net = Net(128, 4, 2, label_width=6)
    mean = views(net, "icd-published", 5)
    flags = EasyDict({"cond": True, "spec_norm": True, "multiscale": True, "dataset": "celeba", "step_lr": 500.0})
    torch.save({"FLAGS": flags, "ema_model_state_dict_0": {**mean, **blur}, "epoch": 3},
               os.path.join(folder, "icd-published.pth"), _use_new_zipfile_serialization=False)
    results["icd-published"] = energies(load(net, mean), 128, 3, 2)

    net = Net(32, 4, 2, label_width=3)
    small = {k: (value(k, v.shape) * 0.9).half() for k, v in net.state_dict().items()}
    write_halves(os.path.join(folder, "icd-sum.safetensors"), small)
    results["icd-sum"] = energies(load(net, small), 32, 3, 2)

    net = Digits(4)
    small = {k: (value(k, v.shape) * 0.9).half() for k, v in net.state_dict().items()
             if "latent" not in k}
    write_halves(os.path.join(folder, "icd-28.safetensors"), small)
    net.load_state_dict({k: v.double() for k, v in small.items()}, strict=False)
    results["icd-28"] = energies(net, 28, 1, 0)
    for size in (32, 128):
        spectral(folder, size, results)
    for k, v in results.items():
        print(k, v.numpy())
    write(os.path.join(folder, "energies.safetensors"), results, {})


# ---- tensors of all kinds ----

def kinds():
    base = torch.arange(24)
    t = {}
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
                  torch.int16, torch.int8, torch.uint8):
        t[str(dtype)[6:]] = (base - (0 if dtype == torch.uint8 else 5)).to(dtype).view(2, 3, 4)
    t["bool"] = base % 3 == 0
    shared = (base * 2).float()
    t["transposed"] = shared.view(4, 6).t()
    t["part"] = shared[5:9]
    t["step"] = shared.view(4, 6)[1::2, ::3]
    t["expanded"] = torch.tensor([3.]).float().expand(2, 5)
    t["scalar"] = torch.tensor(7.).float()
    t["empty"] = torch.zeros(0, 3).float()
    t["parameter"] = nn.Parameter(shared[:3].clone())
    return {"kinds": t, "nested": {"list": [t["part"], {1: t["scalar"]}], "same": t["part"]},
            "text": "none", "complex": torch.zeros(2, dtype=torch.complex64)}


def big_endian(little, big):
    """The same archive as a machine of the other byte order would write it."""
    width = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}
    content = torch.load(little, weights_only=False)
    sizes = {}
    by_pointer = {}
    for t in [*content["kinds"].values(), content["complex"]]:
        by_pointer[bytes(t.untyped_storage())] = width.get(str(t.dtype)[6:], 4 if t.is_complex() else 1)
    with zipfile.ZipFile(little) as a, zipfile.ZipFile(big, "w") as b:
        for m in a.namelist():
            data = a.read(m)
            if m.endswith("/byteorder"):
                data = b"big"
            elif "/data/" in m:
                sizes[m] = w = by_pointer[data]
                data = np.frombuffer(data, "u1").reshape(-1, w)[:, ::-1].tobytes()
            b.writestr(zipfile.ZipInfo(m), data)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    foreign_module()
    checkpoints(folder)
    torch.save(kinds(), os.path.join(folder, "types-zip.pth"))
    torch.save(kinds(), os.path.join(folder, "types-legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save(kinds(), os.path.join(folder, "types-legacy-4.pth"), pickle_protocol=4,
               _use_new_zipfile_serialization=False)
    big_endian(os.path.join(folder, "types-zip.pth"), os.path.join(folder, "types-big.pth"))


if __name__ == "__main__":
    main()
