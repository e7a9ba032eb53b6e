"""torch_icd.py - improved contrastive divergence in PyTorch, eager, float32.

SPDX-License-Identifier: ISC

The method of Du, Li, Tenenbaum and Mordatch 2021 as one writes it with PyTorch,
for bench/compare_icd.py: the networks of icd.net = 28 and 32, both losses, the
buffer, the augmentation of chains, Adam, the average of weights and the sampler.
Settings are those of a recipe file of ebm-train, by their names; what is not
here (labels, spectral norm, the reservoir, the guard) is refused or has no part.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


def read_recipe(path):
    """The settings of a run by name, as text."""
    lines = [line.split("#")[0] for line in open(path, encoding="utf-8")]
    return {key.strip(): value.strip() for key, value in (line.split("=", 1) for line in lines if "=" in line)}


class Settings:
    """Numbers of a recipe."""

    def __init__(self, recipe):
        self.recipe = recipe
        wanted = {"method": "icd", "precision": "fp32", "icd.labels": "0", "icd.spectral_norm": "false",
                  "icd.published": "false", "icd.norm": "true", "icd.scales": "true", "icd.attention": "true",
                  "icd.kl_images": "0", "buffer.keep": "ring", "optimiser.kind": "adam", "optimiser.warmup": "0",
                  "optimiser.weight_decay": "0", "data.low": "0", "data.high": "1", "data.flip": "false",
                  "data.shift": "0", "data.dequantise": "true"}
        for key, value in wanted.items():
            if recipe[key] != value:
                raise SystemExit("%s = %s: only %s is written here" % (key, recipe[key], value))

    def __call__(self, key):
        return float(self.recipe[key])

    def whole(self, key):
        return int(self.recipe[key])

    def both(self, key):
        return [float(part) for part in self.recipe[key].split(",")]

    def true(self, key):
        return self.recipe[key] == "true"

    def rate(self, progress):
        """The learning rate where such a part of the run is over."""
        start, end = self("optimiser.decay_from"), self("optimiser.decay_to")
        t = min(max((progress - start) / (1 - start), 0), 1) if start < 1 else 0
        t = {"constant": 0, "linear": t, "cosine": (1 - math.cos(math.pi * t)) / 2}[self.recipe["optimiser.decay"]]
        return self("optimiser.rate") * (1 - t * (1 - end))


# ---- the network ----

class StandardConv(nn.Conv2d):
    """Filters of mean 0 and deviation 1."""

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        w = w / (w.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, w, self.bias, padding=1)


def norm(c):
    return nn.GroupNorm(c if c <= 128 else 32, c)


class Block(nn.Module):
    def __init__(self, c, down=False, rescale=False):
        super().__init__()
        self.conv1, self.bn1 = StandardConv(c, c, 3, padding=1), norm(c)
        self.conv2, self.bn2 = StandardConv(c, c, 3, padding=1), norm(c)
        if down:
            self.conv_downsample = nn.Conv2d(c, 2 * c if rescale else c, 3, padding=1)

    def forward(self, x):
        h = F.silu(self.bn1(self.conv1(x)))
        x = x + F.silu(self.bn2(self.conv2(h)))
        if hasattr(self, "conv_downsample"):
            x = F.silu(F.avg_pool2d(self.conv_downsample(x), 3, 2, 1))
        return x


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.query_conv, self.key_conv = nn.Conv2d(c, c // 8, 1), nn.Conv2d(c, c // 8, 1)
        self.value_conv, self.gamma = nn.Conv2d(c, c, 1), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        q, k, v = (m(x).flatten(2) for m in (self.query_conv, self.key_conv, self.value_conv))
        a = torch.softmax(q.transpose(1, 2) @ k, -1)
        return x + self.gamma * (v @ a.transpose(1, 2)).reshape(x.shape)


class Energy(nn.Module):
    """[n,scales], the smallest scale first."""
    # A block: d halves the image, r doubles the channels, too; * attention follows.
    SCALES = {
        28: (("", "res1:r res2:r res3:r"),),
        32: (("small_", "res_1a res_1b:d res_2a res_2b:r"),
             ("mid_", "res_1a res_1b:d res_2a res_2b:r res_3a res_3b:r"),
             ("", "res_1a res_1b:d res_2a res_2b:r* res_3a res_3b:r res_4a res_4b:r")),
    }

    def __init__(self, size, width, channels):
        super().__init__()
        self.scales, self.halvings = [], 2 if size == 32 else 0
        for prefix, blocks in self.SCALES[size]:
            c, names = width, [prefix + "conv1"]
            self.add_module(names[0], nn.Conv2d(channels, c, 3, padding=1))
            for item in blocks.split():
                name, _, how = item.partition(":")
                names.append(prefix + name)
                self.add_module(names[-1], Block(c, bool(how), "r" in how))
                c = 2 * c if "r" in how else c
                if "*" in how:
                    names.append("self_attn")
                    self.add_module("self_attn", Attention(c))
            names.append(prefix + "energy_map")
            self.add_module(names[-1], nn.Linear(c, 1))
            self.scales.append(names)

    def forward(self, x):
        images = [x]
        for _ in range(self.halvings):
            images.insert(0, F.avg_pool2d(images[0], 3, 2, 1))
        energies = []
        for names, image in zip(self.scales, images):
            first, *blocks, last = (getattr(self, name) for name in names)
            h = F.silu(first(image))
            for block in blocks:
                h = block(h)
            energies.append(last(F.silu(h).mean((2, 3))))
        return torch.cat(energies, 1)

    def start_from(self, tensors):
        """The weights of a checkpoint of ebm-train, filters [out,r,s,in]."""
        with torch.no_grad():
            for name, p in self.named_parameters():
                t = tensors["energy/" + name]
                p.copy_(t.permute(0, 3, 1, 2) if t.dim() == 4 else t.reshape(p.shape))


# ---- chains ----

def langevin(net, x, steps, step, noise):
    for _ in range(steps):
        x = (x + noise * torch.randn_like(x)).requires_grad_()
        g, = torch.autograd.grad(net(x).sum(), x)
        x = (x - step * g).detach().clamp_(0, 1)
    return x


def to_bytes(x):
    return (255 * x).to(torch.uint8)


def spread(levels):
    return (levels + torch.rand(levels.shape)) / 256


def grey_of(x):
    return (x * x.new_tensor([.299, .587, .114])[:, None, None]).sum(1, keepdim=True) if x.shape[1] == 3 else x


def move_hue(x, shift):
    most, least = x.amax(1), x.amin(1)
    spread_ = (most - least).clamp(min=1e-6)
    r, g, b = x.unbind(1)
    h = torch.where(r == most, (g - b) / spread_, torch.where(g == most, (b - r) / spread_ + 2, (r - g) / spread_ + 4))
    h = h + 6 * shift
    at = [(h + turn) % 6 for turn in (5, 3, 1)]
    return torch.stack([most - (most - least) * torch.minimum(k, 4 - k).clamp(0, 1) for k in at], 1)


def augment(levels, s, sampling=False):
    """uint8 images cut, mirrored and recoloured; all of a batch in one order of colours."""
    where = "sample." if sampling else "augment."
    area, colour = s.both(where + "area"), s(where + "colour")
    flip = s.true("augment.flip") and (not sampling or s.true("sample.flip"))
    grey = s("sample.grey") if sampling and s("sample.grey") >= 0 else s("augment.grey")
    if s(where + "blur"):
        raise SystemExit("blurring is not written here")
    n, c = levels.shape[:2]
    x = levels.float() / 255

    def draw(low, high):
        return torch.empty(n, 1, 1, 1).uniform_(low, high)
    if area != [1, 1] or flip:
        a, ratio = draw(*area).view(n), draw(math.log(3 / 4), math.log(4 / 3)).view(n).exp()
        w, h = (a * ratio).sqrt().clamp(max=1), (a / ratio).sqrt().clamp(max=1)
        if area == [1, 1]:
            w = h = torch.ones(n)
        theta = torch.zeros(n, 2, 3)
        sign = (torch.rand(n) < .5).float() * -2 + 1 if flip else 1
        theta[:, 0, 0], theta[:, 1, 1] = w * sign, h
        theta[:, 0, 2], theta[:, 1, 2] = ((torch.rand(n) * 2 - 1) * (1 - side) for side in (w, h))
        x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border",
                          align_corners=False)
    if colour > 0:
        low, high = max(0, 1 - .8 * colour), 1 + .8 * colour
        changes = [lambda y: y * draw(low, high),
                   lambda y: torch.lerp(grey_of(y).mean((2, 3), keepdim=True).expand_as(y), y, draw(low, high))]
        if c == 3:
            changes += [lambda y: torch.lerp(grey_of(y).expand_as(y), y, draw(low, high)),
                        lambda y: move_hue(y, draw(-.4 * colour, .4 * colour)[:, 0])]
        y = x
        for i in torch.randperm(len(changes)).tolist():
            y = changes[i](y).clamp(0, 1)
        x = torch.where(draw(0, 1) < .8, y, x)
    if grey > 0 and c == 3:
        x = torch.where(draw(0, 1) < grey, grey_of(x).expand_as(x), x)
    return (255 * x).round().to(torch.uint8)


def sample(net, s, count, shape, at_once=100):
    net.requires_grad_(False)
    step, noise, images = s("sample.step"), s("sample.noise"), []
    for begin in range(0, count, at_once):
        x = torch.rand(min(at_once, count - begin), *shape)
        for _ in range(s.whole("sample.rounds")):
            x = langevin(net, x, s.whole("sample.round_steps"), step, noise)
            x = spread(augment(to_bytes(x), s, True))
        images.append(to_bytes(langevin(net, x, s.whole("sample.steps"), step, noise)))
    return torch.cat(images)


# ---- training ----

class Training:
    def __init__(self, s, data, net):
        self.s, self.data, self.net = s, data, net
        self.average = {name: p.detach().clone() for name, p in net.named_parameters()}
        self.adam = torch.optim.Adam(net.parameters(), s("optimiser.rate"), tuple(s.both("optimiser.betas")),
                                     s("optimiser.epsilon"))
        self.buffer = torch.zeros(s.whole("buffer.size"), *data.shape[1:], dtype=torch.uint8)
        self.next = self.filled = self.updates = 0
        self.order = torch.zeros(0, dtype=torch.long)

    def batch(self):
        n = self.s.whole("batch")
        if len(self.order) < n:
            self.order = torch.randperm(len(self.data))
        rows, self.order = self.order[:n], self.order[n:]
        return spread(self.data[rows])

    def drawn(self, count):
        return spread(augment(self.buffer[torch.randint(self.filled, (count,))], self.s))

    def starts(self, shape):
        x = torch.rand(shape)
        if self.filled:
            old = torch.rand(shape[0], 1, 1, 1) >= self.s("buffer.fresh")
            x = torch.where(old, self.drawn(shape[0]), x)
        return x

    def keep(self, ends):
        n = len(ends)
        self.buffer[(self.next + torch.arange(n)) % len(self.buffer)] = to_bytes(ends)
        self.next = (self.next + n) % len(self.buffer)
        self.filled = min(self.filled + n, len(self.buffer))

    def update(self, progress):
        s, net = self.s, self.net
        data, step, noise = self.batch(), s("langevin.step"), s("langevin.noise")
        net.requires_grad_(False)
        x = langevin(net, self.starts(data.shape), s.whole("langevin.steps") - 1, step, noise)
        net.requires_grad_(True)
        y = (x + noise * torch.randn_like(x)).requires_grad_()
        g, = torch.autograd.grad(net(y).sum(), y, create_graph=True)
        xhat = (y.detach() - step * g).clamp(0, 1)
        ends = xhat.detach()
        self.keep(ends)

        on_data, on_ends = net(torch.cat([data, ends])).chunk(2)
        loss = on_data.mean() - on_ends.mean()
        loss = loss + s("icd.penalty") * (on_data.square().mean() + on_ends.square().mean())
        frozen = {name: p.detach() for name, p in net.named_parameters()}
        loss = loss + s("icd.kl") * torch.func.functional_call(net, frozen, (xhat,)).mean()
        if s("icd.entropy") > 0 and self.filled > s("icd.past_after"):
            past = self.drawn(s.whole("icd.past")).flatten(1)
            nearest = torch.cdist(ends.flatten(1), past).argmin(1)
            apart = (xhat.flatten(1) - past[nearest]).norm(dim=1)
            loss = loss - s("icd.entropy") * apart.clamp(min=1e-10).log().mean()

        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), s("optimiser.clip"))
        for group in self.adam.param_groups:
            group["lr"] = s.rate(progress)
        self.adam.step()
        n, decay = self.updates, s("ema.decay")
        decay = min(decay, (1 + n) / (10 + n)) if s.true("ema.warmup") else decay
        self.updates += 1
        with torch.no_grad():
            for name, p in net.named_parameters():
                self.average[name].lerp_(p, 1 - decay)
        return on_data.sum(1).mean().item(), on_ends.sum(1).mean().item()

    def averaged(self):
        """The average of the weights now, which later updates do not change."""
        return {name: p.clone() for name, p in self.average.items()}
