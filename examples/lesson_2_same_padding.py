"""Lesson 2: SAME padding and its odd pixel. For a stride of 2 and an even size, the two usual rules differ.

    python examples/lesson_2_same_padding.py

The published hybrids were trained in JAX. Its SAME padding is TensorFlow's: it gives ceil(n / stride) windows. The
cells that these windows lack are added, half before and half after; an odd one after. PyTorch pads both ends alike.
TensorFlow, documentation of tf.nn, "Notes on padding". In the package: nphybrid/config.py, pads; nphybrid/backbone.py.
"""
import numpy as np

from nphybrid.config import pads
from nphybrid.ops import reference

NAMES = {"same": "same", "symmetric": "symmetric, PyTorch's"}


def draw(n, rule):
    """Print the cells 1 to n, the added zeros as dots, and below them every window of 3 with what it reads."""
    before, after = pads(rule, n, 3, 2)
    row = np.arange(1.0, n + 1).reshape(1, 1, n, 1)                     # (B, H, W, C)
    digits = np.array([100.0, 10.0, 1.0]).reshape(1, 3, 1, 1)            # (KH, KW, C, O): 1 2 3 -> 123
    read = reference.conv2d(row, digits, 2, 1, ((0, 0), (before, after)))[0, 0, :, 0]
    cells = ["."] * before + [str(i) for i in range(1, n + 1)] + ["."] * after
    print(f"    {NAMES[rule]}: {before} before, {after} after\n\n        " + "   ".join(cells))
    for i, value in enumerate(read):
        print(" " * (7 + 8 * i) + f"[{'-' * 9}]  {value:03.0f}")
    print()


print("""Windows of 3 cells in steps of 2. With the weights 100, 10, 1 the digits of each
output are the cells that its window reads; a dot is an added zero.
""")
for n in 7, 8:
    windows = -(-n // 2)                                                # rounded up
    missing = (windows - 1) * 2 + 3 - n
    assert sum(pads("same", n, 3, 2)) == missing
    print(f"n = {n}: {windows} windows need ({windows} - 1) * 2 + 3 = {n + missing} cells. Added: {missing}\n")
    for rule in NAMES:
        draw(n, rule)
print("""For odd n the rules agree. For even n PyTorch's windows begin one cell earlier,
and its last zero is never read. The number of windows is the same, so shapes do
not reveal a wrong rule.
""")

print("In two dimensions: the middle cell of each window of 3 x 3\n")
square = np.arange(1.0, 17).reshape(1, 4, 4, 1)
middle = np.zeros((3, 3, 1, 1))
middle[1, 1] = 1
picked = [reference.conv2d(square, middle, 2, 1, (pads(rule, 4, 3, 2),) * 2)[0, ..., 0] for rule in NAMES]
print("     the map            same        symmetric")
for r, row in enumerate(square[0, ..., 0]):
    both = ["".join(f"{value:4.0f}" for value in window[r]) if r < 2 else "" for window in picked]
    print(("".join(f"{value:4.0f}" for value in row) + f"      {both[0]:12}{both[1]}").rstrip())

print("""
Each such layer shifts everything after it. The steps of each layer are twice as
wide as those before. In a picture of 384 pixels, where is the middle of the
first window?

    layer          n  kernel    same   pixel   symmetric   pixel""")
n, step, places = 384, 1, dict.fromkeys(NAMES, 0)
for layer, kernel in ("stem conv", 7), ("stem pool", 3), ("stages.1", 3), ("stages.2", 3):
    around = {rule: pads(rule, n, kernel, 2) for rule in NAMES}
    for rule in NAMES:
        places[rule] += step * (kernel // 2 - around[rule][0])
    print(f"    {layer:10}{n:6}{kernel:6}    " + "      ".join(f"{around[rule]}{places[rule]:5}" for rule in NAMES))
    n, step = n // 2, step * 2
print(f"""
A cell of the last map stands for {step} x {step} pixels. With the wrong rule its
kernels read {places["same"]} pixels too far up and to the left, nearly a whole cell. The 1x1
of a shortcut reads cells 1, 3, 5, ... with both rules, so the paths differ.""")
