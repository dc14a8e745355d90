"""Reads a model file: its arrays, its configuration and the options of its image processor.

    model                  arrays from               configuration from                image processor from
    Hugging Face folder    model.safetensors         config.json                       preprocessor_config.json
    timm folder or file    model.safetensors         names, shapes and config.json     config.json
    Google .npz            the .npz                  names and shapes                  as in the published code
    .h5 of this package    the .h5                   the .h5                           the .h5

An `.h5` file also holds a manifest, which states the origin of the model.  In a Hugging Face folder with narrow weights
(narrow.py), the metadata of model.safetensors hold the manifest.  A folder may hold model.safetensors.index.json and
several shards instead of model.safetensors.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import labels, tensorfile
from ..dialects import DIALECTS, timm_card
from ..dialects.guess import dialect_of, guess
from ..dialects.processors import CLASS_KEYS, OPTIONS, spelled_out
from ..dialects.translate import processor_of, refuse_several_networks, without_wrappers
from ..tensorfile import FilePath, FormatError, SharedFile, Stored
from ..tensorfile.documents import LONGEST_JSON, document_bytes, parse_json
from ..text import name_list, shortened
from . import hub

FORMAT, VERSION = "nphybrid", 1
PROCESSORS = hub.PROCESSORS
DEFAULT_MODEL = "vit-hybrid-tiny-cifar10.h5"


class Checkpoint(NamedTuple):
    """The contents of a model file, before any model is built from it."""

    arrays: dict[str, Any]                # {name: Stored}, with the names and layouts of the dialect
    config: dict[str, Any]                # the configuration of the network, with Hugging Face's keys
    processor: dict[str, Any] | None      # the options of the image processor
    manifest: dict[str, Any]              # of an .h5 file or of narrow weights; {} in other files
    path: Path
    dialect: str | None = None            # a key of `dialects.DIALECTS`; None for Hugging Face's names


# ---------------------------------------------------------------- reading

def read(path: FilePath, revision: str | None = None, access: hub.Access = hub.DEFAULT) -> Checkpoint:
    """Returns the Checkpoint in a folder or in a file.

    `path` is a folder of Hugging Face or timm, an `.h5` file, a timm `.safetensors` file, or a Google `.npz` file. If
    `path` does not exist, it is the name of a model on the Hugging Face hub, such as owner/name. `revision` is a
    branch, tag or commit of a model on the hub, and `access` decides how it is downloaded. The place of each array in
    its file is checked. Each array stays in its file until np.asarray reads it. `fill_parameters` checks that all
    values are finite.
    """
    with opened(path, revision, access) as source:
        return source


@contextmanager
def opened(path: FilePath, revision: str | None = None, access: hub.Access = hub.DEFAULT) -> Iterator[Checkpoint]:
    """Opens a model file, and gives the Checkpoint that `read` returns.

    The file stays open until the `with` block ends: reading an array does not open the file again. For a sharded model,
    only the index stays open. `fill_parameters` opens each shard one time.
    """
    with ExitStack() as files:
        yield _checkpoint(hub.resolve(path, revision, access=access), files)


def read_config(path: FilePath, revision: str | None = None, access: hub.Access = hub.DEFAULT) -> dict[str, Any]:
    """Returns the configuration of a model.  No array is read.

    `path` is a path or name that `read` accepts, or the path of a config.json.
    """
    location = hub.resolve(path, revision, weights=False, access=access)
    _check_there(location)
    if location.is_dir():
        card = _config_json(location)
        return card if _is_hugging_face(card) else read(path, revision, access).config
    file = SharedFile(location)
    with file.opened():
        kind = tensorfile.sniff(file)
        if kind == "json":
            return read_json(file)
        if kind in ("safetensors", "npz"):
            return _file_checkpoint(location, file).config
        return _h5_checkpoint(location, file).config


def read_processor(path: FilePath, revision: str | None = None, access: hub.Access = hub.DEFAULT) -> dict[str, Any]:
    """Returns the options of a model's image processor.

    `path` is a path or name that `read` accepts, or the path of a JSON file. Raises FileNotFoundError if the model has
    no image processor.
    """
    location = hub.resolve(path, revision, weights=False, access=access)
    _check_there(location)
    options = None
    if location.is_dir():
        card = _config_json(location)
        of_timm = bool(card) and not _is_hugging_face(card)
        options = None if of_timm else _folder_processor(location, card)
        if options is None and not _is_hugging_face(card):
            with contextlib.suppress(FileNotFoundError):      # if the folder holds no weights
                options = read(path, revision, access).processor
    else:
        file = SharedFile(location)
        with file.opened():
            if tensorfile.sniff(file) == "json":
                options = _processor_options(file, _config_json(location.parent))
                if not options.keys() & {*OPTIONS, *CLASS_KEYS}:
                    raise FormatError(f"{location} has no option of an image processor, such as size or image_mean; "
                                      f"found the keys {name_list(sorted(options))}")
            else:
                options = _file_checkpoint(location, file).processor
    if options is None:
        raise FileNotFoundError(no_processor(location))
    return options


def no_processor(model: FilePath) -> str:
    """Returns the text of the error for a model without an image processor.  model: its path, or a name for it"""
    return (f"{model} came without an image processor, which prepares pictures; expected the file {PROCESSORS[0]} "
            "beside the weights. To use the image processor of another model, give its file: on the command line with "
            "--processor FILE, in Python with model.processor = ViTHybridImageProcessor.from_pretrained(FILE)")


def read_json(path: FilePath) -> dict[str, Any]:
    """Reads a JSON object from a file."""
    file = tensorfile.shared(path)
    try:
        with file.opened() as reader:
            tensorfile.refuse_unreadable(file, "json")
            if reader.size() > LONGEST_JSON:
                raise FormatError(f"{file}: the file has {reader.size():,} bytes; expected a JSON document of at most "
                                  f"{LONGEST_JSON:,} bytes")
            document = parse_json(reader.read(LONGEST_JSON), file, "the file")
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: no such file; a model folder holds config.json and model.safetensors"
                                ) from None
    if not isinstance(document, dict):
        raise FormatError(f"{file} holds a JSON {type(document).__name__}; expected a JSON object")
    return document


def weights_file(folder: Path) -> Path:
    """Finds the weights in a folder.  -> the file with the arrays; for a sharded model, the index of the shards"""
    for name in hub.WEIGHTS:
        if (folder / name).exists():
            return folder / name
    for name in hub.PICKLES:
        if (folder / name).exists():
            tensorfile.refuse_unreadable(folder / name, "safetensors")
    found = name_list(child.name for child in folder.iterdir()) or "nothing"
    raise FileNotFoundError(f"{folder} holds {found}; expected model.safetensors or model.safetensors.index.json")


def reread(originals: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns a dictionary in which each Stored array is read from its file.  {name: array or Stored} -> {name: array}

    Raises FormatError if an array cannot be read, or if its SHA-256 differs from the SHA-256 of the Stored array.
    """
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
                # In a file of timm or Google, the array's name is not `original.name`. Then use `original.read`.
                arrays[name] = files[original.path].get(original.name, original).read()
                found = tensorfile.digest(arrays[name])
            except (OSError, LookupError, FormatError) as error:
                found = error
            if found != original.sha256:
                raise FormatError(f"{original.path} no longer holds the array {original.name} that was loaded: found "
                                  f"{found}, expected SHA-256 {original.sha256}. The original convolution kernels are "
                                  "read from this file when the parameters of the model are saved or copied. Restore "
                                  "the file, or load the model again")
    return arrays


def sha256(path: FilePath) -> str:
    """Returns the SHA-256 of a file, or of the weights in a folder.

    The SHA-256 of a sharded model is computed over the bytes of all shards, in the order of their names.
    """
    path = Path(path)
    digest, files = hashlib.sha256(), [path]
    if path.is_dir():
        files = [weights_file(path)]
        if files[0].suffix == ".json":
            files = [path / name for name in tensorfile.shard_names(files[0])]
    for file in files:
        with SharedFile(file).opened() as reader:
            while block := reader.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def default_model() -> Path:
    """Returns the path of the model that is a part of this package.

    In an installed package the folder `weights` is inside the package. In a checkout the folder `weights` is beside the
    package.
    """
    package = Path(__file__).resolve().parent.parent
    places = [package / "weights" / DEFAULT_MODEL, package.parent / "weights" / DEFAULT_MODEL]
    for place in places:
        if place.exists():
            return place
    if not package.is_dir():
        raise FileNotFoundError(f"the default model cannot be read, because nphybrid is in the zip file "
                                f"{package.parent}; expected an installed package, or another model with --model")
    raise FileNotFoundError(f"expected the default model at {places[0]} or {places[1]}, found no file; "
                            "name another model with --model")


# ---------------------------------------------------------------- writing

def write_processor(folder: FilePath, processor: Mapping[str, Any]) -> Path:
    """Writes the options of an image processor into a folder, and returns the path of the new file."""
    path = Path(folder) / PROCESSORS[0]
    tensorfile.write_json(path, processor)
    return path


def write_h5(path: FilePath, state: Mapping[str, Any], config: Mapping[str, Any], processor: Mapping[str, Any] | None,
             manifest: Mapping[str, Any]) -> None:
    """Writes a model into one file: arrays with Hugging Face's names, and JSON documents."""
    documents = {"config": config, "manifest": _labelled(manifest)}
    if processor is not None:
        documents["processor"] = processor
    tensorfile.write_h5(path, state, documents)


def metadata_of(manifest: Mapping[str, Any], path: FilePath) -> dict[str, str]:
    """Returns the metadata of a safetensors file with narrow weights at `path`.  `manifest_of` reads them.

    transformers refuses the file, because it expects the format "pt". Raises FormatError if JSON cannot hold the
    manifest.
    """
    return {"format": FORMAT, "manifest": document_bytes(_labelled(manifest), path, "manifest").decode()}


def _labelled(manifest):
    return {**manifest, "format": FORMAT, "version": VERSION}


# ---------------------------------------------------------------- kinds of files

def _checkpoint(path: Path, files: ExitStack) -> Checkpoint:
    """Returns the Checkpoint at a path.  The file with the arrays or the index stays open until `files` is closed."""
    if not path.is_dir():
        _check_there(path)
        file = SharedFile(path)
        files.enter_context(file.opened())
        return _file_checkpoint(path, file)
    card = _config_json(path)
    file = SharedFile(weights_file(path))
    files.enter_context(file.opened())
    manifest: dict[str, Any] = {}
    if file.path.endswith(".json"):
        arrays = tensorfile.stored_sharded(file)
    else:
        arrays, metadata = tensorfile.safetensors_contents(file)
        manifest = manifest_of(metadata, file)
    if _is_hugging_face(card):
        return Checkpoint(without_wrappers(arrays), card, _folder_processor(path, card), manifest, path)
    return _translatable(path, arrays, card)


def _file_checkpoint(path: Path, file: SharedFile) -> Checkpoint:
    """Returns the Checkpoint in one file."""
    if tensorfile.sniff(file) not in ("safetensors", "npz"):
        return _h5_checkpoint(path, file)
    # A config.json describes only model.safetensors. A file with another name is read without the config.json.
    card = _config_json(path.parent) if path.name == "model.safetensors" else {}
    return _translatable(path, tensorfile.stored(file), card)


def _h5_checkpoint(path: Path, file: SharedFile) -> Checkpoint:
    """Returns the Checkpoint in an `.h5` file of this package."""
    if tensorfile.sniff(file) == "json":
        raise _part_of_a_model(path)
    tensorfile.refuse_unreadable(file, "hdf5")
    arrays, documents = tensorfile.stored_h5(file)
    for key in ("config", "manifest"):
        if not isinstance(documents.get(key), dict):
            raise FormatError(f"{path} holds no JSON object /nphybrid/{key}; expected a file that `nphybrid convert` "
                              "wrote")
    _check_version(documents["manifest"], path)
    processor = documents.get("processor")
    if processor is not None and not isinstance(processor, dict):
        raise FormatError(f"{path}: the document processor is {shortened(processor)}; expected a JSON object")
    return Checkpoint(arrays, documents["config"], processor, documents["manifest"], path)


def manifest_of(metadata: Mapping[str, str], path: FilePath) -> dict[str, Any]:
    """Returns the manifest in the metadata of a safetensors file with narrow weights; {} for any other file.

    Raises FormatError if the metadata state the format of this package, but hold no manifest of this version.
    """
    if metadata.get("format") != FORMAT:
        return {}
    manifest = parse_json(metadata.get("manifest", "null").encode(), path, "the manifest")
    if not isinstance(manifest, dict):
        raise FormatError(f"{path}: the manifest in the metadata is {shortened(manifest)}; expected a JSON object")
    _check_version(manifest, path)
    return manifest


def _check_version(manifest, path):
    found = manifest.get("format"), manifest.get("version")
    if found != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {found}, expected {(FORMAT, VERSION)}")


def _translatable(path: Path, arrays: dict[str, Stored], card: dict[str, Any]) -> Checkpoint:
    """Returns the Checkpoint of arrays that have timm's or Google's names.

    `card` is the content of config.json; {} if there is no config.json.
    """
    kind, anchor = guess(arrays)
    if kind is None:
        refuse_several_networks(arrays)
        if norm := next((array for array in arrays if array.endswith("running_mean")), None):
            raise FormatError(f"{path} holds a batch norm, for example {norm}; expected a network whose convolutions "
                              "are followed by group norms, because nphybrid has no batch norm")
        raise FormatError(f"{path} holds arrays whose names belong to no known dialect, for example "
                          f"{', '.join(list(arrays)[:3])}; expected the names of Hugging Face, timm or Google's JAX")
    name = dialect_of(kind)
    if name is None:
        if path.is_dir():
            raise FormatError(f"{path} holds arrays with Hugging Face's names ({anchor}), but no config.json with a "
                              "model_type")
        raise _part_of_a_model(path)
    try:
        card = {} if _is_hugging_face(card) else timm_card.nested(card)
        arrays = DIALECTS[name].renumbered(without_wrappers(arrays))
        config = DIALECTS[name].config({name: array.shape for name, array in arrays.items()}, card)
        processor = processor_of(config, card)
        classes = config["num_labels"]
        timm_card.check_classes(card, classes)
        names = timm_card.labels(card, classes) or dict(enumerate(labels.names(classes) or ()))
        if names:
            config["id2label"] = names
        if "problem_type" in card:
            config["problem_type"] = card["problem_type"]
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        if isinstance(error, IndexError):
            reason = "one of its arrays has too few axes"
        raise FormatError(f"{path} looks like {kind}, because it holds the array {anchor}, but {reason}") from None
    return Checkpoint(arrays, config, processor, {}, path, config["dialect"]["name"])


def _is_hugging_face(card: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a network with Hugging Face's names, not with those of timm or Google."""
    return card.get("model_type", timm_card.WRAPPER) != timm_card.WRAPPER


def _config_json(folder: Path) -> dict[str, Any]:
    """Returns the content of the config.json in a folder; {} if there is no config.json."""
    return read_json(folder / "config.json") if (folder / "config.json").exists() else {}


def _folder_processor(folder: Path, card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the options of the image processor in a Hugging Face folder.

    `card` is the content of the config.json in this folder.
    """
    for name in PROCESSORS:
        if (folder / name).exists():
            return _processor_options(folder / name, card)
    return None


def _processor_options(file: FilePath, card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of the image processor in a JSON file, as options of ViTHybridImageProcessor.

    A processor_config.json holds the options under the key image_processor. `card` is the content of the config.json
    beside the file.
    """
    options = read_json(file)
    options = options.get("image_processor", options)
    if not isinstance(options, dict):
        raise FormatError(f"{file}: image_processor is {options!r}; expected an object of options")
    if card.get("model_type") == "vit" and not any(options.get(key) for key in CLASS_KEYS):
        options = {**options, "image_processor_type": "ViTImageProcessor"}
    # Options that cannot be computed are refused when a picture is prepared. The network can still be loaded.
    with contextlib.suppress(ValueError):
        options = spelled_out(options, card.get("model_type"))
    return options


def _part_of_a_model(path: Path) -> FormatError:
    return FormatError(f"{path} is only a part of a model; expected the folder {path.parent}, or an .h5 file")


def _check_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder on this computer; expected a folder, an "
                                ".h5 file, or the owner/name of a model on the Hugging Face hub")
