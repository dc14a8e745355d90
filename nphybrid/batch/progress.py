"""How many pictures are done: a progress bar on a terminal, nothing elsewhere; and errors on stderr."""
import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Iterator

from .rows import one_line
from .run import Row

INTERVAL = 0.1                            # seconds between two updates of the bar
CLEAR = "\r\x1b[K"                        # to the first column, and erase the line: ECMA-48, EL


def with_progress(rows: Iterable[Row], total: int, done: int = 0, failed: int = 0, line: bool = True,
                  quiet: bool = False) -> Iterator[Row]:
    """The same rows; meanwhile errors are printed on stderr, and a progress bar if that is a terminal.

    total: the number of pictures, including the `done` ones of an earlier run, of which `failed` failed. line: False
    for no bar, because the rows themselves are printed on the terminal. quiet: True for no output at all.
    """
    start, last, new = time.monotonic(), 0, 0
    drawn = line and not quiet and sys.stderr is not None and sys.stderr.isatty()
    try:
        for row in rows:
            if row.error and not quiet:
                _print(f"{CLEAR if drawn else ''}nphybrid: {one_line(str(row.error))}\n")
            yield row
            now = time.monotonic()
            new += 1
            failed += bool(row.error)
            if drawn and now - last >= INTERVAL:
                last = now
                _draw(progress_bar(done + new, total, new / max(now - start, 1e-9), failed))
    finally:
        if drawn:
            _draw("")
    if failed and total > 1 and not quiet:
        _print(f"nphybrid: {failed:,} of {done + new:,} pictures failed\n")


def progress_bar(done: int, total: int, rate: float, failed: int = 0) -> str:
    """The bar: how many pictures are done, how many a second, and how long the others will take.

    >>> progress_bar(1_500, 6_000, 12.5, 3)
    '1,500 of 6,000   25 % [#####...............]   12.5/s   6:00 left   3 failed'
    """
    filled = 20 * done // total
    left = int((total - done) / rate)
    hours, minutes = left // 3600, left // 60 % 60
    clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
    return (f"{done:,} of {total:,}   {100 * done // total} % [{'#' * filled}{'.' * (20 - filled)}]   {rate:,.1f}/s   "
            f"{clock} left" + (f"   {failed:,} failed" if failed else ""))


def _draw(text):
    # A line that wraps would not be erased.
    _print(CLEAR + text[:shutil.get_terminal_size().columns - 1])


def _print(text):
    # A closed or full stderr must not stop the rows.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
