"""One figure of a network at print quality."""
from .loading import load_model, relabel
from .options import add_engine, add_labels, add_model
from .targets import check_target

# The names of explain.figures. They are repeated here because importing it imports NumPy.
NAMES = ("filters", "feature-maps", "position-similarity", "attention", "attention-distance", "rollout", "occlusion")

DESCRIPTION = """\
Write one figure as a PNG of 300 dots per inch. filters and position-similarity show weights; all other figures
need an IMAGE. Layers (the blocks of the encoder), heads, rows and columns are counted from 0.
"""


def add(verb):
    """Which figure, of what, where it goes, and how to compute it."""
    verb.description = DESCRIPTION
    verb.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    verb.add_argument("image", nargs="?", metavar="IMAGE", help="a picture")
    verb.add_argument("-o", "--output", required=True, metavar="FILE.png",
                      help="write the figure to this file, which is replaced if it exists")
    verb.add_argument("--token", metavar="TOKEN",
                      help="whose attention or rollout: class, mean (of all cells), or ROW,COLUMN (default: what the "
                           "classifier reads)")
    verb.add_argument("--layer", type=int, metavar="L",
                      help="attention: this layer only; rollout: up to this layer (default: all layers)")
    verb.add_argument("--head", type=int, metavar="A", help="attention: this head only (default: all heads)")
    add_model(verb)
    add_labels(verb)
    add_engine(verb)
    verb.set_defaults(refuse=verb.error)


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
