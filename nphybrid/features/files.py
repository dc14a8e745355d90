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
import os

import numpy as np

from . import h5, npy
from .contents import FORMAT, VERSION, Features, checked

SUFFIXES = (".h5", ".npy", ".parquet")


def read(path):
    """The features in a file.  -> Features

    Raises FormatError for a file that breaks a rule of its format, ImportError for a .parquet without pyarrow, OSError.

    >>> import tempfile
    >>> from nphybrid.features.contents import Contents
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
    return checked(_format(path).contents(path), path)


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
    return h5 if end == ".h5" else npy
