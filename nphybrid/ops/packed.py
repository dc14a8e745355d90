"""Pack the kernels of linear layers and convolutions into panels.

A `Packed` is made when a model is loaded, and is used many times. In training, where kernels change at each step, a
kernel is packed for a single product, as `Panels`.

    kernel (K, N)                              panels (P, K, NR)
         NR columns      NR      N - 2 NR
        +-----------+-----------+------+       panel 0: row 0, row 1, ... row K - 1, each of NR neighbours in memory
    k 0 |           |           |      |       panel 1: row 0 to row K - 1 of the next NR columns
    k 1 |  panel 0  |  panel 1  |  2   |       panel 2: row 0 to row K - 1 of the last columns, and zeros
    ... |           |           |      |
        +-----------+-----------+------+

In NumPy notation, panels[p, k, j] = kernel[k, p * NR + j]. So the bytes of a panel are read in the order in which they
lie in memory. The kernel (KH, KW, C, O) of a convolution is packed as a matrix (KH * KW * C, O).

Narrow weights are packed in the same way, but k counts words, which hold one, two or four weights (widths.py). The
weights of a word are neighbours along C: panels[p, k, j, n] = kernel[k * numbers + n, p * NR + j]. If they do not fill
the last word of a tap, this word is filled with zeros.

On AMX, a float32 kernel becomes three bfloat16 kernels, and zeros follow the last word of each panel (amx.py).
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
ROWS = amx.DEEP if AMX else 1             # the number of rows of a narrow panel is a multiple of ROWS

# For each (width, precision), PARTS gives the number of parts of a weight in a product on AMX (amx.py).
PARTS = {("float32", "highest"): 3, ("float32", "high"): 2, ("bfloat16", "highest"): 1, ("int8", "highest"): 1}


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

    The attributes are: shape, width, precision, parts, panels, weights, factors, kept. `width` is "float32", "bfloat16"
    or "int8". `parts` is the value of PARTS if AMX computes the product, else 0. `panels` has the shape (P, K, NR) for
    float32, and (P, words, NR, numbers in a word) for narrow weights. If `parts` is more than 1, the shape is
    (amx.HELD, P, words, NR, 2). On AMX, `words` is rounded up to a multiple of ROWS. `factors` are the numbers by which
    the channels of x are multiplied before they are quantized, or None. `kept` is the kernel itself if the panels
    cannot restore it, else None.
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
        if self.parts > 1:
            parts, exact = amx.parts_of(kernel.reshape(-1, self.shape[-1]))
            self.panels = _narrow_panels(parts, 2)
            self.kept = None if exact else np.array(kernel)
        elif self.width == "float32":
            self.panels = panels_of(kernel.reshape(-1, self.shape[-1]))
        else:
            self.panels, = _narrow_panels([kernel.values], NUMBERS[self.width])
        if self.width == "int8":
            channels, totals = _scales_and_totals(kernel, len(self.panels))
        self.weights = Weights(self.panels.reshape(-1), channels, totals)

    def attributes(self):
        """A dict of arrays and JSON values, from which `of` makes an equal Packed."""
        others = {name: value for name, value in vars(self).items() if name != "weights"}
        return {**others, "channels": self.weights.channels, "totals": self.weights.totals}

    @classmethod
    def of(cls, shape, panels, channels, totals, **others):
        """Make a Packed from its `attributes`, without packing a kernel."""
        packed = cls.__new__(cls)
        weights = Weights(panels.reshape(-1), channels, totals)
        packed.__dict__.update(others, shape=tuple(shape), panels=panels, weights=weights)
        return packed

    def unpacked(self):
        """Restore the kernel bit for bit: a float32 array, or a Kernel."""
        N = self.shape[-1]
        if self.kept is not None:
            return self.kept
        if self.parts > 1:
            matrix = math.prod(self.shape[:-1]), N
            return amx.restored(np.stack([_unpacked(part, matrix) for part in self.panels])).reshape(self.shape)
        if self.width == "float32":
            return _unpacked(self.panels[..., None], self.shape)
        values = _unpacked(self.panels, self.shape)
        if self.width == "bfloat16":
            return Kernel(widened(values))
        return Kernel(values, self.weights.channels[:N], self.factors)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.unpacked(), dtype, copy=copy)

    def __reduce__(self):
        return Packed, (self.unpacked(), self.precision)

    def __repr__(self):
        return f"Packed{self.shape}"


def _narrow_panels(kernels, numbers):
    """Pack kernels (KH, KW, C, O) or (C, O) of equal shape.  -> (kernels, P, words, NR, numbers), uint16 or int8

    A kernel has one of three dtypes: float32, with numbers that are rounded to bfloat16; uint16, the bits of bfloat16;
    or int8. `panels_of` returns float32, which holds each of these numbers exactly.
    """
    *taps, C, O = kernels[0].shape
    words = math.prod(taps) * ceil_div(C, numbers)
    kind = np.dtype(np.int8 if kernels[0].dtype == np.int8 else np.uint16)
    shape = len(kernels), ceil_div(O, NR), ceil_div(words, ROWS) * ROWS, NR, numbers
    size = math.prod(shape)
    packed = aligned(ceil_div(size * kind.itemsize, 4)).view(kind)[:size].reshape(shape)
    for kernel, to in zip(kernels, packed):
        if missing := -C % numbers:
            kernel = np.pad(kernel, [(0, 0)] * len(taps) + [(0, missing), (0, 0)])
        panels = panels_of(kernel.reshape(-1, O))
        if kernel.dtype == np.float32:
            panels = narrowed(panels)
        to[:, :words] = panels.reshape(len(to), words, numbers, NR).swapaxes(2, 3)
        to[:, words:] = 0
    return packed


def _unpacked(panels, shape):
    """Restore a kernel (KH, KW, C, O) or (C, O) from panels (P, words, columns, numbers)."""
    *taps, C, O = shape
    P, _, columns, numbers = panels.shape
    words = math.prod(taps) * ceil_div(C, numbers)
    values = panels[:, :words].transpose(1, 3, 0, 2).reshape(*taps, -1, P * columns)
    return values[..., :C, :O]


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
