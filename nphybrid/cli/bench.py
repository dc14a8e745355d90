"""The verb `bench` measures the speed and the memory of a model on this computer."""
import argparse

from .options import BUNDLED, DTYPES, ENGINES, PRECISIONS, add_format, positive, say

DESCRIPTION = """\
Measure the speed and the memory of a model. The report contains the time to start Python, the time to load the model,
and the times of the first call and of later calls of the model. Options with N,M or A,B accept several values,
separated by commas. Each combination of values is measured in a separate process. The column change is the largest
difference from the results in float32, divided by the standard deviation of these results.
"""

EXAMPLES = """\
examples:
  nphybrid bench
  nphybrid bench R50+ViT-B/16 --threads 1,2 --batch 1,8
  nphybrid bench --dtype float32,int8 --format markdown
"""


def add(verb):
    """Add the options of `bench` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, owner/name on the Hugging Face hub, or a preset such as R50+ViT-B/16 "
                           f"(default: {BUNDLED})")
    verb.add_argument("--threads", type=_several(positive), metavar="N,M",
                      help="one or more numbers of threads (default: 1 and the number of cores)")
    verb.add_argument("--batch", type=_several(positive), default=[1], metavar="N,M",
                      help="one or more numbers of pictures in each call (default 1)")
    verb.add_argument("--dtype", type=_several(_one_of(DTYPES)), metavar="A,B",
                      help=f"one or more of the dtypes {', '.join(DTYPES)} (default: the dtype of a file that "
                           "`nphybrid convert --dtype` wrote, else float32)")
    verb.add_argument("--precision", type=_several(_one_of(PRECISIONS)), default=["highest"], metavar="A,B",
                      help=f"one or more of the precisions {', '.join(PRECISIONS)} (default highest)")
    verb.add_argument("--engine", choices=ENGINES, default="numba",
                      help="the implementation of the operations (default numba)")
    verb.add_argument("--runs", type=positive, default=11, metavar="N",
                      help="the number of measured calls (default 11)")
    verb.add_argument("--profile", action="store_true",
                      help="also print the time of each stage of a forward pass that computes all states")
    verb.add_argument("--no-plan", action="store_true",
                      help="do not repeat a recorded plan of the forward pass, but call each operation from Python")
    add_format(verb, "markdown")


def run(args):
    """Measure each combination of dtype, precision, threads and batch.  Print a row for each combination.

    If the process of a combination is killed, the row of this combination contains an error. All other combinations
    are still measured.
    """
    from ..batch import progress
    from ..machine import bench
    from ..ops import threads
    numbers = args.threads or sorted({1, threads.number()})
    wanted = bench.combinations(args.model, args.engine, args.dtype, args.precision, numbers, args.batch,
                                args.runs, args.profile, plan=not args.no_plan)
    machine, rows = bench.describe_machine(), []
    for i, combination in enumerate(wanted):
        with progress.status(f"measuring combination {i + 1} of {len(wanted)} …"):
            rows.append(bench.measure_in_process(combination))
    say(bench.format_report(machine, rows, args.format))
    return int(any("error" in row for row in rows))


def _several(kind):
    """Return an argparse type for several values, separated by commas.  The function `kind` converts each value."""
    return lambda text: [kind(value) for value in text.split(",")]


def _one_of(choices):
    """Return an argparse type that accepts only the strings in `choices`."""
    def choice(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected one of {', '.join(choices)}")
        return text
    return choice
