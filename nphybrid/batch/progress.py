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
                  quiet: bool = False, go_on: str = "") -> Iterator[Row]:
    """Yield the given rows unchanged.  Print the errors of the rows on stderr.

    If stderr is a terminal, a progress bar is also drawn.

    `total` is the number of all pictures, including the pictures of an earlier run.
    `done` is the number of pictures that an earlier run computed.
    `failed` is the number of pictures that failed in an earlier run.
    `line` says whether a bar may be drawn. It is False if the rows are printed on the same terminal.
    If `quiet` is True, nothing is printed.
    `go_on` says how an interrupted run is continued. A KeyboardInterrupt gets a message with the number of finished
    pictures and this text.
    """
    first, last, new = None, 0.0, 0
    drawn = line and not quiet and sys.stderr is not None and sys.stderr.isatty()
    try:
        if drawn and total:
            draw(progress_bar(done, total, failed=failed))
        for row in rows:
            if row.error and not quiet:
                write(f"{CLEAR if drawn else ''}nphybrid: {one_line(str(row.error))}\n")
            yield row
            now = time.monotonic()
            first = now if first is None else first
            new += 1
            failed += bool(row.error)
            if drawn and now - last >= INTERVAL:
                last = now
                draw(progress_bar(done + new, total, rate(new - 1, now - first), failed))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped after {done + new:,} of {total:,} pictures{go_on}") from None
    finally:
        if drawn:
            draw("")
    if failed and total > 1 and not quiet:
        write(f"nphybrid: {failed:,} of {done + new:,} pictures failed\n")


def rate(count: int, seconds: float) -> float | None:
    """Return how many of `count` things were done in a second.  In the first second, the result is None.

    The time before the first thing is not included in `seconds`, because kernels are then loaded or compiled.
    """
    return count / seconds if seconds >= 1 else None


def progress_bar(done: int, total: int, rate: float | None = None, failed: int = 0) -> str:
    """Return the text of the progress bar.

    The bar shows the number of finished pictures, the pictures per second, the remaining time, and the number of failed
    pictures. The speed and the time are left out if `rate` is None or 0.

    >>> progress_bar(1_500, 6_000, 12.5, 3)
    '1,500 of 6,000   25 % [#####...............]   12.5/s   6:00 left   3 failed'
    """
    filled = 20 * done // total
    bar = f"{done:,} of {total:,}   {100 * done // total} % [{'#' * filled}{'.' * (20 - filled)}]"
    if rate:
        left = int((total - done) / rate)
        hours, minutes = left // 3600, left // 60 % 60
        clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
        bar += f"   {rate:,.1f}/s   {clock} left"
    return bar + (f"   {failed:,} failed" if failed else "")


@contextlib.contextmanager
def status(text: str, quiet: bool = False) -> Iterator[None]:
    """During a `with` block, show a text in the place of the bar.  Nothing is shown if stderr is not a terminal."""
    drawn = not quiet and sys.stderr is not None and sys.stderr.isatty()
    if drawn:
        draw(text)
    try:
        yield
    finally:
        if drawn:
            draw("")


def draw(text: str) -> None:
    """Replace the bar by a text.  The text is cut, because CLEAR erases only one line."""
    write(CLEAR + text[:shutil.get_terminal_size().columns - 1])


def write(text: str) -> None:
    """Write a text to stderr.  If nothing can be written to stderr, the work still continues."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
