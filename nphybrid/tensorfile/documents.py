"""Strict JSON: what is read has one meaning, and can be written again."""

import json
import math
from typing import Any, NoReturn

from ..text import shortened
from .atomic import write_atomically
from .errors import FilePath, FormatError, refusal

# Nested levels of a document; model files have at most 5. Python's own limit depends on how deep the caller is.
MAX_LEVELS = 64


def parse_json(data: bytes, path: FilePath, what: str) -> Any:
    """UTF-8 bytes -> JSON value; refuses duplicate keys, lone surrogates, and numbers that are not JSON's.

    what: the name of the document in messages. Surprise: `json` keeps the last of two equal keys, accepts NaN, reads
    1e999 as infinity and -0 as 0, takes quadratic time for an integer of many digits, and reads a value nested so
    deeply that it cannot write it.
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
        # Half of a surrogate pair can only be written as an escape; writing it would fail later, in another place.
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
    """A JSON value as compact UTF-8, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_json(path: FilePath, obj: Any) -> None:
    """Writes one JSON value, indented and in UTF-8, whole or not at all.

    Raises TypeError or ValueError for what JSON cannot hold, NaN included; the file then stays as it was.

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
    """Refuses a number that is not JSON's, or that is read as another one."""
    raise ValueError(f"the number {shortened(text)}")


def _integer(digits: str) -> int:
    return _refuse_number(digits) if digits == "-0" or len(digits) > 20 else int(digits)


def _real(digits: str) -> float:
    return _refuse_number(digits) if math.isinf(float(digits)) else float(digits)


def _levels(value: Any) -> int:
    """How deep a JSON value is nested; counting stops at MAX_LEVELS + 1."""
    level, count = [value], 0
    while count <= MAX_LEVELS and (level := [node for node in level if isinstance(node, (dict, list))]):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
        count += 1
    return count
