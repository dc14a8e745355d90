"""The gradients of a classifier: the forward pass is recorded, and the backward pass reads the record."""
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import checkpoint, ops
from ..ops import threads
from ..ops.record import Record, Variable
from ..params import Params, tree_map
from ..trace import Trace
from . import checks
from .losses import loss_and_gradient

if TYPE_CHECKING:
    from .base import Model


class Gradients(NamedTuple):
    """The loss of a batch, and the gradients of the loss."""
    loss: np.floating                     # the loss of `Model.forward` for the same labels
    parameters: dict[str, np.ndarray]     # {Hugging Face name: gradient}; each gradient has the shape of its array
    pixel_values: np.ndarray              # (B, C, H, W)


def gradients(model: "Model", pixel_values: npt.ArrayLike, labels: npt.ArrayLike, recompute: bool = False,
              trace: "BackwardTrace | None" = None, **inputs: Any) -> Gradients:
    """The method `Model.gradients`.  `trace` receives the states of the forward pass as Variables."""
    rules = ops.gradient_rules(model.engine, model.dtype)
    if not model.network_config.classes:
        raise ValueError(f"gradients need a loss, but this {type(model).__name__} has no classes")
    x, _, config, masks = model.check_inputs(pixel_values, **inputs)
    record = Record(model.ops, rules, recompute)
    trace = BackwardTrace() if trace is None else trace
    trace.record = record
    learned = tree_map(lambda name, array: Variable(array, record), raw_parameters(model))
    pixels = Variable(x, record)
    with threads.using(model.num_threads), np.errstate(all="ignore"):
        logits = model.network(pixels, record.prepare(learned, config), config, record, trace, **masks)
        loss, dlogits = loss_and_gradient(logits.value, checks.as_array(labels), model.config.problem_type)
        record.backward(logits, dlogits)
    tree = tree_map(lambda name, leaf: _gradient(leaf), learned)
    state = checkpoint.to_state_dict(tree, model.table, config)
    return Gradients(loss, {name: np.ascontiguousarray(array) for name, array in state.items()},
                     np.ascontiguousarray(_gradient(pixels).transpose(0, 3, 1, 2)))


def raw_parameters(model: "Model") -> Params:
    """The learned arrays of a model as NumPy arrays of its dtype.  Kernels of convolutions are not standardized."""
    def copied(name, array):
        return np.array(array, model.float_dtype, order="C")
    tree, _ = checkpoint.fill_parameters(model.shapes, model.state_dict(), model.table, model.network_config, copied,
                                         model.ignored, model.float_dtype)
    return tree


def _gradient(leaf):
    """The gradient of a Variable.  An array that the loss does not depend on has the gradient 0."""
    return np.zeros_like(leaf.value) if leaf.gradient is None else leaf.gradient


class BackwardTrace(Trace):
    """A Trace for a Record.  It tells the record where a unit or block ends.

    A state is the result of a unit or block if the function of the unit or block got its own scope, as in
    `x = out["stem"] = stem(…, out.at("stem"))`.

    `keep`: the names of the states that stay in the trace, as Variables. After the backward pass, they have gradients.
    `bytes` is a dict {name: the number of bytes that the record keeps since the state before}.
    """

    def __init__(self, keep=()):
        super().__init__(keep)
        self.record: Record | None = None
        self.scopes: set[str] = set()
        self.bytes: dict[str, int] = {}
        self._seen: set[int] = set()

    def at(self, scope):
        self.scopes.add(scope)
        return super().at(scope)

    def wants(self, name):
        """False for the attention weights, which the record does not differentiate."""
        return not name.endswith(".weights") and super().wants(name)

    def __setitem__(self, name, state):
        super().__setitem__(name, state)
        if self.record is None or not isinstance(state, Variable):
            return
        state.keeps_gradient = self.wants(name)
        if name in self.scopes:
            self.record.border(state)
