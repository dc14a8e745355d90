"""The files of the page, and the security policies of pages (Content Security Policy Level 3)."""
from pathlib import Path
from typing import NamedTuple

from ..explain.page import file_text

HERE = Path(__file__).parent
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
# The page loads its own two files, shows pictures that the user chose, and sends requests to this server alone.
DROP_POLICY = (f"{NOTHING}; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
               "form-action 'self'")
# The page of `nphybrid explain` is one file with its scripts inside. In the sandbox, its origin is not this server, so
# its scripts can neither send requests to this server nor read answers.
EXPLAIN_POLICY = (f"{NOTHING}; sandbox allow-scripts; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                  "img-src data:; worker-src blob:; form-action 'none'")


class File(NamedTuple):
    """A file that is sent to a browser."""
    kind: str                             # the Content-Type
    data: bytes


def page_files() -> dict[str, File]:
    """The files of the page by their paths.  The page uses the style and the bars of labels of the explain page."""
    own = {name: (HERE / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")}
    return {"/": File("text/html; charset=utf-8", own["page.html"].encode()),
            "/page.css": File("text/css; charset=utf-8", (file_text("page.css") + own["page.css"]).encode()),
            "/page.js": File("text/javascript; charset=utf-8", (file_text("element.js") + own["page.js"]).encode())}
