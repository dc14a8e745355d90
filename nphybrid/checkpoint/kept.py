"""Keeps the packed weights of a model in a file, so that later processes do not read and pack the weights again.

    FOLDER/nphybrid/ISA-HASH/KEY.weights       beside the compiled kernels (ops/cache.py)

Only `nphybrid warmup --model MODEL` writes such a file (ops/mapped.py). If the engine is "numba", each process that
loads the same model maps this file into memory. The table has the seconds in which R50+ViT-B/16 is loaded without and
with packed weights (Zen 3, 2 threads, medians of 9 processes):

                     from an .h5 file           from a folder
    float32          0.68     0.20              0.43     0.08
    bfloat16         1.24     0.16              1.06     0.06
    int8             1.29     0.17              1.08     0.06

KEY is the SHA-256 of everything on which the packed weights depend: the configuration, the dtype, the precision, each
array in the file of the model, and the sources that read the file. To compute KEY, no array is read. An `.h5` file, and
a folder with narrow weights, state the SHA-256 of each array. Any other file is identified by its place on the disk,
its size, and the times of its last changes. ISA-HASH depends on the version, and on the sources that pack the weights.

The modules `cache` and `mapped` import Numba, so they are imported where they are used.
"""
import functools
import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..params import named_leaves, tree_map
from ..tensorfile import Stored, file_state, kept_open
from .narrow import all_arrays

# The packages whose sources read the file of a model.
READERS = "nphybrid", "nphybrid.api", "nphybrid.checkpoint", "nphybrid.dialects", "nphybrid.tensorfile"


class Kept(NamedTuple):
    """The packed weights of a model."""

    key: str                              # the KEY of the file
    path: Path | None                     # the path of the mapped file, or None if there is no file with this KEY


def key_of(arrays: Mapping[str, Any], shapes: Any, *options: Any) -> str | None:
    """Returns the KEY of a model, or None if one of its arrays is not in a file.

    `arrays` is {name: Stored, Narrow or array}, and `shapes` is the tree of shapes. `options` are the other values on
    which the packed weights depend. Raises the exceptions of `kept_open`.
    """
    stored = all_arrays(arrays)
    if not all(isinstance(array, Stored) and (array.sha256 or array.file) for array in stored):
        return None
    with kept_open(stored):
        states = {array.file: file_state(array.file.absolute) for array in stored if array.file is not None}
    contents = [(array.name, array.shape, array.dtype.str, array.sha256 or states[array.file]) for array in stored]
    seen = repr((_sources(), options, named_leaves(shapes), list(arrays), contents))
    return hashlib.sha256(seen.encode()).hexdigest()


def write_kept(key: str, params: Any, originals: Mapping[str, Stored], about: dict[str, str],
               files: Iterable[str]) -> Path:
    """Writes the packed weights of a model.  -> the path of the file

    `params` and `originals` are the results of `fill_parameters`. `about` has the path and the dtype of the model, and
    `files` has the paths of its files. The new file gets no permission that one of these files lacks. Raises OSError if
    no file can be written.
    """
    from ..ops import cache, mapped
    mode = functools.reduce(lambda mode, file: mode & os.stat(file).st_mode, files, 0o755)
    note = {"about": about, "originals": {name: array.sha256 for name, array in originals.items()}}
    reasons = []
    for folder in cache.folders(create=True):
        path = folder / f"{key}{cache.WEIGHTS}"
        try:
            mapped.write(path, named_leaves(params), note, mode)
        except (OSError, ValueError) as error:
            reasons.append(str(error))
        else:
            return path
    raise OSError(f"the packed weights of {about['model']} cannot be written: {'; '.join(reasons) or cache.NO_FOLDER}")


def read_kept(key: str, shapes: Any, arrays: Mapping[str, Any]) -> tuple[Path, Any, dict[str, Stored]] | None:
    """Maps the packed weights of a model.  -> the path of the file, and the results of `fill_parameters`

    Returns None if there is no file with this KEY. A damaged file is not used, and causes a warning.
    """
    from ..ops import cache, mapped
    for folder in cache.folders():
        path = folder / f"{key}{cache.WEIGHTS}"
        try:
            leaves, note = mapped.read(path)
            params = tree_map(lambda name, _, leaves=leaves: leaves[name], shapes)
            return path, params, {name: with_digest(arrays[name], digest) for name, digest in note["originals"].items()}
        except OSError:
            continue
        except (ValueError, LookupError, TypeError) as error:
            warnings.warn(f"{path} is not used, because it is damaged ({error}). `nphybrid warmup --model MODEL` "
                          "replaces it", RuntimeWarning, stacklevel=2)
    return None


def about_kept(path: Path) -> dict[str, str]:
    """Returns the path and the dtype of the model whose packed weights a file holds, or {} if the file is damaged."""
    from ..ops import mapped
    try:
        return mapped.read(path)[1]["about"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def with_digest(array: Stored, sha256: str) -> Stored:
    """Returns a Stored with the SHA-256 of its bytes, and with an absolute path."""
    # `absolute` was computed when the SharedFile was created. The working folder may have changed since then.
    path = os.path.abspath(array.path) if array.file is None else array.file.absolute
    return replace(array, path=path, sha256=sha256)


@functools.cache
def _sources() -> str:
    """Returns the SHA-256 of the sources of READERS."""
    from ..ops import cache
    seen = hashlib.sha256()
    for package in READERS:
        for source in cache.sources(package):
            seen.update(source)
    return seen.hexdigest()
