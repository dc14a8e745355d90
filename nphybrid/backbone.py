"""The convolutional half: pixels become a feature map.

BiT (Kolesnikov et al. 2019): a ResNet whose convolutions are weight-standardized and whose norms are group
norms. The hybrid keeps that recipe with the bottleneck of ResNet v1, which activates after each norm; the BiT
networks themselves use the pre-activation unit. The kernels arrive standardized by `ops.prepare`: each output
channel's weights, over all inputs and taps, have mean 0 and variance 1 (Qiao et al. 2019, eq. 6). A group norm cuts
the channels of each image into G runs of neighbours, brings each run, over its channels and all positions, to mean 0
and variance 1, then scales and shifts each channel (Wu and He 2018).
"""
import numpy as np

from .config import pads, plan, stem_border


def backbone(x, p, config, ops, out):
    """Stem and stages.  pixel_values (B, H, W, 3) -> feature map (B, H/16, W/16, 1024) in R50+ViT-B/16"""
    x = out["stem"] = stem(x, p.stem, config, ops, out.at("stem"))                  # (B, 96, 96, 64)
    unit = {"bottleneck": bottleneck, "preactivation": preactivation}[config.unit]
    maps = [x]
    # Stage by stage: (B, 96, 96, 256), (B, 48, 48, 512), (B, 24, 24, 1024)
    for s, moves in enumerate(plan(config)):
        for u, move in enumerate(moves):
            name = f"stages.{s}.{u}"
            x = out[name] = unit(x, p.stages[s][u], move, config, ops, out.at(name))
        maps.append(x)
    return maps[config.feature_stage]


def stem(x, p, config, ops, out):
    """A 7x7 convolution and a 3x3 pool, each of stride 2.  (B, H, W, 3) -> (B, H/4, W/4, 64)"""
    x = out["conv"] = conv(x, p.conv, 7, config, ops, stride=2)                     # (B, 192, 192, 64)
    if border := stem_border(config):
        # Unless padding is "same", a ring of zeros joins before the norm, and so counts in its statistics.
        x = out["border"] = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    if p.norm is not None:
        x = out["norm"] = norm_activate(x, p.norm, config, ops)
    around = tuple(pads(config.pool_padding, n, 3, 2) for n in x.shape[1:3])
    return ops.max_pool(x, around, config.pool_fill)                                # (B, 96, 96, 64)


def bottleneck(x, p, move, config, ops, out):
    """1x1 to M channels, 3x3, 1x1 to O, around a shortcut.  (B, H, W, C) -> (B, H/stride, W/stride, O)

    A norm follows each convolution, the shortcut's too, and an activation the first two norms; the third
    activation comes after the sum. The stride sits on the 3x3, not on the first 1x1 as in He et al. 2015.
    Source: vit_jax/models_resnet.py, ResidualUnit.
    """
    shortcut = x
    if move.project:
        shortcut = out["proj"] = conv(x, p.proj, 1, config, ops, move.stride)       # (B, H', W', O)
        shortcut = out["norm_proj"] = ops.group_norm(shortcut, p.norm_proj, config.groups, config.gn_eps)
    y = out["conv1"] = conv(x, p.conv1, 1, config, ops)                             # (B, H, W, M)
    y = out["norm1"] = norm_activate(y, p.norm1, config, ops)
    y = out["conv2"] = conv(y, p.conv2, 3, config, ops, move.stride, move.dilation)  # (B, H', W', M)
    y = out["norm2"] = norm_activate(y, p.norm2, config, ops)
    y = out["conv3"] = conv(y, p.conv3, 1, config, ops)                             # (B, H', W', O)
    return ops.group_norm_add_activate(y, p.norm3, config.groups, config.gn_eps,
                                       shortcut, config.backbone_activation)


def preactivation(x, p, move, config, ops, out):
    """The same convolutions, each preceded by norm and activation.  (B, H, W, C) -> (B, H/stride, W/stride, O)

    The sum stays raw. A shortcut's projection reads the activated map, and has no norm of its own.
    Source: He et al. 2016, figure 4e; Kolesnikov et al. 2019.
    """
    y = out["norm1"] = norm_activate(x, p.norm1, config, ops)
    shortcut = x
    if move.project:
        shortcut = out["proj"] = conv(y, p.proj, 1, config, ops, move.stride)       # (B, H', W', O)
    y = out["conv1"] = conv(y, p.conv1, 1, config, ops)                             # (B, H, W, M)
    y = out["norm2"] = norm_activate(y, p.norm2, config, ops)
    y = out["conv2"] = conv(y, p.conv2, 3, config, ops, move.stride, move.dilation)  # (B, H', W', M)
    y = out["norm3"] = norm_activate(y, p.norm3, config, ops)
    y = out["conv3"] = conv(y, p.conv3, 1, config, ops)                             # (B, H', W', O)
    return y + shortcut


def conv(x, kernel, taps, config, ops, stride=1, dilation=1):
    """A convolution under the config's padding rule.  (B, H, W, C) -> (B, H/stride, W/stride, O)"""
    around = tuple(pads(config.padding, n, taps, stride, dilation) for n in x.shape[1:3])
    return ops.conv2d(x, kernel, stride, dilation, around)


def norm_activate(x, norm, config, ops):
    """Group norm, then the backbone's activation.  (B, H, W, C) -> (B, H, W, C)"""
    return ops.group_norm_activate(x, norm, config.groups, config.gn_eps, config.backbone_activation)
