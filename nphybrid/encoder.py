"""The transformer encoder: L blocks, each of self-attention and an MLP.

The attention of a block gets a normalized copy of the tokens x, and the result is added to x. Then the MLP gets a
normalized copy of the new x, and the result is added to x (ViT, section 3.1).
"""
import numpy as np


def encoder(x, p, config, ops, out, head_mask=None, needed=None):
    """Compute L blocks, then the last layer norm.  (B, T, D) -> (B, T, D)   ViT eq. 2-4

    `head_mask`: an array (L, A) with a factor for each head, or None. `needed`: None, or a number N of tokens. Then the
    last block computes only the first N tokens, and the result is (B, N, D). If the last layer norm follows the
    pooling, p.norm is None.
    """
    for l, learned in enumerate(p.blocks):
        name = f"blocks.{l}"
        mask = None if head_mask is None else head_mask[l]                              # (12,)
        last = l + 1 == len(p.blocks)
        x = out[name] = block(x, learned, config, ops, out.at(name), mask,
                              needed if last else None)                                 # (B, 577, 768)
    return x if p.norm is None else ops.layer_norm(x, p.norm, config.ln_eps)


def block(x, p, config, ops, out, head_mask=None, needed=None):
    """Attention with a shortcut, then an MLP with a shortcut.  (B, T, D) -> (B, T, D)   ViT eq. 2, 3

    If `needed` is a number N, only the first N tokens are computed, from the keys and values of all tokens.
    """
    y = out["norm1"] = ops.layer_norm(x, p.norm1, config.ln_eps)
    y = attention(y, p, config, ops, out, head_mask, needed)
    x = x if needed is None else x[:, :needed]
    # The state "out" is the sum of the shortcut and the projected attention.
    x = out["out"] = ops.linear_add(y, p.out, x)                                        # (B, 577, 768)
    y = out["norm2"] = ops.layer_norm(x, p.norm2, config.ln_eps)
    y = out["fc1"] = ops.linear_activate(y, p.fc1, config.activation)                   # (B, 577, 3072)
    return ops.linear_add(y, p.fc2, x)                                                  # (B, 577, 768)


def attention(x, p, config, ops, out, head_mask=None, needed=None):
    """Multi-head self-attention without the output projection.  (B, T, D) -> (B, T, D)   ViT eq. 5-8

    Equation 5 defines q, k and v. Equation 6 defines the weights, and equation 7 defines the context. Equation 8 joins
    the heads and defines the output projection, which is in `block`.

    Each head has the width K = D / A. Head a, counted from 0, has the columns a * K to (a + 1) * K - 1 of q, k and v.
    In each head, weights = softmax(q @ k.T / sqrt(K)) and context = weights @ v. For each query, the sum of the
    weights over all keys is 1. The (B, A, T, T) weights of all heads are stored only if `out.wants("weights")` is
    True. `head_mask` (A,) has a factor for the weights and the context of each head, or is None. If `needed` is a
    number N, only the first N tokens are queries.
    """
    queries = x if needed is None else x[:, :needed]
    q = out["query"] = ops.linear(queries, p.query)                                     # (B, 577, 768)
    k = out["key"] = ops.linear(x, p.key)                                               # (B, 577, 768)
    v = out["value"] = ops.linear(x, p.value)                                           # (B, 577, 768)
    if out.wants("weights"):
        # The column at the right has the shape of the weights.
        x, weights = ops.attention_with_weights(q, k, v, config.heads)                  # (B, 12, 577, 577)
        out["weights"] = weights if head_mask is None else weights * head_mask[:, None, None]
    else:
        x = ops.attention(q, k, v, config.heads)
    if head_mask is not None:
        x = x * np.repeat(head_mask, config.head_width)                                 # (B, 577, 768)
    out["context"] = x                                                                  # (B, 577, 768)
    return x
