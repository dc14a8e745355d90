r"""What became of a picture, as text, JSON, JSON Lines or CSV: written as it comes, and flushed.

    text    one picture: a line `label  score` each; several: the path, or `path: error`, and under it the labels.
            For people. A name with line ends, control characters or bytes that are no UTF-8 is shown as $'…', as `ls`
            shows it, and a shell takes that back
    jsonl   an object a line: {"position": 0, "path": "a.jpg", "labels": [{"index": 3, "label": "cat", "score": 0.8}]}
            or {"position": 1, "path": "b.jpg", "error": "…"}
    json    the same objects as one array, which is whole even when the run is interrupted
    csv     RFC 4180 with line ends "\n", and a header: position,path,index,label,score,error. A row per label, or one
            with the error

position counts from 0 in the list of pictures, index is the class's number. Bytes of a path come back exactly:

    JSON    is ASCII; a byte that is no UTF-8 is written \udcXX (PEP 383): os.fsencode(json.loads(line)["path"])
    CSV     holds the byte itself: os.fsencode of what the module csv reads from a file that is opened with
            encoding="utf-8", errors="surrogateescape", newline=""

A row says the same thing in a run of any batch size: nothing in it depends on the others.
"""
import contextlib
import json
import sys
from functools import partial

from .inputs import source_name

COLUMNS = ("position", "path", "index", "label", "score", "error")
FORMATS = ("text", "json", "jsonl", "csv")


def labelled(row, config, top_k=5):
    """A Row whose result is logits (classes,), as what the formats write.  -> dict

    >>> from nphybrid.batch.run import Row
    >>> labelled(Row(7, "a.png", None, ValueError("a.png: is empty")), None)
    {'position': 7, 'path': 'a.png', 'error': 'a.png: is empty'}
    """
    from ..api.scores import best_classes
    answer = {} if row.error else {"labels": [
        {"index": i, "label": config.id2label[i], "score": score} for i, score in best_classes(row.result, config, top_k)]}
    return identified(row) | answer


def identified(row):
    """What every row has: position and path, and an error where there is one.  Row -> dict"""
    return {"position": row.position, "path": source_name(row.source)} | ({"error": str(row.error)} if row.error else {})


@contextlib.contextmanager
def writer(path, format, alone=False, start=0):
    """A function that writes a row, as bytes, at once.

    path: a file, or None for stdout. alone: of the only picture, text says no path. start: where a file goes on, in
    bytes; what it holds behind that is cut off.

    >>> with writer(None, "csv") as write:
    ...     write({"position": 0, "path": 'a "b".png', "labels": [{"index": 3, "label": "cat", "score": 0.75}]})
    position,path,index,label,score,error
    0,"a ""b"".png",3,cat,0.75,
    """
    with contextlib.ExitStack() as stack:
        send = _to_stdout if path is None else partial(put, stack.enter_context(_at(path, start)))
        between = b"[\n" if format == "json" else b""

        def write(row):
            nonlocal between
            data = between + encoded(row, format, alone)
            between = b",\n" if format == "json" else b""
            send(data)

        if format == "csv" and not start:
            send(_record(COLUMNS))
        try:
            yield write
        finally:
            if format == "json":
                send(b"[]\n" if between == b"[\n" else b"\n]\n")


def encoded(row, format, alone=False):
    """A row as the bytes of a format."""
    if format == "text":
        return _text(row, alone).encode("utf-8", "backslashreplace")
    if format == "json":
        return json.dumps(row).encode()
    if format == "jsonl":
        return json.dumps(row).encode() + b"\n"
    start = row["position"], row["path"]
    if "error" in row:
        return _record((*start, "", "", "", row["error"]))
    return b"".join(_record((*start, label["index"], label["label"], repr(label["score"]), ""))
                    for label in row["labels"])


def shown(text):
    r"""Text on one line, which a terminal cannot take for a command; else as a shell quotes it.

    >>> print(shown("a, b.png"), shown("a\nb.png"), shown("\udcff.png"))
    a, b.png $'a\nb.png' $'\xff.png'
    """
    if text.isprintable() and not text.startswith("$'"):
        return text
    short = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", "'": r"\'"}
    quoted = "".join(c if c.isprintable() and c not in short else short.get(c) or _octets(c) for c in text)
    return f"$'{quoted}'"


def _octets(character):
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _text(row, alone):
    if "error" in row:
        return "" if alone else f"{shown(row['path'])}: error\n"
    names = [shown(label["label"]) for label in row["labels"]]
    width = max(map(len, names), default=0)
    lines = [f"{'' if alone else '  '}{name:{width}}  {label['score']:.4f}\n"
             for name, label in zip(names, row["labels"])]
    return "".join(lines if alone else [f"{shown(row['path'])}\n", *lines])


def _record(fields):
    """A row of CSV.  The module csv leaves a lone carriage return bare, at which its reader then stumbles."""
    return (",".join(_field(field) for field in fields) + "\n").encode("utf-8", "surrogateescape")


def _field(value):
    text = value if isinstance(value, str) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


@contextlib.contextmanager
def told_where(path):
    """An OSError of the block, such as that of a full disk, names the path."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = path
        raise


@contextlib.contextmanager
def _at(path, start):
    """A file open for writing at a byte, with nothing behind it."""
    # Where a write failed, closing fails once more.
    with told_where(path), open(path, "r+b" if start else "wb") as file:
        if start:
            file.truncate(start)
            file.seek(start)
        yield file


def _to_stdout(data):
    # In a notebook stdout takes text only.
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        put(sys.stdout.buffer, data)
    else:
        print(data.decode("utf-8", "backslashreplace"), end="", flush=True)


def put(file, data):
    """Write bytes, at once."""
    file.write(data)
    file.flush()
