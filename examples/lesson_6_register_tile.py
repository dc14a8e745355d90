"""Lesson 6: the register tile. The fast engine multiplies matrices with sums that stay in registers.

    python examples/lesson_6_register_tile.py            NPHYBRID_ISA=avx2 or plain shows another tile

Computing one sum at a time takes two loads for each multiply-add. A tile of MR x NR sums loads MR + NR numbers, a
column of x and a row of b, for MR x NR multiply-adds. Goto & van de Geijn 2008, "Anatomy of
High-Performance Matrix Multiplication"; Van Zee & van de Geijn 2015, "BLIS". In the package: nphybrid/ops/tile.py
writes this tile as machine code; nphybrid/ops/matmul.py has the loops around it.
"""
from collections import Counter

import numpy as np

from nphybrid.ops.packed import Packed
from nphybrid.ops.target import ISA, LANES, MR, NR, NV, TILES

REGISTERS = {"avx512": 32, "avx2": 16, "neon": 32, "plain": 16}         # "plain": those of SSE
CHOSEN = "avx512" if ISA == "amx" else ISA                              # lesson 7 is about AMX

line = " " * 10 + "+-----------" * NV + "+"
print(f"{CHOSEN}: {MR} rows x {NV} vectors of {LANES} float32 = MR x NR = {MR} x {NR} sums. At each k:\n")
print("          " + "".join(f" {f'b[k,{j * LANES}:{(j + 1) * LANES}]':11}" for j in range(NV)).rstrip() + "\n" + line)
for i in range(MR):
    print(f"  x[{i},k]  " + "".join(f"|  sum {i},{j}  " for j in range(NV)) + "|")
print(f"""{line}

A row of b is loaded: {NV} vectors. Then each number of x is loaded into all lanes
of a register, multiplied by b and added to its row of sums: {NV} FMAs.

         tile        registers: sums, b, x       loads   FMAs   FMAs per load""")
for isa, registers in REGISTERS.items():
    mr, nv, lanes = TILES[isa]
    print(f"{isa:8} {mr} x {nv} x {lanes:<4}{mr * nv:6} + {nv} + 1 = {mr * nv + nv + 1} of {registers}"
          f"{mr + nv:10}{mr * nv:7}{mr * nv / (mr + nv):12.2f}")
print("""
FMA is a fused multiply-add. One sum at a time takes 2 loads for each FMA: 0.50.
The widths of layers are multiples of 64, and 5 vectors of 16 are 80. How many
rows fit into 32 registers beside 1 to 6 vectors of b?
""")
for nv in range(1, 7):
    mr = (32 - 1 - nv) // nv
    print(f"    {mr:2} x {nv}   {mr + nv:2} loads, {mr * nv} FMAs{mr * nv / (mr + nv):8.2f}")

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
    """c += rows @ panel.  (MR, k), (k, NR) -> (MR, NR)   Every other array is one register."""
    sums = [[np.zeros(LANES, np.float32)] * NV for _ in range(MR)]
    for k in range(len(panel)):
        b = [load(panel[k, j * LANES:(j + 1) * LANES]) for j in range(NV)]
        for i in range(MR):
            x = broadcast(rows[i, k])
            for j in range(NV):
                sums[i][j] = fma(x, b[j], sums[i][j])
    c += np.array(sums).reshape(MR, NR)


M, K, N, KC = 2 * MR + 1, 10, 2 * NR - 3, 4                             # nphybrid's KC is 384
rng = np.random.default_rng(0)
x, kernel = (rng.integers(-9, 10, size).astype(np.float32) for size in ((M, K), (K, N)))
tiles, panels = -(-M // MR), -(-N // NR)                                # rounded up; padded with zeros
rows = np.zeros((tiles * MR, K), np.float32)
rows[:M] = x
packed = np.zeros((K, panels * NR), np.float32)
packed[:, :N] = kernel
packed = np.ascontiguousarray(packed.reshape(K, panels, NR).transpose(1, 0, 2))         # each panel contiguous
assert ISA == "amx" or np.array_equal(packed, Packed(kernel).panels)

c = np.zeros((tiles * MR, panels * NR), np.float32)
for k in range(0, K, KC):                                               # KC rows of all panels stay in L2
    for m in range(0, M, MR):                                           # MR rows of x stay in L1
        for p in range(panels):                                         # a panel is read through L1
            tile(rows[m:m + MR, k:k + KC], packed[p, k:k + KC], c[m:m + MR, p * NR:(p + 1) * NR])
assert np.array_equal(c[:M, :N], x @ kernel)                            # whole numbers: exact in any order

print(f"""
The loops around the tile: every {KC} of k, every {MR} rows, every {NR} columns.
{M} x {K} times {K} x {N} takes {tiles} x {panels} tiles of {K} steps, and is equal to NumPy's:
""")
for what, each in ("loads of b", NV), ("loads of x", MR), ("FMAs", MR * NV):
    assert counts[what] == tiles * panels * K * each
    print(f"    {what:12}{counts[what]:6} = {tiles} x {panels} x {K} x {each}")
