"""What a file of features contains, whatever its format."""
import json
import os
from collections.abc import Container, Sized
from typing import NamedTuple

import numpy as np

from ..tensorfile import FormatError

FORMAT, VERSION = "nphybrid features", 1


class Features(NamedTuple):
    """The features in a file, and the pictures that they belong to."""
    values: np.ndarray                    # float32 (N, D), or (N, …) of a whole state
    paths: list                           # of N str
    model: str                            # the SHA-256 of the file of the model that computed them
    state: str                            # the name of a state of its forward pass
    pool: str                             # "token", "mean" or "none"


class Contents(NamedTuple):
    """Everything in a file."""
    values: np.ndarray                    # float32 (N, …)
    positions: np.ndarray                 # int64 (N,): the position in the list of each picture that has features
    names: list                           # of str: the whole list
    errors: dict                          # {position: message} of the pictures without features
    manifest: dict


def checked_contents(found: Contents, path: str | os.PathLike) -> Contents:
    """The Contents that were read from a file.  Raises FormatError if they break a rule."""
    values, positions, names, errors, manifest = found
    version = manifest.get("format"), manifest.get("version")
    if version != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {version}; expected {(FORMAT, VERSION)}")
    for key in ("model", "state", "pool"):
        if not isinstance(manifest.get(key), str):
            raise FormatError(f"{path}: the manifest's {key} is {manifest.get(key)!r}; expected a string")
    if values.dtype != np.float32 or values.ndim < 2 or len(values) != len(positions):
        raise FormatError(f"{path}: features are {values.dtype} {values.shape} for {len(positions):,} pictures; "
                          "expected float32, a row each")
    if sorted([*positions.tolist(), *errors]) != list(range(len(names))):
        raise FormatError(f"{path}: found {len(positions):,} features and {len(errors):,} errors; expected exactly one "
                          f"of either for each of {len(names):,} pictures")
    return found


def names_and_errors(path: str | os.PathLike) -> tuple[list, dict]:
    """The list of pictures in a file of JSON Lines, and {position: message} of those that failed."""
    names, errors = [], {}
    with open(path, encoding="ascii") as file:
        for row in map(json.loads, file):
            names.append(row["path"])
            if "error" in row:
                errors[row["position"]] = row["error"]
    return names, errors


def good_positions(names: Sized, errors: Container) -> np.ndarray:
    """The positions of the pictures that have features.  -> int64 (N,)"""
    return np.array([i for i in range(len(names)) if i not in errors], np.int64)
