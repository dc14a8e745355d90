"""Strict JSON."""
import json
import math

from ..text import shortened
from .atomic import write_atomically
from .stored import FormatError, refusal

# Of a JSON document; Python's own limit depends on how deep the caller stands. Seen in model files: 5.
MAX_LEVELS = 64


def parse_json(data, path, what):
    """UTF-8 bytes -> JSON value; refuses duplicate keys, lone surrogates, and numbers that are not JSON's.

    Surprise: `json` keeps the last of two equal keys, accepts NaN, reads 1e999 as infinity and -0 as 0, and
    takes quadratic time for an integer of many digits.  What it can just read, nested, it may be unable to write.
    """
    def unique(pairs):
        document = dict(pairs)
        if len(document) < len(pairs):
            seen = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))
            raise refusal(path, f"{what} has a duplicate key", twice, "each key once")
        return document

    def refused(word):
        raise ValueError(f"the number {shortened(word)}")

    def integer(digits):
        return refused(digits) if digits == "-0" or len(digits) > 20 else int(digits)

    def real(digits):
        return refused(digits) if math.isinf(float(digits)) else float(digits)

    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=refused, parse_int=integer,
                           parse_float=real)
        # Half of a surrogate pair can only be written as an escape; it would fail later, in another place.
        if b"\\u" in data:
            json_bytes(value)
        if _levels(value) > MAX_LEVELS:
            raise RecursionError
        return value
    except FormatError:
        raise
    except UnicodeError as error:
        raise refusal(path, f"{what} is not valid UTF-8 ({error.reason})", data, "UTF-8 text") from None
    except RecursionError:
        raise refusal(path, f"{what} is nested too deeply", data, f"at most {MAX_LEVELS} levels") from None
    except ValueError as error:
        raise refusal(path, f"{what} is not valid JSON ({error})", data, "one JSON value") from None


def _levels(value):
    """How deep a JSON value is nested; one more than MAX_LEVELS is deep enough to know."""
    level, count = [value], 0
    while count <= MAX_LEVELS and (level := [node for node in level if isinstance(node, (dict, list))]):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
        count += 1
    return count


def json_bytes(value):
    """A JSON value as compact UTF-8, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def write_json(path, obj):
    """Writes one JSON value, indented and in UTF-8, all or nothing.

    Raises TypeError or ValueError for what JSON cannot hold, NaN included; the file is then untouched.

    >>> import tempfile
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
