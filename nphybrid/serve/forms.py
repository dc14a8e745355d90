"""Read the files of a form from the body of a request with the type multipart/form-data (RFC 7578, RFC 2046)."""
from email.parser import HeaderParser
from typing import NamedTuple

from .limits import Refusal

HEAD_BYTES = 8192                         # the largest number of bytes of the headers of one file


class Upload(NamedTuple):
    """A picture file that a client sent."""
    name: str                             # the name that the client gave, for messages alone
    data: bytes


def uploads(body: bytes, boundary: str | None, most: int) -> list[Upload]:
    r"""The files of a form.

    `boundary` is the parameter of the type. `most` is the largest number of files. Raises Refusal for a form that is
    malformed, has no file or more than `most` files, or has a field that is not a file.

    >>> part = b'Content-Disposition: form-data; name="a"; filename="cat.png"\r\n\r\npixels'
    >>> uploads(b"--b\r\n" + part + b"\r\n--b--\r\n", "b", 8)
    [Upload(name='cat.png', data=b'pixels')]
    """
    if not boundary or len(boundary) > 70 or not boundary.isascii():
        raise Refusal(400, "the form has no boundary; expected Content-Type: multipart/form-data; boundary=…, with at "
                           "most 70 characters of ASCII")
    # The limit on the number of pieces also bounds the memory of a body that contains only boundaries.
    before, *pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode(), most + 2)
    if len(pieces) > most + 1:
        raise Refusal(413, f"the form has more than {most} files; expected at most {most}")
    if not pieces or not pieces[-1].startswith(b"--"):
        raise Refusal(400, "the form is truncated; expected its last boundary at the end")
    if len(pieces) == 1:
        raise Refusal(400, "the form has no file; expected at least one picture file")
    return [_upload(piece, number + 1) for number, piece in enumerate(pieces[:-1])]


def _upload(piece, number):
    """The file in one part of a form.  `number` is the number of the part, for messages."""
    padding, line_end, rest = piece.partition(b"\r\n")
    head, blank, data = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not line_end or not blank or len(head) > HEAD_BYTES:
        raise Refusal(400, f"part {number} of the form is malformed; expected headers of at most {HEAD_BYTES:,} bytes, "
                           "an empty line and a file")
    # Browsers write a name in UTF-8.
    try:
        name = HeaderParser().parsestr(head.decode("utf-8", "replace").lstrip("\r\n")).get_filename()
    except Exception as error:            # for example a character set that Python does not know, in filename*
        raise Refusal(400, f"the headers of part {number} of the form cannot be read ({error})") from error
    if name is None:
        raise Refusal(400, f"part {number} of the form is not a file; expected picture files alone, each with the "
                           "parameter filename in its Content-Disposition")
    return Upload(name or f"part {number}", data)           # a browser sends an empty name if no file was chosen
