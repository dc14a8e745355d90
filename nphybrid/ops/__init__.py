"""The operations of the network: `reference` defines them in NumPy, and `kernels` computes them fast.

Each function of the network takes the module `reference` or the module `kernels` as its argument `ops`. Both modules
define every operation of OPERATIONS, with the same signature. A fused operation, such as `linear_activate`, has its own
name in OPERATIONS. `reference` defines each fused operation as a composition of simpler operations.
`reference_narrow` and `kernels_narrow` are the same for the dtypes bfloat16 and int8.
"""
import functools
import os

import numpy as np

from .checks import dtype_name
from .interrupts import uninterrupted

# Numba's own message about the number 0 does not name the variable.
_number = os.environ.get("NUMBA_NUM_THREADS", "").strip()
if _number and not (_number.isdecimal() and int(_number) > 0):
    raise ValueError(f"NUMBA_NUM_THREADS={_number}: expected a whole number of at least 1")

OPERATIONS = (
    "prepare",                                                            # prepares all weights
    "conv2d", "max_pool", "mean_pool",                                    # on maps (B, H, W, C)
    "group_norm", "group_norm_activate", "group_norm_add_activate",
    "layer_norm", "linear", "linear_activate", "linear_add",              # on tokens (B, T, D)
    "attention", "attention_with_weights",
    "activate",                                                           # only in a Record (record.py)
)

# Precision "high" lets the float32 kernels on AMX compute products with 16 significant bits: from three products of
# bfloat16 parts instead of six (amx.py). Its speed was not measured.
# Precision "highest" always keeps the 24 significant bits of a float32.
PRECISIONS = "highest", "high"
NARROW = "bfloat16", "int8"
PAIRS = (("reference", "float32"), ("reference", "float64"), ("reference", "bfloat16"), ("reference", "int8"),
         ("numba", "float32"), ("numba", "bfloat16"), ("numba", "int8"))


def floats_of(dtype):
    """The NumPy dtype of a model's states: float32 if `dtype` is bfloat16 or int8, else `dtype`.

    Only the factors of products have a narrow dtype.
    """
    dtype = dtype_name(dtype)
    return np.dtype("float32" if dtype in NARROW else dtype)


def implementation(engine, dtype, precision="highest"):
    """Return the module with the operations for an engine and a dtype.

    Raises ValueError if PAIRS lacks the pair (engine, dtype), or if PRECISIONS lacks the precision. The error message
    lists the valid values. Raises ValueError for the precision "high" of bfloat16 and int8.
    """
    dtype = dtype_name(dtype)
    if (engine, dtype) not in PAIRS:
        dtypes = [pair[1] for pair in PAIRS if pair[0] == engine]
        raise ValueError(f"the engine {engine!r} with the dtype {dtype!r}: expected " + (
            f"one of the dtypes {', '.join(dtypes)}" if dtypes else
            f"one of the engines {', '.join(dict(PAIRS))}") + (
            "; the engine 'reference' has float64" if dtype == "float64" else ""))
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, found {precision!r}")
    if precision == "high" and dtype in NARROW:
        raise ValueError(f"precision: expected 'highest' for the dtype {dtype}, found 'high', which is for float32")
    if engine == "reference":
        from . import reference, reference_narrow
        return reference_narrow if dtype in NARROW else reference
    kernels, kernels_narrow = _kernels()
    return kernels_narrow if dtype in NARROW else kernels


@functools.cache
@uninterrupted
def _kernels():
    """Import Numba and the modules of kernels."""
    from . import kernels, kernels_narrow
    return kernels, kernels_narrow


def plans_for(engine):
    """Return an empty collection of plans (plans.py), or None if the engine computes without compiled kernels."""
    if engine == "reference":
        return None
    from numba import config
    if config.DISABLE_JIT:
        return None
    from .plans import Plans
    return Plans()


def gradient_rules(engine, dtype):
    """Return the rules of the backward pass for an engine and a dtype: a dict {operation: rule}.

    Raises ValueError for bfloat16 and int8, and for the pairs that `implementation` refuses.
    """
    implementation(engine, dtype)
    if dtype_name(dtype) in NARROW:
        raise ValueError(f"gradients: expected a model with dtype float32 or float64, found {dtype_name(dtype)}")
    if engine == "reference":
        from . import gradients
        return gradients.RULES
    from . import gradient_kernels
    return gradient_kernels.RULES
