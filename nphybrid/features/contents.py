"""Defines the contents of a feature file.  All formats store the same contents."""
import json
import os
from collections.abc import Container, Sized
from typing import NamedTuple

import numpy as np

from ..tensorfile import FormatError

FORMAT, VERSION = "nphybrid features", 1


class Features(NamedTuple):
    """The features in a file, and the paths of their pictures."""
    values: np.ndarray                    # float32 (N, D), or (N, …) for whole states
    paths: list                           # N strings
    model: str                            # the SHA-256 of the model file
    state: str                            # the name of the state from which the features were computed
    pool: str                             # the pooling: "token", "mean" or "none"


class Contents(NamedTuple):
    """The complete contents of a feature file."""
    values: np.ndarray                    # float32 (N, …)
    positions: np.ndarray                 # int64 (N,): for each row of `values`, the list position of its picture
    names: list                           # strings: the names of all pictures in the list
    errors: dict                          # {position: message} for the pictures without features
    manifest: dict                        # how the features were computed; see files.py


def checked_contents(found: Contents, path: str | os.PathLike) -> Contents:
    """Return the Contents of a file unchanged.  Raises FormatError if the Contents are not valid."""
    values, positions, names, errors, manifest = found
    version = manifest.get("format"), manifest.get("version")
    if version != (FORMAT, VERSION):
        raise FormatError(f"{path}: found format and version {version}; expected {(FORMAT, VERSION)}")
    for key in ("model", "state", "pool"):
        if not isinstance(manifest.get(key), str):
            raise FormatError(f"{path}: the value of {key} in the manifest is {manifest.get(key)!r}; expected a "
                              "string")
    if values.dtype != np.float32 or values.ndim < 2 or len(values) != len(positions):
        raise FormatError(f"{path}: found features of dtype {values.dtype} and shape {values.shape} for "
                          f"{len(positions):,} pictures; expected float32 and one row for each picture")
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise FormatError(f"{path}: found positions of dtype {positions.dtype} and shape {positions.shape}; expected "
                          "one axis of integers")
    if sorted([*positions.tolist(), *errors]) != list(range(len(names))):
        raise FormatError(f"{path}: found {len(positions):,} features and {len(errors):,} errors; expected either "
                          f"features or an error for each of the {len(names):,} pictures")
    return found


def names_and_errors(path: str | os.PathLike) -> tuple[list, dict]:
    """Read a file of rows.  Returns the list of names, and a dict {position: message} of the failed pictures.

    Raises FormatError if the rows do not have the positions 0, 1, 2 and so on, or if a line is not a row.
    """
    names, errors = [], {}
    try:
        with open(path, encoding="ascii") as file:
            for row in map(json.loads, file):
                if row["position"] != len(names):
                    raise FormatError(f"{path}: found a row of picture {row['position']}; expected a row of picture "
                                      f"{len(names)}")
                names.append(os.fspath(row["path"]))
                if "error" in row:
                    errors[row["position"]] = row["error"]
    except FormatError:
        raise
    except (ValueError, LookupError, TypeError):
        raise FormatError(f"{path}: line {len(names) + 1:,} is not a row that nphybrid writes") from None
    return names, errors


def good_positions(names: Sized, errors: Container) -> np.ndarray:
    """Return the positions of the pictures that have features, as int64 (N,)."""
    return np.array([i for i in range(len(names)) if i not in errors], np.int64)
