"""The limits on requests, and the error for a request that is refused."""
from typing import NamedTuple


class Limits(NamedTuple):
    """The limits of a server.  A request beyond a limit is refused, and the connection is closed."""
    bytes: int = 32 << 20                 # of the body of a request; one picture has at most 64 million pixels as well
    pictures: int = 64                    # in one form
    connections: int = 16                 # at the same time; every request has its own connection
    receive_seconds: float = 20           # from the beginning of a connection to the last byte of its request
    compute_seconds: float = 30           # from the last byte of a request to the result of one picture
    send_seconds: float = 20              # for the bytes of an answer


class Refusal(Exception):
    """Raised for a request that is refused.

    `status` is the status code of HTTP. `message` says what was found and what was expected. `headers` are further
    headers of the answer.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
