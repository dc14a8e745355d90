"""The checks of arrays in the Python wrappers.  The jitted loops check nothing."""
import numpy as np

DTYPE_NAMES = "float32", "float64", "bfloat16", "int8"


def floats(x, name="x", shape=None):
    """Return x as a contiguous and writable array.  x is copied only if necessary.

    If all arrays are contiguous and writable, Numba compiles each loop for only one type of array. Raises
    TypeError if x is not a float32 array. Raises ValueError if x does not have the given shape.
    """
    if getattr(x, "dtype", None) != np.float32:
        raise TypeError(f"{name}: expected a float32 array, found {getattr(x, 'dtype', type(x).__name__)}")
    if shape is not None and x.shape != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)}, found {x.shape}")
    return x if x.flags.carray else np.require(x, requirements="CWA")


def dtype_name(dtype):
    """The name of a dtype, which can be given as a name, a class, an np.dtype or a torch.dtype.

    NumPy has no bfloat16, so bfloat16 is always given as a name. The attribute `name` of an np.dtype takes 3
    microseconds, so a name in DTYPE_NAMES is returned at once.
    """
    if isinstance(dtype, str) and dtype in DTYPE_NAMES:
        return dtype
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype).removeprefix("torch.")
