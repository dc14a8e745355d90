"""Finds a change of layout that makes two arrays equal: a transpose, a reshape, a cut or a permutation."""
import math
from itertools import permutations
from typing import NamedTuple

import numpy as np

MOST_LISTED = 8                           # the number of entries of a permutation that a hint prints
MOST_OFFSETS = 8                          # a cut is tried at this number of offsets, and at the last possible offset
MOST_AXES = 5                             # for arrays with more axes, there are too many transposes to try


class Labels(NamedTuple):
    """The words for the two arrays and for the bound in a hint."""
    a: str
    b: str
    bound: str


def difference(a, b):
    """Returns max|a - b| / max|b| of two arrays of equal shape, and the index of the largest |a - b|.

    The index is None if no element differs. The difference is computed in float64. NaN equals NaN. The difference is
    infinite if an element is NaN in only one of the arrays. The difference is infinite if an element is infinite in
    only one of the arrays, or if two infinite elements have opposite signs.

    >>> difference(np.array([1.0, np.nan, 4.0]), np.array([1.0, np.nan, 5.0]))
    (0.2, (2,))
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.asarray(np.abs(a - b))
    apart[(a == b) | np.isnan(a) & np.isnan(b)] = 0
    apart[np.isnan(apart)] = np.inf
    if not apart.any():
        return 0.0, None
    where = tuple(int(i) for i in np.unravel_index(apart.argmax(), apart.shape))
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0))
    return float(apart[where]) / largest if largest else math.inf, where


def layout_hint(a, b, tolerance, labels):
    """Returns a text about the first change of layout after which max|a - b| / max|b| <= tolerance, or None.

    `a` and `b` are two arrays of real numbers that are not equal. The shapes of `a` and `b` may differ. If no change of
    layout makes the arrays equal, the text states how many elements are NaN in only one of the arrays. If there are no
    such elements, the text states that the arrays hold equal numbers in another order, or which transpose makes the
    shapes equal. The result is None if there is nothing to state.

    >>> x = np.arange(6.0).reshape(2, 3)
    >>> layout_hint(x, x.T, 0, Labels("A", "B", "the tolerance"))
    'equal within the tolerance after transpose (1, 0) of B'
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for search in (_transposed, _reshaped, _cut, _permuted):
        if change := search(a, b, tolerance):
            return f"equal within {labels.bound} after {change.format(a=labels.a, b=labels.b)}"
    if nan := _nan_on_one_side(a, b, labels):
        return nan
    if a.size == b.size > 1 and _equal(np.sort(a, axis=None), np.sort(b, axis=None), tolerance):
        return f"{labels.b} has the numbers of {labels.a} in another order, equal within {labels.bound}"
    if a.shape != b.shape and (axes := _transpositions(a, b)):
        error, best = min((difference(a, b.transpose(order))[0], order) for order in axes)
        return f"the shapes are equal after transpose {best} of {labels.b}; max|a - b| / max|b| is then {error:.3g}"
    return None


def _equal(a, b, tolerance):
    return a.shape == b.shape and difference(a, b)[0] <= tolerance


def _transpositions(a, b):
    """Returns the orders of axes, other than the unchanged order, in which b has the shape of a."""
    if a.ndim != b.ndim or a.ndim > MOST_AXES:
        return []
    return [axes for axes in list(permutations(range(a.ndim)))[1:] if b.transpose(axes).shape == a.shape]


def _transposed(a, b, tolerance):
    for axes in _transpositions(a, b):
        if _equal(a, b.transpose(axes), tolerance):
            return f"transpose {axes} of {{b}}"
    return None


def _reshaped(a, b, tolerance):
    if a.shape != b.shape and a.size == b.size and _equal(a.ravel(), b.ravel(), tolerance):
        return f"reshape {a.shape} of {{b}}"
    return None


def _cut(a, b, tolerance):
    """Returns a text if the shorter array is equal to a slice of the longer array along one axis; else None."""
    if a.ndim != b.ndim:
        return None
    unequal = [axis for axis in range(a.ndim) if a.shape[axis] != b.shape[axis]]
    if len(unequal) != 1 or 0 in (a.size, b.size):
        return None
    axis = unequal[0]
    length = min(a.shape[axis], b.shape[axis])
    surplus = max(a.shape[axis], b.shape[axis]) - length
    for start in [*range(min(surplus, MOST_OFFSETS)), surplus]:
        part = (slice(None),) * axis + (slice(start, start + length),)
        shorter_a, shorter_b = (x if x.shape[axis] == length else x[part] for x in (a, b))
        if _equal(shorter_a, shorter_b, tolerance):
            longer = "{b}" if b.shape[axis] > length else "{a}"
            return f"cutting axis {axis} of {longer} to [{start}:{start + length}]"
    return None


def _permuted(a, b, tolerance):
    """Returns a text if a permutation of b along one axis is equal to a; else None.

    The entries of each array along the axis are sorted by their products with one random vector. Entries with the same
    rank are then compared.
    """
    if a.shape != b.shape or a.size < 2:
        return None
    for axis, length in enumerate(a.shape):
        if length < 2:
            continue
        rows_a, rows_b = (np.moveaxis(x, axis, 0).reshape(length, -1) for x in (a, b))
        vector = np.random.default_rng(0).standard_normal(rows_a.shape[1])
        with np.errstate(all="ignore"):
            marks_a, marks_b = rows_a @ vector, rows_b @ vector
        order = np.empty(length, int)
        order[np.argsort(marks_a, kind="stable")] = np.argsort(marks_b, kind="stable")
        if _equal(a, b.take(order, axis), tolerance):
            return f"taking {_listed(order)} of axis {axis} of {{b}}"
    return None


def _listed(order):
    numbers = [str(i) for i in order[:MOST_LISTED]]
    return f"[{', '.join(numbers)}{', …' if len(order) > MOST_LISTED else ''}]"


def _nan_on_one_side(a, b, labels):
    if a.shape != b.shape:
        return None
    hints = []
    for name, x, other in (labels.a, a, b), (labels.b, b, a):
        alone = np.isnan(x) & ~np.isnan(other)
        if alone.any():
            first = [int(i) for i in np.unravel_index(alone.argmax(), alone.shape)]
            hints.append(f"NaN only in {name}: {int(alone.sum())} of {alone.size} elements, the first at {first}")
    return "; ".join(hints) or None
