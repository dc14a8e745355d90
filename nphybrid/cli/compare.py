"""Where two models or two traces part."""
import argparse

from .options import add_format, show


def add(verb):
    """A and B, and how far apart they may be."""
    verb.description = "Print which states of two models or two traces differ, state by state."
    verb.add_argument("a", metavar="A", help="a model of any format; or a trace, an .npz or .safetensors of states")
    verb.add_argument("b", metavar="B", help="another of the same kind")
    verb.add_argument("--tolerance", type=_tolerance, metavar="X",
                      help="of max|a - b| / max|b| per state (default 1e-9 in float64, else 3e-4)")
    verb.add_argument("--image", help="the picture that both models look at (default: a built-in one)")
    add_format(verb)


def run(args):
    """Print where two models or two traces part, state by state."""
    from ..modelfile.compare import as_json, compared, shown
    rows = compared(args.a, args.b, args.tolerance, args.image)
    show(args, as_json(rows), shown(rows))
    return int(not all(row.ok for row in rows))


def _tolerance(text):
    try:
        if float(text) >= 0:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text} is no number of 0 or more")
