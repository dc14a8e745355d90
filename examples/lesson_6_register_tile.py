"""Lesson 6: a register tile multiplies two matrices, x and b, with sums that stay in registers.

    python examples/lesson_6_register_tile.py            # NPHYBRID_ISA=avx2 or plain shows another tile

If one sum is computed at a time, each multiply-add takes two loads. A tile computes MR x NR sums at a time. For MR x NR
multiply-adds, a tile loads MR numbers of x and NR numbers of b. Sources: Goto & van de Geijn 2008, "Anatomy of
High-Performance Matrix Multiplication"; Van Zee & van de Geijn 2015, "BLIS". In the package: nphybrid/ops/tile.py
generates the code of the tile, and nphybrid/ops/matmul.py has the loops around the tile.
"""
from collections import Counter

import numpy as np

from nphybrid.ops.packed import Packed
from nphybrid.ops.target import ISA, LANES, MR, NR, NV, TILES

REGISTERS = {"avx512": 32, "avx2": 16, "neon": 32, "plain": 16}         # "plain": the number of SSE registers
CHOSEN = "avx512" if ISA == "amx" else ISA                              # Lesson 7 explains AMX.

line = " " * 10 + "+-----------" * NV + "+"
print(f"{CHOSEN}: {MR} rows x {NV} vectors of {LANES} float32 = MR x NR = {MR} x {NR} sums. At each k:\n")
print("          " + "".join(f" {f'b[k,{j * LANES}:{(j + 1) * LANES}]':11}" for j in range(NV)).rstrip() + "\n" + line)
for i in range(MR):
    print(f"  x[{i},k]  " + "".join(f"|  sum {i},{j}  " for j in range(NV)) + "|")
print(f"""{line}

{NV} vectors of b are loaded. Then each number of x is loaded into all lanes of a
register, and {NV} fused multiply-adds (FMAs) add the products with b to the sums.

         tile        registers: sums, b, x       loads   FMAs   FMAs per load""")
for isa, registers in REGISTERS.items():
    mr, nv, lanes = TILES[isa]
    print(f"{isa:8} {mr} x {nv} x {lanes:<4}{mr * nv:6} + {nv} + 1 = {mr * nv + nv + 1} of {registers}"
          f"{mr + nv:10}{mr * nv:7}{mr * nv / (mr + nv):12.2f}")
print("""
If one sum is computed at a time, there are 0.50 FMAs per load. On NEON, 6 rows
would fit, but LLVM moves some of their sums to memory. The table shows how many
rows fit into 32 registers beside 1 to 6 vectors of b:
""")
for nv in range(1, 7):
    mr = (32 - 1 - nv) // nv
    print(f"    {mr:2} x {nv}   {mr + nv:2} loads, {mr * nv} FMAs{mr * nv / (mr + nv):8.2f}")
print("\n5 x 5 has the most FMAs per load. But the layer widths of R50+ViT-B/16, except"
      "\nthe 1000 classes, are multiples of 4 x 16 columns, and not of 5 x 16.")

counts = Counter()


def load(vector):
    counts["loads of b"] += 1
    return vector.copy()


def broadcast(number):
    counts["loads of x"] += 1
    return np.full(LANES, number)


def fma(x, b, total):
    counts["FMAs"] += 1
    return x * b + total


def tile(rows, panel, c):
    """Compute c += rows @ panel.  (MR, K), (K, NR) -> (MR, NR)   Each array of LANES numbers is one register."""
    sums = [[np.zeros(LANES, np.float32)] * NV for _ in range(MR)]      # Sums are replaced, and never changed in place.
    for k in range(len(panel)):
        b = [load(panel[k, j * LANES:(j + 1) * LANES]) for j in range(NV)]
        for i in range(MR):
            x = broadcast(rows[i, k])
            for j in range(NV):
                sums[i][j] = fma(x, b[j], sums[i][j])
    c += np.array(sums).reshape(MR, NR)


M, K, N, KC = 2 * MR + 1, 10, 2 * NR - 3, 4                             # nphybrid uses KC = 384.
rng = np.random.default_rng(0)
x, kernel = (rng.integers(-9, 10, size).astype(np.float32) for size in ((M, K), (K, N)))
tiles, panels = -(-M // MR), -(-N // NR)                                # rounded up: the edges get zeros
rows = np.pad(x, ((0, tiles * MR - M), (0, 0)))
packed = np.pad(kernel, ((0, 0), (0, panels * NR - N)))
packed = np.ascontiguousarray(packed.reshape(K, panels, NR).transpose(1, 0, 2))         # Each panel is contiguous.
assert ISA == "amx" or np.array_equal(packed, Packed(kernel).panels)

c = np.zeros((tiles * MR, panels * NR), np.float32)
for k in range(0, K, KC):                                               # KC rows of b stay in the L2 cache
    for m in range(0, M, MR):                                           # MR rows of x stay in the L1 cache
        for p in range(panels):                                         # a panel passes through the L1 cache
            tile(rows[m:m + MR, k:k + KC], packed[p, k:k + KC], c[m:m + MR, p * NR:(p + 1) * NR])
assert np.array_equal(c[:M, :N], x @ kernel)                            # Sums of whole numbers are exact.

print(f"""
The three loops around the tile have steps of {KC} in k, {MR} rows and {NR} columns.
The product {M} x {K} times {K} x {N} takes {tiles} x {panels} tiles of {K} steps. The result
is equal to NumPy's. The numbers of loads and FMAs are:
""")
for what, each in ("loads of b", NV), ("loads of x", MR), ("FMAs", MR * NV):
    assert counts[what] == tiles * panels * K * each
    print(f"    {what:12}{counts[what]:6} = {tiles} x {panels} x {K} x {each}")
