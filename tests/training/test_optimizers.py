"""Optimizers, schedules and soft targets against PyTorch and transformers; the fast updates against the formulas."""
import math
import tracemalloc

import numpy as np
import pytest

from nphybrid.api.losses import smoothed, soft_cross_entropy
from nphybrid.ops import threads
from nphybrid.training.optimizers import SGD, AdamW, MovingAverage, clipped, global_norm
from nphybrid.training.schedules import learning_rate

from tools.on_demand import on_demand

torch = on_demand("torch")

SHAPES = {"blocks.0.fc1.kernel": (7, 5), "stem.conv": (3, 3, 2, 4), "blocks.0.fc1.bias": (5,),
          "tokens.positions": (3, 4)}
MATRICES = {"blocks.0.fc1.kernel", "stem.conv"}
STEPS = 50


def draw(rng, dtype=np.float64):
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def apart(a, b):
    return max(float(np.abs(a[name] - b[name]).max()) for name in SHAPES)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


# -- against torch.optim, float64.  Observed: AdamW 2e-15, SGD 2e-14

@pytest.mark.slow
@pytest.mark.parametrize("kind, ours, theirs", [
    ("AdamW", lambda: AdamW(0.3), lambda groups: torch.optim.AdamW(groups, lr=0)),
    ("AdamW", lambda: AdamW(0.0, (0.8, 0.95), 1e-3), lambda groups: torch.optim.AdamW(groups, 0, (0.8, 0.95), 1e-3)),
    ("SGD", lambda: SGD(0.3), lambda groups: torch.optim.SGD(groups, 0, 0.9)),
    ("SGD", lambda: SGD(0.0, 0.0), lambda groups: torch.optim.SGD(groups, 0))])
def test_fifty_steps_as_in_pytorch(rng, kind, ours, theirs):
    optimizer, w = ours(), draw(rng)
    tensors = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in w.items()}
    decay = optimizer.weight_decay
    twin = theirs([{"params": [t for n, t in tensors.items() if n in MATRICES], "weight_decay": decay},
                   {"params": [t for n, t in tensors.items() if n not in MATRICES], "weight_decay": 0.0}])
    for step in range(STEPS):
        g, rate = draw(rng), learning_rate("cosine", 0.05, step, STEPS, 5)
        for group in twin.param_groups:
            group["lr"] = rate
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(g[name].copy())
        twin.step()
        optimizer.step(w, g, rate)
    assert apart(w, {name: tensor.detach().numpy() for name, tensor in tensors.items()}) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("most", [0.5, 15.0, 1e3])                # the norm is 11.97
def test_clipping_as_in_pytorch(rng, most):
    g = draw(rng)
    tensors = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES.values()]
    for tensor, array in zip(tensors, g.values()):
        tensor.grad = torch.from_numpy(array.copy())
    norm = float(torch.nn.utils.clip_grad_norm_(tensors, most))
    assert global_norm(g) == pytest.approx(norm, rel=1e-13)
    ours = clipped(g, most, global_norm(g))
    assert apart(ours, dict(zip(g, (tensor.grad.numpy() for tensor in tensors)))) <= 1e-15


@pytest.mark.slow
@pytest.mark.parametrize("kind, name", [("linear", "linear"), ("cosine", "cosine"),
                                        ("constant", "constant_with_warmup")])
@pytest.mark.parametrize("steps, warmup", [(37, 0), (37, 5), (3, 3)])
def test_schedules_as_in_transformers(kind, name, steps, warmup):
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.7)
    schedule = transformers.get_scheduler(name, optimizer, warmup, steps)
    for step in range(steps + 2):
        assert learning_rate(kind, 0.7, step, steps, warmup) == pytest.approx(schedule.get_last_lr()[0], abs=1e-15)
        optimizer.step()
        schedule.step()


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="expected one of constant, linear, cosine, found 'step'"):
        learning_rate("step", 1, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_as_in_pytorch(rng, smoothing):
    logits, labels = rng.standard_normal((6, 5)) * 3, rng.integers(0, 5, 6)
    loss, gradient = soft_cross_entropy(logits, smoothed(labels, 5, smoothing))
    tensor = torch.from_numpy(logits).requires_grad_()
    theirs = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(labels), label_smoothing=smoothing)
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-14)
    assert np.abs(gradient - tensor.grad.numpy()).max() <= 1e-16 * 10                   # observed 6e-17
    mixed = 0.3 * smoothed(labels, 5, smoothing) + 0.7 * smoothed(labels[::-1], 5, smoothing)
    tensor.grad = None
    theirs = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(mixed))
    theirs.backward()
    loss, gradient = soft_cross_entropy(logits, mixed)
    assert loss == pytest.approx(theirs.item(), rel=1e-14)
    assert np.abs(gradient - tensor.grad.numpy()).max() <= 1e-16 * 10


# -- the fast updates

@pytest.mark.parametrize("size", [1.0, 1e-8])                       # 1e-8 is the eps of AdamW
@pytest.mark.parametrize("make", [AdamW, SGD])
def test_fast_updates_compute_the_formula(rng, make, size):
    """Float32 against float64 over 50 steps.  Observed: 2.4e-6, for weights of about 3."""
    exact, fast, w = make(0.1), make(0.1, fast=True), draw(rng)
    single = {name: array.astype(np.float32) for name, array in w.items()}
    w = {name: array.astype(np.float64) for name, array in single.items()}
    for _ in range(STEPS):
        g = {name: array * np.float32(size) for name, array in draw(rng, np.float32).items()}
        exact.step(w, g, 0.01)
        fast.step(single, g, 0.01)
    assert {array.dtype for array in single.values()} == {np.dtype(np.float32)}
    assert apart(single, w) <= 1e-5


def test_the_moving_average(rng):
    w = draw(rng)
    average = MovingAverage(w, 0.9)
    narrow = {name: array.astype(np.float32) for name, array in w.items()}
    fast, expected = MovingAverage(narrow, 0.9, fast=True), {name: array.copy() for name, array in w.items()}
    for _ in range(20):
        new = draw(rng, np.float32)
        average.update(new)
        fast.update(new)
        expected = {name: 0.9 * expected[name] + 0.1 * new[name].astype(np.float64) for name in expected}
    assert apart(average.mean, expected) <= 1e-14                                       # observed 4e-16
    assert apart(fast.mean, expected) <= 1e-6                                           # observed 1.3e-7


@pytest.mark.parametrize("make", [AdamW, SGD])
def test_any_number_of_threads_gives_the_same_bits(rng, make):
    w, g = rng.standard_normal((2, 700, 1001)).astype(np.float32)
    found = []
    for n in 1, 2, 3:
        copy, optimizer = {"head.kernel": w.copy()}, make(0.1, fast=True)
        with threads.using(n):
            for _ in range(3):
                optimizer.step(copy, {"head.kernel": g}, 0.01)
        found.append(copy["head.kernel"])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("make", [AdamW, SGD])
def test_later_steps_allocate_nothing(make):
    """A network of 99 million parameters has moments of 800 MB."""
    w, g = np.ones((2, 500, 500), np.float32)
    optimizer = make(0.1, fast=True)
    optimizer.step({"head.kernel": w}, {"head.kernel": g}, 0.01)
    tracemalloc.start()
    try:
        optimizer.step({"head.kernel": w}, {"head.kernel": g}, 0.01)
        assert tracemalloc.get_traced_memory()[1] < w.nbytes / 10                       # observed 0.4% of it
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [AdamW, SGD])
def test_fast_updates_refuse_what_they_cannot_change_in_place(make):
    """A flat view exists only of a contiguous array.  A flat copy would be changed instead of the array."""
    g = {"head.kernel": np.ones((3, 4), np.float32)}
    with pytest.raises(ValueError, match=r"expected a contiguous array, found the shape \(3, 4\) and the strides"):
        make(fast=True).step({"head.kernel": np.ones((4, 3), np.float32).T}, g, 0.1)
    with pytest.raises(ValueError, match=r"expected arrays of one shape, found \(4, 3\).* \(3, 5\)"):
        make(fast=True).step({"head.kernel": np.ones((4, 3), np.float32)}, {"head.kernel": np.ones((3, 5), "f")}, 0.1)
    w, transposed = {"head.kernel": np.ones((3, 4), np.float32)}, {"head.kernel": np.ones((4, 3), np.float32).T}
    same = {"head.kernel": np.ones((3, 4), np.float32)}
    make(fast=True).step(w, transposed, 0.1)                    # a gradient is only read
    make(fast=True).step(same, g, 0.1)
    assert np.array_equal(w["head.kernel"], same["head.kernel"]) and (same["head.kernel"] < 1).all()


@pytest.mark.parametrize("fast", [False, True])
def test_the_norm_is_added_up_in_float64(rng, fast):
    """In float32, the squares of the first array would be infinite, and 1e8 + 1 would be 1e8."""
    assert global_norm({"a": np.full(4, 1e25, np.float32)}, fast) == pytest.approx(2e25, rel=1e-6)
    assert global_norm({"a": np.float32([1e4, 1])}, fast) ** 2 == pytest.approx(1e8 + 1, rel=1e-12)
    g = rng.standard_normal(200_001).astype(np.float32)
    exact = math.sqrt(math.fsum(x * x for x in g.tolist()))
    assert global_norm({"a": g}, fast) == pytest.approx(exact, rel=1e-14)               # observed 2e-16
    assert np.isnan(global_norm({"a": np.float32([1, np.nan])}, fast))


def test_the_norm_has_the_same_bits_for_any_number_of_threads(rng):
    g = {"a": rng.standard_normal(400_001).astype(np.float32)}
    found = []
    for n in 1, 2, 3:
        with threads.using(n):
            found.append(global_norm(g, fast=True))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("make", [AdamW, SGD])
def test_a_loaded_state_continues_with_the_same_bits(rng, make, fast):
    dtype = np.float32 if fast else np.float64
    w, g = draw(rng, dtype), [draw(rng, dtype) for _ in range(6)]
    whole, again = ({name: array.copy() for name, array in w.items()} for _ in range(2))
    optimizer = make(0.1, fast=fast)
    for gradients in g:
        optimizer.step(whole, gradients, 0.01)
    first, second = make(0.1, fast=fast), make(0.1, fast=fast)
    for gradients in g[:3]:
        first.step(again, gradients, 0.01)
    second.load(first.state())
    for gradients in g[3:]:
        second.step(again, gradients, 0.01)
    assert all(np.array_equal(whole[name], again[name]) for name in w)


def test_only_arrays_with_a_gradient_change(rng):
    for optimizer in AdamW(0.5), SGD(0.5):
        w, g = draw(rng), draw(rng)
        before = {name: array.copy() for name, array in w.items()}
        optimizer.step(w, {"stem.conv": g["stem.conv"]}, 0.1)
        assert [name for name in w if not np.array_equal(w[name], before[name])] == ["stem.conv"]
