"""The operations of the network: `reference` defines them in NumPy, and `kernels` computes them fast.

Each function of the network takes the module `reference` or the module `kernels` as its argument `ops`. Both modules
define every operation of OPERATIONS, with the same signature. A fused operation, such as `linear_activate`, has its own
name in OPERATIONS. `reference` defines each fused operation as a composition of simpler operations.
"""
import numpy as np

from .checks import dtype_name

OPERATIONS = (
    "prepare",                                                            # prepares all weights
    "conv2d", "max_pool", "mean_pool",                                    # on maps (B, H, W, C)
    "group_norm", "group_norm_activate", "group_norm_add_activate",
    "layer_norm", "linear", "linear_activate", "linear_add",              # on tokens (B, T, D)
    "attention", "attention_with_weights",
    "activate",
)

# Precision "high" lets the float32 kernels on AMX compute products with 16 significant bits, which is faster.
# Precision "highest" always keeps the 24 significant bits of a float32.
PRECISIONS = "highest", "high"
PAIRS = (("reference", "float32"), ("reference", "float64"), ("numba", "float32"), ("numba", "bfloat16"))


def floats_of(dtype):
    """The NumPy dtype of a model's intermediate states: float32 if `dtype` is bfloat16, else `dtype`.

    Only weights are stored in bfloat16.
    """
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def implementation(engine, dtype, precision="highest"):
    """Return the module with the operations for an engine and a dtype.

    Raises ValueError if PAIRS lacks the pair (engine, dtype), or if PRECISIONS lacks the precision. The error message
    lists the valid values.
    """
    dtype = dtype_name(dtype)
    if (engine, dtype) not in PAIRS:
        raise ValueError("engine and dtype: expected one of "
                         + ", ".join(f"({e!r}, {d!r})" for e, d in PAIRS) + f", found ({engine!r}, {dtype!r})")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, found {precision!r}")
    if engine == "reference":
        from . import reference
        return reference
    from . import kernels
    return kernels


def plans_for(engine):
    """Return an empty collection of plans (plans.py), or None for an engine that computes without kernels."""
    if engine == "reference":
        return None
    from .plans import Plans
    return Plans()


def gradient_rules(engine, dtype):
    """Return the rules of the backward pass for an engine and a dtype: a dict {operation: rule}.

    Raises ValueError for bfloat16 and for the pairs that `implementation` refuses.
    """
    implementation(engine, dtype)
    if dtype_name(dtype) == "bfloat16":
        raise ValueError("gradients: expected a model with dtype float32 or float64, found bfloat16")
    if engine == "reference":
        from . import gradients
        return gradients.RULES
    from . import gradient_kernels
    return gradient_kernels.RULES
