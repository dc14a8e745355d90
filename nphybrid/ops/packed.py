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
"""
import math
from typing import NamedTuple

import numpy as np

from ..params import tree_map
from . import amx
from .amx import widened
from .checks import dtype_name
from .integers import ceil_div
from .memory import aligned
from .panels import panels_of, transposed_panels
from .standardization import standardize
from .target import ISA

AMX = ISA == "amx"

# For each (dtype, precision), PARTS gives the number of bfloat16 parts of a weight in a product on AMX.
# Without AMX, 2 and 3 mean that the weights are float32, and 1 means that the weights are bfloat16.
PARTS = {("float32", "highest"): 3, ("float32", "high"): 2, ("bfloat16", "highest"): 1, ("bfloat16", "high"): 1}

# BEYOND is halfway between the largest finite bfloat16 and 2**128.
# The bfloat16 nearest to a number of at least BEYOND is infinite.
BEYOND = np.uint32(0x7F7F8000).view(np.float32)


class Packed:
    """A kernel (KH, KW, C, O) or (C, O), stored in panels.

    `parts` is a value of PARTS. If `parts` is 1, the weights are bfloat16 and take half the memory, and AMX also rounds
    the input x to bfloat16. The layout of the panels depends on the instruction set. So a pickle holds the unpacked
    kernel, which is packed again when the pickle is read.

    The attributes are: shape, ndim, dtype, parts, panels, kept. `kept` is the kernel itself if the panels cannot
    restore it, else None.
    """

    def __init__(self, kernel, parts=3):
        if not kernel.size:
            raise ValueError(f"expected a kernel with weights, found the shape {kernel.shape}, which has no weights")
        self.shape = kernel.shape
        self.ndim = kernel.ndim
        self.dtype = kernel.dtype
        self.parts = parts
        kernel = kernel.reshape(-1, kernel.shape[-1])
        if parts == 1 and not (largest := np.abs(kernel).max()) < BEYOND:
            raise ValueError(f"expected weights that are finite in bfloat16 (at most 3.3895e38), found {largest}")
        if AMX:
            self.panels, exact = amx.packed(kernel, amx.held(parts))
        else:
            self.panels = _packed(kernel, parts)
            exact = parts > 1
        self.kept = None if exact or parts == 1 else np.array(kernel)

    def unpacked(self):
        """Restore the kernel bit for bit.  A bfloat16 kernel is returned as float32."""
        if self.kept is not None:
            return self.kept.reshape(self.shape)
        K = math.prod(self.shape[:-1])
        N = self.shape[-1]
        kernel = amx.unpacked(self.panels, K, N) if AMX else _unpacked(self.panels, K, N)
        return kernel.reshape(self.shape)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.unpacked(), dtype, copy=copy)

    def __reduce__(self):
        return Packed, (self.unpacked(), self.parts)

    def __repr__(self):
        return f"Packed{self.shape}"


def _packed(kernel, parts):
    """Pack a kernel (K, N) into panels (P, K, NR).  The panels are float32, or bfloat16 stored as uint16."""
    panels = panels_of(kernel)
    if parts > 1:
        return panels
    halves = aligned(ceil_div(panels.size, 2)).view(np.uint16)[:panels.size].reshape(panels.shape)
    halves[:] = narrowed(panels)
    return halves


def _unpacked(panels, K, N):
    kernel = panels.transpose(1, 0, 2).reshape(K, -1)[:, :N]
    return widened(kernel) if panels.dtype == np.uint16 else kernel


class Panels(NamedTuple):
    """A float32 kernel in panels, for a single product.  `multiply` of matmul.py takes a Panels or a Packed."""
    shape: tuple[int, ...]                # (KH, KW, C, O) or (C, O)
    panels: np.ndarray                    # (P, K, NR)
    parts: int = 3                        # as in Packed


def packed_once(kernel):
    """Pack a float32 array for one product.  A Packed is returned unchanged.  (…, C, O) -> Panels or Packed"""
    if isinstance(kernel, Packed):
        return kernel
    if AMX:
        return Packed(kernel)
    return Panels(kernel.shape, panels_of(kernel.reshape(-1, kernel.shape[-1])))


def packed_transposed(kernel, taps):
    """Pack the transposed matrices of some taps, one below the other.  kernel (KH, KW, C, O) -> Panels

    `taps` lists pairs (u, v) of numbers. The packed matrix is concatenate([kernel[u, v].T for (u, v) in taps]), of
    shape (len(taps) * O, C). The shape of the result is (len(taps), 1, O, C).
    """
    _, KW, C, O = kernel.shape
    shape = len(taps), 1, O, C
    if AMX:
        return Packed(np.concatenate([kernel[u, v].T for u, v in taps]).reshape(shape))
    starts = np.array([(u * KW + v) * C * O for u, v in taps])
    return Panels(shape, transposed_panels(kernel.reshape(-1), starts, C, O))


def narrowed(x):
    """Round float32 numbers to the nearest bfloat16, with ties to even.  -> the bits of bfloat16, as uint16"""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def ready(name, array, config, dtype=np.float32, precision="highest"):
    """Prepare a learned array: a kernel becomes Packed, and any other array becomes float32.

    The kernel of a convolution is standardized.
    """
    dtype = dtype_name(dtype)
    if (dtype, precision) not in PARTS:
        raise TypeError(f"dtype: expected float32 or bfloat16, found {dtype}; engine='reference' takes float64")
    if array.ndim == 4:
        array = standardize(array, config.ws_eps, config.ws_form)
    elif array.ndim != 2 or not name.endswith("kernel"):
        return np.array(array, np.float32, order="C")
    return Packed(array.astype(np.float32, copy=False), PARTS[dtype, precision])


def prepare(params, config, dtype=np.float32, precision="highest"):
    """Apply `ready` to every array of a parameter tree."""
    return tree_map(lambda name, array: ready(name, array, config, dtype, precision), params)
