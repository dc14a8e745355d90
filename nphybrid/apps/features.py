"""Files of features: what `nphybrid embed` writes, and its reader.

    x.h5        arrays     features   float32 (N, …)        a row for each picture that could be read
                           positions  int64 (N,)            its place in the list
                           paths      uint8                 the bytes of the whole list's names, a NUL behind each
                documents  manifest, and errors: [[position, message], …]
                in the layout of tensorfile/hdf5.py, checksums and all
    x.npy       the features alone; beside them x.npy.jsonl, a row for each picture of the list, and x.npy.run.json, the
                manifest
    x.parquet   columns position, path (bytes), features (a list of float), error (null in a good row); the manifest is
                the value of "nphybrid" in the metadata. Needs pyarrow

The manifest says by what they were computed: the SHA-256 of the model's file, state, pool, shape, image processor.
Each is written whole or not at all. The three files of .npy take their places one after the other, x.npy last, and an
old one goes first: where there is an x.npy, what stands beside it is its own.
"""
import json
import os
from typing import Callable, NamedTuple

import numpy as np

from ..checkpoint import read_json
from ..tensorfile import FormatError, stored_h5, write_atomically, write_h5, write_json

FORMAT, VERSION = "nphybrid features", 1
SUFFIXES = (".h5", ".npy", ".parquet")


class Features(NamedTuple):
    """What a file of features holds."""
    values: np.ndarray                    # float32 (N, D), or (N, …) of a whole state
    paths: list                           # of N str
    model: str                            # the SHA-256 of the file of the model that computed them
    state: str                            # the name of the state of its walk
    pool: str                             # "token", "mean" or "none"


class Contents(NamedTuple):
    """All of it."""
    values: np.ndarray                    # float32 (N, …)
    positions: np.ndarray                 # int64 (N,): which pictures of the list they are
    names: list                           # of str: the whole list
    errors: dict                          # {position: message} of the others
    manifest: dict


def read(path):
    """The features in a file.  -> Features

    Raises FormatError for a file that breaks a rule of its format, ImportError for a .parquet without pyarrow, OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = {"model": "ab", "state": "norm", "pool": "token"}
    ...     write(folder + "/x.h5", Contents(np.ones((1, 2)), np.array([1]), ["a", "b"], {0: "is empty"}, manifest))
    ...     read(folder + "/x.h5")
    Features(values=array([[1., 1.]], dtype=float32), paths=['b'], model='ab', state='norm', pool='token')
    """
    return of(contents(path))


def of(found):
    """Contents -> Features"""
    return Features(np.asarray(found.values), [found.names[i] for i in found.positions],
                    *(found.manifest[key] for key in ("model", "state", "pool")))


def contents(path):
    """Everything in a file of features.  -> Contents"""
    return _checked(_format(path).contents(path), path)


def write(path, found):
    """Write Contents in the format of the path's name; what was there is replaced."""
    manifest = {**found.manifest, "format": FORMAT, "version": VERSION}
    _format(path).write(path, found._replace(manifest=manifest))


def suffix(path):
    """The end of a path's name, which must be one of SUFFIXES."""
    end = os.path.splitext(path)[1]
    if end not in SUFFIXES:
        raise ValueError(f"{path}: features are kept in a file whose name ends in {', '.join(SUFFIXES)}")
    return end


def check(path):
    """Raise what hinders writing such a file, before anything is computed: ValueError, ImportError."""
    if suffix(path) == ".parquet":
        from . import parquet
        parquet.modules()


def _format(path):
    end = suffix(path)
    if end == ".parquet":
        from . import parquet
        return parquet
    return _Format(_write_h5, _h5_contents) if end == ".h5" else _Format(_write_npy, _npy_contents)


class _Format(NamedTuple):
    write: Callable                       # path, Contents
    contents: Callable                    # path -> Contents


def _checked(found, path):
    values, positions, names, errors, manifest = found
    told = manifest.get("format"), manifest.get("version")
    if told != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {told}; expected {(FORMAT, VERSION)}")
    for key in ("model", "state", "pool"):
        if not isinstance(manifest.get(key), str):
            raise FormatError(f"{path}: the manifest's {key} is {manifest.get(key)!r}; expected a string")
    if values.dtype != np.float32 or values.ndim < 2 or len(values) != len(positions):
        raise FormatError(f"{path}: features are {values.dtype} {values.shape} for {len(positions):,} pictures; "
                          "expected float32, a row each")
    if sorted([*positions.tolist(), *errors]) != list(range(len(names))):
        raise FormatError(f"{path}: {len(positions):,} features and {len(errors):,} errors are not one row for each of "
                          f"{len(names):,} pictures")
    return found


# ---------------------------------------------------------------- .h5

def _write_h5(path, found):
    names = b"".join(os.fsencode(name) + b"\0" for name in found.names)
    arrays = {"features": np.asarray(found.values, np.float32), "positions": np.asarray(found.positions, np.int64),
              "paths": np.frombuffer(names, np.uint8)}
    # A name in a message may hold bytes that are no UTF-8, and JSON here is strict.
    errors = [[int(i), text.encode("utf-8", "backslashreplace").decode()] for i, text in found.errors.items()]
    write_h5(path, arrays, {"manifest": found.manifest, "errors": errors})


def _h5_contents(path):
    arrays, documents = stored_h5(path)
    for kind, has in (("array", arrays), ("document", documents)):
        for name in {"array": ("features", "positions", "paths"), "document": ("manifest", "errors")}[kind]:
            if name not in has:
                raise FormatError(f"{path} has no {kind} {name!r}: no file of features")
    names = arrays["paths"].read().tobytes().split(b"\0")[:-1]
    return Contents(arrays["features"].read(), arrays["positions"].read(), [os.fsdecode(name) for name in names],
                    dict(documents["errors"]), documents["manifest"])


# ---------------------------------------------------------------- .npy

def _write_npy(path, found):
    with write_atomically(path) as values, write_atomically(f"{path}.jsonl") as names:
        with open(values, "wb") as file:
            np.save(file, np.asarray(found.values, np.float32), allow_pickle=False)
        with open(names, "w", encoding="ascii") as file:
            for i, name in enumerate(found.names):
                error = {"error": found.errors[i]} if i in found.errors else {}
                file.write(json.dumps({"position": i, "path": name, **error}) + "\n")
        if os.path.exists(path):
            os.remove(os.path.realpath(path))
        write_json(f"{path}.run.json", found.manifest)


def _npy_contents(path):
    manifest, (names, errors) = read_json(f"{path}.run.json"), names_and_errors(f"{path}.jsonl")
    return Contents(np.load(path, mmap_mode="r", allow_pickle=False), good(names, errors), names, errors, manifest)


def names_and_errors(path):
    """What rows of JSON Lines say of a list.  -> list of str, {position: message}"""
    names, errors = [], {}
    with open(path, encoding="ascii") as file:
        for row in map(json.loads, file):
            names.append(row["path"])
            if "error" in row:
                errors[row["position"]] = row["error"]
    return names, errors


def good(names, errors):
    """The positions of the pictures that could be read.  -> int64 (N,)"""
    return np.array([i for i in range(len(names)) if i not in errors], np.int64)
