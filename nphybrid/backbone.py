"""The convolutional backbone, which computes a feature map from pixels.

BiT (Kolesnikov et al. 2019) is a ResNet with standardized kernels and group norms. Each output channel of a
standardized kernel has mean 0 and variance 1 over all input channels and kernel positions (Qiao et al. 2019, eq. 6).
`ops.prepare` standardizes the kernels when a model is loaded. A group norm divides the channels of each image into G
groups of neighbouring channels (Wu and He 2018). The norm gives each group, over its channels and all positions, mean 0
and variance 1, then scales and shifts each channel.

The residual units of the hybrid are bottlenecks as in ResNet v1, but with the stride in the 3x3 convolution. The
residual units of the BiT networks are pre-activation units.

H' and W' are the rows and columns after the stride of a unit. If an activation follows a norm such as "norm1", the
state "norm1" is the result of the activation.
"""
import numpy as np

from .config import pads, plan, stem_border


def backbone(x, p, config, ops, out):
    """Compute the stem and the stages.  pixel_values (B, H, W, 3) -> feature map (B, H/16, W/16, 1024) in R50+ViT-B/16

    In R50+ViT-B/16 at 384 pixels, the stages return (B, 96, 96, 256), (B, 48, 48, 512) and (B, 24, 24, 1024).
    """
    x = out["stem"] = stem(x, p.stem, config, ops, out.at("stem"))                      # (B, 96, 96, 64)
    apply = {"bottleneck": bottleneck, "preactivation": preactivation}[config.unit]
    maps = [x]
    for s, stage in enumerate(plan(config)):
        for u, unit in enumerate(stage):
            name = f"stages.{s}.{u}"
            x = out[name] = apply(x, p.stages[s][u], unit, config, ops, out.at(name))   # (B, H', W', O)
        maps.append(x)
    return maps[config.feature_stage]


def stem(x, p, config, ops, out):
    """A 7x7 convolution and a 3x3 max pool, each with stride 2.  (B, H, W, 3) -> (B, H/4, W/4, 64)

    In the hybrid, a group norm and an activation precede the max pool. The stem of a BiT network has no norm and no
    activation.
    """
    x = out["conv"] = conv(x, p.conv, 7, config, ops, stride=2)                         # (B, 192, 192, 64)
    border = stem_border(config)
    if border:
        # If a norm follows, its mean and variance include the zeros of the border.
        # R50+ViT-B/16 has this border only with padding="symmetric". In BiT-R50x1: (B, 114, 114, 64).
        zeros = (border, border)
        x = out["border"] = np.pad(x, ((0, 0), zeros, zeros, (0, 0)))                   # (B, 194, 194, 64)
    if p.norm is not None:
        x = out["norm"] = norm_activate(x, p.norm, config, ops)
    padding = tuple(pads(config.pool_padding, n, 3, 2) for n in x.shape[1:3])
    return ops.max_pool(x, padding, config.pool_fill)                                   # (B, 96, 96, 64)


def bottleneck(x, p, unit, config, ops, out):
    """The residual unit of the hybrid.  (B, H, W, C) -> (B, H', W', O)

    The unit has a 1x1 convolution to M channels, a 3x3 convolution, and a 1x1 convolution to O channels. A norm follows
    each convolution. The result of norm3 is added to the shortcut. An activation follows norm1, norm2 and the sum, but
    not norm3 and norm_proj. The 3x3 convolution has the stride. In He et al. 2015, the first 1x1 convolution has the
    stride. `bottleneck` follows the class ResidualUnit in vit_jax/models_resnet.py.
    """
    shortcut = x
    if unit.project:
        shortcut = out["proj"] = conv(x, p.proj, 1, config, ops, unit.stride)           # (B, H', W', O)
        shortcut = out["norm_proj"] = ops.group_norm(shortcut, p.norm_proj, config.groups, config.gn_eps)
    y = out["conv1"] = conv(x, p.conv1, 1, config, ops)                                 # (B, H, W, M)
    y = out["norm1"] = norm_activate(y, p.norm1, config, ops)
    y = out["conv2"] = conv(y, p.conv2, 3, config, ops, unit.stride, unit.dilation)     # (B, H', W', M)
    y = out["norm2"] = norm_activate(y, p.norm2, config, ops)
    y = out["conv3"] = conv(y, p.conv3, 1, config, ops)                                 # (B, H', W', O)
    return ops.group_norm_add_activate(y, p.norm3, config.groups, config.gn_eps,
                                       shortcut, config.backbone_activation)


def preactivation(x, p, unit, config, ops, out):
    """The residual unit of BiT networks.  (B, H, W, C) -> (B, H', W', O)

    The unit has the three convolutions of `bottleneck`, but a norm and an activation precede each convolution. No norm
    and no activation follow the sum. The shortcut is projected from the activated map, and no norm follows the
    projection. `preactivation` follows He et al. 2016 (figure 4e) and Kolesnikov et al. 2019.
    """
    y = out["norm1"] = norm_activate(x, p.norm1, config, ops)
    shortcut = x
    if unit.project:
        shortcut = out["proj"] = conv(y, p.proj, 1, config, ops, unit.stride)           # (B, H', W', O)
    y = out["conv1"] = conv(y, p.conv1, 1, config, ops)                                 # (B, H, W, M)
    y = out["norm2"] = norm_activate(y, p.norm2, config, ops)
    y = out["conv2"] = conv(y, p.conv2, 3, config, ops, unit.stride, unit.dilation)     # (B, H', W', M)
    y = out["norm3"] = norm_activate(y, p.norm3, config, ops)
    y = out["conv3"] = conv(y, p.conv3, 1, config, ops)                                 # (B, H', W', O)
    return y + shortcut


def conv(x, kernel, size, config, ops, stride=1, dilation=1):
    """A size x size convolution with the padding rule `config.padding`.  (B, H, W, C) -> (B, H', W', O)"""
    padding = tuple(pads(config.padding, n, size, stride, dilation) for n in x.shape[1:3])
    return ops.conv2d(x, kernel, stride, dilation, padding)                             # (B, H', W', O)


def norm_activate(x, norm, config, ops):
    """A group norm and the activation of the backbone.  (B, H, W, C) -> (B, H, W, C)"""
    return ops.group_norm_activate(x, norm, config.groups, config.gn_eps, config.backbone_activation)
