"""Integer division that rounds up, for Python and for jitted code."""
from numba.extending import register_jitable


@register_jitable(error_model="numpy")
def ceil_div(a, b):
    """Return a / b, rounded up: the number of pieces of length b that cover the length a.

    >>> ceil_div(12, 6), ceil_div(13, 6), ceil_div(0, 6)
    (2, 3, 0)
    """
    return (a + b - 1) // b
