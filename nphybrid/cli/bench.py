"""How fast a model is here."""
import argparse
import sys

from .options import DTYPES, ENGINES, PRECISIONS, add_format, positive


def add(verbs):
    """A model, and the values whose combinations are measured."""
    verb = verbs.add_parser("bench", help="measure load, first and steady calls, and memory of a model",
                            description="Options with N,M take several values; each combination is measured by itself.")
    verb.add_argument("model", nargs="?", metavar="MODEL",
                      help="a file, a folder, or a preset such as R50+ViT-B/16 (default: the model that comes along)")
    verb.add_argument("--threads", type=_several(positive), metavar="N,M", help="(default: 1, and every core)")
    verb.add_argument("--batch", type=_several(positive), default=[1], metavar="N,M", help="images a call (default 1)")
    verb.add_argument("--dtype", type=_several(_one_of(DTYPES)), default=["float32"], metavar="A,B",
                      help=f"of {', '.join(DTYPES)} (default float32)")
    verb.add_argument("--precision", type=_several(str), default=["highest"], metavar="A,B",
                      help=f"of {', '.join(PRECISIONS)} (default highest)")
    verb.add_argument("--engine", choices=ENGINES, default="numba")
    verb.add_argument("--runs", type=positive, default=11, metavar="N", help="calls that count (default 11)")
    verb.add_argument("--profile", action="store_true", help="tell the time of each stage of the walk too")
    add_format(verb, "markdown")
    return verb


def run(args):
    """Print a row per combination of dtype, threads and batch; one whose process is killed costs its own row only."""
    from ..machine.bench import combinations, row, shown, surroundings
    from ..ops import threads
    wanted = combinations(args.model, args.engine, args.dtype, args.precision,
                          args.threads or sorted({1, threads.number()}), args.batch, args.runs, args.profile)
    here, rows = surroundings(), []
    for i, combination in enumerate(wanted):
        if sys.stderr.isatty():
            print(f"{i + 1} of {len(wanted)} …", end="\r", file=sys.stderr, flush=True)
        rows.append(row(combination))
    print(shown(here, rows, args.format))
    return int(any("error" in each for each in rows))


def _several(kind):
    """Values with commas between them."""
    return lambda text: [kind(value) for value in text.split(",")]


def _one_of(choices):
    def choice(text):
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r}; expected one of {', '.join(choices)}")
        return text
    return choice
