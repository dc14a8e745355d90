"""The command line: a file per verb.  `nphybrid`, or `python -m nphybrid`

A verb is a module of two functions: `add(verbs)` says what it can be asked, and `run(args)` does it and gives the exit
code. VERBS lists them as --help does; what several share is in common.py.

Data goes to stdout, everything else to stderr. Exit codes: 0 all good, 1 some inputs failed or the doctor found
something, 2 usage, 3 model or file refused, 130 interrupted. Nothing heavy is imported before a verb runs.
"""
import argparse
import atexit
import gc
import os
import sys

from .. import __version__
from . import (bench, classify, compare, convert, doctor, embed, evaluate, explain, figures, inspect, probe, summary,
               trace, verify, warmup)

VERBS = (classify, embed, probe, evaluate, explain, figures, trace, convert, summary, inspect, verify, compare, bench,
         doctor, warmup)


def main(argv=None):
    """Run one verb.  -> exit code"""
    args = _parser().parse_args(argv)
    # Python would take all of Numba apart before it ends, which takes 0.25 s.
    atexit.register(gc.freeze)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader left, as `head` does. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError) as error:
        if args.debug:
            raise
        print(f"nphybrid: {error}", file=sys.stderr)
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
