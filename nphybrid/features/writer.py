"""How a file of features is written, picture by picture, so that an interrupted run can be continued.

While a run computes, its features are in a folder beside the file, x.h5.part:

    features                float32, one picture after the other
    rows.jsonl              a row for each picture, written after its features
    rows.jsonl.run.json     the identity of the run
    manifest.json           written when every picture has its row; then only the file has to be written

At the end the file is written and the folder is removed. `start` decides by what is on the disk what a run has to do:

    on the disk             replace          resume                             append
    nothing                 compute all      compute all                        compute all
    a file                  compute all      the same run: nothing is left      copy its rows, compute the others
                                             another run: ValueError            other features: ValueError
    an unfinished folder    compute all      the same run: compute the rest     the same run: compute the rest
                                             another run: ValueError            another run: discard the folder
    a finished folder       compute all      write the file, then as "a file"   write the file; the same run: nothing
                                                                                is left, another: as "a file"

A folder is looked at before a file. A file and an unfinished folder are both there while an append is interrupted.
"""
import functools
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
from ..tensorfile import write_json
from . import contents, files

MODES = ("replace", "resume", "append")


class Start(NamedTuple):
    """What a run has to do."""
    sources: list                         # the whole list: the pictures that the file already has, then the new ones
    run: dict                             # the identity of the run
    done: int = 0                         # how many pictures already have their row in the folder
    failed: int = 0                       # how many of these failed
    finished: contents.Contents | None = None       # the file, if nothing is left to compute
    discarded: bool = False               # whether the folder of another run was removed


def start(path: str, sources: list, shape: tuple, manifest: dict, mode: str = "replace") -> Start:
    """What a run has to do, by what is on the disk; its folder then exists.

    sources: the pictures that were given. shape: that of a picture's features. manifest: what the features depend on.
    mode: one of MODES, see above. Raises ValueError for a file or folder that the run cannot continue, OSError.
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
        # An append that was interrupted in its last step, if it is given again.
        before = just_written.names[:len(just_written.names) - len(sources)]
        if identity([*before, *sources]) == just_written.manifest["run"]:
            return Start([*before, *sources], just_written.manifest["run"], finished=just_written)
    old = _contents_to_extend(path, manifest)
    if old is not None:
        sources = [*old.names, *sources]
    run = identity(sources)
    same = _is_folder_of(path, run)
    discarded = not same and os.path.exists(folder_of(path))
    done, failed = continue_folder(path, run) if same else begin_folder(path, run)
    if old is not None and done < len(old.names):
        # All rows of the file are copied again, because its pictures may no longer exist.
        begin_folder(path, run)
        done, failed = _copy_rows(path, old)
    return Start(sources, run, done, failed, discarded=discarded)


def _contents_to_extend(path, manifest):
    """The Contents of the file, or None if there is none.  Raises ValueError if its features depend on other things."""
    if not os.path.exists(path):
        return None
    found = files.contents(path)
    other = [key for key in manifest if found.manifest.get(key) != manifest[key]]
    if other:
        raise ValueError(f"{path} holds features of another {', '.join(other)}; it cannot be added to")
    return found


def _copy_rows(path, found):
    """Copy the rows of a file into the folder that was just begun.  -> how many pictures are done, how many failed"""
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
    """The folder of a run that is not finished."""
    return f"{path}.part"


def _is_folder_of(path, run):
    """Whether the folder exists and is that of this run."""
    name = f"{folder_of(path)}/rows.jsonl.run.json"
    return os.path.exists(name) and read_json(name) == run


def begin_folder(path: str, run: dict) -> tuple[int, int]:
    """Make the folder; one that exists is removed.  -> 0 pictures done, 0 failed

    run: the identity of the run, in which `shape` is that of a picture's features.
    """
    _remove(folder_of(path))
    return _open_folder(path, run, resume_rows=False)


def continue_folder(path: str, run: dict) -> tuple[int, int]:
    """Cut the folder off after its last complete row; make it if there is none.  -> how many pictures are done, failed

    Raises ValueError for the folder of another run, and for one that lost features.
    """
    return _open_folder(path, run, resume_rows=True)


def _open_folder(path, run, resume_rows):
    folder = folder_of(path)
    os.makedirs(folder, exist_ok=True)
    done = resume.start_rows(f"{folder}/rows.jsonl", run, "jsonl", resume_rows)
    # After those of the last complete row there may be features whose row is incomplete.
    feature_bytes = (done.pictures - done.failed) * 4 * int(np.prod(run["shape"]))
    for name, size in (("rows.jsonl", done.size), ("features", feature_bytes)):
        with open(f"{folder}/{name}", "ab") as file:
            if file.tell() < size:
                raise ValueError(f"{folder}/{name} has {file.tell():,} bytes; expected at least {size:,}; remove "
                                 f"{folder} to begin again")
            file.truncate(size)
    return done.pictures, done.failed


@contextmanager
def writer(path: str, shape: tuple) -> Iterator[Callable[[Row], Row]]:
    """A context with a function that writes a Row into the folder, and returns it.

    shape: that of the result of every Row. A Row with a result of another shape is written as an error.
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
    """The Row, or one with an error if its features have another shape."""
    if row.error is not None or row.result.shape == shape:
        return row
    error = ValueError(f"{source_name(row.source)}: its features have the shape {row.result.shape}, others {shape}, "
                       "because the pictures have different sizes; pool them")
    return row._replace(result=None, error=error)


def finish(path: str, run: dict, manifest: dict) -> contents.Contents:
    """Write the file of a run whose pictures all have their row, and remove its folder."""
    write_json(f"{folder_of(path)}/manifest.json", {**manifest, "run": run})
    return _write_file(path)


def finish_folder(path: str) -> contents.Contents | None:
    """Write the file of a finished folder, and remove the folder.  -> what was written; None without such a folder"""
    return _write_file(path) if os.path.exists(f"{folder_of(path)}/manifest.json") else None


def _write_file(path):
    """Write the file from its folder, in which every picture has its row, and remove the folder.  -> Contents"""
    folder = folder_of(path)
    manifest = read_json(f"{folder}/manifest.json")
    names, errors = contents.names_and_errors(f"{folder}/rows.jsonl")
    positions = contents.good_positions(names, errors)
    shape = (len(positions), *manifest["run"]["shape"])
    # A file without bytes cannot be mapped.
    values = np.memmap(f"{folder}/features", "<f4", "r", shape=shape) if len(positions) else np.zeros(shape, np.float32)
    found = contents.Contents(values, positions, names, errors, manifest)
    files.write(path, found)
    _remove(folder)
    return found


def _remove(folder):
    """Rename a folder and remove it, so that a partly removed folder is never taken for an unfinished one."""
    gone = f"{folder}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, gone)
        shutil.rmtree(gone)
