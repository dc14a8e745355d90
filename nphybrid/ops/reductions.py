"""Reductions of a vector x: the sum, the largest element, the sums of x and of x^2, and the sums of x and of x * y.

The order in which the elements are combined depends only on the length of x. `_plain_total`, `_plain_largest`,
`_plain_moments` and `_plain_products` are the plain definitions. The vector versions keep CHAINS vectors of partial
results:

    x        | vector 0 | vector 1 | vector 2 | vector 3 | vector 4 | ...
    chain         0          1          2          3          0

Chain c combines the vectors c, c + 4, c + 8 and so on, while at least CHAINS vectors are left. Then the chains are
combined into one vector, and the vectors that are left are combined with this vector. The two halves of this vector are
combined, then the halves of the result, and so on, until one number is left. The elements after the last whole vector
are combined with this number one by one.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .emit import F32, F64, I32, I64, Emit, pointers
from .jit import jit
from .target import ISA, LANES

CHAINS = 4                                # four independent chains, because an addition takes four cycles


def emit_reduction(build, arrays, n, lanes, start, parts, combine):
    """Emit code that reduces the first n elements of one or more arrays to one value for each part.

    parts(emit, *vectors) returns the parts of a vector of each array, for example the vector and its square. `n` is a
    multiple of `lanes`. `start` holds the value with which the reduction begins, for each part. combine(build, a, b)
    combines two vectors in one step of a reduction.
    """
    emit = Emit(build, lanes)
    count = len(start)

    def step(i, sums):
        """Combine each chain with its next vector.  `sums` lists the parts of chain 0, then of chain 1, and so on."""
        sums = list(sums)
        for first in range(0, len(sums), count):
            chain = first // count
            vectors = [emit.load(emit.at(x, build.add(i, I64(chain * lanes)))) for x in arrays]
            for s, part in enumerate(parts(emit, *vectors), first):
                sums[s] = combine(build, sums[s], part)
        return sums

    begin = [ir.Constant(ir.VectorType(value.type, lanes), [value.constant] * lanes) for value in start]
    stride = CHAINS * lanes
    whole = build.mul(build.sdiv(n, I64(stride)), I64(stride))
    sums = emit.loop(I64(0), whole, stride, begin * CHAINS, step)
    for s in range(count, len(sums)):
        sums[s % count] = combine(build, sums[s % count], sums[s])
    sums = emit.loop(whole, n, lanes, sums[:count], step)
    half = lanes // 2
    while half:
        rotation = [(lane + half) % lanes for lane in range(lanes)]
        sums = [combine(build, vector, emit.shuffle(vector, vector, rotation)) for vector in sums]
        half //= 2
    return [build.extract_element(vector, I32(0)) for vector in sums]


def _itself(emit, vector):
    return [vector]


def _with_square(emit, vector):
    return _with_product(emit, vector, vector)


def _with_product(emit, x, y):
    x, y = (emit.build.fpext(vector, ir.VectorType(F64, emit.lanes)) for vector in (x, y))
    return [x, emit.build.fmul(x, y)]


def _sum(build, a, b):
    return build.fadd(a, b)


def _larger(build, a, b):
    return build.select(build.fcmp_ordered(">", b, a), b, a)


def _codegen(start, parts, combine):
    """The function that emits a reduction, for an intrinsic with the arguments (array, …, n)."""
    def codegen(context, build, sig, args):
        *arrays, n = pointers(context, build, sig, args)
        results = emit_reduction(build, arrays, n, LANES, start, parts, combine)
        return results[0] if len(results) == 1 else context.make_tuple(build, sig.return_type, results)
    return codegen


def _reduction(start, parts, combine, kind):
    @intrinsic
    def reduction(typing, x, n):
        return kind(x, types.int64), _codegen(start, parts, combine)
    return reduction


def _reduction_of_two(start, parts, combine, kind):
    @intrinsic
    def reduction(typing, x, y, n):
        return kind(x, y, types.int64), _codegen(start, parts, combine)
    return reduction


def _plain_total(x, n):
    total = np.float32(0)
    for i in range(n):
        total += x[i]
    return total


def _plain_largest(x, n):
    largest = np.float32(-np.inf)
    for i in range(n):
        largest = x[i] if x[i] > largest else largest
    return largest


def _plain_moments(x, n):
    total = 0.0
    square = 0.0
    for i in range(n):
        value = np.float64(x[i])
        total += value
        square += value * value
    return total, square


def _plain_products(x, y, n):
    total = 0.0
    product = 0.0
    for i in range(n):
        total += np.float64(x[i])
        product += np.float64(x[i]) * np.float64(y[i])
    return total, product


if ISA == "plain":
    _total = jit(_plain_total)
    _largest = jit(_plain_largest)
    _moments = jit(_plain_moments)
    _products = jit(_plain_products)
else:
    _total = _reduction([ir.Constant(F32, 0.0)], _itself, _sum, types.float32)
    _largest = _reduction([ir.Constant(F32, float("-inf"))], _itself, _larger, types.float32)
    _two_zeros, _two_sums = [ir.Constant(F64, 0.0)] * 2, types.UniTuple(types.float64, 2)
    _moments = _reduction(_two_zeros, _with_square, _sum, _two_sums)
    _products = _reduction_of_two(_two_zeros, _with_product, _sum, _two_sums)


@jit
def total(x):
    """The sum of x."""
    whole = x.size // LANES * LANES
    result = _total(x, whole)
    for i in range(whole, x.size):
        result += x[i]
    return result


@jit
def largest(x):
    """The largest element of x.  NaN elements are ignored."""
    whole = x.size // LANES * LANES
    result = _largest(x, whole)
    for i in range(whole, x.size):
        result = x[i] if x[i] > result else result
    return result


@jit
def moments(x):
    """The sums of x and of x^2, in float64."""
    whole = x.size // LANES * LANES
    first, second = _moments(x, whole)
    for i in range(whole, x.size):
        value = np.float64(x[i])
        first += value
        second += value * value
    return first, second


@jit
def products(x, y):
    """The sums of x and of x * y, in float64."""
    whole = x.size // LANES * LANES
    first, second = _products(x, y, whole)
    for i in range(whole, x.size):
        first += np.float64(x[i])
        second += np.float64(x[i]) * np.float64(y[i])
    return first, second
