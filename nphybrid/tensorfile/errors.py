"""The one error of this package, and the message of each: where, which rule, what was found, what was expected."""

import os
from typing import Any

from ..text import shortened

FilePath = str | os.PathLike[str]


class FormatError(ValueError):
    """A file that breaks a rule of its format, or that is not a weight file.

    The message names the file, the tensor where there is one, the rule, what was found and what was expected.

    >>> print(refusal("model.safetensors", "does not fill its bytes", 12, 16, tensor="head.bias"))
    model.safetensors: tensor 'head.bias': does not fill its bytes: found 12, expected 16
    """


def refusal(path: FilePath, rule: str, found: Any = None, expected: Any = None, tensor: Any = None) -> FormatError:
    """A new FormatError for one broken rule; the value found is shortened and escaped.  The caller raises it."""
    where = f"{os.fspath(path)}: " + ("" if tensor is None else f"tensor {shortened(tensor)}: ")
    found = "" if found is None else f": found {shortened(found)}"
    expected = "" if expected is None else f", expected {expected}"
    return FormatError(where + rule + found + expected)


def name_trouble(name: Any) -> str | None:
    """Why a value cannot be the name of an array in any format, or None."""
    if not isinstance(name, str):
        return "a name must be a string"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "a name must be valid Unicode"
    return None
