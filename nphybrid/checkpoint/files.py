"""What a model file holds, before any model is built from it: a folder, an `.h5`, or a file of another dialect."""
import contextlib
import hashlib
from pathlib import Path
from typing import NamedTuple

from .. import labels, tensorfile
from ..dialects.google import bit_config, jax_config, one_numbering
from ..dialects.guess import guess
from ..dialects.huggingface import for_vit
from ..dialects.timm import timm_config
from ..dialects.translate import processor_of, without_wrappers
from ..tensorfile import FormatError, Stored
from ..tensorfile.documents import parse_json
from . import hub

FORMAT, VERSION = "nphybrid", 1
PROCESSORS = ("preprocessor_config.json", "processor_config.json")


class Checkpoint(NamedTuple):
    """What a model file holds, before any model is built from it."""
    arrays: dict                          # {name: Stored}, as the dialect spells and lays them out
    config: dict                          # config.json, or what names and shapes tell, as Hugging Face spells it
    processor: dict | None                # preprocessor_config.json, or the dialect's
    manifest: dict                        # where it comes from; {} for a folder
    path: Path
    dialect: str | None = None            # of `dialects.TABLES`; None is Hugging Face's


def read(path, revision=None):
    """Read a folder (config.json and model.safetensors, sharded or not, of Hugging Face or timm), an `.h5`, a timm
    `.safetensors`, or a Google `.npz`.  -> Checkpoint

    path: where there is nothing, owner/name is that of a model on the hub, and revision one of that. The arrays are
    checked, but stay in the file until np.asarray reads them, one at a time.
    """
    path = hub.resolve(path, revision)
    if path.is_dir():
        card = _card(path)
        if card and "model_type" in card:
            return Checkpoint(_folder_arrays(path), card, _folder_processor(path, card), {}, path)
        return _foreign(path, _folder_arrays(path.absolute()), card)
    _check_there(path)
    if tensorfile.sniff(path) in ("safetensors", "npz"):
        # The name says that the config.json beside it, if there is one, is this file's.
        card = _card(path.parent) if path.name == "model.safetensors" else {}
        return _foreign(path, tensorfile.stored(path.absolute()), card)
    _check_file(path)
    arrays, documents = tensorfile.stored_h5(path)
    _check_manifest(path, documents)
    return Checkpoint(arrays, documents["config"], documents.get("processor"), documents["manifest"], path)


def _card(folder):
    """The config.json of a folder, {} if there is none."""
    return read_json(folder / "config.json") if (folder / "config.json").exists() else {}


def _foreign(path, arrays, card):
    """The Checkpoint of a file whose names are not Hugging Face's; what those say, its config has to say."""
    dialect, anchor = guess(arrays)
    if dialect is None:
        raise FormatError(f"{path}: names of no known dialect, for example {', '.join(list(arrays)[:3])}; expected "
                          "those of Hugging Face, timm or Google's JAX")
    if dialect.startswith("huggingface"):
        if path.is_dir():
            raise FormatError(f"{path} has Hugging Face's names ({anchor}), but no config.json with a model_type")
        raise FormatError(f"{path} is a part of a model; expected its folder, {path.parent}, or an .h5 file")
    card = {} if "model_type" in card else card
    try:
        arrays = without_wrappers(arrays)
        if dialect.startswith("jax"):
            arrays = one_numbering(arrays)
        shapes = {name: array.shape for name, array in arrays.items()}
        if dialect.startswith("timm"):
            config = timm_config(shapes, card)
        else:
            config = bit_config(shapes) if dialect == "google bit" else jax_config(shapes)
        processor = processor_of(config, card)
        names = card.get("label_names") or labels.names(config["num_labels"])
        if names and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise FormatError("label_names of its config.json is no list of strings")
        if names:
            config["id2label"] = dict(enumerate(names))
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise FormatError(f"{path}: looks like {dialect}, by {anchor}, but {reason}") from None
    return Checkpoint(arrays, config, processor, {}, path, config["dialect"]["name"])


def read_config(path, revision=None):
    """Only the config of what `read` reads.  -> dict.  A config.json itself is read too."""
    name, path = path, hub.resolve(path, revision, weights=False)
    _check_there(path)
    if path.is_dir():
        card = _card(path)
        return card if "model_type" in card else read(name, revision).config
    kind = tensorfile.sniff(path)
    if kind == "json":
        return read_json(path)
    return read(path).config if kind in ("safetensors", "npz") else _documents(path)["config"]


def read_processor(path, revision=None):
    """The image processor's options of what `read` reads, or of a JSON file.  -> dict"""
    name, path = path, hub.resolve(path, revision, weights=False)
    _check_there(path)
    if path.is_dir():
        card = _card(path)
        options = _folder_processor(path, card)
        if options is None and "model_type" not in card:
            with contextlib.suppress(FileNotFoundError):      # of weights; told below
                options = read(name, revision).processor
    elif (kind := tensorfile.sniff(path)) in ("safetensors", "npz"):
        options = read(path).processor
    elif kind == "json":
        options = _unwrapped(path)
    else:
        options = _documents(path).get("processor")
    if options is None:
        raise FileNotFoundError(f"{path} holds no image processor, that is, no {PROCESSORS[0]}")
    return options


def _folder_processor(folder, card):
    files = [folder / name for name in PROCESSORS if (folder / name).exists()]
    return for_vit(_unwrapped(files[0]), card.get("model_type")) if files else None


def _unwrapped(file):
    """The options in a file; a processor_config.json keeps them one level down."""
    options = read_json(file)
    options = options.get("image_processor", options)
    if not isinstance(options, dict):
        raise FormatError(f"{file}: image_processor is {options!r}; expected an object of options")
    return options


def _check_there(path):
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder on this computer; expected a folder, an "
                                ".h5 file, or owner/name of a model on the Hugging Face hub")


def _check_file(path):
    _check_there(path)
    if tensorfile.sniff(path) == "json":
        raise FormatError(f"{path} is a part of a model; expected its folder, {path.parent}, or an .h5 file")
    tensorfile.refuse_unreadable(path, "hdf5")


def _documents(path):
    _check_file(path)
    documents = tensorfile.h5_documents(path)
    _check_manifest(path, documents)
    return documents


def _check_manifest(path, documents):
    for key in ("config", "manifest"):
        if not isinstance(documents.get(key), dict):
            raise FormatError(f"{path}: no JSON object /nphybrid/{key}; is this file from `nphybrid convert`?")
    found = documents["manifest"].get("format"), documents["manifest"].get("version")
    if found != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {found}, expected {(FORMAT, VERSION)}")


def read_json(path):
    """One JSON object from a file.  -> dict"""
    try:
        tensorfile.refuse_unreadable(path, "json")
        document = parse_json(Path(path).read_bytes(), path, "the file")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; a model folder holds config.json and model.safetensors"
                                ) from None
    if not isinstance(document, dict):
        raise FormatError(f"{path} holds a JSON {type(document).__name__}, expected an object")
    return document


def weights_file(folder):
    """The file of a folder that holds its arrays, or the index of those that do.  -> Path"""
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).exists():
            return folder / name
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json"):
        if (folder / name).exists():
            tensorfile.refuse_unreadable(folder / name, "safetensors")
    found = ", ".join(sorted(child.name for child in folder.iterdir())) or "nothing"
    raise FileNotFoundError(f"{folder} holds {found}; expected model.safetensors or model.safetensors.index.json")


def _folder_arrays(folder):
    path = weights_file(folder)
    return tensorfile.stored_sharded(path) if path.suffix == ".json" else tensorfile.stored_safetensors(path)


def reread(originals):
    """{name: array} of arrays, and of Stored ones, whose file must still hold the bytes of their SHA-256."""
    files, arrays = {}, dict(originals)
    for name, left in originals.items():
        if isinstance(left, Stored):
            try:
                files[left.path] = files.get(left.path) or tensorfile.stored(left.path)
                # What was translated has another name there.
                arrays[name] = files[left.path].get(left.name, left).read()
                found = tensorfile.digest(arrays[name])
            except (OSError, LookupError, FormatError) as error:
                found = error
            if found != left.sha256:
                raise FormatError(f"{left.path} no longer holds the {left.name} that was loaded: found {found}, "
                                  f"expected SHA-256 {left.sha256}. A model leaves its convolution kernels in its "
                                  "file: put that back, or load the model again")
    return arrays


def write_processor(folder, processor):
    """Write the image processor's options as a folder holds them.  -> Path of the file"""
    tensorfile.write_json(Path(folder) / PROCESSORS[0], processor)
    return Path(folder) / PROCESSORS[0]


def write_h5(path, state, config, processor, manifest):
    """One file with everything: arrays under their Hugging Face names, and the documents beside them."""
    documents = {"config": config, "manifest": {**manifest, "format": FORMAT, "version": VERSION}}
    if processor is not None:
        documents["processor"] = processor
    tensorfile.write_h5(path, state, documents)


def sha256(path):
    """SHA-256 of a file, of a folder's weights, or, for a sharded folder, of its shards in the index's order."""
    path = Path(path)
    digest, files = hashlib.sha256(), [path]
    if path.is_dir():
        files = [weights_file(path)]
        if files[0].suffix == ".json":
            files = [path / name for name in sorted(set(read_json(files[0])["weight_map"].values()))]
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


DEFAULT_MODEL = "vit-hybrid-tiny-cifar10.h5"


def default_model():
    """Path of the model that comes with the package: beside the code when installed, else in the checkout."""
    here = Path(__file__).resolve().parent.parent
    places = [here / "weights" / DEFAULT_MODEL, here.parent / "weights" / DEFAULT_MODEL]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"the default model is neither at {places[0]} nor at {places[1]}; name another (--model)")
