"""nphybrid compare: the states in which two models or two traces differ."""
import argparse

from .options import add_format, show


def add(verb):
    """A and B, the tolerance, and which states are compared."""
    verb.description = "Print which states of two models or two traces differ, state by state."
    verb.add_argument("a", metavar="A", help="a model of any format; or a trace, an .npz or .safetensors of states")
    verb.add_argument("b", metavar="B", help="another model, or another trace")
    verb.add_argument("--tolerance", type=_tolerance, metavar="X",
                      help="bound of max|a - b| / max|b| per state (default 1e-9 in float64, else 3e-4)")
    verb.add_argument("--common", action="store_true",
                      help="compare only the states that both have (default: a state in one of them is a difference)")
    verb.add_argument("--only", action="append", default=[], metavar="PATTERN",
                      help="compare only the states whose names match, such as 'blocks.0.*'; may be given again")
    verb.add_argument("--image", help="the picture that both models read (default: a built-in input)")
    add_format(verb)


def run(args):
    """Print a row per state; exit with 1 if a state differs."""
    from ..modelfile.compare import compare_files, format_rows, rows_to_json
    rows = compare_files(args.a, args.b, args.tolerance, args.image, args.common, args.only)
    show(args, rows_to_json(rows), format_rows(rows))
    return int(not all(row.ok for row in rows))


def _tolerance(text):
    try:
        if float(text) >= 0:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number of at least 0, found {text}")
