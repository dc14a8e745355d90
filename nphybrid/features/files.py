"""Reads and writes feature files.  The suffix of the file name determines the format.

`x.h5` contains three arrays and two JSON documents, in the layout of tensorfile/hdf5.py, with checksums.
`features` is a float32 array (N, …) with one row for each picture that did not fail.
`positions` is an int64 array (N,). For each row of `features`, it contains the position of its picture in the
list of all pictures.
`paths` is a uint8 array with the bytes of all names in this list. A NUL byte follows each name.
`manifest` is a JSON document with the manifest, which is described below.
`errors` is a JSON document with the errors of the failed pictures: [[position, message], …].

`x.npy` contains only the features. The file x.npy.jsonl contains a row for each picture of the list. The file
x.npy.run.json contains the manifest.

`x.parquet` has the columns position, path (bytes), features (a list of float) and error (null in a row with features).
The manifest of `x.parquet` is the value of the key "nphybrid" in the metadata. The .parquet format needs the
package pyarrow.

The manifest states how the features were computed. It contains the SHA-256 of the model file, the state, the pooling,
the engine, the dtype, the options of the image processor, and the identity of the run. The identity of the run includes
the shape of the features.

A feature file is either complete or absent. The three files of the .npy format are replaced one after the other. When
features are written, the old x.npy is deleted first, and the new x.npy is written last. An existing x.npy
therefore always fits the two files beside it.
"""
import os
from types import ModuleType

import numpy as np

from ..tensorfile import FormatError
from . import h5, npy, parquet
from .contents import FORMAT, VERSION, Contents, Features, checked_contents

# Each of these modules has the functions `write` and `contents`.
FORMATS = {".h5": h5, ".npy": npy, ".parquet": parquet}
SUFFIXES = tuple(FORMATS)


def read(path: str | os.PathLike) -> Features:
    """Read the features from a file.

    Raises FormatError if the file breaks a rule of its format. Raises ImportError for a .parquet file if pyarrow is not
    installed. Raises OSError if the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = {"model": "ab", "state": "norm", "pool": "token"}
    ...     write(folder + "/x.h5", Contents(np.ones((1, 2)), np.array([1]), ["a", "b"], {0: "is empty"}, manifest))
    ...     read(folder + "/x.h5")
    Features(values=array([[1., 1.]], dtype=float32), paths=['b'], model='ab', state='norm', pool='token')
    """
    return features_of(contents(path))


def features_of(found: Contents) -> Features:
    """Return the Features that the Contents of a file include."""
    return Features(np.asarray(found.values), [found.names[i] for i in found.positions],
                    found.manifest["model"], found.manifest["state"], found.manifest["pool"])


def contents(path: str | os.PathLike) -> Contents:
    """Read the complete Contents of a feature file.  Raises the same errors as `read`."""
    read_contents = _format(path).contents
    try:
        return checked_contents(read_contents(path), path)
    except (FormatError, OSError, ImportError):
        raise
    except (ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise FormatError(f"{path}: expected a feature file that nphybrid wrote, found other contents "
                          f"({type(error).__name__}: {error})") from None


def write(path: str | os.PathLike, found: Contents) -> None:
    """Write Contents in the format that belongs to the suffix of the path.  An existing file is replaced."""
    manifest = {**found.manifest, "format": FORMAT, "version": VERSION}
    _format(path).write(path, found._replace(manifest=manifest))


def suffix(path: str | os.PathLike) -> str:
    """Return the suffix of a path.  Raises ValueError if the suffix is not one of SUFFIXES."""
    end = os.path.splitext(path)[1]
    if end not in FORMATS:
        raise ValueError(f"{path} is not the name of a feature file; expected a name that ends in "
                         f"{', '.join(SUFFIXES)}")
    return end


def check(path: str | os.PathLike) -> None:
    """Raise ValueError or ImportError if the format of a path cannot be written.  `check` does not open the file."""
    if _format(path) is parquet:
        parquet.import_pyarrow()


def _format(path) -> ModuleType:
    return FORMATS[suffix(path)]
