"""The command line of nphybrid: `nphybrid VERB …` or `python -m nphybrid VERB …`.

VERB is a subcommand, for example `classify`. Each verb has a module in this folder, with the functions `add` and `run`.
`add(verb)` adds the description, the options and the examples to the parser of the verb.
`run(args)` does the work of the verb and returns the exit code.

Only the module of the chosen verb is imported. The module of a verb imports NumPy, Numba, h5py and Pillow only
inside `run`.
The modules options, loading, targets and streams contain the functions that several verbs use.

Results go to stdout. Progress, errors and all other messages go to stderr.
"""
import argparse
import atexit
import contextlib
import gc
import importlib
import io
import sys

from .. import __version__
from ..shortage import memory_error, no_new_thread, out_of_memory, path_in_errors
from . import streams

# The verbs and their descriptions, in the order in which --help prints them.
VERBS = {
    "classify": "print the labels of pictures",
    "embed": "write the features of pictures to a file",
    "probe": "fit a classifier for your own classes",
    "finetune": "train a model for your own classes",
    "evaluate": "measure the accuracy of a model on pictures whose classes are known",
    "explain": "write an interactive page that shows the forward pass of one picture",
    "figures": "draw one figure or all figures of a model at print quality",
    "trace": "print the mean, the root mean square and the time of every state of a forward pass",
    "convert": "write a model in another format",
    "summary": "print the shapes, parameters and multiply-adds of a model",
    "inspect": "print the tensors, the naming scheme and the checksum of a model file",
    "verify": "check the checksums and the logits that an .h5 file stores",
    "compare": "print which states differ between two models or two traces",
    "bench": "measure the speed and the memory of a model",
    "doctor": "print the installed packages, the chosen settings and every problem on this computer",
    "warmup": "compile every kernel before its first use",
}

EPILOG = """\
`nphybrid VERB --help` lists the options of a verb.

Exit code 0: everything succeeded.
Exit code 1: some inputs failed, a check failed, `compare` found a difference, or `doctor` found a problem.
Exit code 2: the command line is wrong.
Exit code 3: a model or a file was refused.
Exit code 130: the program was interrupted by Ctrl-C.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb, and return the exit code."""
    with streams.reopen_closed_streams(), streams.escape_characters(), streams.warnings_as_lines():
        args = make_parser().parse_args(argv)
        # Without `gc.freeze`, Python deletes every object of Numba at exit, which takes 0.25 s.
        atexit.register(gc.freeze)
        try:
            with streams.repeat_lost_interrupts():
                code = args.run(args)
                with path_in_errors("stdout"):
                    sys.stdout.flush()
                return code
        except KeyboardInterrupt:
            return 130
        except (ValueError, TypeError, OSError, ImportError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not (no_new_thread(error) or out_of_memory(error)):
                raise
            if isinstance(error, BrokenPipeError) and streams.stdout_reader_left():
                return 0
            if args.debug:
                raise
            closed = isinstance(error, io.UnsupportedOperation) and not sys.stdout.writable()
            told = memory_error(error) if out_of_memory(error) else error
            with contextlib.suppress(OSError):
                print(f"nphybrid: {'stdout is closed' if closed else told}", file=sys.stderr)
            return 3


class _VerbParser(argparse.ArgumentParser):
    """The parser of one verb.  The options of the verb are added when the parser is used for the first time."""

    def __init__(self, verb, **options):
        super().__init__(**options)
        self.verb = verb

    def parse_known_args(self, *args, **options):
        """Add the options of the verb, then parse the command line with argparse."""
        import shutil
        import textwrap
        module = importlib.import_module(f".{self.verb}", __name__)
        module.add(self)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.set_defaults(run=module.run)
        # The formatter does not wrap the description, so the description is wrapped here.
        width = max(shutil.get_terminal_size().columns - 2, 11)
        self.description = textwrap.fill(self.description or "", width)
        found, rest = super().parse_known_args(*args, **options)
        self._refuse_empty(found)
        return found, rest

    def _refuse_empty(self, found):
        """Refuse an empty argument, for example from an unset shell variable.  It never means the default value."""
        for action in self._actions:
            values = getattr(found, action.dest, None)
            if "" in (values if isinstance(values, list) else [values]):
                self.error(str(argparse.ArgumentError(action, "found an empty text; expected at least one character")))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the complete command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="nphybrid", description="The Hybrid Vision Transformer in NumPy and Numba.",
                                     epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"nphybrid {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_VerbParser)
    for name, line in VERBS.items():
        verbs.add_parser(name, help=line, verb=name, formatter_class=raw)
    return parser
