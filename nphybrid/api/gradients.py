"""The gradients of a classifier: the forward pass is recorded, and the backward pass reads the record."""
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import checkpoint, ops
from ..ops import threads
from ..ops.record import Record, Variable
from ..params import Params, tree_map
from ..trace import Trace
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
    if not model.network_config.classes:
        raise ValueError(f"gradients need a loss, but this {type(model).__name__} has no classes")

    def loss(logits):
        return loss_and_gradient(logits, checks.as_array(labels), model.config.problem_type)

    checked = model.check_inputs(pixel_values, **inputs)
    found = loss_and_gradients(model, raw_parameters(model), checked, loss, recompute=recompute, trace=trace)
    state = checkpoint.to_state_dict(found.parameters, model.table, model.network_config)
    return Gradients(found.loss, {name: np.ascontiguousarray(array) for name, array in state.items()},
                     np.ascontiguousarray(found.pixels.transpose(0, 3, 1, 2)))


class TreeGradients(NamedTuple):
    """The gradients of one batch, in the layouts of the network."""
    loss: np.floating
    parameters: Params                    # the gradient of each array, or None for an array that is not trained
    pixels: np.ndarray                    # (B, H, W, C)


def loss_and_gradients(model: Any, learned: Params, inputs: Any, loss: Loss,
                       trained: Callable[[str], bool] = lambda name: True, recompute: bool = False,
                       trace: "BackwardTrace | None" = None) -> TreeGradients:
    """Compute one forward pass and one backward pass.

    `model`: a Model. `learned`: the learned arrays, as `raw_parameters` returns them, which are used instead of the
    arrays of the model. `inputs`: the result of `Model.check_inputs`. `loss`: a function that gets the output of the
    network, and returns the loss and the gradient of the output. `trained`: a function that gets the name of an array
    in `Params`, such as "blocks.0.fc1.kernel", and returns whether the array gets a gradient. `recompute` and `trace`
    are explained in `Model.gradients` and `gradients`.
    """
    record = Record(model.ops, ops.gradient_rules(model.engine, model.dtype), recompute)
    trace = BackwardTrace() if trace is None else trace
    trace.record = record
    leaves = tree_map(lambda name, array: Variable(array, record) if trained(name) else array, learned)
    pixels = Variable(inputs.x, record)
    with threads.using(model.num_threads), np.errstate(all="ignore"):
        prepared = record.prepare(leaves, inputs.config)
        output = model.network(pixels, prepared, inputs.config, record, trace, **inputs.masks)
        value, gradient = loss(output.value)
        record.backward(output, gradient)
    return TreeGradients(value, tree_map(lambda name, leaf: _gradient(leaf), leaves), _gradient(pixels))


def raw_parameters(model: Any) -> Params:
    """The learned arrays of a model as NumPy arrays of its dtype.  Kernels of convolutions are not standardized."""
    def copied(name, array):
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
