"""Compares the time and the memory of a training step of nphybrid and PyTorch.

    pip install ".[parity]"
    python examples/benchmark_training.py                                       # the bundled model, batch 32
    python examples/benchmark_training.py --model R26+ViT-S/32 --batch 4        # random weights, 224 pixels
    python examples/benchmark_training.py --model R50+ViT-B/16 --batch 1        # random weights, 384 pixels

A step is a forward pass, a backward pass, and an update of all weights by AdamW. PyTorch trains the model of
transformers without changes, with its fused AdamW. Both programs get the same weights, pictures and labels, and must
agree about the loss of the first steps. Each program runs in its own process. In each round, each program does
--steps steps one after the other, while the other programs wait. The order of the programs rotates. The first four
rounds do not count.

"ratio" is the median of (PyTorch's time / the time of the row) over the rounds. "peak MB" is the peak memory of the
process. "kept MB" is the peak without the weights, the gradients and the two moments of AdamW. "recompute" keeps only
the results of units and blocks.
"""
import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmark_against import PAUSE, WARM, answer_of, say, started, timed_call
from benchmark_engines import peak

from nphybrid.machine.computer import cpu_name
from nphybrid.text import table

RATE, LOSSES = 1e-4, 3                    # the learning rate; the number of losses that are compared


def prepare(folder, name, batch, seed):
    """Write the model, and random pictures and labels, into a folder."""
    from parity_with_torch import network
    model = network(name, seed, engine="reference")
    rng = np.random.default_rng(seed)
    height, width = model.network_config.image
    np.save(folder / "x.npy", rng.standard_normal((batch, 3, height, width), np.float32))
    np.save(folder / "y.npy", rng.integers(0, model.network_config.classes, batch))
    model.save_pretrained(folder / "model")


def ours(folder, x, y, threads, recompute):
    """A function that does one step with nphybrid and returns the loss, and the number of parameters."""
    from nphybrid.api.gradients import loss_and_gradients, raw_parameters
    from nphybrid.api.load import load
    from nphybrid.api.losses import loss_and_gradient
    from nphybrid.ops.memory import keep_freed_memory
    from nphybrid.ops.threads import using
    from nphybrid.params import named_leaves
    from nphybrid.training.optimizers import AdamW
    keep_freed_memory()                   # as `finetune` does
    model = load(folder / "model", num_threads=threads)
    learned = raw_parameters(model)
    # The arrays that the engine needs for inference are not used. So their memory is released.
    model.params = model.params._replace(stages=None, blocks=None)
    weights, optimizer = named_leaves(learned), AdamW(weight_decay=0.01, fast=True)
    inputs = model.check_inputs(x)

    def step():
        found = loss_and_gradients(model, learned, inputs, lambda logits: loss_and_gradient(logits, y), pixels=False,
                                   recompute=recompute)
        with using(threads):
            optimizer.step(weights, named_leaves(found.parameters), RATE)
        return found.loss
    return step, sum(array.size for array in weights.values())


def pytorch(folder, x, y, threads, recompute):
    """The same two values for the model of transformers."""
    import torch

    from nphybrid.api.load import load
    from nphybrid.testing import torch_twin
    torch.set_num_threads(threads)
    network = torch_twin(load(folder / "model", engine="reference")).train()
    groups = [{"params": [p for p in network.parameters() if (p.ndim > 1) == matrix], "weight_decay": 0.01 * matrix}
              for matrix in (True, False)]
    optimizer = torch.optim.AdamW(groups, RATE, fused=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def step():
        loss = network(x, labels=y).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return step, sum(p.numel() for p in network.parameters())


ENGINES = {"nphybrid": ours, "torch": pytorch}


def child(engine, folder, threads, steps, recompute):
    """Load an engine, do the first steps, and print the losses.  Then do `steps` steps for each line of stdin."""
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(fields):
        print(json.dumps(fields), file=stdout, flush=True)
    folder = Path(folder)
    step, parameters = ENGINES[engine](folder, np.load(folder / "x.npy"), np.load(folder / "y.npy"), int(threads),
                                       recompute == "True")
    losses = [float(step()) for _ in range(LOSSES)]
    most = peak(resource.getrusage(resource.RUSAGE_SELF))
    answer({"losses": losses, "peak": most, "kept": most - 4 * 4 * parameters})
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(steps)):
            step()
        answer({"seconds": (time.perf_counter() - start) / int(steps)})


def measure(args, folder):
    """Do steps in turn.  -> one row per program"""
    prepare(folder, args.model, args.batch, args.seed)
    rows = [dict(name="nphybrid", engine="nphybrid", recompute=False), dict(name="PyTorch", engine="torch",
                                                                             recompute=False)]
    if args.recompute:
        rows.append(dict(name="nphybrid, recompute", engine="nphybrid", recompute=True))
    with contextlib.ExitStack() as stack:
        for row in rows:
            command = (sys.executable, __file__, "--child", row["engine"], folder, args.threads, args.steps,
                       row["recompute"])
            row["process"] = stack.enter_context(started(*command))
            row |= answer_of(row["process"])
            if "problem" in row:
                sys.exit(f"{row['name']}: {row['problem']}")
            say(f"{row['name']}: losses {', '.join(f'{loss:.6f}' for loss in row['losses'])}")
            if not np.allclose(row["losses"], rows[0]["losses"], rtol=1e-3, atol=1e-4):
                sys.exit(f"{row['name']}: expected the losses {rows[0]['losses']}")
        seconds = [[] for _ in rows]
        for first in range(WARM + args.runs):
            for i in ((first + j) % len(rows) for j in range(len(rows))):
                time.sleep(PAUSE)
                seconds[i].append(timed_call(rows[i])["seconds"])
    for row, times in zip(rows, seconds):
        row["seconds"] = statistics.median(times[WARM:])
        row["ratio"] = statistics.median([b / a for a, b in zip(times, seconds[1])][WARM:])
    return rows


def main():
    """Parse the command line, measure, and print a table."""
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bundled = Path(__file__).parents[1] / "weights" / "vit-hybrid-tiny-cifar10.h5"
    parser.add_argument("--model", default=str(bundled), help="a path, or a preset that gets random weights")
    for name, default in ("batch", 32), ("threads", 2), ("runs", 11), ("steps", 4), ("seed", 0):
        parser.add_argument(f"--{name}", default=default, type=int)
    parser.add_argument("--recompute", action="store_true", help="add a row of nphybrid with recompute")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nphybrid-") as folder:
        rows = measure(args, Path(folder))
    model = Path(args.model).name if os.path.exists(args.model) else args.model
    print(f"{model}, batch {args.batch}; {cpu_name()}; {args.threads} threads; {args.runs} rounds")
    cells = [[row["name"], f"{row['seconds']:.3f}", f"{row['ratio']:.2f}", f"{row['peak'] / 1e6:,.0f}",
              f"{row['kept'] / 1e6:,.0f}"] for row in rows]
    print(table([["program", "median s", "ratio", "peak MB", "kept MB"], *cells], "<>>>>"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
