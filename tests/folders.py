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
    return log.read_bytes().count(b"\\n") if log.exists() else 0

undisturbed = str(Path(target).with_name("undisturbed" + Path(target).suffix))
stdout = os.dup(1)
os.dup2(2, 1)
run(undisturbed)
start = time.monotonic()
run(undisturbed)
seconds, rng, reached = time.monotonic() - start, random.Random(0), []
for kill in range(int(kills)):
    pid = begin()
    # A child needs some 0.2 s to its first row. Most kills fall before the end, some behind it.
    time.sleep(rng.random() * (0.4 + 3 * seconds / int(kills)))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    reached.append(rows())
code = os.waitstatus_to_exitcode(os.waitpid(begin(), 0)[1])
os.dup2(stdout, 1)
print(json.dumps({"same": contents(target) == contents(undisturbed), "kills": len(reached), "exit": code,
                  "rows": reached}))
"""

# The peak of the process after 50 pictures and at the end. argv: folder, how many times.
MEMORY = """
import json, sys
from nphybrid.api.pipeline import pipeline
from nphybrid.apps import inputs, rows, run

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

pipe = pipeline("image-classification")
sources = inputs.listed([sys.argv[1]] * int(sys.argv[2]))
with rows.writer("/dev/null", "jsonl") as write:
    for row in run.rows(sources, run.preparer(pipe.image_processor), lambda x: pipe.model(x).logits):
        write(rows.labelled(row, pipe.model.config))
        if row.position == 49:
            first = peak()
print(json.dumps({"pictures": row.position + 1, "first": first, "last": peak()}))
"""
