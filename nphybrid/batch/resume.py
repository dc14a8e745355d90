"""Going on with an interrupted output, from the picture at which it stopped.

A file of rows does not say what made it. That stands beside it, in FILE.run.json: the SHA-256 of the list and of the
model, and every option on which a row depends. Rows carry their position. Whether the last picture has all of its rows
cannot be told, so the file is cut before them, torn or not, and goes on with that picture: no position is there twice,
and none is missing, wherever the run was killed.
"""
import csv
import hashlib
import json
import os

from ..checkpoint import read_json
from ..tensorfile import FormatError, write_json
from .rows import COLUMNS

FORMATS = ("jsonl", "csv")


def identity(sources, **options):
    """What rows depend on, as FILE.run.json holds it.  -> dict

    sources: the list. options: what else changes a row, as JSON holds it: first of all the SHA-256 of the model's file.
    """
    digest = hashlib.sha256()
    for source in sources:
        data = hashlib.sha256(source).digest() if isinstance(source, bytes) else os.fsencode(source)
        digest.update((b"-" if isinstance(source, bytes) else b"/") + data + b"\0")
    return {"format": "nphybrid run", "version": 1, "pictures": len(sources), "list": digest.hexdigest(),
            **options}


def begun(path, run, format, resume=False):
    """Begin a file, or with `resume` find out where to go on.  -> pictures, their bytes, and how many of them failed

    run: its identity, which is written before the first row. Raises ValueError for a file that something else made.
    """
    # An empty file has no row to go on with; its run may have been killed before it said what it is.
    if resume and os.path.exists(path) and os.path.getsize(path):
        check(path, run)
        return whole(path, format)
    # Emptied before its identity changes, so that old rows are never continued; a link stays one.
    open(path, "wb").close()
    write_json(f"{path}.run.json", run)
    return 0, 0, 0


def check(path, run):
    """Refuse to go on with a file that another list, model or option made.  Raises ValueError."""
    try:
        found = read_json(f"{path}.run.json")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} cannot be continued: there is no {path}.run.json, which says what made it"
                                ) from None
    refuse_other(path, found, run)


def refuse_other(path, found, run):
    """Raise ValueError that names what differs in two identities, of a file and of the run that is to go on."""
    other = sorted(key for key in {*found, *run} if found.get(key) != run.get(key))
    if other:
        raise ValueError(f"{path} cannot be continued: it was made with another " + ", ".join(
            f"{key} ({found.get(key)!r}, not {run.get(key)!r})" for key in other))


def whole(path, format):
    """What of an interrupted file can be told to be whole.  -> pictures, their bytes, and how many of them failed

    Raises FormatError where the positions do not count from 0 up: such rows are not ours.
    """
    count = failed = 0
    before = 0, 0, 0
    with open(path, "rb") as file:
        for start, position, error in (_jsonl if format == "jsonl" else _csv)(file, path):
            if position == count:
                before = count, start, failed
                count += 1
            elif position != count - 1:
                raise FormatError(f"{path}: at byte {start:,} is the row of picture {position}; expected {count}")
            failed += error
    return before


def _jsonl(file, path):
    start = 0
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            yield start, row["position"], "error" in row
        except (ValueError, LookupError, TypeError):
            raise FormatError(f"{path}: at byte {start:,} is no row of ours") from None
        start += len(line)


def _fields(record):
    try:
        return tuple(next(csv.reader([record.decode("utf-8", "surrogateescape")])))
    except csv.Error:                     # of more than 131,072 characters is no field
        return ()


def _csv(file, path):
    start, record, header = 0, b"", True
    for line in file:
        record += line
        # Quotes come in pairs, unless a field goes on in the next line.
        if record.count(b'"') % 2 or not record.endswith(b"\n"):
            continue
        fields = _fields(record)
        if not (fields == COLUMNS if header else len(fields) == len(COLUMNS) and fields[0].isdecimal()):
            raise FormatError(f"{path}: at byte {start:,} is no row of ours")
        if not header:
            yield start, int(fields[0]), bool(fields[-1])
        start, record, header = start + len(record), b"", False
