"""Recognizes the kind of a file by its first and last bytes, which are hexadecimal or "text" in this table.

    "safetensors"        The file begins with a header length (uint64), and byte 8 is "{".
    "hdf5"               The file begins with 89 "HDF" 0D 0A 1A 0A.
    "pickle-zip"         The file begins with "PK", and the name of a member ends in data.pkl (torch since 1.6).
    "npz"                The file begins with "PK", and its first or last bytes contain ".npy".
    "zip"                The file begins with "PK", and is neither of kind "pickle-zip" nor "npz".
    "pickle"             The file begins with 80 02..05 or an opcode of protocol 0 or 1 (torch before 1.6, joblib).
    "git-lfs pointer"    The file begins with "version https://git-lfs".
    "html"               The file begins with "<!doctype", "<html" or "<?xml": the server returned a web page.
    "json"               The file begins with "{" or "[".
    "picture"            The file begins like a JPEG, PNG, GIF or WebP file.
    "empty"              The file has no byte.
    "unknown"            The file is of no other kind.
"""

import os
import re
import shlex

from .errors import FilePath, refusal
from .stored import Reader, shared

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[{\[]")
_PICTURE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP", re.DOTALL)
_OLD_PICKLE = re.compile(rb"\x80[\x02-\x05]|[}\]]q\x00|\([dl]p\d+\n|\(?c[\w.]+\n[\w.]+\n(p\d|[(q)}\]])")
# A local header or a directory entry of a zip archive, for a member whose name ends in data.pkl.
# At other places of a file the text data.pkl means nothing.
_ZIPPED_PICKLE = re.compile(rb"PK(\x03\x04.{26}|\x01\x02.{42})[^\0-\x1f]{0,255}?data\.pkl(?!\.npy)", re.DOTALL)
# The number of bytes that are searched at the beginning and at the end of a file.
# A zip archive states the name of a member two times: before the member, and at the end of the file.
_ENDS = 1 << 16

_WAYS_OUT = {
    "empty": "the file is empty (0 bytes): a download or a copy failed. Download or copy the file again",
    "git-lfs pointer": "the file is a Git LFS pointer, a short text in place of the weights. "
                       "Run `git lfs pull` in its folder, or download the weights",
    "picture": "the file is a picture, not a model",
    "html": "the file is a web page (HTML), not weights: the server returned a page, often a login or an "
            "error. Open the file in an editor to read the page, and download the weights again",
}


def sniff(path: FilePath) -> str:
    """Returns the kind of a file, which is one of the kinds in this module's table.

    The content of the file decides its kind. Nothing is parsed, so no content can cause an exception. Raises OSError if
    the file cannot be opened. Raises FormatError if `path` is a folder, or is not a regular file.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "model.safetensors").write_text("<!DOCTYPE html><title>Sign in</title>")
    ...     sniff(folder + "/model.safetensors")
    'html'
    """
    file = shared(path)
    if file.kind is None:
        with file.opened() as reader:
            file.kind = _kind(*_ends(reader))
    return file.kind


def refuse_unreadable(path: FilePath, expected: str) -> None:
    """Raises FormatError if the first and last bytes show that the file is not of the kind `expected`.

    The message explains what the user can do. A file of unknown kind is accepted. The reader of the expected format
    then states the rule that the file breaks.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pathlib.Path(folder, "model.safetensors").touch()
    ...     refuse_unreadable(folder + "/model.safetensors", "safetensors")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.errors.FormatError: .../model.safetensors: the file is empty (0 bytes): ...
    """
    kind = sniff(path)
    if kind in (expected, "unknown"):
        return
    if kind in _WAYS_OUT:
        raise refusal(path, _WAYS_OUT[kind])
    if kind.startswith("pickle") or os.fspath(path).endswith(".bin.index.json"):
        raise refusal(path, f"the file is {way_out_of_pickles(path)}")
    raise refusal(path, "the file is of another kind", kind, expected)


def way_out_of_pickles(path: FilePath) -> str:
    """Returns what is said of a pickle, or of the index of several pickles: what the file is, and how to convert it.

    >>> print(way_out_of_pickles("pytorch_model.bin"))
    a pickle, which can run code when it is loaded. A pickle is never opened here. Convert the file ...
      python examples/convert_checkpoint.py pytorch_model.bin
    <BLANKLINE>
    """
    what = "an index of pickles" if os.fspath(path).endswith(".bin.index.json") else "a pickle"
    return (f"{what}, which can run code when it is loaded. A pickle is never opened here. Convert the file on a "
            "computer with torch, with a script from the folder examples of nphybrid's source:\n"
            f"  python examples/convert_checkpoint.py {shlex.quote(os.fspath(path))}\n")


def _kind(head: bytes, tail: bytes) -> str:
    """Returns the kind of a file.  head, tail: the first and the last bytes of the file"""
    # safetensors is tested first, because its header length may look like the first bytes of any other kind.
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return "safetensors"
    if head.startswith(HDF5_MAGIC):
        return "hdf5"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        ends = head + tail
        if _ZIPPED_PICKLE.search(ends):
            return "pickle-zip"
        return "npz" if b".npy" in ends else "zip"
    if _OLD_PICKLE.match(head):
        return "pickle"
    if head.startswith(b"version https://git-lfs"):
        return "git-lfs pointer"
    if _PAGE.match(head):
        return "html"
    if _JSON.match(head):
        return "json"
    if _PICTURE.match(head):
        return "picture"
    return "unknown" if head else "empty"


def _ends(reader: Reader) -> tuple[bytes, bytes]:
    """Reads the first and the last bytes of a file."""
    head = reader.read(_ENDS)
    reader.seek(max(0, reader.size() - _ENDS))
    return head, reader.read(_ENDS)
