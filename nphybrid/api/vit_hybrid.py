"""`ViTHybridModel` and `ViTHybridForImageClassification`, and the plain `ViTModel` and `ViTForImageClassification`."""
from dataclasses import replace


from .. import model
from ..dialects.huggingface import hybrid_names
from ..dialects.positions import resize_positions
from ..trace import Trace
from . import checks
from .base import Model, answer, chosen, picked
from .configs import ViTConfig, ViTHybridConfig
from .outputs import BaseModelOutputWithPooling, ImageClassifierOutput
from .source import for_image_size, in_hugging_face_names, with_prefix


class ViTHybrid(Model):
    """What both hybrids are made of."""
    config_class, family = ViTHybridConfig, "vit."
    network, table_of = staticmethod(model.hybrid), staticmethod(hybrid_names)

    @classmethod
    def from_checkpoint(cls, source, overrides=None, **options):
        """As `Model.from_checkpoint`; for another image_size than the file's the position table is resized."""
        source = for_image_size(in_hugging_face_names(source, cls), cls, overrides or {})
        return super().from_checkpoint(source, overrides, **options)

    def _checked(self, pixel_values, head_mask=None, bool_masked_pos=None, interpolate_pos_encoding=None):
        config, tree = self.network_config, self._ready
        x = checks.pixels(pixel_values, config.channels, self._floats, None if interpolate_pos_encoding else config.image)
        if x.shape[1:3] != config.image:
            config = replace(config, image=x.shape[1:3])
            checks.fits(config)
            table = resize_positions(tree.tokens.positions, self.network_config.grid, config.grid, config.resampling)
            tree = tree._replace(tokens=tree.tokens._replace(positions=table))
        return x, tree, config, dict(
            head_mask=checks.head_mask(head_mask, config.blocks, config.heads, self._floats),
            masked=checks.masked_patches(bool_masked_pos, tree.tokens.mask, len(x), config.tokens - config.class_token))

    def trace(self, pixel_values, head_mask=None, bool_masked_pos=None, interpolate_pos_encoding=None, runs=0):
        """The walk with every state kept, channels last.  (B, C, H, W) -> Trace, a dict {name: array}

        The arguments are those of the forward that change what is computed, and `runs`, for `trace.seconds`: where the
        time goes. 0 takes the times of the walk that keeps the states, which are not those of a forward: each state is
        written to fresh memory, attention writes its weights, and the first walk of a process compiles or loads the
        kernels. Of R50+ViT-B/16, attention so took 16 % of 0.84 s, in a forward 10 % of 0.74 s. With runs = n the
        network is walked n times more, keeping nothing, and each time is a median of those; the weights have none.

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
        return self._trace(pixel_values, runs, head_mask=head_mask, bool_masked_pos=bool_masked_pos,
                           interpolate_pos_encoding=interpolate_pos_encoding)

    def _states(self, output_attentions, output_hidden_states):
        """The names of the states that make `hidden_states` and `attentions`; None where they are not asked for."""
        blocks = [f"blocks.{l}" for l in range(self.network_config.blocks)]
        hidden = ["tokens", *blocks] if chosen(output_hidden_states, self.config.output_hidden_states) else None
        asked = chosen(output_attentions, self.config.output_attentions)
        weights = [f"{block}.weights" for block in blocks] if asked else None
        return hidden, weights


class ViTHybridModel(ViTHybrid):
    """The bare ViT Hybrid: pictures become encoded tokens.

    config is a ViTHybridConfig. add_pooling_layer gives it the pooler (a linear layer and tanh on the class token),
    use_mask_token the token that stands for masked patches. Weights are drawn from `seed`, or taken from `state_dict`.
    engine, dtype, precision, num_threads: see `from_pretrained`.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridModel, default_model
    >>> model = ViTHybridModel.from_pretrained(default_model())
    >>> model(np.zeros((1, 3, 64, 64), np.float32)).last_hidden_state.shape
    (1, 65, 192)
    """
    ignored = ("classifier.",)

    def __init__(self, config, add_pooling_layer=True, use_mask_token=False, **options):
        pooler = getattr(config, "pooler_output_size", True) if add_pooling_layer else False
        self.parts = {"pooler": pooler, "mask_token": bool(use_mask_token)}
        super().__init__(config, **options)

    @classmethod
    def from_checkpoint(cls, source, overrides=None, **options):
        """As `Model.from_checkpoint`; the model has a pooler and a mask token where the file has them, unless the
        overrides say otherwise."""
        source, overrides = in_hugging_face_names(source, cls), dict(overrides or {})
        names = with_prefix(source.arrays, cls)
        parts = {"add_pooling_layer": "pooler.dense.weight" in names,
                 "use_mask_token": "embeddings.mask_token" in names}
        parts |= {key: overrides.pop(key) for key in parts if overrides.get(key) is not None}
        return super().from_checkpoint(source, overrides, **parts, **options)

    def forward(self, pixel_values=None, bool_masked_pos=None, head_mask=None, output_attentions=None,
                output_hidden_states=None, interpolate_pos_encoding=None, return_dict=None):
        """Encode pictures.

        pixel_values: floats (B, C, H, W), as the image processor returns them. bool_masked_pos: bool (B, N), patches
        that the mask token replaces. head_mask: (A,) or (L, A), a factor on each head. output_attentions,
        output_hidden_states: return each block's attention weights (after the head mask) and output.
        interpolate_pos_encoding: accept another size than the config's and resize the positions to its grid.
        return_dict False returns a tuple.

        Returns BaseModelOutputWithPooling: last_hidden_state (B, T, D), pooler_output (B, D), hidden_states L + 1 of
        (B, T, D), attentions L of (B, A, T, T), in the model's dtype, or float32 where that is bfloat16. pooler_output
        is the pooler's; of a timm or JAX network that pools a mean or has pre_logits what its head would read; else
        None. Raises ValueError, TypeError, NonFiniteError.
        """
        hidden, weights = self._states(output_attentions, output_hidden_states)
        out = Trace(keep={"norm", "pooler", *(hidden or ()), *(weights or ())})
        self.run_into(out, pixel_values, head_mask=head_mask, bool_masked_pos=bool_masked_pos,
                  interpolate_pos_encoding=interpolate_pos_encoding)
        return answer(BaseModelOutputWithPooling(
            last_hidden_state=out["norm"], pooler_output=out.get("pooler"), hidden_states=picked(out, hidden),
            attentions=picked(out, weights)), return_dict, self.config)


class ViTHybridForImageClassification(ViTHybrid):
    """The ViT Hybrid with its classifier: pictures become logits.

    config is a ViTHybridConfig; weights are drawn from `seed`, or taken from `state_dict`. engine, dtype, precision,
    num_threads: see `from_pretrained`.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model())
    >>> logits = model(np.zeros((1, 3, 64, 64), np.float32)).logits
    >>> logits.shape, logits.dtype
    ((1, 10), dtype('float32'))
    """
    prefix, has_head = "vit.", True

    def forward(self, pixel_values=None, head_mask=None, labels=None, output_attentions=None,
                output_hidden_states=None, interpolate_pos_encoding=None, return_dict=None):
        """Classify pictures.

        labels: int (B,), -100 not counted, for the cross-entropy; floats (B, K) for several labels at once; floats (B,)
        for a regression where the model has one class. `config.problem_type` overrides that choice. The other arguments
        are those of ViTHybridModel.forward.

        Returns ImageClassifierOutput: loss (), logits (B, classes), hidden_states, attentions. Raises ValueError,
        TypeError, NonFiniteError.
        """
        hidden, weights = self._states(output_attentions, output_hidden_states)
        out = Trace(keep={"norm", "pooler", "logits", *(hidden or ()), *(weights or ())})
        self.run_into(out, pixel_values, head_mask=head_mask, interpolate_pos_encoding=interpolate_pos_encoding)
        # Without a head it is what one would read.
        logits = out["logits"] if "logits" in out else out["pooler"] if "pooler" in out else out["norm"][:, 0]
        return answer(ImageClassifierOutput(
            loss=self._loss(logits, labels), logits=logits,
            hidden_states=picked(out, hidden), attentions=picked(out, weights)), return_dict, self.config)


class ViTModel(ViTHybridModel):
    """The bare plain ViT: the hybrid without its backbone, so that patches are cut from the picture itself.

    config is a ViTConfig; everything else is ViTHybridModel's.

    >>> import numpy as np
    >>> from nphybrid import ViTConfig, ViTModel
    >>> sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    >>> ViTModel(ViTConfig(image_size=32, **sizes))(np.zeros((1, 3, 32, 32), np.float32)).pooler_output.shape
    (1, 48)
    """
    config_class = ViTConfig


class ViTForImageClassification(ViTHybridForImageClassification):
    """The plain ViT with its classifier.

    config is a ViTConfig; everything else is ViTHybridForImageClassification's.

    >>> import numpy as np
    >>> from nphybrid import ViTConfig, ViTForImageClassification
    >>> sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    >>> model = ViTForImageClassification(ViTConfig(image_size=32, num_labels=5, **sizes))
    >>> model(np.zeros((2, 3, 32, 32), np.float32)).logits.shape
    (2, 5)
    """
    config_class = ViTConfig
