"""The models, shaped as Hugging Face's: `from_pretrained`, a documented forward, outputs by name.

Each class says what it is made of: its configuration, its table of names, its walk. What they share, loading,
saving and the walk's safety net, is in `_Model`.
"""
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import checkpoint, model, ops, params
from ..losses import loss
from ..positions import resized
from ..tensorfile import write_json, write_safetensors
from ..trace import FirstBad, Trace
from . import checks
from .configs import BitConfig, ViTHybridConfig
from .outputs import (BackboneOutput, BaseModelOutputWithPooling, BaseModelOutputWithPoolingAndNoAttention,
                      ImageClassifierOutput, ImageClassifierOutputWithNoAttention)


class _Model:
    config_class = None
    family = ""                           # what stands in front of the body's names under a classifier
    prefix = ""                           # what stands there in this class: the family's, or nothing
    ignored = ()                          # names that a file may hold beyond this class's own
    has_head = False

    def __init__(self, config, *, state_dict=None, seed=0, engine="numba", dtype="float32", precision="highest",
                 num_threads=None, **parts):
        if not isinstance(config, self.config_class):
            raise TypeError(f"config is {type(config).__name__}; expected {self.config_class.__name__}")
        self.config, self.engine, self.num_threads = config, engine, checks.threads(num_threads)
        self.ops, self.dtype = ops.arithmetic(engine, dtype, precision), np.dtype(dtype)
        self.sizes = config.sizes() if self.has_head else replace(config.sizes(), classes=0)
        self.processor = None             # the image processor's options, where the file held them
        self._shapes = params.shapes(self.sizes, **parts)
        if state_dict is None:
            self._set(params.random(self._shapes, seed, getattr(config, "initializer_range", 0.02)))
        else:
            self.load_state_dict(state_dict)

    def _set(self, tree):
        if self.dtype == np.float64:
            tree = params.mapped(lambda name, array: np.asarray(array, np.float64), tree)
        self._params, self._ready = tree, self.ops.prepare(tree, self.sizes, self.dtype)

    @classmethod
    def from_pretrained(cls, path, *, engine="numba", dtype="float32", precision="highest", num_threads=None, **parts):
        """Load a model from a Hugging Face folder (`config.json`, `model.safetensors`, sharded or not) or an `.h5`.

        engine, dtype: ("numba", "float32"), ("reference", "float32") or ("reference", "float64"). num_threads: None is
        every core this process may use. Raises FormatError for a file that breaks a rule of its format, or that
        does not fill every parameter exactly once; FileNotFoundError; ValueError for a bad configuration.
        """
        return cls._from_checkpoint(checkpoint.read(path), engine=engine, dtype=dtype, precision=precision,
                                    num_threads=num_threads, **parts)

    @classmethod
    def _from_checkpoint(cls, source, **options):
        arrays = cls._with_prefix(source.arrays)
        built = cls.__new__(cls)
        built._source = source.path
        built.__init__(cls.config_class.from_dict(source.config), state_dict=arrays, **options)
        built.processor = source.processor
        return built

    @classmethod
    def _with_prefix(cls, arrays):
        """A classifier's file serves the bare model, and the other way round: only the body's prefix differs."""
        if any(name.startswith(cls.family) for name in arrays) == bool(cls.prefix):
            return arrays
        if cls.prefix:
            return {name if name.startswith("classifier.") else cls.prefix + name: a for name, a in arrays.items()}
        return {name.removeprefix(cls.family): array for name, array in arrays.items()}

    def state_dict(self):
        """{Hugging Face name: array} in Hugging Face layouts (OIHW), copies; a torch twin loads it as it is."""
        return checkpoint.spelled(self._params, self._table(), self.sizes.patch)

    def load_state_dict(self, state_dict):
        """Take every parameter from {Hugging Face name: array}.  Raises FormatError that lists every missing,
        unexpected, mis-shaped or non-finite array; the model then stays as it was."""
        arrays = {name: np.asarray(array) for name, array in state_dict.items()}
        self._set(checkpoint.filled(self._shapes, arrays, self._table(), self.sizes.patch,
                                    getattr(self, "_source", "the state dict"), self.ignored, self.dtype))

    def save_pretrained(self, folder):
        """Write `config.json` and `model.safetensors` (and the image processor, if one came along) into a folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", self._config_document())
        write_safetensors(Path(folder) / "model.safetensors", self.state_dict(), {"format": "pt"})
        if self.processor is not None:
            checkpoint.write_processor(folder, self.processor)

    def save(self, path, **manifest):
        """Write one `.h5`: arrays with checksums, configuration, image processor, and the float64 logits of a built-in
        input, by which any reader can tell that it reads the same network."""
        checkpoint.write_h5(path, self.state_dict(), self._config_document(), self.processor,
                            {"golden": self._golden(), **manifest})

    def _config_document(self):
        return {**self.config.to_dict(), "architectures": [type(self).__name__]}

    def _golden(self):
        exact = ops.arithmetic("reference", "float64")
        tree = exact.prepare(self._params, self.sizes, np.float64)
        out = Trace(keep={"logits", "pooler", "norm"})
        self._walk(checkpoint.golden_input(self.sizes), tree, self.sizes, exact, out)
        state = next(name for name in ("logits", "norm", "pooler") if name in out)
        return {"state": state, "values": out[state].reshape(-1)[:4096].tolist()}

    def num_parameters(self):
        """How many numbers the model learned."""
        return params.count(self._shapes)

    def trace(self, pixel_values, **inputs):
        """The walk with every state kept, channels last.  (B, C, H, W) -> Trace, a dict {name: array}

        Takes the keywords of the forward that change what is computed (head_mask, bool_masked_pos,
        interpolate_pos_encoding).

        >>> from nphybrid import BitBackbone, BitConfig
        >>> backbone = BitBackbone(BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4))
        >>> list(backbone.trace(np.zeros((1, 3, 32, 32))))[:3]
        ['pixel_values', 'stem.conv', 'stem.border']
        """
        out = Trace()
        self._run(pixel_values, out, **inputs)
        return out

    def _run(self, pixel_values, out, **inputs):
        """Check what was handed in, walk, and check what came out; the states are in `out`."""
        x, tree, sizes, inputs = self._checked(pixel_values, **inputs)
        with self._threads(), np.errstate(all="ignore"):
            last = self._walk(x, tree, sizes, self.ops, out, **inputs)
            if not np.isfinite(last).all():
                self._walk(x, tree, sizes, self.ops, FirstBad(), **inputs)
                checks.finite(last, "the output")

    def _threads(self):
        from ..ops import threads
        return threads.using(self.num_threads)

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def __repr__(self):
        return (f"{type(self).__name__}({self.num_parameters():,} parameters, engine={self.engine!r}, "
                f"dtype={self.dtype.name!r})")


class _ViTHybrid(_Model):
    config_class, family = ViTHybridConfig, "vit."
    _walk = staticmethod(model.hybrid)

    def _table(self):
        return checkpoint.hybrid_names(self.prefix)

    def _checked(self, pixel_values, head_mask=None, bool_masked_pos=None, interpolate_pos_encoding=None):
        sizes, tree = self.sizes, self._ready
        x = checks.pixels(pixel_values, sizes.channels, self.dtype, None if interpolate_pos_encoding else sizes.image)
        if x.shape[1:3] != sizes.image:
            sizes = replace(sizes, image=x.shape[1:3])
            if min(sizes.grid) < 1:
                raise ValueError(f"{x.shape[1]} x {x.shape[2]} pixels leave no patch of "
                                 f"{sizes.patch} x {sizes.patch} cells")
            table = resized(tree.tokens.positions, self.sizes.grid, sizes.grid)
            tree = tree._replace(tokens=tree.tokens._replace(positions=table))
        return x, tree, sizes, dict(
            head_mask=checks.head_mask(head_mask, sizes.blocks, sizes.heads, self.dtype),
            masked=checks.masked_patches(bool_masked_pos, tree.tokens.mask, len(x), sizes.tokens - 1))

    def _states(self, output_attentions, output_hidden_states):
        """The names of the states that make `hidden_states` and `attentions`; None where they are not asked for."""
        blocks = [f"blocks.{l}" for l in range(self.sizes.blocks)]
        hidden = ["tokens", *blocks] if _chosen(output_hidden_states, self.config.output_hidden_states) else None
        asked = _chosen(output_attentions, self.config.output_attentions)
        weights = [f"{block}.weights" for block in blocks] if asked else None
        return hidden, weights


class ViTHybridModel(_ViTHybrid):
    """The bare ViT Hybrid: pictures become encoded tokens.

    config is a ViTHybridConfig. add_pooling_layer gives it the pooler (a linear layer and tanh on the class token),
    use_mask_token the token that stands for masked patches. Weights are drawn from `seed`, or taken from `state_dict`.
    engine, dtype, precision, num_threads: see `from_pretrained`.

    >>> from nphybrid import ViTHybridModel, default_model
    >>> model = ViTHybridModel.from_pretrained(default_model())
    >>> model(np.zeros((1, 3, 64, 64), np.float32)).last_hidden_state.shape
    (1, 65, 192)
    """
    ignored = ("classifier.",)

    def __init__(self, config, add_pooling_layer=True, use_mask_token=False, **options):
        super().__init__(config, pooler=add_pooling_layer, mask_token=use_mask_token, **options)

    @classmethod
    def _from_checkpoint(cls, source, add_pooling_layer=None, use_mask_token=None, **options):
        """A classifier's file has no pooler: unless it is demanded, the model then has none either."""
        names = cls._with_prefix(source.arrays)
        if add_pooling_layer is None:
            add_pooling_layer = "pooler.dense.weight" in names
        if use_mask_token is None:
            use_mask_token = "embeddings.mask_token" in names
        return super()._from_checkpoint(source, add_pooling_layer=add_pooling_layer, use_mask_token=use_mask_token,
                                        **options)

    def forward(self, pixel_values=None, bool_masked_pos=None, head_mask=None, output_attentions=None,
                output_hidden_states=None, interpolate_pos_encoding=None, return_dict=None):
        """Encode pictures.

        pixel_values: floats (B, C, H, W), as the image processor returns them. bool_masked_pos: bool (B, N), patches that
        the mask token replaces. head_mask: (A,) or (L, A), a factor on each head. output_attentions,
        output_hidden_states: return each block's attention weights (after the head mask) and output.
        interpolate_pos_encoding: accept another size than the config's and resize the positions to its grid.
        return_dict False returns a tuple.

        Returns BaseModelOutputWithPooling: last_hidden_state (B, T, D), pooler_output (B, D), hidden_states L + 1 of
        (B, T, D), attentions L of (B, A, T, T), in the model's dtype. Raises ValueError, TypeError, NonFiniteError.
        """
        hidden, weights = self._states(output_attentions, output_hidden_states)
        out = Trace(keep={"norm", "pooler", *(hidden or ()), *(weights or ())})
        self._run(pixel_values, out, head_mask=head_mask, bool_masked_pos=bool_masked_pos,
                  interpolate_pos_encoding=interpolate_pos_encoding)
        return _answer(BaseModelOutputWithPooling(
            last_hidden_state=out["norm"], pooler_output=out.get("pooler"), hidden_states=_picked(out, hidden),
            attentions=_picked(out, weights)), return_dict, self.config)


class ViTHybridForImageClassification(_ViTHybrid):
    """The ViT Hybrid with its classifier: pictures become logits.

    config is a ViTHybridConfig; weights are drawn from `seed`, or taken from `state_dict`. engine, dtype, precision,
    num_threads: see `from_pretrained`.

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
        out = Trace(keep={"norm", "logits", *(hidden or ()), *(weights or ())})
        self._run(pixel_values, out, head_mask=head_mask, interpolate_pos_encoding=interpolate_pos_encoding)
        logits = out["logits"] if "logits" in out else out["norm"][:, 0]
        return _answer(ImageClassifierOutput(
            loss=None if labels is None else loss(logits, labels, self.config.problem_type), logits=logits,
            hidden_states=_picked(out, hidden), attentions=_picked(out, weights)), return_dict, self.config)


class _Bit(_Model):
    config_class, family = BitConfig, "bit."
    _walk = staticmethod(model.bit)

    def _table(self):
        return checkpoint.bit_names(self.prefix)

    def _checked(self, pixel_values):
        x = checks.pixels(pixel_values, self.sizes.channels, self.dtype)
        if min(replace(self.sizes, image=x.shape[1:3]).feature_map) < 1:
            raise ValueError(f"{x.shape[1]} x {x.shape[2]} pixels leave no cell of a feature map")
        return x, self._ready, self.sizes, {}

    @property
    def _stages(self):
        """The names of the states that are `hidden_states`: the stem, then the last unit of each stage."""
        return ["stem"] + [f"stages.{s}.{depth - 1}" for s, depth in enumerate(self.sizes.depths)]

    def _outputs(self, pixel_values, output_hidden_states):
        asked = _chosen(output_hidden_states, self.config.output_hidden_states)
        out = Trace(keep={"features_norm", "pooler", "logits", *self._stages})
        self._run(pixel_values, out)
        maps = tuple(_channels_first(out[name]) for name in self._stages)
        return out, maps, maps if asked else None


class BitModel(_Bit):
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
        last = _channels_first(out["features_norm"]) if "features_norm" in out else maps[-1]
        return _answer(BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=out["pooler"][:, :, None, None], hidden_states=hidden),
            return_dict, self.config)


class BitForImageClassification(_Bit):
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
        return _answer(ImageClassifierOutputWithNoAttention(
            loss=None if labels is None else loss(logits, labels, self.config.problem_type), logits=logits,
            hidden_states=hidden), return_dict, self.config)


class BitBackbone(_Bit):
    """The BiT network as a backbone: the feature maps that `config.out_features` names, as the stages leave them.

    >>> from nphybrid import BitBackbone, BitConfig
    >>> config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4,
    ...                    out_features=["stem", "stage1"])
    >>> [map.shape for map in BitBackbone(config)(np.zeros((1, 3, 64, 64), np.float32)).feature_maps]
    [(1, 8, 16, 16), (1, 32, 16, 16)]
    """
    prefix, ignored = "bit.", ("classifier.",)

    def forward(self, pixel_values, output_hidden_states=None, return_dict=None):
        """pixel_values: floats (B, C, H, W) of any size.  Returns BackboneOutput: feature_maps, one (B, C, H, W) per
        out_features; hidden_states: stem and stages."""
        _, maps, hidden = self._outputs(pixel_values, output_hidden_states)
        chosen = tuple(maps[i] for i in self.config.out_indices)
        return _answer(BackboneOutput(feature_maps=chosen, hidden_states=hidden), return_dict, self.config)


def _chosen(argument, default):
    return default if argument is None else argument


def _picked(out, names):
    return None if names is None else tuple(out[name] for name in names)


def _channels_first(x):
    """(B, H, W, C) -> (B, C, H, W)"""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _answer(output, return_dict, config):
    return output if _chosen(return_dict, config.return_dict) else output.to_tuple()
