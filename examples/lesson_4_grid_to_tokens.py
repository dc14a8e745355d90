"""Lesson 4: a feature map is cut into patches, row by row, and each patch becomes one token.

    python examples/lesson_4_grid_to_tokens.py

Each patch is projected to the width of the encoder. A learned class token is put before the first patch. A learned
position vector is added to every token, also to the class token. Source: Dosovitskiy et al. 2020, "An Image is Worth
16x16 Words", eq. 1, section 3.1, figure 7. In the package: nphybrid/tokens.py. The lesson uses the bundled network and
the photograph of a cat.
"""
from pathlib import Path

import numpy as np

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, open_picture
from nphybrid.tokens import patches


def grid(numbers):
    """Returns an 8 x 8 table as lines of text."""
    return ["".join(f"{number:4}" for number in row) for row in np.reshape(numbers, (8, 8))]


print("A map of 4 x 4 numbered cells is cut into patches of 2 x 2 cells, row by row:\n")
cells = np.arange(16).reshape(1, 4, 4, 1)                               # (B, H, W, C)
by_hand = [[4 * (2 * h + i) + 2 * w + j for i in (0, 1) for j in (0, 1)] for h in (0, 1) for w in (0, 1)]
for row, patch in zip(cells[0, ..., 0], patches(cells, 2)[0]):
    print("".join(f"{cell:4}" for cell in row) + "      token" + "".join(f"{cell:4}" for cell in patch))
assert by_hand == patches(cells, 2)[0].tolist()

model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference", dtype="float64")
processor = ViTHybridImageProcessor.from_pretrained(default_model())
photograph = processor(open_picture(Path(__file__).parent / "images" / "cat.png"), return_tensors="np").pixel_values
trace = model.trace(photograph)
features = trace["stages.1.1"]                                          # (1, 8, 8, 256)

print("""
In the bundled network, a patch is one cell of the feature map. The prepared
photograph has 64 x 64 pixels, and its feature map has 8 x 8 cells. The drawing
shows the brightness of the photograph in each cell.
The table shows the token number of each cell:
""")
brightness = photograph[0].mean(0).reshape(8, 8, 8, 8).mean((1, 3))     # mean of 8 x 8 pixels per cell
for tones, numbers in zip(9 * (brightness - brightness.min()) / np.ptp(brightness), grid(1 + np.arange(64))):
    print("    " + "".join(2 * " .:-=+*#%@"[round(tone)] for tone in tones) + "    " + numbers)

state = model.state_dict()
prefix = "vit.embeddings."
kernel = state[prefix + "patch_embeddings.projection.weight"][:, :, 0, 0].T               # (256, 192)
bias = state[prefix + "patch_embeddings.projection.bias"]                                 # (192,)
cls, positions = state[prefix + "cls_token"][0, 0], state[prefix + "position_embeddings"][0]  # (192,), (65, 192)

row, column = 3, 2
t = 1 + 8 * row + column                                                # Token 0 is the class token.
projected = features[0, row, column] @ kernel + bias                    # (192,)
print(f"""
Rows and columns are counted from 0. The eye at the left is in
row {row}, column {column}: token 1 + 8 x {row} + {column} = {t}.
A matrix turns the 256 numbers of the cell into 192 numbers. A sum in the table
is rounded after the addition, so its last digit can differ by 1. These are the
first five of the 192 numbers:
""")
for name, vector in (("the cell, projected", projected), (f"position vector {t}", positions[t]),
                     (f"token {t} (the sum)", projected + positions[t])):
    print(f"    {name:20}" + "".join(f"{number:9.4f}" for number in vector[:5]))
by_hand = np.concatenate([cls[None], features[0].reshape(64, 256) @ kernel + bias]) + positions
assert np.allclose(by_hand, trace["tokens"][0], rtol=0, atol=1e-12)     # (65, 192)
assert np.array_equal(trace["tokens"][0, 0], model.trace(0 * photograph)["tokens"][0, 0])
print("""
The 65 tokens of this lesson equal the tokens of nphybrid. Token 0, the class
token, is the same for every picture. The class token gets information about the
picture only by attention to the other tokens.
""")

print(f"""Attention gets no information about the order of the tokens (lesson 5). So the
encoder gets the place of a token only from its position vector, and from traces
of the zeros that convolutions read at the border. The table compares position
vector {t} with every position vector. Each number of the table
is 100 times the cosine of two position vectors:
""")
unit = positions[1:] / np.linalg.norm(positions[1:], axis=1, keepdims=True)
cosine = 100 * unit @ unit.T                                             # (64, 64)
print("\n".join("    " + line for line in grid([round(x) for x in cosine[t - 1]])))

pairs = {"neighbours in a row": [(i, i + 1) for i in range(64) if i % 8 < 7],
         "neighbours in a column": [(i, i + 8) for i in range(56)],
         "columns c and 7 - c": [(i, i // 8 * 8 + 7 - i % 8) for i in range(64)],
         "any two cells": [(i, j) for i in range(64) for j in range(i)]}
print("""
The network learned the places of the cells from the training pictures. Mirrored
columns have similar position vectors, because mirrored pictures were also used
in the training. For pairs of cells, the means of 100 times the cosine are:
""")
for kind, cells in pairs.items():
    print(f"    {kind:24}{np.mean([cosine[i, j] for i, j in cells]):4.0f}")
