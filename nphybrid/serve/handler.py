"""Reads one request from a connection, and writes the answer."""
import contextlib
import io
import json
import re
import socket
import sys
import time
import traceback
from http.server import BaseHTTPRequestHandler
from typing import Any

from ..shortage import out_of_memory
from .addresses import check_origin, served_hosts
from .files import DROP_POLICY, EXPLAIN_POLICY, NOTHING
from .forms import Upload, uploads
from .limits import Refusal

LINGER_SECONDS = 2.0
METHODS = {"/": "GET", "/page.css": "GET", "/page.js": "GET", "/health": "GET", "/classify": "POST",
           "/explain": "POST"}


class Receiver(io.RawIOBase):
    """Reads from a socket until a point in time.

    The timeout of a socket begins again with every byte, so a client that sends a byte per second would never reach it.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.connection = connection
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte, and return the number of bytes.  At the end of the request, return 0."""
        left = self.end - time.monotonic()
        try:
            if left > 0:
                self.connection.settimeout(left)
                return self.connection.recv_into(buffer)
        except TimeoutError:
            pass
        raise Refusal(408, f"the request did not arrive within {self.seconds:g} seconds")


class Handler(BaseHTTPRequestHandler):
    """Answers the one request of a connection, and closes the connection.

    So the limits of a connection are also the limits of its request.
    """
    server: Any
    protocol_version = "HTTP/1.1"
    # A request without a version, or of which nothing was read, gets an answer with a status line, too.
    default_request_version = request_version = "HTTP/1.1"
    command = ""                          # until the request line was read
    unread = False                        # True if the client may still send a part of the request

    def setup(self) -> None:
        """Bound the time in which the request must arrive."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Receiver(self.connection, self.server.limits.receive_seconds))

    def handle(self) -> None:
        """Answer one request.  An error in one request has no effect on other requests."""
        # The client may leave at any time, or not read the answer.
        with contextlib.suppress(ConnectionError, TimeoutError):
            try:
                self.handle_one_request()
            except Refusal as refusal:
                self.refuse(refusal)
            except (ConnectionError, TimeoutError):
                raise
            except Exception as error:
                if out_of_memory(error):
                    self.refuse(Refusal(503, "not enough memory"))
                    return
                traceback.print_exc(file=sys.stderr)
                self.refuse(Refusal(500, f"the server has an error ({type(error).__name__})"))

    def finish(self) -> None:
        """Close the connection.

        If a client still sends when its connection is closed, the answer can be lost. So what comes after a refusal is
        read and dropped, for a short time.
        """
        with contextlib.suppress(OSError):
            if self.unread:
                self.connection.shutdown(socket.SHUT_WR)
                end = time.monotonic() + LINGER_SECONDS
                while (left := end - time.monotonic()) > 0:
                    self.connection.settimeout(left)
                    if not self.connection.recv(1 << 16):
                        break
        super().finish()

    # ---------------------------------------------------------------- requests

    def do_GET(self) -> None:
        """Answer a request with a method of HTTP.  Raises Refusal if the request is refused."""
        address, port = self.connection.getsockname()[:2]
        check_origin(self.headers, served_hosts(address, port, self.server.name), self.server.allowed)
        path, _, query = self.path.partition("?")
        if path not in METHODS:
            raise Refusal(404, f"found the path {path[:80]!r}; expected one of {', '.join(METHODS)}")
        expected = METHODS[path]
        if self.command != expected and (self.command, expected) != ("HEAD", "GET"):
            raise Refusal(405, f"found the method {self.command}; expected {expected}", Allow=expected)
        if query and expected == "POST":
            raise Refusal(400, f"found the query {query[:80]!r}; expected none. Options are given to nphybrid serve, "
                               "for example --top-k.")
        if path == "/classify":
            self._classify()
        elif path == "/explain":
            self._explain()
        elif path == "/health":
            self._answer_json(200, self.server.service.health())
        else:
            self._answer(200, *self.server.files[path], policy=DROP_POLICY)

    do_HEAD = do_POST = do_OPTIONS = do_PUT = do_DELETE = do_PATCH = do_GET

    def _classify(self):
        """Answer with the row of one picture, or with a list of rows for a form."""
        pictures, is_form = self._pictures()
        with self.server.progress():
            found = [self._compute(self.server.service.row, upload, i) for i, upload in enumerate(pictures)]
            errors = [error for _, error in found]
            status = 200
            if all(errors):
                status = 503 if any(isinstance(error, MemoryError) for error in errors) else 422
                self.server.tell(self.client_address[0], status, str(errors[0]))
            self._answer_json(status, [row for row, _ in found] if is_form else found[0][0])

    def _explain(self):
        """Answer with the page about one picture."""
        pictures, _ = self._pictures()
        if len(pictures) != 1:
            raise Refusal(400, f"found {len(pictures)} pictures; expected one")
        with self.server.progress():
            try:
                data = self._compute(self.server.service.explain, pictures[0])
            except ValueError as error:
                raise Refusal(422, str(error)) from error
            self._answer(200, "text/html; charset=utf-8", data, policy=EXPLAIN_POLICY)

    def _compute(self, function, *arguments):
        return self.server.worker.do(self.server.limits.compute_seconds, function, *arguments)

    # ---------------------------------------------------------------- the body of a request

    def _pictures(self):
        """The pictures in the body, and True if the body is a form."""
        try:
            kind, boundary = self.headers.get_content_type(), self.headers.get_boundary()
        except Exception as error:
            raise Refusal(400, f"the Content-Type cannot be read ({error})") from error
        if kind.startswith("multipart/") and kind != "multipart/form-data":
            raise Refusal(415, f"found the Content-Type {kind}; expected multipart/form-data, or one picture file")
        body = self._body()
        if kind == "multipart/form-data":
            return uploads(body, boundary, self.server.limits.pictures), True
        return [Upload("picture", body)], False

    def _body(self):
        """The bytes of the body."""
        size = self._content_length()
        if self.headers.get("Expect", "").lower() == "100-continue":
            super().handle_expect_100()
        body = self.rfile.read(size)
        if len(body) < size:
            raise Refusal(400, f"the connection ended after {len(body):,} bytes of the body; expected {size:,}, the "
                               "Content-Length")
        return body

    def _content_length(self):
        """The number of bytes of the body, which must be stated once and be within the limit."""
        if "Transfer-Encoding" in self.headers:
            raise Refusal(501, "found a Transfer-Encoding; expected a body with a Content-Length")
        found = self.headers.get_all("Content-Length", [])
        if not found:
            raise Refusal(411, "found no Content-Length; expected the number of bytes of the body")
        if len(found) > 1 or not re.fullmatch("[0-9]{1,18}", found[0].strip()):
            raise Refusal(400, f"found the Content-Length {', '.join(found)[:80]!r}; expected one number")
        size, most = int(found[0]), self.server.limits.bytes
        if size > most:
            raise Refusal(413, f"the body has {size:,} bytes; expected at most {most:,} ({most / 2**20:g} MiB)")
        return size

    def parse_request(self) -> bool:
        """Read the request line and the headers.  Raises Refusal for headers that Python's email parser cannot read."""
        try:
            return super().parse_request()
        except (Refusal, OSError, MemoryError):
            raise
        except Exception as error:
            raise Refusal(400, f"the headers cannot be read ({error})") from error

    def handle_expect_100(self) -> bool:
        """Return True.  The client is told to send the body after the headers were checked, by `_body`."""
        return True

    # ---------------------------------------------------------------- answers

    def refuse(self, refusal: Refusal) -> None:
        """Answer with the status and the message of a refusal."""
        self.unread = True
        self.server.tell(self.client_address[0], refusal.status, refusal.message)
        self._answer_json(refusal.status, {"error": refusal.message}, **refusal.headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request that http.server cannot read, for example because of its method."""
        self.refuse(Refusal(code, message or self.responses[code][1]))

    def _answer_json(self, status, document, **headers):
        self._answer(status, "application/json", json.dumps(document).encode() + b"\n", **headers)

    def _answer(self, status, kind, data, policy=NOTHING, **headers):
        self.connection.settimeout(self.server.limits.send_seconds)
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(data)), "Connection": "close",
                 "Cache-Control": "no-store", "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff",
                 "Cross-Origin-Resource-Policy": "same-origin"}
        for name, value in {**fixed, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def version_string(self) -> str:
        """The header Server."""
        return "nphybrid"

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Print nothing.  Only refused requests are printed, by `Server.tell`."""

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing.  Only refused requests are printed, by `Server.tell`."""
