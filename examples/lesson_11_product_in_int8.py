"""Lesson 11: an inner product with numbers of 8 bits.

    python examples/lesson_11_product_in_int8.py

Some processors multiply four pairs of 8-bit integers in the time that one pair of float32 numbers takes. So each number
becomes an integer: x is about (q - zero) * scale, and w is about v * channel scale. The sum of the products
(q - zero) * v is an exact integer. The product of both scales turns the sum into a float32. Source: Jacob et al. 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference". In the package:
nphybrid/ops/reference_narrow.py defines the numbers, and nphybrid/ops/widths.py has the instructions.
"""
import numpy as np

from nphybrid.ops import kernels, reference_narrow
from nphybrid.ops.packed import Packed
from nphybrid.ops.reference_narrow import Kernel
from nphybrid.params import Linear

x = np.float32([-1, 0.505, 2.006, 4.1])                                 # activations: one row of the left factor
w = np.float32([0.504, -0.25, 1.27, -0.896])                            # weights: one output channel

# An activation can have any sign, but is often positive. So q goes from 0 to 255, and the number 0 becomes `zero`.
low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
scale = high / np.float32(255) - low / np.float32(255)
inverse = 1 / scale                                                     # A product is faster than a division.
zero = np.rint(-low * inverse)
q = np.clip(np.rint(x * inverse) + zero, 0, 255)
# Weights are about as often negative as positive. So v goes from -127 to 127, and 0 stays 0.
channel_scale = abs(w).max() / np.float32(127)
v = np.rint(w * (1 / channel_scale))

print(f"x from {low:g} to {high:.1f}: 255 steps of scale = {scale:.4f}, and 0 becomes zero = {zero:g}")
print(f"w from {-abs(w).max():.2f} to {abs(w).max():.2f}: 254 steps of channel scale = {channel_scale:.4f}\n")
print("       x     q  (q - zero) * scale        w     v  v * channel scale     q * v")
for numbers in zip(x, q, (q - zero) * scale, w, v, v * channel_scale, q * v):
    print("{:8.3f}{:6.0f}{:20.3f}{:9.3f}{:6.0f}{:19.3f}{:10.0f}".format(*numbers))

# sum of (q - zero) * v = sum of q * v - zero * sum of v. The sum of v is known when the model is loaded. So only the
# products q * v are computed, four in a word of 32 bits.
total, weights = int((q * v).sum()), int(v.sum())
exact = total - int(zero) * weights
result = np.float32(exact) * (scale * channel_scale)
print(f"""
sum of q * v             {total}
zero * sum of v          {zero:g} * {weights} = {zero * weights:g}
sum of (q - zero) * v    {total} - {zero * weights:g} = {exact}
result                   {exact} * ({scale:.4f} * {channel_scale:.4f}) = {result:.4f}
without rounding         {x.astype(float) @ w.astype(float):.4f}
""")

words = [np.array(numbers, kind).tobytes()[::-1].hex(" ") for numbers, kind in ((q, np.uint8), (v, np.int8))]
print(f"word of x   {words[0]}     q of x, the first number at the right")
print(f"word of w   {words[1]}     v of w; negative numbers as 256 - |v|\n")

# In bfloat16, each number keeps 8 significant bits at any size, but a product takes twice the time.
rounded_x, rounded_w = reference_narrow.rounded(x), reference_narrow.rounded(w)
print("bfloat16 x  " + "  ".join(f"{number:.7g}" for number in rounded_x))
print("bfloat16 w  " + "  ".join(f"{number:.7g}" for number in rounded_w))
print(f"result      {rounded_x @ rounded_w:.4f}")
errors = (abs(float(number) - x.astype(float) @ w.astype(float)) for number in (result, rounded_x @ rounded_w))
print("\nThe error is {:.4f} in int8, and {:.4f} in bfloat16.".format(*errors))

# The reference engine and the kernels compute the same number. The factors of the input channels, which make the
# channels of a layer equally large, are 1 here. So the kernel has the integers from above.
kernel = Kernel(v[:, None].astype(np.int8), channel_scale[None], np.ones(4, np.float32))
assert reference_narrow.linear(x[None], Linear(kernel, None)) == result
assert kernels.linear(x[None], Linear(Packed(kernel), None)) == result
