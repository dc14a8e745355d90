"""What a file of features holds, whatever its format."""
import json
from typing import NamedTuple

import numpy as np

from ..tensorfile import FormatError

FORMAT, VERSION = "nphybrid features", 1


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


def checked(found, path):
    """The Contents that a file of features was found to hold.  Raises FormatError where they break a rule."""
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


def names_and_errors(path):
    """What rows of JSON Lines say of a list.  -> list of str, {position: message}"""
    names, errors = [], {}
    with open(path, encoding="ascii") as file:
        for row in map(json.loads, file):
            names.append(row["path"])
            if "error" in row:
                errors[row["position"]] = row["error"]
    return names, errors


def good_positions(names, errors):
    """The positions of the pictures that could be read.  -> int64 (N,)"""
    return np.array([i for i in range(len(names)) if i not in errors], np.int64)
