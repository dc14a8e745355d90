"""Lesson 3: the bottleneck. One unit of the backbone on a map of 4 x 4 cells, in whole numbers.

    python examples/lesson_3_bottleneck.py

A 1x1 convolution to few channels, a 3x3, a 1x1 to many channels, and a shortcut beside them. A group norm follows each
convolution. He et al. 2015,
"Deep Residual Learning", figure 5; Wu & He 2018, "Group Normalization", section 3.1; Kolesnikov et al. 2019, "Big
Transfer (BiT)". In the package: nphybrid/backbone.py, bottleneck. Real units have 32 groups and 256 to 2048 outputs.
"""
import math

import numpy as np

from nphybrid.backbone import bottleneck
from nphybrid.config import Config, UnitPlan
from nphybrid.ops import reference
from nphybrid.params import Norm, Unit
from nphybrid.trace import Trace

G = 2                                                                   # the groups of every norm


def show(x):
    """Print the maps of (H, W, C) side by side."""
    for row in x:
        print("  ".join("".join(f"{round(value):4}" for value in channel) for channel in row.T))


def group_norm(x, norm):
    """Mean 0 and variance 1 for each group of C / G neighbouring channels over all positions; then scale and bias."""
    y, width = np.empty(x.shape), x.shape[-1] // G
    for g in range(G):
        group = slice(g * width, (g + 1) * width)
        mean, variance = x[..., group].mean(), x[..., group].var()      # of H * W * C / G numbers
        y[..., group] = (x[..., group] - mean) / math.sqrt(variance + 1e-5)
        print(f"   group {g}: mean {round(mean, 3) + 0:g}, variance {round(variance, 3):g}")
    return y * norm.scale + norm.bias


def norm(scale, *bias):
    return Norm(np.full(len(bias), float(scale)), np.array(bias, float))


x = np.array([[[3, 9, 9, 1], [8, 7, 7, 4], [4, 9, 5, 0], [7, 5, 2, 6]],
              [[9, 8, 4, 4], [5, 6, 5, 3], [1, 8, 7, 4], [8, 6, 6, 3]],
              [[8, 9, 5, 5], [4, 3, 4, 2], [0, 9, 4, 1], [9, 3, 5, 0]],
              [[5, 9, 9, 1], [6, 7, 9, 6], [2, 9, 5, 0], [7, 5, 0, 6]]], float).transpose(1, 2, 0)  # (4, 4, 4)

# Kernels that are standardized already (lesson 1): mean 0 and variance 1 for each output. (KH, KW, C, O)
top, bottom = (np.repeat(np.array(rows, float), 3).reshape(3, 3) for rows in ([1, -1, -1], [-1, -1, 1]))
p = Unit(conv1=np.array([[[[1., 1], [1, -1], [-1, 1], [-1, -1]]]]), norm1=norm(1, 0, 0),
         conv2=np.array([[bottom, -bottom], [top, -bottom]]).transpose(2, 3, 1, 0), norm2=norm(5, 0, 0),
         conv3=np.array([[[[1., -1, 1, -1], [-1, 1, -1, 1]]]]), norm3=norm(5, 0, 0, 1, 1),
         proj=np.array([[[[1., 1, 1, -1], [-1, 1, -1, 1], [-1, -1, 1, 1], [1, -1, -1, -1]]]]),
         norm_proj=norm(5, 0, 0, 0, 0))
assert all(np.allclose(reference.standardize(k, 1e-8), k, atol=1e-8) for k in (p.conv1, p.conv2, p.conv3, p.proj))

print("x: 4 channels of 4 x 4 cells")
show(x)

print("\nconv1, 1x1: channels 0 + 1 - 2 - 3, and 0 - 1 + 2 - 3")
show(y := x @ p.conv1[0, 0])                                            # (4, 4, 2)
print("\nnorm1, ReLU. Each channel is a group here, and ReLU keeps half of its numbers")
show(y := np.maximum(group_norm(y, p.norm1), 0))

print("\nconv2, 3x3, stride 2, zeros at the right and bottom (lesson 2). Its weights are\n")
for row in p.conv2:
    print("   " + "      ".join("   ".join(" ".join("+" if w > 0 else "-" for w in taps) for taps in of_output)
                               for of_output in row.transpose(2, 1, 0)))
around = np.pad(y, ((0, 1), (0, 1), (0, 0)))
print("\n   for output 0       for output 1, and the outputs")
show(y := np.array([[np.tensordot(around[i:i + 3, j:j + 3], p.conv2, 3) for j in (0, 2)] for i in (0, 2)]))
print("\nnorm2, ReLU; the learned scale is 5")
show(y := np.maximum(group_norm(y, p.norm2), 0))                        # (2, 2, 2)

print("\nconv3, 1x1: channels 0 - 1, and 1 - 0, twice")
show(y := y @ p.conv3[0, 0])                                            # (2, 2, 4)
print("\nnorm3, scale 5, bias 0 0 1 1. A group is two of the four channels. No ReLU yet")
show(y := group_norm(y, p.norm3))

print("\nThe shortcut, 1x1, every other cell: + - - +, + + - -, + - + -, - + + -")
show(shortcut := x[::2, ::2] @ p.proj[0, 0])                            # (2, 2, 4)
alone = ", ".join(f"{variance:g}" for variance in shortcut.var((0, 1)))
print(f"\nits norm, scale 5. The variances of single channels are {alone}")
show(shortcut := group_norm(shortcut, p.norm_proj))
print("\nThe sum, and the last ReLU")
show(y := np.maximum(y + shortcut, 0))

out = Trace()
package = bottleneck(x[None], p, UnitPlan(stride=2, dilation=1, project=True), Config(groups=G), reference, out)
assert np.allclose(y, package[0], rtol=0, atol=1e-12) and np.allclose(shortcut, out["norm_proj"], rtol=0, atol=1e-12)
assert all(np.abs(state - np.rint(state)).max() < 6e-6 for state in out.values())
print("\nnphybrid.backbone.bottleneck gives the same numbers. (Because of eps, 1e-5 in\n"
      "each root, they differ from the printed ones by up to 6e-6.)")
