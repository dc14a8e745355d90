"""Every rule of the backward pass against central differences of its operation, in float64 and without PyTorch.

The operations run through a Record, so the fused operations and the operations of NumPy are tested too. For each array
argument a and random directions u, the sum of da * u must be the derivative of sum(y * dy) along u.
"""
import numpy as np
import pytest

from nphybrid.ops import OPERATIONS, gradients, reference
from nphybrid.ops.record import Record, Variable, values
from nphybrid.params import Linear, Norm

from oracles import loops
from ops.test_reference import CASES, IDS, dense, draw
from tools.on_demand import on_demand

torch = on_demand("torch")

STEP = 1e-6
TOLERANCE = 1e-7                          # observed 2.5e-8
DIRECTIONS = 3


def numpy_cases():
    """Everything that the network computes with NumPy itself: {name: (function of Variables, arrays)}."""
    def shapes(*several):
        return lambda rng: [draw(rng, *shape) for shape in several]

    condition = np.random.default_rng(1).random((2, 5)) < 0.5
    return {
        "add": (lambda a, b: a + b, shapes((2, 3, 5), (2, 3, 5))),
        "add, broadcast": (lambda a, b: a + b, shapes((2, 3, 5), (3, 5))),
        "add, an axis of length 1": (lambda a, b: b + a, shapes((2, 3, 5), (3, 1))),
        "add, twice the same": (lambda a: a + a, shapes((2, 3))),
        "add, an array": (lambda a: a + np.arange(5.0), shapes((2, 5))),
        "multiply": (lambda a, b: a * b, shapes((2, 3, 5), (5,))),
        "multiply, an array": (lambda a: np.arange(5.0) * a, shapes((2, 5))),
        "where": (lambda a, b: np.where(condition[:, :, None], a, b), shapes((3,), (2, 5, 3))),
        "broadcast_to": (lambda a: np.broadcast_to(a, (4, 1, 5)), shapes((5,))),
        "pad": (lambda a: np.pad(a, ((0, 0), (1, 1), (2, 0), (0, 0))), shapes((2, 3, 4, 2))),
        "concatenate": (lambda a, b: np.concatenate([a, b], axis=1), shapes((2, 1, 5), (2, 3, 5))),
        "getitem, a token": (lambda a: a[:, 0], shapes((2, 3, 5))),
        "getitem, a slice and a new axis": (lambda a: a[:, None, 1:], shapes((2, 3, 5))),
        "reshape": (lambda a: a.reshape(3, 4), shapes((2, 6))),
        "transpose": (lambda a: a.transpose(2, 0, 3, 1), shapes((2, 3, 4, 5))),
    }


NUMPY_CASES = numpy_cases()


def of_operation(operation):
    """The operation as a function of its arguments on a record; the weights of attention have no gradient."""
    if operation == "attention_with_weights":
        return lambda record, *arguments: record.attention_with_weights(*arguments)[0]
    return lambda record, *arguments: getattr(record, operation)(*arguments)


ALL = [(of_operation(operation), arguments) for operation, arguments in CASES]
ALL += [(lambda record, *arguments, f=f: f(*arguments), arguments) for f, arguments in NUMPY_CASES.values()]
STANDARDIZE = [((3, 3, 4, 5), "variance"), ((1, 1, 7, 3), "deviation"), ((3, 2, 1, 2), "deviation")]
ALL += [(lambda record, kernel, form=form: record.standardize(kernel, 0.25, form),
         lambda rng, shape=shape: (draw(rng, *shape, mean=0.4),)) for shape, form in STANDARDIZE]
NAMES = [*IDS, *NUMPY_CASES, *(f"standardize-{shape}-{form}" for shape, form in STANDARDIZE)]


def mapped(argument, function):
    """The arguments with function(array) for each floating-point array, also in norms and linear layers."""
    if isinstance(argument, (Linear, Norm)):
        return type(argument)(*(mapped(part, function) for part in argument))
    if isinstance(argument, (tuple, list)) and any(isinstance(part, (np.ndarray, Linear, Norm)) for part in argument):
        return type(argument)(mapped(part, function) for part in argument)
    return function(argument) if isinstance(argument, np.ndarray) and argument.dtype == np.float64 else argument


def plain(function, arguments):
    """The value of the function without a record of notes."""
    return np.asarray(values(function(Record(reference, gradients.RULES), *arguments)))


def by_rules(function, arguments, dy):
    """The gradients of sum(y * dy), in the order in which `mapped` visits the arrays."""
    record, leaves = Record(reference, gradients.RULES), []

    def leaf(array):
        leaves.append(Variable(array, record))
        return leaves[-1]
    y = function(record, *mapped(tuple(arguments), leaf))
    record.backward(y, dy)
    return [leaf.gradient for leaf in leaves]


def along(function, arguments, number, u, dy):
    """The derivative of sum(y * dy) with respect to array `number`, along the direction u, by central differences."""
    def moved(step):
        visited = iter(range(10 ** 6))
        shifted = mapped(tuple(arguments), lambda a: a + step * u if next(visited) == number else a)
        return (plain(function, shifted) * dy).sum()
    return (moved(STEP) - moved(-STEP)) / (2 * STEP)


def arrays_of(arguments):
    found = []
    mapped(tuple(arguments), found.append)
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize("function, arguments", ALL, ids=NAMES)
def test_a_rule_is_the_derivative(function, arguments, rng):
    arguments = mapped(tuple(arguments(rng)), lambda array: array)
    dy = rng.standard_normal(plain(function, arguments).shape)
    found = by_rules(function, arguments, dy)
    for number, array in enumerate(arrays_of(arguments)):
        assert found[number].shape == array.shape and found[number].dtype == np.float64
        for _ in range(DIRECTIONS):
            u = rng.standard_normal(array.shape)
            expected = along(function, arguments, number, u, dy)
            assert abs((found[number] * u).sum() - expected) <= TOLERANCE * max(1, abs(expected))


def test_every_operation_has_a_rule_and_a_case():
    """An operation without a rule is a method of Record that calls operations with rules."""
    assert set(gradients.RULES) <= {*OPERATIONS, "standardize"}
    for operation in set(OPERATIONS) - set(gradients.RULES):
        assert operation in vars(Record), f"expected a rule for {operation!r} in RULES of ops/gradients.py"
    names = {getattr(f, "__name__", "") for f in gradients.NUMPY_RULES}
    assert {name.strip("_") for name in names} == {name.partition(",")[0] for name in NUMPY_CASES}


@pytest.mark.parametrize("function", [np.subtract, np.exp, np.cumsum])
def test_an_operation_of_numpy_without_a_rule_is_refused(function, rng):
    x = Variable(draw(rng, 3), Record(reference, gradients.RULES))
    with pytest.raises(TypeError, match=function.__name__):
        function(*[x] * max(getattr(function, "nin", 1), 1))


@pytest.mark.parametrize("operation, arguments", CASES, ids=IDS)
def test_float32_stays_float32(operation, arguments, rng):
    arguments = mapped(tuple(arguments(rng)), lambda array: array)
    narrow = cast(arguments)
    function = of_operation(operation)
    dy = rng.standard_normal(plain(function, arguments).shape).astype(np.float32)
    record, leaves = Record(reference, gradients.RULES), []

    def leaf(argument):
        if isinstance(argument, np.ndarray):
            leaves.append(Variable(argument, record))
            return leaves[-1]
        return type(argument)(*map(leaf, argument)) if hasattr(argument, "_fields") else argument
    record.backward(function(record, *map(leaf, narrow)), dy)
    assert {leaf.gradient.dtype for leaf in leaves} == {np.dtype(np.float32)}
    for leaf, expected in zip(leaves, by_rules(function, arguments, dy.astype(np.float64))):
        assert np.abs(leaf.gradient - expected).max() <= 2e-4 * max(1, np.abs(expected).max())       # observed 5.5e-5


def cast(argument):
    """The arguments in float32."""
    if hasattr(argument, "_fields"):
        return type(argument)(*map(cast, argument))
    if isinstance(argument, tuple) and any(isinstance(part, (np.ndarray, Linear, Norm)) for part in argument):
        return tuple(map(cast, argument))
    return argument.astype(np.float32) if isinstance(argument, np.ndarray) else argument


# -- max pool: the first of several largest cells gets the gradient

@pytest.mark.parametrize("fill", [0.0, -np.inf])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((0, 1), (1, 0)), ((1, 1), (1, 1))])
def test_ties_of_a_max_pool(rng, padding, fill):
    """Whole numbers from -2 to 2, so that most windows have several largest cells, also in the padding."""
    x = rng.integers(-2, 3, (2, 9, 8, 3)).astype(float)
    y = reference.max_pool(x, padding, fill)
    dy = rng.standard_normal(y.shape)
    (top, bottom), (left, right) = padding
    leaf = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    padded = torch.nn.functional.pad(leaf, (left, right, top, bottom), value=fill)
    torch.nn.functional.max_pool2d(padded, 3, 2).backward(torch.from_numpy(dy.transpose(0, 3, 1, 2).copy()))
    theirs = leaf.grad.numpy().transpose(0, 2, 3, 1)
    assert np.abs(gradients.max_pool(dy, y, x, padding, fill)[0] - theirs).max() <= 1e-14    # the order of additions


def test_equal_cells_do_not_share_the_gradient():
    arguments = np.zeros((1, 3, 3, 1)), ((0, 0), (0, 0)), 0.0
    dx, = gradients.max_pool(np.ones((1, 1, 1, 1)), reference.max_pool(*arguments), *arguments)
    assert dx.ravel().tolist() == [1] + [0] * 8


def test_a_largest_cell_of_the_padding_drops_the_gradient():
    arguments = np.full((1, 2, 2, 1), -1.0), ((1, 0), (1, 0)), 0.0
    dx, = gradients.max_pool(np.ones((1, 1, 1, 1)), reference.max_pool(*arguments), *arguments)
    assert not dx.any()


# -- the record

def network(record, x, a, b):
    """Two units, each with a border; the second reads the result of the first twice."""
    y = record.activate(record.linear(x, a), "gelu")
    record.border(y)
    z = record.linear_add(y, b, y)
    record.border(z)
    return z * z


def test_recomputing_changes_no_bit(rng):
    x, a, b = draw(rng, 4, 5), dense(rng, 5, 5), dense(rng, 5, 5)
    found = []
    for recompute in (False, True):
        record = Record(reference, gradients.RULES, recompute)
        leaf = Variable(x, record)
        a_leaves, b_leaves = (Linear(*(Variable(array, record) for array in p)) for p in (a, b))
        y = network(record, leaf, a_leaves, b_leaves)
        kept = [note.result.value is not None for note in record.notes]
        assert kept == ([False, True, False, True, True] if recompute else [True] * 5)
        record.backward(y, np.ones_like(x))
        assert record.notes == [] and y.gradient is None
        found.append([v.gradient for v in (leaf, *a_leaves, *b_leaves)])
    assert all(np.array_equal(p, q) for p, q in zip(*found, strict=True))


def test_arrays_get_no_note(rng):
    record = Record(reference, gradients.RULES)
    x, p = draw(rng, 2, 3), dense(rng, 3, 4)
    assert isinstance(record.linear_activate(x, p, "relu"), np.ndarray) and record.notes == []


def test_a_gradient_that_nobody_needs_is_not_computed(rng):
    """A rule can return functions, which are called for Variables alone."""
    called = []

    def rule(dy, y, a, b):
        return (lambda so_far, submit: called.append("a") or dy), (lambda so_far, submit: called.append("b") or 2 * dy)
    record = Record(reference, gradients.RULES)
    b = Variable(np.ones(3), record)
    record.backward(record.note(lambda a, b: a + 2 * b, rule, np.ones(3), b), np.ones(3))
    assert called == ["b"] and b.gradient.tolist() == [2, 2, 2]


def test_a_result_that_is_not_used_changes_nothing(rng):
    record = Record(reference, gradients.RULES)
    x = Variable(draw(rng, 2, 3), record)
    record.activate(x, "tanh")
    record.backward(record.activate(x, "relu"), np.ones((2, 3)))
    assert np.array_equal(x.gradient, x.value > 0)


@pytest.mark.parametrize("name", loops.ACTIVATIONS)
def test_derivatives_of_activations_at_zero(name):
    """The limit from the right for relu is 1; the derivative at 0 is chosen as 0, as in PyTorch."""
    theirs = {"relu": 0.0}.get(name, (reference.activate(np.array([1e-7]), name) -
                                      reference.activate(np.array([-1e-7]), name))[0] / 2e-7)
    if name != "selu":                    # its two one-sided derivatives differ
        assert reference.ACTIVATIONS[name].derivative(np.zeros(1))[0] == pytest.approx(theirs, abs=1e-6)
