"""Kernels of linear layers and convolutions as the loops read them."""
import math

import numpy as np

from ..params import tree_map
from . import amx, reference
from .amx import widened
from .checks import dtype_name
from .memory import aligned
from .target import ISA, NR

AMX = ISA == "amx"

# How many bfloat16 stand for a weight where it is multiplied. Without AMX more than one is a float32.
PARTS = {("float32", "highest"): 3, ("float32", "high"): 2, ("bfloat16", "highest"): 1, ("bfloat16", "high"): 1}

BEYOND = np.uint32(0x7F7F8000).view(np.float32)         # halfway to the bfloat16 that there is no more


class Packed:
    """A kernel (KH, KW, C, O) or (C, O) as the loops read it: panels of columns, zeros beyond the last.

    parts: see PARTS; one is bfloat16, in half the memory, where AMX rounds what it meets as well. Panels are
    (P, K, NR), or AMX's (`amx.packed`). The layout is the instruction set's: a pickle holds the kernel itself, which is
    packed where it is read.

    Attributes: shape, ndim, dtype, parts; panels; kept: None, or the kernel where its panels cannot give it back.
    """

    def __init__(self, kernel, parts=3):
        if not kernel.size:
            raise ValueError(f"a kernel of shape {kernel.shape} has no weights")
        self.shape, self.ndim, self.dtype, self.parts = kernel.shape, kernel.ndim, kernel.dtype, parts
        kernel = kernel.reshape(-1, kernel.shape[-1])
        if parts == 1 and not (largest := np.abs(kernel).max()) < BEYOND:
            raise ValueError(f"{largest} is no finite bfloat16; those end at 3.3895e38")
        self.panels, exact = amx.packed(kernel, amx.held(parts)) if AMX else _packed(kernel, parts)
        self.kept = None if exact or parts == 1 else np.array(kernel)

    def unpacked(self):
        """The kernel, bit for bit; of a bfloat16 one the values, as float32."""
        if self.kept is not None:
            return self.kept.reshape(self.shape)
        K, N = math.prod(self.shape[:-1]), self.shape[-1]
        return (amx.unpacked if AMX else _unpacked)(self.panels, K, N).reshape(self.shape)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.unpacked(), dtype, copy=copy)

    def __reduce__(self):
        return Packed, (self.unpacked(), self.parts)

    def __repr__(self):
        return f"Packed{self.shape}"


def _packed(kernel, parts):
    """(K, N) -> the panels, and whether they give the kernel back bit for bit."""
    K, N = kernel.shape
    shape, narrow = (-(-N // NR), K, NR), parts == 1
    size = math.prod(shape)
    panels = (aligned(-(-size // 2)).view(np.uint16)[:size] if narrow else aligned(size)).reshape(shape)
    for p, panel in enumerate(panels):
        n = min(NR, N - p * NR)
        columns = kernel[:, p * NR:p * NR + n]
        panel[:, :n] = narrowed(columns) if narrow else columns
        panel[:, n:] = 0
    return panels, not narrow


def _unpacked(panels, K, N):
    kernel = panels.transpose(1, 0, 2).reshape(K, -1)[:, :N]
    return widened(kernel) if panels.dtype == np.uint16 else kernel


def narrowed(x):
    """float32 -> bfloat16, its upper half, as uint16: to nearest, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def ready(name, array, config, dtype=np.float32, precision="highest"):
    """Kernels become Packed. Standardized in float64: each weight carries one rounding."""
    dtype = dtype_name(dtype)
    if (dtype, precision) not in PARTS:
        raise TypeError(f"the kernels compute in float32 or bfloat16, not {dtype}: see engine='reference'")
    if array.ndim == 4:
        array = reference.standardize(np.array(array, np.float64, order="C"), config.ws_eps, config.ws_form)
    elif array.ndim != 2 or not name.endswith("kernel"):
        return np.array(array, np.float32, order="C")
    return Packed(array.astype(np.float32, copy=False), PARTS[dtype, precision])


def prepare(params, config, dtype=np.float32, precision="highest"):
    """`ready` for every array."""
    return tree_map(lambda name, array: ready(name, array, config, dtype, precision), params)
