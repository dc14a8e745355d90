"""`nphybrid bench`: its calculations, tables and exit codes.  No test asserts a speed."""
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from nphybrid import PRESETS, default_model, ops
from nphybrid.__main__ import main
from nphybrid.api.load import load
from nphybrid.api.presets import configuration, fresh
from nphybrid.machine import bench, limits
from nphybrid.machine.bench import Combination, combinations, format_report, measure, measure_in_process
from nphybrid.machine.profile import laps, stage
from nphybrid.modelfile import summary
from nphybrid.ops.target import MR, NR
from nphybrid.params import count, shapes
from nphybrid.trace import Stopwatch, time_states

pytestmark = pytest.mark.slow

BUNDLED = str(default_model())
HERE = {"cpu": "Some CPU", "isa": "avx2", "tile": [6, 16], "versions": {"nphybrid": "0.1.0", "Python": "3.12.1"},
        "load_average": 0.5, "limits": {"fma": 100.0, "tile": 80.0, "share": 0.8}}
ROW = {**Combination("m.h5")._asdict(), "parameters": 1000, "gflop": 0.5, "start": 1.0, "load": 0.25, "first": 0.125,
       "compiled": 0, "median": 0.01, "fastest": 0.009, "slowest": 0.02, "images_per_second": 100.0, "gflops": 50.0,
       "limit": 100.0, "share": 0.5, "change": None, "peak_memory": 123_456_789, "profile": None}
PROFILE = {"seconds": 0.01, "states": [], "stages": [
    {"name": "stem", "seconds": 0.004, "share": 0.4, "gflops": 25.0},
    {"name": "norms", "seconds": 0.006, "share": 0.6, "gflops": None}]}
FAILED = {**Combination("m.h5", threads=2)._asdict(), "error": "the process ended with SIGKILL"}


@pytest.fixture(scope="module")
def figures():
    """What one combination gives, with a profile."""
    return measure(Combination(BUNDLED, batch=2, runs=5, profile=True))


# -- one row ---------------------------------------------------------------------------------------

def test_the_arithmetic_of_a_row(figures):
    config = load(BUNDLED, engine="reference").network_config
    gflop = 2e-9 * sum(state.multiply_adds for state in summary.summarize(config, needed=1))
    assert figures["gflop"] == gflop and figures["parameters"] == 1_469_834
    assert figures["images_per_second"] == 2 / figures["median"]
    assert figures["gflops"] == pytest.approx(gflop * figures["images_per_second"])
    assert figures["share"] == figures["gflops"] / figures["limit"]
    assert 0 < figures["fastest"] <= figures["median"] <= figures["slowest"]
    assert min(figures[key] for key in ("start", "load", "first", "limit")) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="no VmHWM")
def test_peak_memory_is_this_process_own(figures):
    import resource
    most = 1.02 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss     # counted a moment apart
    assert 4 * figures["parameters"] < figures["peak_memory"] <= most


def test_runs_are_the_calls_that_count(monkeypatch):
    """The first call is a figure of its own, the next three are none, and the median is that of the rest."""
    spent = iter([9.0, 8.0, 7.0, 6.0, 3.0, 1.0, 2.0])
    monkeypatch.setattr(bench, "_seconds", lambda model, x: next(spent))
    found = measure(Combination(BUNDLED, engine="reference", dtype="float64", runs=3))
    assert [found[key] for key in ("first", "fastest", "median", "slowest")] == [9, 1, 2, 3]
    assert found["limit"] is found["share"] is None and found["compiled"] == 0


def test_the_recording_of_a_plan_does_not_count(monkeypatch):
    """Nor does the first repetition of the plan."""
    from nphybrid.ops import plans
    calls = []
    plain = plans.record
    monkeypatch.setattr(bench, "_seconds", lambda model, x: calls.append(0) or model(x) and 1.0)
    monkeypatch.setattr(plans, "record", lambda *arguments: calls.append(1) or plain(*arguments))
    measure(Combination(BUNDLED, runs=2))
    assert calls.index(1) + 1 == bench.UNCOUNTED and sum(calls) == 1        # calls.index(1) calls, and a repetition


@pytest.mark.parametrize("engine, dtype", ops.PAIRS)
def test_every_pair_is_measured(engine, dtype):
    found = measure(Combination(BUNDLED, engine, dtype, runs=1))
    assert found["median"] > 0
    config = load(BUNDLED, engine="reference").network_config
    states = summary.summarize(config, needed=None if engine == "reference" else 1)
    assert found["gflop"] == 2e-9 * sum(state.multiply_adds for state in states)


@pytest.mark.parametrize("option", ["output_hidden_states", "output_attentions"])
def test_a_model_that_always_returns_states_computes_all_tokens(option, tmp_path):
    model = load(BUNDLED)
    setattr(model.config, option, True)
    model.save_pretrained(tmp_path)
    states = summary.summarize(model.network_config)
    assert measure(Combination(str(tmp_path), runs=1))["gflop"] == 2e-9 * sum(state.multiply_adds for state in states)


def test_a_preset_has_random_weights():
    found = measure(Combination("R+ViT-Ti/16", runs=1))
    assert found["parameters"] == count(shapes(PRESETS["R+ViT-Ti/16"]))
    states = summary.summarize(PRESETS["R+ViT-Ti/16"], needed=1)
    assert found["gflop"] == 2e-9 * sum(state.multiply_adds for state in states)


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_configuration_is_that_preset(name):
    sizes = configuration(PRESETS[name]).network_config()
    assert sizes.classes == 1000 and sizes.feature_map == PRESETS[name].feature_map
    assert replace(sizes, feature_stage=-1) == PRESETS[name]


def test_the_seed_decides_a_presets_weights():
    weights = [fresh("R+ViT-Ti/16", seed=seed, engine="reference").state_dict()["classifier.weight"].tobytes()
               for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]


# -- the profile -----------------------------------------------------------------------------------

def test_a_profile_has_every_state_and_all_its_work(figures):
    profile = figures["profile"]
    work = {kind: sum(lap["gflops"] * lap["seconds"] for lap in profile[kind] if lap["gflops"])
            for kind in ("stages", "states")}
    states = summary.summarize(load(BUNDLED, engine="reference").network_config)
    gflop = 2e-9 * sum(state.multiply_adds for state in states)
    assert figures["gflop"] < gflop       # a profile computes all tokens of the last block
    assert work == {kind: pytest.approx(2 * gflop) for kind in work}, "2 images"
    for kind in work:
        assert sum(lap["share"] for lap in profile[kind]) == pytest.approx(1)
    names = [lap["name"] for lap in profile["stages"]]
    assert names == ["input", "stem", "stages.0", "stages.1", "tokens", "norms", "query, key, value", "attention",
                     "out", "fc1", "fc2", "head", "output"]
    assert [lap["name"] for lap in profile["states"]] == [*(state.name for state in states), "output"]


def test_the_states_add_up_to_the_call():
    model = load(BUNDLED, num_threads=1)
    x = np.zeros((8, 3, 64, 64), np.float32)
    model(x)
    apart = []                            # the least of five: a process may be held up between two looks at the clock
    for _ in range(5):
        start = time.perf_counter()
        seconds = time_states(lambda out: model.run_into(out, x))
        apart.append(abs(sum(seconds.values()) / (time.perf_counter() - start) - 1))
        assert min(seconds.values()) >= 0
    assert min(apart) <= 0.03


def test_laps_by_hand():
    """Three calls: a stage's time is the median of its sums, not the sum of its medians."""
    calls = [{"stem.conv": 1.0, "stem": 5.0, "blocks.0": 2.0, "blocks.1": 2.0},
             {"stem.conv": 3.0, "stem": 1.0, "blocks.0": 2.0, "blocks.1": 2.0},
             {"stem.conv": 2.0, "stem": 3.0, "blocks.0": 1.0, "blocks.1": 6.0}]
    stem, fc2 = laps(calls, {"stem.conv": 5e9, "blocks.1": 1e9})
    assert stem == ("stem", 5.0, 5 / 9, 2.0) and fc2 == ("fc2", 4.0, 4 / 9, 0.5)
    assert [lap.seconds for lap in laps(calls, {}, str)] == [2.0, 3.0, 2.0, 2.0]
    assert {lap.gflops for lap in laps(calls, {})} == {None}


def test_every_state_has_a_stage():
    known = {"input", "stem", *(f"stages.{s}" for s in range(4)), "tokens", "norms", "query, key, value", "attention",
             "out", "fc1", "fc2", "head", "output"}
    for name in "R50+ViT-L/32", "BiT-R50x1":
        assert {stage(state.name) for state in summary.summarize(PRESETS[name])} <= known
    assert stage("blocks.11.weights") == "attention" and stage("stages.2.0.norm1") == "stages.2"
    assert stage("something.new") == "something.new"


def test_a_stopwatch_stamps_each_state():
    def call(out):
        time.sleep(0.02)
        out["stem"] = np.ones(1)
        out.at("blocks.0")["norm1"] = 1
        assert not out.wants("blocks.0.weights")
        time.sleep(0.01)
    seconds = time_states(call)
    assert list(seconds) == ["stem", "blocks.0.norm1", "output"] and not Stopwatch()
    assert seconds["stem"] >= 0.02 and seconds["output"] >= 0.01 > seconds["blocks.0.norm1"]


# -- the limits ------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 2])
def test_a_speed_is_work_by_time(n):
    """A loop that takes a millisecond a round has a known speed, and two of them at once have twice that."""
    rounds = []

    def loop():
        return lambda count: (time.sleep(0.001 * count), rounds.append(count)), 1e6
    start = time.perf_counter()
    speed = limits.speed(loop, n, 0.1)
    assert 0.1 <= time.perf_counter() - start
    # All rounds, less those that find out how many make a slice, took at least the 0.1 s.
    assert 0 < speed <= 2e-9 * 1e6 * sum(rounds) / 0.1
    assert speed <= 2 * n * 1.01


@pytest.mark.skipif(limits.ISA == "plain", reason="its limit is its tile")
def test_the_registers_really_multiply_and_add():
    x = np.full((MR * limits.NV + 1) * limits.LANES, 3, np.float32)
    limits._multiply_add(x, 5)
    assert (x.reshape(-1, limits.LANES).T == [3, *(i + 5 * 9 for i in range(MR * limits.NV))]).all()
    assert limits.register_loop()[1] == MR * NR


def test_the_tile_out_of_L1_is_the_tile():
    x, b, c = (np.full(size, 0.5, np.float32) for size in (128 * MR, 128 * NR, MR * NR))
    limits._tiles(x, np.arange(MR) * 128, b, c, 3)
    assert (c == 128 / 4).all()
    assert limits.tile_loop()[1] == 128 * MR * NR


# -- rows in processes -----------------------------------------------------------------------------

def test_combinations():
    wanted = combinations(None, "reference", ["float32", "float64"], ["highest"], [1, 2], [1, 4], 3, True)
    assert [(each.dtype, each.threads, each.batch) for each in wanted[:4]] == [
        ("float32", 1, 1), ("float32", 1, 4), ("float32", 2, 1), ("float32", 2, 4)]
    assert len(wanted) == 8 and {(each.model, each.runs, each.profile) for each in wanted} == {(BUNDLED, 3, True)}
    with pytest.raises(FileNotFoundError, match="nowhere.h5 is not a file, a folder or a preset; the presets are"):
        combinations("nowhere.h5", "numba", ["float32"], ["highest"], [1], [1], 1, False)


def test_without_a_plan(monkeypatch):
    """The calls of a row repeat a plan, unless --no-plan is given."""
    made = []
    monkeypatch.setattr(bench, "_seconds", lambda model, x: made.append(model.plans) or 1.0)
    for plan in True, False:
        measure(Combination(BUNDLED, runs=1, plan=plan))
    calls = bench.UNCOUNTED + 1
    assert len(made) == 2 * calls and all(made[:calls]) and not any(made[calls:])
    found = []
    monkeypatch.setattr(bench, "measure_in_process", lambda combination: found.append(combination.plan) or FAILED)
    for option in [], ["--no-plan"]:
        main(["bench", "--threads", "1", *option])
    assert found == [True, False]


def test_json_has_a_row_per_combination(capsys):
    """Each has its own process: the second row's peak does not remember the first one's 48 pictures."""
    assert main("bench --engine reference --threads 1 --batch 48,1 --runs 1 --format json".split()) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"machine", "rows"} and document["machine"]["limits"]["tile"] > 0
    many, one = document["rows"]
    assert [(each["batch"], each["threads"], each["engine"]) for each in (many, one)] == [
        (48, 1, "reference"), (1, 1, "reference")]
    assert many["images_per_second"] == 48 / many["median"]
    if sys.platform == "linux":
        assert many["peak_memory"] - one["peak_memory"] > 48 * 32 * 32 * 64 * 4, "the first feature map"


def test_the_process_imports_this_copy_of_the_package(monkeypatch):
    """PYTHONPATH begins with the folder that holds nphybrid, not with a folder inside it."""
    def refuse(command, env, **options):
        folder = Path(env["PYTHONPATH"].split(os.pathsep)[0])
        raise ValueError(f"{folder / 'nphybrid' / 'machine' / 'bench.py'}")
    monkeypatch.setattr(bench.subprocess, "run", refuse)
    with pytest.raises(ValueError) as found:
        measure_in_process(Combination(BUNDLED))
    assert Path(str(found.value)) == Path(bench.__file__).resolve()


def test_markdown_of_a_real_run(capsys):
    assert main("bench --engine reference --threads 1 --runs 1 --profile --format markdown".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {16, 5} and "| head | " in "\n".join(tables)


def test_a_child_that_is_killed_costs_its_own_row(tmp_path, monkeypatch, capsys):
    if os.name != "posix":
        pytest.skip("no signals")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$3" in *\'"batch": 4\'*) kill -9 $$;; esac\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert main("bench --engine reference --threads 1 --batch 4,1 --runs 1".split()) == 1
    killed, good = capsys.readouterr().out.splitlines()[-2:]
    assert killed.endswith("the process ended with SIGKILL") and good.split()[:3] == ["float32", "1", "1"]


def test_a_refusal_is_told_once_and_exits_with_3(tmp_path, capsys):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(default_model().read_bytes()[:100_000])
    assert main(["bench", str(broken), *"--threads 1 --runs 1".split()]) == 3
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("nphybrid: ") and printed.err.count("broken.h5") == 1
    with pytest.raises(ValueError, match="expected one of the dtypes float32, bfloat16"):
        measure_in_process(Combination(BUNDLED, dtype="float64"))


@pytest.mark.parametrize("line, told", [
    ("bench nowhere.h5", "is not a file, a folder or a preset"),
    ("bench --engine numba --dtype float64", "float64': expected one of the dtypes float32, bfloat16"),
    ("bench --threads 1,1025", "threads: found 1025; expected at most 1024")])
def test_refusals_come_before_any_measurement(line, told, monkeypatch, capsys):
    monkeypatch.setattr(bench, "describe_machine", lambda: pytest.fail("it measured"))
    assert main(line.split()) == 3 and told in capsys.readouterr().err


@pytest.mark.parametrize("options", ["--threads 0", "--threads 1,,2", "--batch x", "--dtype float16", "--engine cuda",
                                     "--precision lowest",
                                     "--runs 0", "--format xml", "a.h5 b.h5"])
def test_wrong_usage_exits_with_2(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *options.split()])
    assert stopped.value.code == 2 and ": error: " in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="no list of a process's children")
def test_an_interrupt_ends_it_quietly(root):
    """Ctrl-C reaches the whole group: 130, one line, and no traceback of the process within."""
    command = [sys.executable, "-m", "nphybrid", *"bench --engine reference --threads 1 --runs 100000".split()]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    children, until = Path(f"/proc/{process.pid}/task/{process.pid}/children"), time.monotonic() + 60
    while not children.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "nphybrid: stopped\n")


# -- tables ----------------------------------------------------------------------------------------

def test_text():
    high = {**ROW, "precision": "high", "share": None, "peak_memory": None}
    lines = format_report(HERE, [ROW, high, FAILED]).splitlines()
    assert lines[:4] == ["Some CPU, avx2, tile 6 x 16", "nphybrid 0.1.0, Python 3.12.1",
                         "one core: 100 GFLOP/s in registers, 80 GFLOP/s (80%) in the register tile with data from L1",
                         "m.h5, engine numba: 1,000 parameters, 0.5 GFLOP per image; median of 11 calls"]
    head, first, second, failed = lines[5:]
    assert head.split()[0] == "dtype" and head.endswith("peak MB")
    assert first.split() == "float32 1 1 1.00 0.25 0.12 10.00 9.00 20.00 100.00 50.0 50% 1.00 - 123".split()
    assert second.startswith("float32 high ") and second.split()[-4:] == ["-", "1.00", "-", "-"]
    assert failed.split()[:3] == ["float32", "2", "1"] and failed.endswith("the process ended with SIGKILL")
    assert len({len(line) for line in (head, first, second, failed)}) == 1, "right edges are one line"


def test_a_machine_that_is_not_quiet():
    told = "load average 1.3: other programs may make the times longer"
    assert told in format_report({**HERE, "load_average": 1.3}, [ROW]).splitlines()
    assert "load average" not in format_report(HERE, [ROW]) + format_report({**HERE, "load_average": None}, [ROW])


def test_the_change_by_rounding():
    """Against the definition: the same pictures in float32."""
    found = {dtype: measure(Combination(BUNDLED, dtype=dtype, runs=1))["change"] for dtype in ("float32", *ops.NARROW)}
    model = load(BUNDLED)
    x = bench._noise(model, 1)
    exact = model(x).logits
    for dtype in ops.NARROW:
        assert found[dtype] == np.abs(load(BUNDLED, dtype=dtype)(x).logits - exact).max() / exact.std() > 1e-3
    assert found["float32"] is None


def test_a_profile_as_text_and_the_kernels_that_were_compiled():
    text = format_report(HERE, [{**ROW, "threads": 2, "profile": PROFILE, "compiled": 7}])
    assert "float32, 2 threads, batch 1: 7 kernels were compiled" in text
    assert text.split("\n\n")[-2:] == ["float32, 2 threads, batch 1:", "\n".join([
        "stage           ms  of time  GFLOP/s",
        "stem         4.000    40.0%     25.0",
        "norms        6.000    60.0%        -",
        "whole call  10.000"])]


def test_markdown():
    text = format_report(HERE, [{**ROW, "profile": PROFILE}, FAILED], "markdown")
    table, profile = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    for lines in table, profile:
        assert len({line.count("|") for line in lines}) == 1
        assert set(lines[1].replace("|", " ").split()) == {":--", "--:"}
    assert table[0].startswith("| dtype | threads |") and table[2].startswith("| float32 | 1 | 1 | 1.00 |")
    assert profile[2] == "| stem | 4.000 | 40.0% | 25.0 |"


def test_json():
    assert json.loads(format_report(HERE, [ROW, FAILED], "json")) == {"machine": HERE, "rows": [ROW, FAILED]}


def test_the_limits_of_the_table_are_medians(monkeypatch):
    speeds = iter([10, 1, 30, 5, 20, 2, 50, 3, 40, 4])
    monkeypatch.setattr(limits, "speed", lambda loop, seconds: next(speeds))
    machine = bench.describe_machine()
    assert machine["load_average"] >= 0
    assert machine["limits"] == {"fma": median([10, 30, 20, 50, 40]), "tile": 3, "share": 0.1}
