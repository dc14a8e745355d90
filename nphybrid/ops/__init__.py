"""The operations: `reference` defines them in NumPy, `kernels` computes the same functions fast.

The network's functions take one of the two modules as their argument `ops`. Both modules have every operation below,
with the same signature. A fusion, such as `linear_activate`, is an operation with its own name; its reference is the
composition.
"""
import numpy as np

from .checks import dtype_name

OPERATIONS = (
    "prepare",                                                            # at load; `ready` for one array
    "conv2d", "max_pool", "mean_pool",                                    # maps   (B, H, W, C)
    "group_norm", "group_norm_activate", "group_norm_add_activate",
    "layer_norm", "linear", "linear_activate", "linear_add",              # tokens (B, T, D)
    "attention", "attention_with_weights",
    "activate",
)

# "high" permits products with 16 significant bits instead of 24 where that is faster: float32 kernels on AMX.
PRECISIONS = "highest", "high"
PAIRS = (("reference", "float32"), ("reference", "float64"), ("numba", "float32"), ("numba", "bfloat16"))


def floats_of(dtype):
    """The NumPy dtype of a model's states: float32 for bfloat16, which is the type of stored weights alone."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def implementation(engine, dtype, precision="highest"):
    """The module with the operations for an engine and a dtype.  Raises ValueError that lists the valid pairs."""
    dtype = dtype_name(dtype)
    if (engine, dtype) not in PAIRS:
        raise ValueError(f"engine {engine!r} with dtype {dtype!r}; expected one of "
                         + ", ".join(f"({e!r}, {d!r})" for e, d in PAIRS))
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}")
    if engine == "reference":
        from . import reference
        return reference
    from . import kernels
    return kernels
