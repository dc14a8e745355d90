"""Facts about gradients that follow from theory, in float64, and mistakes on purpose that break them.

The README lists the facts. A `rest` is a number that theory says is 0, divided by the largest number from which it was
computed. With a mistake in a rule, the rest is far above the tolerance.
"""
import re
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import model
from nphybrid.api.gradients import BackwardTrace
from nphybrid.ops import gradients, reference
from nphybrid.ops.record import Record, Variable
from nphybrid.params import named_leaves, tree_map

from network.test_surprises import BIT, HYBRID, PIXELS, logits, telling

TOLERANCE = 1e-13                         # observed: at most 1.5e-15
FAR = 0.01                                # observed with the mistakes: at least 0.09


class Backward:
    """The gradients of the loss sum(logits * factors): of all parameters and prepared kernels, states and pixels.

    `rules`: rules that replace those of gradients.RULES.
    """

    def __init__(self, network_config=HYBRID, pixels=PIXELS, **rules):
        record = Record(reference, {**gradients.RULES, **rules})
        self.learned = telling(network_config)
        leaves = tree_map(lambda name, array: Variable(array, record), self.learned)
        self.states = BackwardTrace(keep=None)
        self.states.record = record
        network = model.hybrid if network_config.blocks else model.bit
        prepared = record.prepare(leaves, network_config)
        x = Variable(pixels, record)
        output = network(x, prepared, network_config, record, self.states)
        for leaf in named_leaves(prepared).values():
            leaf.keeps_gradient = True
        record.backward(output, np.random.default_rng(8).standard_normal(output.shape))
        self.pixels = x.gradient
        self.parameters = {name: leaf.gradient for name, leaf in named_leaves(leaves).items()}
        self.prepared = {name: leaf.gradient for name, leaf in named_leaves(prepared).items()}


def changed(a, b):
    """max|a - b| / max|b|"""
    return np.abs(a - b).max() / np.abs(b).max()


# ------------------------------------------------------------------ the bias of the keys

def largest_key_bias(backward):
    """The largest gradient of a key's bias, divided by the largest gradient of the same block's query bias."""
    found = backward.parameters
    return max(np.abs(found[f"blocks.{n}.key.bias"]).max() / np.abs(found[f"blocks.{n}.query.bias"]).max()
               for n in range(HYBRID.blocks))


def test_the_bias_of_the_keys_has_no_gradient(monkeypatch):
    """It adds one number to all scores of a query, and softmax does not change."""
    assert largest_key_bias(Backward()) <= TOLERANCE      # observed 1.4e-15
    for part, moves in ("key", False), ("query", True):
        p = telling(HYBRID)
        blocks = tuple(b._replace(**{part: getattr(b, part)._replace(bias=getattr(b, part).bias + 3)})
                       for b in p.blocks)
        assert (changed(logits(p=p._replace(blocks=blocks)), logits()) > TOLERANCE) == moves
    monkeypatch.setattr(gradients, "softmax_gradient", lambda dy, y: y * dy)       # without the sum in the denominator
    assert largest_key_bias(Backward()) > FAR


# ------------------------------------------------------------------ standardized kernels

EXACT = replace(HYBRID, ws_eps=0.0)


def rests_of_kernels(backward):
    """For all kernels and output channels: the rest of the sum of the gradient, and of the sum of kernel * gradient."""
    of_sum, of_product = [], []
    for name, kernel in named_leaves(backward.learned).items():
        if kernel.ndim == 4:
            d = backward.parameters[name]
            of_sum.append(np.abs(d.sum((0, 1, 2))).max() / np.abs(d).sum((0, 1, 2)).max())
            of_product.append(np.abs((kernel * d).sum((0, 1, 2))).max() / np.abs(kernel * d).sum((0, 1, 2)).max())
    return max(of_sum), max(of_product)


def test_the_gradient_of_a_standardized_kernel_is_orthogonal_to_it(monkeypatch):
    """For each output channel: a constant that is added to the kernel, or a factor of the kernel, does not change the
    standardized kernel.  So the sum of the gradient over taps and inputs is 0, and the sum of kernel * gradient is 0.
    """
    assert max(rests_of_kernels(Backward(EXACT))) <= TOLERANCE            # observed 5.3e-16
    monkeypatch.setattr(gradients, "_normalize_gradient", without_mean)
    assert rests_of_kernels(Backward(EXACT))[0] > FAR
    monkeypatch.setattr(gradients, "_normalize_gradient", without_root)
    of_sum, of_product = rests_of_kernels(Backward(EXACT))
    assert of_sum <= TOLERANCE and of_product > FAR
    monkeypatch.undo()
    raw = Backward(EXACT, standardize=lambda dy, y, kernel, eps, form: (dy,))
    assert min(rests_of_kernels(raw)) > FAR


@pytest.mark.parametrize("form, eps", [("variance", 1e-8), ("variance", 0.5), ("deviation", 1e-5), ("deviation", 0.5)])
def test_how_far_eps_turns_the_gradient_of_a_kernel(form, eps):
    """The sum of the gradient is 0 for every eps.  The sum of kernel * gradient is a share of the sum of (standardized
    kernel) * (gradient of the standardized kernel). The share is eps / (variance + eps), or eps / (s + eps) with
    s = sqrt(variance).
    """
    network_config = replace(HYBRID, ws_eps=eps, ws_form=form)
    backward = Backward(network_config)
    assert rests_of_kernels(backward)[0] <= TOLERANCE     # observed 9.8e-16
    for name, kernel in named_leaves(backward.learned).items():
        if kernel.ndim == 4:
            variance = kernel.var((0, 1, 2))
            share = eps / (variance + eps) if form == "variance" else eps / (np.sqrt(variance) + eps)
            found = kernel * backward.parameters[name]
            of_standardized = reference.standardize(kernel, eps, form) * backward.prepared[name]
            rest = found.sum((0, 1, 2)) - share * of_standardized.sum((0, 1, 2))
            assert np.abs(rest).max() / np.abs(found).sum((0, 1, 2)).max() <= TOLERANCE, name     # observed 1.5e-15


# ------------------------------------------------------------------ group norms

def rest_of_groups(backward):
    """The rest of the sum of the gradient over a group, for the results of all convolutions before a norm."""
    rests = []
    for name, state in backward.states.items():
        if re.fullmatch(r"stem\.conv|stages\..*\.(conv\d|proj)", name):
            d = state.gradient.reshape(*state.shape[:3], HYBRID.groups, -1)
            rests.append(np.abs(d.sum((1, 2, 4))).max() / np.abs(d).sum((1, 2, 4)).max())
    assert len(rests) == 12
    return max(rests)


def test_the_gradient_before_a_group_norm_sums_to_0_over_the_group(monkeypatch):
    """A constant added to a group of an image does not change the result of the norm."""
    assert rest_of_groups(Backward()) <= TOLERANCE        # observed 1.6e-16
    monkeypatch.setattr(gradients, "_normalize_gradient", without_root)
    assert rest_of_groups(Backward()) <= TOLERANCE
    monkeypatch.setattr(gradients, "_normalize_gradient", without_mean)
    assert rest_of_groups(Backward()) > FAR


def without_mean(dz, z, root, axes, factor=1):
    """The rule of a norm without the gradient through the mean."""
    return (dz - factor * z * (dz * z).mean(axes, keepdims=True)) / root


def without_root(dz, z, root, axes, factor=1):
    """The rule of a norm without the gradient through the root of the variance."""
    return (dz - dz.mean(axes, keepdims=True)) / root


# ------------------------------------------------------------------ ties of the max pool

def shared(dy, y, x, padding, fill):
    """The rule of the max pool in which all largest cells of a window get an equal part of dy."""
    around = ((0, 0), *padding, (0, 0))
    x = np.pad(x, around, constant_values=fill)
    dx = np.zeros_like(x)
    _, rows, columns, _ = y.shape
    windows = [(slice(None), slice(u, u + 2 * rows, 2), slice(v, v + 2 * columns, 2))
               for u in range(3) for v in range(3)]
    ties = sum((x[cells] == y).astype(int) for cells in windows)
    for cells in windows:
        dx[cells] += np.where(x[cells] == y, dy / ties, 0)
    return gradients._without_padding(dx, around),


def test_the_first_largest_cell_of_a_window_gets_the_gradient():
    """As in PyTorch.  After a ReLU, the largest cells of many windows are zeros.  Then ReLU drops the gradient, so the
    gradients of the parameters do not depend on the choice of the cell.
    """
    right, wrong = Backward(), Backward(max_pool=shared)
    pooled, before = right.states["stem"].value, right.states["stem.norm"].value
    assert 0.01 < (pooled == 0).mean() < 0.1               # observed 0.018: windows of zeros alone
    assert changed(wrong.states["stem.norm"].gradient, right.states["stem.norm"].gradient) > FAR
    positive = before > 0
    assert np.array_equal(wrong.states["stem.norm"].gradient[positive], right.states["stem.norm"].gradient[positive])
    assert all(np.array_equal(wrong.parameters[name], right.parameters[name]) for name in right.parameters)


def test_ties_matter_without_a_relu():
    """BiT's stem has no ReLU.  In a picture of one colour, all cells of most windows are equal."""
    white = np.ones_like(PIXELS)
    right, wrong = Backward(BIT, white), Backward(BIT, white, max_pool=shared)
    assert changed(wrong.pixels, right.pixels) > FAR
    assert changed(Backward(BIT, max_pool=shared).pixels, Backward(BIT).pixels) == 0
