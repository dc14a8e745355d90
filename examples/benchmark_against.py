"""Compares the speed of nphybrid, PyTorch, ONNX Runtime and OpenVINO for one network.

    pip install ".[bench]"
    python examples/benchmark_against.py                       # R50+ViT-B/16 at 384 pixels, float32, 2 threads
    python examples/benchmark_against.py --ours bfloat16 --peers torch-bfloat16,openvino-bfloat16
    python examples/benchmark_against.py --ours int8 --peers onnxruntime-int8:dynamic,openvino-int8
    python examples/benchmark_against.py --model R26+ViT-S/32 --size 224 --batch 8
    python examples/benchmark_against.py --start               # whole processes that print the label of a picture
    python examples/benchmark_against.py --log examples/benchmarks.jsonl

Each engine runs in its own process. The logits of an engine are checked before the engine is timed. The error of the
logits x is max|x - truth| / std(truth), and the column "rms error" has the root of the mean square of x - truth instead
of the largest element. The truth is the logits of nphybrid's reference engine in float64. An engine is not timed if its
error is above 1e-3 in float32, above 0.3 in bfloat16, or above 1 in int8. The column "requested" has the requested
dtype if the engine computes in another dtype.

In each round, every engine runs one time, while the other engines wait. The order of the engines rotates from round to
round. The first four rounds do not count: in the second, nphybrid records a plan. The column "ratio" is the median of
(the engine's time / nphybrid's time) over the rounds. The first row is nphybrid. A ratio above 1 means that nphybrid is
faster. The two times of a ratio are from one round, so a slow drift of the machine's speed does not change the ratio.

All engines compute logits. In the last block, nphybrid computes only the class token, and the keys and values of all
tokens, because the logits do not depend on the other tokens. This omits 6 % of the operations of R50+ViT-B/16. The
other engines compute all tokens.

PyTorch runs the model of transformers without changes. ONNX Runtime and OpenVINO read the same ONNX file. The file is
exported from the model of transformers, with convolution kernels that are already standardized. benchmark_int8.py
quantizes this file to int8. The column "peak MB" is the peak memory of a process until its first logits. With --start,
the column is the peak memory until the end of the process. The exit code is 1 if a requested row could not be measured.
The reason for the failure is printed to stderr.

--log appends a JSON object for each measured row to a file, with the time, the processor, the revision of nphybrid, the
quartiles of the times, and the load average of the machine before the measurement. Other programs make the times
longer, so a line on stderr says if the load average was above QUIET. benchmark_report.py prints and draws the lines.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
from benchmark_engines import ENGINES, architecture, peak

from nphybrid.cli.options import positive
from nphybrid.machine.computer import QUIET, cpu_name, load_average
from nphybrid.ops.target import TARGET

# An engine is not timed if its error is above the bound of its dtype. For R50+ViT-B/16, PyTorch's error is 1e-5 in
# float32, and 0.17 in bfloat16.
BOUND = {"float32": 1e-3, "bfloat16": 0.3, "int8": 1.0}
WARM = 4                          # the number of rounds that do not count
PAUSE = 0.1                       # the seconds until idle threads stop spinning
TITLES = {"nphybrid": "nphybrid", "torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
READ_ONNX = "onnxruntime", "openvino"
CHILD = sys.executable, Path(__file__).with_name("benchmark_engines.py")
PHOTOGRAPH = Path(__file__).parent / "images" / "cat.png"
# The child processes write the bytecode of their modules to disk. pip also writes it when it installs a package.
# Otherwise, a start from a source tree compiles the modules of nphybrid each time, which takes 0.17 s (Zen 3).
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}


@contextlib.contextmanager
def started(*command, **environment):
    """Start a process with additional environment variables, and kill it at the end of the `with` block."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(list(map(str, command)), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=log, env=os.environ | ENVIRONMENT | environment)
        process.log = log
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def answer_of(process):
    """Returns the next answer of a child process, or a "problem" if the process has ended."""
    return json.loads(line) if (line := process.stdout.readline()) else problem_of(process)


def problem_of(process):
    """Returns a "problem": the exit code of a process, and the last line of its stderr."""
    code = process.wait()
    process.log.seek(0)
    return {"problem": f"the process ended with exit code {code}: "
                       f"{''.join(process.log.read().strip().splitlines()[-1:])}"}


def timed_call(row):
    """Time one call of the engine of a row.  -> {"seconds": …}"""
    with contextlib.suppress(BrokenPipeError):
        print(file=row["process"].stdin, flush=True)
    return answer_of(row["process"])


def first_answer(*job):
    """Start a child process, return its first answer, and end the process."""
    with started(*CHILD, *job) as process:
        return answer_of(process)


def prepare(args, folder):
    """Start a child process that writes the network into a folder.  Exits if the child process fails."""
    say(f"preparing {args.model} …")
    if problem := first_answer("prepare", folder, args.model, args.seed, args.batch, args.size or "").get("problem"):
        sys.exit(f"{args.model}: {problem}")


def check(logits, truth, dtype):
    """Returns the error of the logits, and a "problem" if the error is too large.  -> fields of a row"""
    if np.shape(logits) != truth.shape:
        return {"problem": f"refused: logits have shape {np.shape(logits)}, expected {truth.shape}"}
    difference = (np.asarray(logits) - truth) / truth.std()
    error = float(np.abs(difference).max())
    return {"error": error, "rms": float(np.sqrt(np.square(difference).mean()))} | ({} if error <= BOUND[dtype] else {
        "problem": f"refused: the error of the logits is {error:.1e}, the bound is {BOUND[dtype]:g}"})


def against(args, folder):
    """Returns one row per engine, with its version, options, error and times."""
    rows = requested_rows(args)
    prepare(args, folder)
    onnx = first_answer("export", folder) if any(row["engine"] in READ_ONNX for row in rows) else {}
    truth = np.load(folder / "truth.npy")
    with contextlib.ExitStack() as stack:
        for row in rows:
            wanted = row["dtype"]
            job = row["engine"], folder, wanted, row["precision"], args.threads
            if row["engine"] == "nphybrid":               # The first process may compile kernels, so it is not timed.
                first_answer(*job)
            row |= onnx if row["engine"] in READ_ONNX else {}
            if "problem" not in row and row["engine"] in READ_ONNX and wanted == "int8":
                row |= first_answer("quantize", folder, row["engine"], row["precision"])
            if "problem" not in row:
                row["process"] = stack.enter_context(started(*CHILD, *job))
                row |= answer_of(row["process"])
            row["requested"] = "" if row["dtype"] == wanted else wanted
            if "logits" in row:
                row |= check(row.pop("logits"), truth, wanted)
            say(f"{row_name(row)}: {'failed' if 'problem' in row else 'ready'}")
        return in_turn(rows, args.runs, timed_call)


def requested_rows(args):
    """Returns the rows that the command line requests."""
    rows = [("nphybrid", *spec.partition(":")[::2]) for spec in args.ours.split(",")]
    for spec in filter(None, args.peers.split(",")):
        engine, _, dtype = spec.partition("-")
        rows.append((engine, *dtype.partition(":")[::2]))
    rows = [dict(engine=engine, dtype=dtype or "float32", precision=precision) for engine, dtype, precision in rows]
    for row in rows:
        ours = row["engine"] == "nphybrid"
        quantized = row["engine"] in READ_ONNX and row["dtype"] == "int8"
        if row["precision"] and not (ours or quantized):
            sys.exit(f"{row['engine']}-{row['dtype']}:{row['precision']}: expected no kind; only nphybrid, and int8 of "
                     f"{' and '.join(READ_ONNX)} have kinds")
        if row["engine"] not in ENGINES or row["dtype"] not in BOUND:
            sys.exit(f"unknown engine or dtype: {row['engine']} in {row['dtype']}; expected one of the engines "
                     f"{', '.join(ENGINES)} in one of the dtypes {', '.join(BOUND)}")
    return rows


# A typical program that uses transformers and prints the five best labels of a picture.
UPSTREAM = """
import sys
import torch
from PIL import Image
from transformers import ViTHybridImageProcessor, {kind}
folder, picture, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
processor, model = ViTHybridImageProcessor.from_pretrained(folder), {kind}.from_pretrained(folder).eval()
with torch.inference_mode():
    scores = model(**processor(Image.open(picture).convert("RGB"), return_tensors="pt")).logits[0].softmax(-1)
for score, label in zip(*scores.topk(5)):
    print(model.config.id2label[label.item()], score.item())
"""


def from_the_start(args, folder):
    """Returns a row per command that labels a picture in a new process.  Weights and compiled kernels are on disk.

    In the rows "packed", `nphybrid warmup --model MODEL` has stored the packed weights in a cache folder of their own.
    """
    prepare(args, folder)
    nphybrid, cache = (sys.executable, "-m", "nphybrid"), folder / "cache"
    models = {".h5": folder / "model.h5", "folder": folder / "model"}
    run_to_end(*nphybrid, "convert", models["folder"], models[".h5"])
    for model in models.values():
        run_to_end(*nphybrid, "warmup", "--model", model, "--into", cache)
    ours = *nphybrid, "classify", PHOTOGRAPH, "--threads", args.threads, "--model"
    peers = sys.executable, "-c", UPSTREAM.format(kind=architecture(folder)), folder / "model", PHOTOGRAPH, args.threads
    rows = [dict(engine="nphybrid", reads=reads, command=(*ours, model)) for reads, model in models.items()]
    rows += [dict(engine="nphybrid", reads=f"{reads}, packed", command=(*ours, model),
                  environment={"NUMBA_CACHE_DIR": str(cache)}) for reads, model in models.items()]
    rows += [dict(engine="torch", reads="folder", command=peers)]
    rows = [row | {"threads": args.threads} for row in rows]
    rows = in_turn(rows, args.runs, timed_process)
    for row in rows:
        if row.get("label") not in (None, rows[0].get("label")):
            row["problem"] = f"the label is {row['label']}, expected {rows[0].get('label')}"
    return rows


def run_to_end(*command):
    """Run a command.  Exits if it fails."""
    with started(*command) as process:
        if process.wait():
            sys.exit(problem_of(process)["problem"])


def timed_process(row):
    """Run the command of a row.  -> seconds, label and peak memory of the process"""
    start = time.perf_counter()
    with started(*row["command"], **row.get("environment", {})) as process:
        printed = process.stdout.readlines()
        _, status, usage = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
        return problem_of(process) if process.returncode else {
            "seconds": seconds, "label": printed[0].rpartition(" ")[0].strip(), "peak": peak(usage)}


def in_turn(rows, runs, run):
    """Measure every row one time per round, in rotating order, until the row fails.  -> the rows with times"""
    seconds = [[] for _ in rows]
    for first in range(WARM + runs):
        for i in ((first + j) % len(rows) for j in range(len(rows))):
            if "problem" not in rows[i]:
                time.sleep(PAUSE)
                rows[i] |= run(rows[i])
                seconds[i].append(rows[i].pop("seconds", None))
    for row, s in zip(rows, seconds):
        row.pop("process", None)
        row.pop("command", None)
        row.pop("environment", None)
        if "problem" not in row:
            s, ratios = s[WARM:], [b / a for a, b in zip(seconds[0], s) if a][WARM:]
            row |= dict(seconds=s, median=statistics.median(s), spread=(min(s), max(s)),
                        ratio=None if "problem" in rows[0] else statistics.median(ratios))
    return rows


# Each column has a title, the name of a field of a row, and a format.
COLUMNS = (("engine", "engine", TITLES.get), ("reads", "reads", str), ("version", "version", str),
           ("dtype", "dtype", str), ("requested", "requested", str), ("precision or kind", "precision", str),
           ("threads", "threads", str),
           ("median s", "median", "{:.4f}".format), ("spread", "spread", "{0[0]:.4f} to {0[1]:.4f}".format),
           ("peak MB", "peak", lambda n: f"{n / 1e6:,.0f}"), ("label", "label", str),
           ("error", "error", "{:.1e}".format), ("rms error", "rms", "{:.1e}".format),
           ("ratio", "ratio", lambda r: "-" if r is None else f"{r:.2f}"))


def row_name(row):
    """The engine, and what distinguishes the row from other rows of the engine."""
    requested = row.get("requested") and f"({row['requested']} requested)"
    parts = TITLES[row["engine"]], row.get("dtype"), requested, row.get("precision"), row.get("reads")
    return " ".join(filter(None, parts))


def table(report, style):
    """Returns a table as text: a line about the measurement, and one row per measured engine."""
    rows = [row for row in report["rows"] if "problem" not in row]
    columns = [column for column in COLUMNS if any(row.get(column[1], "") != "" for row in rows)]
    cells = [[title for title, _, _ in columns]] + [[show(row[field]) for _, field, show in columns] for row in rows]
    about = "{model}, {height} x {width}, batch {batch}; {cpu}; {date}; {runs} runs in turn".format(**report)
    if style == "markdown":
        lines = [f"| {' | '.join(line)} |" for line in [cells[0], ["---"] * len(columns), *cells[1:]]]
        return "\n".join([about, "", *lines])
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join([about, *("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)])


def revision():
    """The revision of nphybrid, or "" without git."""
    try:
        return subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, text=True,
                              capture_output=True, check=False).stdout.strip()
    except OSError:
        return ""


def log(path, report, moment, load):
    """Append a line of JSON for each measured row to a file."""
    common = {"date": moment.isoformat(timespec="seconds"), "cpu": report["cpu"], "revision": revision(),
              "network": report["model"], "height": report["height"], "width": report["width"],
              "batch": report["batch"], "load": load}
    fields = ("engine", "version", "reads", "dtype", "requested", "precision", "threads", "median", "ratio", "peak",
              "error", "rms", "label")
    with open(path, "a", encoding="utf-8") as file:
        for row in report["rows"]:
            if "problem" not in row:
                quartiles = statistics.quantiles(row["seconds"], n=4) if len(row["seconds"]) > 1 else row["seconds"]
                found = {field: row[field] for field in fields if row.get(field, "") != ""}
                file.write(json.dumps({**common, **found, "quartiles": quartiles}) + "\n")


def say(text):
    """Print progress or a problem to stderr."""
    print(text, file=sys.stderr, flush=True)


def main():
    """Parse the command line, measure the times, and print a table.  -> exit code"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="R50+ViT-B/16", help="a path, or a preset that gets random weights")
    for name, default in ("batch", 1), ("threads", 2), ("runs", 11):
        parser.add_argument(f"--{name}", default=default, type=positive)
    parser.add_argument("--size", type=positive, help="the height and width of the pictures in pixels (default: the "
                        "size of the model)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the random weights")
    parser.add_argument("--ours", default="float32",
                        help="the rows of nphybrid: dtype[:precision], separated by commas")
    parser.add_argument("--peers", default="torch,onnxruntime,openvino",
                        help="the rows of other engines: engine[-dtype[:kind]], separated by commas. The kinds of int8 "
                        "are explained in benchmark_int8.py.")
    parser.add_argument("--start", action="store_true", help="measure whole processes that label a photograph")
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    parser.add_argument("--log", type=Path, help="append the measurement to this file of JSON Lines")
    args = parser.parse_args()
    load = load_average()
    if load is not None and load > QUIET:
        say(f"the load average of the machine is {load:.1f}: other programs may make the times longer")
    with tempfile.TemporaryDirectory(prefix="nphybrid-") as folder:
        rows = (from_the_start if args.start else against)(args, Path(folder))
        height, width = np.load(Path(folder) / "x.npy").shape[2:]
    report = dict(model=Path(args.model).name if os.path.exists(args.model) else args.model, height=height, width=width,
                  batch=args.batch, cpu=f"{cpu_name()} ({TARGET[1]})",   # "AMD EPYC" alone names several processors
                  date=f"{date.today():%Y-%m}", runs=args.runs, rows=rows)
    print(json.dumps(report, indent=2) if args.format == "json" else table(report, args.format))
    problems = [f"{row_name(row)}: {row['problem']}" for row in rows if "problem" in row]
    for problem in problems:
        say(problem)
    if args.log:
        log(args.log, report, datetime.now(timezone.utc), load)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
