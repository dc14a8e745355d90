"""Writes a feature file picture by picture.  An interrupted run can be continued.

While a run computes, its features are in the folder x.h5.part beside the file x.h5. The folder contains four files.
`features` contains float32 values, one picture after the other.
`rows.jsonl` contains a row for each picture. A row is written after the features of its picture.
`rows.jsonl.run.json` contains the identity of the run.
`manifest.json` contains the manifest, and is written when every picture has a row.

A folder with a manifest.json is finished. The feature file is written from a finished folder. The folder is
removed when the feature file is complete.

The function `start` decides which pictures a run must compute. The decision depends on the mode, and on the feature
file and the folder that already exist. There are three modes: replace, resume and append. Two runs count as the same
run if their identities are equal. If neither a file nor a folder exists, all pictures are computed.

In the mode `replace`, all pictures are computed, even if a file or a folder exists.

In the modes `resume` and `append`, the folder is examined before the file, because an interrupted append leaves both
the file and an unfinished folder. If the folder is finished, the feature file is written before anything else happens.

In the mode `resume`, an unfinished folder of the same run is continued, and the file is not examined. If there is no
unfinished folder and the file is from the same run, nothing is computed. If the unfinished folder or the examined file
is from another run, ValueError is raised.

In the mode `append`, the rows of an existing file are copied, and the new pictures are computed. If a value in the
manifest of the new features differs from the value in the manifest of the file, ValueError is raised. An unfinished
folder of the same run is continued. An unfinished folder of another run is removed. If a finished folder of the same
run existed, nothing is computed.

Only one process at a time may use the functions of this module for a feature file. If a second process is possible, the
caller must use these functions inside `with tensorfile.owned(path)`.
"""
import functools
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..batch import resume, rows
from ..batch.identity import refuse_other_run, run_identity
from ..batch.inputs import source_name
from ..batch.run import Row
from ..checkpoint import read_json
from ..tensorfile import FormatError, write_json
from . import contents, files

MODES = ("replace", "resume", "append")


class Start(NamedTuple):
    """Describes a run that begins: its pictures, and how many of them already have a row."""
    sources: list                         # the whole list: first the pictures in the file, then the new pictures
    run: dict                             # the identity of the run
    done: int = 0                         # the number of pictures that already have a row in the folder
    failed: int = 0                       # the number of failed pictures among these pictures
    finished: contents.Contents | None = None       # the Contents of the file, if nothing remains to be computed
    discarded: bool = False               # True if the folder of another run was removed
    repeated: tuple = ()                  # the paths of new pictures that the file already has


def start(path: str, sources: list, shape: tuple, manifest: dict, mode: str = "replace") -> Start:
    """Find the pictures that a run must compute, and prepare its folder.  The top of this file explains the rules.

    `sources` are the given pictures.
    `shape` is the shape of the features of one picture.
    `manifest` contains everything on which the features depend.
    `mode` is one of MODES.
    Raises ValueError if the run cannot continue the existing file or folder. Raises OSError if the folder cannot be
    written.
    """
    depends = {key: value for key, value in manifest.items() if key != "processor"}
    identity = functools.partial(run_identity, shape=list(shape), **depends)
    if mode == "resume":
        return _start_resume(path, sources, identity(sources))
    if mode == "append":
        return _start_append(path, sources, identity, manifest)
    run = identity(sources)
    return Start(sources, run, *begin_folder(path, run))


def _start_resume(path, sources, run):
    finish_folder(path)
    if os.path.exists(path) and not os.path.exists(folder_of(path)):
        found = files.contents(path)
        refuse_other_run(path, found.manifest.get("run", {}), run)
        return Start(sources, run, finished=found)
    return Start(sources, run, *continue_folder(path, run))


def _start_append(path, sources, identity, manifest):
    just_written = finish_folder(path)
    if just_written is not None:
        # If the same append was interrupted while it wrote the file, nothing remains to be computed.
        before = just_written.names[:len(just_written.names) - len(sources)]
        if identity([*before, *sources]) == just_written.manifest["run"]:
            return Start([*before, *sources], just_written.manifest["run"], finished=just_written)
    old, repeated = _contents_to_extend(path, manifest), ()
    if old is not None:
        known = {*old.names}
        repeated = tuple(name for name in sources if isinstance(name, str) and name in known)
        sources = [*old.names, *sources]
    run = identity(sources)
    same = _is_folder_of(path, run)
    discarded = not same and os.path.exists(folder_of(path))
    done, failed = continue_folder(path, run) if same else begin_folder(path, run)
    if old is not None and done < len(old.names):
        # The rows of the file are copied instead of computed, because their pictures may no longer exist.
        begin_folder(path, run)
        done, failed = _copy_rows(path, old)
    return Start(sources, run, done, failed, discarded=discarded, repeated=repeated)


def _contents_to_extend(path, manifest):
    """Return the Contents of the file, or None if no file exists.

    Raises ValueError if a value in `manifest` differs from the value in the manifest of the file.
    """
    if not os.path.exists(path):
        return None
    found = files.contents(path)
    other = [key for key in manifest if found.manifest.get(key) != manifest[key]]
    if other:
        raise ValueError(f"no features can be added to {path}, because its features were computed with another "
                         f"{', '.join(other)}")
    return found


def _copy_rows(path, found):
    """Copy the rows of a file into an empty folder.  Returns how many rows are copied, and how many have an error."""
    values = iter(found.values)
    with writer(path, found.values.shape[1:]) as write:
        for i, name in enumerate(found.names):
            if i in found.errors:
                write(Row(i, name, None, ValueError(found.errors[i])))
            else:
                write(Row(i, name, next(values), None))
    return len(found.names), len(found.errors)


# ---------------------------------------------------------------- the folder

def folder_of(path: str) -> str:
    """Return the folder in which an unfinished run keeps its features."""
    return f"{path}.part"


def _is_folder_of(path, run):
    """Return True if the folder exists and belongs to the given run."""
    name = f"{folder_of(path)}/rows.jsonl.run.json"
    return os.path.exists(name) and read_json(name) == run


def begin_folder(path: str, run: dict) -> tuple[int, int]:
    """Create an empty folder.  An existing folder is removed.

    Returns (0, 0): no picture has a row, and no picture failed.
    `run` is the identity of the run. `run["shape"]` is the shape of the features of one picture.
    """
    _remove(folder_of(path))
    return _open_folder(path, run, resume_rows=False)


def continue_folder(path: str, run: dict) -> tuple[int, int]:
    """Prepare an existing folder for further rows, or create the folder.

    Rows that may be incomplete are deleted, and their features are deleted too. Returns the number of pictures that
    have a row, and the number of pictures that failed. Raises ValueError if the folder belongs to another run, or if
    features are missing.
    """
    return _open_folder(path, run, resume_rows=True)


def _open_folder(path, run, resume_rows):
    folder = folder_of(path)
    os.makedirs(folder, exist_ok=True)
    done = resume.start_rows(f"{folder}/rows.jsonl", run, "jsonl", resume_rows)
    # Features without a complete row are deleted from the file.
    feature_bytes = (done.pictures - done.failed) * 4 * math.prod(run["shape"])
    for name, size in (("rows.jsonl", done.size), ("features", feature_bytes)):
        with open(f"{folder}/{name}", "ab") as file:
            if file.tell() < size:
                raise ValueError(f"{folder}/{name} has {file.tell():,} bytes; expected at least {size:,}. Remove the "
                                 f"folder {folder} to begin again.")
            file.truncate(size)
    return done.pictures, done.failed


@contextmanager
def writer(path: str, shape: tuple) -> Iterator[Callable[[Row], Row]]:
    """Return a context manager that yields a function.

    The function writes a Row into the folder, and returns the written Row.
    `shape` is the expected shape of every result. A Row with a result of another shape is replaced by a Row with an
    error.
    """
    folder = folder_of(path)
    with rows.path_in_errors(folder), open(f"{folder}/features", "ab") as values, \
            open(f"{folder}/rows.jsonl", "ab") as log:
        def write(row):
            row = with_shape(row, shape)
            if row.error is None:
                rows.write_flushed(values, np.ascontiguousarray(row.result, "<f4").tobytes())
            rows.write_flushed(log, rows.encoded_row(rows.row_fields(row), "jsonl"))
            return row
        yield write


def with_shape(row: Row, shape: tuple) -> Row:
    """Return the Row if its features have the given shape, otherwise return a Row with an error."""
    if row.error is not None or row.result.shape == shape:
        return row
    error = ValueError(f"{source_name(row.source)}: the features have the shape {row.result.shape}; expected {shape}. "
                       "Pictures of different sizes need pool='token' or pool='mean'.")
    return row._replace(result=None, error=error)


def finish(path: str, run: dict, manifest: dict) -> contents.Contents:
    """Write the feature file of a run whose pictures all have a row, and remove the folder."""
    write_json(f"{folder_of(path)}/manifest.json", {**manifest, "run": run})
    return _write_file(path)


def finish_folder(path: str) -> contents.Contents | None:
    """Write the feature file from a finished folder, and remove the folder.

    Returns the Contents of the file, or None if there is no finished folder.
    """
    return _write_file(path) if os.path.exists(f"{folder_of(path)}/manifest.json") else None


def _write_file(path):
    """Write the feature file from its folder, remove the folder, and return the Contents of the file."""
    folder = folder_of(path)
    manifest = read_json(f"{folder}/manifest.json")
    names, errors = contents.names_and_errors(f"{folder}/rows.jsonl")
    positions = contents.good_positions(names, errors)
    shape = (len(positions), *manifest["run"]["shape"])
    _check_folder(folder, len(names), manifest["run"]["pictures"], 4 * math.prod(shape))
    # An empty file cannot be mapped into memory.
    values = np.memmap(f"{folder}/features", "<f4", "r", shape=shape) if len(positions) else np.zeros(shape, np.float32)
    found = contents.Contents(values, positions, names, errors, manifest)
    files.write(path, found)
    _remove(folder)
    return found


def _check_folder(folder, rows, pictures, feature_bytes):
    """Raise FormatError if a finished folder does not contain the rows and the features of all pictures."""
    found = os.path.getsize(f"{folder}/features")
    if (rows, found) != (pictures, feature_bytes):
        raise FormatError(f"the folder {folder} contains {rows:,} rows and {found:,} bytes of features; expected "
                          f"{pictures:,} rows and {feature_bytes:,} bytes. Remove the folder to begin again.")


def _remove(folder):
    """Rename a folder, then remove it.  If the removal is interrupted, the incomplete folder has the new name."""
    gone = f"{folder}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, gone)
        shutil.rmtree(gone)
