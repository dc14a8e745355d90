"""Computes the identity of a run.

The identity contains the SHA-256 values of the model, the SHA-256 of the list, and the options that change a row.
Results of two processes may be combined only if the identities of their runs are equal. `resume` compares the
identities before a file is continued. `cluster` compares the SHA-256 values of the model before a worker computes a
part.
"""
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import checkpoint
from ..checkpoint import hub
from ..tensorfile import FormatError, file_state


class ModelDigests(NamedTuple):
    """The SHA-256 values of all files on which the results of a model depend."""
    model: str                            # the SHA-256 of the weights
    head: str | None                      # the SHA-256 of the head file, or None if there is no head file
    config: str                           # the SHA-256 of the configuration and the image processor


class ModelFile:
    """A file or folder of weights.  The weights must not change between loading and hashing.

    `path` is a file, a folder, or owner/name of a model that is downloaded from the Hugging Face hub.
    If `path` is None, the bundled model is used.
    """

    def __init__(self, path: str | os.PathLike | None) -> None:
        self.path = hub.resolve(checkpoint.default_model() if path is None else path)
        self._states = _file_states(self.path)

    def sha256(self) -> str:
        """Return the SHA-256 of the weights in hex.  Raises FormatError if a file changed since `__init__`."""
        digest = _sha256(self.path, self._states)
        _refuse_changed(self.path, self._states)
        return digest


@functools.lru_cache(maxsize=8)
def _sha256(path, file_states):
    """Return the SHA-256 of the weights at a path.  The SHA-256 is computed again only if `file_states` changed."""
    digest = checkpoint.sha256(path)
    # The files are also checked here, so that the cache never stores the SHA-256 of files that changed during hashing.
    _refuse_changed(path, file_states)
    return digest


def _refuse_changed(path, file_states):
    if _file_states(path) != file_states:
        raise FormatError(f"{path} was changed or replaced after it was loaded")


def _file_states(path):
    """Compute numbers that change if a file of weights or settings is changed or replaced.

    If `path` is a folder, the numbers describe all .safetensors and .json files in the folder.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".json"))
    return tuple(file_state(file) for file in files if file.exists())


def model_files(model: str | os.PathLike | None, head: str | os.PathLike | None = None
                ) -> dict[str, ModelFile | None]:
    """Return {"model": ModelFile, "head": ModelFile or None}.  Call this function before the model is loaded.

    `model` is a path, or owner/name on the Hugging Face hub. If `model` is None, the bundled model is used.
    `head` is the file of a classifier that replaces the classifier of the model, or None.
    """
    # A str could be a name on the Hugging Face hub. ModelFile always treats a Path as a file.
    return {"model": ModelFile(model), "head": None if head is None else ModelFile(Path(head))}


def model_digests(model: ModelFile, config: dict, processor: dict | None,
                  head: ModelFile | None = None) -> ModelDigests:
    """Return the SHA-256 values of a model.

    `model` is the file of the weights.
    `config` is the configuration of the model as JSON.
    `processor` contains the options of the image processor as JSON.
    `head` is the file of a classifier that replaces the classifier of the model, or None.
    """
    settings = json.dumps([config, processor], sort_keys=True).encode()
    return ModelDigests(model.sha256(), None if head is None else head.sha256(), hashlib.sha256(settings).hexdigest())


def run_identity(sources: Sequence, **options: Any) -> dict:
    """Return the identity of a run.  The identity is written beside the output file FILE, as FILE.run.json.

    `sources` is the list of pictures.
    `options` contains everything else that changes a row, for example the engine and the values of `model_digests`.
    JSON must be able to store all values of `options`.
    """
    digest = hashlib.sha256()
    for source in sources:
        data = hashlib.sha256(source).digest() if isinstance(source, bytes) else os.fsencode(source)
        digest.update((b"-" if isinstance(source, bytes) else b"/") + data + b"\0")
    return {"format": "nphybrid run", "version": 1, "pictures": len(sources), "list": digest.hexdigest(),
            **options}


def refuse_other_run(path: str, found: dict, run: dict,
                     way_out: str = "leave out --resume, which replaces the file") -> None:
    """Raise ValueError if a file cannot be continued, because another run wrote it.

    `path` is the name of the file in the message.
    `found` is the identity of the run that wrote the file.
    `run` is the identity of the new run.
    `way_out` ends the message: how to begin again.
    """
    other = {key: (found.get(key), run.get(key)) for key in sorted({*found, *run}) if found.get(key) != run.get(key)}
    if "list" in other:                   # the SHA-256 of a list tells nobody anything
        count, expected = found.get("pictures"), run.get("pictures")
        other["list"] = ((f"{count} pictures", f"{expected} pictures") if count != expected else
                         (f"{count} pictures", "as many, but other paths or another order"))
        other.pop("pictures", None)
    if other:
        reasons = [f"{key.replace('_', '-')} (found {_told(was)}, expected {_told(now)})"
                   for key, (was, now) in other.items()]
        raise ValueError(f"{path} cannot be continued, because another run wrote it: {', '.join(reasons)}. Repeat the "
                         f"pictures and the options of the first run, or {way_out}")


def _told(value):
    return "none" if value is None else str(value)
