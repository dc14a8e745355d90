"""The features of a list of pictures, on their way to a file.

While it runs, they lie in a folder beside that file, x.h5.part:

    features                float32, one picture after the other
    rows.jsonl              a row for each picture, written after its features: what it says is there
    rows.jsonl.run.json     what made them
    manifest.json           appears when every picture has its row: the file is to be written

A process that is killed leaves whole rows there, and `resume` goes on. At the end the file is written at once, and the
folder goes; `finished` does what is left of that where a process died in the middle of it.
"""
import os
import shutil
from contextlib import contextmanager

import numpy as np

from ..batch import resume, rows
from ..batch.inputs import source_name
from ..batch.run import Row
from ..checkpoint import read_json
from ..tensorfile import write_json
from . import contents, files


def complete(path, run):
    """The Contents of a file that this very run has already written; None where it has yet to.

    Raises ValueError for a file that another run has written.
    """
    if os.path.exists(part(path)) or not os.path.exists(path):
        return None
    found = files.contents(path)
    resume.refuse_other(path, found.manifest.get("run", {}), run)
    return found


def part(path):
    """The folder of what is not yet done."""
    return f"{path}.part"


def holds(path, run):
    """Whether the folder was begun by this very run."""
    name = f"{part(path)}/rows.jsonl.run.json"
    return os.path.exists(name) and read_json(name) == run


def begun(path, run, again=False):
    """Begin the folder, or with `again` find out where to go on.  -> how many pictures are done, how many failed

    run: its `resume.identity`, in which `shape` is that of a picture's features.
    """
    folder = part(path)
    if not again:
        _remove(folder)
    os.makedirs(folder, exist_ok=True)
    done, size, failed = resume.begun(f"{folder}/rows.jsonl", run, "jsonl", again)
    # Behind the last whole row may lie features whose row is torn.
    for name, length in (("rows.jsonl", size), ("features", (done - failed) * _bytes(run))):
        with open(f"{folder}/{name}", "ab") as file:
            if file.tell() < length:
                raise ValueError(f"{folder}/{name} has {file.tell():,} bytes; expected at least {length:,}; remove "
                                 f"{folder} to begin again")
            file.truncate(length)
    return done, failed


def seed(path, found):
    """Put what a file holds into the folder that was just begun, so that a longer list goes on from there.  -> how many
    pictures are done, how many failed"""
    good = iter(found.values)
    with writer(path, found.values.shape[1:]) as write:
        for i, name in enumerate(found.names):
            error = ValueError(found.errors[i]) if i in found.errors else None
            write(Row(i, name, None if error else next(good), error))
    return len(found.names), len(found.errors)


@contextmanager
def writer(path, shape):
    """A function that keeps a Row, whose result is features of one shape; an error where they have another."""
    names = f"{part(path)}/features", f"{part(path)}/rows.jsonl"
    with rows.told_where(part(path)), open(names[0], "ab") as values, open(names[1], "ab") as log:
        def write(row):
            row = checked(row, shape)
            if row.error is None:
                rows.put(values, np.ascontiguousarray(row.result, "<f4").tobytes())
            rows.put(log, rows.encoded(rows.identified(row), "jsonl"))
            return row
        yield write


def checked(row, shape):
    """The row, or one with an error where its features have another shape."""
    if row.error is not None or row.result.shape == shape:
        return row
    error = ValueError(f"{source_name(row.source)}: its features have the shape {row.result.shape}, others {shape}: "
                       "pictures of other sizes; pool them")
    return row._replace(result=None, error=error)


def finish(path, run, manifest):
    """Write the file, and remove the folder.  -> Contents"""
    write_json(f"{part(path)}/manifest.json", {**manifest, "run": run})
    return finished(path)


def finished(path):
    """Write the file of a folder in which every picture has its row, and remove the folder.  -> Contents; None where no
    such folder is left"""
    folder = part(path)
    if not os.path.exists(f"{folder}/manifest.json"):
        return None
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
    """Remove a folder, under another name: what is half removed must not be taken for what is half done."""
    gone = f"{folder}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    if os.path.exists(folder):
        os.rename(folder, gone)
        shutil.rmtree(gone)


def _bytes(run):
    return 4 * int(np.prod(run["shape"]))
