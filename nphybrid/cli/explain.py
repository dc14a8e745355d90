"""The forward pass of one picture as a page."""
import os

from .loading import load_model, relabel
from .options import add_engine, add_labels, add_model
from .targets import check_target

DESCRIPTION = """\
Write one HTML file that needs no other file and no network connection. It shows the filters and their responses,
the feature maps, the tokens, the position embeddings, the attention of every block and head, attention rollout,
and the last steps to the answer, each beside the function that computes it.
"""


def add(verb):
    """A picture, a model, how to compute it, and where the page goes."""
    verb.description = DESCRIPTION
    verb.add_argument("image", metavar="IMAGE", help="a picture")
    verb.add_argument("-o", "--output", required=True, metavar="PAGE.html",
                      help="write the page to this file, which is replaced if it exists")
    add_model(verb)
    add_labels(verb)
    add_engine(verb)


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
