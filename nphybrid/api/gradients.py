"""The gradients of a classifier: the forward pass is recorded, and the backward pass reads the record."""
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import checkpoint, ops
from ..ops import threads
from ..ops.record import Record, Variable
from ..params import Params, tree_map
from ..text import dimensions, grouped, table
from ..trace import Scope, Trace
from . import checks
from .losses import loss_and_gradient

# A function that gets the output of the network, and returns the loss and the gradient of the output.
Loss = Callable[[np.ndarray], tuple[np.floating, np.ndarray]]


class Gradients(NamedTuple):
    """The loss of a batch, and the gradients of the loss."""
    loss: np.floating                     # the loss of `Model.forward` for the same labels
    parameters: dict[str, np.ndarray]     # {Hugging Face name: gradient}; each gradient has the shape of its array
    pixel_values: np.ndarray              # (B, C, H, W)


def gradients(model: Any, pixel_values: npt.ArrayLike, labels: npt.ArrayLike, recompute: bool = False,
              trace: "BackwardTrace | None" = None, **inputs: Any) -> Gradients:
    """The method `Model.gradients`.  `trace` gets the states of the forward pass."""
    check_classes(model)
    ops.gradient_rules(model.engine, model.dtype)         # raises ValueError for a dtype without gradients

    def loss(logits):
        return loss_and_gradient(logits, checks.as_array(labels), model.config.problem_type)

    checked = model.check_inputs(pixel_values, **inputs)
    if checked.params is not model.params:
        height, width = model.network_config.image
        raise ValueError(f"pixel_values are {checked.x.shape[1]} x {checked.x.shape[2]} pixels; gradients expect "
                         f"{height} x {width} pixels, because the positions are not resized for gradients")
    found = loss_and_gradients(model, raw_parameters(model), checked, loss, recompute=recompute, trace=trace)
    state = checkpoint.to_state_dict(found.parameters, model.table, model.network_config)
    return Gradients(found.loss, {name: np.ascontiguousarray(array) for name, array in state.items()},
                     np.ascontiguousarray(found.pixels.transpose(0, 3, 1, 2)))


def check_classes(model: Any) -> None:
    """Raise ValueError if a model has no classes, and therefore no loss."""
    if not model.network_config.classes:
        raise ValueError(f"gradients need a loss, but this {type(model).__name__} has no classes")


class TreeGradients(NamedTuple):
    """The gradients of one batch, in the layouts of the network."""
    loss: np.floating
    parameters: Params                    # the gradient of each array, or None for an array that is not trained
    pixels: np.ndarray                    # (B, H, W, C), or None if the pixels get no gradient


def loss_and_gradients(model: Any, learned: Params, inputs: Any, loss: Loss,
                       trained: Callable[[str], bool] = lambda name: True, pixels: bool = True,
                       recompute: bool = False, trace: "BackwardTrace | None" = None) -> TreeGradients:
    """Compute one forward pass and one backward pass.

    `model`: a Model. `learned`: the learned arrays, as `raw_parameters` returns them, which are used instead of the
    arrays of the model. `inputs`: the result of `Model.check_inputs`. `loss`: a function that gets the output of the
    network, and returns the loss and the gradient of the output. `trained`: a function that gets the name of an array
    in `Params`, such as "blocks.0.fc1.kernel", and returns whether the array gets a gradient. `pixels`: whether the
    pixels get a gradient. `recompute` and `trace` are explained in `Model.gradients` and `gradients`.
    """
    record = Record(model.ops, ops.gradient_rules(model.engine, model.dtype), recompute)
    trace = BackwardTrace() if trace is None else trace
    trace.record = record
    leaves = tree_map(lambda name, array: Variable(array, record) if trained(name) else array, learned)
    x = Variable(inputs.x, record) if pixels else inputs.x
    with threads.using(model.num_threads), np.errstate(all="ignore"):
        prepared = record.prepare(leaves, inputs.config)
        standardizations = len(record.notes)
        output = model.network(x, prepared, inputs.config, record, trace, **inputs.masks)
        value, gradient = loss(output.value)
        trace.count_bytes(standardizations)
        record.backward(output, gradient)
    return TreeGradients(value, tree_map(lambda name, leaf: _gradient(leaf), leaves), _gradient(x))


def raw_parameters(model: Any) -> Params:
    """The learned arrays of a model as NumPy arrays of its dtype.  Kernels of convolutions are not standardized."""
    def copied(name, array, array_of):
        return np.array(array, model.float_dtype, order="C")
    tree, _ = checkpoint.fill_parameters(model.shapes, model.state_dict(), model.table, model.network_config, copied,
                                         model.ignored, model.float_dtype)
    return tree


def _gradient(leaf: Any) -> Any:
    """The gradient of a Variable, or None for an array.  If the loss does not depend on a Variable, 0 is returned."""
    if not isinstance(leaf, Variable):
        return None
    return np.zeros_like(leaf.value) if leaf.gradient is None else leaf.gradient


class BackwardTrace(Trace):
    """A Trace for a Record.  It tells the record where a unit or block ends.

    A state is the result of a unit or block if the function of the unit or block got its own scope, as in
    `x = out["stem"] = stem(…, out.at("stem"))`.

    `keep`: the names of the states that stay in the trace, as Variables, or None for all states. After the backward
    pass, these Variables have gradients. `bytes` is a dict {name: the bytes that the record keeps between the forward
    pass and the backward pass, for this state and for the results since the state before}.
    """

    def __init__(self, keep: Collection[str] | None = ()):
        super().__init__(keep)
        self.record: Record | None = None
        self.bytes: dict[str, int] = {}
        self._scopes: set[str] = set()
        self._ends: dict[str, int] = {}   # {name of a state: the number of notes before the next state}

    def at(self, scope: str) -> Scope:
        """A view of the trace that puts `scope` and a dot before every name."""
        self._scopes.add(scope)
        return super().at(scope)

    def wants(self, name: str) -> bool:
        """False for the attention weights, which have no gradient of their own on the record."""
        return not name.endswith(".weights") and super().wants(name)

    def __setitem__(self, name: str, state: Any) -> None:
        super().__setitem__(name, state)
        if self.record is None or not isinstance(state, Variable):
            return
        state.keeps_gradient = self.wants(name)
        self._ends[name] = len(self.record.notes)
        if name in self._scopes:
            self.record.border(state)

    def count_bytes(self, prepared: int) -> None:
        """Fill `bytes` at the end of the forward pass.  The first `prepared` notes standardized the kernels."""
        assert self.record is not None
        counted: set[int] = set()
        ends = {"standardized kernels": prepared, **self._ends, "after the last state": len(self.record.notes)}
        start = 0
        for name, end in ends.items():
            results = [note.result.value for note in self.record.notes[start:end]]
            self.bytes[name] = sum(_owned_bytes(value, counted) for value in results)
            start = end


def _owned_bytes(value, counted):
    """The size of the memory of an array, or 0 if the memory was counted before.  Views share the memory."""
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base
    if value is None or id(value) in counted:
        return 0
    counted.add(id(value))
    return value.nbytes


class BackwardState(NamedTuple):
    """A row of the list that `backward_states` returns."""
    name: str
    shape: tuple[int, ...]
    dtype: str
    gradient_rms: float | None            # the root mean square of the gradient, or None if the state has no gradient
    bytes: int                            # as in `BackwardTrace.bytes`


def backward_states(model: Any, pixel_values: npt.ArrayLike, labels: npt.ArrayLike, recompute: bool = False
                    ) -> list[BackwardState]:
    """Compute one forward pass and one backward pass, and return a row for each state.

    The first row has the standardized kernels, and the last row has the rest of the record. `recompute` is explained in
    `Model.gradients`. With recompute=True, the gradients of states inside units and blocks are computed, too.

    >>> import numpy as np
    >>> from nphybrid import ViTHybridForImageClassification, default_model
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> rows = backward_states(model, np.zeros((1, 3, 64, 64), np.float32), np.array([3]))
    >>> rows[2].name, rows[2].shape, rows[2].bytes
    ('stem.conv', (1, 32, 32, 64), 262144)
    """
    trace = BackwardTrace(keep=None)
    gradients(model, pixel_values, labels, recompute, trace)
    rows = []
    for name, size in trace.bytes.items():
        state = trace.get(name)
        if state is None:
            rows.append(BackwardState(name, (), "", None, size))
            continue
        x = state.gradient
        rms = None if x is None else float(np.sqrt(np.square(x, dtype=np.float64).mean()))
        rows.append(BackwardState(name, x.shape if x is not None else (), model.float_dtype.name, rms, size))
    return rows


def backward_table(rows: list[BackwardState], depth: int | None = None) -> str:
    """Converts the rows of `backward_states` to a text table.

    `depth` is the depth of the groups, as in `text.grouped`. A group has the memory of all its states, and the shape
    and the gradient of its last state.
    """
    cells = [["state", "shape", "gradient rms", "KB kept"]]
    for line in grouped(rows, ["bytes"], depth):
        row = line.row
        rms = "-" if row.gradient_rms is None else f"{row.gradient_rms:.4g}"
        cells.append([line.label, dimensions(row.shape) if row.shape else "", rms, f"{row.bytes / 1024:,.0f}"])
    cells.append(["total", "", "", f"{sum(row.bytes for row in rows) / 1024:,.0f}"])
    return table(cells, "<<>>")
