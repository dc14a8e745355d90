"""Decode picture files to RGB (`decode`), and resample pictures bilinearly as TensorFlow does (`resample`).

This file has the settings of `decode` that also concern other modules.
"""
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

MAX_PIXELS = 64_000_000
# The name of the picture that the present thread decodes. The command line prints it with the warnings of Pillow.
being_read: ContextVar[str] = ContextVar("being_read", default="")

_limit = MAX_PIXELS


def max_pixels() -> int:
    """Return the largest number of pixels (rows times columns) of a picture that `open_picture` decodes."""
    return _limit


@contextlib.contextmanager
def pixel_limit(limit: int | None) -> Iterator[None]:
    """During a `with` block, set the largest number of pixels of a picture, for this whole process.

    The limit holds for `open_picture` and for everything that calls it, such as pipelines. Outside of a `with` block,
    the limit is 64,000,000 pixels. If `limit` is None, the limit does not change. Decoding may need 24 bytes per pixel.

    Pillow has a limit of its own for TIFF and WebP, Image.MAX_IMAGE_PIXELS. If necessary, it is raised, too.

    >>> with pixel_limit(200_000_000):
    ...     max_pixels()
    200000000
    >>> max_pixels()
    64000000
    """
    if limit is None:
        yield
        return
    from PIL import Image

    global _limit
    before = _limit, Image.MAX_IMAGE_PIXELS
    _limit = limit
    if before[1] is not None:
        Image.MAX_IMAGE_PIXELS = max(limit, before[1])
    try:
        yield
    finally:
        _limit, Image.MAX_IMAGE_PIXELS = before
