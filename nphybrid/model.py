"""The whole network on one screen: `hybrid` and `pooled`, then `bit`, the BiT network without an encoder.

Most functions of the forward pass have the arguments (x, p, config, ops, out). Some have more, helpers fewer:

    x        the array that flows, channels last: a map (B, H, W, C) or tokens (B, T, D)
    p        the learned arrays, a `Params` (params.py), or the part of them that the function needs;
             `ops.prepare` converted them once, when the model was loaded
    config   sizes and numerics of the network, a `Config` (config.py)
    ops      the operations: the module ops/reference.py (plain NumPy) or ops/kernels.py (fast)
    out      the trace, which records intermediate states by name (trace.py)

B images, H rows, W columns, C channels, T tokens, D the width of a token. `help(nphybrid)` explains all letters.

`x = out["stem"] = …` computes x and records it as the state "stem". The trace keeps the states that were asked for and
drops the rest.
`out.at("stages.2.8")` is the same trace with a prefix: its "conv1" is the state "stages.2.8.conv1".

The column at the right is the shape after the line: of R50+ViT-B/16 at 384 pixels, and in `bit` of BiT-R50x1 at 224.
Users pass pixel_values as (B, C, H, W); api/checks.py transposes them to (B, H, W, C).
"""
from .backbone import backbone, norm_activate
from .encoder import encoder
from .tokens import tokens


def hybrid(x, p, config, ops, out, head_mask=None, masked=None):
    """The Hybrid Vision Transformer.  pixel_values (B, H, W, 3) -> logits (B, classes), or encoded tokens (B, T, D)

    A plain Vision Transformer has no backbone (p.stem is None): its patches are cut from the picture.
    """
    out["pixel_values"] = x                                                             # (B, 384, 384, 3)
    if p.stem is not None:
        x = backbone(x, p, config, ops, out)                                            # (B, 24, 24, 1024)
    x = out["tokens"] = tokens(x, p.tokens, config, ops, out.at("tokens"), masked)      # (B, 577, 768)
    # Recorded as "norm" also where no norm follows the last block (p.norm is None).
    x = out["norm"] = encoder(x, p, config, ops, out, head_mask)                        # (B, 577, 768)
    reads_token = config.pool == "token" and p.pool_norm is None and p.pre_logits is None
    # The state "pooler" is only recorded: nothing below reads it. Without a classifier it is the pooled vector, unless
    # that is simply the class token.
    if p.pooler is not None:
        out["pooler"] = ops.activate(ops.linear(x[:, 0], p.pooler), "tanh")             # (B, 768)
    elif p.head is None and not reads_token:
        out["pooler"] = pooled(x, p, config, ops, out)                                  # (B, 768)
    if p.head is not None:
        x = out["logits"] = ops.linear(pooled(x, p, config, ops, out), p.head)          # (B, 1000)
    return x


def pooled(x, p, config, ops, out):
    """What the classifier reads.  (B, T, D) -> (B, D)   ViT eq. 4

    The class token or the mean of the patches, then an optional layer norm and an optional linear layer with tanh.
    """
    if config.pool == "token":
        x = x[:, 0]                                                                     # (B, 768)
    else:
        # mean_pool expects a map: the patches become a map of one row. class_token: True skips token 0.
        x = ops.mean_pool(x[:, None, config.class_token:])                              # (B, 768)
    if p.pool_norm is not None:
        x = out["pool_norm"] = ops.layer_norm(x, p.pool_norm, config.ln_eps)
    if p.pre_logits is not None:
        x = out["pre_logits"] = ops.activate(ops.linear(x, p.pre_logits), "tanh")       # (B, 768)
    return x


def bit(x, p, config, ops, out):
    """The BiT network.  pixel_values (B, H, W, 3) -> logits (B, classes), or feature map (B, H, W, C)"""
    out["pixel_values"] = x                                                             # (B, 224, 224, 3)
    x = backbone(x, p, config, ops, out)                                                # (B, 7, 7, 2048)
    if p.features_norm is not None:
        x = out["features_norm"] = norm_activate(x, p.features_norm, config, ops)
    mean = out["pooler"] = ops.mean_pool(x)                                             # (B, 2048)
    if p.head is not None:
        x = out["logits"] = ops.linear(mean, p.head)                                    # (B, 1000)
    return x
