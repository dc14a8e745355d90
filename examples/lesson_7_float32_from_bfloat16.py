"""Lesson 7: a float32 out of three bfloat16. How a unit that multiplies bfloat16 alone multiplies float32.

    python examples/lesson_7_float32_from_bfloat16.py

A float32 has 24 significant bits; a bfloat16 has the first 8 of them, and the same exponents. So a float32 is the sum
of three bfloat16, and of the nine products of such parts six are enough. Henry, Tang and Heinecke 2019, "Leveraging the
bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations". In the package: nphybrid/ops/amx.py, for
the tiles of Intel's AMX; here the same in NumPy.
"""
import math

import numpy as np

from nphybrid.ops.amx import PRODUCTS, widened
from nphybrid.ops.packed import narrowed

ALL = tuple((i, j) for i in range(3) for j in range(3))


def nearest(x):
    """The bfloat16 nearest to each float32, ties to even; as float32, whose lower 16 bits then are 0."""
    bits = np.float32(x).view(np.uint32)
    last = bits >> np.uint32(16) & np.uint32(1)                         # of the 16 bits that stay
    return (bits + np.uint32(0x7FFF) + last & np.uint32(0xFFFF0000)).view(np.float32)


def parts_of(x):
    """Three bfloat16 whose sum is x: each is the nearest to what those before it left."""
    x0 = nearest(x)
    x1 = nearest(x - x0)
    return x0, x1, x - x0 - x1


def spelled(x):
    """Sign, exponent, and significand with its leading 1, which is not stored; the lower half apart."""
    bits = f"{x.view(np.uint32):032b}"
    return f"{bits[0]} {bits[1:9]} 1.{bits[9:16]} {bits[16:]}"


pi, ln2 = np.float32(math.pi), np.float32(math.log(2))
print(f"{'':31}sign, exponent, significand\n")
for name, x in ("pi", pi), *zip(("part 0", "part 1", "part 2"), parts_of(pi)):
    print(f"    {name:8}{x:15.9g}    {spelled(x)}")
exact = sum(map(float, parts_of(pi)))
print(f"    {'sum':8}{exact:15.9g}    equal to pi, as a float32, to the last bit")
assert exact == float(pi) and all(nearest(part) == part for part in parts_of(pi))

print("""
Part i is at most 2**-8i of its number, so product i, j is at most 2**-8(i+j) of
the whole. Of pi x ln 2 it is 2 to the power of

          ln 2, 0         1         2""")
products = {(i, j): float(parts_of(pi)[i]) * float(parts_of(ln2)[j]) for i, j in ALL}
whole = sum(products.values())
assert whole == float(pi) * float(ln2)                                  # 48 bits: float64 holds them
for i in range(3):
    powers = [round(math.log2(abs(products[i, j] / whole)), 1) + 0 for j in range(3)]
    print(f"  pi, {i}" + "".join(f"{power:9.1f}" + " *"[i + j > 2] for j, power in enumerate(powers)).rstrip())
print("""
A float32 ends at 2**-24 of it: the three with a star are not worth computing.

    products of parts         pi x ln 2           off by""")
for chosen in (*PRODUCTS.values(), ALL):
    total = sum(products[pair] for pair in chosen)
    which = " ".join(f"{i}{j}" for i, j in sorted(chosen)) if len(chosen) < 9 else "all"
    print(f"    {len(chosen)}  {which:20}{total:16.12f}  {abs(total / whole - 1):10.1e}")
print(f"    in float32             {pi * ln2:16.12f}  {abs(float(pi * ln2) / whole - 1):10.1e}")

# And in a matrix product. Its sums are made in float64: what is left out is all the error there is.
rng, K = np.random.default_rng(0), 768
a, b = rng.standard_normal((2, 64, K), np.float32)
assert np.array_equal(nearest(a), widened(narrowed(a)))                 # the package's own rounding
assert all(np.array_equal(nearest(part), part) for x in (a, b) for part in parts_of(x))
a_parts, b_parts = ([part.astype(np.float64) for part in parts_of(x)] for x in (a, b))
truth = a.astype(np.float64) @ b.T.astype(np.float64)


def error(product):
    return np.sqrt(np.square(product - truth).mean()) / truth.std()


print(f"""
64 x 64 sums over {K} products of normally distributed numbers, in float64

    products of parts, on AMX   rms error / std""")
for parts, asked in (1, 'dtype="bfloat16"'), (2, 'precision="high"'), (3, "the default"):
    total = sum(a_parts[i] @ b_parts[j].T for i, j in PRODUCTS[parts])
    print(f"    {len(PRODUCTS[parts])}  {asked:20}{error(total):16.1e}")
print(f"    NumPy in float32       {error(a @ b.T):16.1e}    its sums are rounded too")
