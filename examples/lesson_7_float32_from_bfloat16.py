"""Lesson 7: hardware that multiplies only bfloat16 numbers can multiply float32 numbers, too.

    python examples/lesson_7_float32_from_bfloat16.py

A float32 has 24 significant bits. A bfloat16 has 8 significant bits, and the same exponents as a float32. So a float32
is the sum of three bfloat16 parts. The product of two float32 numbers is the sum of nine products of parts, and six of
these nine products are enough. Source: Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence
Datatype For Higher-Precision Computations". In the package: nphybrid/ops/amx.py, for the hardware tiles of Intel's AMX.
"""
import math

import numpy as np

from nphybrid.ops.amx import PAIRS_OF_PARTS
from nphybrid.ops.reference_narrow import widened
from nphybrid.ops.words import narrowed

ALL = tuple((i, j) for i in range(3) for j in range(3))


def nearest(x):
    """Round each float32 to the nearest bfloat16, ties to even.  -> float32 with zeros in the lower 16 bits"""
    bits = np.float32(x).view(np.uint32)
    last = bits >> np.uint32(16) & np.uint32(1)                         # the last bit that is kept
    return (bits + np.uint32(0x7FFF) + last & np.uint32(0xFFFF0000)).view(np.float32)


def parts_of(x):
    """Returns three bfloat16 parts whose sum is x. Each part is the bfloat16 nearest to (x - the parts before)."""
    x0 = nearest(x)
    x1 = nearest(x - x0)
    return x0, x1, x - x0 - x1


def bits_of(x):
    """Returns the bits of the sign, exponent and significand. The leading 1 of the significand is not stored."""
    bits = f"{x.view(np.uint32):032b}"
    return f"{bits[0]} {bits[1:9]} 1.{bits[9:16]} {bits[16:]}"


pi, ln2 = np.float32(math.pi), np.float32(math.log(2))
print(f"{'':31}sign, exponent, significand\n")
for name, x in ("pi", pi), *zip(("part 0", "part 1", "part 2"), parts_of(pi)):
    print(f"    {name:8}{x:15.9g}    {bits_of(x)}")
exact = sum(map(float, parts_of(pi)))
print(f"    {'sum':8}{exact:15.9g}    equals pi as a float32, bit for bit")
assert exact == float(pi) and all(nearest(part) == part for part in parts_of(pi))

print("""
Part 0 is the rounded number. Parts 1 and 2 are at most 2**-8 and 2**-16 times
the number. So the product of parts i and j is at most about 2**(-8 * (i + j))
times the whole product. The table shows e, where
(part i of pi) x (part j of ln 2) = 2**e x (pi x ln 2). A star marks an exponent
below -24.

          ln 2, 0         1         2""")
products = {(i, j): float(parts_of(pi)[i]) * float(parts_of(ln2)[j]) for i, j in ALL}
whole = sum(products.values())
assert whole == float(pi) * float(ln2)                                  # A float64 can hold 48 bits.
for i in range(3):
    powers = [round(math.log2(abs(products[i, j] / whole)), 1) + 0 for j in range(3)]
    print(f"  pi, {i}" + "".join(f"{power:9.1f}" + " *"[i + j > 2] for j, power in enumerate(powers)).rstrip())
print("""
The last bit of a float32 is about 2**-24 times the number. The three products
with a star are smaller, so they are not computed.

    products of parts         pi x ln 2           error""")
for chosen in (*PAIRS_OF_PARTS.values(), ALL):
    total = sum(products[pair] for pair in chosen)
    which = " ".join(f"{i}{j}" for i, j in sorted(chosen)) if len(chosen) < 9 else "all"
    print(f"    {len(chosen)}  {which:20}{total:16.12f}  {abs(total / whole - 1):10.1e}")
print(f"    in float32             {pi * ln2:16.12f}  {abs(float(pi * ln2) / whole - 1):10.1e}")

# A matrix product with sums in float64. The error comes only from the products of parts that are left out.
rng, K = np.random.default_rng(0), 768
a, b = rng.standard_normal((2, 64, K), np.float32)
assert np.array_equal(nearest(a), widened(narrowed(a)))                 # nphybrid rounds to these numbers.
assert all(np.array_equal(nearest(part), part) for x in (a, b) for part in parts_of(x))
a_parts, b_parts = ([part.astype(np.float64) for part in parts_of(x)] for x in (a, b))
truth = a.astype(np.float64) @ b.T.astype(np.float64)


def error(product):
    return np.sqrt(np.square(product - truth).mean()) / truth.std()


print(f"""
The table shows the error of 64 x 64 sums over {K} products. The factors are
normally distributed. The sums of the first three rows are in float64, so these
rows show only the error of the products that are left out.

    products of parts, on AMX   rms error / std""")
for parts, option in (1, 'dtype="bfloat16"'), (2, 'precision="high"'), (3, "the default"):
    total = sum(a_parts[i] @ b_parts[j].T for i, j in PAIRS_OF_PARTS[parts])
    print(f"    {len(PAIRS_OF_PARTS[parts])}  {option:20}{error(total):16.1e}")
# einsum adds in a fixed order. The order in a @ b.T depends on the number of BLAS threads.
print(f"    NumPy in float32       {error(np.einsum('mk,nk->mn', a, b)):16.1e}    the sums are rounded, too")
