r"""The row of a picture as text, JSON, JSON Lines or CSV: written as soon as it is known, and flushed.

    text    one picture: a line `label  score` for each label; several pictures: the path, or `path: error`, and below
            it the labels. For people. A name with line ends, control characters or bytes that are not UTF-8 is printed
            as $'…', like `ls` prints it, which a shell reads as the same name
    jsonl   an object a line: {"position": 0, "path": "a.jpg", "labels": [{"index": 3, "label": "cat", "score": 0.8}]}
            or {"position": 1, "path": "b.jpg", "error": "…"}
    json    the same objects as one array, which is complete even when the run is interrupted
    csv     RFC 4180 with line ends "\n", and a header: position,path,index,label,score,error. A row per label, or one
            row with the error

`position` counts from 0 in the list of pictures, `index` is the number of the class. The bytes of a path are preserved:

    JSON    is ASCII; a byte that is not UTF-8 is written \udcXX (PEP 383): os.fsencode(json.loads(line)["path"])
    CSV     contains the byte itself: os.fsencode of what the module csv reads from a file that is opened with
            encoding="utf-8", errors="surrogateescape", newline=""

A row does not depend on the other pictures, nor on the batch size.
"""
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from .inputs import source_name

COLUMNS = ("position", "path", "index", "label", "score", "error")
FORMATS = ("text", "json", "jsonl", "csv")


def labelled_fields(row: Any, config: Any, top_k: int = 5) -> dict:
    """What the formats write of a Row: the fields of `row_fields`, and labels unless there is an error.

    row: a `run.Row` whose result is logits (classes,). config: the model's configuration.

    >>> from nphybrid.batch.run import Row
    >>> labelled_fields(Row(7, "a.png", None, ValueError("a.png: is empty")), None)
    {'position': 7, 'path': 'a.png', 'error': 'a.png: is empty'}
    """
    from ..api.scores import best_classes
    fields = row_fields(row)
    if not row.error:
        fields["labels"] = [{"index": i, "label": config.id2label[i], "score": score}
                            for i, score in best_classes(row.result, config, top_k)]
    return fields


def row_fields(row: Any) -> dict:
    """The fields of every `run.Row`: position and path, and the error if there is one."""
    fields = {"position": row.position, "path": source_name(row.source)}
    if row.error:
        fields["error"] = str(row.error)
    return fields


@contextlib.contextmanager
def writer(path: str | os.PathLike | None, format: str, alone: bool = False, start: int = 0
           ) -> Iterator[Callable[[dict], None]]:
    """A context with a function that writes the fields of a row, and flushes them.

    path: a file, or None for stdout. alone: True for a single picture, whose path is left out of the text. start: the
    byte at which a file is continued; everything after it is cut off.

    >>> with writer(None, "csv") as write:
    ...     write({"position": 0, "path": 'a "b".png', "labels": [{"index": 3, "label": "cat", "score": 0.75}]})
    position,path,index,label,score,error
    0,"a ""b"".png",3,cat,0.75,
    """
    with contextlib.ExitStack() as stack:
        send = _to_stdout if path is None else partial(write_flushed, stack.enter_context(_open_at(path, start)))
        before_row = b"[\n" if format == "json" else b""

        def write(row):
            nonlocal before_row
            data = before_row + encoded_row(row, format, alone)
            before_row = b",\n" if format == "json" else b""
            send(data)

        if format == "csv" and not start:
            send(_csv_record(COLUMNS))
        try:
            yield write
        finally:
            if format == "json":
                send(b"[]\n" if before_row == b"[\n" else b"\n]\n")


def encoded_row(row: dict, format: str, alone: bool = False) -> bytes:
    """The fields of a row as the bytes of a format."""
    if format == "text":
        return _text(row, alone).encode("utf-8", "backslashreplace")
    if format == "json":
        return json.dumps(row).encode()
    if format == "jsonl":
        return json.dumps(row).encode() + b"\n"
    start = row["position"], row["path"]
    if "error" in row:
        return _csv_record((*start, "", "", "", row["error"]))
    return b"".join(_csv_record((*start, label["index"], label["label"], repr(label["score"]), ""))
                    for label in row["labels"])


def one_line(text: str) -> str:
    r"""Text as one line without control characters: unchanged if possible, otherwise quoted as a shell does.

    >>> print(one_line("a, b.png"), one_line("a\nb.png"), one_line("\udcff.png"))
    a, b.png $'a\nb.png' $'\xff.png'
    """
    if text.isprintable() and not text.startswith("$'"):
        return text
    short = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", "'": r"\'"}
    quoted = "".join(c if c.isprintable() and c not in short else short.get(c) or _escaped_bytes(c) for c in text)
    return f"$'{quoted}'"


def _escaped_bytes(character):
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _text(row, alone):
    if "error" in row:
        return "" if alone else f"{one_line(row['path'])}: error\n"
    names = [one_line(label["label"]) for label in row["labels"]]
    width = max(map(len, names), default=0)
    indent = "" if alone else "  "
    lines = [f"{indent}{name:{width}}  {label['score']:.4f}\n" for name, label in zip(names, row["labels"])]
    return "".join(lines if alone else [f"{one_line(row['path'])}\n", *lines])


def _csv_record(fields):
    """A row of CSV.  The module csv leaves a lone carriage return unquoted, and its reader then fails on it."""
    return (",".join(_csv_field(field) for field in fields) + "\n").encode("utf-8", "surrogateescape")


def _csv_field(value):
    text = value if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


@contextlib.contextmanager
def path_in_errors(path: str | os.PathLike) -> Iterator[None]:
    """A context that adds the path to an OSError without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


@contextlib.contextmanager
def _open_at(path, start):
    """A file open for writing at a byte; everything after it is cut off."""
    # Where a write failed, closing fails once more.
    with path_in_errors(path), open(path, "r+b" if start else "wb") as file:
        if start:
            file.truncate(start)
            file.seek(start)
        yield file


def _to_stdout(data):
    # In a Jupyter notebook stdout takes only text.
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        write_flushed(sys.stdout.buffer, data)
    else:
        print(data.decode("utf-8", "backslashreplace"), end="", flush=True)


def write_flushed(file: IO[bytes], data: bytes) -> None:
    """Write bytes and flush them."""
    file.write(data)
    file.flush()
