"""The transformer half: tokens look at each other, block by block.

Pre-norm: each half of a block reads a normalized copy and adds to the raw stream. ViT, section 3.1.
"""
import numpy as np


def encoder(x, p, config, ops, out, head_mask=None):
    """L blocks and a last layer norm, unless that follows the pooling.  (B, T, D) -> (B, T, D)   ViT eq. 2-4

    `head_mask` (L, A) is a factor on the context of each head of each block.
    """
    for l, learned in enumerate(p.blocks):
        name, mask = f"blocks.{l}", None if head_mask is None else head_mask[l]
        x = out[name] = block(x, learned, config, ops, out.at(name), mask)  # (B, 577, 768)
    return x if p.norm is None else ops.layer_norm(x, p.norm, config.ln_eps)


def block(x, p, config, ops, out, head_mask=None):
    """Attention, then an MLP, each around a shortcut.  (B, T, D) -> (B, T, D)   ViT eq. 2, 3"""
    y = out["norm1"] = ops.layer_norm(x, p.norm1, config.ln_eps)
    y = attention(y, p, config, ops, out, head_mask)
    x = out["out"] = ops.linear_add(y, p.out, x)                        # (B, 577, 768)
    y = out["norm2"] = ops.layer_norm(x, p.norm2, config.ln_eps)
    y = out["fc1"] = ops.linear_activate(y, p.fc1, config.activation)   # (B, 577, 3072)
    return ops.linear_add(y, p.fc2, x)                                  # (B, 577, 768)


def attention(x, p, config, ops, out, head_mask=None):
    """Multi-head self-attention before its output projection.  (B, T, D) -> (B, T, D)   ViT eq. 5-7

    A head has K = D / A columns of q, k and v, head 0 the first K. Its weights are softmax(q @ k.T / sqrt(K)) over
    the keys, so that those of a query sum to 1, and its context is weights @ v. The (A, T, T) weights are kept only
    where the trace wants them.
    """
    q = out["query"] = ops.linear(x, p.query)                           # (B, 577, 12 * 64)
    k = out["key"] = ops.linear(x, p.key)
    v = out["value"] = ops.linear(x, p.value)
    if out.wants("weights"):
        x, weights = ops.attention_with_weights(q, k, v, config.heads)  # (B, 12, 577, 577)
        out["weights"] = weights if head_mask is None else weights * head_mask[:, None, None]
    else:
        x = ops.attention(q, k, v, config.heads)                        # (B, 577, 12 * 64)
    x = out["context"] = x if head_mask is None else x * np.repeat(head_mask, config.head_width)
    return x
