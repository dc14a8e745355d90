"""The joint: a feature map becomes a sequence of tokens.

Each patch of the map (one cell, in most hybrids) is projected to the encoder's width. The class token goes
first, and the learned position of each token is added after that.
"""
import numpy as np


def tokens(x, p, config, ops, out, masked=None):
    """Project, prepend the class token, add positions.  (B, H, W, C) -> (B, T, D)   ViT eq. 1

    `masked`, bool (B, N) for N patches, puts the learned mask token in the place of some, before positions join.
    """
    x = patches(x, config.patch)                                        # (B, 576, 1024)
    x = out["proj"] = ops.linear(x, p.proj)                             # (B, 576, 768)
    if masked is not None:
        x = out["masked"] = np.where(masked[:, :, None], p.mask, x)
    if p.cls is not None:
        cls = np.broadcast_to(p.cls, (len(x), 1, config.width))
        x = np.concatenate([cls, x], axis=1)                            # (B, 577, 768)
    return x + p.positions


def patches(x, P):
    """Cut a map into P x P patches, row by row.  (B, H, W, C) -> (B, H/P * W/P, P * P * C)

    A rest smaller than a patch is dropped. This and a linear layer are a convolution of size P and stride P.
    """
    B, H, W, C = x.shape
    h, w = H // P, W // P
    x = x[:, :h * P, :w * P].reshape(B, h, P, w, P, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, h * w, P * P * C)
