r"""Writes the row of a picture as text, JSON, JSON Lines or CSV.  Each row is written as soon as it is computed.

`text` is a format for people. A line of `text` contains a label and its score. If there are several pictures, the path
of each picture is printed above its labels, and a picture that failed has only the line `path: error`. If a single
picture failed, nothing is printed. A path with line ends, control characters or bytes that are not UTF-8 is printed in
the form $'…', which `ls` also prints. A shell reads this form as the original path.

`jsonl` writes one JSON object on each line:

    {"position": 0, "path": "a.jpg", "labels": [{"index": 3, "label": "cat", "score": 0.8}]}
    {"position": 1, "path": "b.jpg", "error": "…"}

`json` writes the objects of `jsonl` as one JSON array. If Ctrl-C or an error stops the run, the array is still closed,
so the output is valid JSON.

`csv` follows RFC 4180, except that each line ends in "\n". The CSV header is position,path,index,label,score,error.
In CSV, a picture has one row for each label. A picture without a label or with an error has one row. A wide CSV file
has one row for each picture. Its header is position,path,index_1,label_1,score_1,index_2,label_2,…,error. If copies of
the pictures are written, the columns copy and drawn before the column error have the paths of the copies.

`position` is the position of a picture in the list, counted from 0. `index` is the number of the class.

The bytes of a path are preserved in JSON and CSV. JSON files are ASCII. A byte that is not UTF-8 is written as \udcXX
(PEP 383). In Python, `os.fsencode(json.loads(line)["path"])` returns the bytes of the path. CSV files contain the bytes
of the path unchanged. To read a CSV file with the module csv, open the file with encoding="utf-8",
errors="surrogateescape", newline="". For a path from the CSV file, `os.fsencode(path)` returns the original bytes.

A row depends neither on the other pictures nor on the batch size.
"""
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any

from ..shortage import path_in_errors
from ..text import table
from .inputs import source_name

COLUMNS = ("position", "path", "index", "label", "score", "error")
FORMATS = ("text", "json", "jsonl", "csv")
SUFFIXES = {"": "text", ".txt": "text", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
NO_LABEL = "no label has a score that reaches the threshold"


def format_of(path: str | os.PathLike | None) -> str:
    """Return the format of an output file.  The suffix of its name decides.  stdout (None) has the format text.

    Raises ValueError for a suffix that is not in SUFFIXES.

    >>> format_of("labels.CSV"), format_of("labels"), format_of(None)
    ('csv', 'text', 'text')
    """
    suffix = "" if path is None else os.path.splitext(path)[1]
    if suffix.lower() not in SUFFIXES:
        known = ", ".join(filter(None, SUFFIXES))
        raise ValueError(f"the name of the output file {path} ends in {suffix}; expected {known}, or the option "
                         "--format")
    return SUFFIXES[suffix.lower()]


def columns(wide: int = 0, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the CSV header.  `wide` is the number of labels in each row of a wide CSV file, or 0 for other CSV files.

    `more` are the names of further columns, such as "copy".

    >>> columns(1, ["copy"])
    ('position', 'path', 'index_1', 'label_1', 'score_1', 'copy', 'error')
    """
    labels = [f"{field}_{i}" for i in range(1, wide + 1) for field in COLUMNS[2:5]] if wide else COLUMNS[2:5]
    return *COLUMNS[:2], *labels, *more, COLUMNS[-1]


def labelled_fields(row: Any, config: Any, top_k: int = 5, function_to_apply: str | None = None,
                    threshold: float | None = None) -> dict:
    """Return the fields of a Row as a dict: the fields of `row_fields`, and the labels if there is no error.

    `row` is a `run.Row` whose result contains the logits, with shape (classes,).
    `config` is the configuration of the model.
    `top_k` and `function_to_apply` are the arguments of `scores.best_classes`.
    `threshold` is the smallest score of a label in the result. With None, all labels are in the result.

    >>> from nphybrid.batch.run import Row
    >>> labelled_fields(Row(7, "a.png", None, ValueError("a.png: is empty")), None)
    {'position': 7, 'path': 'a.png', 'error': 'a.png: is empty'}
    """
    from ..api.scores import best_classes
    fields = row_fields(row)
    if not row.error:
        fields["labels"] = [{"index": i, "label": config.id2label[i], "score": score}
                            for i, score in best_classes(row.result, config, top_k, function_to_apply)
                            if threshold is None or score >= threshold]
    return fields


def row_fields(row: Any) -> dict:
    """Return the position and the path of a `run.Row`, and its error if there is one."""
    fields = {"position": row.position, "path": source_name(row.source)}
    if row.error:
        fields["error"] = str(row.error)
    return fields


@contextlib.contextmanager
def writer(path: str | os.PathLike | None, format: str, alone: bool = False, start: int = 0, wide: int = 0,
           more: Sequence[str] = ()) -> Iterator[Callable[[dict], None]]:
    """Return a context manager that yields a function.  The function writes the fields of a row, and flushes the file.

    `path` is the output file, or None for stdout.
    `alone` is True for a single picture. The format text does not print the path of a single picture.
    `start` is the byte at which an existing file is continued. Everything from this byte on is deleted.
    `wide` is the number of labels in each row of a wide CSV file, or 0.
    `more` are the names of further columns of a CSV file. A row that has no such field has an empty column.

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
            data = before_row + encoded_row(row, format, alone, wide, more)
            before_row = b",\n" if format == "json" else b""
            send(data)

        if format == "csv" and not start:
            send(_csv_record(columns(wide, more)))
        try:
            yield write
        finally:
            if format == "json":
                send(b"[]\n" if before_row == b"[\n" else b"\n]\n")


def encoded_row(row: dict, format: str, alone: bool = False, wide: int = 0, more: Sequence[str] = ()) -> bytes:
    """Encode the fields of a row in a format, and return the bytes.  The arguments are those of `writer`."""
    if format == "text":
        return _text(row, alone).encode("utf-8", "backslashreplace")
    if format == "json":
        return json.dumps(row).encode()
    if format == "jsonl":
        return json.dumps(row).encode() + b"\n"
    return _csv_rows(row, wide, more)


def _csv_rows(row, wide, more):
    """Encode the row or the rows of a picture in a CSV file."""
    start, end = (row["position"], row["path"]), [row.get(name, "") for name in (*more, "error")]
    labels = [(label["index"], label["label"], repr(label["score"])) for label in row.get("labels", ())]
    if wide:
        labels += [("", "", "")] * (wide - len(labels))
        return _csv_record((*start, *itertools.chain.from_iterable(labels), *end))
    return b"".join(_csv_record((*start, *label, *end)) for label in labels or [("", "", "")])


def one_line(text: str) -> str:
    r"""Return a text as one line without control characters.

    A text with characters that cannot be printed is quoted in the form $'…', which a shell can read.

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
    indent = "" if alone else "  "
    cells = [(one_line(label["label"]), f"{label['score']:.4f}") for label in row["labels"]]
    lines = [f"{indent}{line}\n" for line in (table(cells, "<<") if cells else NO_LABEL).split("\n")]
    return "".join(lines if alone else [f"{one_line(row['path'])}\n", *lines])


def _csv_record(fields):
    """Return a CSV row as bytes.

    The module csv is not used, because csv.reader fails on a carriage return that csv.writer wrote.
    """
    return (",".join(_csv_field(field) for field in fields) + "\n").encode("utf-8", "surrogateescape")


def _csv_field(value):
    text = value if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


@contextlib.contextmanager
def _open_at(path, start):
    """Return a context manager that opens a file for writing.  The bytes from `start` on are deleted."""
    # After a failed write, closing the file raises a second error. The path is added to both errors.
    with path_in_errors(path), open(path, "r+b" if start else "wb") as file:
        if start:
            file.truncate(start)
            file.seek(start)
        yield file


def _to_stdout(data):
    # In a Jupyter notebook, stdout accepts only text.
    with path_in_errors("stdout"):
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.flush()
            write_flushed(sys.stdout.buffer, data)
        else:
            print(data.decode("utf-8", "backslashreplace"), end="", flush=True)


def write_flushed(file: IO[bytes], data: bytes) -> None:
    """Write bytes to a file, and flush the file."""
    file.write(data)
    file.flush()
