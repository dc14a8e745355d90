"""Lesson 2: SAME padding and symmetric padding differ if the stride is 2 and the size is even.

    python examples/lesson_2_same_padding.py

The published hybrids were trained in JAX with SAME padding, a rule of TensorFlow. For n cells, SAME padding gives
ceil(n / stride) windows. The missing cells are added as zeros, one half at the start and one half at the end. If the
number of zeros is odd, the end gets one zero more than the start. PyTorch adds equal numbers of zeros at the start and
at the end. Source: TensorFlow, documentation of tf.nn, "Notes on padding". In the package: nphybrid/config.py, pads;
nphybrid/backbone.py.
"""
import numpy as np

from nphybrid.config import pads
from nphybrid.ops import reference

NAMES = {"same": "same", "symmetric": "symmetric, PyTorch's"}


def draw(n, rule):
    """Print the cells with the added zeros, then one line for each window of 3 cells."""
    before, after = pads(rule, n, 3, 2)
    row = np.arange(1.0, n + 1).reshape(1, 1, n, 1)                     # (B, H, W, C)
    digits = np.array([100.0, 10.0, 1.0]).reshape(1, 3, 1, 1)            # (KH, KW, C, O): 1 2 3 -> 123
    read = reference.conv2d(row, digits, 2, 1, ((0, 0), (before, after)))[0, 0, :, 0]
    cells = ["."] * before + [str(i) for i in range(1, n + 1)] + ["."] * after
    print(f"    {NAMES[rule]}: {before} before, {after} after\n\n        " + "   ".join(cells))
    for i, value in enumerate(read):
        print(" " * (7 + 8 * i) + f"[{'-' * 9}]  {value:03.0f}")
    print()


print("""Each window has 3 cells. The next window begins 2 cells later. The weights of a
window are 100, 10, 1, so the digits of an output are the cells of its window. A
dot is an added zero.
""")
for n in 7, 8:
    windows = -(-n // 2)                                                # rounded up
    missing = (windows - 1) * 2 + 3 - n
    assert sum(pads("same", n, 3, 2)) == missing
    print(f"n = {n}: {windows} windows need ({windows} - 1) * 2 + 3 = {n + missing} cells. Added: {missing}\n")
    for rule in NAMES:
        draw(n, rule)
print("""For odd n, the two rules agree. For even n, the windows of PyTorch's rule begin
one cell earlier, and no window contains the last zero. Both rules give the same
number of windows, so the shapes do not reveal a wrong rule.
""")

print("In two dimensions, the middle cells of the windows of 3 x 3 cells are:\n")
square = np.arange(1.0, 17).reshape(1, 4, 4, 1)
middle = np.zeros((3, 3, 1, 1))
middle[1, 1] = 1
picked = [reference.conv2d(square, middle, 2, 1, (pads(rule, 4, 3, 2),) * 2)[0, ..., 0] for rule in NAMES]
print("     the map            same        symmetric")
for r, row in enumerate(square[0, ..., 0]):
    both = ["".join(f"{value:4.0f}" for value in window[r]) if r < 2 else "" for window in picked]
    print(("".join(f"{value:4.0f}" for value in row) + f"      {both[0]:12}{both[1]}").rstrip())

print("""
If a layer with stride 2 has the wrong rule, the windows of all later layers are
shifted, too. In each layer, a step of one cell covers twice as many pixels as
in the layer before. The table is for a picture of 384 pixels. A pair contains
the numbers of added zeros before and after. The column "pixel" shows the middle
pixel of the first window, counted from 0:

    layer          n  kernel    same   pixel   symmetric   pixel""")
n, step, places = 384, 1, dict.fromkeys(NAMES, 0)
for layer, kernel in ("stem conv", 7), ("stem pool", 3), ("stages.1", 3), ("stages.2", 3):
    around = {rule: pads(rule, n, kernel, 2) for rule in NAMES}
    for rule in NAMES:
        places[rule] += step * (kernel // 2 - around[rule][0])
    print(f"    {layer:10}{n:6}{kernel:6}    " + "      ".join(f"{around[rule]}{places[rule]:5}" for rule in NAMES))
    n, step = n // 2, step * 2
print(f"""
A cell of the last map covers {step} x {step} pixels. With the wrong rule, the kernels
read {places["same"]} pixels too far up and to the left, which is nearly a whole cell. The 1x1
convolution of a shortcut reads cells 1, 3, 5, ... with both rules. The wrong
rule therefore shifts the 3x3 convolution of a unit, but not the shortcut.""")
