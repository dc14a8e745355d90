"""The whole walk on one screen.

`x = out["name"] = ...` names a state while walking; `out` is the notebook that keeps or forgets it (trace.py), and
`out.at(...)` the same one, a level down. `p` is what was learned, as `ops.prepare` made it ready, or the part that a
function needs; `ops` is the arithmetic (ops/__init__.py). Channels come last: (B, C, H, W) is transposed outside.
"""
from .backbone import backbone, norm_activate
from .encoder import encoder
from .tokens import tokens


def hybrid(x, p, config, ops, out, head_mask=None, masked=None):
    """The Hybrid Vision Transformer.  pixel_values (B, H, W, 3) -> logits (B, classes), or encoded (B, T, D)

    A plain Vision Transformer is the same without a backbone: its patches are cut from the picture itself.
    """
    out["pixel_values"] = x                                                     # (B, 384, 384, 3)
    if p.stem is not None:
        x = backbone(x, p, config, ops, out)                                    # (B, 24, 24, 1024)
    x = out["tokens"] = tokens(x, p.tokens, config, ops, out.at("tokens"), masked)  # (B, 577, 768)
    x = out["norm"] = encoder(x, p, config, ops, out, head_mask)                # (B, 577, 768)
    # A bare model's other answer: its pooler's, or what a head would read where that is not just the class token.
    if p.pooler is not None:
        out["pooler"] = ops.activate(ops.linear(x[:, 0], p.pooler), "tanh")     # (B, 768)
    elif p.head is None and (config.pool, p.pool_norm, p.pre_logits) != ("token", None, None):
        out["pooler"] = pooled(x, p, config, ops, out)
    if p.head is not None:
        x = out["logits"] = ops.linear(pooled(x, p, config, ops, out), p.head)  # (B, 1000)
    return x


def pooled(x, p, config, ops, out):
    """What the head reads: the class token, or the mean of the others.  (B, T, D) -> (B, D)   ViT eq. 4"""
    # mean_pool is over rows and columns: the patches lie in one row.
    x = x[:, 0] if config.pool == "token" else ops.mean_pool(x[:, None, config.class_token:])  # (B, 768)
    if p.pool_norm is not None:
        x = out["pool_norm"] = ops.layer_norm(x, p.pool_norm, config.ln_eps)
    if p.pre_logits is not None:
        x = out["pre_logits"] = ops.activate(ops.linear(x, p.pre_logits), "tanh")
    return x


def bit(x, p, config, ops, out):
    """The BiT network alone.  pixel_values (B, H, W, 3) -> logits (B, classes), or feature map (B, H, W, C)"""
    out["pixel_values"] = x                                                     # (B, 224, 224, 3)
    x = backbone(x, p, config, ops, out)                                        # (B, 7, 7, 2048)
    if p.features_norm is not None:
        x = out["features_norm"] = norm_activate(x, p.features_norm, config, ops)
    mean = out["pooler"] = ops.mean_pool(x)                                     # (B, 2048)
    if p.head is not None:
        x = out["logits"] = ops.linear(mean, p.head)                            # (B, 1000)
    return x
