"""`Model`, the base class of all models, which loads, saves and runs a network."""
import copy
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .. import checkpoint, ops, params
from ..config import Config
from ..dialects.layout import Misfit
from ..dialects.preprocessing import for_channels
from ..dialects.processors import with_class
from ..ops import threads
from ..params import Params, named_leaves
from ..tensorfile import FormatError, Stored, write_json, write_safetensors
from ..trace import Discard, FirstNonFinite, Trace, median_times
from . import checks
from .arguments import own_options, path_argument, refuse_arguments
from .hints import check_cpu, missing_attribute
from .gradients import Gradients, gradients
from .losses import loss
from .outputs import ModelOutput
from .source import config_of, in_hugging_face_names, with_config, with_fresh_head, with_head, with_prefix

if TYPE_CHECKING:
    from .processor import BatchFeature, ViTHybridImageProcessor

M = TypeVar("M", bound="Model")
Output = TypeVar("Output", bound=ModelOutput)
T = TypeVar("T")
# The states at the end of a network, which a forward pass with a plan can record.
FINAL = {"norm", "features_norm", "pooler", "logits"}
# The states that are computed from the class token alone, if the pooling is "token" and the network has a classifier.
AFTER_ENCODER = {"pooler", "logits"}
AnyPath = str | os.PathLike[str]


def keeps_only(trace: Trace, names: set[str]) -> bool:
    """Whether a trace uses only states with these names.  A subclass other than Discard may use every state."""
    return type(trace) in (Trace, Discard) and trace.keep is not None and names.issuperset(trace.keep)


class Inputs(NamedTuple):
    """The checked inputs of the network for one forward pass."""
    x: np.ndarray                         # pixel_values (B, H, W, C)
    params: Params                        # the learned arrays; the positions fit the picture size of x
    config: Config
    masks: dict[str, Any]                 # the other arguments of the network, such as head_mask


class Model:
    """A network with its weights.

    `config` is the Hugging Face configuration, and `network_config` is the `Config` of the network. `engine`, `dtype`
    (a name), `precision` and `num_threads` are the arguments of `from_pretrained`. `name_or_path` is the path of the
    loaded file or folder, or "" for a model that was not loaded. `processor` is a dict with the options of the image
    processor, or None. The method `image_processor` makes an image processor from these options. You can assign a dict
    or a ViTHybridImageProcessor to `processor` or to `image_processor`, which stores the options. `save` and
    `save_pretrained` write the options to a file.

    `plans` holds the recorded forward passes that later calls repeat (ops/plan.py). Assign None to call each operation
    from Python in each call.

    `shapes` is a tree with the shape of each learned array. `params` is a tree with the learned arrays in the form that
    the engine needs. `originals` is a dict {Hugging Face name: kernel} of the convolution kernels before
    standardization. If the model was loaded from a file, the values of `originals` are the places of the kernels in the
    file, not the kernels.

    A subclass defines config_class, network (`hybrid` or `bit`), table_of, family, check_inputs and forward.
    """
    config: Any
    params: Any
    originals: dict[str, Any]
    config_class: Any = None
    network: Any = None                   # the function in model.py that computes the network
    table_of: Any = None                  # a function that returns the table of names for a prefix
    family = ""                           # prefix of the array names of a classifier: "vit." or "bit."
    prefix = ""                           # prefix of array names: `family`, or "" in a class such as BitModel
    ignored: tuple[str, ...] = ()         # in a file, arrays whose names begin with these prefixes are ignored
    has_head = False                      # whether the class is a classifier
    name_or_path = ""
    stored_dtype: str | None = None       # the dtype of a file with narrow weights, from which the model was loaded
    files: frozenset[str] = frozenset()   # the paths of the files with the weights of the model
    kept: checkpoint.Kept | None = None   # the packed weights in a file; None if an array of the model is not in a file
    parts: dict[str, Any] = {}            # the arguments pooler and mask_token of params.shapes

    def __init__(self, config: Any, *, state_dict: Mapping[str, Any] | None = None, seed: int = 0,
                 engine: str = "numba", dtype: npt.DTypeLike = "float32", precision: str = "highest",
                 num_threads: int | None = None):
        if not isinstance(config, self.config_class):
            found, expected, hint = type(config).__name__, self.config_class.__name__, ""
            if found == expected:
                hint = (f" of nphybrid, not of {type(config).__module__.partition('.')[0]}. To convert it, call "
                        f"{expected}.from_dict(config.to_dict())")
            raise TypeError(f"config is a {found}; expected a {expected}{hint}")
        ops.implementation(engine, dtype, precision)
        self.config = config
        self.engine = engine
        self.num_threads = checks.threads(num_threads)
        self.plans = ops.plans_for(engine)
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
        """The module of operations of the engine and the dtype, for example ops.reference (`ops.implementation`)."""
        return ops.implementation(self.engine, self.dtype)

    @property
    def float_dtype(self) -> np.dtype:
        """The dtype of the states.  The states of a bfloat16 model or an int8 model are float32."""
        return ops.floats_of(self.dtype)

    @property
    def processor(self) -> dict[str, Any] | None:
        """The options of the image processor, as in `preprocessor_config.json`, or None."""
        return self._processor

    @processor.setter
    def processor(self, options: "dict[str, Any] | ViTHybridImageProcessor | None") -> None:
        to_dict: Any = getattr(options, "to_dict", None)
        self._processor: Any = to_dict() if to_dict else options

    # -- loading -----------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls: type[M], path: AnyPath | None = None, *, config: Any = None, revision: str | None = None,
                        engine: str = "numba", dtype: npt.DTypeLike | None = None, precision: str = "highest",
                        num_threads: int | None = None, head: "AnyPath | checkpoint.Head | None" = None,
                        ignore_mismatched_sizes: bool = False, token: str | bool | None = None,
                        cache_dir: AnyPath | None = None, local_files_only: bool = False, **overrides: Any) -> M:
        """Load a model from a file, a folder or the Hugging Face hub.

        `path`: a Hugging Face folder, an `.h5` file from `save`, a timm folder, a timm `.safetensors` file or a Google
        `.npz` file. A Hugging Face folder has `config.json` and one or more `.safetensors` files. If no such
        path exists, "owner/name" or "owner/name@revision" is the name of a model on the Hugging Face hub. To use the
        hub, run `pip install huggingface_hub`. The argument `pretrained_model_name_or_path` is another name of `path`.

        `config`: a configuration that replaces the configuration of the file, or None. The values of its keys are used
        as the values of `overrides`. Its key `dialect` must be that of the file.

        `revision`: a branch, tag or commit on the hub. `token`, `cache_dir`, `local_files_only`: as in huggingface_hub.

        `engine`, `dtype`: "numba" with "float32", "bfloat16" or "int8", or "reference" with one of these or "float64".
        With bfloat16 and int8, both factors of matrix products are rounded to 16 or 8 bits, and all states are
        float32. The layers that read the pixels or the pooled vector keep float32 factors. ops/reference_narrow.py
        defines the numbers.

        A file with narrow weights (see `save`) has a dtype of its own. `dtype` is None for this dtype, or for float32
        with any other file. Another dtype than that of a file with narrow weights is refused with a ValueError. The
        argument `torch_dtype` is another name of `dtype`.

        `precision`: "highest", or "high" for float32. "highest" multiplies float32 numbers with all 24 significant
        bits. On processors with AMX, "high" multiplies with only 16 significant bits, which needs half as many
        products. Without AMX, "high" and "highest" give equal results.

        `num_threads`: the number of threads, or None for one thread on each core that this process can use.

        `head`: the path of a head file, written by `nphybrid probe fit`, or a `checkpoint.Head`. The head replaces the
        classifier and the labels of the file.

        `overrides`: keys of the configuration that replace the keys of the file. With another image_size, the positions
        are resized. ViTHybridModel also accepts add_pooling_layer and use_mask_token. By default, the model has a
        pooler if the file has a pooler, and a mask token if the file has a mask token.

        `ignore_mismatched_sizes`: whether a classifier of another size than num_labels is replaced. The new classifier
        has random weights (seed 0) and biases of 0. A file without a classifier needs only num_labels or id2label.

        Other arguments of transformers, such as `device_map`, are accepted if they change no result (arguments.py).

        Do not delete the file while the model is used: `state_dict`, saving and pickling also read the file. If
        `nphybrid warmup` has stored the packed weights of this file, they are mapped into memory, and the weights in
        the file are not read.

        Raises FormatError for a file with a wrong format. Raises FormatError if the arrays do not fill every parameter
        exactly once. Raises FileNotFoundError if the path does not exist. Raises OSError if the hub cannot be reached.
        Raises ValueError for a bad configuration. Raises ValueError for a head that was fitted to features of another
        model, of another state or of another width.

        >>> from nphybrid import ViTHybridModel, default_model
        >>> ViTHybridModel.from_pretrained(default_model(), engine="reference", dtype="float64").engine
        'reference'
        """
        place = path_argument(path, overrides)
        overrides = own_options({**overrides, "dtype": dtype})
        dtype = overrides.pop("dtype")
        with checkpoint.opened(place, revision, checkpoint.Access(token, cache_dir, local_files_only)) as source:
            if config is not None:
                source, overrides = with_config(source, cls, config, overrides)
            return cls.from_checkpoint(source, overrides, head, ignore_mismatched_sizes, engine=engine, dtype=dtype,
                                       precision=precision, num_threads=num_threads)

    @classmethod
    def from_checkpoint(cls: type[M], source: checkpoint.Checkpoint, overrides: dict[str, Any] | None = None,
                        head: "AnyPath | checkpoint.Head | None" = None, ignore_mismatched_sizes: bool = False,
                        **options: Any) -> M:
        """Make a model from a `checkpoint.Checkpoint`.

        The arguments `overrides`, `head`, `ignore_mismatched_sizes` and `options` are as in `from_pretrained`. Raises
        the errors of `from_pretrained`.
        """
        source = in_hugging_face_names(source, cls)
        if head is not None:
            source = with_head(source, head, cls)
        elif cls.has_head:
            source = with_fresh_head(source, cls, overrides or {}, ignore_mismatched_sizes)
        config = config_of(source, cls, overrides)
        stored = checkpoint.stored_dtype(source.manifest, source.path)
        files = frozenset(os.path.abspath(array.path) for array in source.arrays.values() if isinstance(array, Stored))
        if stored is not None:
            wanted = options.get("dtype")
            if wanted is not None and ops.dtype_name(wanted) != stored:
                raise ValueError(f"{source.path} holds weights that were rounded for the dtype {stored}; expected the "
                                 f"dtype {stored}, found {ops.dtype_name(wanted)}")
            source = source._replace(arrays=checkpoint.paired(source.arrays))
        options["dtype"] = options.get("dtype") or stored or "float32"
        try:
            model = cls(config, state_dict=with_prefix(source.arrays, cls), **options)
        except Misfit as error:
            hint = ""
            if cls.has_head and not any(name.startswith("classifier.") for name in source.arrays):
                hint = f"\nThe file has no classifier. {cls.__name__} adds a random classifier if num_labels is given"
            raise FormatError(f"{source.path}: {error}{hint}") from None
        model.stored_dtype = stored
        model.files = files
        model.processor = source.processor
        model.name_or_path = str(source.path)
        return model

    @property
    def sizes(self) -> Config:
        """`sizes` is the earlier name of `network_config`."""
        return self.network_config

    @property
    def table(self) -> dict[str, Any]:
        """The table of names: a dict {name: (Hugging Face name, Layout)} of every learned array."""
        return self.table_of(self.prefix)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns a dict {Hugging Face name: array}, which the class of equal name in transformers can load.

        The arrays are copies, in the layouts of Hugging Face (kernels are OIHW) and in the dtype of the model. They
        have exactly the loaded values, converted to this dtype, with one exception. A bfloat16 or int8 model returns
        float32 arrays, in which the kernels of linear layers are rounded. If the model was loaded from a file, each
        call reads the convolution kernels from the file. Raises FormatError if the file is missing or was changed.
        Raises ValueError if the file holds narrow weights (see `save`).
        """
        if self.stored_dtype is not None:
            raise ValueError(f"{self.name_or_path} holds weights that were rounded for the dtype {self.stored_dtype}, "
                             "and the original weights cannot be restored; expected the model from which this file "
                             "was converted. A second file with the same weights can be written with the dtype "
                             f"{self.stored_dtype}")
        state = checkpoint.to_state_dict(self.params, self.table, self.network_config,
                                         checkpoint.reread(self.originals))
        return {name: np.array(array, self.float_dtype, order="C") for name, array in state.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copy every parameter from a dict {Hugging Face name: array}.

        Raises FormatError if the arrays do not fit the model. After an error, the model is unchanged. The message lists
        missing arrays, unexpected arrays, wrong shapes, and arrays with NaN or infinity.
        """
        arrays = {name: array if isinstance(array, (Stored, checkpoint.Narrow)) else checks.as_array(array)
                  for name, array in state_dict.items()}
        kept, filled = self._map(arrays)
        params, originals = filled or self._fill(arrays, self.engine, self.dtype, self.precision)
        # In one step, so that an interrupt leaves all old weights or all new weights.
        self.__dict__.update(params=params, originals=originals, stored_dtype=None, files=frozenset(), kept=kept)
        if self.plans:
            self.plans.clear()

    def _map(self, arrays: Mapping[str, Any]) -> tuple[checkpoint.Kept | None, Any]:
        """Maps packed weights, if there are any.  -> `kept`, and (params, originals) or None"""
        key = None
        if self.engine == "numba":
            key = checkpoint.key_of(arrays, self.shapes, self.network_config, self.dtype, self.precision)
        if key is None:
            return None, None
        with threads.using(self.num_threads):
            found = checkpoint.read_kept(key, self.shapes, arrays)
        if found is None:
            return checkpoint.Kept(key, None), None
        return checkpoint.Kept(key, found[0]), found[1:]

    def _fill(self, arrays: Mapping[str, Any], engine: str, dtype: Any, precision: str = "highest") -> tuple[Any, Any]:
        """Makes `params` and `originals` for an engine."""
        implementation = ops.implementation(engine, dtype)

        def ready(name, array, array_of):
            return implementation.ready(name, array, self.network_config, dtype, precision, array_of)
        with threads.using(self.num_threads):
            return checkpoint.fill_parameters(self.shapes, arrays, self.table, self.network_config, ready,
                                              self.ignored, ops.floats_of(dtype))

    def __getstate__(self) -> dict[str, Any]:
        """Returns the contents of a pickle or a copy.  It has all weights, and does not need the file of the model.

        The plans are new, because another model can have other weights.
        """
        return {**self.__dict__, "originals": checkpoint.reread(self.originals), "plans": copy.copy(self.plans)}

    def learned(self) -> Params:
        """Returns the learned arrays for `ops.reference`: NumPy arrays, with standardized convolution kernels.

        The arrays are float64 in a float64 model, and float32 in all other models. If the file of the model holds
        narrow weights, the arrays are the numbers for which these weights stand. Raises the errors of `state_dict` for
        a file that is missing or was changed.

        >>> from nphybrid import ViTHybridModel, default_model
        >>> stem = ViTHybridModel.from_pretrained(default_model()).learned().stem
        >>> stem.conv.shape, bool(abs(stem.conv[..., 0].mean()) < 1e-7)
        ((7, 7, 3, 64), True)
        """
        if self.stored_dtype is not None:
            return params.tree_map(lambda name, leaf: np.array(leaf, np.float32), self.params)
        tree, _ = self._fill(self.state_dict(), "reference", self.float_dtype.name)
        return tree

    # -- saving ------------------------------------------------------------------------------------

    def save_pretrained(self, folder: AnyPath, *, dtype: npt.DTypeLike | None = None,
                        source: dict[str, Any] | None = None, **arguments: Any) -> None:
        """Write a folder with `config.json` and `model.safetensors`.

        If the model has an image processor, `preprocessor_config.json` is also written. If the numerics of the network
        differ from the numerics of Hugging Face, the configuration has a key `dialect`. The package transformers
        ignores the key `dialect`, and computes other logits than nphybrid. The command `nphybrid convert` never writes
        the key `dialect`.

        A bfloat16 or int8 model writes the float32 arrays of `state_dict`, and gives a warning if kernels of linear
        layers are rounded. `arguments`: arguments of transformers that change no result (arguments.py).

        `dtype`: None, or "bfloat16" or "int8" for narrow weights, as in `save`. Then `model.safetensors` also holds
        checksums, golden logits and `source`, and transformers refuses the file. Without a `dtype`, raises ValueError
        for a `source`.
        """
        refuse_arguments("save_pretrained", arguments)
        if dtype is None and source is not None:
            raise ValueError("source: only a folder with narrow weights can hold it; expected None, or also a dtype")
        weights = Path(folder) / "model.safetensors"
        if dtype is None:
            state, metadata = self._state_to_save(weights), {"format": "pt"}
        else:
            state, manifest = self._narrow_contents(weights, dtype, source)
            metadata = checkpoint.metadata_of(manifest, weights)
        config = self.config_document()
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "config.json", config)
        write_safetensors(weights, state, metadata, checksums=dtype is not None)
        if self.processor is not None:
            checkpoint.write_processor(folder, with_class(self.processor, self.config.model_type))

    def save(self, path: AnyPath, source: dict[str, Any] | None = None,
             dtype: npt.DTypeLike | None = None) -> None:
        """Write one `.h5` file of the model.

        The file has the arrays with checksums, the configuration, the image processor and golden logits. The golden
        logits are the float64 logits of a fixed input, at most 4096 numbers. In a model without a classifier, the
        numbers are from the state "norm" or "pooler". To test a program that reads the file, let the program compute
        the logits of the fixed input and compare them with the golden logits.

        `source`: a dict about the origin of the weights, or None. The dict is stored in the file. `dtype`: None for the
        arrays of `state_dict`, with the warning of `save_pretrained`. With "bfloat16" or "int8", the file has the
        weights as they are multiplied in this dtype, and is about two to four times smaller. Such a file can be loaded
        in this dtype only, and its golden logits are those of the reference engine in this dtype. A model that was
        loaded from such a file writes the same weights again, with the `dtype` of its file.

        Raises ValueError for any other `dtype`, and for a narrow `dtype` if the weights would be rounded twice. Raises
        ValueError if `path` is the file from which the model was loaded, and its weights would be replaced by rounded
        weights.
        """
        if dtype is None:
            state = self._state_to_save(path)
            tree, _ = self._fill(state, "reference", "float64")
            manifest = _manifest(source, golden=self._golden(tree, "float64"))
        else:
            state, manifest = self._narrow_contents(path, dtype, source)
        checkpoint.write_h5(path, state, self.config_document(), self.processor, manifest)

    def _state_to_save(self, path):
        """Returns `state_dict`, for a file at `path`.  Gives a warning if it has rounded kernels."""
        state = self.state_dict()
        rounded = [name for name, leaf in named_leaves(self.params).items()
                   if len(leaf.shape) == 2 and getattr(leaf, "width", "float32") != "float32"]
        if rounded:
            self._refuse_own_file(path, self.dtype)
            twice = ""
            if self.dtype == "int8":
                twice = " A model that is loaded from this file with the dtype int8 rounds them again."
            warnings.warn(f"the kernels of {len(rounded)} linear layers, for example {rounded[0]}, are saved with "
                          f"values that were rounded for the dtype {self.dtype}.{twice} To save the original weights, "
                          'load the model with dtype="float32"', stacklevel=3)
        return state

    def _narrow_contents(self, path, dtype, source):
        """Returns the arrays and the manifest of a file with narrow weights at `path`."""
        dtype = checks.narrow_dtype(dtype, self.dtype, self.stored_dtype)
        if self.stored_dtype is None:
            self._refuse_own_file(path, dtype)
            state = {name: array.astype(np.float32, copy=False) for name, array in self.state_dict().items()}
            tree, _ = self._fill(state, "reference", dtype)
        else:
            tree = params.tree_map(lambda name, leaf: leaf.unpacked() if hasattr(leaf, "unpacked") else leaf,
                                   self.params)
            state = checkpoint.to_state_dict(tree, self.table, self.network_config, checkpoint.reread(self.originals))
        manifest = _manifest(source, dtype=dtype, golden=self._golden(tree, dtype))
        return checkpoint.narrow_state(tree, self.table, self.network_config, state), manifest

    def _refuse_own_file(self, path, dtype):
        """Raises ValueError if a file at `path` would replace the original weights of the model, or hide its shards."""
        path, files = Path(path), [Path(file) for file in self.files]
        if path.name == "model.safetensors" and path.with_name("model.safetensors.index.json").exists():
            # A folder with both is read from model.safetensors.
            path, files = path.parent, [file.parent for file in files]
        if any(path.exists() and file.exists() and path.samefile(file) for file in files):
            raise ValueError(f"{path} holds the original weights of this model, which cannot be restored from weights "
                             f"that are rounded for the dtype {dtype}; expected the name of another file")

    def config_document(self) -> dict[str, Any]:
        """Returns the contents of `config.json`.

        Raises ValueError if the configuration was changed after the model was built and does not fit the model.
        """
        if self._network_config_of(self.config) != self.network_config:
            raise ValueError("model.config was changed after the model was built; expected a configuration that fits "
                             "the model")
        self.config.architectures = [type(self).__name__]
        return self.config.to_dict()

    def _golden(self, tree, dtype):
        """Returns the golden logits of a tree of the reference engine, as the manifest of a file holds them."""
        out = Trace(keep={"logits", "pooler", "norm"})
        x = checkpoint.golden_input(self.network_config).astype(ops.floats_of(dtype))
        self.network(x, tree, self.network_config, ops.implementation("reference", dtype), out)
        name = next(name for name in ("logits", "norm", "pooler") if name in out)
        return {"state": name, "values": out[name].reshape(-1)[:4096].tolist()}

    # -- pictures and forward passes ---------------------------------------------------------------

    def image_processor(self) -> "ViTHybridImageProcessor":
        """Make an image processor with the options `self.processor`.

        For a network with one channel, the image processor converts pictures to grey. Raises ValueError if the options
        are None.
        """
        if self.processor is None:
            raise ValueError(checkpoint.no_processor(self.name_or_path or f"this {type(self).__name__}"))
        from .processor import ViTHybridImageProcessor
        return ViTHybridImageProcessor.from_dict(for_channels(self.processor, self.network_config.channels))

    def prepared(self, picture: Any) -> np.ndarray:
        """Prepare a picture with the image processor of the model.  -> pixel_values (1, C, H, W)

        `picture`: a path, the bytes of a file, an open file or a Pillow picture. Raises PictureError for a picture that
        cannot be read. Raises ValueError if the model has no image processor.

        >>> from nphybrid import ViTHybridForImageClassification, default_model
        >>> model = ViTHybridForImageClassification.from_pretrained(default_model())
        >>> model.prepared("examples/images/cat.png").shape
        (1, 3, 64, 64)
        """
        from ..pictures.decode import open_picture
        batch: BatchFeature = self.image_processor()(open_picture(picture), return_tensors="np")
        return batch.pixel_values

    def check_inputs(self, pixel_values: Any, **inputs: Any) -> Inputs:
        """Check the inputs of the network and convert the inputs to arrays.

        Raises ValueError or TypeError for inputs that do not fit the model, and NonFiniteError for NaN or infinity.
        """
        raise NotImplementedError

    def run_into(self, trace: Trace, pixel_values: Any, **inputs: Any) -> None:
        """Compute one forward pass and record the states in `trace`.

        `pixel_values`: floats (B, C, H, W). `inputs`: the other arguments of the method `trace`, without `runs`.

        Raises ValueError or TypeError for inputs that do not fit the model. Raises NonFiniteError if the last state
        contains NaN or infinity. The error message has the name of the first state that contains NaN or infinity.

        >>> import numpy as np
        >>> from nphybrid import Trace, ViTHybridModel, default_model
        >>> model, trace = ViTHybridModel.from_pretrained(default_model()), Trace(keep={"stem"})
        >>> model.run_into(trace, np.zeros((1, 3, 64, 64), np.float32))
        >>> trace["stem"].shape
        (1, 16, 16, 64)
        """
        x, tree, config, masks = self.check_inputs(pixel_values, **inputs)
        with threads.using(self.num_threads), np.errstate(all="ignore"):
            last = self._forward(x, tree, config, trace, masks)
            if not np.isfinite(last).all():
                self.network(x, tree, config, self.ops, FirstNonFinite(), **masks)
                checks.finite(last, "the output")

    def tokens_needed(self) -> int | None:
        """The number of tokens that the last block computes in a call for logits, or None for all tokens."""
        return None

    def _forward(self, x, tree, config, trace, masks):
        """The result of the network.  If only final states are recorded, a plan (ops/plan.py) may compute the pass."""
        needed = self.tokens_needed() if keeps_only(trace, AFTER_ENCODER) else None
        fewer = {} if needed is None else {"needed": needed}

        def network(x, ops, out):
            return self.network(x, tree, config, ops, out, **masks, **fewer)
        masked = any(mask is not None for mask in masks.values())
        # The interpolated positions of another picture size are new arrays in each call.
        if self.plans and keeps_only(trace, FINAL) and tree is self.params and not masked:
            return self.plans.run((tree, config), x, self.ops, trace, network)
        return network(x, self.ops, trace)

    def gradients(self, pixel_values: Any, labels: Any, recompute: bool = False, **inputs: Any) -> Gradients:
        """Compute the loss of a batch, the gradient of every learned array, and the gradient of the pixels.

        `pixel_values`: floats (B, C, H, W). `labels`: the labels of `forward`. `recompute`: if True, only the states at
        the borders of units and blocks are kept, and all other states are computed a second time. This needs less
        memory and more time. `inputs`: head_mask, in a hybrid.

        Returns a Gradients (loss, parameters, pixel_values). `parameters` is a dict {Hugging Face name: gradient} with
        the names, shapes and dtypes of `state_dict`. An array that the loss does not depend on has the gradient 0.
        Convolution kernels are standardized in the forward pass, and their gradients are those of the kernels before
        standardization.

        Raises ValueError for a bfloat16 or int8 model, and for a model without classes. Raises the errors of
        `check_inputs`, and ValueError for labels of a wrong shape or type.

        >>> import numpy as np
        >>> from nphybrid import ViTHybridForImageClassification, default_model
        >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
        >>> loss, parameters, pixels = model.gradients(np.zeros((1, 3, 64, 64), np.float32), np.array([3]))
        >>> parameters["classifier.weight"].shape, pixels.shape
        ((10, 192), (1, 3, 64, 64))
        """
        return gradients(self, pixel_values, labels, recompute, **inputs)

    # -- other methods -----------------------------------------------------------------------------

    def num_parameters(self) -> int:
        """The number of parameters."""
        return params.count(self.shapes)

    def eval(self: M) -> M:
        """Returns the model unchanged.

        nphybrid has no training mode. The method `eval` exists for code that was written for PyTorch.
        """
        return self

    def to(self: M, device: Any = "cpu", dtype: Any = None, non_blocking: bool = False) -> M:
        """Returns the model unchanged.  Raises ValueError for a device that is not the CPU, and for another dtype."""
        check_cpu(device, dtype, self.dtype)
        return self

    def cpu(self: M) -> M:
        """Returns the model unchanged."""
        return self

    @property
    def device(self) -> str:
        """The text "cpu"."""
        return "cpu"

    if not TYPE_CHECKING:                 # with __getattr__, a type checker would accept every attribute

        def __getattr__(self, name):
            if name == "float" and self.__dict__.get("dtype") == "float32":
                return self.cpu
            raise missing_attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("engine", "dtype", "precision") and name in self.__dict__:
            raise AttributeError(f"{name} is {self.__dict__[name]!r}, and cannot be changed; expected a model that is "
                                 f"loaded with the argument {name}={value!r}")
        # An image processor that hides the method image_processor could not be saved with the model.
        super().__setattr__("processor" if name == "image_processor" else name, value)

    def __call__(self, pixel_values: Any = None) -> Any:
        """Compute one forward pass.  The arguments and the output depend on the class."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return (f"{type(self).__name__}({self.num_parameters():,} parameters, engine={self.engine!r}, "
                f"dtype={self.dtype!r})")


def record_trace(model: Model, pixel_values: Any, runs: int, **inputs: Any) -> Trace:
    """Compute one forward pass and record every state.

    If `runs` is not 0, `seconds` of the trace has the median times of `runs` more forward passes.
    """
    out = Trace()
    model.run_into(out, pixel_values, **inputs)
    if runs:
        out.seconds = median_times(lambda stopwatch: model.run_into(stopwatch, pixel_values, **inputs), runs)
    return out


def _manifest(source, **others):
    """The manifest of a file, with the origin of its weights if it is known."""
    return others if source is None else {"source": source, **others}


def loss_of(model: Model, logits: np.ndarray, labels: Any) -> np.floating | None:
    """The loss of a classifier, or None if `labels` is None.  Raises ValueError for labels of a wrong shape or type."""
    if labels is None:
        return None
    if not model.network_config.classes:
        raise ValueError("labels were given, but this model has no classes (num_labels is 0)")
    return loss(logits, checks.as_array(labels), model.config.problem_type)


def argument_or_default(argument: T | None, default: T) -> T:
    """Returns `argument`, or `default` if `argument` is None."""
    return default if argument is None else argument


def select_states(trace: Trace, names: list[str] | None) -> tuple[np.ndarray, ...] | None:
    """Returns the states of a trace in the order of `names`, or None if `names` is None."""
    return None if names is None else tuple(trace[name] for name in names)


def as_requested(output: Output, return_dict: bool | None, config: Any) -> Output:
    """Returns `output`, or a tuple of the values of `output` if return_dict is False.

    If return_dict is None, config.return_dict is used.
    """
    if argument_or_default(return_dict, config.return_dict):
        return output
    return output.to_tuple()              # pyright: ignore[reportReturnType]
