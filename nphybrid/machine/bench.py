"""How fast a model runs here: a row per combination of dtype, threads and batch.

Each combination is measured by a process of its own, so that neither memory nor caches of one show in another. It
reads the model, calls it once, once more, and then as often as was asked; then it measures what as many threads can
do at most, at once and in registers. A multiply-add counts as two operations.
"""
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from ..modelfile.summary import summary
from ..ops import floats_of
from ..text import table
from . import computer

# How the BLAS libraries under NumPy are told a number of threads: the reference engine computes with one of them.
BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Combination(NamedTuple):
    """What one row is measured with."""
    model: str                            # a path, or a preset's name
    engine: str = "numba"
    dtype: str = "float32"
    precision: str = "highest"
    threads: int = 1
    batch: int = 1
    runs: int = 11
    profile: bool = False


def combinations(model, engine, dtypes, precisions, threads, batches, runs, profile):
    """Every combination, the batches of one number of threads together.  Raises ValueError, FileNotFoundError."""
    from ..checkpoint import default_model
    from ..config import PRESETS
    from ..ops import implementation
    model = str(model or default_model())
    if model not in PRESETS and not os.path.exists(model):
        raise FileNotFoundError(f"{model} is no file or folder, and no preset; those are {', '.join(PRESETS)}")
    for dtype, precision in itertools.product(dtypes, precisions):
        implementation(engine, dtype, precision)
    return [Combination(model, engine, *choice, runs, profile)
            for choice in itertools.product(dtypes, precisions, threads, batches)]


# ---------------------------------------------------------------- in a process of its own

def row(wanted):
    """Measure one combination in a fresh process.  -> dict, as `measured` returns it

    A process that was killed, for want of memory say, gives {…, "error": str}. Raises ValueError where the model or
    the combination is refused.
    """
    command = [sys.executable, "-m", "nphybrid.machine.bench", json.dumps(wanted._asdict()), repr(time.time())]
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if wanted.engine == "reference":
        environment |= dict.fromkeys(BLAS, str(wanted.threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode in (130, -signal.SIGINT):          # the second: before it could say so
        raise KeyboardInterrupt
    sys.stderr.write(done.stderr)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": f"the process ended with {_ending(done.returncode)}"}
    if "refused" in answer:
        raise ValueError(answer["refused"])
    return {**wanted._asdict(), **answer}


def _ending(code):
    return f"code {code}" if code >= 0 else signal.Signals(-code).name


def main(argument, started):
    """Print the answer of one process, which began at the time `started`, as JSON.  -> exit code"""
    try:
        answer = measured(Combination(**json.loads(argument)), float(started))
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        answer = {"error": "not enough memory"}
    except (ValueError, TypeError, OSError) as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))
    return 0


def measured(wanted, started=None):
    """The figures of a combination, taken in this process.  -> dict; times in seconds

    start (the interpreter and its imports, since the clock showed `started`), load (reading, or drawing weights; and
    preparing), first (call), median, fastest, slowest (of the calls that count); compiled: kernels that load and
    first call had to compile; images_per_second; gflop of one image; gflops: GFLOP/s; limit: GFLOP/s of as many
    threads that do nothing but multiply and add, None in float64; share: gflops / limit; peak_memory in bytes, before
    the limit is measured; profile: see `profiled`.
    """
    clock = time.time() if started is None else started
    build, kernels = _builder(wanted), _kernels(wanted)
    started, before, clock = time.time() - clock, kernels(), time.perf_counter()
    model = build(wanted.model, engine=wanted.engine, dtype=wanted.dtype, precision=wanted.precision,
                  num_threads=wanted.threads)
    loaded, x = time.perf_counter() - clock, _pictures(model, wanted.batch)
    first, _, *calls = [_seconds(model, x) for _ in range(2 + wanted.runs)]
    compiled, peak, costs = kernels() - before, computer.peak_memory(), summary(model.network_config)
    profile = profiled(model, x, costs, wanted.runs) if wanted.profile else None
    gflop, middle = 2e-9 * sum(state.multiply_adds for state in costs), median(calls)
    limit, speed = _limit(wanted), gflop * wanted.batch / middle
    return {"parameters": model.num_parameters(), "gflop": gflop, "start": started, "load": loaded, "first": first,
            "compiled": compiled, "median": middle, "fastest": min(calls), "slowest": max(calls),
            "images_per_second": wanted.batch / middle, "gflops": speed, "limit": limit,
            "share": limit and speed / limit, "peak_memory": peak, "profile": profile}


def _builder(wanted):
    """What makes the model; all that it needs is imported afterwards."""
    from ..api.load import load
    from ..api.presets import fresh
    from ..config import PRESETS
    from ..ops import implementation
    implementation(wanted.engine, wanted.dtype, wanted.precision)
    return fresh if wanted.model in PRESETS else load


def _kernels(wanted):
    """A function that counts the kernels kept so far; the reference engine has none, and imports no Numba."""
    if wanted.engine == "reference":
        return lambda: 0
    from .warmup import kept
    return lambda: kept().kernels


def _pictures(model, batch):
    """Noise in the shape and dtype that the model takes: (B, C, H, W)"""
    shape = batch, model.network_config.channels, *model.network_config.image
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(floats_of(model.dtype), copy=False)


def _seconds(model, x):
    start = time.perf_counter()
    model(x)
    return time.perf_counter() - start


def _limit(wanted):
    from ..ops import target
    from . import limits
    if wanted.dtype == "float64" or target.ISA == "amx":     # the loop knows float32 in AVX-512 only
        return None
    return limits.speed(limits.register_loop, wanted.threads)


def profiled(model, x, costs, runs):
    """{"seconds": median of the calls, "stages": [Lap as dict], "states": [Lap as dict]}"""
    from ..trace import time_states
    from .profile import laps
    walks = [time_states(lambda out: model.run_into(out, x)) for _ in range(runs)]
    work = {state.name: len(x) * state.multiply_adds for state in costs}
    return {"seconds": median(sum(walk.values()) for walk in walks),
            "stages": [lap._asdict() for lap in laps(walks, work)],
            "states": [lap._asdict() for lap in laps(walks, work, str)]}


# ---------------------------------------------------------------- what is shown

def surroundings():
    """Where the rows were measured.  -> dict; limits of one core in GFLOP/s: fma in registers, the tile out of L1

    The two are taken in turn, for the speed of a shared machine changes while one looks.
    """
    from ..ops import target
    from . import limits
    fma, tile = map(median, zip(*[(limits.speed(limits.register_loop, seconds=0.1),
                                   limits.speed(limits.tile_loop, seconds=0.1)) for _ in range(5)]))
    return {"cpu": computer.cpu_name(), "isa": target.ISA, "tile": [target.MR, target.NR],
            "versions": {**computer.versions(), "LLVM": target.llvm()},
            "limits": {"fma": fma, "tile": tile, "share": tile / fma}}


def shown(here, rows, form="text"):
    """Everything as a text: form is "text", "json" or "markdown"."""
    if form == "json":
        return json.dumps({"machine": here, "rows": rows}, indent=2)
    tabled, between = (table, "\n") if form == "text" else (markdown, "\n\n")
    parts = [between.join(_header(here, rows)), tabled(_cells(rows), "<>>>>>>>>>>>>")]
    parts += [part for row in rows if row.get("profile")
              for part in (_title(row) + ":", tabled(_profile_cells(row["profile"]), "<>>>"))]
    return "\n\n".join(parts)


def markdown(cells, align):
    """Rows of strings as a table in Markdown; the first is its head.  align has "<" or ">" per column.

    >>> print(markdown([("a", "b"), ("x", "1")], "<>"))
    | a | b |
    | :-- | --: |
    | x | 1 |
    """
    rule = [{"<": ":--", ">": "--:"}[side] for side in align]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def _header(here, rows):
    limits, versions = here["limits"], [f"{name} {version}" for name, version in here["versions"].items()]
    yield f"{here['cpu']}, {here['isa']}, tile {here['tile'][0]} x {here['tile'][1]}"
    yield ", ".join(versions)
    yield (f"one core: {limits['fma']:.0f} GFLOP/s in registers; the tile out of L1 {limits['tile']:.0f}, "
           f"{limits['share']:.0%} of that")
    good = next((row for row in rows if "error" not in row), None)
    if good:
        yield (f"{good['model']}, engine {good['engine']}: {good['parameters']:,} parameters, "
               f"{good['gflop']:.3g} GFLOP an image; median of {good['runs']} calls")
    for row in rows:
        if row.get("compiled"):
            yield f"{_title(row)}: load and first call compiled {row['compiled']} kernels"


def _title(row):
    return f"{_dtype(row)}, {row['threads']} thread{'s' * (row['threads'] > 1)}, batch {row['batch']}"


def _dtype(row):
    return row["dtype"] if row["precision"] == "highest" else f"{row['dtype']} {row['precision']}"


def _cells(rows):
    head = ("dtype", "threads", "batch", "start s", "load s", "first s", "median ms", "fastest", "slowest",
            "images/s", "GFLOP/s", "of limit", "peak MB")
    return [head, *map(_row_cells, rows)]


def _row_cells(row):
    start = (_dtype(row), str(row["threads"]), str(row["batch"]))
    if "error" in row:
        return (*start, *[""] * 9, row["error"])
    return (*start, *(f"{row[key]:.2f}" for key in ("start", "load", "first")),
            *(f"{1e3 * row[key]:.2f}" for key in ("median", "fastest", "slowest")),
            f"{row['images_per_second']:.2f}", f"{row['gflops']:.1f}", _or_dash(row["share"], "{:.0%}"),
            _or_dash(row["peak_memory"] and row["peak_memory"] / 1e6, "{:.0f}"))


def _profile_cells(profile):
    cells = [(lap["name"], f"{1e3 * lap['seconds']:.3f}", f"{lap['share']:.1%}", _or_dash(lap["gflops"], "{:.1f}"))
             for lap in profile["stages"]]
    return [("stage", "ms", "of time", "GFLOP/s"), *cells, ("whole call", f"{1e3 * profile['seconds']:.3f}", "", "")]


def _or_dash(value, form):
    return "-" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
