"""The hybrids `ViTHybridModel` and `ViTHybridForImageClassification`, and two plain ViT classes.

The plain ViT classes are `ViTModel` and `ViTForImageClassification`.
"""
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import model
from ..checkpoint import Checkpoint
from ..dialects.huggingface import hybrid_names
from ..dialects.positions import resize_positions
from ..trace import Trace
from . import checks
from .base import (AFTER_ENCODER, Inputs, Model, argument_or_default, as_requested, loss_of, record_trace,
                   select_states)
from .configs import ViTConfig, ViTHybridConfig
from .outputs import Arrays, BaseModelOutputWithPooling, ImageClassifierOutput
from .source import for_image_size, in_hugging_face_names, with_prefix

M = TypeVar("M", bound="ViTHybrid")


class ViTHybridStates(NamedTuple):
    """The states that the hybrid and ViT classes need for their outputs."""
    trace: Trace                          # the states pooler and logits, or norm and pooler without a classifier
    hidden_states: Arrays | None          # None if hidden states were not requested
    attentions: Arrays | None             # None if attentions were not requested


class ViTHybrid(Model):
    """The base class of the two hybrid classes and the two plain ViT classes."""
    config: ViTHybridConfig | ViTConfig
    config_class = ViTHybridConfig
    family = "vit."
    network = staticmethod(model.hybrid)
    table_of = staticmethod(hybrid_names)

    @classmethod
    def from_checkpoint(cls: type[M], source: Checkpoint, overrides: dict[str, Any] | None = None,
                        head: Any = None, ignore_mismatched_sizes: bool = False, **options: Any) -> M:
        """Make a model as `Model.from_checkpoint` does.

        If `overrides` has another image_size than the file, the positions are resized.
        """
        source = for_image_size(in_hugging_face_names(source, cls), cls, overrides or {})
        return super().from_checkpoint(source, overrides, head, ignore_mismatched_sizes, **options)

    def check_inputs(self, pixel_values: npt.ArrayLike | None, head_mask: npt.ArrayLike | None = None,
                     bool_masked_pos: npt.ArrayLike | None = None,
                     interpolate_pos_encoding: bool | None = None) -> Inputs:
        """Check the inputs of the network and convert the inputs to arrays.

        If interpolate_pos_encoding is True, the picture size can differ from the configuration, and the positions are
        resized.

        Raises ValueError or TypeError for inputs that do not fit the model, and NonFiniteError for NaN or infinity.
        """
        config = self.network_config
        params = self.params
        size = None if interpolate_pos_encoding else config.image
        x = checks.pixels(pixel_values, config.channels, self.float_dtype, size)
        if x.shape[1:3] != config.image:
            config = replace(config, image=x.shape[1:3])
            checks.check_patches_fill(config)
            positions = resize_positions(params.tokens.positions, self.network_config.grid, config.grid,
                                         config.resampling)
            params = params._replace(tokens=params.tokens._replace(positions=positions))
        patches = config.tokens - config.class_token
        masks = {"head_mask": checks.head_mask(head_mask, config.blocks, config.heads, self.float_dtype),
                 "masked": checks.masked_patches(bool_masked_pos, params.tokens.mask, len(x), patches)}
        return Inputs(x, params, config, masks)

    def trace(self, pixel_values: npt.ArrayLike, head_mask: npt.ArrayLike | None = None,
              bool_masked_pos: npt.ArrayLike | None = None, interpolate_pos_encoding: bool | None = None,
              runs: int = 0) -> Trace:
        """Compute one forward pass and record every state.  (B, C, H, W) -> Trace, a dict {name: array}

        The feature maps in the Trace have channels last. The arguments pixel_values, head_mask, bool_masked_pos and
        interpolate_pos_encoding are those of ViTHybridModel.forward. `runs`: the number of additional forward passes
        that are measured. The measured passes keep no states, and compute all tokens. Each time in `trace.seconds` is
        the median of the measured passes. The measured passes do not compute the attention weights, so `trace.seconds`
        has no times for the attention weights.

        If runs is 0, the times are those of the recorded pass. The recorded pass is slower, because it allocates memory
        for each state and computes the attention weights. The first pass of a process also compiles or loads the Numba
        functions.

        >>> import numpy as np
        >>> from nphybrid import ViTHybridModel, default_model
        >>> model = ViTHybridModel.from_pretrained(default_model())
        >>> trace = model.trace(np.zeros((1, 3, 64, 64), np.float32), runs=3)
        >>> trace["stages.1.1"].shape, trace["blocks.3.weights"].shape
        ((1, 8, 8, 256), (1, 3, 65, 65))
        >>> print(trace)
        state              shape       mean  rms  ms  of time
        pixel_values       1x64x64x3      0    0  ...
        stem.conv          1x32x32x64  ...
        blocks.3.weights   1x3x65x65   0.01538  ...   -      -
        ...
        """
        return record_trace(self, pixel_values, runs, head_mask=head_mask, bool_masked_pos=bool_masked_pos,
                            interpolate_pos_encoding=interpolate_pos_encoding)

    def run(self, pixel_values: npt.ArrayLike | None, output_attentions: bool | None,
            output_hidden_states: bool | None, **inputs: Any) -> ViTHybridStates:
        """Compute one forward pass.

        `output_attentions`, `output_hidden_states`: as in ViTHybridModel.forward. `inputs`: the other arguments of
        `trace`, without `runs`.
        """
        blocks = [f"blocks.{i}" for i in range(self.network_config.blocks)]
        hidden_states = weights = None
        if argument_or_default(output_hidden_states, self.config.output_hidden_states):
            hidden_states = ["tokens", *blocks]
        if argument_or_default(output_attentions, self.config.output_attentions):
            weights = [f"{block}.weights" for block in blocks]
        final = AFTER_ENCODER if self.params.head is not None else {"norm", *AFTER_ENCODER}
        out = Trace(keep={*final, *(hidden_states or ()), *(weights or ())})
        self.run_into(out, pixel_values, **inputs)
        return ViTHybridStates(out, select_states(out, hidden_states), select_states(out, weights))

    def tokens_needed(self) -> int | None:
        """As in Model.  A classifier of the class token needs one token.

        No bit of the logits depends on the other tokens of the last block. The reference engine computes all tokens,
        because the bits of NumPy's matrix product depend on the number of rows.

        >>> from nphybrid import ViTHybridForImageClassification, ViTHybridModel, default_model
        >>> [kind.from_pretrained(default_model()).tokens_needed() for kind in (ViTHybridForImageClassification,
        ...                                                                     ViTHybridModel)]
        [1, None]
        """
        only_token = self.network_config.pool == "token" and self.params.head is not None
        return 1 if only_token and self.engine == "numba" else None


class ViTHybridModel(ViTHybrid):
    """The ViT Hybrid without a classifier, which computes encoded tokens.

    `config`: a ViTHybridConfig. `add_pooling_layer`: whether the model has a pooler, a linear layer with tanh that
    reads the class token. `use_mask_token`: whether the model has a mask token, which replaces masked patches.
    `options`: state_dict, seed, engine, dtype, precision and num_threads, as in ViTHybridForImageClassification.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridModel, default_model
    >>> model = ViTHybridModel.from_pretrained(default_model())
    >>> model(np.zeros((1, 3, 64, 64), np.float32)).last_hidden_state.shape
    (1, 65, 192)
    """
    ignored = ("classifier.",)

    def __init__(self, config: ViTHybridConfig | ViTConfig, add_pooling_layer: bool = True,
                 use_mask_token: bool = False, **options: Any):
        pooler = getattr(config, "pooler_output_size", True) if add_pooling_layer else False
        self.parts = {"pooler": pooler, "mask_token": bool(use_mask_token)}
        super().__init__(config, **options)

    @classmethod
    def from_checkpoint(cls: type[M], source: Checkpoint, overrides: dict[str, Any] | None = None,
                        head: Any = None, ignore_mismatched_sizes: bool = False, **options: Any) -> M:
        """Make a model as `Model.from_checkpoint` does.

        By default, the model has a pooler if the file has a pooler, and a mask token if the file has a mask token. The
        overrides add_pooling_layer and use_mask_token replace the default.
        """
        source = in_hugging_face_names(source, cls)
        overrides = dict(overrides or {})
        names = with_prefix(source.arrays, cls)
        parts = {"add_pooling_layer": "pooler.dense.weight" in names,
                 "use_mask_token": "embeddings.mask_token" in names}
        for key in parts:
            if overrides.get(key) is not None:
                parts[key] = overrides.pop(key)
        return super().from_checkpoint(source, overrides, head, **parts, **options)

    def forward(self, pixel_values: npt.ArrayLike | None = None, bool_masked_pos: npt.ArrayLike | None = None,
                head_mask: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                return_dict: bool | None = None) -> BaseModelOutputWithPooling:
        """Encode pictures.

        `pixel_values`: floats (B, C, H, W), the output of the image processor. `bool_masked_pos`: bools (B, N) for N
        patches, where True replaces a patch by the mask token. `head_mask`: numbers (A,) or (L, A) that multiply the
        results of the A heads in each of the L blocks. `output_attentions`: whether to return the attention weights of
        each block. `output_hidden_states`: whether to return the tokens and the output of each block.
        `interpolate_pos_encoding`: whether to accept other picture sizes and resize the positions. `return_dict`: False
        to return a tuple. If output_attentions, output_hidden_states or return_dict is None, its value in the
        configuration is used.

        Returns a BaseModelOutputWithPooling. `last_hidden_state` has the shape (B, T, D). `pooler_output` has the shape
        (B, D). `hidden_states` has L + 1 arrays (B, T, D). `attentions` has L arrays (B, A, T, T), which are multiplied
        by the head mask. The arrays of the output have the dtype of the model. Bfloat16 and int8 models return float32.

        In a model without a pooler, pooler_output is usually None. If a network of timm or JAX has mean pooling or
        pre_logits, pooler_output is the pooled vector. Raises the errors of `check_inputs` and `run_into`.
        """
        out, hidden_states, attentions = self.run(
            pixel_values, output_attentions, output_hidden_states, head_mask=head_mask,
            bool_masked_pos=bool_masked_pos, interpolate_pos_encoding=interpolate_pos_encoding)
        output = BaseModelOutputWithPooling(last_hidden_state=out["norm"], pooler_output=out.get("pooler"),
                                            hidden_states=hidden_states, attentions=attentions)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike | None = None, bool_masked_pos: npt.ArrayLike | None = None,
                 head_mask: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                 output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                 return_dict: bool | None = None) -> BaseModelOutputWithPooling:
        """`forward`."""
        return self.forward(pixel_values, bool_masked_pos, head_mask, output_attentions, output_hidden_states,
                            interpolate_pos_encoding, return_dict)


class ViTHybridForImageClassification(ViTHybrid):
    """The ViT Hybrid with a classifier, which computes logits.

    `config`: a ViTHybridConfig. `state_dict`: the weights, a dict {Hugging Face name: array}, or None for random
    weights. `seed`: the seed of the random weights. `engine`, `dtype`, `precision`, `num_threads`: as in
    `from_pretrained`.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model())
    >>> logits = model(np.zeros((1, 3, 64, 64), np.float32)).logits
    >>> logits.shape, logits.dtype
    ((1, 10), dtype('float32'))
    """
    prefix = "vit."
    has_head = True

    def forward(self, pixel_values: npt.ArrayLike | None = None, head_mask: npt.ArrayLike | None = None,
                labels: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                return_dict: bool | None = None) -> ImageClassifierOutput:
        """Classify pictures.

        `labels`: the labels from which the loss is computed, or None for no loss. For integers (B,), the loss is the
        cross-entropy, and the label -100 is not counted. For floats (B, classes), the loss is the binary cross-entropy,
        and a picture can have several labels. For a model with only one class, the labels have the shape (B,) or
        (B, 1), and the loss is the mean squared error. If `config.problem_type` is set, it decides the kind of loss.
        The other arguments are those of ViTHybridModel.forward.

        Returns an ImageClassifierOutput with loss (), logits (B, classes), hidden_states and attentions. If the model
        has no classes, the logits are the pooled vector. Raises the errors of `check_inputs` and `run_into`, and
        ValueError for labels of a wrong shape or type.
        """
        out, hidden_states, attentions = self.run(
            pixel_values, output_attentions, output_hidden_states, head_mask=head_mask,
            interpolate_pos_encoding=interpolate_pos_encoding)
        logits = _logits(out)
        output = ImageClassifierOutput(loss=loss_of(self, logits, labels), logits=logits,
                                       hidden_states=hidden_states, attentions=attentions)
        return as_requested(output, return_dict, self.config)

    def __call__(self, pixel_values: npt.ArrayLike | None = None, head_mask: npt.ArrayLike | None = None,
                 labels: npt.ArrayLike | None = None, output_attentions: bool | None = None,
                 output_hidden_states: bool | None = None, interpolate_pos_encoding: bool | None = None,
                 return_dict: bool | None = None) -> ImageClassifierOutput:
        """`forward`."""
        return self.forward(pixel_values, head_mask, labels, output_attentions, output_hidden_states,
                            interpolate_pos_encoding, return_dict)


def _logits(trace: Trace) -> np.ndarray:
    """Returns the logits (B, classes) in a trace.

    In a model without a classifier, the function returns the state "pooler", or the first token of the state "norm".
    """
    if "logits" in trace:
        return trace["logits"]
    return trace["pooler"] if "pooler" in trace else trace["norm"][:, 0]


class ViTModel(ViTHybridModel):
    """The plain ViT without a classifier.  The patches are cut from the picture, because there is no backbone.

    `config`: a ViTConfig. The other arguments are those of ViTHybridModel.

    >>> import numpy as np
    >>> from nphybrid import ViTConfig, ViTModel
    >>> sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    >>> ViTModel(ViTConfig(image_size=32, **sizes))(np.zeros((1, 3, 32, 32), np.float32)).pooler_output.shape
    (1, 48)
    """
    config: ViTConfig
    config_class = ViTConfig


class ViTForImageClassification(ViTHybridForImageClassification):
    """The plain ViT with a classifier.

    `config`: a ViTConfig. The other arguments are those of ViTHybridForImageClassification.

    >>> import numpy as np
    >>> from nphybrid import ViTConfig, ViTForImageClassification
    >>> sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    >>> model = ViTForImageClassification(ViTConfig(image_size=32, num_labels=5, **sizes))
    >>> model(np.zeros((2, 3, 32, 32), np.float32)).logits.shape
    (2, 5)
    """
    config: ViTConfig
    config_class = ViTConfig
