"""The gradients of random small networks, held against torch.autograd in float64.

The networks are those of test_network_parity.py, which cover every pair of options. The three losses take turns.
Networks without classes have the loss sum(output * factors), with random factors.
"""
import numpy as np
import pytest

from nphybrid.api.gradients import loss_and_gradients, raw_parameters
from nphybrid.api.losses import PROBLEM_TYPES, loss_and_gradient
from nphybrid.checkpoint import to_state_dict
from nphybrid.ops import gradients, record
from nphybrid.testing import torch_twin

from parity.test_network_parity import CASES, build, inputs, label
from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

torch = on_demand("torch")

TOLERANCE = 1e-9                          # max|a - b| / max|b| of each array; observed 7.4e-14
ZERO = 1e-12                              # max|a| of an array whose gradient is 0 by theory; observed 1.6e-14
WORST = {"distance": (0, ""), "zero": (0, "")}


def loss_of(case, number, outputs):
    """A loss for nphybrid and a loss for PyTorch.  `outputs` is the shape of the output."""
    rng = np.random.default_rng(1000 + number)
    if case["kind"] in ("model", "backbone"):
        factors = rng.standard_normal(outputs)
        return (lambda y: ((y * factors).sum(), factors)), lambda y: (y * torch.from_numpy(factors)).sum()
    problem = PROBLEM_TYPES[number % 3]
    if problem == "single_label_classification":
        labels = rng.integers(0, 5, outputs[0])
    else:
        labels = rng.random(outputs) if problem == "regression" else rng.integers(0, 2, outputs).astype(float)
    functions = torch.nn.functional
    theirs = {"regression": functions.mse_loss, "single_label_classification": functions.cross_entropy,
              "multi_label_classification": functions.binary_cross_entropy_with_logits}[problem]
    return (lambda y: loss_and_gradient(y, labels, problem)), lambda y: theirs(y, torch.from_numpy(labels))


def output_of(twin, case, x, masks):
    """The output of the PyTorch network, with channels last."""
    if case["kind"] == "backbone":
        return twin.bit(x).last_hidden_state.permute(0, 2, 3, 1)
    answer = twin(x, **{name: torch.from_numpy(array) for name, array in masks.items()})
    return answer.last_hidden_state if case["kind"] == "model" else answer.logits


def by_autograd(twin, case, x, masks, loss):
    """{name: gradient or None} of every parameter, and of pixel_values."""
    x = torch.from_numpy(x).double().requires_grad_()
    loss(output_of(twin, case, x, masks)).backward()
    named = {"pixel_values": x, **dict(twin.named_parameters())}
    return {name: None if array.grad is None else array.grad.numpy() for name, array in named.items()}


def by_rules(model, x, masks, loss, **options):
    """The same from nphybrid."""
    found = loss_and_gradients(model, raw_parameters(model), model.check_inputs(x, **masks), loss, **options)
    state = to_state_dict(found.parameters, model.table, model.network_config)
    return {"pixel_values": found.pixels.transpose(0, 3, 1, 2), **state}


def is_zero_by_theory(name, truth):
    """A key's bias adds one number to all scores of a query, and this does not change the softmax.

    A kernel with one value per output channel is standardized to 0. The first activation can be 0 everywhere.
    """
    return name.endswith("key.bias") or np.abs(truth).max() < ZERO


def apart(ours, theirs):
    """The largest distance of a gradient that is not 0 by theory, and the largest value of a gradient that is."""
    distance = zero = (0.0, "")
    for name, truth in theirs.items():
        if truth is None:                 # the loss does not depend on this array
            assert not ours[name].any(), name
        elif is_zero_by_theory(name, truth):
            zero = max(zero, (float(np.abs(ours[name]).max()), name))
        else:
            assert ours[name].shape == truth.shape and ours[name].dtype == np.float64
            distance = max(distance, (float(np.abs(ours[name] - truth).max() / np.abs(truth).max()), name))
    return distance, zero


def compared(number, **options):
    """The results of `apart` for a case.  `options`: for `by_rules`."""
    case = CASES[number]
    model = build(case, number, engine="reference", dtype="float64")
    x, masks = inputs(case, model, number)
    twin = torch_twin(model)
    with torch.no_grad():
        shape = output_of(twin, case, torch.from_numpy(x).double(), masks).shape
    ours, theirs = loss_of(case, number, tuple(shape))
    expected = by_autograd(twin, case, x, masks, theirs)
    found = by_rules(model, x, masks, ours, **options)
    assert set(expected) <= set(found)
    return apart(found, expected)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[label(case) for case in CASES])
def test_same_gradients(number):
    distance, zero = compared(number, recompute=number % 2 == 1)
    WORST["distance"] = max(WORST["distance"], distance)
    WORST["zero"] = max(WORST["zero"], zero)
    assert distance[0] <= TOLERANCE and zero[0] <= ZERO, (distance, zero)


def test_enough_networks():
    print(f"{len(CASES)} networks; worst distance {WORST['distance']}, worst gradient that should be 0 {WORST['zero']}")
    assert len(CASES) >= 60
    assert {PROBLEM_TYPES[n % 3] for n, case in enumerate(CASES) if case["kind"] == "classifier"} == set(PROBLEM_TYPES)


# -- mistakes on purpose. Each of them must be visible in the comparison above.

CASE = next(n for n, case in enumerate(CASES)
            if case["kind"] == "classifier" and case["unit"] == "bottleneck" and case["depths"] == (2, 1))


def without_mean(dz, z, root, axes, factor=1):
    """The rule of a norm without the gradient through the mean."""
    return (dz - factor * z * (dz * z).mean(axes, keepdims=True)) / root


def without_root(dz, z, root, axes, factor=1):
    """The rule of a norm without the gradient through the variance."""
    return (dz - dz.mean(axes, keepdims=True)) / root


def exchanged(dy, y, query, key, value, heads):
    """The gradients of query and key in the wrong order, as after a transposed contraction."""
    dq, dk, dv = gradients.attention(dy, y, query, key, value, heads)
    return dk, dq, dv


def without_root_of_width(dy, y, query, key, value, heads):
    """The gradient of attention without the division by sqrt(K)."""
    dq, dk, dv = gradients.attention(dy, y, query, key, value, heads)
    factor = np.sqrt(query.shape[-1] // heads)
    return factor * dq, factor * dk, dv


def flipped(dy, y, x, kernel, *rest):
    """The gradient of a convolution with the taps of the kernel in reverse order."""
    dx, dkernel = gradients.conv2d(dy, y, x, kernel, *rest)
    return dx, dkernel[::-1, ::-1]


def unstandardized(dy, y, kernel, eps, form="variance"):
    """The gradient of the standardized kernel instead of the gradient of the kernel."""
    return dy,


def one_row(dy, y, x, p):
    """The gradient of a bias from the first row only."""
    dx, dp = gradients.linear(dy, y, x, p)
    return dx, dp._replace(bias=dp.bias if p.bias is None else dy.reshape(-1, dy.shape[-1])[0])


MISTAKES = {"attention": (exchanged, without_root_of_width), "conv2d": (flipped,), "standardize": (unstandardized,),
            "linear": (one_row,)}


@pytest.mark.parametrize("operation, mistake", [(name, f) for name, wrong in MISTAKES.items() for f in wrong])
def test_a_wrong_rule_breaks_parity(operation, mistake, monkeypatch):
    monkeypatch.setitem(gradients.RULES, operation, mistake)
    assert compared(CASE)[0][0] > 1e-3


@pytest.mark.parametrize("mistake", [without_mean, without_root])
def test_a_wrong_rule_of_a_norm_breaks_parity(mistake, monkeypatch):
    monkeypatch.setattr(gradients, "_normalize_gradient", mistake)
    assert compared(CASE)[0][0] > 1e-3


def test_a_gradient_that_is_not_added_up_breaks_parity(monkeypatch):
    """A state that two operations read has the sum of two gradients."""
    def replaced(argument, gradient, later):
        if isinstance(argument, record.Variable) and gradient is not None:
            argument.gradient = gradient
        elif isinstance(argument, (tuple, list)) and record.has_variable(argument):
            for pair in zip(argument, gradient):
                replaced(*pair, later)
    monkeypatch.setattr(record, "_add", replaced)
    assert compared(CASE)[0][0] > 1e-3
