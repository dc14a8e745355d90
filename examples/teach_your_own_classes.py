"""Fits a classifier to one half of the pictures of each class, and labels the other half with this classifier.

    python examples/teach_your_own_classes.py                 # six classes of drawn shapes
    python examples/teach_your_own_classes.py FOLDER          # your pictures

FOLDER contains one folder of pictures per class. The bundled network was trained on animals and vehicles, not on
shapes. The weights of the network do not change. Only a classifier is fitted to the features of the network. Fitting a
classifier takes seconds. The command line can also fit a classifier, and test it on the folder OTHER:

    nphybrid probe fit FOLDER -o head.h5 && nphybrid evaluate OTHER --head head.h5
"""
import math
import os
import sys
import tempfile

import numpy as np
from PIL import Image, ImageDraw

from nphybrid import ViTHybridForImageClassification, default_model, pipeline
from nphybrid.checkpoint import sha256, write_head
from nphybrid.classifier import classes, scores, teach

CORNERS = {"triangle": 3, "square": 4, "hexagon": 6}
SHAPES = *CORNERS, "star", "ring", "cross"
PIXELS, EACH = 64, 60


def drawn(shape, rng):
    """Draw a shape with random colour, place and rotation on a cloudy background.  -> RGB picture"""
    side = 4 * PIXELS                                   # The picture is drawn large and then reduced, for smooth edges.
    ground, ink = rng.permutation([rng.integers(0, 90, 3), rng.integers(165, 256, 3)])
    clouds = (ground + rng.integers(-40, 41, (3, 3, 3))).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(clouds).resize((side, side), Image.Resampling.BICUBIC)
    radius, turn = rng.uniform(0.3, 0.45) * side, rng.uniform(0, 2 * math.pi)
    x, y = rng.uniform(radius, side - radius, 2)
    ink, pen = tuple(int(c) for c in ink), ImageDraw.Draw(picture)

    def corners(count, *reaches):
        """Returns `count` points around the centre. The distances from the centre are radius * `reaches`, in turn."""
        return [(x + radius * reaches[i % len(reaches)] * math.cos(turn + 2 * math.pi * i / count),
                 y + radius * reaches[i % len(reaches)] * math.sin(turn + 2 * math.pi * i / count))
                for i in range(count)]
    if shape == "ring":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), None, ink, int(radius * 0.4))
    elif shape == "cross":
        ends = corners(4, 1)
        for i in (0, 1):
            pen.line((ends[i], ends[i + 2]), ink, int(radius * 0.4))
    elif shape == "star":
        pen.polygon(corners(10, 1, 0.45), ink)
    else:
        pen.polygon(corners(CORNERS[shape], 1), ink)
    return picture.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


def draw_into(folder, seed=0):
    """Draw pictures of every shape, and write them into one folder per shape."""
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        os.makedirs(f"{folder}/{shape}")
        for i in range(EACH):
            drawn(shape, rng).save(f"{folder}/{shape}/{i:03}.png")


def halves(sources, names):
    """Split the pictures of each class into two halves.  -> two lists of (path, class name)"""
    of = {name: [path for path, its in zip(sources, names) if its == name] for name in classes.in_order(names)}
    return [[(path, name) for name, paths in of.items() for path in paths[start::2]] for start in (0, 1)]


def main(folder, head_file):
    """Fit a classifier to one half of the pictures, and label the other half."""
    known, new = halves(*classes.of_folders([folder]))
    network = ViTHybridForImageClassification.from_pretrained(default_model())
    features, errors = teach.features_of(network, sha256(default_model()), [path for path, _ in known])
    head, report = teach.fit_head(features, teach.readable_names([name for _, name in known], errors))
    print(teach.text(report))
    write_head(head_file, head)

    classify = pipeline("image-classification", default_model(), head=head_file)
    answers, unreadable = [], list(errors.values())
    for path, name in new:
        try:
            answers.append((path, name, *classify(path, top_k=1)))
        except (OSError, ValueError) as error:
            unreadable.append(error)
    print("\nnew pictures")
    for path, name, answer in answers[::max(len(answers) // 8, 1)]:
        print(f"  {os.path.relpath(path, folder):20}  {answer['label']:10} {answer['score']:.2f}"
              f"{'' if answer['label'] == name else '   wrong'}")
    for error in unreadable:
        print(f"not read: {error}")
    right = sum(answer["label"] == name for _, name, answer in answers)
    print(f"{right} of {len(answers)} new pictures are labelled correctly: {scores.accuracy_text(right, len(answers))}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        if len(sys.argv) < 2:
            draw_into(f"{work}/shapes")
        main(sys.argv[1] if len(sys.argv) > 1 else f"{work}/shapes", f"{work}/head.h5")
