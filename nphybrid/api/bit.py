"""`BitModel`, `BitForImageClassification` and `BitBackbone`."""
from dataclasses import replace

import numpy as np

from .. import model
from ..dialects.huggingface import bit_names
from ..trace import Trace
from . import checks
from .base import Model, answer, chosen
from .configs import BitConfig
from .outputs import BackboneOutput, BaseModelOutputWithPoolingAndNoAttention, ImageClassifierOutputWithNoAttention


class Bit(Model):
    """What the three BiT classes are made of."""
    config_class, family = BitConfig, "bit."
    network, table_of = staticmethod(model.bit), staticmethod(bit_names)

    def _checked(self, pixel_values):
        x = checks.pixels(pixel_values, self.network_config.channels, self._floats)
        if min(replace(self.network_config, image=x.shape[1:3]).feature_map) < 1:
            raise ValueError(f"{x.shape[1]} x {x.shape[2]} pixels leave no cell of a feature map")
        return x, self._ready, self.network_config, {}

    def trace(self, pixel_values, runs=0):
        """The walk with every state kept, channels last.  (B, C, H, W) -> Trace, a dict {name: array}

        `runs` is for `trace.seconds`, where the time goes. 0 takes the times of the walk that keeps the states, each in
        fresh memory, and that compiles or loads the kernels if it is the first of a process. With runs = n the network
        is walked n times more, keeping nothing, and each time is a median of those.

        >>> from nphybrid import BitBackbone, BitConfig
        >>> backbone = BitBackbone(BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4))
        >>> list(backbone.trace(np.zeros((1, 3, 32, 32))))[:3]
        ['pixel_values', 'stem.conv', 'stem.border']
        """
        return self._trace(pixel_values, runs)

    @property
    def _stages(self):
        """The names of the states that are `hidden_states`: the stem, then the last unit of each stage."""
        return ["stem"] + [f"stages.{s}.{depth - 1}" for s, depth in enumerate(self.network_config.depths)]

    def _outputs(self, pixel_values, output_hidden_states):
        asked = chosen(output_hidden_states, self.config.output_hidden_states)
        out = Trace(keep={"features_norm", "pooler", "logits", *self._stages})
        self.run_into(out, pixel_values)
        maps = tuple(channels_first(out[name]) for name in self._stages)
        return out, maps, maps if asked else None


class BitModel(Bit):
    """The bare BiT network: pictures become a feature map and its mean.

    >>> from nphybrid import BitConfig, BitModel
    >>> model = BitModel(BitConfig(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 1], num_groups=4))
    >>> out = model(np.zeros((1, 3, 64, 48), np.float32))
    >>> out.last_hidden_state.shape, out.pooler_output.shape
    ((1, 64, 8, 6), (1, 64, 1, 1))
    """
    ignored = ("classifier.",)

    def forward(self, pixel_values, output_hidden_states=None, return_dict=None):
        """pixel_values: floats (B, C, H, W) of any size.  Returns BaseModelOutputWithPoolingAndNoAttention:
        last_hidden_state (B, C, H', W'), pooler_output (B, C, 1, 1), hidden_states: stem and stages."""
        out, maps, hidden = self._outputs(pixel_values, output_hidden_states)
        last = channels_first(out["features_norm"]) if "features_norm" in out else maps[-1]
        return answer(BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=out["pooler"][:, :, None, None], hidden_states=hidden),
            return_dict, self.config)


class BitForImageClassification(Bit):
    """The BiT network with its classifier on the mean of the feature map.

    >>> from nphybrid import BitConfig, BitForImageClassification
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4, num_labels=5)
    >>> BitForImageClassification(config)(np.zeros((2, 3, 64, 64), np.float32)).logits.shape
    (2, 5)
    """
    prefix, has_head = "bit.", True

    def forward(self, pixel_values=None, labels=None, output_hidden_states=None, return_dict=None):
        """pixel_values: floats (B, C, H, W) of any size; labels as in ViTHybridForImageClassification.  Returns
        ImageClassifierOutputWithNoAttention: loss (), logits (B, classes), hidden_states: stem and stages."""
        out, _, hidden = self._outputs(pixel_values, output_hidden_states)
        logits = out["logits"] if "logits" in out else out["pooler"]
        return answer(ImageClassifierOutputWithNoAttention(
            loss=self._loss(logits, labels), logits=logits,
            hidden_states=hidden), return_dict, self.config)


class BitBackbone(Bit):
    """The BiT network as a backbone: the feature maps that `config.out_features` names, as the stages leave them.

    >>> from nphybrid import BitBackbone, BitConfig
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4,
    ...                    out_features=["stem", "stage1"])
    >>> [map.shape for map in BitBackbone(config)(np.zeros((1, 3, 64, 64), np.float32)).feature_maps]
    [(1, 8, 16, 16), (1, 32, 16, 16)]
    """
    prefix, ignored = "bit.", ("classifier.",)

    @property
    def stage_names(self):
        """["stem", "stage1", …]"""
        return self.config.stage_names

    @property
    def out_features(self):
        """The names of the feature maps that are returned."""
        return self.config.out_features

    @property
    def channels(self):
        """How many channels each returned feature map has."""
        widths = (self.network_config.stem, *self.network_config.widths)
        return [widths[i] for i in self.config.out_indices]

    def forward(self, pixel_values, output_hidden_states=None, return_dict=None):
        """pixel_values: floats (B, C, H, W) of any size.  Returns BackboneOutput: feature_maps, one (B, C, H, W) per
        out_features; hidden_states: stem and stages."""
        _, maps, hidden = self._outputs(pixel_values, output_hidden_states)
        chosen = tuple(maps[i] for i in self.config.out_indices)
        return answer(BackboneOutput(feature_maps=chosen, hidden_states=hidden), return_dict, self.config)


def channels_first(x):
    """(B, H, W, C) -> (B, C, H, W)"""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
