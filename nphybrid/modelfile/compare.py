"""Where two networks, or two implementations of one, part: every state of the walk beside its twin.

A trace is a file {state: array}, as `nphybrid trace --save a.npz` and `numpy.savez("a.npz", **model.trace(x))` write.
Two model files are walked here, by the reference engine in float64, so that whatever differs lies in the files.
"""
import math
from typing import NamedTuple

import numpy as np

from .. import checkpoint, tensorfile
from ..checkpoint import hub
from ..dialects.guess import guess
from ..text import dimensions, json_number, printable, table
from ..trace import Discard, Trace

# max|a - b| / max|b| up to which a state is the same: between float64 arrays, and between others. Observed: 3.1e-14
# between the reference and PyTorch in 83 networks; and in float32, of any state of the networks of verification.BOUNDS,
# 1.2e-4 (reference) and 3.5e-5 (numba), both in BiT-R50x1. A wrong eps may be less than that, so compare in float64.
EXACT, ROUNDED = 1e-9, 3e-4

# The order of the walk. What is inside a part comes before the part itself.
_PARTS = ("pixel_values", "stem", "stages", "features_norm", "tokens", "blocks", "norm", "pooler", "pool_norm",
          "pre_logits", "logits")
_INSIDE = {
    "stem": ("conv", "border", "norm"),
    "bottleneck": ("proj", "norm_proj", "conv1", "norm1", "conv2", "norm2", "conv3"),
    "preactivation": ("norm1", "proj", "conv1", "norm2", "conv2", "norm3", "conv3"),
    "tokens": ("proj", "masked"),
    "blocks": ("norm1", "query", "key", "value", "weights", "context", "out", "norm2", "fc1"),
}


class Row(NamedTuple):
    """One state of A beside that of B."""
    name: str
    shapes: tuple                         # of A and of B; None where there is no such state
    error: float | None                   # max|a - b| / max|b|; None where shapes differ
    where: tuple | None                   # index of the largest |a - b|
    values: tuple | None                  # of A and of B, there
    verdict: str                          # "equal", "within", "DIFFERS", "other shape", "only in A", "only in B"

    @property
    def ok(self):
        """Whether it is as it should be."""
        return self.verdict in ("equal", "within")


def compared(a, b, tolerance=None, image=None):
    """Every state of two models or two traces, in the order of the walk.  -> list of Row

    a, b: two models of any format, by path or by name on the hub, or two traces (`.npz`, `.safetensors`). tolerance:
    of max|a - b| / max|b|, the default is EXACT between two float64 arrays and ROUNDED between others. image: the path
    of a picture, which each model sees through its own image processor; default: the built-in input. NaN is equal to
    NaN alone. Raises ValueError for a model beside a trace, and what reading them raises.

    >>> from nphybrid import default_model
    >>> rows = compared(default_model(), default_model())
    >>> rows[0].name, rows[-1].name, {row.verdict for row in rows}
    ('pixel_values', 'logits', {'equal'})
    """
    a, b = hub.resolve(a), hub.resolve(b)
    kinds = [_kind(path) for path in (a, b)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{a} is a {kinds[0]} and {b} a {kinds[1]}; expected two models or two traces")
    if kinds[0] == "trace":
        if image is not None:
            raise ValueError("image: only models look at pictures; these are traces")
        return _rows(tensorfile.stored(a), tensorfile.stored(b), tolerance)
    out = Twin(_walked(a, image, Trace()), tolerance)
    _walked(b, image, out)
    return in_order(out.rows + [_alone(name, state, None) for name, state in out.others.items()])


def _kind(path):
    """Models are folders, `.h5` files, and files whose names are those of weights."""
    if path.is_dir() or tensorfile.sniff(path) == "hdf5":
        return "model"
    return "trace" if guess(tensorfile.stored(path))[0] is None else "model"


def _walked(path, image, out):
    """Walk a model, its states going to a notebook.  -> the notebook"""
    from ..api.load import load
    model = load(path, engine="reference", dtype="float64")
    if image is None:
        x = checkpoint.golden_input(model.network_config).transpose(0, 3, 1, 2)
    else:
        x = model.prepared(image)
    model.run_into(out, x)
    return out


class Twin(Discard):
    """Lays each state beside the one of its name in another trace, and forgets both: a large network's states are
    held once, not twice."""

    def __init__(self, others, tolerance):
        super().__init__()
        self.others, self.tolerance, self.rows = dict(others), tolerance, []

    def wants(self, name):
        """Everything, the attention weights too."""
        return True

    def __setitem__(self, name, state):
        other = self.others.pop(name, None)
        row = _alone(name, None, state) if other is None else _beside(name, other, state, self.tolerance)
        self.rows.append(row)


def _rows(a, b, tolerance):
    """Two traces {name: array or Stored}; no more than two arrays are in memory at once."""
    rows = [_beside(name, np.asarray(a[name]), np.asarray(b[name]), tolerance) for name in a if name in b]
    rows += [_alone(name, a[name], None) for name in a if name not in b]
    return in_order(rows + [_alone(name, None, b[name]) for name in b if name not in a])


def _alone(name, a, b):
    shapes = tuple(None if x is None else tuple(x.shape) for x in (a, b))
    return Row(name, shapes, None, None, None, "only in A" if b is None else "only in B")


def _beside(name, a, b, tolerance):
    shapes = tuple(a.shape), tuple(b.shape)
    if shapes[0] != shapes[1]:
        return Row(name, shapes, None, None, None, "other shape")
    if tolerance is None:
        tolerance = EXACT if a.dtype == b.dtype == np.float64 else ROUNDED
    error, where = difference(a, b)
    verdict = "equal" if error == 0 else "within" if error <= tolerance else "DIFFERS"
    values = None if where is None else (float(a[where]), float(b[where]))
    return Row(name, shapes, error, where, values, verdict)


def difference(a, b):
    """max|a - b| / max|b| of two arrays of one shape, and the index of the largest |a - b|; None where none differs.

    What is infinite or NaN in one alone, or infinite with another sign, differs infinitely.

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


# ---------------------------------------------------------------- the order of the walk

def in_order(rows):
    """Rows as the walk meets their states, whatever order a file had them in; states unknown to it come last."""
    names = [row.name for row in rows]
    early = any(name.startswith("stages.") and name.endswith(".norm3") for name in names)
    unit = "preactivation" if early else "bottleneck"
    return sorted(rows, key=lambda row: _place(row.name, unit))


def _place(name, unit):
    """A key that sorts: parts in their order, numbers by value, the inside of a part before the part."""
    scope, *rest = name.split(".")
    words, key = _INSIDE.get(unit if scope == "stages" else scope, ()), [_rank(scope, _PARTS)]
    for word in rest:
        key.append(int(word) if word.isdecimal() else _rank(word, words))
    return key + [math.inf]


def _rank(word, words):
    return words.index(word) if word in words else len(words)


# ---------------------------------------------------------------- what is shown

def first_difference(rows):
    """The first row that is not as it should be; None if all are."""
    return next((row for row in rows if not row.ok), None)


def shown(rows):
    """A row per state, then where the two first part."""
    cells = [(printable(row.name), _shape(row.shapes), _error(row.error), row.verdict) for row in rows]
    return table([("state", "shape", "max|a - b| / max|b|", ""), *cells], "<<><") + "\n\n" + _conclusion(rows)


def _error(error):
    return "" if error is None else f"{error:.1e}" if error else "0"


def _shape(shapes):
    return " / ".join(dict.fromkeys(dimensions(shape) for shape in shapes if shape is not None))


def _conclusion(rows):
    first = first_difference(rows)
    if first is None:
        return f"no state differs, of {len(rows)}"
    count = f"{sum(not row.ok for row in rows)} of {len(rows)} states differ, first {printable(first.name)}: "
    if first.error is None:
        return count + (f"shapes {_shape(first.shapes)}" if None not in first.shapes else first.verdict)
    a, b = first.values
    return count + f"{a:.9g} in A, {b:.9g} in B at {list(first.where)}, error {_error(first.error)}"


def as_json(rows):
    """What `json` can hold."""
    first = first_difference(rows)
    return {"equal": first is None, "first": first and first.name, "states": [
        {**row._asdict(), "error": json_number(row.error), "values": row.values and [*map(json_number, row.values)]}
        for row in rows]}
