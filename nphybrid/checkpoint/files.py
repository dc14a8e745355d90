"""What a model file contains, read before any model is built from it.

                           arrays                    config                            image processor
    Hugging Face folder    model.safetensors         config.json                       preprocessor_config.json
    timm folder or file    model.safetensors         names, shapes and config.json     config.json
    Google .npz            the .npz                  names and shapes                  that of the published code
    .h5 of this package    one file for all three, and a manifest that says where it comes from

A folder may also hold model.safetensors.index.json and the shards that it names.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import labels, tensorfile
from ..dialects import DIALECTS
from ..dialects.guess import dialect_of, guess
from ..dialects.huggingface import for_vit
from ..dialects.translate import processor_of, without_wrappers
from ..tensorfile import FilePath, FormatError, SharedFile, Stored
from ..tensorfile.documents import parse_json
from . import hub

FORMAT, VERSION = "nphybrid", 1
PROCESSORS = hub.PROCESSORS
DEFAULT_MODEL = "vit-hybrid-tiny-cifar10.h5"


class Checkpoint(NamedTuple):
    """The contents of a model file, before any model is built from it."""

    arrays: dict[str, Any]                # {name: Stored}, in the names and layouts of the dialect
    config: dict[str, Any]                # config.json, or what follows from names and shapes, in Hugging Face's keys
    processor: dict[str, Any] | None      # preprocessor_config.json, or what the dialect uses
    manifest: dict[str, Any]              # where an .h5 comes from; {} for all others
    path: Path
    dialect: str | None = None            # a key of `dialects.DIALECTS`; None is Hugging Face's


# ---------------------------------------------------------------- reading

def read(path: FilePath, revision: str | None = None) -> Checkpoint:
    """The Checkpoint in a folder (of Hugging Face or timm), an `.h5`, a timm `.safetensors`, or a Google `.npz`.

    path: if nothing is there, owner/name is a model on the hub, and revision is one of that. The arrays are checked,
    but stay in the file until np.asarray reads them, one at a time; whether their values are finite is checked by
    `fill_parameters`.
    """
    with opened(path, revision) as source:
        return source


@contextmanager
def opened(path: FilePath, revision: str | None = None) -> Iterator[Checkpoint]:
    """What `read` returns.

    Until the block ends the file stays open, so that reading its arrays does not open it again. Of a sharded model this
    is the index; `fill_parameters` opens each shard once.
    """
    with ExitStack() as files:
        yield _checkpoint(hub.resolve(path, revision), files)


def read_config(path: FilePath, revision: str | None = None) -> dict[str, Any]:
    """Only the config of what `read` reads; `path` may also be a config.json."""
    location = hub.resolve(path, revision, weights=False)
    _check_there(location)
    if location.is_dir():
        card = _config_json(location)
        return card if "model_type" in card else read(path, revision).config
    file = SharedFile(location)
    with file.opened():
        kind = tensorfile.sniff(file)
        if kind == "json":
            return read_json(file)
        if kind in ("safetensors", "npz"):
            return _file_checkpoint(location, file).config
        return _h5_checkpoint(location, file).config


def read_processor(path: FilePath, revision: str | None = None) -> dict[str, Any]:
    """The image processor's options of what `read` reads, or of a JSON file.

    Raises FileNotFoundError if it came without an image processor.
    """
    location = hub.resolve(path, revision, weights=False)
    _check_there(location)
    options = None
    if location.is_dir():
        card = _config_json(location)
        options = _folder_processor(location, card)
        if options is None and "model_type" not in card:
            with contextlib.suppress(FileNotFoundError):      # no weights either
                options = read(path, revision).processor
    else:
        file = SharedFile(location)
        with file.opened():
            if tensorfile.sniff(file) == "json":
                options = _processor_options(file)
            else:
                options = _file_checkpoint(location, file).processor
    if options is None:
        raise FileNotFoundError(f"{location} came without an image processor, which prepares pictures; expected a "
                                f"{PROCESSORS[0]} beside its weights")
    return options


def read_json(path: FilePath) -> dict[str, Any]:
    """One JSON object from a file."""
    file = tensorfile.shared(path)
    try:
        with file.opened() as reader:
            tensorfile.refuse_unreadable(file, "json")
            document = parse_json(reader.read(reader.size()), file, "the file")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; a model folder holds config.json and model.safetensors"
                                ) from None
    if not isinstance(document, dict):
        raise FormatError(f"{file} holds a JSON {type(document).__name__}, expected an object")
    return document


def weights_file(folder: Path) -> Path:
    """The file in a folder that holds its arrays, or the index of the files that do."""
    for name in hub.WEIGHTS:
        if (folder / name).exists():
            return folder / name
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
        if (folder / name).exists():
            tensorfile.refuse_unreadable(folder / name, "safetensors")
    found = ", ".join(sorted(child.name for child in folder.iterdir())) or "nothing"
    raise FileNotFoundError(f"{folder} holds {found}; expected model.safetensors or model.safetensors.index.json")


def reread(originals: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{name: array or Stored} -> {name: array}.  The file of a Stored array must still hold bytes of its SHA-256."""
    arrays = dict(originals)
    files: dict[str, dict[str, Stored]] = {}
    with ExitStack() as blocks:
        for name, original in originals.items():
            if not isinstance(original, Stored):
                continue
            try:
                if original.path not in files:
                    file = SharedFile(original.path)
                    blocks.enter_context(file.opened())
                    files[original.path] = tensorfile.stored(file)
                # An array that was translated from another dialect has another name there.
                arrays[name] = files[original.path].get(original.name, original).read()
                found = tensorfile.digest(arrays[name])
            except (OSError, LookupError, FormatError) as error:
                found = error
            if found != original.sha256:
                raise FormatError(f"{original.path} no longer holds the {original.name} that was loaded: found "
                                  f"{found}, expected SHA-256 {original.sha256}. A model leaves its convolution "
                                  "kernels in its file: restore the file, or load the model again")
    return arrays


def sha256(path: FilePath) -> str:
    """SHA-256 of a file, of a folder's weights, or, for a sharded folder, of its shards in the order of their names."""
    path = Path(path)
    digest, files = hashlib.sha256(), [path]
    if path.is_dir():
        files = [weights_file(path)]
        if files[0].suffix == ".json":
            files = [path / name for name in tensorfile.shard_names(files[0])]
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def default_model() -> Path:
    """Path of the model that comes with the package: beside the code when installed, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    places = [package / "weights" / DEFAULT_MODEL, package.parent / "weights" / DEFAULT_MODEL]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"the default model is neither at {places[0]} nor at {places[1]}; name another (--model)")


# ---------------------------------------------------------------- writing

def write_processor(folder: FilePath, processor: Mapping[str, Any]) -> Path:
    """Writes the image processor's options into a folder.  -> the path of the file"""
    path = Path(folder) / PROCESSORS[0]
    tensorfile.write_json(path, processor)
    return path


def write_h5(path: FilePath, state: Mapping[str, Any], config: Mapping[str, Any], processor: Mapping[str, Any] | None,
             manifest: Mapping[str, Any]) -> None:
    """Writes one file with everything: arrays under their Hugging Face names, and the documents."""
    documents = {"config": config, "manifest": {**manifest, "format": FORMAT, "version": VERSION}}
    if processor is not None:
        documents["processor"] = processor
    tensorfile.write_h5(path, state, documents)


# ---------------------------------------------------------------- of each kind

def _checkpoint(path: Path, files: ExitStack) -> Checkpoint:
    """The Checkpoint at a path.  Its file is opened, and closed with `files`."""
    if not path.is_dir():
        _check_there(path)
        file = SharedFile(path)
        files.enter_context(file.opened())
        return _file_checkpoint(path, file)
    card = _config_json(path)
    file = SharedFile(weights_file(path))
    files.enter_context(file.opened())
    if file.path.endswith(".json"):
        arrays = tensorfile.stored_sharded(file)
    else:
        arrays = tensorfile.stored_safetensors(file)
    if "model_type" in card:
        return Checkpoint(arrays, card, _folder_processor(path, card), {}, path)
    return _translatable(path, arrays, card)


def _file_checkpoint(path: Path, file: SharedFile) -> Checkpoint:
    """The Checkpoint in one file."""
    if tensorfile.sniff(file) not in ("safetensors", "npz"):
        return _h5_checkpoint(path, file)
    # A config.json beside a file of another name may belong to another file.
    card = _config_json(path.parent) if path.name == "model.safetensors" else {}
    return _translatable(path, tensorfile.stored(file), card)


def _h5_checkpoint(path: Path, file: SharedFile) -> Checkpoint:
    """The Checkpoint in an `.h5` of this package."""
    if tensorfile.sniff(file) == "json":
        raise _part_of_a_model(path)
    tensorfile.refuse_unreadable(file, "hdf5")
    arrays, documents = tensorfile.stored_h5(file)
    for key in ("config", "manifest"):
        if not isinstance(documents.get(key), dict):
            raise FormatError(f"{path}: no JSON object /nphybrid/{key}; is this file from `nphybrid convert`?")
    found = documents["manifest"].get("format"), documents["manifest"].get("version")
    if found != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {found}, expected {(FORMAT, VERSION)}")
    return Checkpoint(arrays, documents["config"], documents.get("processor"), documents["manifest"], path)


def _translatable(path: Path, arrays: dict[str, Stored], card: dict[str, Any]) -> Checkpoint:
    """The Checkpoint of arrays with the names of timm or Google.  card: the content of their config.json, or {}"""
    kind, anchor = guess(arrays)
    if kind is None:
        raise FormatError(f"{path}: names of no known dialect, for example {', '.join(list(arrays)[:3])}; expected "
                          "those of Hugging Face, timm or Google's JAX")
    name = dialect_of(kind)
    if name is None:
        if path.is_dir():
            raise FormatError(f"{path} has Hugging Face's names ({anchor}), but no config.json with a model_type")
        raise _part_of_a_model(path)
    card = {} if "model_type" in card else card
    try:
        arrays = DIALECTS[name].renumbered(without_wrappers(arrays))
        config = DIALECTS[name].config({name: array.shape for name, array in arrays.items()}, card)
        processor = processor_of(config, card)
        names = card.get("label_names") or labels.names(config["num_labels"])
        if names and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise FormatError("label_names of its config.json is not a list of strings")
        if names:
            config["id2label"] = dict(enumerate(names))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise FormatError(f"{path}: looks like {kind}, because it has {anchor}, but {reason}") from None
    return Checkpoint(arrays, config, processor, {}, path, config["dialect"]["name"])


def _config_json(folder: Path) -> dict[str, Any]:
    """The config.json of a folder, {} if there is none."""
    return read_json(folder / "config.json") if (folder / "config.json").exists() else {}


def _folder_processor(folder: Path, card: Mapping[str, Any]) -> dict[str, Any] | None:
    """The image processor's options in a folder of Hugging Face.  card: the config.json in it"""
    for name in PROCESSORS:
        if (folder / name).exists():
            return dict(for_vit(_processor_options(folder / name), card.get("model_type")))
    return None


def _processor_options(file: FilePath) -> dict[str, Any]:
    """The image processor's options in a JSON file; those of a processor_config.json are one level down."""
    options = read_json(file)
    options = options.get("image_processor", options)
    if not isinstance(options, dict):
        raise FormatError(f"{file}: image_processor is {options!r}; expected an object of options")
    return options


def _part_of_a_model(path: Path) -> FormatError:
    return FormatError(f"{path} is a part of a model; expected its folder, {path.parent}, or an .h5 file")


def _check_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder on this computer; expected a folder, an "
                                ".h5 file, or owner/name of a model on the Hugging Face hub")
