"""The verb `compare` prints which states differ between two models or two traces."""
import argparse

from .options import add_format, add_max_pixels, show


DESCRIPTION = """\
Compare two models or two traces, state by state. A state is a named intermediate array of the forward pass. A trace is
a file of states.
"""

EXAMPLES = """\
examples:
  nphybrid compare model.h5 folder
  nphybrid compare a.npz b.npz --common --only 'blocks.*'
"""


def add(verb):
    """Add the options of `compare` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("a", metavar="A",
                      help="a model in any format, or a trace (an .npz or .safetensors file of states)")
    verb.add_argument("b", metavar="B", help="a second model, or a second trace")
    verb.add_argument("--tolerance", type=_tolerance, metavar="X",
                      help="the largest accepted value of max|a - b| / max|b| for each state (default: 1e-9 if A and B "
                           "are float64, else 3e-4, because correct float32 programs differ by up to 1.2e-4 in large "
                           "networks and 2e-5 in small networks). A wrong eps or another form of GELU can change a "
                           "state by less than 3e-4. So compare float64 traces.")
    verb.add_argument("--common", action="store_true",
                      help="compare only the states that are in both A and B (default: a missing state is a "
                           "difference)")
    verb.add_argument("--only", action="append", default=[], metavar="PATTERN",
                      help="compare only the states whose names match PATTERN, for example 'blocks.0.*'. --only can be "
                           "repeated.")
    verb.add_argument("--image", help="the picture on which both models are compared (default: a built-in picture)")
    add_max_pixels(verb)
    add_format(verb)


def run(args):
    """Print a row for each state.  The exit code is 1 if a state differs."""
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
    raise argparse.ArgumentTypeError(f"found {text}; expected a number that is 0 or larger")
