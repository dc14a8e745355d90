"""Prints the errors of pictures on stderr.  If stderr is a terminal, a progress bar is also drawn."""
import contextlib
import shutil
import sys
import time
from collections.abc import Iterable, Iterator

from .rows import one_line
from .run import Row

INTERVAL = 0.1                            # seconds between two updates of the bar
CLEAR = "\r\x1b[K"                        # move to the first column, and erase the line (ECMA-48, EL)


def with_progress(rows: Iterable[Row], total: int, done: int = 0, failed: int = 0, line: bool = True,
                  quiet: bool = False) -> Iterator[Row]:
    """Yield the given rows unchanged.  Print the errors of the rows on stderr.

    If stderr is a terminal, a progress bar is also drawn.

    `total` is the number of all pictures, including the pictures of an earlier run.
    `done` is the number of pictures that an earlier run computed.
    `failed` is the number of pictures that failed in an earlier run.
    `line` says whether a bar may be drawn. It is False if the rows are printed on the same terminal.
    If `quiet` is True, nothing is printed.
    """
    start, last, new = time.monotonic(), 0, 0
    drawn = line and not quiet and sys.stderr is not None and sys.stderr.isatty()
    try:
        for row in rows:
            if row.error and not quiet:
                write(f"{CLEAR if drawn else ''}nphybrid: {one_line(str(row.error))}\n")
            yield row
            now = time.monotonic()
            new += 1
            failed += bool(row.error)
            if drawn and now - last >= INTERVAL:
                last = now
                draw(progress_bar(done + new, total, new / max(now - start, 1e-9), failed))
    finally:
        if drawn:
            draw("")
    if failed and total > 1 and not quiet:
        write(f"nphybrid: {failed:,} of {done + new:,} pictures failed\n")


def progress_bar(done: int, total: int, rate: float, failed: int = 0) -> str:
    """Return the text of the progress bar.

    The bar shows the number of finished pictures, the pictures per second, the remaining time, and the number of failed
    pictures.

    >>> progress_bar(1_500, 6_000, 12.5, 3)
    '1,500 of 6,000   25 % [#####...............]   12.5/s   6:00 left   3 failed'
    """
    filled = 20 * done // total
    left = int((total - done) / rate)
    hours, minutes = left // 3600, left // 60 % 60
    clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
    return (f"{done:,} of {total:,}   {100 * done // total} % [{'#' * filled}{'.' * (20 - filled)}]   {rate:,.1f}/s   "
            f"{clock} left" + (f"   {failed:,} failed" if failed else ""))


def draw(text: str) -> None:
    """Replace the bar by a text.  The text is cut, because CLEAR erases only one line."""
    write(CLEAR + text[:shutil.get_terminal_size().columns - 1])


def write(text: str) -> None:
    """Write a text to stderr.  If nothing can be written to stderr, the work still continues."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
