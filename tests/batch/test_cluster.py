"""A cluster computes the rows that one process computes, whatever happens to its workers."""
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nphybrid import default_model
from nphybrid.__main__ import main
from nphybrid.api.load import load
from nphybrid.batch import cluster, run
from nphybrid.checkpoint import Head, write_head

from tools.folders import write_pictures

pytestmark = pytest.mark.slow

distributed = pytest.importorskip("distributed")

COUNT, BROKEN, PART = 80, 8, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pictures of which some are broken: its path, and theirs."""
    path = tmp_path_factory.mktemp("pictures")
    return path, write_pictures(path, COUNT, BROKEN)[0]


@pytest.fixture(scope="module")
def client():
    """A client of two worker processes, each with a thread; one that dies is replaced."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers, \
            distributed.Client(workers) as client:
        yield client


@pytest.fixture(scope="module")
def scheduler():
    """A client of a scheduler that has no workers yet."""
    with distributed.LocalCluster(n_workers=0, protocol="tcp", dashboard_address=":0") as workers, \
            distributed.Client(workers) as client:
        yield client


@pytest.fixture
def head(tmp_path):
    """The path of a head for the bundled model."""
    kernel = np.random.default_rng(0).standard_normal((192, 2)).astype(np.float32)
    path, bias = tmp_path / "head.h5", np.zeros(2, np.float32)
    write_head(path, Head(kernel, bias, ["left", "right"], None, "norm", "token", {}))
    return str(path)


@pytest.fixture(autouse=True)
def all_there(request):
    """Both workers run again when the next test begins."""
    if "client" in request.fixturenames:
        request.getfixturevalue("client").wait_for_workers(2, timeout=120)


def here(sources, **options):
    model = load(default_model())
    return list(run.compute_rows(sources, run.preparer(model.processor), lambda x: model(x).logits, **options))


def told(rows):
    """Rows as values that are equal only if all bits are."""
    return [(row.position, row.source, row.result.tobytes() if row.error is None else str(row.error)) for row in rows]


def kill_when_it_is_needed(client, killed):
    """Return a thread that sends SIGKILL to a worker which has tasks or results, and appends the worker to `killed`.

    The worker is stopped first, so that it cannot finish its tasks before SIGKILL comes.
    """
    worker, process = sorted(client.run(os.getpid).items())[0]
    os.kill(process, signal.SIGSTOP)

    def kill():
        try:
            until(lambda: client.processing()[worker] or client.has_what()[worker])
            killed.append(worker)
        finally:
            os.kill(process, signal.SIGKILL)
    thread = threading.Thread(target=kill)
    thread.start()
    return thread


# ---------------------------------------------------------------- the same rows

def test_rows_are_those_of_one_process_and_each_worker_loads_once(client, folder, tmp_path):
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/new\nline \xff.png")
    os.symlink(folder[1][0], strange)
    sources = [*folder[1], strange, open(folder[1][2], "rb").read()]
    found = list(cluster.compute_rows(client, sources, cluster.job(batch=3), part=PART))
    assert told(found) == told(here(sources)) and sum(row.error is not None for row in found) == BROKEN
    assert told(cluster.compute_rows(client, sources, cluster.job(batch=3), 7, part=64)) == told(found)[7:]
    assert list(client.run(lambda: cluster.load_once.cache_info().misses).values()) == [1, 1]


def test_a_task_computes_on_as_many_threads_as_the_job_says(folder, monkeypatch):
    both = threading.Barrier(2, timeout=60)

    def compute(x):
        both.wait()
        return x
    monkeypatch.setattr(cluster, "load_functions", lambda job: (lambda source: np.zeros((1, 1, 1)), compute))
    assert len(cluster.compute_part(folder[1][:16], cluster.job(num_threads=2))) == 16


def test_every_thread_gets_something_of_a_short_list(client, folder, monkeypatch):
    parts, submit = [], client.submit
    monkeypatch.setattr(client, "submit", lambda function, part, *args, **options: (
        parts.append(len(part)), submit(function, part, *args, **options))[1])
    monkeypatch.setattr(cluster, "PART", 9)
    for sources, expected in ((iter(folder[1][:40]), [5] * 8), (folder[1][:3], [1] * 3), ([], []),
                              (folder[1], [9] * 8 + [8])):
        assert len(list(cluster.compute_rows(client, sources, cluster.job()))) == sum(expected)
        assert parts == expected
        parts.clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt of glibc, getrusage")
def test_a_worker_keeps_the_memory_of_arrays(client, folder):
    """With Dask's setting of malloc 1,000 pages are cleared for each picture, without it 1."""
    def pages():
        return sum(client.run(lambda: __import__("resource").getrusage(0).ru_minflt).values())
    list(cluster.compute_rows(client, folder[1], cluster.job(), part=PART))
    before = pages()
    list(cluster.compute_rows(client, folder[1], cluster.job(), part=PART))
    assert (pages() - before) / COUNT < 500


def test_in_a_graph_of_one_s_own(client, folder):
    import dask.bag
    bag = dask.bag.from_sequence(folder[1], partition_size=30).map_partitions(cluster.compute_part, cluster.job())
    results = [row.result for row in client.compute(bag, sync=True)]
    assert [b"" if x is None else x.tobytes() for x in results] == \
        [b"" if row.result is None else row.result.tobytes() for row in here(folder[1])]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("verb, name", [("classify", "x.csv"), ("embed", "x.h5")])
def test_one_worker_is_killed_and_the_file_is_the_same(verb, name, client, folder, tmp_path, monkeypatch):
    """It has the bytes that a single process writes."""
    command = [verb, str(folder[0]), "--quiet", *(["--format", name[2:]] if verb == "classify" else []), "-o"]
    assert main([*command, str(tmp_path / name)]) == 1
    threads, killed = [], []

    def killing(*args, rows=cluster.compute_rows):
        for row in rows(*args, part=PART):
            if row.position == 0:
                threads.append(kill_when_it_is_needed(client, killed))
            yield row
    monkeypatch.setattr(cluster, "compute_rows", killing)
    (tmp_path / "far").mkdir()
    assert main([*command, str(tmp_path / "far" / name), "--scheduler", client.scheduler.address]) == 1
    for thread in threads:
        thread.join()
    assert len(killed) == 1 and killed[0] not in client.nthreads()
    for made in (path for path in tmp_path.iterdir() if path.is_file()):
        assert (tmp_path / "far" / made.name).read_bytes() == made.read_bytes()


def test_a_head_goes_with_the_model(client, folder, head, tmp_path):
    command = ["classify", folder[1][0], "--head", head, "--format", "csv", "-o"]
    assert main([*command, str(tmp_path / "here.csv")]) == 0
    assert main([*command, str(tmp_path / "there.csv"), "--scheduler", client.scheduler.address]) == 0
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert b"left" in (tmp_path / "here.csv").read_bytes()


def test_begun_here_and_continued_there(client, folder, tmp_path):
    out = tmp_path / "x.jsonl"
    command = ["classify", str(folder[0]), "--quiet", "--format", "jsonl", "-o", str(out)]
    assert main(command) == 1
    whole = out.read_bytes()
    out.write_bytes(whole[:len(whole) // 2])
    assert main([*command, "--resume", "--scheduler", client.scheduler.address]) == 1
    assert out.read_bytes() == whole


def test_interrupt(client, folder, tmp_path):
    """Ctrl-C: exit code 130 within seconds, complete rows, and the cluster computes nothing more."""
    out = tmp_path / "x.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "nphybrid", "classify", *folder[1] * 50, "--format", "jsonl", "--output", out, "--quiet",
         "--scheduler", client.scheduler.address], stderr=subprocess.PIPE)
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == b"" and time.monotonic() - start < 5
    positions = [json.loads(line)["position"] for line in out.read_bytes().splitlines()]
    assert positions == list(range(len(positions))) and 0 < len(positions) < COUNT * 50
    until(lambda: not any(client.processing().values()))


# ---------------------------------------------------------------- workers that cannot compute

@pytest.fixture
def lost(client, folder, tmp_path, monkeypatch):
    """A worker for which the relative paths of the pictures lead nowhere, and those paths."""
    monkeypatch.chdir(folder[0])
    before = client.run(os.getcwd)
    client.run(os.chdir, str(folder[0]))
    worker = sorted(before)[0]
    client.run(os.chdir, str(tmp_path), workers=[worker])
    yield worker, [os.path.basename(path) for path in folder[1]]
    for address, path in before.items():
        client.run(os.chdir, path, workers=[address])


def test_a_worker_that_does_not_see_the_pictures_is_refused(client, lost):
    worker, paths = lost
    with pytest.raises(OSError, match=f"^the worker {worker} cannot compute the job: the path 0000.png of the "
                                      "pictures does not exist; the working folder is "):
        next(cluster.compute_rows(client, paths, cluster.job()))


def test_what_fails_is_computed_elsewhere(client, lost, monkeypatch):
    """A worker that joined later, or lost its disk: it does not report that pictures are missing."""
    monkeypatch.setattr(cluster, "check_workers", lambda client, job: None)
    assert told(cluster.compute_rows(client, lost[1], cluster.job(), part=PART)) == told(here(lost[1]))


def test_what_fails_everywhere_ends_the_run(client, folder, head, tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(default_model().read_bytes())
    job = cluster.job(str(path), head=head)
    for i in range(3):
        other = job._replace(digests=(*job.digests[:i], "0" * 64, *job.digests[i + 1:]))
        with pytest.raises(OSError, match="differs from the model of the client. The SHA-256 values of weights, "
                                          "head and settings are .*; expected .*0{64}"):
            next(cluster.compute_rows(client, folder[1], other))
    with pytest.raises(OSError, match=r"nphybrid .* is installed; expected 7\.0, the version of the client"):
        next(cluster.compute_rows(client, folder[1], job._replace(version="7.0")))
    for what, lost in ("head", head), ("model", path):
        os.unlink(lost)
        with pytest.raises(OSError, match=f"the path {lost} of the {what} does not exist; the working folder is "):
            next(cluster.compute_rows(client, folder[1], job))


def test_the_reason_of_a_part_that_failed_is_one_line():
    class Failed:
        def result(self):
            raise RuntimeError("cancelled:\n  the scheduler is gone\n")
    with pytest.raises(OSError) as error:
        cluster._part_rows(64, Failed(), None)
    assert str(error.value) == \
        "the part that begins at picture 64 could not be computed: cancelled: the scheduler is gone"


def test_a_worker_refuses_a_model_that_changes_while_it_is_loaded(tmp_path, monkeypatch):
    path = tmp_path / "x.h5"
    path.write_bytes(default_model().read_bytes())
    job, load = cluster.job(str(path), engine="reference"), cluster.load

    def changed_meanwhile(*args, **options):
        model = load(*args, **options)
        model.config.id2label[0] = "another name"
        model.save(path)
        return model
    monkeypatch.setattr(cluster, "load", changed_meanwhile)
    cluster.load_once.cache_clear()
    with pytest.raises(ValueError, match="differs from the model of the client"):
        cluster.load_functions(job)


@pytest.mark.parametrize("lacks", ["nphybrid", "numba"])
def test_a_worker_that_lacks_a_package(lacks, scheduler, folder):
    code = f"import sys; sys.modules[{lacks!r}] = None; from distributed.cli.dask_worker import main; main()"
    worker = subprocess.Popen([sys.executable, "-c", code, scheduler.scheduler.address, "--no-nanny", "--no-dashboard"],
                              stderr=subprocess.DEVNULL)
    try:
        scheduler.wait_for_workers(1, timeout=120)
        with pytest.raises(OSError, match=lacks):
            next(cluster.compute_rows(scheduler, folder[1], cluster.job()))
    finally:
        worker.kill()
        worker.wait()
        until(lambda: not scheduler.nthreads())


def test_a_scheduler_that_dies(folder, tmp_path):
    """One line on stderr, and complete rows."""
    out = tmp_path / "x.jsonl"
    start = ("from distributed import LocalCluster; import time; c = LocalCluster(n_workers=1, protocol='tcp', "
             "processes=False, dashboard_address=':0'); print(c.scheduler_address, flush=True); time.sleep(600)")
    scheduler = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    try:
        address = scheduler.stdout.readline().strip()
        process = subprocess.Popen(
            [sys.executable, "-m", "nphybrid", "classify", *folder[1] * 50, "--format", "jsonl", "-o", out, "--quiet",
             "--scheduler", address], stderr=subprocess.PIPE, text=True)
        until(lambda: out.exists() and out.stat().st_size or process.poll() is not None)
    finally:
        scheduler.kill()
        scheduler.wait()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3 and err.startswith("nphybrid: ") and err.count("\n") == 1, err
    assert out.read_bytes().endswith(b"\n")


def test_a_scheduler_that_is_not_there(folder, capsys):
    import dask
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert main(["classify", str(folder[0]), "--scheduler", "tcp://127.0.0.1:9"]) == 3
    assert "tcp://127.0.0.1:9" in capsys.readouterr().err


def until(happened, seconds=60):
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)
