"""Lesson 1: weight standardization. Every convolution kernel of the backbone is centred and scaled before it is used.

    python examples/lesson_1_weight_standardization.py

The weights of one output channel, over all taps and all input channels, get mean 0 and variance 1. The variance is
divided by their number n, and eps is added inside the root. Qiao et al. 2019, "Micro-Batch Training with Batch-Channel
Normalization and Weight Standardization", section 3, eq. 6. In the package: nphybrid/ops/reference.py, standardize.
"""
import itertools
import math

import numpy as np

from nphybrid.ops import reference


def print_table(rows, form):
    for o, row in enumerate(rows):
        print(f"{o:6}" + "".join(f"{value:{form}}" for value in row))


weights = np.array([[1, 1, 5, 5], [3, 9, 11, 17], [0.4999, 0.4999, 0.5001, 0.5001]])    # one output per row
O, n = weights.shape
mean = weights.sum(1, keepdims=True) / n
variance = ((weights - mean) ** 2).sum(1, keepdims=True) / n

print("A kernel of 1 x 2 taps, 2 inputs and 3 outputs: 4 weights for each output.\n")
print("output   the four weights                      mean  variance      root")
print_table(np.hstack([weights, mean, variance, np.sqrt(variance)]), "10.4g")

by_hand = (weights - mean) / np.sqrt(variance + 1e-8)
print("\nStandardized: (weight - mean) / sqrt(variance + 1e-8)\n")
print_table(by_hand, "10.4f")

outside = (weights - mean) / (np.sqrt(variance) + 1e-5)
print(f"""
With n - 1 instead of n, the weights of outputs 0 and 1 would be smaller by the
factor sqrt(3/4) = {math.sqrt((n - 1) / n):.4f}.
Output 2 shows the effect of eps: its variance is as large as eps, so 1 becomes
1 / sqrt(2).
JAX's original adds 1e-5 to the root instead; then 1 becomes 1 / 1.1:
""")
print_table(outside, "10.4f")

# In the package a kernel is (KH, KW, C, O).
kernel = weights.T.reshape(1, 2, 2, O)
standardized = reference.standardize(kernel, 1e-8)
assert np.allclose(standardized.reshape(n, O).T, by_hand, rtol=0, atol=1e-15)
assert np.allclose(reference.standardize(kernel, 1e-5, "deviation").reshape(n, O).T, outside, rtol=0, atol=1e-15)
print("\nnphybrid.ops.reference.standardize has both forms and gives the same numbers.")

# The effect on the output: for a patch of ones, and for the 16 patches of +1 and -1, with mean 0 and variance 1.
flat = np.ones((1, 1, 2, 2))                                                            # (B, H, W, C)
signs = np.array(list(itertools.product([1.0, -1.0], repeat=n))).reshape(2 ** n, 1, 2, 2)
print("""
The effect on the output: a patch of ones gives the sum of the weights. The 16
patches of +1 and -1 give outputs whose root mean square is the root of the sum
of the squared weights.

output                               0         1         2""")
for name, k in ("as learned  ", kernel), ("standardized", standardized):
    on_flat, on_signs = (reference.conv2d(x, k, 1, 1, ((0, 0), (0, 0))).reshape(-1, O) for x in (flat, signs))
    print(f"{name}   all ones  " + "".join(f"{round(y, 9) + 0:10.3f}" for y in on_flat[0]))
    print(f"{name}   16 patches" + "".join(f"{y:10.3f}" for y in np.sqrt(np.square(on_signs).mean(0))))

rescaled = reference.standardize(100 * kernel[..., :2] + 7, 1e-8)
assert np.allclose(rescaled, standardized[..., :2], rtol=0, atol=1e-8)
print("""
A constant patch now gives 0. The scale of an output is sqrt(n) = 2, or less
where eps is not small beside the variance. It does not depend on the scale of
the learned weights: 100 * weights + 7 gives outputs 0 and 1 the same numbers.""")
