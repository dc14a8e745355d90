"""Division of whole numbers that rounds up, for Python and for jitted code."""
from numba.extending import register_jitable


@register_jitable(error_model="numpy")
def ceil_div(a, b):
    """a / b rounded up: how many pieces of size b cover a.

    >>> ceil_div(12, 6), ceil_div(13, 6), ceil_div(0, 6)
    (2, 3, 0)
    """
    return (a + b - 1) // b
