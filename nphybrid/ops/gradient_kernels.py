"""Fast versions of the rules of `gradients`, in float32.

This file defines the rules of poolings, activations and a residual, and imports the other rules. `gradients.f` is the
plain definition of a rule `f`. Only here, fused operations have rules of their own.
"""
import numpy as np

from . import threads
from .attention_gradients import attention
from .checks import floats
from .chunks import CHUNK, rows_per_task
from .elementwise import code_of, differentiate_in
from .gradients import mean_pool
from .integers import ceil_div
from .jit import jit, jit_allocating
from .memory import empty
from .norm_gradients import group_norm, group_norm_activate, group_norm_add_activate, layer_norm
from .product_gradients import conv2d, linear
from .standardization import standardize_gradient


def linear_add(dy, y, x, p, residual):
    """The gradients of x and of the layer, as in `linear`.  dy is the gradient of the residual."""
    return *linear(dy, y, x, p), dy


def max_pool(dy, y, x, padding, fill):
    """The gradient of x.  A task owns some rows of dx, and looks at all windows that touch these rows.

    So no two tasks write to one cell. The gradients of the windows of a cell are added up in the order of the windows.
    """
    B, H, W, C = np.shape(x)
    x = floats(x)
    y = floats(y, "y")
    dy = floats(dy, "dy", y.shape)
    (top, _), (left, _) = padding
    dx = empty(B, H, W, C)
    rows = rows_per_task(B * H, W * C)
    corner = top, left, np.float32(fill)
    threads.run(ceil_div(B * H, rows), lambda i: _max_pool_into(dx, dy, y, x, corner, i * rows, rows),
                threads.ELEMENT * x.size)
    return dx,


@jit_allocating
def _max_pool_into(dx, dy, y, x, corner, first_row, rows):
    """Compute some rows of dx.  The rows of all images are numbered in one sequence.

    `rest` is dy of a window in the channels whose largest cell was not found yet, and 0 in the other channels.
    """
    B, H, W, C = x.shape
    top, left, fill = corner
    end_row = min(first_row + rows, B * H)
    outside = np.full(C, fill)
    elsewhere = np.zeros(C, np.float32)   # gets the gradients of cells that belong to the padding or another task
    rest = np.empty(C, np.float32)
    for b in range(first_row // H, (end_row - 1) // H + 1):
        first = max(first_row - b * H, 0)
        end = min(end_row - b * H, H)
        dx[b, first:end] = np.float32(0)
        # Window i has the rows range(2 i - top, 2 i - top + 3) of the map.
        for i in range(max((first + top - 1) // 2, 0), min((end - 1 + top) // 2 + 1, y.shape[1])):
            for j in range(y.shape[2]):
                largest = y[b, i, j]
                rest[:] = dy[b, i, j]
                for u in range(2 * i - top, 2 * i - top + 3):
                    for v in range(2 * j - left, 2 * j - left + 3):
                        if not (0 <= u < H and 0 <= v < W):
                            _move_in(elsewhere, rest, outside, largest)
                        elif first <= u < end:
                            _move_in(dx[b, u, v], rest, x[b, u, v], largest)
                        else:
                            _move_in(elsewhere, rest, x[b, u, v], largest)


@jit
def _move_in(to, rest, cell, largest):
    """Move `rest` to the gradient of a cell, in the channels where the cell has the largest value."""
    for c in range(to.size):
        before = rest[c]
        moved = before if cell[c] == largest[c] else np.float32(0)
        to[c] += moved
        rest[c] = np.float32(0) if cell[c] == largest[c] else before


def activate(dy, y, x, activation):
    """Copy dy and multiply the copy by the derivative in place."""
    code = code_of(activation)
    x = floats(x)
    flat = x.reshape(-1)
    d_flat = floats(dy, "dy", x.shape).reshape(-1)
    dx = empty(x.size)

    def task(i):
        part = slice(i * CHUNK, (i + 1) * CHUNK)
        dx[part] = d_flat[part]
        differentiate_in(dx[part], flat[part], code)
    threads.run(ceil_div(x.size, CHUNK), task, threads.ELEMENT * x.size)
    return dx.reshape(x.shape),


RULES = {
    "standardize": standardize_gradient, "conv2d": conv2d, "max_pool": max_pool, "mean_pool": mean_pool,
    "group_norm": group_norm, "group_norm_activate": group_norm_activate,
    "group_norm_add_activate": group_norm_add_activate, "layer_norm": layer_norm, "linear": linear,
    "linear_add": linear_add, "attention": attention, "activate": activate,
}
