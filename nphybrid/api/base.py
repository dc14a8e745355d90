"""`Model`, the base class of all models: loading, saving, and forward passes that check their input."""
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import checkpoint, ops, params
from ..config import Config
from ..dialects.layout import Misfit
from ..ops import threads
from ..params import Params
from ..tensorfile import FormatError, Stored, write_json, write_safetensors
from ..trace import FirstNonFinite, Trace, median_times
from . import checks
from .losses import loss
from .outputs import ModelOutput
from .source import in_hugging_face_names, with_head, with_prefix

if TYPE_CHECKING:
    from .processor import BatchFeature, ViTHybridImageProcessor

M = TypeVar("M", bound="Model")
Output = TypeVar("Output", bound=ModelOutput)
T = TypeVar("T")
AnyPath = str | os.PathLike[str]


class Inputs(NamedTuple):
    """The checked inputs of a forward pass, as the network receives them."""
    x: np.ndarray                         # pixel_values (B, H, W, C)
    params: Params                        # those of the model, perhaps with resized positions
    config: Config
    masks: dict[str, Any]                 # the keyword arguments of the network


class Model:
    """A network with its weights.

    Attributes: config, the Hugging Face configuration; network_config, the `Config` of the network; engine, dtype (a
    name), precision, num_threads; name_or_path, where the weights were read; processor, the options of the image
    processor as a dict, or None. Assign such a dict or a ViTHybridImageProcessor to `processor`, and `save` stores it.

    shapes: the tree of shapes. params: the tree of weights, as the engine reads them; each is in memory once.
    originals: {Hugging Face name: the kernel of a convolution before it was standardized}, an array, or, for a model
    from a file, its place in that file.

    A subclass defines config_class, network (`hybrid` or `bit`), table_of, family, check_inputs and forward.
    """
    config: Any
    config_class: Any = None
    network: Any = None                   # the function of model.py
    table_of: Any = None                  # prefix -> the table of names
    family = ""                           # the prefix of the names of a bare model in its classifier: "vit.", "bit."
    prefix = ""                           # the prefix of these names in this class: the family, or ""
    ignored: tuple[str, ...] = ()         # prefixes of names that a file may hold and this class does not use
    has_head = False                      # whether the class is a classifier
    name_or_path = ""
    parts: dict[str, Any] = {}            # the optional parts that the model has: pooler, mask_token

    def __init__(self, config: Any, *, state_dict: Mapping[str, Any] | None = None, seed: int = 0,
                 engine: str = "numba", dtype: npt.DTypeLike = "float32", precision: str = "highest",
                 num_threads: int | None = None):
        if not isinstance(config, self.config_class):
            raise TypeError(f"config is {type(config).__name__}; expected {self.config_class.__name__}")
        ops.implementation(engine, dtype, precision)
        self.config = config
        self.engine = engine
        self.num_threads = checks.threads(num_threads)
        self.dtype = ops.dtype_name(dtype)
        self.precision = precision
        self.processor = None
        self.network_config = self._network_config_of(config)
        self.shapes = params.shapes(self.network_config, **self.parts)
        if state_dict is None:
            random = params.random(self.shapes, seed, getattr(config, "initializer_range", 0.02))
            state_dict = checkpoint.to_state_dict(random, self.table, self.network_config)
        self.load_state_dict(state_dict)

    def _network_config_of(self, config: Any) -> Config:
        network_config = config.network_config()
        return network_config if self.has_head else replace(network_config, classes=0)

    @property
    def ops(self) -> ModuleType:
        """The module of operations: ops.reference or ops.kernels."""
        return ops.implementation(self.engine, self.dtype)

    @property
    def float_dtype(self) -> np.dtype:
        """The dtype of the states.  That of a bfloat16 model is float32: only its weights are bfloat16."""
        return ops.floats_of(self.dtype)

    @property
    def processor(self) -> dict[str, Any] | None:
        """The options of the image processor, as `preprocessor_config.json` holds them; None if there are none."""
        return self._processor

    @processor.setter
    def processor(self, options: "dict[str, Any] | ViTHybridImageProcessor | None") -> None:
        to_dict: Any = getattr(options, "to_dict", None)
        self._processor: Any = to_dict() if to_dict else options

    # -- loading -----------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls: type[M], path: AnyPath, *, revision: str | None = None, engine: str = "numba",
                        dtype: npt.DTypeLike = "float32", precision: str = "highest", num_threads: int | None = None,
                        head: "AnyPath | checkpoint.Head | None" = None, **overrides: Any) -> M:
        """Load a model from a file, a folder or the Hugging Face hub.

        path: a Hugging Face folder (`config.json` and `model.safetensors`, sharded or not), an `.h5` of `save`, a timm
        folder or `.safetensors`, or a Google `.npz`. If nothing exists at the path, "owner/name" or
        "owner/name@revision" is a model on the hub, or in its cache (needs `pip install huggingface_hub`).
        revision: a branch, tag or commit on the hub.
        engine, dtype: ("numba", "float32"), ("numba", "bfloat16"), ("reference", "float32") or ("reference",
        "float64"). With bfloat16, the kernels of convolutions and linear layers are rounded to bfloat16; all other
        numbers are float32, but AMX also rounds what it multiplies by these kernels.
        precision: "highest"; or "high", which permits products of 16 bits instead of 24 where that is faster (on AMX).
        num_threads: None is every core that this process may use.
        head: a head file, written by `nphybrid probe fit`, or a `checkpoint.Head`. It replaces the classifier and its
        labels.
        overrides: keys of the configuration. With another image_size, the positions are resized. ViTHybridModel also
        takes add_pooling_layer and use_mask_token; by default, it has these parts if the file has them.

        The file has to remain: `state_dict`, saving and pickling read it again. Raises FormatError for a file that
        breaks a rule of its format, or whose arrays do not fill every parameter exactly once; FileNotFoundError, or
        another OSError if the hub cannot be reached; ValueError for a bad configuration, or a head of another model,
        width or state.

        >>> from nphybrid import ViTHybridModel, default_model
        >>> ViTHybridModel.from_pretrained(default_model(), engine="reference", dtype="float64").engine
        'reference'
        """
        with checkpoint.opened(path, revision) as source:
            return cls.from_checkpoint(source, overrides, head, engine=engine, dtype=dtype, precision=precision,
                                       num_threads=num_threads)

    @classmethod
    def from_checkpoint(cls: type[M], source: checkpoint.Checkpoint, overrides: dict[str, Any] | None = None,
                        head: "AnyPath | checkpoint.Head | None" = None, **options: Any) -> M:
        """The model in a `checkpoint.Checkpoint`.

        overrides: keys of the configuration. head, options, errors: as in `from_pretrained`.
        """
        source = in_hugging_face_names(source, cls)
        if head is not None:
            source = with_head(source, head, cls)
        config = cls.config_class.from_dict(source.config, **(overrides or {}))
        try:
            model = cls(config, state_dict=with_prefix(source.arrays, cls), **options)
        except Misfit as error:
            raise FormatError(f"{source.path}: {error}") from None
        model.processor = source.processor
        model.name_or_path = str(source.path)
        return model

    @property
    def sizes(self) -> Config:
        """`network_config` under its earlier name."""
        return self.network_config

    @property
    def table(self) -> dict[str, Any]:
        """The table of names: {name: (Hugging Face name, Layout)} of every learned array."""
        return self.table_of(self.prefix)

    def state_dict(self) -> dict[str, np.ndarray]:
        """{Hugging Face name: array} in Hugging Face layouts (OIHW), as copies, which the PyTorch model can load.

        The arrays equal those that were loaded bit for bit, in the dtype of the model. A bfloat16 model returns
        float32, with the kernels of linear layers rounded. Raises FormatError if the file of the model is missing or
        has changed, because convolution kernels are read from it.
        """
        state = checkpoint.to_state_dict(self.params, self.table, self.network_config,
                                         checkpoint.reread(self.originals))
        return {name: np.array(array, self.float_dtype, order="C") for name, array in state.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a copy of every parameter from {Hugging Face name: array}.

        Raises FormatError that lists every missing and unexpected array, and each of another shape or with numbers that
        are not finite. The model is then unchanged.
        """
        arrays = {name: array if isinstance(array, Stored) else checks.as_array(array)
                  for name, array in state_dict.items()}
        self.params, self.originals = self._fill(arrays, self.engine, self.dtype, self.precision)

    def _fill(self, arrays: Mapping[str, Any], engine: str, dtype: Any, precision: str = "highest") -> tuple[Any, Any]:
        """The tree of weights for an engine, and the originals of its convolution kernels."""
        ready = partial(ops.implementation(engine, dtype).ready, config=self.network_config, dtype=dtype,
                        precision=precision)
        with threads.using(self.num_threads):
            float_dtype: Any = ops.floats_of(dtype)
            return checkpoint.fill_parameters(self.shapes, arrays, self.table, self.network_config, ready,
                                              self.ignored, float_dtype)

    def __getstate__(self) -> dict[str, Any]:
        """A pickle holds all weights and needs no file."""
        return {**self.__dict__, "originals": checkpoint.reread(self.originals)}

    def learned(self) -> Params:
        """The tree of weights as `ops.reference` reads it: NumPy arrays, with standardized convolution kernels.

        They are float32, or float64 in a float64 model. Raises what `state_dict` raises.

        >>> from nphybrid import ViTHybridModel, default_model
        >>> stem = ViTHybridModel.from_pretrained(default_model()).learned().stem
        >>> stem.conv.shape, bool(abs(stem.conv[..., 0].mean()) < 1e-7)
        ((7, 7, 3, 64), True)
        """
        tree, _ = self._fill(self.state_dict(), "reference", self.float_dtype.name)
        return tree

    # -- saving ------------------------------------------------------------------------------------

    def save_pretrained(self, folder: AnyPath) -> None:
        """Write `config.json`, `model.safetensors` and, if there is one, the image processor into a folder.

        If the network's numerics are not those of Hugging Face, the key `dialect` of the configuration states them.
        nphybrid reads this key; transformers ignores it and computes other logits. `nphybrid convert` refuses to write
        such a folder.
        """
        state = self.state_dict()
        config = self.config_document()
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", config)
        write_safetensors(Path(folder) / "model.safetensors", state, {"format": "pt"})
        if self.processor is not None:
            checkpoint.write_processor(folder, self.processor)

    def save(self, path: AnyPath, source: dict[str, Any] | None = None) -> None:
        """Write one `.h5`: arrays with checksums, configuration, image processor, and golden logits.

        The golden logits are the float64 logits of a fixed input. A program that reads the file can compute them again,
        to test that it has the same network. source: a dict that states where the weights come from; it is stored.
        """
        state = self.state_dict()
        manifest = {"golden": self._golden(state)}
        if source is not None:
            manifest["source"] = source
        checkpoint.write_h5(path, state, self.config_document(), self.processor, manifest)

    def config_document(self) -> dict[str, Any]:
        """The configuration as `config.json` holds it.

        Raises ValueError if the configuration was changed after the model was built, and no longer describes the model.
        """
        if self._network_config_of(self.config) != self.network_config:
            raise ValueError("the configuration was changed after the model was built, and no longer describes it")
        self.config.architectures = [type(self).__name__]
        return self.config.to_dict()

    def _golden(self, state):
        exact = ops.implementation("reference", "float64")
        tree, _ = self._fill(state, "reference", "float64")
        out = Trace(keep={"logits", "pooler", "norm"})
        self.network(checkpoint.golden_input(self.network_config), tree, self.network_config, exact, out)
        name = next(name for name in ("logits", "norm", "pooler") if name in out)
        return {"state": name, "values": out[name].reshape(-1)[:4096].tolist()}

    # -- pictures and forward passes ---------------------------------------------------------------

    def image_processor(self) -> "ViTHybridImageProcessor":
        """The image processor with the options `self.processor`.  Raises ValueError if that is None."""
        if self.processor is None:
            raise ValueError(f"{self.name_or_path or f'this {type(self).__name__}'} came without an image processor, "
                             "which prepares pictures; expected a preprocessor_config.json beside its weights, or "
                             "model.processor set")
        from .processor import ViTHybridImageProcessor
        return ViTHybridImageProcessor.from_dict(self.processor)

    def prepared(self, picture: Any) -> np.ndarray:
        """A picture as the model reads it, by its image processor.  -> pixel_values (1, C, H, W)

        picture: a path, the bytes of a file, an open file, or a Pillow picture, as `open_picture` takes it. Raises
        PictureError for a picture that cannot be read, ValueError for a model without an image processor.

        >>> from nphybrid import ViTHybridForImageClassification, default_model
        >>> model = ViTHybridForImageClassification.from_pretrained(default_model())
        >>> model.prepared("examples/images/cat.png").shape
        (1, 3, 64, 64)
        """
        from ..pictures.decode import open_picture
        batch: BatchFeature = self.image_processor()(open_picture(picture), return_tensors="np")
        return batch.pixel_values

    def check_inputs(self, pixel_values: Any, **inputs: Any) -> Inputs:
        """What the network receives.

        Raises ValueError, TypeError, NonFiniteError for inputs that the network cannot take.
        """
        raise NotImplementedError

    def run_into(self, trace: Trace, pixel_values: Any, **inputs: Any) -> None:
        """One forward pass, whose states `trace` records.

        pixel_values: floats (B, C, H, W). inputs: the other arguments of `trace()`, except `runs`. Raises ValueError
        and TypeError for inputs that do not fit the model. If the last state holds NaN or infinity, raises
        NonFiniteError with the name of the first state that does.

        >>> import numpy as np
        >>> from nphybrid import Trace, ViTHybridModel, default_model
        >>> model, trace = ViTHybridModel.from_pretrained(default_model()), Trace(keep={"stem"})
        >>> model.run_into(trace, np.zeros((1, 3, 64, 64), np.float32))
        >>> trace["stem"].shape
        (1, 16, 16, 64)
        """
        x, tree, config, masks = self.check_inputs(pixel_values, **inputs)
        with threads.using(self.num_threads), np.errstate(all="ignore"):
            last = self.network(x, tree, config, self.ops, trace, **masks)
            if not np.isfinite(last).all():
                self.network(x, tree, config, self.ops, FirstNonFinite(), **masks)
                checks.finite(last, "the output")

    # -- facts -------------------------------------------------------------------------------------

    def num_parameters(self) -> int:
        """The number of parameters."""
        return params.count(self.shapes)

    def eval(self: M) -> M:
        """The model itself.  There is no training mode; the method exists for code that was written for PyTorch."""
        return self

    def __call__(self, pixel_values: Any = None) -> Any:
        """One forward pass.  Each class states its own arguments and output."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({self.num_parameters():,} parameters, engine={self.engine!r}, "
                f"dtype={self.dtype!r})")


def record_trace(model: Model, pixel_values: Any, runs: int, **inputs: Any) -> Trace:
    """One forward pass with every state recorded; its times are the medians of `runs` more passes, if runs is not 0."""
    out = Trace()
    model.run_into(out, pixel_values, **inputs)
    if runs:
        out.seconds = median_times(lambda stopwatch: model.run_into(stopwatch, pixel_values, **inputs), runs)
    return out


def loss_of(model: Model, logits: np.ndarray, labels: Any) -> np.floating | None:
    """The loss of a classifier; None without labels.  Raises ValueError for labels that do not fit."""
    if labels is None:
        return None
    if not model.network_config.classes:
        raise ValueError("labels were given, but this model has no classes (num_labels is 0)")
    return loss(logits, checks.as_array(labels), model.config.problem_type)


def argument_or_default(argument: T | None, default: T) -> T:
    """The argument of a call.  If it is None: the value in the configuration, `default`."""
    return default if argument is None else argument


def select_states(trace: Trace, names: list[str] | None) -> tuple[np.ndarray, ...] | None:
    """The states with these names, in their order.  None stays None."""
    return None if names is None else tuple(trace[name] for name in names)


def as_requested(output: Output, return_dict: bool | None, config: Any) -> Output:
    """The output, or its tuple if return_dict is False.  If it is None, the value in the configuration decides."""
    if argument_or_default(return_dict, config.return_dict):
        return output
    return output.to_tuple()              # pyright: ignore[reportReturnType]
