"""The command line of nphybrid: `nphybrid VERB …` or `python -m nphybrid VERB …`.

VERB is a subcommand, for example `classify`. Each verb has a module in this folder, with the functions `add` and `run`.
`add(verb)` adds the description, the options and the examples to the parser of the verb.
`run(args)` does the work of the verb and returns the exit code.

Only the module of the chosen verb is imported. The module of a verb imports NumPy, Numba, h5py and Pillow only
inside `run`.
The modules parsers, options, loading, targets and streams contain the functions that several verbs use.

Results go to stdout. Progress, errors and all other messages go to stderr.
"""
import argparse
import atexit
import contextlib
import gc
import io
import sys
import warnings

from ..pictures import pixel_limit
from ..shortage import memory_error, no_new_thread, out_of_memory, path_in_errors
from . import parsers, streams

# The verbs and their descriptions, in the order in which --help prints them.
VERBS = {
    "classify": "print the labels of pictures",
    "embed": "write the features of pictures to a file",
    "probe": "fit a classifier for your own classes",
    "finetune": "train a model for your own classes",
    "evaluate": "measure the accuracy of a model on pictures whose classes are known",
    "explain": "write an interactive page that shows the forward pass of one picture",
    "serve": "start a local web page, and a small HTTP service, that classify pictures",
    "figures": "draw one figure or all figures of a model at print quality",
    "trace": "print the mean, the root mean square and the time of every state of a forward pass",
    "convert": "write a model in another format",
    "models": "list published models, their sizes, and the command that loads each model",
    "summary": "print the shapes, parameters and multiply-adds of a model",
    "inspect": "print the tensors, the naming scheme and the checksum of a model file",
    "verify": "check the checksums and the logits that a model file stores",
    "compare": "print which states differ between two models or two traces",
    "bench": "measure the speed and the memory of a model",
    "doctor": "print the installed packages, the chosen settings and every problem on this computer",
    "warmup": "compile every kernel before its first use, and store the packed weights of a model",
    "completion": "print a script that completes command lines in bash, zsh or fish",
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb, and return the exit code."""
    with streams.reopen_closed_streams(), streams.escape_characters(), streams.warnings_as_lines():
        # Without `gc.freeze`, Python deletes every object of Numba at exit, which takes 0.25 s.
        atexit.register(gc.freeze)
        args = argparse.Namespace(debug=False)
        try:
            args = make_parser().parse_args(argv)
            if getattr(args, "quiet", False):
                warnings.simplefilter("ignore")             # until the end of `warnings_as_lines`
            with streams.repeat_lost_interrupts(), pixel_limit(getattr(args, "max_pixels", None)):
                code = args.run(args)
                with path_in_errors("stdout"):
                    sys.stdout.flush()
                return code
        except KeyboardInterrupt as stop:
            if not getattr(args, "quiet", False):
                with contextlib.suppress(OSError):
                    print(f"nphybrid: {str(stop) or 'stopped'}", file=sys.stderr)
            return 143 if isinstance(stop, streams.Terminated) else 130
        except (ValueError, TypeError, OSError, ImportError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not (no_new_thread(error) or out_of_memory(error)):
                raise
            if isinstance(error, BrokenPipeError) and streams.stdout_reader_left():
                return 0
            if args.debug:
                streams.drop_unwritten()
                raise
            closed = isinstance(error, io.UnsupportedOperation) and not sys.stdout.writable()
            told = memory_error(error) if out_of_memory(error) else error
            if isinstance(error, FileNotFoundError) and error.filename is not None:
                told = f"{error.filename}: no such file or folder"
            with contextlib.suppress(OSError):
                print(f"nphybrid: {'stdout is closed' if closed else told}", file=sys.stderr)
            streams.drop_unwritten()
            return 3


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the complete command line."""
    return parsers.make_parser(VERBS)
