"""A verb reads and checks its model once, and hashes what it loaded."""
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from importlib import import_module

import numpy as np
import pytest

from nphybrid import FormatError, ViTHybridForImageClassification, checkpoint, cli, default_model
from nphybrid.batch import cluster, resume
from nphybrid.batch.identity import ModelFile, model_files
from nphybrid.checkpoint import hub, sha256
from nphybrid.cli import options
from nphybrid.cli.loading import load_model, loaded_sha256, model_file

load_module = import_module("nphybrid.api.load")

# The audit hook sees every file that Python opens; `shapes` is replaced before any other module imports it.
COUNTING = """
import json, os, sys
opened, called = [], []
def count(event, args):
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        opened.append(os.path.basename(os.fsdecode(args[0])))
sys.addaudithook(count)
from nphybrid import params
shapes = params.shapes
def counted(*args, **options):
    called.append(args)
    return shapes(*args, **options)
params.shapes = counted
from nphybrid.cli import main
code = main(sys.argv[2:])
print(json.dumps([code, opened.count(sys.argv[1]), len(called)]))
"""


def counts(root, name, *args):
    """How often a run opens the files of a name, and how often it builds the tree of shapes."""
    done = subprocess.run([sys.executable, "-c", COUNTING, name, *map(str, args)], cwd=root, text=True, timeout=120,
                          capture_output=True)
    code, opens, calls = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return opens, calls


def arguments(path, head=None):
    return Namespace(model=str(path), engine="reference", dtype="float32", precision="highest", threads=1, head=head,
                     processor=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The bundled model as a folder of Hugging Face."""
    path = tmp_path_factory.mktemp("models") / "folder"
    ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference").save_pretrained(path)
    return path


# ---------------------------------------------------------------- once

@pytest.fixture(scope="module")
def bundled(root):
    return counts(root, default_model().name, "classify", "examples/images/cat.png")


@pytest.fixture(scope="module")
def from_folder(root, folder):
    return counts(root, "model.safetensors", "classify", "examples/images/cat.png", "--model", folder)


def test_classify_builds_the_tree_of_shapes_once(bundled, from_folder):
    assert bundled[1] == from_folder[1] == 1


def test_classify_opens_its_model_once(bundled):
    """What the file is, where its arrays lie and what they hold is read from one open file."""
    assert bundled[0] == 1


def test_classify_opens_the_weights_of_a_folder_once(from_folder):
    assert from_folder[0] == 1


def test_an_output_opens_the_model_once_more_for_its_hash(bundled, cat, root, tmp_path):
    opens, calls = counts(root, default_model().name, "classify", cat, "-o", tmp_path / "x.csv", "--format", "csv")
    assert opens == 2 and calls == 1


# ---------------------------------------------------------------- what is hashed is what was loaded

def test_the_hash_is_that_of_the_file(folder):
    for path in default_model(), folder:
        args = arguments(path)
        load_model(args)
        assert loaded_sha256(args) == model_file(args).sha256() == sha256(path)
        assert loaded_sha256(args, "head") is None


def replace(path):
    """Put a file with other bytes, but with the same size and time, in the place of a file."""
    before, other = os.stat(path), path.with_name("other")
    shutil.copyfile(path, other)
    overwrite(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


def overwrite(path):
    """Write another weight into a file, and set its time back, as `cp -p` and `rsync --inplace` do."""
    before, middle = os.stat(path), os.path.getsize(path) // 2
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.seek(middle)
        file.write(bytes([data[middle] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def append(path):
    """Write more bytes to a file."""
    with open(path, "ab") as file:
        file.write(b"more")


CHANGES = pytest.mark.parametrize("change", [replace, overwrite, append])


@CHANGES
def test_a_model_that_changed_after_it_was_loaded_is_not_hashed(change, tmp_path):
    path = tmp_path / "model.h5"
    shutil.copyfile(default_model(), path)
    args = arguments(path)
    load_model(args)
    change(path)
    with pytest.raises(FormatError, match="model.h5 was changed or replaced after it was loaded$"):
        loaded_sha256(args)


@pytest.fixture
def inputs(cat, tmp_path):
    """The files model.h5 and head.h5, and a folder with two pictures of two classes."""
    shutil.copyfile(default_model(), tmp_path / "model.h5")
    head = checkpoint.Head(np.zeros((192, 2)), np.zeros(2), ["a", "b"], None, "norm", "token", {})
    checkpoint.write_head(tmp_path / "head.h5", head)
    for name in "a", "b":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            shutil.copyfile(cat, tmp_path / "photos" / name / f"{number}.png")
    return tmp_path


@CHANGES
@pytest.mark.parametrize("command, changed", [
    ("classify photos -r --model model.h5 -o x.csv --format csv --engine reference", "model.h5"),
    ("classify photos -r --model model.h5 --head head.h5 -o x.jsonl --format jsonl --engine reference", "head.h5"),
    ("embed photos -r --model model.h5 -o x.h5 --engine reference", "model.h5"),
    ("probe fit photos --model model.h5 -o x.h5 --engine reference", "model.h5"),
    ("convert model.h5 x.h5", "model.h5")])
def test_no_record_names_a_model_that_was_not_loaded(command, changed, change, inputs, monkeypatch, capsys):
    """Every verb that writes a SHA-256 refuses a file that changes between loading and hashing."""
    load = load_module.load

    def and_then_changed(*args, **options):
        model = load(*args, **options)
        change(inputs / changed)
        return model
    monkeypatch.setattr(load_module, "load", and_then_changed)
    monkeypatch.chdir(inputs)
    assert cli.main(command.split()) == 3
    assert capsys.readouterr().err == f"nphybrid: {changed} was changed or replaced after it was loaded\n"
    assert sorted(os.listdir()) == ["head.h5", "model.h5", "photos"]


@CHANGES
def test_the_workers_of_a_cluster_load_the_model_that_the_record_names(change, inputs, monkeypatch, capsys):
    """The model changes when the record of the run is written, before the job for the workers is made."""
    jobs, start = [], resume.start_rows

    def and_then_changed(*args):
        found = start(*args)
        change(inputs / "model.h5")
        return found

    def compute(client, sources, job, start):
        jobs.append(job)
        return []
    monkeypatch.setattr(resume, "start_rows", and_then_changed)
    monkeypatch.setattr(cluster, "connect", lambda address: nullcontext(Namespace(nthreads=lambda: {"worker": 1})))
    monkeypatch.setattr(cluster, "compute_rows", compute)
    monkeypatch.chdir(inputs)
    command = "classify photos -r --model model.h5 -o x.csv --format csv --engine reference --scheduler x".split()
    assert cli.main(command) == 3
    assert capsys.readouterr().err == "nphybrid: model.h5 was changed or replaced after it was loaded\n"
    assert jobs == []


def test_a_job_has_the_hashes_of_the_loaded_files(inputs):
    files = model_files(inputs / "model.h5", inputs / "head.h5")
    job = cluster.job(str(inputs / "model.h5"), head=str(inputs / "head.h5"), files=files)
    assert job.digests[:2] == (sha256(inputs / "model.h5"), sha256(inputs / "head.h5"))
    assert job == cluster.job(str(inputs / "model.h5"), head=str(inputs / "head.h5"))


def test_a_changed_shard_of_a_folder_is_noticed_and_a_new_file_is_not(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = ModelFile(copy)
    (copy / "rows.jsonl").write_text("")
    assert file.sha256() == sha256(copy)
    os.utime(copy / "model.safetensors", ns=(0, 0))
    with pytest.raises(FormatError, match="was changed or replaced after it was loaded$"):
        file.sha256()


def test_a_run_is_not_begun_with_a_model_that_changed(cat, tmp_path, monkeypatch, capsys):
    """Nothing is written that names another model than the one that computes."""
    path, target = tmp_path / "model.h5", tmp_path / "rows.csv"
    shutil.copyfile(default_model(), path)
    find = options.find_pictures

    def meanwhile(args):
        os.utime(path, ns=(0, 0))
        return find(args)
    monkeypatch.setattr("nphybrid.cli.classify.find_pictures", meanwhile)
    assert cli.main(["classify", str(cat), "--model", str(path), "-o", str(target), "--format", "csv",
                     "--engine", "reference"]) == 3
    assert "was changed or replaced after it was loaded\n" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["model.h5"]


def test_a_model_that_changes_while_it_is_hashed_is_refused(tmp_path, monkeypatch):
    """Its SHA-256 is not kept for a later file of the same size and times."""
    path = tmp_path / "model.h5"
    shutil.copyfile(default_model(), path)
    before, compute = os.stat(path), checkpoint.sha256

    def changed_meanwhile(path):
        digest = compute(path)
        os.utime(path, ns=(0, 0))
        return digest
    monkeypatch.setattr(checkpoint, "sha256", changed_meanwhile)
    with pytest.raises(FormatError, match="was changed or replaced after it was loaded$"):
        ModelFile(path).sha256()
    # A file with the numbers of the first, but with other bytes.
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setattr(checkpoint, "sha256", compute)
    assert ModelFile(path).sha256() == compute(path)


# ---------------------------------------------------------------- names

def test_a_missing_head_is_not_the_name_of_a_model_on_the_hub(cat, monkeypatch, capsys):
    monkeypatch.setattr(hub, "fetched", lambda *args: pytest.fail("the hub was asked"))
    assert cli.main(["classify", str(cat), "--head", "owner/name", "--engine", "reference"]) == 3
    assert "owner/name" in capsys.readouterr().err


def test_an_empty_name_of_a_model_to_convert_is_not_the_bundled_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["convert", "", "out.h5"])
    assert os.listdir() == []
