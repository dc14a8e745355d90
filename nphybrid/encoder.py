"""The transformer encoder: L blocks of self-attention and MLP.

Pre-norm: attention and MLP each read a normalized copy of x, and their result is added to x. ViT, section 3.1.
"""
import numpy as np


def encoder(x, p, config, ops, out, head_mask=None):
    """L blocks, then the last layer norm.  (B, T, D) -> (B, T, D)   ViT eq. 2-4

    head_mask: (L, A), or None. Each head's context is multiplied by its entry in head_mask. p.norm is None where the
    layer norm follows the pooling.
    """
    for l, learned in enumerate(p.blocks):
        name = f"blocks.{l}"
        mask = None if head_mask is None else head_mask[l]                              # (12,)
        x = out[name] = block(x, learned, config, ops, out.at(name), mask)              # (B, 577, 768)
    return x if p.norm is None else ops.layer_norm(x, p.norm, config.ln_eps)


def block(x, p, config, ops, out, head_mask=None):
    """Attention, then an MLP, each with a shortcut around it.  (B, T, D) -> (B, T, D)   ViT eq. 2, 3"""
    y = out["norm1"] = ops.layer_norm(x, p.norm1, config.ln_eps)
    y = attention(y, p, config, ops, out, head_mask)
    # The state "out" is the x after the sum.
    x = out["out"] = ops.linear_add(y, p.out, x)                                        # (B, 577, 768)
    y = out["norm2"] = ops.layer_norm(x, p.norm2, config.ln_eps)
    y = out["fc1"] = ops.linear_activate(y, p.fc1, config.activation)                   # (B, 577, 3072)
    return ops.linear_add(y, p.fc2, x)                                                  # (B, 577, 768)


def attention(x, p, config, ops, out, head_mask=None):
    """Multi-head self-attention without its output projection.  (B, T, D) -> (B, T, D)   ViT eq. 5-8

    Equation 5 makes q, k and v, 6 the weights, 7 the context; 8 joins the heads (its projection is in `block`). Head a,
    counted from 0, owns the columns a K to (a + 1) K - 1 of q, k and v, where K = D / A. With its columns of q, k and
    v: weights = softmax(q @ k.T / sqrt(K)); the weights of one query, over all keys, sum to 1; context = weights @ v.
    The (B, A, T, T) weights are stored only if `out.wants("weights")`.
    """
    q = out["query"] = ops.linear(x, p.query)                                           # (B, 577, 768)
    k = out["key"] = ops.linear(x, p.key)                                               # (B, 577, 768)
    v = out["value"] = ops.linear(x, p.value)                                           # (B, 577, 768)
    if out.wants("weights"):
        # At the right: the shape of the weights.
        x, weights = ops.attention_with_weights(q, k, v, config.heads)                  # (B, 12, 577, 577)
        out["weights"] = weights if head_mask is None else weights * head_mask[:, None, None]
    else:
        x = ops.attention(q, k, v, config.heads)                                        # (B, 577, 768)
    if head_mask is not None:
        x = x * np.repeat(head_mask, config.head_width)                                 # (B, 577, 768)
    out["context"] = x                                                                  # (B, 577, 768)
    return x
