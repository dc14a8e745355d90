"""The command line: a file per verb.  `nphybrid`, or `python -m nphybrid`

A verb is a module of two functions: `add(verbs)` says what it can be asked, and `run(args)` does it and gives the exit
code. VERBS lists them as --help does; what several share is in common.py.

Data goes to stdout, everything else to stderr. Exit codes: 0 all good, 1 some inputs failed or the doctor found
something, 2 usage, 3 model or file refused, 130 interrupted. Nothing heavy is imported before a verb runs.
"""
import _thread
import argparse
import atexit
import contextlib
import gc
import io
import os
import select
import sys
import threading

from .. import __version__
from . import (bench, classify, compare, convert, doctor, embed, evaluate, explain, figures, inspect, probe, summary,
               trace, verify, warmup)

VERBS = (classify, embed, probe, evaluate, explain, figures, trace, convert, summary, inspect, verify, compare, bench,
         doctor, warmup)


def main(argv=None):
    """Run one verb.  -> exit code"""
    with _closed_streams_open():
        args = _parser().parse_args(argv)
        # Python would take all of Numba apart before it ends, which takes 0.25 s.
        atexit.register(gc.freeze)
        try:
            with _every_interrupt_counts():
                code = args.run(args)
                sys.stdout.flush()
                return code
        except KeyboardInterrupt:
            return 130
        except (ValueError, TypeError, OSError, ImportError) as error:
            if isinstance(error, BrokenPipeError) and _reader_left():
                return 0
            if args.debug:
                raise
            lost = isinstance(error, io.UnsupportedOperation) and not sys.stdout.writable()
            with contextlib.suppress(OSError):
                print(f"nphybrid: {'stdout is closed' if lost else error}", file=sys.stderr)
            return 3


def _reader_left():
    """Whether it is stdout that nobody reads any more, as after `| head`; then it leads nowhere from here on."""
    try:
        stdout = sys.stdout.fileno()
    except (OSError, ValueError):                           # a notebook's is no file
        return False
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(stdout, select.POLLOUT)
        if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            return False
    # Python would complain once more when it closes stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


@contextlib.contextmanager
def _closed_streams_open():
    """Standard streams that the caller closed, and Python left None, are open in the block: empty to read from, for
    errors a sink; what is written to stdout must not get lost, and is an error: io.UnsupportedOperation."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "w" if name == "stderr" else "r"))
    try:
        yield
    finally:
        for name in closed:
            setattr(sys, name, None)


@contextlib.contextmanager
def _every_interrupt_counts():
    """Ctrl-C that fell into a callback or a __del__, where Python prints and forgets it, comes once more."""
    hook, timers = sys.unraisablehook, []

    def again(found):
        if issubclass(found.exc_type, KeyboardInterrupt):
            # At once it would fall into the same callback.
            timers.append(threading.Timer(0.02, _thread.interrupt_main))
            timers[-1].start()
        else:
            hook(found)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if any(timer.is_alive() for timer in timers):
            for timer in timers:
                timer.cancel()
            raise KeyboardInterrupt


def _parser():
    parser = argparse.ArgumentParser(prog="nphybrid", description="The Hybrid Vision Transformer in NumPy and Numba.")
    parser.add_argument("--version", action="version", version=f"nphybrid {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for module in VERBS:
        verb = module.add(verbs)
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.set_defaults(run=module.run)
    return parser
