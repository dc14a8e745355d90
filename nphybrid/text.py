"""Text for people: aligned tables, shapes, and text from files as one line that is safe on a terminal."""
import math
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any


def table(cells: Sequence[Sequence[str]], align: str) -> str:
    """Rows of strings as a text with aligned columns.  align: "<" or ">" for each column.

    >>> print(table([("state", "ms"), ("stem", "1.2")], "<>"))
    state   ms
    stem   1.2
    """
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = [f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def dimensions(shape: Iterable[int]) -> str:
    """A shape as text.

    >>> dimensions((1, 64, 64, 3)), dimensions(())
    ('1x64x64x3', '()')
    """
    return "x".join(map(str, shape)) or "()"


def json_number(value: float | None) -> float | str | None:
    """A number or None as JSON can hold it: infinity and NaN become strings.

    >>> json_number(0.5), json_number(math.inf)
    (0.5, 'inf')
    """
    return value if value is None or math.isfinite(value) else str(value)


def printable(text: str, limit: int = 200) -> str:
    """A text from a file as one line that is safe on a terminal: unchanged if it is, else escaped and shortened."""
    return text if len(text) <= limit and text.isprintable() else shortened(text)


def shortened(value: Any, limit: int = 120) -> str:
    """Any value as one short line of ASCII, which is safe on a terminal and cheap to make."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    shortener.maxlist = shortener.maxdict = 8
    # bytes are cut first, because reprlib would make the repr of all of them.
    text = shortener.repr(value[:limit] if isinstance(value, bytes) else value)
    return text.encode("ascii", "backslashreplace").decode()


def name_list(names: Iterable[str], limit: int = 8) -> str:
    """Sorted names for a message: the first few, then how many more there are.

    >>> name_list(["b", "a", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    ordered = sorted(names)
    text = ", ".join(shortened(name) for name in ordered[:limit])
    more = len(ordered) - limit
    return f"{text} and {more} more" if more > 0 else text
