"""What several rooms write for people: aligned tables, shapes, and text from a file on one safe line."""
import math
import reprlib


def table(cells, align):
    """Rows of strings as aligned columns.  align has "<" or ">" per column."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths)).rstrip()
                     for row in cells)


def dimensions(shape):
    """A shape as a table shows it: 1x64x64x3"""
    return "x".join(map(str, shape)) or "()"


def json_number(value):
    """A number, or None, as JSON can hold it: an infinity or NaN is a string there."""
    return value if value is None or math.isfinite(value) else str(value)


def printable(text, limit=200):
    """A text from a file as one line that is safe on a terminal: as it is, or escaped and shortened."""
    return text if len(text) <= limit and text.isprintable() else shortened(text)


def shortened(value, limit=120):
    """A value as one short line that is safe to print and cheap to make, whoever wrote it."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = shortener.maxlong = limit
    shortener.maxlist = shortener.maxdict = 8
    # Any other value goes through its whole repr first.
    text = shortener.repr(value[:limit] if isinstance(value, bytes) else value)
    return text.encode("ascii", "backslashreplace").decode()


def name_list(names, limit=8):
    """Names for a message: the first few, then how many more."""
    names = sorted(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shortened(name) for name in names[:limit]) + more
