"""The verb `explain` writes a page that shows the forward pass of one picture."""
import os

from .loading import load_model
from .options import add_class_names, add_engine, add_max_pixels, add_model
from .targets import check_target

DESCRIPTION = """\
Write one HTML file that needs no other file and no network connection. The page shows the forward pass of one picture:
filters, responses of the filters, feature maps, tokens and position vectors. The page also shows the attention of
every block and head, the attention rollout, and the last layers. Beside each result, the page shows the function that
computes the result.
"""

EXAMPLES = """\
examples:
  nphybrid explain cat.png -o page.html
  nphybrid explain cat.png -o page.html --model google/vit-hybrid-base-bit-384
"""


def add(verb):
    """Add the options of `explain` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("image", metavar="IMAGE", help="a picture")
    verb.add_argument("-o", "--output", required=True, metavar="PAGE.html",
                      help="write the page to this file. An existing file is replaced.")
    add_model(verb)
    add_class_names(verb)
    add_engine(verb)
    add_max_pixels(verb)


def run(args):
    """Write the page.  Print the name and the size of the file."""
    from ..explain.page import page
    from ..pictures.decode import open_picture
    from ..tensorfile import write_atomically
    check_target(args, args.output, ".html")
    picture, model = open_picture(args.image), load_model(args)
    text = page(model, picture, os.path.basename(args.image)).encode("utf-8", "replace")
    with write_atomically(args.output) as temporary:
        temporary.write_bytes(text)
    print(f"{args.output}: {len(text):,} bytes")
    return 0
