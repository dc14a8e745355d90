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


class ModelDigests(NamedTuple):
    """The SHA-256 of everything in files that the results of a model depend on."""
    model: str                            # of the weights
    head: str | None                      # of the file of a head that replaces the model's own
    config: str                           # of configuration and image processor, which may be in other files


def model_digests(model: str | os.PathLike | None, config: dict, processor: dict | None,
                  head: str | os.PathLike | None = None) -> ModelDigests:
    """The SHA-256 values of a model.

    model: a path, or owner/name on the hub; None is the bundled model. config, processor: the configuration and the
    options of the image processor, as JSON holds them. head: the file of a head, or None.
    """
    settings = json.dumps([config, processor], sort_keys=True).encode()
    head_digest = None if head is None else checkpoint.sha256(head)
    return ModelDigests(model_digest(model), head_digest, hashlib.sha256(settings).hexdigest())


def model_digest(model: str | os.PathLike | None) -> str:
    """The SHA-256 of a model's weights.  model: a path, or owner/name on the hub; None is the bundled model

    The file is read only once, as long as its size and its time of modification stay the same.
    """
    path = hub.resolve(model or checkpoint.default_model())
    return _sha256(path, _file_states(path))


@functools.lru_cache(maxsize=8)
def _sha256(path, file_states):
    return checkpoint.sha256(path)


def _file_states(path):
    """Path, inode, size and time of modification of a file, or of each file in a folder."""
    paths = sorted(entry.path for entry in os.scandir(path)) if os.path.isdir(path) else [path]
    stats = [os.stat(name) for name in paths if os.path.exists(name)]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats)


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
