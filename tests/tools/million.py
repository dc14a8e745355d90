"""What a million pictures cost on one machine and on ten: where the figures of the README come from.

    python tests/tools/million.py [--base]

computes 1,000 photographs of 500 x 375 with the bundled model; with --base 12 photographs with R50+ViT-B/16 at 384
pixels, with random weights, which take as long as trained ones. It measures CPU seconds, which depend least on other
processes of the machine:

    alone     per picture in one process, on one thread: open, prepare, compute
    worker    per picture on one of two workers of a cluster, each with one thread
    client    per picture on the client, including the scheduler: its share of a task, its row
    ready     of a worker until its first picture is done

M machines of C cores need ready + N worker / (M C) seconds for N pictures, and at least N client.
"""
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
from distributed import Client, LocalCluster
from PIL import Image

from nphybrid import default_model
from nphybrid.api.load import load
from nphybrid.api.presets import fresh
from nphybrid.batch import cluster, rows, run

CAT = Path(__file__).resolve().parents[2] / "examples" / "images" / "cat.png"
N, CORES = 1_000_000, 8


def main(base):
    """Measure, calculate, print."""
    with tempfile.TemporaryDirectory() as folder:
        path, count, part = (f"{folder}/base.h5", 12, 3) if base else (str(default_model()), 1000, cluster.PART)
        if base:
            network = fresh("R50+ViT-B/16")
            network.processor = {"size": {"shortest_edge": 384}, "crop_size": {"height": 384, "width": 384}}
            network.save_pretrained(path)
        photograph = f"{folder}/cat.jpg"
        Image.open(CAT).convert("RGB").resize((500, 375)).save(photograph, quality=90)
        job = cluster.job(path, batch=4)
        alone = seconds_alone(job, [photograph] * count)
        worker, client, ready = seconds_on_a_cluster(job, [photograph] * count, part)
    print(f"CPU seconds: alone {alone:.4f}, worker {worker:.4f}, client {client:.5f}, ready {ready:.1f}")
    for machines in 1, 10:
        hours = max(ready + N * worker / (machines * CORES), N * client) / 3600
        print(f"{N:,} pictures on {machines} machines of {CORES} cores: {hours:.2f} hours")


def seconds_alone(job, sources):
    """CPU seconds per picture in this process."""
    prepare, compute = cluster.load_functions(job)
    list(run.compute_rows(sources[:4], prepare, compute, job.batch))
    start = time.process_time()
    list(run.compute_rows(sources, prepare, compute, job.batch, workers=1))
    return (time.process_time() - start) / len(sources)


def seconds_on_a_cluster(job, sources, part):
    """CPU seconds per picture on a worker, per picture on the client, and of a worker until it is ready."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers, \
            Client(workers) as client, rows.writer("/dev/null", "jsonl") as write:
        def seconds():
            return client.run(time.process_time).values()
        list(cluster.compute_rows(client, sources[:4], job, part=1))
        ready = max(seconds())
        before = sum(seconds())
        list(cluster.compute_rows(client, sources, job, part=part))
        worker = (sum(seconds()) - before) / len(sources)
        config, many = load(job.model).config, sources[:1] * 64 * cluster.PART
        with mock.patch.object(cluster, "compute_part", compute_nothing):
            start = time.process_time()
            for row in cluster.compute_rows(client, many, job):
                write(rows.labelled_fields(row, config))
        return worker, (time.process_time() - start) / len(many), ready


def compute_nothing(sources, job, start):
    """A task that computes nothing: its rows have logits of 1,000 classes."""
    return [run.Row(start + i, source, np.zeros(1000, np.float32), None) for i, source in enumerate(sources)]


if __name__ == "__main__":
    main("--base" in sys.argv[1:])
