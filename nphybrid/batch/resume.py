"""How an interrupted file of rows is continued.

A file of rows does not contain what it was made from. That is in a file beside it, FILE.run.json: the SHA-256 of the
list and of the model, and every option on which a row depends (see `identity`). Each row contains its position.

Nothing shows whether the last picture in the file has all of its rows. So the file is cut off before the first row of
that picture, and continues with it: whenever the run was killed, each position is there once and none is missing.
"""
import csv
import json
import os
from typing import NamedTuple

from ..checkpoint import read_json
from ..tensorfile import FormatError, write_json
from .identity import refuse_other_run
from .rows import COLUMNS

FORMATS = ("jsonl", "csv")


class Done(NamedTuple):
    """What an interrupted file of rows contains, without its last picture."""
    pictures: int
    size: int                             # bytes
    failed: int                           # how many of the pictures have an error


def start_rows(path: str | os.PathLike, run: dict, format: str, resume: bool = False) -> Done:
    """Create an empty file of rows, or with `resume` continue one.

    run: its identity, which is written to FILE.run.json before the first row. Raises ValueError for a file that another
    run made, and what `complete_rows` raises.
    """
    # An empty file has no row to continue; its run may have been killed before it wrote its identity.
    if resume and os.path.exists(path) and os.path.getsize(path):
        _check_run(path, run)
        return complete_rows(path, format)
    # Emptied before its identity changes, so that old rows are never continued. Opening it keeps a symbolic link.
    open(path, "wb").close()
    write_json(f"{path}.run.json", run)
    return Done(0, 0, 0)


def _check_run(path, run):
    """Raise ValueError for a file that another list, model or option made."""
    try:
        found = read_json(f"{path}.run.json")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} cannot be continued: there is no {path}.run.json, which states what made it"
                                ) from None
    refuse_other_run(path, found, run)


def complete_rows(path: str | os.PathLike, format: str) -> Done:
    """How much of an interrupted file is certainly complete.

    Raises FormatError if the positions do not count up from 0: the file is not one of ours.
    """
    count = failed = 0
    before = Done(0, 0, 0)
    with open(path, "rb") as file:
        for start, position, error in (_jsonl_rows if format == "jsonl" else _csv_rows)(file, path):
            if position == count:
                before = Done(count, start, failed)
                count += 1
            elif position != count - 1:
                raise FormatError(f"{path}: expected the row of picture {count} at byte {start:,}, found that of "
                                  f"picture {position}")
            failed += error
    return before


def _jsonl_rows(file, path):
    """The first byte, the position, and whether there is an error, of each complete row of a JSON Lines file."""
    start = 0
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            yield start, row["position"], "error" in row
        except (ValueError, LookupError, TypeError):
            raise FormatError(f"{path}: expected at byte {start:,} a row that nphybrid wrote, found something else"
                              ) from None
        start += len(line)


def _csv_rows(file, path):
    """The first byte, the position, and whether there is an error, of each complete row of a CSV file."""
    start, record, is_header = 0, b"", True
    for line in file:
        record += line
        # Quotes come in pairs, unless a field continues in the next line.
        if record.count(b'"') % 2 or not record.endswith(b"\n"):
            continue
        fields = _csv_fields(record)
        if is_header:
            valid = fields == list(COLUMNS)
        else:
            valid = len(fields) == len(COLUMNS) and fields[0].isdecimal()
        if not valid:
            raise FormatError(f"{path}: expected at byte {start:,} a row that nphybrid wrote, found something else")
        if not is_header:
            yield start, int(fields[0]), bool(fields[-1])
        start += len(record)
        record, is_header = b"", False


def _csv_fields(record):
    try:
        return next(csv.reader([record.decode("utf-8", "surrogateescape")]))
    except csv.Error:                     # a field of more than 131,072 characters
        return []
