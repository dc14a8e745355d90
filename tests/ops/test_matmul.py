"""The loops around the register tile: what comes into the cache ahead."""
import itertools

import pytest

from nphybrid.ops import kernels, matmul, target
from nphybrid.ops.integers import ceil_div
from nphybrid.ops.memory import LINE
from nphybrid.ops.packed import Packed
from nphybrid.ops.reference_narrow import Kernel
from nphybrid.ops.target import NR
from nphybrid.ops.tile import STEPS
from nphybrid.ops.widths import EMITTERS
from nphybrid.ops.windows import NO_PADDING, block_of, windows_of
from nphybrid.params import Linear

from oracles import cases


def passes_of(blocks, chain):
    """All passes of all tasks, in the order of one thread: tiles, first and end panel, first row and number of rows."""
    K = blocks.windows.K
    for number in range(blocks.down * blocks.across):
        block = block_of(blocks, number)
        for first in range(block.first_panel, block.end_panel, blocks.panels_in_L2):
            end = min(first + blocks.panels_in_L2, block.end_panel)
            for k in range(0, K, chain):
                yield block, (block.end_tile - block.first_tile) * (end - first), first, end, k, min(chain, K - k)


def lines(words):
    return {word // LINE for word in words}


@pytest.mark.parametrize("chain", [384, 192, 1000])
@pytest.mark.parametrize("M, K, N, L2, n", [(577, 192, 768, 1 << 20, 2), (577, 192, 3072, 1 << 20, 2),
                                            (100, 500, 200, 1 << 18, 1), (577, 768, 200, 1 << 19, 2),
                                            (65, 70, 333, 1 << 16, 3), (13, 500, 130, 1 << 20, 1)])
def test_the_words_ahead_are_those_of_the_next_pass(M, K, N, L2, n, chain):
    """All lines, or a line for each pass of the unrolled loop.  At the end of a panel, a few lines can be others."""
    windows = windows_of((M, 1, K), (1, 1), K, 1, 1, NO_PADDING)
    blocks = matmul._blocks(windows, M, N, 0, chain, 4 * K * N, L2, n)
    passes = list(passes_of(blocks, min(chain, K)))
    unroll = EMITTERS["float32"].UNROLL
    for now, after in itertools.pairwise([*passes, passes[0]]):
        block, tiles, first, end, k, deep = now
        following = matmul._pass_after(blocks, block, first, end, k + deep)
        aheads = [matmul._ahead(following, K, min(chain, K), deep, tile, tiles) for tile in range(tiles)]
        found = lines(at + row * step // STEPS for at, step in aheads for row in range(0, deep - deep % unroll, unroll))
        *_, first, end, k, rows = after
        # The shares of the tiles follow each other, from the first word of the next pass on.
        size = rows * NR
        share = ceil_div((end - first) * size, tiles)
        for tile, (at, step) in enumerate(aheads):
            panel, word = divmod(at - k * NR, K * NR)
            assert (panel - first) * size + word == tile * share, (now, after)
            assert share <= step * deep / STEPS < share + deep / STEPS, (now, after)
        expected = lines((panel * K + k) * NR + word for panel in range(first, end) for word in range(rows * NR))
        most = min(len(expected), deep // unroll * tiles)
        # A share that crosses the end of a panel has lines of another place.
        ends = (end - first + 2) * min(2 + len(expected) // tiles, deep // unroll + 1)
        assert most > ends                      # the first bound below is not empty
        assert len(found & expected) >= most - ends, (now, after)
        assert len(found - expected) <= ends + tiles // LINE, (now, after)      # each share is rounded up to a word


@pytest.mark.skipif(target.ISA == "amx", reason="AMX multiplies half a panel at a time")
@pytest.mark.parametrize("width", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("K, N", [(96, 700), (768, 700), (3000, 330)])
def test_the_panels_of_a_group_fill_half_of_L2(K, N, width, monkeypatch):
    """A pass of float32 and bfloat16 reads KC rows of a panel, and a pass of int8 reads all."""
    array, found, plain = cases.normal(0, K, N), [], matmul._blocks
    packed = Packed(array if width == "float32" else Kernel.of(array, width))
    monkeypatch.setattr(matmul, "_blocks", lambda *arguments: found.append(plain(*arguments)) or found[0])
    kernels.linear(cases.normal(1, 7, K), Linear(packed, None))
    per_row = packed.panels[0].nbytes // packed.panels[0].shape[0]
    numbers = {"float32": 4, "bfloat16": 2, "int8": 1}[width]       # bytes of a number in a panel
    rows = min(packed.panels.shape[1], matmul.KC * NR * numbers // per_row if width != "int8" else K)
    assert found[0].panels_in_L2 == max(1, target.L2 // 2 // (rows * per_row))
