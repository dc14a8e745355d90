"""A plan repeats a forward pass: the same bits as without a plan, whatever else happens."""
import contextlib
import copy
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from nphybrid import ViTHybridForImageClassification, default_model, model
from nphybrid.config import Config
from nphybrid.ops import NARROW, implementation, jit, kernels, kernels_narrow, plan, plans, recorder, threads, words
from nphybrid.ops.packed import Packed
from nphybrid.ops.plans import Plans
from nphybrid.ops.reference_narrow import Kernel
from nphybrid.params import Linear, Norm
from nphybrid.trace import Trace

from network.test_surprises import telling
from oracles import cases
from tools.process import run_python

pytestmark = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="a plan calls compiled kernels")

HYBRID = Config(image=(64, 64), stem=24, depths=(1, 2), widths=(32, 48), groups=4, patch=1, width=40, blocks=2,
                heads=2, hidden=72, classes=7)
BIT = replace(HYBRID, unit="preactivation", padding="symmetric", pool_padding="valid", width=0, blocks=0, heads=0,
              hidden=0)
# Each value of each field that changes what the network computes with NumPy or with another operation.
NETWORKS = {
    "hybrid": HYBRID,
    "symmetric": replace(HYBRID, padding="symmetric", pool_padding="valid"),
    "dilated": replace(HYBRID, output_stride=4),
    "patch 2": replace(HYBRID, patch=2),
    "no class token": replace(HYBRID, class_token=False, pool="mean"),
    "mean": replace(HYBRID, pool="mean", norm_pooled=True),
    "pre_logits": replace(HYBRID, pre_logits=20),
    "no classes": replace(HYBRID, classes=0),
    "plain ViT": replace(HYBRID, stem=0, depths=(), widths=(), patch=16),
    "pre-activation hybrid": replace(HYBRID, unit="preactivation"),
    "BiT": BIT,
    "BiT, same": replace(BIT, padding="same", pool_padding="same"),
    "BiT without classes": replace(BIT, classes=0),
}
STATES = "norm", "features_norm", "pooler", "logits"


class Layers(NamedTuple):
    """A norm, and two linear layers whose factors differ."""
    norm: Norm
    equal: Linear
    other: Linear


LAYERS = Layers(cases.norm(0, 24), *(Linear(Packed(Kernel.of(kernel, "int8")), None) for kernel in (
    cases.normal(2, 24, 24), cases.normal(3, 24, 24) * 2.0 ** -np.arange(24, dtype=np.float32)[:, None])))


def pixels(B, config=HYBRID, seed=0):
    return np.random.default_rng(seed).standard_normal((B, *config.image, 3), np.float32)


class Network:
    """A random network and its plans."""

    def __init__(self, config, dtype="float32"):
        self.config = config
        self.ops = implementation("numba", dtype)
        self.params = self.ops.prepare(telling(config), config, dtype)
        self.plans = Plans()

    def __call__(self, x, ops, out):
        network = model.hybrid if self.config.blocks else model.bit
        return network(x, self.params, self.config, ops, out)

    def plain(self, x):
        """The states of an unrecorded pass, and its result."""
        out = Trace(keep=STATES)
        return self(x, self.ops, out), dict(out)

    def planned(self, x, ops=None):
        out = Trace(keep=STATES)
        return self.plans.run((self.params, self.config), x, ops or self.ops, out, self), dict(out)

    def made(self):
        """The plans that no caller uses."""
        return [p for shape in self.plans.shapes.values() for p in shape.free]


def calls(plan):
    """The number of functions that Python calls in a plan."""
    return sum(map(len, plan.functions.values()))


def same(a, b):
    """Whether two (result, states) have the same bits."""
    return a[0].tobytes() == b[0].tobytes() and a[1].keys() == b[1].keys() and all(
        a[1][name].tobytes() == b[1][name].tobytes() for name in a[1])


@pytest.fixture(autouse=True)
def a_plan_at_once(monkeypatch):
    monkeypatch.setattr(plans, "PASSES", 0)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits(name, n):
    config = NETWORKS[name]
    network = Network(config)
    for B in 1, 2, 3, 5:
        with threads.using(n):
            for seed in range(3):                         # the first is recorded
                x = pixels(B, config, seed)
                assert same(network.planned(x), network.plain(x)), (B, seed)
    assert len(network.made()) == 4


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("dtype", NARROW)
def test_the_same_bits_in_narrow_dtypes(dtype, n):
    network = Network(replace(HYBRID, widths=(16, 16)), dtype)
    with threads.using(n):
        for B in 1, 3:
            for seed in range(3):
                x = pixels(B, network.config, seed)
                assert same(network.planned(x), network.plain(x)), (B, seed)
    # np.concatenate, the addition of the positions, and for B = 3 the copy of the class tokens
    assert sorted(map(calls, network.made())) == [2, 3]


@pytest.mark.parametrize("dtype", NARROW)
def test_products_of_one_x_share_its_words(dtype, monkeypatch):
    """q, k and v of both blocks, and conv1 and proj of the first unit of both stages, which are bfloat16."""
    network = Network(HYBRID, dtype)
    written, write = [], words._words_of
    monkeypatch.setattr(words, "_words_of", lambda *arguments: written.append(arguments) or write(*arguments))
    network.plain(pixels(1))
    alone = len(written)
    network.planned(pixels(1))
    assert len(network.made()) == 1 and len(written) - alone == alone - 2 * 2 - 2


def layers(x, ops, out, p=LAYERS):
    """Linear layers with and without the same x.  z gets the memory of y."""
    y = ops.layer_norm(x, p.norm, 1e-6)
    other, first = ops.linear(y, p.other), ops.linear(y, p.equal)
    del y
    z = ops.layer_norm(first, p.norm, 1e-6)
    second = ops.linear(z, p.equal)
    w = ops.layer_norm(second, p.norm, 1e-6)
    return ops.twice(w, p.equal) + ops.linear(w, p.equal) + other


def test_only_the_same_words_are_shared():
    """Not those of another x in the same memory, of other factors, or of a step that Python computes itself."""
    def twice(x, p):
        return 2 * kernels_narrow.linear(x, p)            # NumPy allocates the result, so the recorder drops the steps
    ops = SimpleNamespace(layer_norm=kernels_narrow.layer_norm, linear=kernels_narrow.linear, twice=twice)
    x = [cases.normal(seed, 1, 5, 24) for seed in range(3)]
    made = recorder.record(x[0], ops, Trace(), layers)
    assert calls(made) == 3                               # `twice` and the two sums
    assert len(made.functions) == 2                       # the two sums follow each other, so they are one step
    for array in x:
        assert made.run(array, Trace()).tobytes() == layers(array, ops, Trace()).tobytes()


@pytest.mark.parametrize("name", ["hybrid", "no classes", "BiT"])
def test_a_large_batch_in_parts(name, monkeypatch):
    """The same bits as in one pass, and the plans are those of the parts: 7 images are 2, 2, 2 and 1."""
    network = Network(NETWORKS[name])
    monkeypatch.setattr(plans, "PART", 2 * 64 * 64)
    for B, sizes in (7, {1, 2}), (8, {1, 2}), (3, {1, 2}), (2, {1, 2}):
        for seed in range(2):
            x = pixels(B, network.config, seed)
            assert same(network.planned(x), network.plain(x)), (B, seed)
        assert {key[0][0] for key in network.plans.shapes} == sizes
    monkeypatch.setattr(plans, "PART", 1)                 # an image is not divided
    assert same(network.planned(pixels(3)), network.plain(pixels(3)))


def test_only_numpy_functions_are_called_by_python(monkeypatch):
    network = Network(HYBRID)
    network.planned(pixels(1))
    (made,) = network.made()
    assert calls(made) == 2                               # np.concatenate and the addition of the positions
    assert len(made.functions) == 1                       # which are one step
    monkeypatch.setattr(np, "copyto", None)               # they write into their results, so nothing is allocated
    assert same(network.planned(pixels(1, seed=1)), network.plain(pixels(1, seed=1)))
    assert len(made.steps) > 60


def test_no_plan_before_the_passes(monkeypatch):
    monkeypatch.setattr(plans, "PASSES", 2)
    network = Network(HYBRID)
    made = []
    for _ in range(4):
        network.planned(pixels(1))
        made.append(len(network.made()))
    assert made == [0, 0, 1, 1]


def test_no_plans_without_compiled_kernels():
    script = ("import numpy as np, nphybrid\n"
              "from nphybrid import ViTConfig, ViTForImageClassification as Model\n"
              "config = ViTConfig(image_size=32, patch_size=16, hidden_size=8, num_hidden_layers=1, "
              "num_attention_heads=1, intermediate_size=8)\n"
              "model = Model(config)\n"
              "for _ in range(4): model(np.zeros((1, 3, 32, 32), np.float32))\n"
              "print(model.plans)")
    assert run_python("-c", script, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}).stdout.split() == ["None"]


def test_results_are_the_callers():
    network = Network(HYBRID)
    results = [network.planned(pixels(1, seed=seed)) for seed in range(3)]
    results[0][0][:] = 0
    for seed in 1, 2:
        assert same(results[seed], network.plain(pixels(1, seed=seed)))


def test_nan_does_not_reach_the_next_call():
    network = Network(HYBRID)
    bad = np.full_like(pixels(1), np.nan)
    for x in pixels(1), bad, pixels(1), bad * np.inf, pixels(1):
        result, states = network.planned(x)
        assert np.isnan(result).all() == np.isnan(x).all()
        assert same((result, states), network.plain(x)) or np.isnan(x).all()


def test_memory_is_used_again():
    """More blocks need no more memory."""
    used = []
    for blocks in 1, 12:
        network = Network(replace(HYBRID, blocks=blocks))
        network.planned(pixels(1))
        (made,) = network.made()
        used.append(max(place for _, frame, _, _ in made.steps if frame is not None for place in frame
                        if 0 <= place - made.memory.ctypes.data < made.memory.size) - made.memory.ctypes.data)
    assert 0 < used[1] <= used[0]


def test_a_large_plan_is_not_kept(monkeypatch):
    """It is recorded once, without success."""
    tried = []
    plain = plans.record
    monkeypatch.setattr(plans, "record", lambda *arguments: tried.append(None) or plain(*arguments))
    monkeypatch.setattr(recorder, "MOST_BYTES", 1000)
    network = Network(HYBRID)
    for _ in range(2 + plans.MOST_CALLERS):
        assert same(network.planned(pixels(1)), network.plain(pixels(1)))
    assert not network.made() and len(tried) == 1


def test_the_number_of_shapes_is_bounded():
    network = Network(HYBRID)
    for B in (1, 2, 3, 4, 5, 6, 1, 6):
        x = pixels(B)
        assert same(network.planned(x), network.plain(x))
        assert len(network.made()) <= plans.MOST_SHAPES
    assert [key[0][0] for key, shape in network.plans.shapes.items() if shape.free] == [4, 5, 1, 6]


def test_the_number_of_counted_shapes_is_bounded(monkeypatch):
    """A shape that came only once has no plan, but its passes are counted."""
    monkeypatch.setattr(plans, "PASSES", 2)
    monkeypatch.setattr(plans, "MOST_KEYS", 3)
    network = Network(HYBRID)
    for B in (1, 2, 3, 4, 2, 5):
        network.planned(pixels(B))
    assert [key[0][0] for key in network.plans.shapes] == [4, 2, 5]


def test_a_long_plan_returns_to_python(monkeypatch):
    """Between the calls of `_take_tasks`, Python can raise KeyboardInterrupt."""
    monkeypatch.setattr(plan, "LONG", 4)
    assert plan._returns([1, 2, 3, 4, 9, 0]).tolist() == [0, 0, 1, 1, 2, 0]
    monkeypatch.setattr(plan, "LONG", 1)
    network = Network(HYBRID)
    with threads.using(1):
        expected = network.planned(pixels(1))
        calls, plain = [], plan._take_tasks
        monkeypatch.setattr(plan, "_take_tasks", lambda *arguments: calls.append(1) or plain(*arguments))
        assert same(network.planned(pixels(1)), expected)
    made, = network.made()
    assert len(calls) > np.count_nonzero(made.arrays.returns) > 20


def test_shapes_in_rotation_are_recorded_less_and_less(monkeypatch):
    """Each shape is dropped before it comes again. Recording it every time would cost more than the plans save."""
    recordings = []
    plain = plans.record
    monkeypatch.setattr(plans, "PASSES", 1)
    monkeypatch.setattr(plans, "record", lambda x, *rest: recordings.append(len(x)) or plain(x, *rest))
    network = Network(HYBRID)
    for _ in range(30):
        for B in range(1, plans.MOST_SHAPES + 3):
            network.planned(pixels(B))
    assert plans.MOST_SHAPES + 2 <= len(recordings) <= 3 * (plans.MOST_SHAPES + 2)


def test_a_plan_whose_caller_was_interrupted_leaves_room_for_another(monkeypatch):
    network = Network(HYBRID)
    expected = network.plain(pixels(1))

    def interrupted(*arguments):
        raise KeyboardInterrupt
    for _ in range(2 * plans.MOST_CALLERS):
        network.planned(pixels(1))
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(plan.Plan, "run", interrupted)
            network.planned(pixels(1))
        gc.collect()
    assert same(network.planned(pixels(1)), expected) and len(network.made()) == 1


def test_a_recording_whose_caller_was_interrupted_leaves_room_for_another(monkeypatch):
    """Before the recording begins, and in the middle of it."""
    network = Network(HYBRID)
    expected = network.plain(pixels(1))

    def interrupted(*arguments):
        raise KeyboardInterrupt
    for of, name in (Plans, "_drop_oldest"), (plans, "record"):
        for _ in range(plans.MOST_CALLERS):
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(of, name, interrupted)
                network.planned(pixels(1))
            gc.collect()
    assert same(network.planned(pixels(1)), expected) and len(network.made()) == 1


def test_a_batch_without_images_has_no_plan():
    network = Network(HYBRID)
    for _ in range(3):
        assert same(network.planned(pixels(0)), network.plain(pixels(0)))
    assert network.planned(pixels(0))[0].shape == (0, 7) and not network.made()


def test_other_operations_need_another_plan():
    network = Network(HYBRID)
    network.planned(pixels(1))
    expected = network(pixels(1), kernels_narrow, Trace(keep=STATES))
    assert network.planned(pixels(1), kernels_narrow)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("part", [1, 2 ** 17])
def test_a_trace_of_the_caller_keeps_its_entries(part, monkeypatch):
    monkeypatch.setattr(plans, "PART", part)
    network = Network(HYBRID)
    out = Trace(keep=None)
    out["mine"] = 5
    out.keep = STATES
    for _ in range(3):
        network.plans.run((network.params, network.config), pixels(2), kernels, out, network)
        assert out["mine"] == 5 and all(isinstance(state, np.ndarray) for name, state in out.items() if name != "mine")
    assert network.made()


def test_a_network_that_cannot_be_recorded():
    """A function without a rule: the pass runs without a plan."""
    class Other(Network):
        def __call__(self, x, ops, out):
            return np.negative(super().__call__(x, ops, out))
    network = Other(HYBRID)
    for seed in range(2 + plans.MOST_CALLERS):
        assert same(network.planned(pixels(1, seed=seed)), network.plain(pixels(1, seed=seed)))
    assert not network.made()


def test_an_operation_that_uses_numpy_inside():
    """Its jobs alone would not compute it, so Python calls the whole operation."""
    class Ops:
        def __getattr__(self, name):
            return getattr(kernels, name)

        def linear(self, x, p):
            return kernels.linear(np.abs(x), p)
    network, ops = Network(HYBRID), Ops()           # a plan belongs to one object `ops`
    for seed in range(5):
        x, out = pixels(1, seed=seed), Trace(keep=STATES)
        assert same(network.planned(x, ops), (network(x, ops, out), dict(out)))
    assert calls(network.made()[0]) > 2


def test_learned_arrays_that_change_in_place():
    network = Network(HYBRID)
    network.planned(pixels(1))
    p = network.params
    for array in p.tokens.positions, p.tokens.cls, p.head.bias, p.stem.norm.scale, p.blocks[1].fc1.bias:
        array += 0.5
        assert same(network.planned(pixels(1)), network.plain(pixels(1)))


def test_other_learned_arrays():
    network = Network(HYBRID)
    before = network.planned(pixels(1))
    network.params = network.params._replace(head=Network(HYBRID).params.head._replace(bias=np.ones(7, np.float32)))
    after = network.planned(pixels(1))
    assert not same(before, after) and same(after, network.plain(pixels(1)))
    assert len(network.made()) == 1


@pytest.mark.parametrize("n", [None, 1, 2])
def test_all_threads_work(n, monkeypatch):
    """Also without a limit, when `threads.number` counts the cores."""
    shares = []
    plain = plan.Plan._work
    monkeypatch.setattr(plan.Plan, "_work", lambda self, release, thread: (
        shares.append((thread, threading.get_ident())), plain(self, release, thread)))
    network = Network(HYBRID)
    with threads.using(n):
        network.planned(pixels(1))
        (made,) = network.made()
        slow = made.functions[min(made.functions)]        # of a step that Python calls
        slow.insert(0, lambda: time.sleep(0.2))           # so no thread ends before all have begun
        assert same(network.planned(pixels(1)), network.plain(pixels(1)))
        expected = threads.number()
    assert len(shares) == len({thread for thread, _ in shares}) == len({ident for _, ident in shares}) == expected


@pytest.mark.parametrize("n", [1, 2])
def test_several_callers_at_once(n, callers=6, calls=20):
    network = Network(HYBRID)
    expected = [network.plain(pixels(1, seed=seed)) for seed in range(callers)]
    right = []

    def call(seed):
        with threads.using(n):
            right.extend(same(network.planned(pixels(1, seed=seed)), expected[seed]) for _ in range(calls))
    running = [threading.Thread(target=call, args=(seed,)) for seed in range(callers)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(120)
        assert not thread.is_alive()
    assert right == [True] * callers * calls and 1 <= len(network.made()) <= plans.MOST_CALLERS


@pytest.mark.parametrize("late", [False, True])
def test_threads_may_change_their_cores_if_one_is_late(late, monkeypatch):
    """A thread that waits for PATIENCE sleeps calls release().  Shorter waits do not."""
    released = []

    @contextlib.contextmanager
    def apart():
        yield lambda: released.append(None)
    network = Network(HYBRID)
    with threads.using(2):
        network.planned(pixels(1))
        (made,) = network.made()
        slow = made.functions[min(made.functions)]        # of a step that Python calls
        slow.insert(0, lambda: time.sleep(0.5 if late else 0))
        monkeypatch.setattr(threads, "apart", apart)
        monkeypatch.setattr(plan, "PATIENCE", 20 if late else 10_000)
        expected = network.plain(pixels(1, seed=1))
        assert same(network.planned(pixels(1, seed=1)), expected)
    assert len(released) == late


def test_a_lack_of_memory_drops_all_plans(monkeypatch):
    monkeypatch.setattr(plans, "PASSES", 1)
    network = Network(HYBRID)
    for B in (2, 2, 1, 1):
        network.planned(pixels(B))
    made = network.made()
    monkeypatch.setattr(plan.Plan, "_work", lambda self, *_: self.counters.__setitem__(-1, 1))
    assert same(network.planned(pixels(1)), network.plain(pixels(1)))
    assert len(made) == 2 and not network.made()
    # The shapes wait longer before they are recorded again.
    assert {shape.wanted for shape in network.plans.shapes.values()} == {plans.LONGER}


def test_a_signal_handler_may_use_plans():
    """A signal can come while its thread holds the lock."""
    network = Network(HYBRID)
    expected = network.planned(pixels(1))
    with plans._lock:
        assert plans._lock.acquire(blocking=False)        # with a Lock, the pass below would wait forever
        plans._lock.release()
        assert same(network.planned(pixels(1)), expected)


def test_a_signal_handler_may_compute_during_a_recording(monkeypatch):
    """Its arrays do not come from the memory of the plan that is recorded."""
    network = Network(HYBRID)
    expected = network.plain(pixels(1))
    sizes, found = [], []
    memory, layer_norm = recorder.Recorder.memory, kernels.layer_norm
    monkeypatch.setattr(recorder.Recorder, "memory", lambda self, size: sizes.append(size) or memory(self, size))
    network.planned(pixels(1))
    count = len(sizes)

    def interrupted(*arguments):
        if not found:
            found.append(None)
            found.append(network.planned(pixels(1)))
        return layer_norm(*arguments)
    network = Network(HYBRID)
    monkeypatch.setattr(kernels, "layer_norm", interrupted)
    assert same(network.planned(pixels(1)), expected) and same(found[1], expected)
    # The recording of the handler and the interrupted recording took as much memory as two recordings.
    assert len(sizes) == 3 * count and len(network.made()) == 2


def test_an_error_in_a_step_ends_the_plan():
    """The thread that raises must not leave the other in the plan."""
    network = Network(HYBRID)
    raised = []

    def call():
        with threads.using(2):
            network.planned(pixels(1))
            (made,) = network.made()
            made.functions[min(made.functions)].append(fail)
            with pytest.raises(KeyError, match="a step"):
                network.planned(pixels(1))
            raised.append(len(network.made()))
            assert same(network.planned(pixels(1)), network.plain(pixels(1)))
            raised.append(len(network.made()))

    def fail():
        time.sleep(0.2)                                   # the other thread waits for this step
        raise KeyError("a step")
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(60)
    assert raised == [0, 1]


INTERRUPTED = """
import os, signal, threading, time
import numpy as np
from nphybrid.ops import plans, threads
from ops.test_plan import HYBRID, Network, pixels, same
plans.PASSES = 0
network, x = Network(HYBRID), pixels(8)
expected, rng = network.plain(x), np.random.default_rng(0)
def interrupt(after):
    time.sleep(after)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
interrupted, cores = 0, os.sched_getaffinity(0) if threads._core else None
with threads.using(2):
    for after in rng.uniform(0, 0.05, 60):
        try:
            threading.Thread(target=interrupt, args=(after,)).start()
            while True:
                network.planned(x)
        except KeyboardInterrupt:
            for thread in (0, *(worker.native_id for worker in threads._workers)) if cores else ():
                assert os.sched_getaffinity(thread) == cores
            assert same(network.planned(x), expected)
            interrupted += 1
print("done", interrupted)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a signal to a thread")
def test_interrupts():
    done = run_python("-c", INTERRUPTED)
    assert done.stdout == "done 60\n" and done.returncode == 0, done.stderr


# ---------------------------------------------------------------- the plans of a model

@pytest.fixture
def bundled():
    return ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=2)


def planned(network):
    """Whether a model has a plan."""
    return any(p for shape in network.plans.shapes.values() for p in shape.free)


def logits(network, seed=0):
    return network(pixels(1, seed=seed).transpose(0, 3, 1, 2)).logits.tobytes()


def test_a_model_uses_plans(bundled):
    other = copy.deepcopy(bundled)
    other.plans = None
    for seed in range(3):
        assert logits(bundled, seed) == logits(other, seed)
    assert planned(bundled)


def test_states_are_not_recorded(bundled):
    x = pixels(1).transpose(0, 3, 1, 2)
    for _ in range(2):
        bundled.trace(x)
        bundled(x, output_hidden_states=True, output_attentions=True)
        bundled(x, head_mask=np.ones(3))
    assert not planned(bundled)


def test_loading_other_weights(bundled):
    before = logits(bundled), logits(bundled)
    state = bundled.state_dict()
    state["classifier.bias"] += 1
    bundled.load_state_dict(state)
    assert not planned(bundled)
    assert before[0] == before[1] != logits(bundled) == logits(bundled)


def test_copies_have_their_own_plans(bundled):
    expected = logits(bundled)
    for other in pickle.loads(pickle.dumps(bundled)), copy.deepcopy(bundled), copy.copy(bundled):
        assert other.plans is not bundled.plans
        for _ in range(3):
            assert logits(other) == expected == logits(bundled)
        assert planned(other) and planned(bundled)
    bundled.plans = None
    assert copy.copy(bundled).plans is None


def test_the_number_of_threads_may_change(bundled):
    expected = logits(bundled)
    for n in 1, 2, 1, None, 2:
        bundled.num_threads = n
        assert logits(bundled) == expected


def _child(connection, network):
    connection.send([logits(network) for _ in range(3)])


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())))
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_uses_plans(method, bundled):
    expected = [logits(bundled) for _ in range(3)]
    here, there = multiprocessing.get_context(method).Pipe()
    child = multiprocessing.get_context(method).Process(target=_child, args=(there, bundled))
    child.start()
    assert here.poll(60), "the child hangs"
    assert here.recv() == expected
    child.join(30)
    assert child.exitcode == 0


FORKED = """
import os, sys, threading
import numpy as np
from nphybrid import ViTHybridForImageClassification, default_model
model = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=1)
def call(B):
    while not stop:
        model.plans.clear()                                   # so that another plan is recorded
        for _ in range(4):
            model(np.zeros((B, 3, 64, 64), np.float32))
stop = []
threads = [threading.Thread(target=call, args=(B,)) for B in (1, 2)]
for thread in threads:
    thread.start()
for _ in range(12):
    child = os.fork()
    if not child:
        for _ in range(4):
            model(np.zeros((3, 3, 64, 64), np.float32))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1)
for thread in threads:
    thread.join()
print("ended")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forgets_the_callers_of_its_parent(monkeypatch):
    """While MOST_CALLERS threads record or use plans, a child is forked. It can record a plan of its own."""
    network, main = Network(HYBRID), threading.current_thread()
    waiting, go = threading.Semaphore(0), threading.Event()
    norm = kernels.layer_norm

    def slow(*arguments):
        if threading.current_thread() is not main:
            waiting.release()
            go.wait(60)
        return norm(*arguments)
    monkeypatch.setattr(kernels, "layer_norm", slow)
    callers = [threading.Thread(target=network.planned, args=(pixels(1),)) for _ in range(plans.MOST_CALLERS)]
    for caller in callers:
        caller.start()
    for _ in callers:
        assert waiting.acquire(timeout=60)
    child = os.fork()
    if not child:
        network.planned(pixels(1))
        os._exit(0 if len(network.made()) == 1 else 1)
    go.set()
    for caller in callers:
        caller.join()
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_child_that_is_forked_while_others_record():
    """It must not wait for a lock that another thread held."""
    done = run_python("-W", "ignore", "-c", FORKED, timeout=120)
    assert done.stdout.split() == ["ended"], done.stderr
