"""The definitions of the operations for the dtypes bfloat16 and int8, in plain NumPy.

The states are float32. The kernels of the stages, the tokens and the blocks are narrow: before a narrow kernel is
multiplied, both factors are rounded to numbers of 16 or 8 bits (`width_of`). The kernels that read the pixels, and the
kernels that follow the pooling, are float32. Every other operation is the operation of reference.py, in float32.

bfloat16: Each factor is rounded to the nearest bfloat16 (`rounded`). The products are added in float32.

int8: A number is stored as an integer of 8 bits. The integers of a kernel are -127 to 127, and each output channel has
a scale. The integers of x are 0 to 255, with a scale and a zero point:

    x is about (q - zero) * scale              w is about v * channel scale
    result = float32(sum of (q - zero) * v) * (scale * channel scale) + bias

The sum is exact. The product of the two scales, its product with the sum, and the addition of the bias are rounded to
float32, in this order. A linear layer and a 1x1 convolution have a scale for each row, which is a token or a cell. Any
other convolution has a scale for each image. So a result never depends on the other images of a batch.

In trained networks, a few channels of x can be 100 times larger than the others, and have small weights. The scale of a
row follows its largest channel, and the other channels would lose their digits. So a linear layer and a 1x1 convolution
have a factor for each input channel: x is multiplied by the factor before it is quantized, and w is divided by it. The
factor is the largest weight of the channel, divided by the largest weight of all, and rounded up to a power of two.
The linear layers that compute q, k and v multiply the same x, so they share their factors, and a plan quantizes x only
once for them (recorder.py). Xiao et al. 2023, "SmoothQuant", move scales in the same way, but compute them from
activations.

The table has the rms error of the logits of R50+ViT-B/16, divided by their standard deviation: the mean and the largest
of five random networks with two pictures each. In the last two columns, 4 channels of each layer norm of the blocks are
multiplied by 100, and their weights are divided by 100. The last line is computed by test_base_accuracy.py:

                                           random weights        with large channels
    int8 everywhere, with factors          5.1e-2   6.0e-2
    stages.0 in bfloat16, with factors     3.5e-2   4.2e-2
    stages.0 and stages.1.0, no factors    3.2e-2   3.6e-2       1.8e-1   2.0e-1
    stages.0 and stages.1.0, with factors  3.2e-2   3.5e-2       3.2e-2   3.7e-2

`quantized` defines the scale of x, and `Kernel.of` defines the scale of a channel. Scales and zero points are explained
in section 2.1 of Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference".

In both dtypes, the two matrix products of attention have factors that are rounded to bfloat16.

A product of the two scales that is beyond float32 is infinite, and gives NaN where the sum is 0.

If a row of x has an element that is NaN or infinite, the results that are computed from this row are NaN. In int8, a
convolution that is larger than 1x1 has one scale for each image, so all results of this image are NaN. In float32,
infinity is multiplied as in PyTorch: the result can be infinite.
"""
import math

import numpy as np

from ..params import named_leaves, tree_map
from . import reference
from .checks import dtype_name
from .reference import (activate, group_norm, group_norm_activate, group_norm_add_activate, layer_norm, max_pool,
                        mean_pool)

__all__ = ["activate", "attention", "attention_with_weights", "conv2d", "group_norm", "group_norm_activate",
           "group_norm_add_activate", "layer_norm", "linear", "linear_activate", "linear_add", "max_pool", "mean_pool",
           "prepare", "ready"]

AFTER_POOLING = "head", "pooler", "pre_logits"
BFLOAT16_IN_INT8 = "stages.0.", "stages.1.0."
SHARING = "query", "key", "value"         # the linear layers of a block that multiply the same x

# The largest finite bfloat16, and the smallest float32 that is not denormal.
LARGEST_BFLOAT16 = np.uint32(0x7F7F0000).view(np.float32)
SMALLEST = np.float32(2 ** -126)

# BEYOND is halfway between the largest finite bfloat16 and 2**128.
# The bfloat16 nearest to a number of at least BEYOND is infinite.
BEYOND = np.uint32(0x7F7F8000).view(np.float32)

# A sum of more than LONGEST products of two integers, at most 255 and 127, could be too large for 32 bits.
LONGEST = (2 ** 31 - 1) // (255 * 127)


def width_of(name, config, dtype):
    """The width in which a kernel is multiplied: "float32", "bfloat16" or "int8".

    `name` is the name of the kernel in a Params. A network without a stem reads the pixels in "tokens.proj". In int8,
    the first stage and the first unit of the second are multiplied in bfloat16, because they cause the largest part of
    the error (see the table at the top of the file).
    """
    dtype = dtype_name(dtype)
    first_layer = "stem" if config.stem else "tokens"
    if name.split(".")[0] in (first_layer, *AFTER_POOLING):
        return "float32"
    return "bfloat16" if dtype == "int8" and name.startswith(BFLOAT16_IN_INT8) else dtype


class Kernel:
    """A narrow kernel (KH, KW, C, O) or (C, O).

    The attributes are: shape, width, values, scales, factors. If `width` is "bfloat16", `values` are float32
    numbers that are rounded to bfloat16, and `scales` and `factors` are None. If `width` is "int8", `values` are int8
    numbers, and `scales` has a float32 for each output channel. `factors` has a float32 for each input channel, or is
    None if the kernel is larger than 1x1. Raises ValueError for more than LONGEST products in a sum of int8.
    """

    def __init__(self, values, scales=None, factors=None):
        if scales is not None and math.prod(values.shape[:-1]) > LONGEST:
            raise ValueError(f"expected at most {LONGEST} products in a sum of int8, found a kernel of the shape "
                             f"{values.shape}")
        self.shape = values.shape
        self.width = "bfloat16" if scales is None else "int8"
        self.values = values
        self.scales = scales
        self.factors = factors

    @classmethod
    def of(cls, kernel, width, beside=()):
        """Round a float32 kernel to a width.  The numbers v of int8 follow from the weights w of an output channel:

            scale = max(max|w| / 127, 2**-126)      v = min(max(round(w * (1 / scale)), -127), 127)

        In a linear layer or a 1x1 kernel, every weight is divided by a factor before (`factors_of`). The factors are
        those of the matrix that consists of the kernel and of the kernels `beside` it. Each of the operations is
        rounded to float32, and `round` rounds half to even. Raises ValueError also for weights that are not finite in
        bfloat16.
        """
        if not (largest := np.abs(kernel).max(initial=0)) < BEYOND:
            raise ValueError(f"expected weights that are finite in bfloat16 (below {BEYOND:.5g}), found {largest}")
        if width == "bfloat16":
            return cls(rounded(kernel))
        factors = None
        if math.prod(kernel.shape[:-2]) == 1 and kernel.size:
            factors = factors_of(np.concatenate([kernel.reshape(kernel.shape[-2:]), *beside], 1))
            kernel = kernel * (1 / factors)[:, None]
        largest = np.abs(kernel).max(tuple(range(kernel.ndim - 1)), initial=0)
        scales = np.maximum(largest / np.float32(127), SMALLEST)
        return cls(np.clip(np.rint(kernel * (1 / scales)), -127, 127).astype(np.int8), scales, factors)

    def __array__(self, dtype=None, copy=None):
        values = self.values
        if self.scales is not None:
            values = values * self.scales
        if self.factors is not None:
            values = values * self.factors[:, None]
        return np.array(values, dtype, copy=copy)


def factors_of(kernel):
    """The factors of the input channels of a kernel (C, O): powers of two, at most 1.  -> float32 (C,)

    The factor of a channel is the smallest power of two that is not below max|its weights| / max|all weights|, and at
    least 2**-126. A channel whose quotient is 0 in float32 has the factor 1.

    >>> factors_of(np.float32([[4, -1], [2, 2], [1, 1.5], [0, 0]])).tolist()
    [1.0, 0.5, 0.5, 1.0]
    """
    rows = np.abs(kernel).max(1)
    mantissa, exponent = np.frexp(rows / max(rows.max(), SMALLEST))       # mantissa * 2**exponent, mantissa >= 1/2
    return np.ldexp(np.float32(1), np.maximum(exponent - (mantissa == 0.5), -126))


def rounded(x):
    """Round float32 numbers to the nearest bfloat16, with ties to even.  -> float32 numbers

    A finite number whose nearest bfloat16 is infinite becomes the largest finite bfloat16 with the sign of x. A
    denormal number becomes 0. An infinite number becomes NaN.

    >>> rounded(np.float32([1.00390625, 1.01171875, 1e-39, 3.4e38, np.inf])).tolist()
    [1.0, 1.015625, 0.0, 3.3895313892515355e+38, nan]
    """
    x = np.asarray(x, np.float32)
    bits = np.clip(x, -LARGEST_BFLOAT16, LARGEST_BFLOAT16).view(np.uint32)
    near = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    near = np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), near)
    return np.where(np.isfinite(x), near, np.float32(np.nan))


def bits_of(x):
    """The bits of bfloat16 numbers, which are float32 here.  -> uint16

    >>> bits_of(np.float32([1, -2]))
    array([16256, 49152], dtype=uint16)
    """
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def widened(bits):
    """The bfloat16 numbers with the given bits, uint16.  -> float32

    >>> widened(bits_of(np.float32([1, -2])))
    array([ 1., -2.], dtype=float32)
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)


def quantized(x, axes):
    """Quantize float32 numbers.  -> q (integers 0 to 255 as float32), scale, zero

    All elements along `axes` have one scale and one zero point. The number 0 always becomes the zero point:

        low = min(0, smallest x)      high = max(0, largest x)      scale = max(high / 255 - low / 255, 2**-126)
        zero = round(-low * (1 / scale))            q = min(max(round(x * (1 / scale)) + zero, 0), 255)

    Each of the operations is rounded to float32, and `round` rounds half to even. If low or high is not finite, the
    scale is NaN, and q has no meaning.

    >>> [a.tolist() for a in quantized(np.float32([[-1, 0, 4.1]]), 1)]
    [[[0.0, 50.0, 255.0]], [[0.019999999552965164]], [[50.0]]]
    """
    low = np.minimum(x.min(axes, keepdims=True), np.float32(0))
    high = np.maximum(x.max(axes, keepdims=True), np.float32(0))
    with np.errstate(all="ignore"):
        scale = np.maximum(high / np.float32(255) - low / np.float32(255), SMALLEST)
        scale = np.where(np.isfinite(scale), scale, np.float32(np.nan))
        factor = 1 / scale
        zero = np.rint(-low * factor)
        q = np.clip(np.rint(x * factor) + zero, 0, 255)
    return q, scale, zero


def ready(name, array, config, dtype=np.float32, precision="highest", array_of=None):
    """Return a copy of a learned array: a float32 array, or a Kernel if the kernel is narrow.

    The kernel of a convolution is standardized in float64 before it is rounded, because a weight that lies between two
    integers of int8 would depend on the rounding of the standardization. The precision must be "highest". `array` can
    also be a Kernel, which a file holds. In int8, the kernels of q, k and v need `array_of` (`kernels_beside`).
    """
    if isinstance(array, Kernel):
        return checked_width(array, width_of(name, config, dtype))
    is_kernel = array.ndim == 4 or array.ndim == 2 and name.endswith("kernel")
    array = reference.ready(name, array, config, np.float64).astype(np.float32)
    width = width_of(name, config, dtype)
    if not is_kernel or width == "float32":
        return array
    return Kernel.of(array, width, kernels_beside(name, width, array_of))


def kernels_beside(name, width, array_of):
    """The kernels that share their factors with the kernel `name`: a list of arrays (C, O).

    In int8, these are the other two kernels of q, k and v. array_of(other) returns the array of another parameter of
    the same network, before it is rounded. For other kernels and widths, `array_of` is not called, and can be None.

    >>> kernels_beside("blocks.3.key.kernel", "int8", {"blocks.3.query.kernel": 5, "blocks.3.value.kernel": 6}.get)
    [array(5., dtype=float32), array(6., dtype=float32)]
    """
    block, dot, layer = name.removesuffix(".kernel").rpartition(".")
    if width != "int8" or layer not in SHARING:
        return []
    others = (f"{block}{dot}{other}.kernel" for other in SHARING if other != layer)
    return [np.asarray(array_of(other), np.float32) for other in others]


def checked_width(kernel, width):
    """Return a Kernel unchanged.  Raises ValueError if it has another width."""
    if kernel.width != width:
        raise ValueError(f"expected a kernel of the width {width}, found {kernel.width}")
    return kernel


def prepare(params, config, dtype=np.float32, precision="highest"):
    """Apply `ready` to every array of a parameter tree.  Params -> Params"""
    array_of = named_leaves(params).__getitem__
    return tree_map(lambda name, array: ready(name, array, config, dtype, precision, array_of), params)


def conv2d(x, kernel, stride, dilation, padding):
    """`reference.conv2d` with narrow factors.  x (B, H, W, C), kernel (KH, KW, C, O) -> (B, H', W', O)"""
    if not isinstance(kernel, Kernel):
        return reference.conv2d(x, kernel, stride, dilation, padding)
    if kernel.width == "bfloat16":
        return reference.conv2d(rounded(x), kernel.values, stride, dilation, padding)
    by_cell = kernel.factors is not None
    if by_cell:
        x = np.pad(x, ((0, 0), *padding, (0, 0))) * kernel.factors
        padding = (0, 0), (0, 0)
    q, scale, zero = quantized(x, 3 if by_cell else (1, 2, 3))
    # In float64, the sums of products of small integers are exact.
    sums = reference.conv2d((q - zero).astype(np.float64), kernel.values.astype(np.float64), stride, dilation, padding)
    if by_cell:
        scale = scale[:, ::stride, ::stride]
    return sums.astype(np.float32) * (scale * kernel.scales)


def linear(x, p):
    """`reference.linear` with narrow factors.  x (..., C), kernel (C, O) -> (..., O)"""
    if not isinstance(p.kernel, Kernel):
        return reference.linear(x, p)
    if p.kernel.width == "bfloat16":
        y = rounded(x) @ p.kernel.values
    else:
        q, scale, zero = quantized(x * p.kernel.factors, -1)
        sums = (q - zero).astype(np.float64) @ p.kernel.values.astype(np.float64)
        y = sums.astype(np.float32) * (scale * p.kernel.scales)
    return y if p.bias is None else y + p.bias


def linear_activate(x, p, activation):
    """activation(linear(x)).  (..., C) -> (..., O)"""
    return activate(linear(x, p), activation)


def linear_add(x, p, residual):
    """linear(x) + residual.  x (..., C), residual (..., O) -> (..., O)"""
    return linear(x, p) + residual


def attention(query, key, value, heads):
    """`reference.attention` with products of bfloat16 numbers.  three (B, T, D) -> (B, T, D)"""
    return attention_with_weights(query, key, value, heads)[0]


def attention_with_weights(query, key, value, heads):
    """Compute `attention` and the attention weights.  three (B, T, D) -> context (B, T, D), weights (B, A, T, T)

    The exponentials of the scores are rounded before they are multiplied by the values. The sums of the exponentials
    are sums of float32 numbers, and the products are divided by these sums.
    """
    B, _, D = query.shape
    q, k, v = (rounded(x).reshape(B, x.shape[1], heads, D // heads).transpose(0, 2, 1, 3) for x in (query, key, value))
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // heads)
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    sums = exponentials.sum(-1, keepdims=True)
    return (rounded(exponentials) @ v / sums).transpose(0, 2, 1, 3).reshape(query.shape), exponentials / sums
