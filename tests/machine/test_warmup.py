"""The first run says that it compiles; after a warm-up nothing is left to compile; pruning deletes stale folders."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nphybrid import ViTHybridForImageClassification, default_model, ops
from nphybrid.__main__ import main
from nphybrid.machine import warmup
from nphybrid.ops import cache, jit, reference
from nphybrid.training import Settings, finetune

from tools.process import python_environment, run_python

pytestmark = pytest.mark.slow

ROOT = Path(jit.__file__).parents[2]
no_jit = pytest.mark.skipif(bool(jit.config.DISABLE_JIT), reason="nothing is compiled, so nothing is kept")

# Every operation with every kind of argument of its tests, and whole networks of every kind.
EVERYTHING = """
from network import test_invariance
from oracles import cases
from nphybrid.ops import kernels
for operation, case in cases.ALL:
    cases.call(kernels, operation, case.arguments())
import numpy as np
for name in test_invariance.SIZES:
    model = test_invariance.model_of(name, "float32", 2, True)
    x = np.zeros((2, 3, *getattr(model.network_config, "image")), np.float32)
    model(x), model.trace(x)
"""


def begin(folder, *args):
    """A Python in the checkout whose kernels are kept in the folder."""
    environment = python_environment(NUMBA_CACHE_DIR=folder)
    return subprocess.Popen([sys.executable, *map(str, args)], cwd=ROOT, text=True, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(folder, *args, code=0):
    done = run_python(*args, cwd=ROOT, env=python_environment(NUMBA_CACHE_DIR=folder))
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def files(folder):
    """{path: (size, time of the last change)} of what is in a cache."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache folder with every kernel of the forward pass: a copy, because compiling takes 20 s."""
    warmup.compile_kernels()
    folder = tmp_path_factory.mktemp("cache")
    kernels = folder / "nphybrid" / cache.NAME
    kernels.mkdir(parents=True)
    for file in cache.files():
        if "gradient" not in file.name and not file.name.startswith("updates."):
            shutil.copy(file, kernels)
    return folder


@no_jit
def test_the_first_run_says_that_it_compiles(tmp_path):
    process = begin(tmp_path, "-m", "nphybrid", "classify", "examples/images/cat.png")
    try:
        assert process.stderr.readline() == "nphybrid: compiling kernels, which takes up to about 60 seconds …\n"
    finally:
        process.kill()
        process.communicate()


@no_jit
def test_a_run_that_compiles_prints_one_line_more(warm, tmp_path):
    """The line is also printed if a first run was interrupted, and only some kernels are missing."""
    folder = tmp_path / "cache"
    shutil.copytree(warm, folder)
    (missing,) = folder.rglob("*max_pool*.kernel")
    missing.unlink()
    for lines in ["nphybrid: compiling kernels, which takes up to about 60 seconds …"], []:
        out, err = run(folder, "-m", "nphybrid", "classify", "examples/images/cat.png", "--top-k", "1")
        assert out.split()[0] == "cat" and err.splitlines() == lines


@no_jit
def test_two_warmups_at_once(warm, tmp_path):
    """Two warm-ups at the same time compile the missing kernels, and both end well."""
    folder = tmp_path / "cache"
    shutil.copytree(warm, folder)
    missing = [path for path in folder.rglob("*.kernel") if re.search("max_pool|layer_norm|aligned", path.name)]
    assert len(missing) == 3, missing
    for path in missing:
        path.unlink()
    both = [begin(folder, "-m", "nphybrid", "warmup") for _ in range(2)]
    printed = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0] and "Traceback" not in str(printed), printed
    assert all(out.startswith(("compiled ", "already compiled, ")) for out, _ in printed)
    assert any(out.startswith("compiled ") for out, _ in printed)
    assert all(path.exists() for path in missing)
    assert run(folder, "-m", "nphybrid", "warmup")[0].startswith("already compiled, ")


@no_jit
def test_the_second_time_is_no_work(warm):
    before = files(warm)
    out, err = run(warm, "-m", "nphybrid", "warmup")
    assert out.startswith("already compiled, ") and err == "" and files(warm) == before
    kernels = {path.stem for path in before if path.suffix == ".kernel"} - {jit.MEMORY_MANAGER}
    assert f" {len(kernels)} kernels, " in out and str(warm) in out


@no_jit
def test_a_missing_memory_manager_is_missed(warm, tmp_path):
    """The doctor and `is_warm` compile nothing. The warm-up compiles it again."""
    folder = shutil.copytree(warm, tmp_path / "cache")
    (path,) = folder.rglob(f"{jit.MEMORY_MANAGER}.kernel")
    path.unlink()
    before = files(folder)
    run(folder, "-c", "from nphybrid.machine import warmup\nassert not warmup.is_warm()")
    assert "`nphybrid warmup` compiles the missing kernels" in run(folder, "-m", "nphybrid", "doctor")[0]
    assert files(folder) == before
    run(folder, "-m", "nphybrid", "warmup")
    assert files(folder).keys() == {*before, path}


@no_jit
def test_nothing_is_left_to_compile(warm):
    before = files(warm)
    out, err = run(warm, "-m", "nphybrid", "classify", "examples/images/cat.png")
    assert out.startswith("cat ") and err == ""
    run(warm, "-c", EVERYTHING)
    left = sorted(path.name for path in files(warm).keys() - before.keys())
    assert files(warm) == before, f"compiled after the warm-up: {left}"


def test_every_operation_is_called():
    """A new operation in OPERATIONS that the tiny networks do not call fails here."""
    called = set()

    class Recorder:
        def __getattr__(self, operation):
            called.add(operation)
            return getattr(reference, operation)
    warmup.run_tiny_networks(Recorder())
    assert called == set(ops.OPERATIONS) - {"activate"}             # only a Record calls `activate`


@no_jit
def test_what_went_missing_is_compiled_again(warm):
    code = "from nphybrid.machine.warmup import is_warm; print(is_warm())"
    assert run(warm, "-c", code)[0] == "True\n"
    (lost,) = warm.rglob("*max_pool*.kernel")
    lost.unlink()
    assert run(warm, "-c", code)[0] == "False\n"
    assert run(warm, "-m", "nphybrid", "warmup")[0].startswith("compiled 1, ")
    assert run(warm, "-c", code)[0] == "True\n" and lost.exists()


@no_jit
def test_damaged_kernels_are_found_and_compiled_again(warm, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(warm, folder)
    damaged = sorted([*folder.rglob("*max_pool*.kernel"), *folder.rglob("*layer_norm*.kernel")])
    for path in damaged:
        path.write_bytes(bytes(1000))
    out, _ = run(folder, "-m", "nphybrid", "doctor", code=1)
    assert f"PROBLEM  2 files of compiled kernels are damaged, for example {damaged[0]}" in out
    out, err = run(folder, "-m", "nphybrid", "warmup")
    assert out.startswith("compiled 2, ") and err.count("is damaged and is compiled again") == 2
    assert "no kernel is missing" in run(folder, "-m", "nphybrid", "doctor")[0]


@no_jit
def test_a_good_copy_makes_up_for_a_damaged_kernel(warm, tmp_path, monkeypatch):
    """A shared folder with a damaged file cannot be written. The kernel was compiled into the second folder."""
    shared, private = tmp_path / "shared", tmp_path / "private"
    for folder in shared, private:
        shutil.copytree(next(warm.glob("nphybrid/*")), folder)
    for path in private.glob("*.kernel"):
        path.unlink() if "max_pool" not in path.name else None
    (damaged,) = shared.glob("*max_pool*.kernel")
    damaged.write_bytes(bytes(1000))
    monkeypatch.setattr(cache, "folders", lambda create=False: iter([shared]))
    assert cache.damaged_files() == [damaged]
    monkeypatch.setattr(cache, "folders", lambda create=False: iter([shared, private]))
    assert cache.damaged_files() == [] and damaged.stem in cache.good_names()


@no_jit
def test_a_damaged_kernel_is_one_line_on_stderr(warm, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(warm, folder)
    (damaged,) = folder.rglob("*max_pool*.kernel")
    damaged.write_bytes(bytes(1000))
    out, err = run(folder, "-m", "nphybrid", "classify", "examples/images/cat.png")
    assert out.startswith("cat ") and err.splitlines() == [
        f"nphybrid: the compiled kernel {damaged} is damaged and is compiled again",
        "nphybrid: compiling kernels, which takes up to about 60 seconds …"]
    assert run(folder, "-m", "nphybrid", "classify", "examples/images/cat.png")[1] == ""


@no_jit
def test_the_doctor_knows_that_nothing_is_missing_without_a_warmup(warm):
    """Several runs may together have compiled all kernels."""
    before = files(warm)
    assert "no kernel is missing" in run(warm, "-m", "nphybrid", "doctor")[0] and files(warm) == before


@no_jit
def test_into_a_folder(tmp_path, warm):
    """The folder can be shipped. Kernels of the user's own cache are not used."""
    folder = tmp_path / "image"
    shutil.copytree(warm, folder)
    (missing,) = folder.rglob("*max_pool*.kernel")
    missing.unlink()
    out, _ = run(warm, "-m", "nphybrid", "warmup", "--into", folder)
    assert out.startswith("compiled 1, ") and str(folder) in out and missing.exists()
    before = files(folder)
    assert run(folder, "-m", "nphybrid", "warmup")[0].startswith("already compiled, ") and files(folder) == before
    (tmp_path / "file").write_text("")
    _, err = run(warm, "-m", "nphybrid", "warmup", "--into", tmp_path / "file", code=3)
    assert err.startswith("nphybrid: ") and str(tmp_path / "file") in err


@no_jit
def test_the_named_folder_is_filled_or_refused(warm, tmp_path):
    """Kernels in the private temporary folder do not count."""
    private = tmp_path / f"nphybrid-{os.getuid()}"
    private.mkdir(mode=0o700)
    shutil.copytree(next(warm.glob("nphybrid/*")), private / cache.NAME)
    named = tmp_path / "named"
    shutil.copytree(warm, named)
    (missing,) = named.rglob("*max_pool*.kernel")
    missing.unlink()
    environment = python_environment(NUMBA_CACHE_DIR=named, TMPDIR=tmp_path)
    done = run_python("-m", "nphybrid", "warmup", cwd=ROOT, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("compiled 1, ") and missing.exists()
    (tmp_path / "file").write_text("")
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "file")
    done = run_python("-m", "nphybrid", "warmup", cwd=ROOT, env=environment)
    assert done.returncode == 3 and done.stdout == "" and str(tmp_path / "file") in done.stderr


@no_jit
def test_prune(warm, tmp_path):
    """Only folders named like ours, beside ours, that are none in use; a link is left alone."""
    ours, elsewhere = warm / "nphybrid", tmp_path / "plain-0123456789abcdef"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("")
    stale = [ours / name for name in ("avx2-0123456789abcdef", "amx-ffffffffffffffff")]
    spared = [ours / name for name in ("avx2-0123456789abcde", "avx2-0123456789abcdeg", "avx2-0123456789abcdef.old",
                                       "0123456789abcdef", "mine")]
    for folder in (*stale, *spared, warm / "plain-0123456789abcdef"):
        (folder / "ops_x").mkdir(parents=True)
        (folder / "ops_x" / "a.nbc").write_bytes(bytes(2_000_000))
    (ours / "neon-0123456789abcdef").write_text("a file")
    if os.name == "posix":
        (ours / "plain-0123456789abcdef").symlink_to(elsewhere)
    before = files(warm)
    assert run(warm, "-m", "nphybrid", "warmup")[0].count("deleted") == 0 and files(warm) == before
    out = run(warm, "-m", "nphybrid", "warmup", "--prune")[0].splitlines()
    assert out[0].startswith("already compiled")
    assert sorted(out[1:]) == sorted(f"deleted {path}, 2.0 MB" for path in stale)
    gone = {path for path in before if any(folder in path.parents for folder in stale)}
    assert files(warm).keys() == before.keys() - gone and len(gone) == 2 and (elsewhere / "precious").exists()
    assert run(warm, "-m", "nphybrid", "warmup", "--prune")[0].count("deleted") == 0


def test_a_stale_folder_that_another_process_deletes(tmp_path, monkeypatch):
    """It is not an error.  A folder that stays is one."""
    folder = tmp_path / "avx2-0123456789abcdef"
    monkeypatch.setattr(warmup, "stale_folders", lambda: [warmup.Folder(folder, 1, 2)])
    assert warmup.prune() == {folder: 2}
    folder.mkdir()

    def refused(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr(warmup.shutil, "rmtree", refused)
    with pytest.raises(PermissionError, match="Permission denied: .*avx2-0123456789abcdef"):
        warmup.prune()


def test_nothing_can_be_kept(monkeypatch, capsys):
    monkeypatch.setattr(warmup, "is_warm", lambda: False)
    assert main(["warmup"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "nphybrid: the compiled kernels could not be stored\n"


def test_the_tiny_networks_are_tiny():
    """A warm-up compiles; it does not compute."""
    from nphybrid.modelfile.summary import summarize
    for config in warmup.HYBRID, warmup.BIT:
        assert sum(row.multiply_adds for row in summarize(config)) < 1_000_000


@no_jit
def test_after_a_warmup_for_training_a_run_compiles_nothing():
    """In this process, with all kernels of the backward pass and of the optimizers."""
    warmup.compile_kernels(training=True)
    before = len(jit.COMPILED)
    assert warmup.compile_kernels(training=True)[0] == 0
    model = ViTHybridForImageClassification.from_pretrained(default_model())
    pictures = [Image.new("RGB", (64, 64), (17 * i, 90, 90)) for i in range(12)]
    for optimizer, batch in ("adamw", 4), ("sgd", 12):
        settings = Settings(epochs=1, optimizer=optimizer, average=0.9, batch=batch)
        finetune(model, pictures, ["dark"] * 6 + ["bright"] * 6, settings)
    assert len(jit.COMPILED) == before
