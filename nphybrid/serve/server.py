"""Accepts connections.  Each connection gets a thread, and at most `Limits.connections` connections are open."""
import contextlib
import errno
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..text import ellipsis
from .addresses import host_in_url, is_every_address
from .files import page_files
from .handler import Handler
from .limits import Limits
from .service import Service
from .worker import Worker

LAST_SECONDS = 1.0                        # the requests in progress may take this long after Ctrl-C
MOST_LINES, LINE_SECONDS = 20, 10.0       # at most this many lines about refused requests in this time
_BUSY = json.dumps({"error": "the server has too many connections; try again later"}).encode() + b"\n"
BUSY = (b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: close\r\nRetry-After: 5\r\nX-Content-Type-Options: nosniff\r\n\r\n%s" % (len(_BUSY), _BUSY))


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A server for one service.  `serve_forever` accepts connections, and `server_close` ends the server.

    With port 0, the operating system chooses a free port. `address` is the URL of the server. `allowed` are further
    values of the header Host that are accepted. `last_seconds` is the longest time that `server_close` waits for the
    requests in progress: those whose pictures have arrived.
    """
    last_seconds = LAST_SECONDS
    daemon_threads = True
    # On Windows, this option would let another program take over the port.
    allow_reuse_address = os.name != "nt"
    request_queue_size = 128              # connections that wait to be accepted

    def __init__(self, service: Service, name: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None,
                 allowed: Iterable[str] = ()) -> None:
        """Listen on an address.  Raises OSError if the address cannot be used."""
        self.service = service
        self.name = name
        self.allowed = {host.lower() for host in allowed}
        self.limits = Limits() if limits is None else limits
        self.files = page_files()
        self.connections = threading.BoundedSemaphore(self.limits.connections)
        self.worker = Worker()
        self.lock = threading.Lock()                         # of the next three numbers
        self.in_progress = self.lines = 0
        self.lines_since = 0.0
        try:
            self.address_family, _, _, _, where = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
            super().__init__(where, Handler)                 # type: ignore[arg-type]
        except (OSError, UnicodeError) as error:             # UnicodeError: a part of the name is too long
            self.worker.stop(0)
            reason = error.strerror if isinstance(error, OSError) else "not the name of a computer"
            port_is_bad = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
            way_out = "; another port can be given, and port 0 is any free port" if port_is_bad else ""
            raise OSError(f"the address {host_in_url(name)}:{port} cannot be served ({reason}){way_out}") from error

    @property
    def address(self) -> str:
        """The URL of the server on this computer, for example http://127.0.0.1:8000."""
        name = self.name
        if is_every_address(name):
            name = "::1" if ":" in name else "127.0.0.1"
        return f"http://{host_in_url(name)}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a new thread, or refuse it if there are too many connections."""
        if not self.connections.acquire(blocking=False):
            self._refuse(request)
            self.tell(client_address[0], 503, "too many connections")
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:                                 # no thread can be started
            self.connections.release()
            self._refuse(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection.  This method runs in the thread of the connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    @contextlib.contextmanager
    def progress(self) -> Iterator[None]:
        """Count a request in progress, for which `server_close` waits."""
        with self.lock:
            self.in_progress += 1
        try:
            yield
        finally:
            with self.lock:
                self.in_progress -= 1

    def tell(self, client: str, status: int, message: str) -> None:
        """Print a line about a refused request on stderr.  The number of lines in a time is limited."""
        with self.lock:
            now = time.monotonic()
            if now - self.lines_since >= LINE_SECONDS:
                self.lines, self.lines_since = 0, now
            self.lines += 1
            line = self.lines
        if line <= MOST_LINES and sys.stderr is not None:                # a full pipe must not keep the lock
            more = f" (no more lines for up to {LINE_SECONDS:g} seconds)" if line == MOST_LINES else ""
            with contextlib.suppress(OSError):
                print(f"nphybrid: {client}: {status} {ellipsis(message, 300)}{more}", file=sys.stderr, flush=True)

    def _refuse(self, request):
        """Answer with the status 503, without waiting for the request."""
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(BUSY)
            request.shutdown(socket.SHUT_WR)
            request.recv(1 << 16)                            # if bytes were left, closing could delete the answer
        self.shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening.  Wait at most `last_seconds` for the requests in progress."""
        super().server_close()
        end = time.monotonic() + self.last_seconds
        try:
            while self.in_progress and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            self.worker.stop(0)
            self.service.stop()
