"""Measure how fast a model is on this computer, with one row of results for each combination of settings.

Each combination is measured in a process of its own. So no row depends on the memory or the caches of another row. The
process loads the model, makes UNCOUNTED calls, and then the requested number of calls. Only these later calls count for
the speed. At the end, the process measures how fast the requested number of threads can multiply and add in registers.
A multiply-add counts as two operations.
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

from ..checkpoint import golden_error
from ..modelfile.summary import summarize
from ..ops import NARROW, floats_of
from ..text import table
from . import computer

# These environment variables set the number of threads of NumPy's BLAS library, which the reference engine uses.
BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# Two calls without a plan, the call that records the plan (ops/plans.py), and the first repetition of the plan.
UNCOUNTED = 4


class Combination(NamedTuple):
    """The settings with which one row of results is measured."""
    model: str                            # a path, or the name of a preset
    engine: str = "numba"
    dtype: str = "float32"
    precision: str = "highest"
    threads: int = 1
    batch: int = 1
    runs: int = 11                        # number of calls that count for the speed
    profile: bool = False
    plan: bool = True                     # whether later calls repeat a recorded plan (ops/plan.py)


def combinations(model, engine, dtypes, precisions, threads, batches, runs, profile, plan=True) -> list[Combination]:
    """Return every combination of the given values.

    If `dtypes` is None, the dtype is that of a file with narrow weights, or float32 for any other model. Raises
    FileNotFoundError if the model does not exist. Raises ValueError if an engine, a dtype or a precision is not valid.
    """
    from ..checkpoint import default_model, hub, read, stored_dtype
    from ..config import PRESETS
    from ..ops import implementation
    from ..ops.threads import MOST_THREADS
    model = str(default_model() if model is None else model)
    if model not in PRESETS and not (os.path.exists(model) or hub.is_name(model)):
        raise FileNotFoundError(f"{model} is not a file, a folder or a preset; the presets are {', '.join(PRESETS)}")
    if max(threads) > MOST_THREADS:
        raise ValueError(f"threads: found {max(threads)}; expected at most {MOST_THREADS}")
    if dtypes is None:
        stored = None if model in PRESETS else stored_dtype(read(model).manifest, model)
        dtypes = [stored or "float32"]
    for dtype, precision in itertools.product(dtypes, precisions):
        implementation(engine, dtype, precision)
    return [Combination(model, engine, *choice, runs, profile, plan)
            for choice in itertools.product(dtypes, precisions, threads, batches)]


# ---------------------------------------------------------------- the measurement, in a process of its own

def measure_in_process(combination: Combination) -> dict:
    """Measure one combination in a new process.  -> dict

    The dict has the fields of the combination and the items that `measure` returns. If memory runs out or the process
    is killed, the item "error" (str) replaces the items of `measure`. Raises ValueError if the model or the combination
    is not valid.
    """
    from ..batch.progress import CLEAR
    command = [sys.executable, "-m", "nphybrid.machine.bench", json.dumps(combination._asdict()), repr(time.time())]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if combination.engine == "reference":
        environment |= dict.fromkeys(BLAS, str(combination.threads))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode in (130, -signal.SIGINT):          # -SIGINT: the process was interrupted before `main` ran
        raise KeyboardInterrupt
    if done.stderr:
        sys.stderr.write(f"{CLEAR if sys.stderr.isatty() else ''}{done.stderr}")
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
    """Measure a combination in this process, and print the result as JSON.  -> exit code

    `argument` is a combination in JSON. `start_time` is the value of `time.time()` when the parent process started this
    process.
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
    """Measure a combination in this process.  -> dict, with all times in seconds

    `start_time` is a result of `time.time()`; None means the current time. In the dict, `start` is the time from
    `start_time` until all modules are imported. `load` is the time to read the weights (or to draw random weights)
    and to prepare them. `first` is the time of the first call. `median`, `fastest` and `slowest` are the median,
    the shortest and the longest time of the calls after the first UNCOUNTED calls. `compiled` is the number of
    kernels that this process compiled while the model was loaded and called. `images_per_second` is the number of
    images in a batch divided by `median`. `gflop` is the number of operations of a call for one image, in units of
    1e9. `gflops` is the speed of the model in GFLOP/s. `limit` is the speed in GFLOP/s of `combination.threads`
    threads that only multiply and add. `share` is gflops / limit. For other dtypes than float32 and on AMX, `limit`
    and `share` are None. `change` is the result of `_change_by_rounding`. `peak_memory` is the result of
    `computer.peak_memory` before the profile, the change and the limit are measured. `profile` is the result of
    `profile_calls`, or None.
    """
    start_time = time.time() if start_time is None else start_time
    make_model = _model_maker(combination)
    count_kernels = _kernel_counter(combination)
    start_seconds = time.time() - start_time
    kernels_before = count_kernels()

    load_begin = time.perf_counter()
    model = make_model(combination.model, engine=combination.engine, dtype=combination.dtype,
                       precision=combination.precision, num_threads=combination.threads)
    if not combination.plan:
        model.plans = None
    load_seconds = time.perf_counter() - load_begin

    x = _noise(model, combination.batch)
    seconds = [_seconds(model, x) for _ in range(UNCOUNTED + combination.runs)]
    first, calls = seconds[0], seconds[UNCOUNTED:]
    compiled = count_kernels() - kernels_before
    peak_memory = computer.peak_memory()
    profile = None
    if combination.profile:
        profile = profile_calls(model, x, summarize(model.network_config), combination.runs)
    with_states = any(getattr(model.config, name, False) for name in ("output_hidden_states", "output_attentions"))
    needed = None if with_states else model.tokens_needed()
    gflop = 2e-9 * sum(state.multiply_adds for state in summarize(model.network_config, needed))
    middle = median(calls)
    gflops = gflop * combination.batch / middle
    limit = _limit(combination)
    return {"parameters": model.num_parameters(), "gflop": gflop, "start": start_seconds, "load": load_seconds,
            "first": first, "compiled": compiled, "median": middle, "fastest": min(calls), "slowest": max(calls),
            "images_per_second": combination.batch / middle, "gflops": gflops, "limit": limit,
            "share": limit and gflops / limit, "change": _change_by_rounding(combination, make_model, model, x),
            "peak_memory": peak_memory, "profile": profile}


def _model_maker(combination):
    """Import all modules that the model needs, and return the function that makes the model."""
    from ..api.load import load
    from ..api.presets import fresh
    from ..config import PRESETS
    from ..ops import implementation
    implementation(combination.engine, combination.dtype, combination.precision)
    return fresh if combination.model in PRESETS else load


def _kernel_counter(combination):
    """Return a function that counts the kernels that this process compiled.

    The reference engine has no compiled kernels, and does not import Numba.
    """
    if combination.engine == "reference":
        return lambda: 0
    from ..ops import jit
    return lambda: len(jit.COMPILED)


def _noise(model, batch):
    """Return random images (B, C, H, W) in the shape and dtype that the model takes."""
    shape = batch, model.network_config.channels, *model.network_config.image
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(floats_of(model.dtype), copy=False)


def _seconds(model, x):
    start = time.perf_counter()
    model(x)
    return time.perf_counter() - start


def _change_by_rounding(combination, make_model, model, x):
    """The largest difference from the results in float32, divided by the standard deviation of these results.

    None in float32 and float64, for a file with narrow weights, which cannot be used in float32, and if there is too
    little memory for the model in float32.
    """
    if model.dtype not in NARROW or model.stored_dtype:
        return None
    try:
        exact = make_model(combination.model, engine=combination.engine, num_threads=combination.threads)
        return golden_error(model(x)[0], exact(x)[0])
    except MemoryError:
        return None


def _limit(combination):
    """The speed of the threads of a combination in GFLOP/s, or None if it cannot be measured."""
    from ..ops import target
    from . import limits
    # The loop that measures the limit has no version for other dtypes and no version for AMX.
    if combination.dtype != "float32" or target.ISA == "amx":
        return None
    return limits.speed(limits.register_loop, combination.threads)


def profile_calls(model, x, costs, runs) -> dict:
    """Measure the times of all states.  -> {"seconds": median time of a call, "stages": [Lap], "states": [Lap]}

    These calls compute all tokens of the last block, also if other calls do not (`Model.tokens_needed`). Each Lap
    is returned as a dict. `costs` are the rows that `summarize` returns. `runs` is the number of calls.
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
    """Describe the machine on which the rows are measured.  -> dict

    "limits" holds two speeds of one core in GFLOP/s and their ratio. "fma" is measured in registers, "tile" is measured
    with the register tile and data from L1, and "share" is tile / fma. The measurements of "fma" and "tile" alternate,
    because the speed of a shared machine changes. "load_average" is the load average before these measurements, or
    None.
    """
    from ..ops import target
    from . import limits
    load = computer.load_average()
    speeds = [(limits.speed(limits.register_loop, seconds=0.1), limits.speed(limits.tile_loop, seconds=0.1))
              for _ in range(5)]
    fma, tile = map(median, zip(*speeds))
    return {"cpu": computer.cpu_name(), "isa": target.ISA, "tile": [target.MR, target.NR],
            "versions": {**computer.versions(), "LLVM": target.llvm()}, "load_average": load,
            "limits": {"fma": fma, "tile": tile, "share": tile / fma}}


def format_report(machine: dict, rows: list[dict], form="text") -> str:
    """Return all measurements as one text.  form: "text", "json" or "markdown" """
    if form == "json":
        return json.dumps({"machine": machine, "rows": rows}, indent=2)
    table_of, line_break = (table, "\n") if form == "text" else (markdown, "\n\n")
    parts = [line_break.join(_header(machine, rows)), table_of(_cells(rows), "<>>>>>>>>>>>>>>")]
    for row in rows:
        if row.get("profile"):
            parts += [_title(row) + ":", table_of(_profile_cells(row["profile"]), "<>>>")]
    return "\n\n".join(parts)


def markdown(cells, align) -> str:
    """Return rows of strings as a Markdown table.  The first row is the header.  align: "<" or ">" for each column

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
    yield (f"one core: {limits['fma']:.0f} GFLOP/s in registers, {limits['tile']:.0f} GFLOP/s "
           f"({limits['share']:.0%}) in the register tile with data from L1")
    if machine["load_average"] is not None and machine["load_average"] > computer.QUIET:
        yield f"load average {machine['load_average']:.1f}: other programs may make the times longer"
    good = next((row for row in rows if "error" not in row), None)
    if good:
        yield (f"{good['model']}, engine {good['engine']}: {good['parameters']:,} parameters, "
               f"{good['gflop']:.3g} GFLOP per image; median of {good['runs']} calls")
    for row in rows:
        if row.get("compiled"):
            yield f"{_title(row)}: {row['compiled']} kernels were compiled"


def _title(row):
    threads = "1 thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return f"{_dtype(row)}, {threads}, batch {row['batch']}"


def _dtype(row):
    return row["dtype"] if row["precision"] == "highest" else f"{row['dtype']} {row['precision']}"


def _cells(rows):
    header = ("dtype", "threads", "batch", "start s", "load s", "first s", "median ms", "fastest", "slowest",
              "images/s", "GFLOP/s", "of limit", "x float32", "change", "peak MB")
    return [header, *(_row_cells(row, speed_up(row, rows)) for row in rows)]


def speed_up(row, rows):
    """The median time in float32, divided by the median time of a row with the same threads and batch.

    None if no row has these settings and the dtype float32.

    >>> settings = {"precision": "highest", "threads": 1, "batch": 1}
    >>> rows = [{"dtype": "float32", "median": 3, **settings}, {"dtype": "int8", "median": 2, **settings}]
    >>> speed_up(rows[1], rows)
    1.5
    """
    for other in rows:
        same = all(other[key] == row[key] for key in ("threads", "batch"))
        if same and _dtype(other) == "float32" and "median" in other and "median" in row:
            return other["median"] / row["median"]
    return None


def _row_cells(row, faster):
    start = (_dtype(row), str(row["threads"]), str(row["batch"]))
    if "error" in row:
        return (*start, *[""] * 11, row["error"])
    return (*start, *(f"{row[key]:.2f}" for key in ("start", "load", "first")),
            *(f"{1e3 * row[key]:.2f}" for key in ("median", "fastest", "slowest")),
            f"{row['images_per_second']:.2f}", f"{row['gflops']:.1f}", _or_dash(row["share"], "{:.0%}"),
            _or_dash(faster, "{:.2f}"), _or_dash(row["change"], "{:.1e}"),
            _or_dash(row["peak_memory"] and row["peak_memory"] / 1e6, "{:.0f}"))


def _profile_cells(profile):
    cells = [(lap["name"], f"{1e3 * lap['seconds']:.3f}", f"{lap['share']:.1%}", _or_dash(lap["gflops"], "{:.1f}"))
             for lap in profile["stages"]]
    return [("stage", "ms", "of time", "GFLOP/s"), *cells, ("whole call", f"{1e3 * profile['seconds']:.3f}", "", "")]


def _or_dash(value, form):
    return "-" if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
