"""The verb `serve` starts a small HTTP server that classifies pictures."""
import argparse
import os
import re
import sys

from .loading import load_model
from .options import BUNDLED, add_class_names, add_engine, add_head, add_max_pixels, add_model, positive, say
from .streams import Terminated, raise_at_sigterm

TERM_SECONDS = 8.0                        # docker stop kills the process 10 seconds after SIGTERM

DESCRIPTION = """\
Start a local web page on which you drop pictures and see their labels. Each picture has a link to its page of `nphybrid
explain`. Programs can use the same address: POST /classify answers with the labels of one or several pictures as JSON,
and GET /health says that the server is ready. No picture and no result is written to disk. Each refused request is one
line on stderr. Ctrl-C ends the server, and the request in progress has 1 second to finish. After SIGTERM, for example
from `docker stop`, the requests in progress have 8 seconds.
"""

EXAMPLES = """\
examples:
  nphybrid serve
  nphybrid serve --port 8080 --model google/vit-hybrid-base-bit-384
  nphybrid serve --host 0.0.0.0 --allow-host localhost:9000

requests to a server:
  curl --data-binary @cat.png http://127.0.0.1:8000/classify
  curl -F picture=@cat.png -F picture=@dog.jpg http://127.0.0.1:8000/classify
  curl --data-binary @cat.png http://127.0.0.1:8000/explain -o cat.html

answers:
The body of a request is one picture file, or a form (multipart/form-data) with several. /classify answers one picture
with a row, and a form with a list of rows: {"position", "path", "labels": [{"index", "label", "score"}]}, or for a
refused picture {"position", "path", "error"}. The status is 200 if at least one picture has labels. Otherwise it
is 422, or 503 if there was not enough memory. Each other refusal has a status from 400 to 503 and the body {"error"}.
At most 16 connections are open. /health is one of them, so slow clients can make /health answer 503.
"""


def add(verb):
    """Add the options of `serve` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                      help="the address on which the server listens (default 127.0.0.1, which only this computer can "
                           "reach). 0.0.0.0 stands for all IPv4 addresses of this computer. Clients must use "
                           "ADDRESS, or the IP address to which they connect, in the URL. For other names, for example "
                           "behind a proxy or the port mapping of a container, see --allow-host.")
    verb.add_argument("--allow-host", type=host, action="append", default=[], metavar="NAME[:PORT]",
                      help="also accept requests to this host, written as in the URL of the clients, for example "
                           "localhost:9000. A name with a port and the name alone are two hosts. The option can be "
                           "given several times.")
    verb.add_argument("--port", type=port, default=8000, metavar="N",
                      help="the port (default 8000). 0 stands for any free port.")
    verb.add_argument("--top-k", type=positive, default=5, metavar="N",
                      help="the number of labels for each picture (default 5)")
    add_model(verb)
    add_head(verb)
    add_class_names(verb, old_name=False)
    add_engine(verb)
    add_max_pixels(verb)


def port(text: str) -> int:
    """Convert a text to a port number.  argparse uses `port` as a type."""
    if not text.isdecimal() or int(text) >= 2**16:
        raise argparse.ArgumentTypeError(f"found {text}; expected a whole number from 0 to 65535")
    return int(text)


def host(text: str) -> str:
    """Check that a text can be the host in a URL.  argparse uses `host` as a type."""
    found = re.fullmatch(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?", text)
    if found is None or int(found[1] or 0) >= 2**16:
        raise argparse.ArgumentTypeError(f"found {text}; expected a host as in a URL, such as example.org or "
                                         "localhost:9000")
    return text


def run(args):
    """Print the address of the server, and answer requests until Ctrl-C or SIGTERM."""
    with raise_at_sigterm():
        return _serve(args)


def _serve(args):
    from ..serve.addresses import is_loopback
    from ..serve.server import Server
    from ..serve.service import Service
    model = load_model(args, args.head)
    # Clients see the name of the file, but not its folder.
    name = os.path.basename(os.path.abspath(args.model)) if args.model and os.path.exists(args.model) else args.model
    service = Service(model, name or BUNDLED, args.top_k)
    with Server(service, args.host, args.port, allowed=args.allow_host) as server:
        if not is_loopback(server.server_address[0]):
            print("nphybrid: every computer that reaches an IP address of this computer can use the server. There is "
                  "neither a password nor encryption.", file=sys.stderr)
        say(f"{server.address}  (Ctrl-C ends the server)", flush=True)
        try:
            server.serve_forever(poll_interval=0.1)
        except Terminated:
            server.last_seconds = TERM_SECONDS
            raise
    return 0
