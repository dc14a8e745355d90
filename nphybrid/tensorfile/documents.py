"""Reads and writes JSON strictly: every document that is read has only one meaning, and can be written."""

import json
import math
from typing import Any, NoReturn

from ..text import shortened
from .atomic import write_atomically
from .errors import FilePath, FormatError, refusal

# The largest number of nested levels of a document. Model files have at most 5 levels.
# Python's own limit depends on the number of function calls that are active.
MAX_LEVELS = 64
LONGEST_JSON = 100_000_000                # bytes of a JSON file, as of the header of a safetensors file


def parse_json(data: bytes, path: FilePath, what: str) -> Any:
    """Reads a JSON value from UTF-8 bytes.

    Raises FormatError for invalid JSON, for duplicate keys, for lone surrogates, for more than MAX_LEVELS levels, for
    NaN, infinite numbers and -0, and for integers of more than 20 characters. `what` is the name of the document in
    messages. Python's module `json` is not strict. It keeps the last of two equal keys, accepts NaN, and reads 1e999 as
    infinity and -0 as 0. It needs quadratic time for an integer of many digits. It can read a deeply nested value that
    it cannot write.
    """
    def unique(pairs):
        document = dict(pairs)
        if len(document) < len(pairs):
            keys = set()
            for key, _ in pairs:
                if key in keys:
                    raise refusal(path, f"{what} has a duplicate key", key, "each key once")
                keys.add(key)
        return document

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=_refuse_number, parse_int=_integer,
                           parse_float=_real)
        # `json_bytes` fails for a lone surrogate, which can be read but not written.
        if b"\\u" in data:
            json_bytes(value)
        if _levels(value) > MAX_LEVELS:
            raise RecursionError
        return value
    except FormatError:
        raise
    except UnicodeError as error:
        raise refusal(path, f"{what} is not valid UTF-8 ({error.reason})", data,        # type: ignore[attr-defined]
                      "UTF-8 text") from None
    except RecursionError:
        raise refusal(path, f"{what} is nested too deeply", data, f"at most {MAX_LEVELS} levels") from None
    except ValueError as error:
        raise refusal(path, f"{what} is not valid JSON ({error})", data, "one JSON value") from None


def json_bytes(value: Any) -> bytes:
    """Converts a JSON value to compact UTF-8.  The order of the keys does not change."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def document_bytes(document: Any, path: FilePath, key: str) -> bytes:
    """Converts a document of a file to JSON that `parse_json` accepts.  Raises FormatError for any other document."""
    try:
        text = json_bytes(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise refusal(path, f"document {key!r} cannot be written as JSON ({error})") from None
    parse_json(text, path, f"document {key!r}")
    return text


def write_json(path: FilePath, obj: Any) -> None:
    """Writes one JSON value to a file, indented and in UTF-8, completely or not at all.

    Raises TypeError or ValueError for a value that JSON cannot hold, such as NaN. The old file then does not change.

    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(folder + "/config.json", {"labels": ["chat", "forêt"]})
    ...     print(Path(folder, "config.json").read_text(encoding="utf-8"), end="")
    {
      "labels": [
        "chat",
        "forêt"
      ]
    }
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with write_atomically(path) as temporary:
        temporary.write_bytes(text.encode())


def _refuse_number(text: str) -> NoReturn:
    """Raises ValueError with a message about a number that `parse_json` refuses."""
    raise ValueError(f"the number {shortened(text)} is not allowed")


def _integer(digits: str) -> int:
    return _refuse_number(digits) if digits == "-0" or len(digits) > 20 else int(digits)


def _real(digits: str) -> float:
    return _refuse_number(digits) if math.isinf(float(digits)) else float(digits)


def _levels(value: Any) -> int:
    """Returns the number of nested levels of a JSON value.  Counting stops at MAX_LEVELS + 1."""
    level, count = [value], 0
    while count <= MAX_LEVELS and (level := [node for node in level if isinstance(node, (dict, list))]):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
        count += 1
    return count
