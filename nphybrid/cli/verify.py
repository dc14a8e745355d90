"""The verb `verify` checks the checksums and the logits that a model file stores."""
from .loading import announce_compilation
from .options import BUNDLED, DTYPES, ENGINES, PRECISIONS, add_format, show

DESCRIPTION = """\
Check that an .h5 file, or a folder with rounded weights, is unchanged since its conversion, and that this computer
computes the right logits. The file stores a checksum for each array, and the logits of the golden input. The golden
input is a built-in picture, whose value in row i, column j and channel c of pixel_values is
((7 i + 13 j + 29 c + i j) mod 256) / 127.5 - 1. In Python, nphybrid.checkpoint.read(path).manifest["golden"] has the
stored logits. All checksums are recomputed. The logits are recomputed twice: by the reference engine in float64, and by
the engine that --engine names. For rounded weights, the reference engine computes in their dtype instead of float64.
"""

EXAMPLES = """\
examples:
  nphybrid verify
  nphybrid verify model.h5 --engine numba --precision high
"""


def add(verb):
    """Add the options of `verify` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("model", nargs="?", metavar="MODEL.h5",
                      help=f"an .h5 file of a model, or a folder with rounded weights (default: {BUNDLED})")
    verb.add_argument("--engine", choices=ENGINES, default="numba",
                      help="the engine to verify (default numba). The engine reference is always verified too.")
    verb.add_argument("--dtype", choices=DTYPES,
                      help="the dtype of the engine to verify (default: the dtype of the file, which is usually "
                           "float32)")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="the precision of the engine to verify (default highest)")
    verb.add_argument("--image", metavar="CATS.jpg",
                      help="the picture 000000039769.jpg of COCO val2017. The logits of the picture are compared with "
                           "published logits. --image needs the model google/vit-hybrid-base-bit-384.")
    add_format(verb)


def run(args):
    """Print every check with its bound and its result.  The exit code is 1 if a check failed."""
    from ..checkpoint import default_model
    from ..modelfile.verify import format_text, verify_model
    announce_compilation(args.engine)
    path = default_model() if args.model is None else args.model
    checks = verify_model(path, args.engine, args.dtype, args.precision, args.image)
    show(args, [check._asdict() for check in checks], format_text(checks))
    return int(not all(check.ok for check in checks))
