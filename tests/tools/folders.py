"""Folders of pictures, some of them broken, for tests; and the same tests at full size.

    python tests/tools/folders.py rows      5,000 pictures, 500 of them broken: batches of 1, 3, 8 against single runs
    python tests/tools/folders.py kills     runs that are killed at 20 random moments and resumed
    python tests/tools/folders.py memory    peak memory after 50 and after 5,000 pictures
    python tests/tools/folders.py speed     pictures a second, of a folder and of the model alone, in turn
    python tests/tools/folders.py base      speed with R50+ViT-B/16 at 384 pixels, on photographs
"""
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parents[1] / "data" / "cifar10_test_1000.npz"
KILL_AND_RESUME = Path(__file__).with_name("kill_and_resume.py")
PEAK_MEMORY = Path(__file__).with_name("peak_memory.py")


def write_pictures(folder, count, broken=0, seed=0):
    """Write pictures 0000.png, 0001.jpg, …, some broken in one of five ways.  -> paths, the broken positions"""
    images = np.load(DATA)["images"]
    bad, paths = set(random.Random(seed).sample(range(count), broken)), []
    for i in range(count):
        path = Path(folder, f"{i:04}.{('png', 'jpg')[i % 2]}")
        # There are 1,000 pictures; mirrored and rotated ones are others.
        image = Image.fromarray(images[i % len(images)])
        image.transpose(i // len(images) % 7).save(path, quality=90)
        if i in bad:
            spoil(path, i % 5)
        paths.append(str(path))
    return paths, bad


def spoil(path, how):
    """Truncate a file, empty it, or replace it: by text, by a picture too long to resize, by a dangling link."""
    data = path.read_bytes()
    if how < 3:
        path.write_bytes((data[:len(data) // 2], b"", b"<!DOCTYPE html>")[how])
    elif how == 3:
        Image.new("RGB", (65_500, 1)).save(path)
    else:
        path.unlink()
        path.symlink_to("nowhere")


def rows(folder):
    """Compare the rows of every batch size with those of each picture alone."""
    from nphybrid import pipeline
    paths, bad = write_pictures(folder, 5000, 500)
    classify = pipeline("image-classification")
    alone = [None if i in bad else [(x["label"], x["score"]) for x in classify(path)] for i, path in enumerate(paths)]
    for batch in 1, 3, 8:
        command = ["-m", "nphybrid", "classify", folder, "--format", "jsonl", "--batch", str(batch), "--quiet"]
        done = subprocess.run([sys.executable, *command], capture_output=True)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        labels = [[(x["label"], x["score"]) for x in row["labels"]] if "labels" in row else None for row in found]
        yield (f"batch {batch}: {len(found):,} rows, {labels.count(None):,} errors, exit {done.returncode}, in order "
               f"{[row['path'] for row in found] == paths}, bit for bit those of single runs {labels == alone}")


def kills(folder):
    """Compare the bytes of a file that was written in 21 runs with those of one run."""
    write_pictures(folder, 1000, 100)
    for verb, name in ("classify", "x.jsonl"), ("classify", "x.csv"), ("embed", "x.h5"), ("embed", "x.npy"):
        with tempfile.TemporaryDirectory() as target:
            command = [sys.executable, KILL_AND_RESUME, verb, folder, f"{target}/{name}", "20"]
            yield f"{verb} -o {name}: {subprocess.run(command, capture_output=True, text=True).stdout.strip()}"


def memory(folder):
    """Peak memory of one process, in KiB."""
    write_pictures(folder, 5000, 500)
    yield subprocess.run([sys.executable, PEAK_MEMORY, folder, "1"], capture_output=True, text=True).stdout.strip()


def speed(folder):
    """Speed of the bundled model, on pictures of 32 x 32."""
    from nphybrid import default_model
    from nphybrid.api.load import load
    yield from measure(load(default_model()), write_pictures(folder, 300)[0], 8, 9)


def base(folder):
    """Speed of R50+ViT-B/16 with random weights, on pictures of 480 x 640."""
    from nphybrid import ViTHybridConfig, ViTHybridForImageClassification
    model = ViTHybridForImageClassification(ViTHybridConfig(image_size=384, num_labels=1000))
    model.processor = {"size": 384, "crop_size": 384}
    rng, paths = np.random.default_rng(0), []
    for i in range(8):
        paths.append(f"{folder}/{i}.jpg")
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(paths[-1])
    yield from measure(model, paths, 4, 3)


def measure(model, paths, batch, rounds):
    """Wall and processor time of the model alone and of the folder, in turn, and the medians of their ratios."""
    from nphybrid.batch import rows, run
    prepare, ratios = run.preparer(model.processor), []
    x = np.stack([prepare(path) for path in paths])

    def compute(x):
        return model(x).logits

    def alone():
        for i in range(0, len(x), batch):
            compute(x[i:i + batch])

    def folder():
        with rows.writer(paths[0] + ".csv", "csv") as write:
            for row in run.compute_rows(paths, prepare, compute, batch):
                write(rows.labelled_fields(row, model.config))
    for _ in range(rounds + 1):
        times = []
        for task in alone, folder:
            wall, cpu = time.perf_counter(), time.process_time()
            task()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        ratios.append((times[0][0] / times[1][0], times[0][1] / times[1][1]))
        yield "  ".join(f"{name} {len(paths) / wall:.1f} a second, {1e3 * cpu / len(paths):.2f} ms of processor each"
                        for name, (wall, cpu) in zip(("model", "folder"), times))
    wall, cpu = (statistics.median(column) for column in zip(*ratios[1:]))
    yield f"the folder's speed is {wall:.0%} of the model's own; by processor time {cpu:.0%}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for line in {part.__name__: part for part in (rows, kills, memory, speed, base)}[sys.argv[1]](place):
            print(line, flush=True)
