"""Every operation in both implementations: same signature, same numbers, same bits in any batch."""
import inspect
import pickle
import platform
from functools import partial

import numpy as np
import pytest

from nphybrid.ops import OPERATIONS, jit, kernels, kernels_narrow, reference, target, threads
from nphybrid.ops.packed import AMX, Packed
from nphybrid.ops.panels import panels_of
from nphybrid.params import Linear, Norm

from oracles import cases
from oracles.cases import ALL, CASES, NAMES, SLOW, call
from tools.process import python_environment, run_python

each_case = pytest.mark.parametrize("operation, case", ALL, ids=NAMES)
one_case = pytest.mark.parametrize("operation, case", [(w, c[0]) for w, c in CASES.items()], ids=list(CASES))

# error(x) = max|x - truth| / std(truth); truth is the reference in float64. The error of a kernel is at most FLOOR, or
# its bound times the error of the float32 reference. Every operation has its bound here.
FLOOR = 2e-6
BOUNDS = {                                # bound    largest ratio above FLOOR, or largest error below it (AVX-512)
    "conv2d": 2.5,                        #          1.6
    "max_pool": 2.5,                      #          error 0
    "mean_pool": 2.5,                     #          0.1
    "group_norm": 2.5,                    #          error 1.3e-6
    "group_norm_activate": 2.5,           #          error 1.3e-6
    "group_norm_add_activate": 2.5,       #          error 1.3e-6
    "layer_norm": 2.5,                    #          error 1.3e-6
    "linear": 2.5,                        #          1.0
    "linear_activate": 2.5,               #          1.4
    "linear_add": 2.5,                    #          1.0
    "attention": 2.5,                     #          1.1
    "attention_with_weights": 2.5,        #          1.1
    "activate": 2.5,                      #          error 2.4e-7
}


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


def error(x, truth):
    return float(np.abs(x - truth).max() / (truth.std() or np.abs(truth).max() or 1))


def test_both_implementations_have_all_operations():
    for operation in (*OPERATIONS, "ready"):
        ours, theirs = (inspect.signature(getattr(ops, operation)) for ops in (kernels, reference))
        assert ours == theirs, operation


def test_every_operation_has_a_case_and_a_bound():
    """A new operation needs cases in CASES of tests/oracles/cases.py, and a bound in BOUNDS of this file."""
    assert set(CASES) == set(BOUNDS) == set(OPERATIONS) - {"prepare"}


@each_case
def test_accuracy(operation, case):
    arguments = case.arguments()
    truth = outputs(call(reference, operation, arguments, np.float64))
    plain = outputs(call(reference, operation, arguments))
    for x, y, t in zip(outputs(call(kernels, operation, arguments)), plain, truth, strict=True):
        assert x.shape == t.shape and x.dtype == np.float32 and x.flags.c_contiguous
        assert error(x, t) <= max(BOUNDS[operation] * error(y, t), FLOOR)


@pytest.mark.parametrize("mean", [0, 1e4])
def test_norms_keep_a_large_mean(mean):
    # Observed at 1e4: group norm 3.4e-7, layer norm 3.8e-7; the float32 reference 3e-3 and 2e-3.
    x, p = cases.normal(1, 2, 6, 6, 64, mean=mean), cases.norm(3, 64)
    for operation, arguments in (("group_norm", (x, p, 8, 1e-5)), ("layer_norm", (x[0], p, 1e-12))):
        assert error(call(kernels, operation, arguments), call(reference, operation, arguments, np.float64)) <= 1e-5


@pytest.mark.parametrize("value", np.linspace(900, 1100, 20, dtype=np.float32))
def test_a_variance_that_rounding_makes_negative_is_0(value):
    """All numbers of a group are equal but one, which is the next float32."""
    x = np.full((1, 8, 8, 32), value)
    x[0, 3, 2, 1] = np.nextafter(value, np.float32(np.inf))
    arguments = x, Norm(np.ones(32, np.float32), np.zeros(32, np.float32)), 1, 1e-5
    y, truth = call(kernels, "group_norm", arguments), call(reference, "group_norm", arguments, np.float64)
    assert np.abs(y - truth).max() <= 1e-4                # observed 1.1e-7, for results up to 0.039


@each_case
def test_arguments_are_left_alone(operation, case):
    arguments = case.arguments()
    call(kernels, operation, arguments)
    for before, after in zip(case.arguments(), arguments, strict=True):
        for x, y in zip(leaves(before), leaves(after), strict=True):
            assert np.array_equal(x, y)


def leaves(argument):
    if isinstance(argument, tuple):
        return [leaf for child in argument for leaf in leaves(child)]
    return [argument] if isinstance(argument, np.ndarray) else []


PRODUCTS = "conv2d", "linear", "linear_activate", "linear_add"


@one_case
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_pass(operation, case, value):
    x, *rest = case.arguments()
    x[0].flat[x[0].size // 2] = value
    with np.errstate(all="ignore"):
        theirs = outputs(call(reference, operation, (x, *rest), np.float64))
    for a, b in zip(outputs(call(kernels, operation, (x, *rest))), theirs, strict=True):
        if AMX and operation in PRODUCTS:          # an infinity in parts is NaN: infinity - infinity
            b = np.where(np.isfinite(b), b, np.nan)
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert np.array_equal(np.sign(a[np.isinf(a)]), np.sign(b[np.isinf(b)]))
        assert np.array_equal(np.isinf(a), np.isinf(b))


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activations_at_the_ends(name):
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, 88.8, 104, 1e-30, -1e-30], np.float32)
    with np.errstate(all="ignore"):
        theirs = reference.activate(x.astype(np.float64), name)
    assert np.allclose(kernels.activate(x, name), theirs, rtol=1e-6, atol=1e-7, equal_nan=True)


@one_case
def test_any_layout_of_memory(operation, case):
    arguments = case.arguments()
    expected = outputs(call(kernels, operation, arguments))
    for arranged in (np.asfortranarray, strided, read_only):
        got = run_unconverted(operation, [arranged(a) if isinstance(a, np.ndarray) else a for a in arguments])
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def run_unconverted(operation, arguments):
    return outputs(getattr(kernels, operation)(*(
        a if isinstance(a, np.ndarray) else cases.ready(kernels, a, np.float32) for a in arguments)))


def strided(x):
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@one_case
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_dtypes_are_refused(operation, case, dtype):
    x, *rest = case.arguments()
    with pytest.raises(TypeError, match="float32"):
        run_unconverted(operation, [x.astype(dtype), *rest])


def test_wrong_shapes_are_refused():
    p = kernels.prepare(cases.dense(0, 6, 4), cases.CONFIG)
    with pytest.raises(ValueError, match="shape"):
        kernels.linear(cases.normal(0, 2, 5), p)
    with pytest.raises(ValueError, match="residual"):
        kernels.linear_add(cases.normal(0, 2, 6), p, cases.normal(0, 3, 4))
    with pytest.raises(ValueError, match="divide"):
        kernels.group_norm(cases.normal(0, 1, 2, 2, 6), cases.norm(0, 6), 4, 1e-5)
    with pytest.raises(ValueError, match="divide"):
        kernels.attention(*[cases.normal(0, 1, 3, 10)] * 3, 3)
    with pytest.raises(ValueError, match="key"):
        kernels.attention(cases.normal(0, 1, 3, 4), *[cases.normal(0, 1, 3, 6)] * 2, 2)
    with pytest.raises(ValueError, match="value"):
        kernels.attention(*[cases.normal(0, 1, 3, 4)] * 2, cases.normal(0, 1, 2, 4), 2)
    with pytest.raises(ValueError, match="key: expected shape"):
        kernels.attention(cases.normal(0, 1, 3, 4), *[cases.normal(0, 3, 4)] * 2, 2)
    with pytest.raises(ValueError, match="at least 5 x 5 cells, the size of the dilated kernel, found 2 x 9 cells"):
        kernel = kernels.prepare(cases.normal(0, 3, 3, 4, 5), cases.CONFIG)
        kernels.conv2d(cases.normal(0, 1, 2, 7, 4), kernel, 1, 2, ((0, 0), (1, 1)))
    with pytest.raises(ValueError, match="no weights"):
        kernels.prepare(cases.dense(0, 1, 4)._replace(kernel=cases.normal(0, 0, 4)), cases.CONFIG)


def test_a_wrong_bias_is_refused():
    """The loop would read a short bias beyond its end."""
    x, p = cases.normal(0, 2, 6), kernels.prepare(cases.dense(0, 6, 4), cases.CONFIG)
    with pytest.raises(ValueError, match="bias: expected shape"):
        kernels.linear(x, p._replace(bias=p.bias[:3]))
    with pytest.raises(TypeError, match="bias: expected a float32 array, found float64"):
        kernels.linear_activate(x, p._replace(bias=p.bias.astype(np.float64)), "relu")


def test_an_unknown_activation_is_named():
    x, p = cases.normal(0, 1, 2, 2, 6), kernels.prepare(cases.dense(0, 6, 4), cases.CONFIG)
    for run in (lambda: kernels.activate(x, "gellu"), lambda: kernels.linear_activate(x, p, "gellu"),
                  lambda: kernels.group_norm_activate(x, cases.norm(0, 6), 2, 1e-5, "gellu")):
        with pytest.raises(ValueError, match="expected one of gelu, .* found 'gellu'"):
            run()


@one_case
def test_an_empty_batch(operation, case):
    first, *rest = case.arguments()
    if operation == "linear_add":
        rest[-1] = rest[-1][:0]
    x = first[:0]
    got = outputs(call(kernels, operation, [x, *(a[:0] if isinstance(a, np.ndarray) else a for a in rest)]))
    whole = outputs(call(kernels, operation, case.arguments()))
    assert [y.shape for y in got] == [(0, *y.shape[1:]) for y in whole]


def test_group_norm_of_an_empty_map(monkeypatch):
    """No task runs, because it would read outside its arrays."""
    norm = cases.norm(0, 8)
    monkeypatch.setattr(threads, "run", None)
    for shape in (2, 0, 5, 8), (2, 5, 0, 8), (0, 4, 5, 8):
        x = np.zeros(shape, np.float32)
        assert kernels.group_norm(x, norm, 4, 1e-5).shape == shape
        assert kernels.group_norm_add_activate(x, norm, 4, 1e-5, x, "relu").shape == shape


def test_prepare_keeps_the_tree_and_refuses_other_dtypes():
    norm, linear = cases.norm(0, 4), cases.dense(1, 4, 6)
    tree = (norm, (linear, cases.normal(2, 3, 3, 4, 5), None), cases.normal(3, 7, 4))
    ready = kernels.prepare(tree, cases.CONFIG)
    assert type(ready[0]) is Norm and type(ready[1][0]) is Linear and ready[1][2] is None
    assert ready[1][0].kernel.shape == (4, 6) and ready[1][1].shape == (3, 3, 4, 5)
    assert np.array_equal(ready[2], tree[2]) and ready[2].dtype == np.float32
    with pytest.raises(TypeError, match="bfloat16|float64"):
        kernels.prepare(tree, cases.CONFIG, np.float64)


def test_prepared_arrays_share_no_memory():
    """They do not depend on the array's layout in memory either."""
    for ops in kernels, reference:
        for name, array in (("bias", cases.normal(0, 64)), ("positions", cases.normal(1, 5, 64)),
                            ("kernel", cases.normal(2, 5, 64)), ("conv", cases.normal(3, 3, 3, 4, 8))):
            expected = np.asarray(ops.ready(name, array, cases.CONFIG)).tobytes()
            for arranged in (array, np.asfortranarray(array), strided(array), array.astype(np.float64)):
                ready = ops.ready(name, arranged, cases.CONFIG)
                assert np.asarray(ready).tobytes() == expected
                assert not np.shares_memory(getattr(ready, "panels", ready), arranged)


@pytest.mark.parametrize("K, N", [(1, 1), (37, 45), (300, 33), (768, 64), (257, 5)])
def test_a_packed_kernel_converts_to_an_array(K, N):
    kernel = cases.normal(0, K, N)
    packed = Packed(kernel.T.copy().T)
    assert np.array_equal(np.asarray(packed), kernel) and np.asarray(packed, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(packed), packed.panels)


@pytest.mark.parametrize("K, N", [(1, 1), (37, 45), (300, 33), (768, 64), (257, 5)])
def test_unpacking_restores_the_kernel(K, N):
    kernel = cases.normal(0, K, N)
    packed = kernels.prepare(Linear(kernel, None), cases.CONFIG).kernel
    assert packed.panels.ctypes.data % 64 == 0
    assert np.array_equal(packed.unpacked(), kernel)
    if not AMX:
        assert np.count_nonzero(packed.panels) == np.count_nonzero(kernel)


def plain_panels(matrix, NR):
    """The definition: panels[p, k, j] = matrix[k, p * NR + j], and 0 after the last column."""
    K, N = matrix.shape
    panels = np.zeros((-(-N // NR), K, NR), np.float32)
    for k, n in np.ndindex(K, N):
        panels[n // NR, k, n % NR] = matrix[k, n]
    return panels


@pytest.mark.parametrize("K, N", [(1, 1), (7, 1), (1, 45), (33, 16), (129, 300)])
def test_panels_of_every_layout(K, N):
    """A matrix by rows, by columns, with gaps, backwards, and in float64."""
    rows, columns = cases.normal(0, K, N), cases.normal(1, N, K).T
    for matrix in (rows, columns, cases.normal(2, K, 2 * N)[:, ::2], columns[::-1], columns.astype(float)):
        panels = panels_of(matrix)
        assert panels.tobytes() == plain_panels(matrix, target.NR).tobytes() and panels.ctypes.data % 64 == 0


@pytest.mark.skipif(AMX, reason="on AMX, a kernel is split before it is packed")
def test_a_pickle_is_packed_where_it_is_read(monkeypatch):
    """Written with another layout of panels, read with this one."""
    kernel = cases.normal(0, 3, 3, 100, 45)
    here = Packed(kernel)
    for NR in (target.NR, 7):
        with monkeypatch.context() as patch:
            patch.setattr("nphybrid.ops.packed.panels_of", partial(plain_panels, NR=NR))
            there = Packed(kernel)
            written = pickle.dumps(there)
        again = pickle.loads(written)
        assert again.shape == here.shape and again.width == here.width
        assert again.panels.tobytes() == here.panels.tobytes() and again.panels.ctypes.data % 64 == 0
    assert there.panels.size != here.panels.size


NEW_MEMORY = """
import numpy as np
from nphybrid.ops import attention, attention_gradients, gradients, reference, reference_narrow
from nphybrid.ops.target import LANES, MR, NR
assert np.empty(9000, np.uint8)[5000] == 0x7F
rng, worst = np.random.default_rng(0), dict(context=0, weights=0, narrow=0, gradient=0)
def see(name, found, truth):
    worst[name] = max(worst[name], float(np.nan_to_num(np.abs(found - truth), nan=np.inf).max()))
for T in 1, 2, MR + 1, NR, NR + 1, NR + LANES, NR + LANES + 1:
    for K in 1, LANES, LANES + 1, NR + LANES + 1:
        dy, q, k, v = (rng.standard_normal((1, T, 2 * K), np.float32) for _ in range(4))
        y, weights = attention.attention_with_weights(q, k, v, 2)
        wide = [x.astype(float) for x in (dy, y, q, k, v)]
        for name, found, truth in zip(worst, (y, weights), reference.attention_with_weights(*wide[2:], 2)):
            see(name, found, truth)
        see("narrow", attention.narrow_attention(q, k, v, 2), reference_narrow.attention(q, k, v, 2))
        for found, truth in zip(attention_gradients.attention(dy, y, q, k, v, 2), gradients.attention(*wide, 2)):
            see("gradient", found, truth)
print(*worst.values())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a variable of glibc")
@pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="the loops are slow as plain Python")
def test_attention_reads_only_what_it_computed():
    """New memory is filled with 0x7F, which is 3.4e38 in float32 and in bfloat16."""
    done = run_python("-c", NEW_MEMORY, env=python_environment(MALLOC_PERTURB_=0x80))
    assert done.returncode == 0, done.stderr
    largest = dict(zip(("context", "weights", "narrow", "gradient"), map(float, done.stdout.split()), strict=True))
    # Observed 7e-7, 2.2e-7, 1.4e-4 and 9.4e-7.
    bounds = {"context": 2e-6, "weights": 1e-6, "narrow": 1e-3, "gradient": 3e-6}
    assert all(largest[name] <= bounds[name] for name in bounds), largest


@pytest.mark.parametrize("module", [kernels, kernels_narrow])
@pytest.mark.parametrize("B, T, D, heads", [(1, 1, 6, 2), (1, 65, 30, 2), (2, 7, 24, 3), (5, 66, 48, 1), (9, 9, 8, 2)])
def test_each_query_is_computed_by_itself(module, B, T, D, heads, monkeypatch):
    """Bit for bit, for 0 to T queries, on 1 and 2 threads.  A batch of 9 has a kernel of its own."""
    monkeypatch.setattr(threads, "SMALL", 0)
    q, k, v = cases.normal(0, 3, B, T, D)
    context, weights = module.attention_with_weights(q, k, v, heads)
    for first, end in {(0, 0), (0, 1), (0, min(6, T)), (T // 2, T), (0, T)}:
        for n in 1, 2:
            with threads.using(n):
                some, their_weights = module.attention_with_weights(q[:, first:end], k, v, heads)
                assert module.attention(q[:, first:end], k, v, heads).tobytes() == some.tobytes()
            assert some.tobytes() == context[:, first:end].tobytes()
            assert their_weights.tobytes() == weights[:, :, first:end].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("isa", target.available(target.TARGET))
def test_a_pickle_goes_to_another_instruction_set(isa, tmp_path):
    x, p = cases.normal(0, 3, 300), kernels.prepare(cases.dense(1, 300, 45), cases.CONFIG)
    (tmp_path / "pickle").write_bytes(pickle.dumps((x, p)))
    code = ("import pickle, sys; from nphybrid.ops import kernels, target\n"
            f"x, p = pickle.load(open({str(tmp_path / 'pickle')!r}, 'rb'))\n"
            f"print(target.ISA)\nkernels.linear(x, p).tofile({str(tmp_path / 'result')!r})")
    done = run_python("-c", code, env=python_environment(NPHYBRID_ISA=None if jit.config.DISABLE_JIT else isa))
    assert done.returncode == 0, done.stderr
    if not jit.config.DISABLE_JIT:
        assert done.stdout == isa + "\n"
    truth = reference.linear(x.astype(np.float64), Linear(p.kernel.unpacked().astype(np.float64), p.bias))
    assert error(np.fromfile(tmp_path / "result", np.float32).reshape(3, 45), truth) <= FLOOR


BATCHED = {w: [c for c in cs if c.arguments()[0].ndim >= 3][:3 if SLOW else None] for w, cs in CASES.items()}


@pytest.mark.parametrize("operation, case", [(w, c) for w, cs in BATCHED.items() for c in cs],
                         ids=[f"{w}: {c.name}" for w, cs in BATCHED.items() for c in cs])
def test_bits_do_not_depend_on_the_batch(operation, case, monkeypatch):
    """Batches of 1, 2, 3 and 5, every position in them, 1, 2 and 3 threads."""
    monkeypatch.setattr(threads, "SMALL", 0)
    five = five_images(case.arguments())
    with threads.using(1):
        alone = [outputs(call(kernels, operation, some(five, i, 1))) for i in range(5)]
    for n, size in ((1, 5), (2, 5), (3, 5), (2, 1), (1, 2), (2, 3)):
        with threads.using(n):
            for first in range(0, 6 - size, size):
                got = outputs(call(kernels, operation, some(five, first, size)))
                for i in range(size):
                    pairs = zip(got, alone[first + i], strict=True)
                    assert all(np.array_equal(a[i:i + 1], b) for a, b in pairs)


@one_case
def test_bits_do_not_depend_on_the_limit_of_small_work(operation, case, monkeypatch):
    results = []
    for small in (0, 10 ** 18):
        monkeypatch.setattr(threads, "SMALL", small)
        with threads.using(3):
            results.append(outputs(call(kernels, operation, case.arguments())))
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def five_images(arguments):
    """The same arguments with five different images in every array."""
    def grown(x):
        copies = -(-5 // x.shape[0])
        return np.concatenate([x + np.float32(i) / 4 for i in range(copies)])[:5]
    return [grown(a) if isinstance(a, np.ndarray) else a for a in arguments]


def some(arguments, first, size):
    return tuple(a[first:first + size] if isinstance(a, np.ndarray) else a for a in arguments)
