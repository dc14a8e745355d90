"""The verb `explain` writes a page that shows the forward pass of a picture."""
import os

from .loading import load_model
from .options import add_class_names, add_engine, add_max_pixels, add_model, say
from .targets import check_target

DESCRIPTION = """\
Write one HTML file that needs no other file and no network connection. The page shows the forward pass of a picture:
filters, responses of the filters, feature maps, tokens and position vectors. The page also shows the attention of
every block and head, the attention rollout, and the last layers. Beside each result, the page shows the function that
computes the result. The page of a small network, such as the bundled model, contains the network and computes it for
any picture. Such a page can have several pictures to choose from.
"""

EXAMPLES = """\
examples:
  nphybrid explain cat.png -o page.html
  nphybrid explain cat.png -o page.html --model google/vit-hybrid-base-bit-384
  nphybrid explain --site site cat.png frog.png ship.png

Any web server for static files can serve the folder of --site, for example GitHub Pages. To look at it on this
computer, run `python -m http.server -d site`.
"""


def add(verb):
    """Add the options of `explain` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("images", nargs="+", metavar="IMAGE",
                      help="a picture. The page opens with the first picture, and has a button for every picture. "
                           "Several pictures need a network that the page can compute.")
    target = verb.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--output", metavar="PAGE.html",
                        help="write the page to this file. An existing file is replaced.")
    target.add_argument("--site", metavar="FOLDER",
                        help="write the page to FOLDER/index.html. The folder must be new or empty. Metadata of the "
                             "pictures, such as the place of a photograph, are not written.")
    add_model(verb)
    add_class_names(verb)
    add_engine(verb)
    add_max_pixels(verb)


def run(args):
    """Write the page.  Print the name and the size of the file."""
    from ..tensorfile import write_folder_atomically
    if args.output is not None:
        check_target(args, args.output, ".html")
        size = _write_page(args, args.output)
    else:
        with write_folder_atomically(args.site) as folder:
            size = _write_page(args, folder / "index.html")
    say(f"{args.output or os.path.join(args.site, 'index.html')}: {size:,} bytes")
    return 0


def _write_page(args, path):
    """Write the page, and return its size in bytes."""
    from ..explain.page import page
    from ..pictures.decode import open_picture
    from ..tensorfile import write_atomically
    (name, picture), *others = [(os.path.basename(image), open_picture(image)) for image in args.images]
    text = page(load_model(args), picture, name, others).encode("utf-8", "replace")
    with write_atomically(path) as temporary:
        temporary.write_bytes(text)
    return len(text)
