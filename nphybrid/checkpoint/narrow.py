"""Narrow weights in a file: kernels as they are multiplied in bfloat16 or int8.

    array                dtype        contents
    NAME.weight          uint16       the bits of bfloat16 numbers
    NAME.weight          int8         integers -127 to 127
    NAME.weight.scales   float32      for int8: the scale of each output channel
    NAME.weight.factors  float32      for int8 in linear layers and 1x1 kernels: the factor of each input channel

The arrays have the names and layouts of Hugging Face.  Narrow kernels of convolutions are standardized.  So the
original weights cannot be restored from such a file.  Arrays that are not narrow are stored as in any other file.  The
file is an `.h5` file, or the model.safetensors of a Hugging Face folder.  The key "dtype" of its manifest (files.py) is
the dtype of the model.  In an int8 file, some kernels are bfloat16.
`ops/reference_narrow.py` defines the numbers, and says which kernels are narrow.
"""
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dialects.layout import Layout, Shape, Table, entry
from ..ops import NARROW
from ..ops.reference_narrow import Kernel, bits_of, widened
from ..params import Params, named_leaves
from ..tensorfile import FormatError
from ..text import shortened

SCALING = SCALES, FACTORS = ".scales", ".factors"


@dataclass(frozen=True)
class Narrow:
    """A narrow kernel in a file.  The fields are Stored or arrays, or None if the file does not have the array."""
    values: Any
    scales: Any = None
    factors: Any = None

    dtype = np.dtype(np.float32)            # of the numbers for which the values stand

    @property
    def shape(self) -> Shape:
        """The shape of the kernel in the layout of the file."""
        return self.values.shape

    def parts(self) -> Iterator[Any]:
        """The arrays of the file."""
        yield from (part for part in (self.values, self.scales, self.factors) if part is not None)

    def kernel(self, layout: Layout, shape: Shape) -> Kernel:
        """Reads the kernel, and changes its layout to the layout of this package.

        Raises ValueError for numbers that no kernel of the width has.
        """
        values = layout.ours(np.asarray(self.values), shape)
        if values.dtype == np.uint16:
            values = widened(values)
            if not np.isfinite(values).all():
                raise ValueError("expected finite bfloat16 numbers, found NaN or infinity")
            return Kernel(values)
        if values.min(initial=0) < -127:
            raise ValueError("expected integers from -127 to 127, found -128")
        scales = _positive(self.scales, shape[-1], "scales")
        if math.prod(shape[:-2]) == 1:
            return Kernel(values, scales, _positive(self.factors, shape[-2], "factors"))
        if self.factors is not None:
            raise ValueError(f"expected no factors of a kernel {list(shape[:2])}, found {list(self.factors.shape)}")
        return Kernel(values, scales)


def _positive(array, count, what):
    """Reads `count` positive numbers."""
    if array is None:
        raise ValueError(f"expected {count} {what} of the integers, found no array of {what}")
    numbers = np.asarray(array)
    if numbers.shape != (count,) or numbers.dtype != np.float32:
        raise ValueError(f"expected {count} positive {what} in float32, found an array {list(numbers.shape)} of "
                         f"{numbers.dtype}")
    wrong = ~(np.isfinite(numbers) & (numbers > 0))
    if wrong.any():
        raise ValueError(f"expected {count} positive {what}, found {numbers[wrong][0]}")
    return numbers


def stored_dtype(manifest: Mapping[str, Any], path: Any) -> str | None:
    """Returns the dtype of a file with narrow weights, or None for any other file.

    Raises FormatError for an unknown dtype.
    """
    dtype = manifest.get("dtype")
    if "dtype" in manifest and dtype not in NARROW:
        raise FormatError(f"{path}: the manifest has the dtype {shortened(dtype)}, expected one of {', '.join(NARROW)}")
    return dtype


def paired(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Joins each narrow array of a file with its scales and factors.  {name: Stored} -> {name: Stored or Narrow}"""
    joined = dict(arrays)
    for name, array in arrays.items():
        if array.dtype == np.uint16:
            joined[name] = Narrow(array)
        elif array.dtype == np.int8:
            joined[name] = Narrow(array, joined.pop(name + SCALES, None), joined.pop(name + FACTORS, None))
    return joined


def all_arrays(arrays: Mapping[str, Any]) -> list[Any]:
    """Returns all arrays of a dict, and those of each Narrow.  {name: array, Stored or Narrow} -> [array or Stored]"""
    return [part for array in arrays.values() for part in (array.parts() if isinstance(array, Narrow) else [array])]


def narrow_state(params: Params, table: Table, config: Any, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file with narrow kernels.

    `params` is the tree of `reference_narrow`, and `state` has all arrays of the model with Hugging Face's names.
    """
    arrays: dict[str, Any] = dict(state)
    for name, leaf in named_leaves(params).items():
        if not isinstance(leaf, Kernel):
            continue
        theirs, layout = entry(name, table)
        values = leaf.values
        if leaf.width == "bfloat16":
            values = bits_of(values)
        else:
            arrays[theirs + SCALES] = leaf.scales
            if leaf.factors is not None:
                arrays[theirs + FACTORS] = leaf.factors
        arrays[theirs] = np.ascontiguousarray(layout.theirs(values, config))
    return arrays
