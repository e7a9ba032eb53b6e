#!/usr/bin/env python3
"""Make the golden file of test_augment.c with Pillow.

SPDX-License-Identifier: ISC

    make_augment.py [FOLDER]

What 8-bit images become by a cut and mirror, by a change of colours, by a blur,
for given random numbers.  Images and numbers are made by value() of make_icd.py.
"""
import math
import os
import sys

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from make_golden import write
from make_icd import value

N, H, W, DRAWS = 16, 12, 10, 35
FLIP, JITTER, BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GREY, BLUR, SIGMA, TOP, LEFT, AREA, RATIO = \
    0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 25


def cut(im, u):
    rows, columns = min(H, round(W / 0.75)), min(W, round(H * 4 / 3))
    top, left = (H - rows) // 2, (W - columns) // 2
    for k in range(10):
        area = H * W * (0.2 + 0.8 * u[AREA + k])
        ratio = math.exp(math.log(3 / 4) + u[RATIO + k] * (math.log(4 / 3) - math.log(3 / 4)))
        c, r = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < c <= W and 0 < r <= H:
            rows, columns = r, c
            top, left = int(u[TOP] * (H - r + 1)), int(u[LEFT] * (W - c + 1))
            break
    im = im.crop((left, top, left + columns, top + rows)).resize((W, H), Image.BILINEAR)
    return ImageOps.mirror(im) if u[FLIP] < 0.5 else im


def hue(im, part):
    h, s, v = im.convert("HSV").split()
    a = (np.array(h, dtype=np.int64) + int(part * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(a.astype(np.uint8)), s, v)).convert("RGB")


def colours(im, u):
    if u[JITTER] < 0.8:
        f = [0.2 + 1.6 * u[BRIGHTNESS + k] for k in range(3)]
        steps = [lambda i: ImageEnhance.Brightness(i).enhance(f[0]),
                 lambda i: ImageEnhance.Contrast(i).enhance(f[1]),
                 lambda i: ImageEnhance.Color(i).enhance(f[2]),
                 lambda i: hue(i, 0.8 * u[HUE] - 0.4)]
        for k in np.argsort(u[ORDER:ORDER + 4], kind="stable"):
            im = steps[k](im)
    return im.convert("L").convert("RGB") if u[GREY] < 0.2 else im


def blur(im, u):
    x = np.asarray(im, dtype=np.float64)
    if u[BLUR] < 0.5:
        w = np.exp(-0.5 * np.arange(-2, 3) ** 2 / (0.1 + 1.9 * u[SIGMA]) ** 2)
        w /= w.sum()
        x = np.pad(x, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        x = sum(w[k] * x[k:k + H] for k in range(5))
        x = sum(w[k] * x[:, k:k + W] for k in range(5))
        x = np.floor(x + 0.5)
    return x


def main():
    import torch
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    levels = np.floor((value("image", (N, H, W, 3)).numpy() + 1) * 128).astype(np.uint8)
    u = ((value("u", (N, DRAWS)) + 1) / 2).numpy()
    tensors = {}
    for name, change in ("cut", cut), ("colours", colours), ("blur", blur):
        out = np.stack([np.asarray(change(Image.fromarray(i), v), dtype=np.float64)
                        for i, v in zip(levels, u)])
        tensors[name] = torch.from_numpy(out)
    write(os.path.join(folder, "augment.safetensors"), tensors, {})


if __name__ == "__main__":
    main()
