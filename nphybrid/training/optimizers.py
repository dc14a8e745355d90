"""Optimizers, gradient clipping, and a moving average of the weights.

All functions work on dicts {name: array}. A name is the name of an array in `Params`, such as "blocks.0.fc1.kernel".
The arrays of the parameters are changed in place. With fast=True, the arrays are float32, and the kernels of
ops/updates.py compute the formulas of this file.

Weight decay applies to matrices only: to the kernels of linear layers and convolutions. Biases, norms, positions and
tokens do not decay.
"""
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def decays(name: str, array: np.ndarray) -> bool:
    """Whether weight decay applies to an array.

    >>> [decays(name, np.ones((2, 2))) for name in ("head.kernel", "tokens.positions")]
    [True, False]
    """
    return name.endswith("kernel") or array.ndim == 4


class AdamW:
    """Adam with decoupled weight decay.  Loshchilov & Hutter 2019, algorithm 2; as torch.optim.AdamW

    For a gradient g in step t, with two moments m and v that begin at 0:

        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        w = (1 - rate * weight_decay) w                                             (matrices only)
        w = w - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    >>> w = {"head.kernel": np.array([[1.0, -2.0]])}
    >>> AdamW(weight_decay=0.1).step(w, {"head.kernel": np.array([[0.5, -0.5]])}, 0.01)
    >>> w["head.kernel"].round(6)
    array([[ 0.989, -1.988]])
    """

    def __init__(self, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 fast: bool = False):
        self.weight_decay = weight_decay
        self.betas = betas
        self.eps = eps
        self.fast = fast
        self.steps = 0
        self.m: Arrays = {}
        self.v: Arrays = {}

    def step(self, parameters: Arrays, gradients: Mapping[str, np.ndarray], rate: float) -> None:
        """Change the parameters that have a gradient.  `rate`: the learning rate"""
        self.steps += 1
        calls = []
        for name, g in gradients.items():
            w = parameters[name]
            if name not in self.m:
                self.m[name], self.v[name] = np.zeros_like(w), np.zeros_like(w)
            arrays = w, self.m[name], self.v[name], np.ascontiguousarray(g)
            calls.append((arrays, self.numbers(rate, self.weight_decay if decays(name, w) else 0.0)))
        if self.fast:
            from ..ops import updates
            updates.update(updates.adamw, calls)
            return
        for (w, m, v, g), (keep, new_m, old_v, new_v, step, root, eps) in calls:
            m += (g - m) * new_m
            v[...] = v * old_v + g * g * new_v
            w[...] = w * keep - step * m / (np.sqrt(v) * root + eps)

    def numbers(self, rate: float, decay: float) -> np.ndarray:
        """The seven numbers of the update that all elements of an array share.

        keep = 1 - rate * decay. step = rate / (1 - beta1^t). root = 1 / sqrt(1 - beta2^t).
        """
        beta1, beta2 = self.betas
        step = rate / (1 - beta1 ** self.steps)
        root = 1 / np.sqrt(1 - beta2 ** self.steps)
        return np.array([1 - rate * decay, 1 - beta1, beta2, 1 - beta2, step, root, self.eps])

    def state(self) -> Arrays:
        """The state between two steps, as {name: array}, for a file."""
        moments = {f"{kind}.{name}": array for kind, arrays in (("m", self.m), ("v", self.v))
                   for name, array in arrays.items()}
        return {"steps": np.array(self.steps), **moments}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        self.steps = int(np.asarray(state["steps"]))
        self.m, self.v = ({name[2:]: np.array(array) for name, array in state.items() if name.startswith(f"{kind}.")}
                          for kind in "mv")


class SGD:
    """Stochastic gradient descent with momentum, as torch.optim.SGD.

        velocity = momentum * velocity + (g + weight_decay * w)             (decay of matrices only)
        w = w - rate * velocity

    >>> w = {"head.bias": np.array([1.0])}
    >>> SGD().step(w, {"head.bias": np.array([2.0])}, 0.1)
    >>> w["head.bias"]
    array([0.8])
    """

    def __init__(self, weight_decay: float = 0.0, momentum: float = 0.9, fast: bool = False):
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.fast = fast
        self.velocity: Arrays = {}

    def step(self, parameters: Arrays, gradients: Mapping[str, np.ndarray], rate: float) -> None:
        """Change the parameters that have a gradient.  `rate`: the learning rate"""
        calls = []
        for name, g in gradients.items():
            w = parameters[name]
            if name not in self.velocity:
                self.velocity[name] = np.zeros_like(w)
            arrays = w, self.velocity[name], np.ascontiguousarray(g)
            calls.append((arrays, (rate, self.momentum, self.weight_decay if decays(name, w) else 0.0)))
        if self.fast:
            from ..ops import updates
            updates.update(updates.sgd, calls)
            return
        for (w, velocity, g), (rate, momentum, decay) in calls:
            velocity[...] = velocity * momentum + (g + w * decay)
            w -= rate * velocity

    def state(self) -> Arrays:
        """The state between two steps, as {name: array}, for a file."""
        return {f"velocity.{name}": array for name, array in self.velocity.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        self.velocity = {name.removeprefix("velocity."): np.array(array) for name, array in state.items()}


OPTIMIZERS = {"adamw": AdamW, "sgd": SGD}


class MovingAverage:
    """An exponential moving average of parameters: mean = decay * mean + (1 - decay) * w, after each step.

    Polyak & Juditsky 1992. The average begins with the parameters before the first step.
    """

    def __init__(self, parameters: Arrays, decay: float, fast: bool = False):
        self.decay = decay
        self.fast = fast
        self.mean = {name: array.copy() for name, array in parameters.items()}

    def update(self, parameters: Arrays) -> None:
        """Add the parameters after a step to the average."""
        if self.fast:
            from ..ops import updates
            updates.update(updates.average, [((mean, parameters[name]), (1 - self.decay,))
                                             for name, mean in self.mean.items()])
            return
        for name, mean in self.mean.items():
            mean += (parameters[name] - mean) * (1 - self.decay)


def global_norm(gradients: Mapping[str, np.ndarray], fast: bool = False) -> float:
    """The square root of the sum of all squared elements of all gradients, added up in float64.

    >>> global_norm({"a": np.array([3.0]), "b": np.array([[4.0]])})
    5.0
    """
    if fast:
        from ..ops import updates
        return math.sqrt(updates.square_sum(gradients.values()))
    return math.sqrt(math.fsum(np.square(gradient, dtype=np.float64).sum() for gradient in gradients.values()))


def clipped(gradients: Mapping[str, np.ndarray], most: float, norm: float) -> Arrays:
    """Scale all gradients by one factor, so that their global norm is at most `most`.

    Pascanu et al. 2013, algorithm 1; as torch.nn.utils.clip_grad_norm_. `norm`: the result of `global_norm`.

    >>> clipped({"a": np.array([3.0, 4.0])}, 1.0, 5.0)["a"].round(4)
    array([0.6, 0.8])
    """
    factor = most / (norm + 1e-6)
    if factor >= 1:
        return dict(gradients)
    return {name: gradient * gradient.dtype.type(factor) for name, gradient in gradients.items()}
