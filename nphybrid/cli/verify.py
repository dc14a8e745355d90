"""Whether an `.h5` file still holds what was converted, and whether this computer computes it."""
from .loading import announce_compilation
from .options import BUNDLED, DTYPES, ENGINES, PRECISIONS, add_format, show

DESCRIPTION = """\
Recompute what an .h5 file stores since its conversion: a checksum per array, and the logits of a built-in picture.
The logits are computed twice: by the reference engine in float64, and by the engine that the options name.
"""


def add(verb):
    """A model, the engine that is verified, and the picture whose logits are published."""
    verb.description = DESCRIPTION
    verb.add_argument("model", nargs="?", metavar="MODEL.h5", help=f"a file (default: {BUNDLED})")
    verb.add_argument("--engine", choices=ENGINES, default="numba",
                      help="the engine that is verified, besides reference in float64 (default numba)")
    verb.add_argument("--dtype", choices=DTYPES, default="float32", help="the dtype of that engine (default float32)")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest",
                      help="the precision of that engine (default highest)")
    verb.add_argument("--image", metavar="CATS.jpg",
                      help="000000039769.jpg of COCO val2017: compare its logits with the published ones, for "
                           "google/vit-hybrid-base-bit-384 only")
    add_format(verb)


def run(args):
    """Print every check, its bound and its result."""
    from ..checkpoint import default_model
    from ..modelfile.verify import format_text, verify_model
    announce_compilation(args.engine)
    checks = verify_model(args.model or default_model(), args.engine, args.dtype, args.precision, args.image)
    show(args, [check._asdict() for check in checks], format_text(checks))
    return int(not all(check.ok for check in checks))
