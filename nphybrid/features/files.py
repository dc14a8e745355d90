"""Files of features: read and written by the format of their suffix.

    x.h5        arrays     features   float32 (N, …)        a row for each picture that could be read
                           positions  int64 (N,)            its position in the list
                           paths      uint8                 the bytes of all names of the list, a NUL after each
                documents  manifest, and errors: [[position, message], …]
                in the layout of tensorfile/hdf5.py, with its checksums
    x.npy       only the features; beside it x.npy.jsonl, a row for each picture of the list, and x.npy.run.json, the
                manifest
    x.parquet   columns position, path (bytes), features (a list of float), error (null in a good row); the manifest is
                the value of "nphybrid" in the metadata. Needs pyarrow

The manifest states what the features were computed with: the SHA-256 of the model's file, state, pool, shape, image
processor. Every file appears complete or not at all. The three files of .npy are replaced one after the other: the old
x.npy is removed first and the new x.npy appears last, so where an x.npy is, the files beside it belong to it.
"""
import os
from types import ModuleType

import numpy as np

from . import h5, npy, parquet
from .contents import FORMAT, VERSION, Contents, Features, checked_contents

# Each format has the functions `write` and `contents`.
FORMATS = {".h5": h5, ".npy": npy, ".parquet": parquet}
SUFFIXES = tuple(FORMATS)


def read(path: str | os.PathLike) -> Features:
    """The features in a file.

    Raises FormatError for a file that breaks a rule of its format, ImportError for a .parquet without pyarrow, OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = {"model": "ab", "state": "norm", "pool": "token"}
    ...     write(folder + "/x.h5", Contents(np.ones((1, 2)), np.array([1]), ["a", "b"], {0: "is empty"}, manifest))
    ...     read(folder + "/x.h5")
    Features(values=array([[1., 1.]], dtype=float32), paths=['b'], model='ab', state='norm', pool='token')
    """
    return features_of(contents(path))


def features_of(found: Contents) -> Features:
    """The Features in the Contents of a file."""
    return Features(np.asarray(found.values), [found.names[i] for i in found.positions],
                    found.manifest["model"], found.manifest["state"], found.manifest["pool"])


def contents(path: str | os.PathLike) -> Contents:
    """Everything in a file of features.  Raises what `read` raises"""
    return checked_contents(_format(path).contents(path), path)


def write(path: str | os.PathLike, found: Contents) -> None:
    """Write Contents in the format of the path's suffix.  A file that exists is replaced."""
    manifest = {**found.manifest, "format": FORMAT, "version": VERSION}
    _format(path).write(path, found._replace(manifest=manifest))


def suffix(path: str | os.PathLike) -> str:
    """The suffix of a path.  Raises ValueError if it is not one of SUFFIXES"""
    end = os.path.splitext(path)[1]
    if end not in FORMATS:
        raise ValueError(f"{path}: expected a file of features, whose name ends in {', '.join(SUFFIXES)}")
    return end


def check(path: str | os.PathLike) -> None:
    """Raise ValueError or ImportError if such a file cannot be written, before anything is computed."""
    if _format(path) is parquet:
        parquet.import_pyarrow()


def _format(path) -> ModuleType:
    return FORMATS[suffix(path)]
