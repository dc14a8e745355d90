"""The command line: `nphybrid VERB …`, or `python -m nphybrid VERB …`.

VERB is a subcommand, such as `classify`, and has a module here with two functions. `add(verb)` gives the verb's parser
its description, options and examples; `run(args)` does the work and returns the exit code. A module is imported only
when its verb is parsed, and it imports NumPy, Numba, h5py and Pillow only in `run`. What several verbs share is in
options, loading, targets and streams.

Data goes to stdout, everything else to stderr.
"""
import argparse
import atexit
import contextlib
import gc
import importlib
import io
import sys

from .. import __version__
from . import streams

# Each verb, in the order of --help, with its line there.
VERBS = {
    "classify": "print the labels of pictures",
    "embed": "write the features of pictures to a file",
    "probe": "fit a classifier of your own classes to features",
    "evaluate": "measure the accuracy of a model on pictures of known classes",
    "explain": "write an interactive page about the forward pass of a picture",
    "figures": "draw one figure at print quality",
    "trace": "print every state of the forward pass of a picture: mean, rms, share of the time",
    "convert": "write a model in another format",
    "summary": "print the shapes, parameters and multiply-adds of a model",
    "inspect": "print what a model file holds: tensors, checksums, whose names",
    "verify": "recompute the checksums and the logits that an .h5 file stores",
    "compare": "print which states of two models or two traces differ",
    "bench": "measure the speed and the memory of a model",
    "doctor": "print what is installed and chosen on this computer, and every problem",
    "warmup": "compile every kernel now",
}

EPILOG = """\
`nphybrid VERB --help` lists the options of a verb.

exit codes:
  0    everything succeeded
  1    some inputs failed, a check failed, or `doctor` found a problem
  2    the command line is wrong
  3    a model or a file was refused
  130  interrupted by Ctrl-C
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb.  -> exit code"""
    with streams.reopen_closed_streams():
        args = make_parser().parse_args(argv)
        # Without this, Python takes all of Numba apart before it ends, which takes 0.25 s.
        atexit.register(gc.freeze)
        try:
            with streams.repeat_lost_interrupts():
                code = args.run(args)
                sys.stdout.flush()
                return code
        except KeyboardInterrupt:
            return 130
        except (ValueError, TypeError, OSError, ImportError) as error:
            if isinstance(error, BrokenPipeError) and streams.stdout_reader_left():
                return 0
            if args.debug:
                raise
            closed = isinstance(error, io.UnsupportedOperation) and not sys.stdout.writable()
            with contextlib.suppress(OSError):
                print(f"nphybrid: {'stdout is closed' if closed else error}", file=sys.stderr)
            return 3


class _VerbParser(argparse.ArgumentParser):
    """The parser of one verb, which gets its options when it first parses."""

    def __init__(self, verb, **options):
        super().__init__(**options)
        self.verb = verb

    def parse_known_args(self, *args, **options):
        """As in argparse."""
        import shutil
        import textwrap
        module = importlib.import_module(f".{self.verb}", __name__)
        module.add(self)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.set_defaults(run=module.run)
        # The formatter prints descriptions and examples as they are.
        width = max(shutil.get_terminal_size().columns - 2, 11)
        self.description = textwrap.fill(self.description or "", width)
        return super().parse_known_args(*args, **options)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="nphybrid", description="The Hybrid Vision Transformer in NumPy and Numba.",
                                     epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"nphybrid {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_VerbParser)
    for name, line in VERBS.items():
        verbs.add_parser(name, help=line, verb=name, formatter_class=raw)
    return parser
