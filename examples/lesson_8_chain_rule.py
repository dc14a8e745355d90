"""Lesson 8: the chain rule in one bottleneck unit on a map of 2 x 2 cells, in whole numbers.

    python examples/lesson_8_chain_rule.py

The forward pass computes the states of the unit (lesson 3), and a loss. The gradient of a state has the shape of the
state. Each of its numbers is the derivative of the loss with respect to one number of the state. The backward pass
computes the gradients in reverse order. Each operation has a rule. The rule gets dy, the gradient of the result of the
operation, and computes dx, the gradient of its argument. Source: Baydin et al. 2018, "Automatic Differentiation in
Machine Learning: a Survey", section 3.2. In the package: nphybrid/ops/gradients.py; nphybrid/ops/record.py.
"""
import numpy as np

from nphybrid.backbone import bottleneck
from nphybrid.config import Config, UnitPlan
from nphybrid.ops import gradients, reference
from nphybrid.ops.record import Record, Variable
from nphybrid.params import Norm, Unit, tree_map
from nphybrid.trace import Trace


def show(heading, x):
    """Print the C maps of an array (H, W, C) side by side."""
    print(heading)
    for row in x:
        print("   " + "   ".join("".join(f"{round(value):4}" for value in channel) for channel in row.T))


def norm_rule(dy, z):
    """dx of a norm with two groups: dy - mean(dy) - z * mean(dy * z), derived by _normalize_gradient in gradients.py"""
    dx, width = np.empty(z.shape), z.shape[-1] // 2
    for g in (0, 1):
        group = slice(g * width, (g + 1) * width)
        mean, product = dy[..., group].mean(), (dy * z)[..., group].mean()
        dx[..., group] = dy[..., group] - mean - z[..., group] * product
        print(f"   group {g}: mean(dy) = {mean:g}, mean(dy * z) = {round(product, 9) + 0:g}")
    return dx


x = np.array([[[3, 0, 0, 1], [4, 3, 3, 6]], [[1, 2, 4, 1], [4, 4, 2, 4]]], float)                # (H, W, C)
conv1 = np.array([[1., 1], [1, -1], [-1, 1], [-1, -1]])                 # (C, O)
taps = ["+-- +-+   +-- ++-", "+-- -+-   +-- ++-", "+++ --+   --- +++"]
conv2 = np.array([[float(sign + "1") for sign in row.replace(" ", "")] for row in taps])
conv2 = conv2.reshape(3, 2, 2, 3).transpose(0, 3, 2, 1)                 # (KH, KW, C, O)
conv3 = np.array([[1., -1, 1, -1], [-1, 1, -1, 1]])                     # (C, O)
norm1, norm2 = Norm(np.full(2, 2.), np.array([1., 0])), Norm(np.full(2, 3.), np.array([3., -1]))
norm3 = Norm(np.full(4, 3.), np.zeros(4))

show("The input x is also the shortcut", x)
show("conv1: channels 0 + 1 - 2 - 3, and 0 - 1 + 2 - 3", c1 := x @ conv1)
z1 = c1 / 2                                                             # The mean is 0, and the variance is 4.
show("norm1, scale 2, bias 1 0, and ReLU", y1 := np.maximum(z1 * norm1.scale + norm1.bias, 0))
print("conv2, 3x3, weights +1 and -1, for inputs 0 and 1 of output 0 and of output 1:", *taps, sep="\n      ")
around = np.pad(y1, ((1, 1), (1, 1), (0, 0)))
windows = {(i, j): around[i:i + 3, j:j + 3] for i in (0, 1) for j in (0, 1)}
show("The result of conv2", c2 := np.reshape([np.tensordot(x, conv2, 3) for x in windows.values()], (2, 2, 2)))
z2 = (c2 - [-1, 1]) / 3                                                 # The means are -1 and 1, the variances are 9.
show("norm2, scale 3, bias 3 -1, and ReLU", y2 := np.maximum(z2 * norm2.scale + norm2.bias, 0))
show("conv3: channels 0 - 1, 1 - 0, 0 - 1, 1 - 0", c3 := y2 @ conv3)
z3 = c3 / 3                                                             # The mean is 0, and the variance is 9.
show("norm3, scale 3, bias 0, changes nothing. y is the sum with x, after ReLU", y := np.maximum(3 * z3 + x, 0))

a = np.array([[[-3, 2, -3, 3], [-4, -5, 4, 6]], [[1, -4, -6, 3], [3, 7, -6, 2]]], float)
show("\nThe loss is the sum of a * y. So the gradient of y is a", a)
show("ReLU: 0 where y is 0. The gradient of the result of norm3, and of the shortcut", d_sum := a * (y > 0))
print("norm3: dx = scale / root * (dy - mean(dy) - z * mean(dy * z)) in each group.\n"
      "   z = (conv3 - mean) / root, with mean = 0 and root = scale = 3")
show("   dx", d3 := norm_rule(d_sum, z3))
show("conv3: dx = dy @ W.T. Then ReLU: 0 where the result of norm2 is 0", d_norm2 := d3 @ conv3.T * (y2 > 0))
print("norm2: z = (conv2 + 1) / 3 in channel 0, and (conv2 - 1) / 3 in channel 1")
show("   dx", d2 := norm_rule(d_norm2, z2))
d_around, d_conv2 = np.zeros((4, 4, 2)), np.zeros((3, 3, 2, 2))
for i, j in windows:
    d_around[i:i + 3, j:j + 3] += conv2 @ d2[i, j]
    d_conv2 += windows[i, j][..., None] * d2[i, j]
print("conv2: dW is the sum of (cell under the weight) * dy, for each weight")
for row in d_conv2.transpose(0, 3, 2, 1).reshape(3, 4, 3):
    print("   " + "   ".join("".join(f"{round(value):4}" for value in weights) for weights in row))
show("conv2: dx is the sum of weight * dy, for each cell. Then ReLU", d_norm1 := d_around[1:3, 1:3] * (y1 > 0))
print("norm1: z = conv1 / 2")
show("   dx", d1 := norm_rule(d_norm1, z1))
show("The gradient of the input x: dy @ W.T of conv1, plus the shortcut's gradient", dx := d1 @ conv1.T + d_sum)

d_conv1 = x.reshape(4, 4).T @ d1.reshape(4, 2)                          # (C, O)
d_learned = d_conv1 - d_conv1.mean(0) - conv1 * (d_conv1 * conv1).mean(0)
print("conv1: dW = x.T @ dy. The weights were standardized, so the gradient of the\n"
      "   learned weights follows from the rule of a norm, for each output:")
for o in (0, 1):
    print(f"   output {o}: " + " ".join(f"{round(v):3}" for v in d_conv1[:, o]) + "    learned weights: "
          + " ".join(f"{round(v):3}" for v in d_learned[:, o]))

record = Record(reference, gradients.RULES)
p = Unit(conv1[None, None], norm1, conv2, norm2, conv3[None, None], norm3, None, None)
p, of_x = tree_map(lambda name, array: Variable(array, record), p), Variable(x[None], record)
config = Config(groups=2, gn_eps=0.0, ws_eps=0.0)
package = bottleneck(of_x, record.prepare(p, config), UnitPlan(1, 1, False), config, record, Trace())
record.backward(package, a[None])
assert np.allclose(of_x.gradient[0], dx, rtol=0, atol=1e-12) and np.allclose(package.value[0], y, rtol=0, atol=1e-12)
assert np.allclose(p.conv1.gradient[0, 0], d_learned, rtol=0, atol=1e-12)
print("\nnphybrid.ops.record computes the same gradients with the rules of the package.")
