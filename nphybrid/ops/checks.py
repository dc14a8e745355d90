"""What the checked wrappers ask of an array before a jitted loop reads it."""
import numpy as np


def floats(x, name="x", shape=None):
    """x as the jitted loops want it: contiguous and writable (one compilation each), float32 or an error."""
    if getattr(x, "dtype", None) != np.float32:
        raise TypeError(f"{name} must be a float32 array, got {getattr(x, 'dtype', type(x).__name__)}")
    if shape is not None and x.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {x.shape}")
    return x if x.flags.carray else np.require(x, requirements="CWA")


def dtype_name(dtype):
    """A dtype by its name, however it is spelled.  NumPy does not know bfloat16, which therefore is always a name."""
    try:
        return np.dtype(dtype).name
    except TypeError:
        return dtype
