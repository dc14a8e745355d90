"""The error for files that break a rule, and its message: the place, the rule, what was found, what was expected."""

import os
from typing import Any

from ..text import shortened

FilePath = str | os.PathLike[str]


class FormatError(ValueError):
    """The error for a file that breaks a rule of its format, or that is not a weight file.

    The message states the file, the tensor if there is one, the rule, the value that was found, and the value that was
    expected.

    >>> print(refusal("model.safetensors", "does not fill its bytes", 12, 16, tensor="head.bias"))
    model.safetensors: tensor 'head.bias': does not fill its bytes: found 12, expected 16
    """


def refusal(path: FilePath, rule: str, found: Any = None, expected: Any = None, tensor: Any = None) -> FormatError:
    """Returns a FormatError for one broken rule.  The caller raises the error.

    The value that was found is shortened and escaped in the message.
    """
    where = f"{os.fspath(path)}: " + ("" if tensor is None else f"tensor {shortened(tensor)}: ")
    found = "" if found is None else f": found {shortened(found)}"
    expected = "" if expected is None else f", expected {expected}"
    return FormatError(where + rule + found + expected)


def refuse_empty(path: FilePath) -> None:
    """Raises ValueError for an empty path.  Without this check, "" would mean the working folder.

    >>> refuse_empty("")
    Traceback (most recent call last):
    ...
    ValueError: found an empty path; expected the path of a file or folder
    """
    if not os.fspath(path):
        raise ValueError("found an empty path; expected the path of a file or folder")


def name_trouble(name: Any) -> str | None:
    """Returns the reason why no format can use this value as the name of an array; None if there is no reason."""
    if not isinstance(name, str):
        return "a name must be a string"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "a name must be valid Unicode"
    return None
