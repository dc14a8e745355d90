"""The forward pass of the whole network on one screen.

`hybrid` is the Hybrid Vision Transformer. `bit` is the BiT network, which has no encoder.

Most functions of the forward pass have the arguments (x, p, config, ops, out). Some functions have more arguments, and
helpers have fewer.

    `x`        The input array, channels last: a map (B, H, W, C) or tokens (B, T, D).
    `p`        The learned arrays of the function: a `Params` (params.py) or a branch of a `Params`. The leaves of `p`
               are results of `ops.prepare`.
    `config`   A `Config` (config.py): the sizes and numerics of the network.
    `ops`      The module of operations: ops/reference.py (plain NumPy) or ops/kernels.py (fast).
    `out`      The trace (trace.py), which records intermediate states by name.

B is the number of images, H rows, W columns, C channels, T tokens, and D the width of a token. `help(nphybrid)`
explains all letters.

`x = out["stem"] = …` computes x and records x as the state "stem". The trace keeps the requested states and drops all
other states. `out.at("stages.2.8")` is a view of the trace that adds a prefix to every name. In the view
`out.at("stages.2.8")`, "conv1" is the name of the state "stages.2.8.conv1".

The column at the right of the code has the shape of each result, for R50+ViT-B/16 at 384 pixels. In `bit`, the column
has the shapes of BiT-R50x1 at 224 pixels. Users pass pixel_values as (B, C, H, W), and api/checks.py transposes the
array to (B, H, W, C).
"""
from .backbone import backbone, norm_activate
from .encoder import encoder
from .tokens import tokens


def hybrid(x, p, config, ops, out, head_mask=None, masked=None, needed=None):
    """The Hybrid Vision Transformer.  pixel_values (B, H, W, 3) -> logits (B, classes)

    Without a classifier, the result is the encoded tokens (B, T, D). If p.stem is None, the network is a plain Vision
    Transformer, whose patches are cut from the picture. `encoder` explains head_mask and needed, and `tokens` explains
    masked. If `needed` is 1, the pooling must be "token", and the state "norm" is (B, 1, D).

    >>> import numpy as np
    >>> from nphybrid.config import Config
    >>> from nphybrid.ops import reference as ops
    >>> from nphybrid.params import random, shapes
    >>> from nphybrid.trace import Trace
    >>> config = Config(image=(64, 64), depths=(1, 1), widths=(256, 512), width=96, blocks=2, heads=4, hidden=192)
    >>> p = ops.prepare(random(shapes(config), seed=0), config)
    >>> hybrid(np.zeros((1, 64, 64, 3), np.float32), p, config, ops, Trace()).shape
    (1, 1000)
    """
    out["pixel_values"] = x                                                             # (B, 384, 384, 3)
    if p.stem is not None:
        x = backbone(x, p, config, ops, out)                                            # (B, 24, 24, 1024)
    x = out["tokens"] = tokens(x, p.tokens, config, ops, out.at("tokens"), masked)      # (B, 577, 768)
    # The result of the encoder is always recorded as "norm", even if p.norm is None.
    x = out["norm"] = encoder(x, p, config, ops, out, head_mask, needed)                # (B, 577, 768)
    reads_token = config.pool == "token" and p.pool_norm is None and p.pre_logits is None
    # In the hybrids of PRESETS (config.py), only p.head exists. The other parts below are for other models.
    # The state "pooler" is only recorded, and not used by the classifier.
    # A network without a pooler and without a classifier records the pooled vector as "pooler".
    # A pooled vector that is the unchanged class token is not recorded.
    if p.pooler is not None:
        out["pooler"] = ops.linear_activate(x[:, 0], p.pooler, "tanh")                  # (B, 768)
    elif p.head is None and not reads_token:
        out["pooler"] = pooled(x, p, config, ops, out)                                  # (B, 768)
    if p.head is not None:
        x = out["logits"] = ops.linear(pooled(x, p, config, ops, out), p.head)          # (B, 1000)
    return x


def pooled(x, p, config, ops, out):
    """The pooled vector, which the classifier reads.  (B, T, D) -> (B, D)   ViT eq. 4

    The pooling takes the class token or the mean of the patches. An optional layer norm and an optional linear layer
    with tanh follow the pooling.
    """
    if config.pool == "token":
        x = x[:, 0]                                                                     # (B, 768)
    else:
        # mean_pool expects a map, so the patches become a map of one row.
        # If config.class_token is True, the slice skips token 0, because True is 1.
        x = ops.mean_pool(x[:, None, config.class_token:])                              # (B, 768)
    if p.pool_norm is not None:
        x = out["pool_norm"] = ops.layer_norm(x, p.pool_norm, config.ln_eps)
    if p.pre_logits is not None:
        x = out["pre_logits"] = ops.linear_activate(x, p.pre_logits, "tanh")            # (B, 768)
    return x


def bit(x, p, config, ops, out):
    """The BiT network.  pixel_values (B, H, W, 3) -> logits (B, classes)

    Without a classifier, the result is the feature map (B, H', W', C) with H' rows and W' columns.
    """
    out["pixel_values"] = x                                                             # (B, 224, 224, 3)
    x = backbone(x, p, config, ops, out)                                                # (B, 7, 7, 2048)
    if p.features_norm is not None:
        x = out["features_norm"] = norm_activate(x, p.features_norm, config, ops)
    mean = out["pooler"] = ops.mean_pool(x)                                             # (B, 2048)
    if p.head is not None:
        x = out["logits"] = ops.linear(mean, p.head)                                    # (B, 1000)
    return x
