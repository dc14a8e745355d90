"""A folder of pictures of which some are broken, for tests; and the measurements of the README at full size.

    python tests/folders.py [FOLDER] [--base]

writes 5,000 CIFAR-10 pictures as PNG and JPEG, breaks 500, and prints what a run over them costs: rows, order, exit
code, memory, throughput beside the model's own. --base does the throughput with R50+ViT-B/16 on 24 photographs.
"""
import random
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).with_name("data") / "cifar10_test_1000.npz"


def written(folder, count, broken=0, seed=0):
    """Pictures 0000.png, 0001.jpg, …, some of which are broken in one of five ways.  -> paths, the broken positions"""
    images = np.load(DATA)["images"]
    bad, paths = set(random.Random(seed).sample(range(count), broken)), []
    for i in range(count):
        path = Path(folder, f"{i:04}.{('png', 'jpg')[i % 2]}")
        # 1,000 pictures, mirrored and turned, are more.
        image = Image.fromarray(images[i % len(images)])
        image.transpose(i // len(images) % 7).save(path, quality=90)
        if i in bad:
            spoil(path, i % 5)
        paths.append(str(path))
    return paths, bad


def spoil(path, how):
    """Truncate a file, empty it, write a text there, put a folder in its place, or a link that leads nowhere."""
    data = path.read_bytes()
    if how < 3:
        path.write_bytes((data[:len(data) // 2], b"", b"<!DOCTYPE html>")[how])
    else:
        path.unlink()
        path.mkdir() if how == 3 else path.symlink_to("nowhere")
