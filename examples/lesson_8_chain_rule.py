"""Lesson 8: the chain rule in one bottleneck unit on a map of 2 x 2 cells, in whole numbers.

    python examples/lesson_8_chain_rule.py

The forward pass computes the states of the unit and a loss. The gradient of a state has the shape of the state. Each of
its numbers is the derivative of the loss with respect to one number of the state. The backward pass starts at the loss
and computes the gradients of the states in reverse order. Each operation has a rule: the rule gets the gradient dy of
the result of the operation, and computes the gradients of the arguments. Sources: Rumelhart, Hinton & Williams 1986,
"Learning representations by back-propagating errors"; Baydin et al. 2018, "Automatic Differentiation in Machine
Learning: a Survey", section 3.2. In the package: nphybrid/ops/gradients.py; nphybrid/ops/record.py. Lesson 3 explains
the unit.
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


def in_groups(x):
    return x.reshape(4, 2, -1)                                          # 4 cells, 2 groups, C / 2 channels


def normalize(x):
    """Give each group mean 0 and variance 1.  -> the result, and the root of the variance of each channel"""
    centred = in_groups(x) - in_groups(x).mean((0, 2), keepdims=True)
    root = np.sqrt(np.square(centred).mean((0, 2), keepdims=True))
    return (centred / root).reshape(x.shape), np.broadcast_to(root, (1, *centred.shape[1:])).ravel()


def norm_rule(dy, z):
    """dy - mean(dy) - z * mean(dy * z), with the means of each group."""
    means, products = (in_groups(a).mean((0, 2), keepdims=True) for a in (dy, dy * z))
    return (in_groups(dy) - means - in_groups(z) * products).reshape(z.shape)


def maps(*channels):
    return np.array(channels, float).reshape(-1, 2, 2).transpose(1, 2, 0)                 # (H, W, C)


x = maps([0, 1, 2, 5], [3, 2, 3, 4], [2, 3, 2, 5], [0, 1, 2, 5])
taps = ["++- ---   ++- --+", "--- +-+   ++- +--", "+++ ++-   +-+ +--"]
conv1 = np.array([[1., 1], [1, -1], [-1, 1], [-1, -1]])                 # (C, O)
conv2 = np.array([[sign + "1" for sign in row.replace(" ", "")] for row in taps], float)
conv2 = conv2.reshape(3, 2, 2, 3).transpose(0, 3, 2, 1)                 # (KH, KW, C, O)
conv3 = np.array([[1., -1, 1, -1], [-1, 1, -1, 1]])
bias1, bias2 = np.array([2., 0]), np.array([4., 1])

print("""Each scale of a norm equals the root of the variance, and eps is 0. So the norms
only subtract the mean of a group and add a bias. No stride, no projection.
""")
show("The input x", x)
show("conv1: channels 0 + 1 - 2 - 3, and 0 - 1 + 2 - 3", c1 := x @ conv1)
z1, root1 = normalize(c1)
show("norm1, bias 2 0, then ReLU", y1 := np.maximum(z1 * root1 + bias1, 0))
print("conv2, 3x3. The weights for output 0 and for output 1 are +1 or -1:")
print("\n".join("      " + row for row in taps))
around = np.pad(y1, ((1, 1), (1, 1), (0, 0)))
windows = {(i, j): around[i:i + 3, j:j + 3] for i in (0, 1) for j in (0, 1)}
show("The result of conv2", c2 := np.array([[np.tensordot(windows[i, j], conv2, 3) for j in (0, 1)] for i in (0, 1)]))
z2, root2 = normalize(c2)
show("norm2, bias 4 1, then ReLU", y2 := np.maximum(z2 * root2 + bias2, 0))
show("conv3: channels 0 - 1, 1 - 0, 0 - 1 and 1 - 0. norm3 changes nothing here", c3 := y2 @ conv3)
z3, root3 = normalize(c3)
show("The sum y of norm3 and x, then ReLU", y := np.maximum(z3 * root3 + x, 0))

dy = maps([2, 0, -4, 4], [6, -3, -4, -6], [0, -2, -2, 2], [1, 5, -4, 6])
print()
show("The loss is the sum of a * y. So the gradient of y is a:", dy)
show("ReLU: the gradient is 0 where y is 0. The sum passes it to norm3 and to x", d_sum := dy * (y > 0))
