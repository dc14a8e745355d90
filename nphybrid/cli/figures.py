"""The verb `figures` draws one figure or all figures of a model at print quality."""
import argparse
import os
import sys

from .loading import load_model
from .options import add_class_names, add_engine, add_max_pixels, add_model, say
from .targets import check_target

# The names of the figures in explain.figures. The names are repeated here, so that --help does not import NumPy.
NAMES = ("filters", "feature-maps", "position-similarity", "attention", "attention-distance", "rollout", "occlusion",
         "saliency")

DESCRIPTION = """\
Write one figure as a PNG file with 300 dots per inch. The figures `filters` and `position-similarity` show weights
and do not read IMAGE. All other figures need an IMAGE. Blocks of the encoder, heads, rows and columns are counted
from 0. With NAME `all`, each figure is written into a folder, for example as attention.png. Figures of parts that the
network does not have are named on stderr.
"""

EXAMPLES = """\
examples:
  nphybrid figures attention photo.jpg -o attention.png --token 3,5
  nphybrid figures filters -o filters.png --model model.h5
  nphybrid figures all photo.jpg -o figures
"""


def add(verb):
    """Add the options of `figures` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("name", choices=(*NAMES, "all"), metavar="NAME", help=f"{', '.join(NAMES)}, or all")
    verb.add_argument("image", nargs="?", metavar="IMAGE", help="a picture")
    verb.add_argument("-o", "--output", required=True, metavar="FILE.png",
                      help="write the figure to this file. An existing file is replaced. With NAME all: the folder for "
                           "the figures")
    verb.add_argument("--token", metavar="TOKEN",
                      help="the token whose attention or rollout is drawn: class, mean, or ROW,COLUMN (default: the "
                           "input of the classifier). The token mean is the mean over all patches.")
    verb.add_argument("--block", type=int, metavar="NUMBER",
                      help="the block that the figure attention shows, or the last block that the figure rollout "
                           "includes (default: all blocks). The old name --layer also works.")
    verb.add_argument("--layer", dest="block", type=int, help=argparse.SUPPRESS)
    verb.add_argument("--head", type=int, metavar="NUMBER",
                      help="the head that the figure attention shows (default: all heads)")
    add_model(verb)
    add_class_names(verb)
    add_engine(verb)
    add_max_pixels(verb)
    verb.set_defaults(refuse=verb.error)


def run(args):
    """Draw the figures.  For each figure, print the name of the file, and the title and size of the figure."""
    options = {name: value for name in ("token", "block", "head") if (value := getattr(args, name)) is not None}
    return (_draw_all if args.name == "all" else _draw_one)(args, options)


def _draw_one(args, options):
    from ..explain.figures import check_arguments, figure
    try:
        check_arguments(args.name, args.image, options)
    except ValueError as error:
        args.refuse(str(error))
    check_target(args, args.output, ".png")
    _write(figure(args.name, load_model(args), args.image, **options), args.output)
    return 0


def _draw_all(args, options):
    from ..explain.figures import Figure, every_figure
    if args.image is None:
        args.refuse("most figures show a picture: expected an IMAGE, found none")
    if args.output.lower().endswith(".png"):
        args.refuse(f"all figures are written into a folder: expected the name of a folder, found {args.output}")
    if os.path.exists(args.output) and not os.path.isdir(args.output):
        raise ValueError(f"the output folder {args.output} cannot be written, because it exists and is not a folder")
    os.makedirs(args.output, exist_ok=True)
    targets = {name: os.path.join(args.output, f"{name}.png") for name in NAMES}
    for target in targets.values():
        check_target(args, target, ".png")
    for name, drawn in every_figure(load_model(args), args.image, **options):
        if isinstance(drawn, Figure):
            _write(drawn, targets[name])
        else:
            print(f"nphybrid: {drawn}", file=sys.stderr)
    return 0


def _write(drawn, path):
    from ..explain.figures import save
    save(drawn, path)
    say(f"{path}: {drawn.title}, {drawn.image.width} pixels wide, {drawn.image.height} high")
