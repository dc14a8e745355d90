"""Lesson 3: one bottleneck unit of the backbone on a map of 4 x 4 cells, in whole numbers.

    python examples/lesson_3_bottleneck.py

A bottleneck has a 1x1 convolution to few channels, a 3x3 convolution, and a 1x1 convolution to many channels. The
shortcut is added to the result. A group norm follows each convolution. Sources: He et al. 2015, "Deep Residual
Learning", figure 5; Wu & He 2018, "Group Normalization", section 3.1; Kolesnikov et al. 2019, "Big Transfer (BiT)". In
the package: nphybrid/backbone.py, bottleneck. The bottlenecks of the published networks have 32 groups and 256 to 2048
outputs.
"""
import math

import numpy as np

from nphybrid.backbone import bottleneck
from nphybrid.config import Config, UnitPlan
from nphybrid.ops import reference
from nphybrid.params import Norm, Unit
from nphybrid.trace import Trace

G = 2                                                                   # the number of groups in every norm


def show(x):
    """Print the C maps of an array (H, W, C) side by side."""
    for row in x:
        print("  ".join("".join(f"{round(value):4}" for value in channel) for channel in row.T))


def group_norm(x, norm):
    """Give each group of C / G neighbouring channels mean 0 and variance 1, then apply scale and bias."""
    y, width = np.empty(x.shape), x.shape[-1] // G
    for g in range(G):
        group = slice(g * width, (g + 1) * width)
        mean, variance = x[..., group].mean(), x[..., group].var()      # over H * W * C / G numbers
        y[..., group] = (x[..., group] - mean) / math.sqrt(variance + 1e-5)
        print(f"   group {g}: mean {round(mean, 3) + 0:g}, variance {round(variance, 3):g}")
    return y * norm.scale + norm.bias


def norm(scale, *bias):
    return Norm(np.full(len(bias), float(scale)), np.array(bias, float))


x = np.array([[[3, 9, 9, 1], [8, 7, 7, 4], [4, 9, 5, 0], [7, 5, 2, 6]],
              [[9, 8, 4, 4], [5, 6, 5, 3], [1, 8, 7, 4], [8, 6, 6, 3]],
              [[8, 9, 5, 5], [4, 3, 4, 2], [0, 9, 4, 1], [9, 3, 5, 0]],
              [[5, 9, 9, 1], [6, 7, 9, 6], [2, 9, 5, 0], [7, 5, 0, 6]]], float).transpose(1, 2, 0)  # (4, 4, 4)

# The kernels (KH, KW, C, O) are already standardized: the weights of each output have mean 0 and variance 1.
top, bottom = (np.repeat(np.array(rows, float), 3).reshape(3, 3) for rows in ([1, -1, -1], [-1, -1, 1]))
p = Unit(conv1=np.array([[[[1., 1], [1, -1], [-1, 1], [-1, -1]]]]), norm1=norm(1, 0, 0),
         conv2=np.array([[bottom, -bottom], [top, -bottom]]).transpose(2, 3, 1, 0), norm2=norm(5, 0, 0),
         conv3=np.array([[[[1., -1, 1, -1], [-1, 1, -1, 1]]]]), norm3=norm(5, 0, 0, 1, 1),
         proj=np.array([[[[1., 1, 1, -1], [-1, 1, -1, 1], [-1, -1, 1, 1], [1, -1, -1, -1]]]]),
         norm_proj=norm(5, 0, 0, 0, 0))
assert all(np.allclose(reference.standardize(k, 1e-8), k, atol=1e-8) for k in (p.conv1, p.conv2, p.conv3, p.proj))

print("The input x: 4 channels of 4 x 4 cells")
show(x)

print("\nconv1, 1x1: the outputs are channels 0 + 1 - 2 - 3, and 0 - 1 + 2 - 3")
show(y := x @ p.conv1[0, 0])                                            # (4, 4, 2)
print("\nnorm1, ReLU: each channel is one group, and ReLU keeps half of the numbers")
show(y := np.maximum(group_norm(y, p.norm1), 0))

print("\nconv2, 3x3, stride 2, zeros at the right and bottom (lesson 2). The weights are\n\n"
      "   output 0           output 1\n   input 0 input 1    input 0 input 1")
for row in p.conv2:
    print("   " + "      ".join("   ".join(" ".join("+" if w > 0 else "-" for w in taps) for taps in of_output)
                               for of_output in row.transpose(2, 1, 0)))
around = np.pad(y, ((0, 1), (0, 1), (0, 0)))
print("\nThe outputs of conv2 are")
show(y := np.array([[np.tensordot(around[i:i + 3, j:j + 3], p.conv2, 3) for j in (0, 2)] for i in (0, 2)]))
print("\nnorm2, ReLU: the learned scale is 5")
show(y := np.maximum(group_norm(y, p.norm2), 0))                        # (2, 2, 2)

print("\nconv3, 1x1: the outputs are channels 0 - 1, 1 - 0, 0 - 1 and 1 - 0")
show(y := y @ p.conv3[0, 0])                                            # (2, 2, 4)
print("\nnorm3, scale 5, bias 0 0 1 1, no ReLU. A group has two of the four channels")
show(y := group_norm(y, p.norm3))

print("\nThe shortcut, 1x1, stride 2. The weights: + - - +, + + - -, + - + -, - + + -")
show(shortcut := x[::2, ::2] @ p.proj[0, 0])                            # (2, 2, 4)
alone = ", ".join(f"{variance:g}" for variance in shortcut.var((0, 1)))
print(f"\nThe variances of these channels are {alone}. So a norm per channel would\n"
      "give another result. The norm of the shortcut, scale 5, has two groups")
show(shortcut := group_norm(shortcut, p.norm_proj))
print("\nThe sum with the shortcut, then ReLU")
show(y := np.maximum(y + shortcut, 0))

out = Trace()
package = bottleneck(x[None], p, UnitPlan(stride=2, dilation=1, project=True), Config(groups=G), reference, out)
assert np.allclose(y, package[0], rtol=0, atol=1e-12) and np.allclose(shortcut, out["norm_proj"], rtol=0, atol=1e-12)
assert all(np.abs(state - np.rint(state)).max() < 6e-6 for state in out.values())
print("\nnphybrid.backbone.bottleneck computes the numbers above. The eps of 1e-5 in\n"
      "each root changes the numbers by up to 6e-6. The printed numbers are rounded.")
