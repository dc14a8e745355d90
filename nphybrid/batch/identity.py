"""By what a run is recognized: the SHA-256 of the model's files, of the list of pictures, and the options.

Results that were computed by different processes belong together only if all of these are equal: `resume` compares them
before it continues a file, and `cluster` before a worker computes anything.
"""
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import checkpoint
from ..checkpoint import hub
from ..tensorfile import FormatError


class ModelDigests(NamedTuple):
    """The SHA-256 of everything in files that the results of a model depend on."""
    model: str                            # of the weights
    head: str | None                      # of the file of a head that replaces the model's own
    config: str                           # of configuration and image processor, which may be in other files


class ModelFile:
    """A file or folder of weights that is loaded and hashed, and must not change in between.

    path: a file or a folder; a name on the hub is downloaded; None is the bundled model.
    """

    def __init__(self, path: str | os.PathLike | None) -> None:
        self.path = hub.resolve(checkpoint.default_model() if path is None else path)
        self._states = _file_states(self.path)

    def sha256(self) -> str:
        """The SHA-256 of the weights, in hex.  Raises FormatError if a file changed after this object was made."""
        digest = _sha256(self.path, self._states)
        _refuse_changed(self.path, self._states)
        return digest


@functools.lru_cache(maxsize=8)
def _sha256(path, file_states):
    """The SHA-256 of a path whose files are in these states; it is computed again only for other states."""
    digest = checkpoint.sha256(path)
    # Also here: the digest of other bytes must not be kept.
    _refuse_changed(path, file_states)
    return digest


def _refuse_changed(path, file_states):
    if _file_states(path) != file_states:
        raise FormatError(f"{path} was replaced or written to after it was loaded")


def _file_states(path):
    """What changes when a file, or a file of weights or settings in a folder, is replaced or written to."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".json"))
    stats = [os.stat(file) for file in files if file.exists()]
    return tuple((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


def model_digests(model: ModelFile, config: dict, processor: dict | None,
                  head: ModelFile | None = None) -> ModelDigests:
    """The SHA-256 values of a model.

    model: the file of its weights. config, processor: its configuration and the options of its image processor, as
    JSON holds them. head: the file of the head that replaces its own, or None.
    """
    settings = json.dumps([config, processor], sort_keys=True).encode()
    return ModelDigests(model.sha256(), None if head is None else head.sha256(), hashlib.sha256(settings).hexdigest())


def run_identity(sources: Sequence, **options: Any) -> dict:
    """What the rows of a run depend on, as it is written into FILE.run.json.

    sources: the list of pictures. options: everything else that changes a row, as JSON holds it: the values of
    `model_digests`, the engine, and so on.
    """
    digest = hashlib.sha256()
    for source in sources:
        data = hashlib.sha256(source).digest() if isinstance(source, bytes) else os.fsencode(source)
        digest.update((b"-" if isinstance(source, bytes) else b"/") + data + b"\0")
    return {"format": "nphybrid run", "version": 1, "pictures": len(sources), "list": digest.hexdigest(),
            **options}


def refuse_other_run(path: str, found: dict, run: dict) -> None:
    """Raise ValueError unless the identity of a file and that of the run that is to continue it are equal.

    path: the file, for the message. found: its identity. run: that of the run.
    """
    other = sorted(key for key in {*found, *run} if found.get(key) != run.get(key))
    if other:
        raise ValueError(f"{path} cannot be continued: it was made with another " + ", ".join(
            f"{key} (found {found.get(key)!r}, expected {run.get(key)!r})" for key in other))
