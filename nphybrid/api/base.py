"""What the models share: loading, saving, and the walk's safety net."""
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from .. import checkpoint, ops, params
from ..dialects.layout import Misfit
from ..ops import threads
from ..tensorfile import FormatError, Stored, write_json, write_safetensors
from ..trace import FirstNonFinite, Trace, median_times
from . import checks
from .losses import loss
from .source import in_hugging_face_names, with_head, with_prefix


class Model:
    """A network with its weights.  Each class says what it is made of: configuration, table of names, walk.

    Attributes: config, as given; engine, dtype (a name), precision, num_threads; processor, the image processor's
    options as a dict, or None; assign a ViTHybridImageProcessor or such a dict, and `save` keeps it.

    Every weight is held once, as its engine reads it. Convolution kernels, which are standardized there, have an
    original beside them; that of a model from a file stays in the file.
    """
    config_class = None
    family = ""                           # what stands in front of the body's names under a classifier
    prefix = ""                           # what stands there in this class: the family's, or nothing
    ignored = ()                          # names that a file may hold beyond this class's own
    has_head = False
    name_or_path = ""                     # where the weights were read
    parts = {}                            # which optional parameters there are: pooler, mask_token

    def __init__(self, config, *, state_dict=None, seed=0, engine="numba", dtype="float32", precision="highest",
                 num_threads=None):
        if not isinstance(config, self.config_class):
            raise TypeError(f"config is {type(config).__name__}; expected {self.config_class.__name__}")
        ops.implementation(engine, dtype, precision)
        self.config, self.engine, self.num_threads = config, engine, checks.threads(num_threads)
        self.dtype, self._processor = ops.dtype_name(dtype), None
        self.network_config = self._network_config_of(config)
        self.precision = precision
        self._floats = ops.floats_of(self.dtype)
        self.shapes = params.shapes(self.network_config, **self.parts)
        if state_dict is None:
            fresh = params.random(self.shapes, seed, getattr(config, "initializer_range", 0.02))
            state_dict = checkpoint.to_state_dict(fresh, self.table, self.network_config)
        self.load_state_dict(state_dict)

    def _network_config_of(self, config):
        found = config.network_config()
        return found if self.has_head else replace(found, classes=0)

    @property
    def ops(self):
        """The module that computes: ops.reference or ops.kernels."""
        return ops.implementation(self.engine, self.dtype)

    @property
    def processor(self):
        """The image processor's options, as `preprocessor_config.json` holds them; None if none came along."""
        return self._processor

    @processor.setter
    def processor(self, options):
        self._processor = options.to_dict() if hasattr(options, "to_dict") else options

    @classmethod
    def from_pretrained(cls, path, *, revision=None, engine="numba", dtype="float32", precision="highest",
                        num_threads=None, head=None, **overrides):
        """Load a model from a Hugging Face folder (`config.json`, `model.safetensors`, sharded or not), an `.h5`, a
        timm folder or `.safetensors`, or a Google `.npz`.

        path: where nothing lies there, "owner/name" or "owner/name@revision" is fetched from the Hugging Face hub, or
        from its cache (hub.py says what is fetched; needs `nphybrid[hub]`). revision: a branch, tag or commit there.
        engine, dtype: ("numba", "float32"), ("numba", "bfloat16"), ("reference", "float32") or ("reference",
        "float64"). bfloat16 rounds the kernels of convolutions and linear layers; what flows stays float32, but AMX
        rounds what it multiplies with them. precision: "highest", or "high", which permits products of 16 instead of
        24 bits where they are faster: on AMX.
        num_threads: None is every core this process may use. head: a file of `nphybrid probe fit`, or a
        `checkpoint.Head`, that takes the place of the classifier, labels and all. overrides: keys of the configuration,
        such as out_features, or image_size, to which positions are then resized; for ViTHybridModel also
        add_pooling_layer and use_mask_token, which by default are what the file holds. `state_dict`, and so saving and
        pickling, need the file once more. Raises FormatError for a file that breaks a rule of its format, or that does
        not fill every parameter exactly once; FileNotFoundError, or another OSError where the hub cannot be reached;
        ValueError for a bad configuration, or a head of another model, width or state.
        """
        with checkpoint.opened(path, revision) as source:
            return cls.from_checkpoint(source, overrides, engine=engine, dtype=dtype, precision=precision,
                                       num_threads=num_threads, head=head)

    @classmethod
    def from_checkpoint(cls, source, overrides=None, head=None, **options):
        """The model of a `checkpoint.Checkpoint`.  overrides: keys of the configuration; the rest as in
        `from_pretrained`."""
        source = in_hugging_face_names(source, cls)
        if head is not None:
            source = with_head(source, head, cls)
        config = cls.config_class.from_dict(source.config, **(overrides or {}))
        try:
            model = cls(config, state_dict=with_prefix(source.arrays, cls), **options)
        except Misfit as error:
            raise FormatError(f"{source.path}: {error}") from None
        model.processor, model.name_or_path = source.processor, str(source.path)
        return model

    @property
    def table(self):
        """{our name: (Hugging Face's name, Layout)} of every learned array."""
        return self.table_of(self.prefix)

    def state_dict(self):
        """{Hugging Face name: array} in Hugging Face layouts (OIHW), copies; a torch twin loads it.

        Bit for bit what was loaded, in the model's dtype; in bfloat16 float32 arrays, those of linear kernels rounded.
        Convolution kernels of a model from a file are read there again: FormatError if it is gone or has changed.
        """
        state = checkpoint.to_state_dict(self._ready, self.table, self.network_config, checkpoint.reread(self._originals))
        return {name: np.array(array, self._floats, order="C") for name, array in state.items()}

    def load_state_dict(self, state_dict):
        """Take every parameter from {Hugging Face name: array}, by copy.  Raises FormatError that lists every missing,
        unexpected, mis-shaped or non-finite array; the model then stays as it was."""
        arrays = {name: array if isinstance(array, Stored) else checks.as_array(array)
                  for name, array in state_dict.items()}
        self._ready, self._originals = self._filled(arrays, self.engine, self.dtype, self.precision)

    def _filled(self, arrays, engine, dtype, precision="highest"):
        """The tree as an engine reads it, and the originals of its convolution kernels."""
        ready = partial(ops.implementation(engine, dtype).ready, config=self.network_config, dtype=dtype,
                        precision=precision)
        with threads.using(self.num_threads):
            return checkpoint.fill_parameters(self.shapes, arrays, self.table, self.network_config, ready,
                                     self.ignored, ops.floats_of(dtype))

    def __getstate__(self):
        """A pickle holds all that was learned, and needs no file."""
        return {**self.__dict__, "_originals": checkpoint.reread(self._originals)}

    def learned(self):
        """The tree of what was learned, as `ops.reference` reads it: a Params of NumPy arrays, convolution kernels
        standardized; float32, or the model's float64.  Raises what `state_dict` raises.

        >>> from nphybrid import ViTHybridModel, default_model
        >>> stem = ViTHybridModel.from_pretrained(default_model()).learned().stem
        >>> stem.conv.shape, bool(abs(stem.conv[..., 0].mean()) < 1e-7)
        ((7, 7, 3, 64), True)
        """
        return self._filled(self.state_dict(), "reference", np.dtype(self._floats).name)[0]

    def save_pretrained(self, folder):
        """Write `config.json` and `model.safetensors` (and the image processor, if one came along) into a folder.

        The key `dialect` of a network that is not Hugging Face's own is read here only: upstream computes without it.
        `nphybrid convert` refuses to write such a folder.
        """
        state, config = self.state_dict(), self._config_document()
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", config)
        write_safetensors(Path(folder) / "model.safetensors", state, {"format": "pt"})
        if self.processor is not None:
            checkpoint.write_processor(folder, self.processor)

    def save(self, path, source=None):
        """Write one `.h5`: arrays with checksums, configuration, image processor, and the float64 logits of a built-in
        input, by which any reader can tell that it reads the same network.  source: a dict that says where the weights
        come from, kept in the file."""
        state = self.state_dict()
        manifest = {"golden": self._golden(state)} | ({} if source is None else {"source": source})
        checkpoint.write_h5(path, state, self._config_document(), self.processor, manifest)

    def _config_document(self):
        if self._network_config_of(self.config) != self.network_config:
            raise ValueError("the configuration was changed after the model was built, and no longer describes it")
        self.config.architectures = [type(self).__name__]
        return self.config.to_dict()

    def _golden(self, state):
        exact = ops.implementation("reference", "float64")
        tree, _ = self._filled(state, "reference", "float64")
        out = Trace(keep={"logits", "pooler", "norm"})
        self.network(checkpoint.golden_input(self.network_config), tree, self.network_config, exact, out)
        state = next(name for name in ("logits", "norm", "pooler") if name in out)
        return {"state": state, "values": out[state].reshape(-1)[:4096].tolist()}

    def num_parameters(self):
        """How many numbers the model learned."""
        return params.count(self.shapes)

    def eval(self):
        """The model itself: it knows no training mode.  For code that was written for PyTorch."""
        return self

    def image_processor(self):
        """The ViTHybridImageProcessor that came with the model.  Raises ValueError if none came."""
        if self.processor is None:
            raise ValueError(f"{self.name_or_path or f'this {type(self).__name__}'} came without an image processor, "
                             "which prepares pictures; expected a preprocessor_config.json beside its weights, or "
                             "model.processor set")
        from .processor import ViTHybridImageProcessor
        return ViTHybridImageProcessor.from_dict(self.processor)

    def prepared(self, picture):
        """A picture as the model reads it, through the image processor that came with it.  -> pixel_values (1, C, H, W)

        picture: a path, the bytes of a file, an open file, or a Pillow picture, as `open_picture` takes it. Raises
        PictureError for a picture that cannot be read, ValueError for a model without an image processor.

        >>> from nphybrid import ViTHybridForImageClassification, default_model
        >>> model = ViTHybridForImageClassification.from_pretrained(default_model())
        >>> model.prepared("examples/images/cat.png").shape
        (1, 3, 64, 64)
        """
        from ..pictures.decode import open_picture
        return self.image_processor()(open_picture(picture), return_tensors="np").pixel_values

    def run_into(self, trace, pixel_values, **inputs):
        """One forward pass whose states are put into `trace`, a `Trace`, which keeps those that it wants.

        pixel_values: floats (B, C, H, W). inputs: the other arguments of `trace()` that change what is computed. The
        last state is checked: raises NonFiniteError that names the first state that is not finite. Raises ValueError
        and TypeError for arguments that do not fit the model.

        >>> import numpy as np
        >>> from nphybrid import Trace, ViTHybridModel, default_model
        >>> model, trace = ViTHybridModel.from_pretrained(default_model()), Trace(keep={"stem"})
        >>> model.run_into(trace, np.zeros((1, 3, 64, 64), np.float32))
        >>> trace["stem"].shape
        (1, 16, 16, 64)
        """
        x, tree, config, inputs = self._checked(pixel_values, **inputs)
        with threads.using(self.num_threads), np.errstate(all="ignore"):
            last = self.network(x, tree, config, self.ops, trace, **inputs)
            if not np.isfinite(last).all():
                self.network(x, tree, config, self.ops, FirstNonFinite(), **inputs)
                checks.finite(last, "the output")

    def _trace(self, pixel_values, runs, **inputs):
        out = Trace()
        self.run_into(out, pixel_values, **inputs)
        if runs:
            out.seconds = median_times(lambda watch: self.run_into(watch, pixel_values, **inputs), runs)
        return out

    def _loss(self, logits, labels):
        if labels is None:
            return None
        if not self.network_config.classes:
            raise ValueError("labels were given, but this model has no classes (num_labels is 0)")
        return loss(logits, checks.as_array(labels), self.config.problem_type)

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def __repr__(self):
        return (f"{type(self).__name__}({self.num_parameters():,} parameters, engine={self.engine!r}, "
                f"dtype={self.dtype!r})")


def chosen(argument, default):
    """The argument, or the configuration's default where it is None."""
    return default if argument is None else argument


def picked(out, names):
    """The named states as a tuple; None for None."""
    return None if names is None else tuple(out[name] for name in names)


def answer(output, return_dict, config):
    """The output, or its tuple where no dict is wanted."""
    return output if chosen(return_dict, config.return_dict) else output.to_tuple()
