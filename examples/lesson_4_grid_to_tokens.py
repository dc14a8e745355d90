"""Lesson 4: from grid to tokens. A feature map is cut into patches, row by row; each becomes one vector of a sequence.

    python examples/lesson_4_grid_to_tokens.py

Each patch is projected to the width of the encoder. A learned class token is put first. A learned position vector is
added to every token, also to the class token. Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", eq. 1, section
3.1, figure 7. In the package: nphybrid/tokens.py. The numbers are those of the bundled network and the photograph.
"""
from pathlib import Path

import numpy as np

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, open_picture
from nphybrid.tokens import patches


def grid(numbers):
    """An 8 x 8 table as lines of text."""
    return ["".join(f"{number:4}" for number in row) for row in np.reshape(numbers, (8, 8))]


print("A map of 4 x 4 numbered cells, cut into patches of 2 x 2, row by row:\n")
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
A patch of this hybrid is one cell of the backbone's feature map. The photograph
of the cat, 64 x 64 pixels, has 8 x 8 cells. Their brightness, and their tokens:
""")
brightness = photograph[0].mean(0).reshape(8, 8, 8, 8).mean((1, 3))     # of the 8 x 8 pixels of each cell
for tones, numbers in zip(9 * (brightness - brightness.min()) / np.ptp(brightness), grid(1 + np.arange(64))):
    print("    " + "".join(2 * " .:-=+*#%@"[round(tone)] for tone in tones) + "    " + numbers)

state = model.state_dict()
prefix = "vit.embeddings."
kernel = state[prefix + "patch_embeddings.projection.weight"][:, :, 0, 0].T               # (256, 192)
bias = state[prefix + "patch_embeddings.projection.bias"]                                 # (192,)
cls, positions = state[prefix + "cls_token"][0, 0], state[prefix + "position_embeddings"][0]  # (192,), (65, 192)

row, column = 3, 2
t = 1 + 8 * row + column                                                # the class token is 0
projected = features[0, row, column] @ kernel + bias                    # (192,)
print(f"""
The left eye is in row {row}, column {column}: token 1 + 8 x {row} + {column} = {t}.
A matrix turns the 256 numbers of the cell into 192 numbers. The first five:
""")
for name, vector in (("the cell, projected", projected), (f"position {t}", positions[t]),
                     (f"token {t}, their sum", projected + positions[t])):
    print(f"    {name:20}" + "".join(f"{number:9.4f}" for number in vector[:5]))
by_hand = np.concatenate([cls[None], features[0].reshape(64, 256) @ kernel + bias]) + positions
assert np.allclose(by_hand, trace["tokens"][0], rtol=0, atol=1e-12)     # (65, 192)
assert np.array_equal(trace["tokens"][0, 0], model.trace(0 * photograph)["tokens"][0, 0])
print("""
All 65 tokens computed by hand are those of nphybrid. Token 0, the class token,
is the same for every picture. It gets information about this picture only by
attending to the other tokens.
""")

print(f"""Attention does not depend on the order of the tokens (lesson 5). Only
its position vector contains the place of a token. How similar are position {t}
and the others? 100 times the cosine between them:
""")
unit = positions[1:] / np.linalg.norm(positions[1:], axis=1, keepdims=True)
cosine = 100 * unit @ unit.T                                             # (64, 64)
print("\n".join("    " + line for line in grid([round(x) for x in cosine[t - 1]])))

pairs = {"neighbours in a row": [(i, i + 1) for i in range(64) if i % 8 < 7],
         "neighbours in a column": [(i, i + 8) for i in range(56)],
         "columns c and 7 - c": [(i, i // 8 * 8 + 7 - i % 8) for i in range(64)],
         "any two cells": [(i, j) for i in range(64) for j in range(i)]}
print("""
The network had no information about the grid and learned it. Mirror images are
similar, because the network was trained on both. Means over the grid:
""")
for kind, cells in pairs.items():
    print(f"    {kind:24}{np.mean([cosine[i, j] for i, j in cells]):4.0f}")
