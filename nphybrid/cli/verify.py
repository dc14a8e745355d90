"""Whether an `.h5` still is, and is computed as, what was converted."""
from .loading import announce_compilation
from .options import DTYPES, ENGINES, PRECISIONS, add_format, show


def add(verbs):
    """A model, the engine that is verified, and the picture whose logits are published."""
    verb = verbs.add_parser("verify", help="recompute the checksums and the logits that an .h5 keeps")
    verb.add_argument("model", nargs="?", metavar="MODEL.h5", help="(default: the model that comes along)")
    verb.add_argument("--engine", choices=ENGINES, default="numba", help="verified beside the reference in float64")
    verb.add_argument("--dtype", choices=DTYPES, default="float32")
    verb.add_argument("--precision", choices=PRECISIONS, default="highest")
    verb.add_argument("--image", metavar="CATS.jpg",
                      help="000000039769.jpg of COCO val2017: its published logits, for google/vit-hybrid-base-bit-384")
    add_format(verb)
    return verb


def run(args):
    """Print every check, its bound and what was found."""
    from ..checkpoint import default_model
    from ..modelfile.verify import shown, verified
    announce_compilation(args.engine)
    checks = verified(args.model or default_model(), args.engine, args.dtype, args.precision, args.image)
    show(args, [check._asdict() for check in checks], shown(checks))
    return int(not all(check.ok for check in checks))
