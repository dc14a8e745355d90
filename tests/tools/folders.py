"""A folder of pictures of which some are broken, for tests; and what they show, at full size.

    python tests/tools/folders.py rows      5,000 pictures, 500 of them broken, in batches of 1, 3 and 8, beside single runs
    python tests/tools/folders.py kills     killed at 20 random moments and resumed
    python tests/tools/folders.py memory    the peak after 50 and after 5,000 pictures
    python tests/tools/folders.py speed     pictures a second, of the folder and of the model alone, in turn
    python tests/tools/folders.py base      the same with R50+ViT-B/16 at 384, on photographs
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
    """Truncate a file, empty it, write a text there, a strip that is too long, or a link that leads nowhere."""
    data = path.read_bytes()
    if how < 3:
        path.write_bytes((data[:len(data) // 2], b"", b"<!DOCTYPE html>")[how])
    elif how == 3:
        Image.new("RGB", (65_500, 1)).save(path)
    else:
        path.unlink()
        path.symlink_to("nowhere")


# The parent imports and warms what a run needs, and forks a child for each. argv: verb, folder, file, kills.
KILLER = """
import glob, json, os, random, signal, sys, time
from pathlib import Path
from nphybrid.__main__ import main
verb, folder, target, kills = sys.argv[1:5]
format = ["--format", Path(target).suffix[1:]] if verb == "classify" else []

def run(output, *more):
    return main([verb, folder, "-o", output, "--quiet", *format, *more])

def begin():
    pid = os.fork()
    if not pid:
        os._exit(run(target, "--resume"))
    return pid

def contents(output):
    return [Path(file).read_bytes() for file in sorted(glob.glob(output + "*")) if os.path.isfile(file)]

def rows():
    log = Path(target if verb == "classify" else target + ".part/rows.jsonl")
    return log.read_bytes().count(b"\\n") if log.exists() else lines if os.path.exists(target) else 0

def ended(pid):
    return os.waitpid(pid, os.WNOHANG)[0]

undisturbed = str(Path(target).with_name("undisturbed" + Path(target).suffix))
stdout = os.dup(1)
os.dup2(2, 1)
run(undisturbed)
lines = Path(undisturbed).read_bytes().count(b"\\n") if verb == "classify" else len(os.listdir(folder))
rng, reached = random.Random(0), []
goals = sorted(rng.randrange(lines) for _ in range(int(kills)))
for goal in goals:
    pid = begin()
    # A goal that is reached already is killed while it starts, which takes some 0.2 s.
    wait = time.monotonic() + 0.3 * rng.random() if rows() >= goal else None
    while not ended(pid):
        if time.monotonic() > wait if wait else rows() >= goal:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            reached.append(rows())
            break
        time.sleep(0.0005)
code = os.waitstatus_to_exitcode(os.waitpid(begin(), 0)[1])
os.dup2(stdout, 1)
print(json.dumps({"same": contents(target) == contents(undisturbed), "kills": len(reached), "exit": code,
                  "rows": reached}))
"""

# The peak of the process after 50 pictures and at the end. argv: folder, how many times.
MEMORY = """
import json, sys
from nphybrid.batch.pipeline import pipeline
from nphybrid.batch import inputs, rows, run

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

pipe = pipeline("image-classification")
sources = inputs.find_pictures([sys.argv[1]] * int(sys.argv[2]))
with rows.writer("/dev/null", "jsonl") as write:
    for row in run.compute_rows(sources, run.preparer(pipe.image_processor), lambda x: pipe.model(x).logits):
        write(rows.labelled_fields(row, pipe.model.config))
        if row.position == 49:
            first = peak()
print(json.dumps({"pictures": row.position + 1, "first": first, "last": peak()}))
"""


def rows(folder):
    """The rows of every batch size against those of each picture alone."""
    from nphybrid import pipeline
    paths, bad = written(folder, 5000, 500)
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
    """The bytes of a file that was made in 21 pieces, beside one that was not."""
    written(folder, 1000, 100)
    for verb, name in ("classify", "x.jsonl"), ("classify", "x.csv"), ("embed", "x.h5"), ("embed", "x.npy"):
        with tempfile.TemporaryDirectory() as target:
            command = [sys.executable, "-c", KILLER, verb, folder, f"{target}/{name}", "20"]
            yield f"{verb} -o {name}: {subprocess.run(command, capture_output=True, text=True).stdout.strip()}"


def memory(folder):
    """The peaks of one process, in KiB."""
    written(folder, 5000, 500)
    yield subprocess.run([sys.executable, "-c", MEMORY, folder, "1"], capture_output=True, text=True).stdout.strip()


def speed(folder):
    """Of the bundled model, on pictures of 32 x 32."""
    from nphybrid import default_model
    from nphybrid.api.load import load
    yield from measured(load(default_model()), written(folder, 300)[0], 8, 9)


def base(folder):
    """Of R50+ViT-B/16 with random weights, on photographs of 480 x 640."""
    from nphybrid import ViTHybridConfig, ViTHybridForImageClassification
    model = ViTHybridForImageClassification(ViTHybridConfig(image_size=384, num_labels=1000))
    model.processor = {"size": 384, "crop_size": 384}
    rng, paths = np.random.default_rng(0), []
    for i in range(8):
        paths.append(f"{folder}/{i}.jpg")
        small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(paths[-1])
    yield from measured(model, paths, 4, 3)


def measured(model, paths, batch, rounds):
    """Wall and processor time of the model alone and of the folder, in turn, and the medians of their ratios."""
    from nphybrid.batch import rows, run
    prepare, compute, ratios = run.preparer(model.processor), lambda x: model(x).logits, []
    x = np.stack([prepare(path) for path in paths])

    def alone():
        for i in range(0, len(x), batch):
            compute(x[i:i + batch])

    def folder():
        with rows.writer(paths[0] + ".csv", "csv") as write:
            for row in run.compute_rows(paths, prepare, compute, batch):
                write(rows.labelled_fields(row, model.config))
    for _ in range(rounds + 1):
        times = []
        for walk in alone, folder:
            wall, cpu = time.perf_counter(), time.process_time()
            walk()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        ratios.append((times[0][0] / times[1][0], times[0][1] / times[1][1]))
        yield "  ".join(f"{name} {len(paths) / wall:.1f} a second, {1e3 * cpu / len(paths):.2f} ms of processor each"
                        for name, (wall, cpu) in zip(("model", "folder"), times))
    wall, cpu = (statistics.median(column) for column in zip(*ratios[1:]))
    yield f"the folder's speed is {wall:.0%} of the model's own; by processor time {cpu:.0%}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for said in {part.__name__: part for part in (rows, kills, memory, speed, base)}[sys.argv[1]](place):
            print(said, flush=True)
