"""The command line: a file per verb.  `nphybrid`, or `python -m nphybrid`

A verb is a module of two functions: `add(verbs)` says what it can be asked, and `run(args)` does it and gives the exit
code. VERBS lists them as --help does; what several share is in common.py.

Data goes to stdout, everything else to stderr. Exit codes: 0 all good, 1 some inputs failed or the doctor found
something, 2 usage, 3 model or file refused, 130 interrupted. Nothing heavy is imported before a verb runs.
"""
import argparse
import atexit
import contextlib
import gc
import io
import sys

from .. import __version__
from . import (bench, classify, compare, convert, doctor, embed, evaluate, explain, figures, inspect, probe, summary,
               trace, verify, warmup)
from .streams import _closed_streams_open, _every_interrupt_counts, _reader_left

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


def _parser():
    parser = argparse.ArgumentParser(prog="nphybrid", description="The Hybrid Vision Transformer in NumPy and Numba.")
    parser.add_argument("--version", action="version", version=f"nphybrid {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for module in VERBS:
        verb = module.add(verbs)
        verb.add_argument("--debug", action="store_true", help="show the traceback of an error")
        verb.set_defaults(run=module.run)
    return parser
