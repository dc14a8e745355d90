"""How many pictures are done: a line on a terminal, and nothing elsewhere."""
import contextlib
import shutil
import sys
import time

from .rows import shown

EVERY = 0.1                               # seconds between two looks of the line
CLEAR = "\r\x1b[K"                        # to the first column, and erase the line: ECMA-48, EL


def watched(rows, total, done=0, failed=0, line=True, quiet=False):
    """The same rows; meanwhile each error goes to stderr, and on a terminal a line says how far they are.

    rows: an iterator of Row. total: how many there are with the `done` that are not among them, `failed` of which
    failed. line: False where the rows themselves appear on the terminal. quiet: no word at all.
    """
    start, last, new = time.monotonic(), 0, 0
    drawn = line and not quiet and sys.stderr is not None and sys.stderr.isatty()
    try:
        for row in rows:
            if row.error and not quiet:
                _say(f"{CLEAR if drawn else ''}nphybrid: {shown(str(row.error))}\n")
            yield row
            new, failed, now = new + 1, failed + bool(row.error), time.monotonic()
            if drawn and now - last >= EVERY:
                last = now
                _draw(told(done + new, total, new / max(now - start, 1e-9), failed))
    finally:
        if drawn:
            _draw("")
    if failed and total > 1 and not quiet:
        _say(f"nphybrid: {failed:,} of {done + new:,} pictures failed\n")


def told(done, total, rate, failed=0):
    """The line: how many are done, at how many a second, and how long the others will take.

    >>> told(1_500, 6_000, 12.5, 3)
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
    _say(CLEAR + text[:shutil.get_terminal_size().columns - 1])


def _say(text):
    # Who no longer reads what failed shall not stop the rows.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
