"""Pack the kernels of linear layers and convolutions into panels.

A `Packed` is made when a model is loaded, and is used many times. In training, where kernels change at each step, a
kernel is packed for a single product, as `Panels`.

    kernel (K, N)                              panels (P, K, NR)
         NR columns      NR         rest
        +-----------+-----------+------+       panel 0: row 0, row 1, ... row K - 1, each of NR neighbours in memory
    k 0 |           |           |      |       panel 1: row 0 to row K - 1 of the next NR columns
    k 1 |  panel 0  |  panel 1  |  2   |       panel 2: row 0 to row K - 1 of the last columns, and zeros
    ... |           |           |      |
        +-----------+-----------+------+

In NumPy notation, panels[p, k, j] = kernel[k, p * NR + j]. So the bytes of a panel are read in the order in which they
lie in memory. The kernel (KH, KW, C, O) of a convolution is packed as a matrix (KH * KW * C, O). The panels of AMX have
a different layout (amx.py).

Narrow weights are packed in the same way, but k counts words, which hold one, two or four weights (widths.py). The
weights of a word are neighbours along C. If they do not fill the last word of a tap, this word is filled with zeros.
"""
import math
from typing import NamedTuple

import numpy as np

from ..params import named_leaves, tree_map
from . import amx
from .checks import dtype_name
from .integers import ceil_div
from .memory import aligned
from .panels import panels_of, transposed_panels
from .reference_narrow import Kernel, checked_width, kernels_beside, widened, width_of
from .standardization import standardize
from .target import ISA, NR
from .widths import NUMBERS
from .words import NO_SCALES, NO_INTEGERS, narrowed

AMX = ISA == "amx"

# For each (width, precision), PARTS gives the number of bfloat16 parts of a weight in a product on AMX.
# int8 kernels use the register tile also on AMX.
PARTS = {("float32", "highest"): 3, ("float32", "high"): 2, ("bfloat16", "highest"): 1, ("int8", "highest"): 0}


class Weights(NamedTuple):
    """The right factor of a product, as the jitted loops read it.  All arrays are flat."""
    panels: np.ndarray                    # float32, uint16 (bfloat16) or int8
    channels: np.ndarray                  # float32, the scale of each column of the panels; only for int8
    totals: np.ndarray                    # int32, the sum of the integers of each column; only for int8


class Packed:
    """A kernel (KH, KW, C, O) or (C, O), stored in panels.

    `kernel` is a float32 array, or a Kernel of reference_narrow.py. `precision` is a value of ops.PRECISIONS. The
    layout of the panels depends on the instruction set. So a pickle holds the unpacked kernel, which is packed again
    when the pickle is read.

    The attributes are: shape, width, precision, parts, panels, weights, factors, kept. `width` is "float32",
    "bfloat16" or "int8". `parts` is the value of PARTS if AMX computes the product, else 0. `panels` has the shape
    (P, K, NR) for float32, and (P, words, NR, numbers in a word) for narrow weights. If `parts` is not 0, `panels` has
    the shape of `amx.packed`. `factors` are the factors of the input channels of a Kernel, or None. `kept` is the
    kernel itself if the panels cannot restore it, else None.
    """

    def __init__(self, kernel, precision="highest"):
        if not math.prod(kernel.shape):
            raise ValueError(f"expected a kernel with weights, found the shape {kernel.shape}, which has no weights")
        self.shape = kernel.shape
        self.width = getattr(kernel, "width", "float32")
        self.precision = precision
        self.parts = PARTS[self.width, precision] if AMX else 0
        self.factors = getattr(kernel, "factors", None)
        self.kept = None
        channels, totals = NO_SCALES, NO_INTEGERS
        if self.parts:
            kernel = np.asarray(kernel).reshape(-1, self.shape[-1])
            self.panels, exact = amx.packed(kernel, amx.held(self.parts))
            self.kept = None if exact or self.parts == 1 else np.array(kernel)
        elif self.width == "float32":
            self.panels = panels_of(kernel.reshape(-1, self.shape[-1]))
        else:
            self.panels = _narrow_panels(kernel)
        if self.width == "int8":
            channels, totals = _scales_and_totals(kernel, len(self.panels))
        self.weights = Weights(self.panels.reshape(-1), channels, totals)

    def unpacked(self):
        """Restore the kernel bit for bit: a float32 array, or a Kernel."""
        N = self.shape[-1]
        if self.kept is not None:
            return self.kept.reshape(self.shape)
        if self.parts:
            kernel = amx.unpacked(self.panels, math.prod(self.shape[:-1]), N).reshape(self.shape)
            return Kernel(kernel) if self.width == "bfloat16" else kernel
        if self.width == "float32":
            return self.panels.transpose(1, 0, 2).reshape(self.panels.shape[1], -1)[:, :N].reshape(self.shape)
        values = self.panels.transpose(1, 3, 0, 2).reshape(*self.shape[:-2], -1, len(self.panels) * NR)
        values = values[..., :self.shape[-2], :N]
        if self.width == "bfloat16":
            return Kernel(widened(values))
        return Kernel(values, self.weights.channels[:N], self.factors)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.unpacked(), dtype, copy=copy)

    def __reduce__(self):
        return Packed, (self.unpacked(), self.precision)

    def __repr__(self):
        return f"Packed{self.shape}"


def _narrow_panels(kernel):
    """Pack a Kernel into panels (P, words, NR, numbers in a word), uint16 or int8."""
    numbers = NUMBERS[kernel.width]
    values = kernel.values
    if missing := -values.shape[-2] % numbers:
        values = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(0, missing), (0, 0)])
    panels = panels_of(values.reshape(-1, values.shape[-1]))
    if kernel.width == "bfloat16":
        panels = narrowed(panels)
    words = panels.reshape(len(panels), -1, numbers, NR).swapaxes(2, 3)
    kind = np.dtype(np.uint16 if kernel.width == "bfloat16" else np.int8)
    packed = aligned(ceil_div(words.size * kind.itemsize, 4)).view(kind)[:words.size].reshape(words.shape)
    packed[:] = words
    return packed


def _scales_and_totals(kernel, panels):
    """The scale and the sum of the integers of each column of all panels, with zeros after the last column."""
    N = kernel.shape[-1]
    channels = np.zeros(panels * NR, np.float32)
    totals = np.zeros(panels * NR, np.int32)
    channels[:N] = kernel.scales
    totals[:N] = kernel.values.reshape(-1, N).sum(0, dtype=np.int32)
    return channels, totals


class Panels(NamedTuple):
    """A float32 kernel in panels, for a single product.  `multiply` of matmul.py takes a Panels or a Packed."""
    shape: tuple[int, ...]                # (KH, KW, C, O) or (C, O)
    panels: np.ndarray                    # (P, K, NR)
    width: str = "float32"
    parts: int = 0                        # as in Packed

    @property
    def weights(self):
        return Weights(self.panels.reshape(-1), NO_SCALES, NO_INTEGERS)


def packed_once(kernel):
    """Pack a float32 array for one product.  A Packed is returned unchanged.  (…, C, O) -> Panels or Packed"""
    if isinstance(kernel, Packed):
        return kernel
    if AMX:
        return Packed(kernel)
    return Panels(kernel.shape, panels_of(kernel.reshape(-1, kernel.shape[-1])))


def packed_transposed(kernel, taps):
    """Pack the transposed matrices of some taps, one below the other.  kernel (KH, KW, C, O) -> Panels or Packed
    `taps` lists pairs (u, v) of numbers. The packed matrix is concatenate([kernel[u, v].T for (u, v) in taps]), of
    shape (len(taps) * O, C). The shape of the result is (len(taps), 1, O, C). On AMX, it is Packed.
    """
    _, KW, C, O = kernel.shape
    shape = len(taps), 1, O, C
    if AMX:
        return Packed(np.concatenate([kernel[u, v].T for u, v in taps]).reshape(shape))
    starts = np.array([(u * KW + v) * C * O for u, v in taps])
    return Panels(shape, transposed_panels(kernel.reshape(-1), starts, C, O))


def ready(name, array, config, dtype=np.float32, precision="highest", array_of=None):
    """Prepare a learned array: a kernel becomes Packed, and any other array becomes float32.

    The kernel of a convolution is standardized. `array` can also be a Kernel, which a file holds. In int8, the kernels
    of q, k and v need `array_of` (`reference_narrow.kernels_beside`).
    """
    dtype = dtype_name(dtype)
    if (dtype, precision) not in PARTS:
        raise TypeError(f"dtype and precision: expected one of {', '.join(map(' '.join, PARTS))}, found {dtype} "
                        f"{precision}; engine='reference' takes float64")
    if isinstance(array, Kernel):
        return Packed(checked_width(array, width_of(name, config, dtype)), precision)
    if array.ndim == 4:
        array = standardize(array, config.ws_eps, config.ws_form)
    elif array.ndim != 2 or not name.endswith("kernel"):
        return np.array(array, np.float32, order="C")
    array = array.astype(np.float32, copy=False)
    width = width_of(name, config, dtype)
    if width != "float32":
        array = Kernel.of(array, width, kernels_beside(name, width, array_of))
    return Packed(array, precision)


def prepare(params, config, dtype=np.float32, precision="highest"):
    """Apply `ready` to every array of a parameter tree."""
    array_of = named_leaves(params).__getitem__
    return tree_map(lambda name, array: ready(name, array, config, dtype, precision, array_of), params)
