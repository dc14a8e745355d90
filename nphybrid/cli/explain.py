"""The walk of one picture as a page."""
import os

from .loading import load_model, relabel
from .options import add_arithmetic, add_labels, add_model
from .targets import check_target


def add(verbs):
    """A picture, a model, how to compute it, and where the page goes."""
    verb = verbs.add_parser("explain", help="write an interactive page about the walk of a picture",
                            description="Write one HTML file, which needs no other and no network: the filters and "
                            "what they respond, the feature maps, tokens, positions, the attention of every block and "
                            "head, rollout, and the road to the answer, each beside the function that computes it.")
    verb.add_argument("image", metavar="IMAGE")
    verb.add_argument("-o", "--output", required=True, metavar="PAGE.html", help="what to write; replaced if it exists")
    add_model(verb)
    add_labels(verb)
    add_arithmetic(verb)
    return verb


def run(args):
    """Write the page, and print its name and size."""
    from ..explain.page import page
    from ..pictures.decode import open_picture
    from ..tensorfile import write_atomically
    check_target(args, args.output, ".html")
    picture, model = open_picture(args.image), load_model(args)
    if args.labels:
        relabel(model, args.labels)
    text = page(model, picture, os.path.basename(args.image)).encode("utf-8", "replace")
    with write_atomically(args.output) as temporary:
        temporary.write_bytes(text)
    print(f"{args.output}: {len(text):,} bytes")
    return 0
