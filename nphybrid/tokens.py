"""The functions that turn the feature map into a sequence of tokens.

A linear layer projects each patch of the map to the width D of the encoder. In most hybrids, a patch is one cell. The
class token is put before the patches. The learned vector of each position is added to the token at this position.
"""
import numpy as np


def tokens(x, p, config, ops, out, masked=None):
    """Project the patches, prepend the class token, add the positions.  (B, H, W, C) -> (B, T, D)   ViT eq. 1

    `masked`: a bool array (B, N) for the N patches of each image, or None. Where `masked` is True, the learned mask
    token replaces the projected patch.
    """
    x = patches(x, config.patch)                                                        # (B, 576, 1024)
    x = out["proj"] = ops.linear(x, p.proj)                                             # (B, 576, 768)
    if masked is not None:
        x = out["masked"] = np.where(masked[:, :, None], p.mask, x)
    if p.cls is not None:
        cls = np.broadcast_to(p.cls, (len(x), 1, config.width))                         # (B, 1, 768)
        x = np.concatenate([cls, x], axis=1)                                            # (B, 577, 768)
    return x + p.positions


def patches(x, P):
    """Cut a map into P x P patches.  (B, H, W, C) -> (B, H/P * W/P, P * P * C)

    The order of the patches is row by row. In each patch, the order of the cells is row by row, channels last. Cells
    that do not fill a patch are dropped. `patches` and a linear layer are equal to a convolution with a P x P kernel
    and stride P.
    """
    B, H, W, C = x.shape
    h, w = H // P, W // P
    x = x[:, :h * P, :w * P].reshape(B, h, P, w, P, C)                                  # (B, 24, 1, 24, 1, 1024)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(B, h * w, P * P * C)                   # (B, 576, 1024)
