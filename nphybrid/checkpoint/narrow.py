"""Narrow weights in an `.h5` file: kernels as they are multiplied in bfloat16 or int8.

    array                dtype        contents
    NAME.weight          uint16       the bits of bfloat16 numbers
    NAME.weight          int8         integers -127 to 127
    NAME.weight.scales   float32      for int8: the scale of each output channel

The arrays have the names and layouts of Hugging Face.  Narrow kernels of convolutions are standardized.  So the original
weights cannot be restored from such a file.  Arrays that are not narrow are stored as in any other `.h5` file.  The key
"dtype" of the manifest is the dtype of the model.  `ops/reference_narrow.py` defines the numbers.
"""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dialects.layout import Layout, Shape, Table, entry
from ..ops.reference_narrow import Kernel
from ..params import Params, named_leaves

SCALES = ".scales"


@dataclass(frozen=True)
class Narrow:
    """A narrow kernel in a file.  `values` and `scales` are Stored or arrays; without int8, `scales` is None."""
    values: Any
    scales: Any

    dtype = np.dtype(np.float32)            # of the numbers for which the values stand

    @property
    def shape(self) -> Shape:
        return self.values.shape

    def parts(self) -> Iterator[Any]:
        """The arrays of the file."""
        yield self.values
        if self.scales is not None:
            yield self.scales

    def kernel(self, layout: Layout, shape: Shape) -> Kernel:
        """Reads the kernel, and changes its layout to the layout of this package.

        Raises ValueError for numbers that no kernel of the width has.
        """
        values = layout.ours(np.asarray(self.values), shape)
        if self.scales is None:
            values = (values.astype(np.uint32) << 16).view(np.float32)
            if not np.isfinite(values).all():
                raise ValueError("expected finite bfloat16 numbers, found NaN or infinity")
            return Kernel(values)
        scales = np.asarray(self.scales)
        if scales.shape != shape[-1:] or not (np.isfinite(scales) & (scales > 0)).all():
            raise ValueError(f"expected {shape[-1]} positive scales, found scales of the shape {list(scales.shape)} "
                             f"from {scales.min(initial=np.inf)} to {scales.max(initial=-np.inf)}")
        if values.min(initial=0) < -127:
            raise ValueError("expected integers from -127 to 127, found -128")
        return Kernel(values, scales)


def paired(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Joins each narrow array of a file with its scales.  {name: Stored} -> {name: Stored or Narrow}"""
    narrow = {name: Narrow(array, arrays.get(name + SCALES) if array.dtype == np.int8 else None)
              for name, array in arrays.items() if array.dtype in (np.uint16, np.int8)}
    joined = {name + SCALES for name, kernel in narrow.items() if kernel.scales is not None}
    return {name: narrow.get(name, array) for name, array in arrays.items() if name not in joined}


def narrow_state(params: Params, table: Table, config: Any, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file with narrow kernels.

    `params` is the tree of `reference_narrow`, and `state` is the state_dict of the float32 model.
    """
    arrays = dict(state)
    for name, leaf in named_leaves(params).items():
        if not isinstance(leaf, Kernel):
            continue
        theirs, layout = entry(name, table)
        values = leaf.values
        if leaf.width == "bfloat16":
            values = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        else:
            arrays[theirs + SCALES] = leaf.scales
        arrays[theirs] = np.ascontiguousarray(layout.theirs(values, config))
    return arrays
