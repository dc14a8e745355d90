"""What a file is, by its first bytes.

    kind                 begins with
    safetensors          uint64 header length, then "{" at byte 8
    hdf5                 89 "HDF" 0D 0A 1A 0A
    pickle-zip           "PK", and a member named data.pkl: torch since 1.6
    npz, zip             "PK", and .npy members or not
    pickle               80 02..05, or the opcodes of protocols 0 and 1: torch before 1.6, joblib
    git-lfs pointer      "version https://git-lfs"
    html                 "<!doctype", "<html", "<?xml" ...: a download that answered with a page
    json                 "{" or "["
    empty, unknown
"""

import os
import re
import shlex
import stat
from pathlib import Path

from .stored import refusal

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*[{\[]")
_OLD_PICKLE = re.compile(rb"\x80[\x02-\x05]|[}\]]q\x00|\([dl]p\d+\n|\(?c[\w.]+\n[\w.]+\n(p\d|[(q)}\]])")
# A header or directory entry of a zip, and in the name behind it: data.pkl.  Elsewhere these bytes mean nothing.
_ZIPPED_PICKLE = re.compile(rb"PK(\x03\x04.{26}|\x01\x02.{42})[^\0-\x1f]{0,255}?data\.pkl(?!\.npy)", re.DOTALL)
# The names of a zip's members stand in front of each member and again in the directory at the end.
_ENDS = 1 << 16


def sniff(path):
    """The kind of a file, by content: one of the words in this module's table.

    Nothing is parsed, so no content can make it fail.  Raises OSError if the file cannot be opened,
    FormatError if it is a folder or no regular file (a pipe would wait for ever).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "model.safetensors").write_text("<!DOCTYPE html><title>Sign in</title>")
    ...     sniff(folder + "/model.safetensors")
    'html'
    """
    head, tail = _ends(path)
    # First, because the length is free to look like any other kind's first bytes.
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return "safetensors"
    if head.startswith(HDF5_MAGIC):
        return "hdf5"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        ends = head + tail
        return "pickle-zip" if _ZIPPED_PICKLE.search(ends) else "npz" if b".npy" in ends else "zip"
    if _OLD_PICKLE.match(head):
        return "pickle"
    if head.startswith(b"version https://git-lfs"):
        return "git-lfs pointer"
    if _PAGE.match(head):
        return "html"
    if _JSON.match(head):
        return "json"
    return "unknown" if head else "empty"


def refuse_unreadable(path, expected):
    """Raises FormatError, with the way out, if the file is recognizably not of the expected kind.

    A file of no known kind passes: the reader of the expected format then names the rule that it breaks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "model.safetensors").touch()
    ...     refuse_unreadable(folder + "/model.safetensors", "safetensors")    # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    nphybrid.tensorfile.stored.FormatError: .../model.safetensors: the file is empty (0 bytes): ...
    """
    kind = sniff(path)
    if kind in (expected, "unknown"):
        return
    if kind in _WAYS_OUT:
        raise refusal(path, _WAYS_OUT[kind])
    if kind.startswith("pickle"):
        raise refusal(path, "is a pickle, which can run code when it is loaded, and is never opened here. "
                            f"Convert it once, where torch is installed:\n  {_conversion(path)}\n")
    raise refusal(path, "is of another kind", kind, expected)


_WAYS_OUT = {
    "empty": "the file is empty (0 bytes): a download or a copy failed; fetch it again",
    "git-lfs pointer": "is a Git LFS pointer, the note that stands for the weights, not the weights: "
                       "run `git lfs pull` in its folder, or download the file itself",
    "html": "is a web page (HTML), not weights: the download answered with a page, often a login or an "
            "error; open the file in an editor to see which, and fetch the weights again",
}


def _conversion(path):
    """The one line that turns this pickle into safetensors, ready to paste into a shell."""
    source, result = os.fspath(path), str(Path(path).parent / "model.safetensors")
    code = ("import torch, safetensors.torch as s; "
            f"s.save_file(torch.load({source!r}, map_location='cpu', weights_only=True), {result!r})")
    return "python -c " + (shlex.quote(code) if re.search(r'["$`!\\]', code) else f'"{code}"')


def _ends(path):
    """The first and last bytes of a regular file."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise refusal(path, "is a folder, not a file" if stat.S_ISDIR(mode) else "is not a regular file")
    with open(path, "rb") as file:
        head = file.read(_ENDS)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _ENDS))
        return head, file.read(_ENDS)
