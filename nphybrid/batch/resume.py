"""Continues a file of rows after an interrupted run.

A file of rows does not contain the settings of its run. A second file, FILE.run.json, contains the identity of the run,
as the module `identity` defines it. Each row contains the position of its picture in the list.

An interrupted file may lack some rows of its last picture. To be safe, all rows of the last picture are deleted, and
the run continues with this picture. In the finished file, no row is missing and no row is repeated, even if the first
run was killed.
"""
import csv
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from ..checkpoint import read_json
from ..tensorfile import FormatError, write_json
from .identity import refuse_other_run
from .rows import COLUMNS

FORMATS = ("jsonl", "csv")


class Done(NamedTuple):
    """Describes the rows of an interrupted file, without the rows of its last picture."""
    pictures: int                         # the number of pictures with these rows
    size: int                             # the size of these rows in bytes, including the CSV header
    failed: int                           # the number of these pictures that have an error


def start_rows(path: str | os.PathLike, run: dict, format: str, resume: bool = False,
               columns: Sequence[str] = COLUMNS) -> Done:
    """Create an empty file of rows.  With `resume`, find the complete rows of an existing file instead.

    `run` is the identity of the run. The identity is written to FILE.run.json before the first row is written.
    `columns` is the header of a CSV file.
    Raises ValueError if another run wrote the file. Raises the same errors as `complete_rows`.
    """
    # An empty file is not continued, because its run may have been killed before FILE.run.json was written.
    if resume and os.path.exists(path) and os.path.getsize(path):
        _check_run(path, run)
        return complete_rows(path, format, columns)
    # The file is emptied before FILE.run.json is written. Otherwise, a killed run could leave old rows beside the new
    # FILE.run.json.
    # If the path is a symbolic link, `open` keeps the link.
    open(path, "wb").close()
    write_json(f"{path}.run.json", run)
    return Done(0, 0, 0)


def is_continued(path: str | os.PathLike, run: dict) -> bool:
    """Return True if the same run already began to write the file.  `run` is the identity of the run.

    The file of such a run can still be empty. Raises ValueError or OSError if the file contains rows of another run.
    """
    if not os.path.exists(path):
        return False
    try:
        _check_run(path, run)
    except (OSError, ValueError):
        if os.path.getsize(path):
            raise
        return False
    return True


def _check_run(path, run):
    """Raise ValueError if the file was written for another list, with another model or with other options."""
    try:
        found = read_json(f"{path}.run.json")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} cannot be continued, because its settings file {path}.run.json does not "
                                "exist") from None
    refuse_other_run(path, found, run)


def complete_rows(path: str | os.PathLike, format: str, columns: Sequence[str] = COLUMNS) -> Done:
    """Find the pictures whose rows in an interrupted file are certainly complete.

    Raises FormatError if the pictures in the file do not have the positions 0, 1, 2 and so on. In a file that nphybrid
    wrote, the pictures always have these positions.
    """
    count = failed = 0
    before = Done(0, 0, 0)
    for row in _rows(path, format, columns):
        if row.position == count:
            before = Done(count, row.start, failed)
            count += 1
        failed += row.failed
    return before


def check_rows(path: str | os.PathLike, format: str, pictures: int, columns: Sequence[str] = COLUMNS) -> None:
    """Raise FormatError if a finished file does not contain the rows of the pictures 0 to `pictures` - 1, in order."""
    count = end = 0
    for row in _rows(path, format, columns):
        count, end = row.position + 1, row.end
    rest = os.path.getsize(path) - end if count else 0
    if count != pictures or rest:
        more = f" and {rest:,} more bytes" if rest else ""
        raise FormatError(f"{path}: found the rows of {count:,} pictures{more}; expected the rows of {pictures:,} "
                          "pictures")


class _Row(NamedTuple):
    """A complete row in a file."""
    start: int                            # the byte at which the row begins
    end: int                              # the byte at which the next row begins
    position: int                         # the position of the picture
    failed: bool                          # True if the row contains an error


def _rows(path, format, columns):
    """Yield a _Row for each complete row of a file.

    Raises FormatError if the pictures do not have the positions 0, 1, 2 and so on. In a CSV file, a picture may have
    several rows.
    """
    count = 0
    with open(path, "rb") as file:
        for row in _jsonl_rows(file, path) if format == "jsonl" else _csv_rows(file, path, columns):
            if row.position != count and not (format == "csv" and row.position == count - 1):
                raise FormatError(f"{path}: found a row of picture {row.position} at byte {row.start:,}; expected a "
                                  f"row of picture {count}")
            count = row.position + 1
            yield row


def _jsonl_rows(file, path):
    """Yield a _Row for each complete row of a JSON Lines file."""
    start = 0
    for line in file:
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
            yield _Row(start, start + len(line), row["position"], "error" in row)
        except (ValueError, LookupError, TypeError):
            raise FormatError(f"{path}: the row at byte {start:,} is not a row that nphybrid writes") from None
        start += len(line)


def _csv_rows(file, path, columns):
    """Yield a _Row for each complete row of a CSV file with the header `columns`."""
    start, record, is_header = 0, b"", True
    for line in file:
        record += line
        # If the number of quotes is odd, a field continues on the next line.
        if record.count(b'"') % 2 or not record.endswith(b"\n"):
            continue
        fields = _csv_fields(record)
        if is_header:
            valid = fields == list(columns)
        else:
            valid = len(fields) == len(columns) and fields[0].isdecimal()
        if not valid:
            raise FormatError(f"{path}: the row at byte {start:,} is not a row that nphybrid writes")
        if not is_header:
            yield _Row(start, start + len(record), int(fields[0]), bool(fields[-1]))
        start += len(record)
        record, is_header = b"", False


def _csv_fields(record):
    try:
        return next(csv.reader([record.decode("utf-8", "surrogateescape")]))
    except csv.Error:                     # a field has more than 131,072 characters
        return []
