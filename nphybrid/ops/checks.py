"""Checks of arrays in the Python wrappers, before a jitted loop reads them without checks."""
import numpy as np


def floats(x, name="x", shape=None):
    """x, contiguous and writable, so that each loop is compiled once; a copy where needed.

    Raises TypeError if x is not a float32 array, ValueError if it has not the shape.
    """
    if getattr(x, "dtype", None) != np.float32:
        raise TypeError(f"{name}: expected a float32 array, found {getattr(x, 'dtype', type(x).__name__)}")
    if shape is not None and x.shape != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, found {x.shape}")
    return x if x.flags.carray else np.require(x, requirements="CWA")


def dtype_name(dtype):
    """The name of a dtype that is given by name, class or np.dtype.  bfloat16, which NumPy lacks, is given by name."""
    try:
        return np.dtype(dtype).name
    except TypeError:
        return dtype
