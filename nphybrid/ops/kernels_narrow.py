"""Fast versions of the operations of `reference_narrow`, for the dtypes bfloat16 and int8.

The linear layers and the convolutions are the functions of `kernels`, because a Packed knows its width. Attention has
no Packed, so bfloat16 attention has functions of its own.
"""
from .attention import narrow_attention as attention
from .attention import narrow_attention_with_weights as attention_with_weights
from .kernels import (activate, conv2d, group_norm, group_norm_activate, group_norm_add_activate, layer_norm, linear,
                      linear_activate, linear_add, max_pool, mean_pool, prepare, ready)

__all__ = ["activate", "attention", "attention_with_weights", "conv2d", "group_norm", "group_norm_activate",
           "group_norm_add_activate", "layer_norm", "linear", "linear_activate", "linear_add", "max_pool", "mean_pool",
           "prepare", "ready"]
