"""How fast a model is on this computer: a row per combination of dtype, threads and batch.

Each combination is measured in a process of its own, so that no row depends on the memory or the caches of another.
The process loads the model, calls it twice, and then as often as was asked; only these last calls count. Then it
measures how fast as many threads can multiply and add in registers. A multiply-add counts as two operations.
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

from ..modelfile.summary import summarize
from ..ops import floats_of
from ..text import table
from . import computer

# These variables set the number of threads of the BLAS libraries under NumPy, with which the reference engine computes.
BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class Combination(NamedTuple):
    """What one row is measured with."""
    model: str                            # a path, or the name of a preset
    engine: str = "numba"
    dtype: str = "float32"
    precision: str = "highest"
    threads: int = 1
    batch: int = 1
    runs: int = 11                        # calls that count
    profile: bool = False


def combinations(model, engine, dtypes, precisions, threads, batches, runs, profile) -> list[Combination]:
    """Every combination of the values.  Raises ValueError, FileNotFoundError."""
    from ..checkpoint import default_model
    from ..config import PRESETS
    from ..ops import implementation
    model = str(model or default_model())
    if model not in PRESETS and not os.path.exists(model):
        raise FileNotFoundError(f"{model} is not a file, a folder or a preset; the presets are {', '.join(PRESETS)}")
    for dtype, precision in itertools.product(dtypes, precisions):
        implementation(engine, dtype, precision)
    return [Combination(model, engine, *choice, runs, profile)
            for choice in itertools.product(dtypes, precisions, threads, batches)]


# ---------------------------------------------------------------- in a process of its own

def measure_in_process(combination: Combination) -> dict:
    """Measure one combination in a new process.  -> the fields of the combination, and what `measure` returns

    A process that was killed, for example for lack of memory, gives {…, "error": str}. Raises ValueError if the model
    or the combination is refused.
    """
    command = [sys.executable, "-m", "nphybrid.machine.bench", json.dumps(combination._asdict()), repr(time.time())]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if combination.engine == "reference":
        environment |= dict.fromkeys(BLAS, str(combination.threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode in (130, -signal.SIGINT):          # the second: interrupted before `main` ran
        raise KeyboardInterrupt
    sys.stderr.write(done.stderr)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"error": f"the process ended with {_ending(done.returncode)}"}
    if "refused" in answer:
        raise ValueError(answer["refused"])
    return {**combination._asdict(), **answer}


def _ending(code):
    return f"code {code}" if code >= 0 else signal.Signals(-code).name


def main(argument, start_time) -> int:
    """Measure a combination, given as JSON, in this process, and print the result as JSON.  -> exit code

    start_time: `time.time()` when the parent started this process.
    """
    try:
        answer = measure(Combination(**json.loads(argument)), float(start_time))
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        answer = {"error": "not enough memory"}
    except (ValueError, TypeError, OSError) as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))
    return 0


def measure(combination: Combination, start_time: float | None = None) -> dict:
    """Measure a combination in this process.  -> dict; times in seconds

    start: the interpreter and its imports, since `start_time` (of time.time; None: now). load: reading the weights, or
    drawing them, and preparing them. first: the first call. median, fastest, slowest: of the calls that count.
    compiled: how many kernels load and first call compiled. images_per_second. gflop: of one image. gflops: GFLOP/s.
    limit: GFLOP/s of as many threads that only multiply and add, None in float64. share: gflops / limit. peak_memory:
    bytes, before the limit is measured. profile: see `profile_calls`.
    """
    start_time = time.time() if start_time is None else start_time
    make_model = _model_maker(combination)
    count_kernels = _kernel_counter(combination)
    start_seconds = time.time() - start_time
    kernels_before = count_kernels()

    load_begin = time.perf_counter()
    model = make_model(combination.model, engine=combination.engine, dtype=combination.dtype,
                       precision=combination.precision, num_threads=combination.threads)
    load_seconds = time.perf_counter() - load_begin

    x = _noise(model, combination.batch)
    first, _, *calls = [_seconds(model, x) for _ in range(2 + combination.runs)]
    compiled = count_kernels() - kernels_before
    peak_memory = computer.peak_memory()
    costs = summarize(model.network_config)
    profile = profile_calls(model, x, costs, combination.runs) if combination.profile else None
    gflop = 2e-9 * sum(state.multiply_adds for state in costs)
    middle = median(calls)
    gflops = gflop * combination.batch / middle
    limit = _limit(combination)
    return {"parameters": model.num_parameters(), "gflop": gflop, "start": start_seconds, "load": load_seconds,
            "first": first, "compiled": compiled, "median": middle, "fastest": min(calls), "slowest": max(calls),
            "images_per_second": combination.batch / middle, "gflops": gflops, "limit": limit,
            "share": limit and gflops / limit, "peak_memory": peak_memory, "profile": profile}


def _model_maker(combination):
    """The function that makes the model, after everything that it needs is imported."""
    from ..api.load import load
    from ..api.presets import fresh
    from ..config import PRESETS
    from ..ops import implementation
    implementation(combination.engine, combination.dtype, combination.precision)
    return fresh if combination.model in PRESETS else load


def _kernel_counter(combination):
    """A function that counts the compiled kernels.  The reference engine has none, and imports no Numba."""
    if combination.engine == "reference":
        return lambda: 0
    from .warmup import kept_kernels
    return lambda: kept_kernels().kernels


def _noise(model, batch):
    """Noise in the shape and dtype that the model takes: (B, C, H, W)"""
    shape = batch, model.network_config.channels, *model.network_config.image
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(floats_of(model.dtype), copy=False)


def _seconds(model, x):
    start = time.perf_counter()
    model(x)
    return time.perf_counter() - start


def _limit(combination):
    from ..ops import target
    from . import limits
    if combination.dtype == "float64" or target.ISA == "amx":     # the loop has only float32 in AVX-512
        return None
    return limits.speed(limits.register_loop, combination.threads)


def profile_calls(model, x, costs, runs) -> dict:
    """Measure the time of every state.  -> {"seconds": median of the calls, "stages": [Lap], "states": [Lap]}, Laps as
    dicts

    costs: the rows of `summarize`. runs: how many calls.
    """
    from ..trace import time_states
    from .profile import laps
    calls = [time_states(lambda trace: model.run_into(trace, x)) for _ in range(runs)]
    work = {state.name: len(x) * state.multiply_adds for state in costs}
    return {"seconds": median(sum(call.values()) for call in calls),
            "stages": [lap._asdict() for lap in laps(calls, work)],
            "states": [lap._asdict() for lap in laps(calls, work, str)]}


# ---------------------------------------------------------------- the report

def describe_machine() -> dict:
    """Where the rows were measured.  limits: GFLOP/s of one core, for fma (in registers) and tile (out of L1)

    The two are measured in turn, because the speed of a shared machine changes between measurements.
    """
    from ..ops import target
    from . import limits
    speeds = [(limits.speed(limits.register_loop, seconds=0.1), limits.speed(limits.tile_loop, seconds=0.1))
              for _ in range(5)]
    fma, tile = map(median, zip(*speeds))
    return {"cpu": computer.cpu_name(), "isa": target.ISA, "tile": [target.MR, target.NR],
            "versions": {**computer.versions(), "LLVM": target.llvm()},
            "limits": {"fma": fma, "tile": tile, "share": tile / fma}}


def format_report(machine: dict, rows: list[dict], form="text") -> str:
    """All measurements as one text.  form: "text", "json" or "markdown" """
    if form == "json":
        return json.dumps({"machine": machine, "rows": rows}, indent=2)
    table_of, line_break = (table, "\n") if form == "text" else (markdown, "\n\n")
    parts = [line_break.join(_header(machine, rows)), table_of(_cells(rows), "<>>>>>>>>>>>>")]
    for row in rows:
        if row.get("profile"):
            parts += [_title(row) + ":", table_of(_profile_cells(row["profile"]), "<>>>")]
    return "\n\n".join(parts)


def markdown(cells, align) -> str:
    """Rows of strings as a table in Markdown; the first row is its header.  align: "<" or ">" per column

    >>> print(markdown([("a", "b"), ("x", "1")], "<>"))
    | a | b |
    | :-- | --: |
    | x | 1 |
    """
    rule = [{"<": ":--", ">": "--:"}[side] for side in align]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:]))


def _header(machine, rows):
    limits = machine["limits"]
    yield f"{machine['cpu']}, {machine['isa']}, tile {machine['tile'][0]} x {machine['tile'][1]}"
    yield ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
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
    threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return f"{_dtype(row)}, {threads}, batch {row['batch']}"


def _dtype(row):
    return row["dtype"] if row["precision"] == "highest" else f"{row['dtype']} {row['precision']}"


def _cells(rows):
    header = ("dtype", "threads", "batch", "start s", "load s", "first s", "median ms", "fastest", "slowest",
              "images/s", "GFLOP/s", "of limit", "peak MB")
    return [header, *map(_row_cells, rows)]


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
