"""One figure of a network at print quality."""
from .loading import load_model, relabel
from .options import add_arithmetic, add_labels, add_model
from .targets import check_target

# Those of explain.figures, which would import NumPy.
NAMES = ("filters", "feature-maps", "position-similarity", "attention", "attention-distance", "rollout", "occlusion")


def add(verbs):
    """Which figure, of what, where it goes, and how to compute it."""
    verb = verbs.add_parser("figures", help="draw one figure at print quality",
                            description="Write one figure as a PNG of 300 dots per inch. filters and "
                            "position-similarity show weights; all others need an IMAGE. Layers, which are the "
                            "encoder's blocks, heads, rows and columns are counted from 0.")
    verb.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    verb.add_argument("image", nargs="?", metavar="IMAGE")
    verb.add_argument("-o", "--output", required=True, metavar="FILE.png", help="what to write; replaced if it exists")
    verb.add_argument("--token", metavar="TOKEN", help="whose attention or rollout: class, mean (of all cells), or "
                                                       "ROW,COLUMN (default: what the head reads)")
    verb.add_argument("--layer", type=int, metavar="L", help="attention of this layer alone, or rollout up to it "
                                                             "(default: all layers)")
    verb.add_argument("--head", type=int, metavar="A", help="attention of this head alone")
    add_model(verb)
    add_labels(verb)
    add_arithmetic(verb)
    verb.set_defaults(refuse=verb.error)
    return verb


def run(args):
    """Draw the figure, and print its name, title and size."""
    from ..explain.figures import check_arguments, figure, save
    options = {name: value for name in ("token", "layer", "head") if (value := getattr(args, name)) is not None}
    try:
        check_arguments(args.name, args.image, options)
    except ValueError as error:
        args.refuse(str(error))
    check_target(args, args.output, ".png")
    model = load_model(args)
    if args.labels:
        relabel(model, args.labels)
    drawn = figure(args.name, model, args.image, **options)
    save(drawn, args.output)
    print(f"{args.output}: {drawn.title}, {drawn.image.width} pixels wide, {drawn.image.height} high")
    return 0
