"""`BitModel`, `BitForImageClassification` and `BitBackbone`."""
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .. import model
from ..dialects.huggingface import bit_names
from ..trace import Trace
from . import checks
from .base import Inputs, Model, argument_or_default, as_requested, loss_of, record_trace
from .configs import BitConfig
from .outputs import (Arrays, BackboneOutput, BaseModelOutputWithPoolingAndNoAttention,
                      ImageClassifierOutputWithNoAttention)


class BitStates(NamedTuple):
    """The states from which the outputs of the three BiT classes are built."""
    trace: Trace                          # with features_norm, pooler and logits, if the network has them
    maps: Arrays                          # (B, C, H, W) of the stem and of each stage
    hidden_states: Arrays | None          # the maps, if they were requested


class Bit(Model):
    """What the three BiT classes share."""
    config: BitConfig
    config_class = BitConfig
    family = "bit."
    network = staticmethod(model.bit)
    table_of = staticmethod(bit_names)

    def check_inputs(self, pixel_values: npt.ArrayLike | None) -> Inputs:
        """What the network receives.

        Raises ValueError, TypeError, NonFiniteError for inputs that the network cannot take.
        """
        x = checks.pixels(pixel_values, self.network_config.channels, self.float_dtype)
        if min(replace(self.network_config, image=x.shape[1:3]).feature_map) < 1:
            raise ValueError(f"{x.shape[1]} x {x.shape[2]} pixels leave no cell of a feature map")
        return Inputs(x, self.params, self.network_config, {})

    def trace(self, pixel_values: npt.ArrayLike, runs: int = 0) -> Trace:
        """One forward pass with every state recorded, channels last.  (B, C, H, W) -> Trace, a dict {name: array}

        runs: how many more forward passes measure `trace.seconds`, where each time is the median of these passes; they
        keep no states. 0: the times are those of the recorded pass itself, which allocates memory for each state, and
        compiles or loads the kernels if it is the first pass of a process.

        >>> from nphybrid import BitBackbone, BitConfig
        >>> backbone = BitBackbone(BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4))
        >>> list(backbone.trace(np.zeros((1, 3, 32, 32))))[:3]
        ['pixel_values', 'stem.conv', 'stem.border']
        """
        return record_trace(self, pixel_values, runs)

    def run(self, pixel_values: npt.ArrayLike | None, output_hidden_states: bool | None) -> BitStates:
        """One forward pass.  output_hidden_states: if it is None, the value in the configuration"""
        names = ["stem"]
        for s, depth in enumerate(self.network_config.depths):
            names.append(f"stages.{s}.{depth - 1}")
        out = Trace(keep={"features_norm", "pooler", "logits", *names})
        self.run_into(out, pixel_values)
        maps = tuple(channels_first(out[name]) for name in names)
        requested = argument_or_default(output_hidden_states, self.config.output_hidden_states)
        return BitStates(out, maps, maps if requested else None)


class BitModel(Bit):
    """The BiT network without a classifier: pictures become a feature map and its mean.

    config: a BitConfig. The other arguments are those of ViTHybridForImageClassification.

    >>> from nphybrid import BitConfig, BitModel
    >>> model = BitModel(BitConfig(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 1], num_groups=4))
    >>> out = model(np.zeros((1, 3, 64, 48), np.float32))
    >>> out.last_hidden_state.shape, out.pooler_output.shape
    ((1, 64, 8, 6), (1, 64, 1, 1))
    """
    ignored = ("classifier.",)

    def forward(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                return_dict: bool | None = None) -> BaseModelOutputWithPoolingAndNoAttention:
        """Compute the feature map of pictures.

        pixel_values: floats (B, C, H, W) of any size. output_hidden_states: return the maps of the stem and the stages.
        return_dict: False returns a tuple. None means the value in the configuration.

        Returns BaseModelOutputWithPoolingAndNoAttention: last_hidden_state (B, C, H', W'), pooler_output (B, C, 1, 1),
        hidden_states. Raises ValueError, TypeError, NonFiniteError.
        """
        out, maps, hidden_states = self.run(pixel_values, output_hidden_states)
        last = channels_first(out["features_norm"]) if "features_norm" in out else maps[-1]
        output = BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=out["pooler"][:, :, None, None], hidden_states=hidden_states)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                 return_dict: bool | None = None) -> BaseModelOutputWithPoolingAndNoAttention:
        """`forward`."""
        return self.forward(pixel_values, output_hidden_states, return_dict)


class BitForImageClassification(Bit):
    """The BiT network with a classifier, which reads the mean of the feature map.

    config: a BitConfig. The other arguments are those of ViTHybridForImageClassification.

    >>> from nphybrid import BitConfig, BitForImageClassification
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4, num_labels=5)
    >>> BitForImageClassification(config)(np.zeros((2, 3, 64, 64), np.float32)).logits.shape
    (2, 5)
    """
    prefix = "bit."
    has_head = True

    def forward(self, pixel_values: npt.ArrayLike | None = None, labels: npt.ArrayLike | None = None,
                output_hidden_states: bool | None = None,
                return_dict: bool | None = None) -> ImageClassifierOutputWithNoAttention:
        """Classify pictures.

        pixel_values: floats (B, C, H, W) of any size. labels: as in ViTHybridForImageClassification.forward.
        output_hidden_states: return the maps of the stem and the stages. return_dict: False returns a tuple. None
        means the value in the configuration.

        Returns ImageClassifierOutputWithNoAttention: loss (), logits (B, classes), hidden_states. Without classes,
        logits is the mean of the feature map. Raises ValueError, TypeError, NonFiniteError.
        """
        out, _, hidden_states = self.run(pixel_values, output_hidden_states)
        logits = out["logits"] if "logits" in out else out["pooler"]
        output = ImageClassifierOutputWithNoAttention(
            loss=loss_of(self, logits, labels), logits=logits, hidden_states=hidden_states)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike | None = None, labels: npt.ArrayLike | None = None,
                 output_hidden_states: bool | None = None,
                 return_dict: bool | None = None) -> ImageClassifierOutputWithNoAttention:
        """`forward`."""
        return self.forward(pixel_values, labels, output_hidden_states, return_dict)


class BitBackbone(Bit):
    """The BiT network as a backbone: the feature maps that `config.out_features` names, without the last norm.

    config: a BitConfig. The other arguments are those of ViTHybridForImageClassification.

    >>> from nphybrid import BitBackbone, BitConfig
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4,
    ...                    out_features=["stem", "stage1"])
    >>> [map.shape for map in BitBackbone(config)(np.zeros((1, 3, 64, 64), np.float32)).feature_maps]
    [(1, 8, 16, 16), (1, 32, 16, 16)]
    """
    prefix = "bit."
    ignored = ("classifier.",)

    @property
    def stage_names(self) -> list[str]:
        """["stem", "stage1", …]"""
        return self.config.stage_names

    @property
    def out_features(self) -> list[str]:
        """The names of the feature maps that are returned."""
        return self.config.out_features

    @property
    def channels(self) -> list[int]:
        """The number of channels of each feature map that is returned."""
        widths = (self.network_config.stem, *self.network_config.widths)
        return [widths[i] for i in self.config.out_indices]

    def forward(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                return_dict: bool | None = None) -> BackboneOutput:
        """Compute feature maps of pictures.

        pixel_values: floats (B, C, H, W) of any size. output_hidden_states: return the maps of the stem and the stages.
        return_dict: False returns a tuple. None means the value in the configuration.

        Returns BackboneOutput: feature_maps, one (B, C, H, W) for each of config.out_features; hidden_states. Raises
        ValueError, TypeError, NonFiniteError.
        """
        _, maps, hidden_states = self.run(pixel_values, output_hidden_states)
        feature_maps = tuple(maps[i] for i in self.config.out_indices)
        output = BackboneOutput(feature_maps=feature_maps, hidden_states=hidden_states)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike, output_hidden_states: bool | None = None,
                 return_dict: bool | None = None) -> BackboneOutput:
        """`forward`."""
        return self.forward(pixel_values, output_hidden_states, return_dict)


def channels_first(x: np.ndarray) -> np.ndarray:
    """(B, H, W, C) -> (B, C, H, W), contiguous"""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
