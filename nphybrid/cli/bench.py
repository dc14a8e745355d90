"""How fast a model is on this computer."""
import argparse
import sys

from .options import BUNDLED, DTYPES, ENGINES, PRECISIONS, add_format, positive

DESCRIPTION = """\
Measure the start, the load, the first and the later calls, and the memory of a model. Options with N,M or A,B take
several values; each combination is measured in a process of its own.
"""


def add(verb):
    """A model, and the values whose combinations are measured."""
    verb.description = DESCRIPTION
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help=f"a file, a folder, or a preset such as R50+ViT-B/16 (default: {BUNDLED})")
    verb.add_argument("--threads", type=_several(positive), metavar="N,M",
                      help="how many threads (default: 1, and one per core)")
    verb.add_argument("--batch", type=_several(positive), default=[1], metavar="N,M",
                      help="pictures per call (default 1)")
    verb.add_argument("--dtype", type=_several(_one_of(DTYPES)), default=["float32"], metavar="A,B",
                      help=f"one or more of {', '.join(DTYPES)} (default float32)")
    verb.add_argument("--precision", type=_several(str), default=["highest"], metavar="A,B",
                      help=f"one or more of {', '.join(PRECISIONS)} (default highest)")
    verb.add_argument("--engine", choices=ENGINES, default="numba",
                      help="the implementation of the operations (default numba)")
    verb.add_argument("--runs", type=positive, default=11, metavar="N", help="how many calls are measured (default 11)")
    verb.add_argument("--profile", action="store_true", help="also print the time of each stage of the forward pass")
    add_format(verb, "markdown")


def run(args):
    """Print a row per combination of dtype, threads and batch; one whose process is killed costs only its own row."""
    from ..machine import bench
    from ..ops import threads
    numbers = args.threads or sorted({1, threads.number()})
    wanted = bench.combinations(args.model, args.engine, args.dtype, args.precision, numbers, args.batch,
                                args.runs, args.profile)
    machine, rows = bench.describe_machine(), []
    for i, combination in enumerate(wanted):
        if sys.stderr.isatty():
            print(f"{i + 1} of {len(wanted)} …", end="\r", file=sys.stderr, flush=True)
        rows.append(bench.measure_in_process(combination))
    print(bench.format_report(machine, rows, args.format))
    return int(any("error" in row for row in rows))


def _several(kind):
    """A type of argparse: values of a type with commas between them."""
    return lambda text: [kind(value) for value in text.split(",")]


def _one_of(choices):
    """A type of argparse: one of some strings."""
    def choice(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r}; expected one of {', '.join(choices)}")
        return text
    return choice
