"""One vocabulary, two arithmetics: `reference` defines the words, `kernels` speaks them fast.

Model code receives one of the two modules as its argument `ops`. Both have every word below, with the
same signature; a fusion is a word of its own, and its reference is the composition.
"""
import numpy as np

from .checks import dtype_name

OPERATIONS = (
    "prepare",                                                            # once, at load; `ready` for one array
    "conv2d", "max_pool", "mean_pool",                                    # maps   (B, H, W, C)
    "group_norm", "group_norm_activate", "group_norm_add_activate",
    "layer_norm", "linear", "linear_activate", "linear_add",              # tokens (B, T, D)
    "attention", "attention_with_weights",
    "activate",
)

# "high" permits products of 16 bits instead of 24 where they are faster: float32 kernels on AMX.
PRECISIONS = "highest", "high"
PAIRS = (("reference", "float32"), ("reference", "float64"), ("numba", "float32"), ("numba", "bfloat16"))


def floats_of(dtype):
    """The NumPy dtype of the arrays that flow in a model of a dtype: bfloat16 is a matter of weights (and of AMX)."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def implementation(engine, dtype, precision="highest"):
    """The module that speaks the vocabulary for an engine.  Raises ValueError that names the valid pairs."""
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
