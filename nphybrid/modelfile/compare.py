"""Compares two models, or two implementations of one model, and finds the first state that differs.

A trace is {name of the state: array} for the states of one forward pass.  `nphybrid trace --save a.npz` writes a trace
to a file.  In Python, `numpy.savez("a.npz", **model.trace(x))` writes a trace to a file.  If two model files are
compared, the reference engine runs the two models in float64.  Every difference then comes from the files.  A file with
narrow weights is run in its own dtype.  So comparing it with the original file shows what the rounding changes.
"""
import math
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from .. import checkpoint, tensorfile
from ..api.checks import as_array
from ..checkpoint import hub
from ..dialects.guess import dialect_of, guess
from ..text import dimensions, json_number, name_list, printable, table
from ..trace import Discard, Trace
from .layout_hints import Labels, difference, layout_hint

# A state does not differ if max|a - b| / max|b| is at most EXACT (two float64 arrays) or ROUNDED (other dtypes).
# The largest value that was observed in float64 is 3.5e-14, between the reference engine and PyTorch in 83 networks.
# The largest values that were observed in float32 are 1.2e-4 (reference) and 3.5e-5 (numba), in BiT-R50x1.
# The float32 values are from all states of the networks of verify.BOUNDS.
# The error from a wrong eps, or from another form of GELU, may be smaller than ROUNDED. COARSE says so.
EXACT, ROUNDED = 1e-9, 3e-4
COARSE = "a wrong eps or another form of GELU can change a state by less; two float64 traces show it"

FILES = Labels("A", "B", "the tolerance")

# The states in the order of the forward pass. The states inside a part of the network come before the part's own state.
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
    """The comparison of one state between A and B."""
    name: str
    shapes: tuple                         # the shapes in A and in B; None for a side that does not have the state
    error: float | None                   # max|a - b| / max|b|; None if the shapes differ
    where: tuple | None                   # the index of the largest |a - b|
    values: tuple | None                  # the values of A and of B at the index `where`
    verdict: str                          # "equal", "within", "DIFFERS", "other shape", "only in A", "only in B"
    tolerance: float | None = None        # the tolerance of `error`; None if only one side has the state
    hint: str | None = None               # how the layouts differ; given only in the first row that differs

    @property
    def ok(self):
        """Whether the state of A is equal to the state of B within the tolerance."""
        return self.verdict in ("equal", "within")


# ---------------------------------------------------------------- two files

def compare_files(a, b, tolerance=None, image=None, common=False, only=()):
    """Compare two models or two traces state by state, in the order of the forward pass.  -> list of Row

    `a` and `b` are two models of any format, by path or by name on the hub, or two traces (`.npz`, `.safetensors`).
    `tolerance` is the bound of max|a - b| / max|b|. The default tolerance is EXACT between two float64 arrays, and
    ROUNDED between arrays of other dtypes. `image` is the path of a picture, which each model prepares with its own
    image processor. Without `image`, the models get the built-in input. `compare_states` describes `common` and `only`.
    NaN equals only NaN. Raises ValueError if a model and a trace are given, or two traces and an image. Reading a file
    and `compare_states` can raise other exceptions.

    >>> from nphybrid import default_model
    >>> rows = compare_files(default_model(), default_model())
    >>> rows[0].name, rows[-1].name, {row.verdict for row in rows}
    ('pixel_values', 'logits', {'equal'})
    """
    a, b = hub.resolve(a), hub.resolve(b)
    kinds = [_kind(path) for path in (a, b)]
    if kinds == ["weights", "weights"]:
        raise ValueError(f"{a} and {b} have the names of weights; expected the names of states, or two models: a file "
                         "with these names is only a part of a model. In Python, nphybrid.testing.assert_states_close "
                         "also compares two mappings of weights or gradients")
    kinds = ["model" if kind == "weights" else kind for kind in kinds]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{a} is a {kinds[0]} and {b} is a {kinds[1]}; expected two models or two traces")
    if kinds[0] == "model":
        return _compare_models(a, b, tolerance, image, common, only)
    if image is not None:
        raise ValueError("image: expected two models, which read pictures; found two traces")
    return compare_states(tensorfile.stored(a), tensorfile.stored(b), tolerance, common, only)


def _kind(path):
    """Returns "model", "trace", or "weights" for a single file with Hugging Face's names of weights."""
    if path.is_dir() or tensorfile.sniff(path) == "hdf5":
        return "model"
    kind, _ = guess(tensorfile.stored(path))
    if kind is None:
        return "trace"
    return "weights" if dialect_of(kind) is None else "model"


def _compare_models(a, b, tolerance, image, common, only):
    trace = Trace()
    _run_model(a, image, trace)
    names = list(trace)
    comparison = Comparison(trace, tolerance, only)
    del trace
    _run_model(b, image, comparison)
    rows = comparison.rows | {name: _one_sided_row(name, x, None) for name, x in comparison.others.items()}
    return [rows[name] for name in select_names(names, comparison.names, common, only)]


def _run_model(path, image, trace):
    """Load a model and put the states of one forward pass into a trace."""
    from ..api.load import build_model
    with checkpoint.opened(path) as source:
        dtype = checkpoint.stored_dtype(source.manifest, path) or "float64"
        model = build_model(source, engine="reference", dtype=dtype)
    if image is None:
        x = checkpoint.golden_input(model.network_config).transpose(0, 3, 1, 2)
    else:
        x = model.prepared(image)
    model.run_into(trace, x)


class Comparison(Discard):
    """A trace that compares each new state with the state of this name in `others`, and then drops the two states.

    The states of a large network are then in memory only one time, not two times.
    """

    def __init__(self, others, tolerance, only=()):
        super().__init__()
        self.others = dict(others)
        self.tolerance, self.only = tolerance, only
        self.names, self.rows = [], {}

    def wants(self, name):
        """Returns True, because every state is compared, even the attention weights."""
        return True

    def __setitem__(self, name, state):
        self.names.append(name)
        other = self.others.pop(name, None)
        if _matches(name, self.only):
            explain = not any(_differs(row) for row in self.rows.values())
            self.rows[name] = _row(name, other, state, self.tolerance, FILES, explain)


# ---------------------------------------------------------------- two mappings of states

def compare_states(a, b, tolerance=None, common=False, only=(), labels=FILES, atol=0.0):
    """Compare two mappings {name: array} state by state, in the order of the forward pass.  -> list of Row

    The values in `a` and `b` are arrays of any real dtype, torch tensors, or `Stored` arrays. `Stored` arrays are read
    state by state. `tolerance` is the bound of max|a - b| / max|b|, as in `compare_files`. A state is also within the
    tolerance if max|a - b| <= `atol`. If `common` is True, only names that are in `a` and in `b` are compared. `only`
    holds shell-style patterns. If there are patterns, only names that match a pattern are compared. `labels` holds the
    words for A, B and the tolerance in verdicts and hints. Raises ValueError for a pattern that matches no name. Raises
    ValueError if `common` is True and no name is in `a` and in `b`. Raises TypeError for an array that does not hold
    real numbers.

    >>> x = np.ones((2, 3))
    >>> [(row.name, row.verdict) for row in compare_states({"stem": x, "norm": x}, {"norm": 2 * x})]
    [('stem', 'only in A'), ('norm', 'DIFFERS')]
    """
    rows, explain = [], True
    for name in select_names(list(a), list(b), common, only):
        row = _row(name, a[name] if name in a else None, b[name] if name in b else None, tolerance, labels, explain,
                   atol)
        explain = explain and not _differs(row)
        rows.append(row)
    return rows


def select_names(names_a, names_b, common=False, only=()):
    """Returns the names of the states to compare, in the order of the forward pass.

    `compare_states` describes the arguments and the exceptions.

    >>> select_names(["stem", "norm", "logits"], ["logits", "stem"], common=True, only=["s*"])
    ['stem']
    """
    names = in_forward_order(dict.fromkeys([*names_a, *names_b]))
    if common:
        both = set(names_a) & set(names_b)
        names = [name for name in names if name in both]
        if not names:
            raise ValueError("expected a state that A and B have in common; A has the states "
                             f"{name_list(names_a) or 'none'}, B has the states {name_list(names_b) or 'none'}")
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"only: expected a pattern that matches a state, found {pattern!r}; "
                             f"the states are {name_list(names)}")
    return [name for name in names if _matches(name, only)]


def _matches(name, only):
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def _row(name, a, b, tolerance, labels, explain, atol=0.0):
    """Returns the row of one state.  `a` is None if only B has the state, and `b` is None if only A has the state."""
    if a is None or b is None:
        return _one_sided_row(name, a, b, labels)
    a, b = _as_numbers(name, a), _as_numbers(name, b)
    shapes = tuple(a.shape), tuple(b.shape)
    if tolerance is None:
        tolerance = EXACT if a.dtype == b.dtype == np.float64 else ROUNDED
    if shapes[0] != shapes[1]:
        row = Row(name, shapes, None, None, None, "other shape", tolerance)
    else:
        error, where = difference(a, b)
        values = None if where is None else (float(a[where]), float(b[where]))
        near = values is not None and abs(values[0] - values[1]) <= atol
        row = Row(name, shapes, error, where, values, "within" if near else _verdict(error, tolerance), tolerance)
    return row._replace(hint=layout_hint(a, b, tolerance, labels)) if explain and not row.ok else row


def _one_sided_row(name, a, b, labels=FILES):
    shapes = tuple(None if x is None else np.shape(x) for x in (a, b))
    return Row(name, shapes, None, None, None, f"only in {labels.a if b is None else labels.b}")


def _verdict(error, tolerance):
    if error == 0:
        return "equal"
    return "within" if error <= tolerance else "DIFFERS"


def _differs(row):
    """Whether A and B have the state, but their values or shapes differ."""
    return not row.ok and None not in row.shapes


def _as_numbers(name, x):
    x = as_array(x)
    if x.dtype.kind in "OSUcmM":
        raise TypeError(f"{printable(name)}: expected an array of real numbers, found dtype {x.dtype}")
    return x


# ---------------------------------------------------------------- the order of the forward pass

def in_forward_order(names):
    """Returns the names of states in the order of the forward pass.  Unknown names come last in their part.

    >>> in_forward_order(["logits", "blocks.10", "blocks.2", "blocks.2.fc1", "stem"])
    ['stem', 'blocks.2.fc1', 'blocks.2', 'blocks.10', 'logits']
    """
    names = list(names)
    # Only a pre-activation unit has no norm on its shortcut. In Hugging Face's transformers, both kinds of units have a
    # norm3.
    inside = [name.split(".")[-1] for name in names if name.startswith("stages.")]
    unit = "preactivation" if "norm3" in inside and "norm_proj" not in inside else "bottleneck"
    return sorted(names, key=lambda name: _place(name, unit))


def _place(name, unit):
    """Returns the key by which a name is sorted.

    Parts are sorted in the order of the forward pass. Numbers are sorted by value. States inside a part come before the
    state of the part.
    """
    scope, *rest = name.split(".")
    inside = _INSIDE.get(unit if scope == "stages" else scope, ())
    key = [_rank(scope, _PARTS)]
    for word in rest:
        key.append(int(word) if word.isdecimal() else _rank(word, inside))
    return key + [math.inf]


def _rank(word, words):
    return words.index(word) if word in words else len(words)


# ---------------------------------------------------------------- text and JSON

def first_difference(rows):
    """Returns the first row that is not `ok`; None if all rows are `ok`."""
    return next((row for row in rows if not row.ok), None)


def format_rows(rows):
    """Formats the rows as a table: the states that differ are at the top.

    The last line describes the first difference in the order of the forward pass.
    """
    cells = [("state", "shape", "max|a - b| / max|b|", "")]
    for row in sorted(rows, key=lambda row: row.ok):
        cells.append((printable(row.name), format_shapes(row.shapes), format_error(row.error), row.verdict))
    return table(cells, "<<><") + "\n\n" + _conclusion(rows)


def format_error(error):
    """Formats the error of a Row as text."""
    if error is None:
        return ""
    return f"{error:.1e}" if error else "0"


def format_shapes(shapes):
    """Formats the shapes of a Row as text.  Only one shape is printed if the shapes are equal, or if one is None.

    >>> format_shapes(((1, 2), (2, 1))), format_shapes(((5,), None))
    ('1x2 / 2x1', '5')
    """
    return " / ".join(dict.fromkeys(dimensions(shape) for shape in shapes if shape is not None))


def _conclusion(rows):
    first = first_difference(rows)
    tolerances = sorted({row.tolerance for row in rows if row.tolerance is not None})
    bound = f"; tolerance {' or '.join(f'{tolerance:g}' for tolerance in tolerances)}" if tolerances else ""
    if first is None:
        coarse = any(row.tolerance == ROUNDED and row.error for row in rows)
        return f"0 of {len(rows)} states differ{bound}{f' ({COARSE})' if coarse else ''}"
    text = f"{sum(not row.ok for row in rows)} of {len(rows)} states differ, the first is {printable(first.name)}: "
    if None in first.shapes:
        text += first.verdict
    elif first.error is None:
        text += f"shapes {format_shapes(first.shapes)}"
    else:
        a, b = first.values
        text += f"{a:.9g} in A, {b:.9g} in B at {list(first.where)}, error {format_error(first.error)}"
    return f"{text}{'' if first.hint is None else f'; {first.hint}'}{bound}"


def rows_to_json(rows):
    """Converts the rows to an object that JSON can hold.  The rows are in the order of the forward pass."""
    first, states = first_difference(rows), []
    for row in rows:
        fields = row._asdict()
        del fields["hint"]
        values = row.values and [*map(json_number, row.values)]
        states.append({**fields, "error": json_number(row.error), "values": values})
    return {"equal": first is None, "first": first and first.name, "states": states}
