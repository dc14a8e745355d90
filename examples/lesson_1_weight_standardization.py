"""Lesson 1: weight standardization centres and scales every convolution kernel of the backbone.

    python examples/lesson_1_weight_standardization.py

Each output channel has n weights: one for each tap (kernel position) and each input channel. Weight standardization
gives the weights of an output channel mean 0 and variance 1. The variance is a sum of squares divided by n. A small
number eps is added to the variance before the root is taken. Source: Qiao et al. 2019, "Micro-Batch Training with
Batch-Channel Normalization and Weight Standardization", section 3, eq. 6. In the package: nphybrid/ops/reference.py,
standardize.
"""
import itertools
import math

import numpy as np

from nphybrid.ops import reference


def print_table(rows, form):
    for o, row in enumerate(rows):
        print(f"{o:6}" + "".join(f"{value:{form}}" for value in row))


weights = np.array([[1, 1, 5, 5], [3, 9, 11, 17], [0.4999, 0.4999, 0.5001, 0.5001]])    # Each row is one output.
O, n = weights.shape
mean = weights.sum(1, keepdims=True) / n
variance = ((weights - mean) ** 2).sum(1, keepdims=True) / n

print("This kernel has 1 x 2 taps, 2 inputs, 3 outputs, and 4 weights for each output.\n")
print("output   the four weights                      mean  variance      root")
print_table(np.hstack([weights, mean, variance, np.sqrt(variance)]), "10.4g")

by_hand = (weights - mean) / np.sqrt(variance + 1e-8)
print("\nStandardized: (weight - mean) / sqrt(variance + 1e-8)\n")
print_table(by_hand, "10.4f")

outside = (weights - mean) / (np.sqrt(variance) + 1e-5)
print(f"""
If the sum of squares were divided by n - 1, the standardized weights of outputs
0 and 1 would be smaller by the factor sqrt(3/4) = {math.sqrt((n - 1) / n):.4f}.
The variance of output 2 is as large as eps (1e-8). So the standardized weights
of output 2 are +-1 / sqrt(2) and not +-1. The original JAX code divides by
sqrt(variance) + 1e-5. Then the standardized weights of output 2 are +-1 / 1.1:
""")
print_table(outside, "10.4f")

# In nphybrid, a kernel has the shape (KH, KW, C, O).
kernel = weights.T.reshape(1, 2, 2, O)
standardized = reference.standardize(kernel, 1e-8)
assert np.allclose(standardized.reshape(n, O).T, by_hand, rtol=0, atol=1e-15)
assert np.allclose(reference.standardize(kernel, 1e-5, "deviation").reshape(n, O).T, outside, rtol=0, atol=1e-15)
print("\nnphybrid.ops.reference.standardize computes both tables of standardized weights.")

# The inputs are a patch of ones, and all 16 patches of +1 and -1. Each cell has mean 0 and variance 1 over the 16.
flat = np.ones((1, 1, 2, 2))                                                            # (B, H, W, C)
signs = np.array(list(itertools.product([1.0, -1.0], repeat=n))).reshape(2 ** n, 1, 2, 2)
print("""
The table shows the outputs of the convolution. For a patch of ones, the output
is the sum of the weights. For the 16 patches of +1 and -1, the table shows the
root mean square of the outputs. The root mean square equals the root of the sum
of the squared weights.

output                               0         1         2""")
for name, k in ("as learned  ", kernel), ("standardized", standardized):
    on_flat, on_signs = (reference.conv2d(x, k, 1, 1, ((0, 0), (0, 0))).reshape(-1, O) for x in (flat, signs))
    print(f"{name}   all ones  " + "".join(f"{round(y, 9) + 0:10.3f}" for y in on_flat[0]))
    print(f"{name}   16 patches" + "".join(f"{y:10.3f}" for y in np.sqrt(np.square(on_signs).mean(0))))

rescaled = reference.standardize(100 * kernel[..., :2] + 7, 1e-8)
assert np.allclose(rescaled, standardized[..., :2], rtol=0, atol=1e-8)
print("""
After standardization, a constant patch gives 0. The root mean square of an
output is sqrt(n) = 2, or less if eps is as large as the variance. The scale of
the learned weights has no effect. If all weights are replaced by 100 * weights
+ 7, outputs 0 and 1 do not change. Output 2 changes, because its variance is
then much larger than eps.""")
