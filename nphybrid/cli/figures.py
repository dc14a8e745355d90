"""The verb `figures` draws one figure of a model at print quality."""
from .loading import load_model
from .options import add_class_names, add_engine, add_max_pixels, add_model
from .targets import check_target

# The names of the figures in explain.figures. The names are repeated here, so that --help does not import NumPy.
NAMES = ("filters", "feature-maps", "position-similarity", "attention", "attention-distance", "rollout", "occlusion",
         "saliency")

DESCRIPTION = """\
Write one figure as a PNG file with 300 dots per inch. The figures `filters` and `position-similarity` show weights
and need no IMAGE. All other figures need an IMAGE. Layers, heads, rows and columns are counted from 0. A layer is a
block of the encoder.
"""

EXAMPLES = """\
examples:
  nphybrid figures filters -o filters.png
  nphybrid figures attention cat.png -o attention.png --layer 3 --token class
"""


def add(verb):
    """Add the options of `figures` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    verb.add_argument("image", nargs="?", metavar="IMAGE", help="a picture")
    verb.add_argument("-o", "--output", required=True, metavar="FILE.png",
                      help="write the figure to this file. An existing file is replaced.")
    verb.add_argument("--token", metavar="TOKEN",
                      help="the token whose attention or rollout is drawn: class, mean, or ROW,COLUMN (default: the "
                           "input of the classifier). The token mean is the mean over all patches.")
    verb.add_argument("--layer", type=int, metavar="L",
                      help="the layer that the figure attention shows, or the last layer that the figure rollout "
                           "includes (default: all layers)")
    verb.add_argument("--head", type=int, metavar="A",
                      help="the head that the figure attention shows (default: all heads)")
    add_model(verb)
    add_class_names(verb)
    add_engine(verb)
    add_max_pixels(verb)
    verb.set_defaults(refuse=verb.error)


def run(args):
    """Draw the figure.  Print the name of the file, and the title and size of the figure."""
    from ..explain.figures import check_arguments, figure, save
    options = {name: value for name in ("token", "layer", "head") if (value := getattr(args, name)) is not None}
    try:
        check_arguments(args.name, args.image, options)
    except ValueError as error:
        args.refuse(str(error))
    check_target(args, args.output, ".png")
    model = load_model(args)
    drawn = figure(args.name, model, args.image, **options)
    save(drawn, args.output)
    print(f"{args.output}: {drawn.title}, {drawn.image.width} pixels wide, {drawn.image.height} high")
    return 0
