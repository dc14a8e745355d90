"""`probe fit` and `evaluate` on CIFAR-10 pictures as files: what they count, write, list and refuse."""
import errno
import io
import json
import os
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, pipeline
from nphybrid.__main__ import main
from nphybrid.batch.inputs import find_pictures
from nphybrid.checkpoint import read_head, sha256
from nphybrid.classifier import classes, evaluate, teach
from nphybrid.features import files

from oracles.sights import network

pytestmark = pytest.mark.slow

NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()


@pytest.fixture(scope="module")
def cifar(root, tmp_path_factory):
    """The first 120 test images, a folder per class, and {path: class}."""
    folder, known = tmp_path_factory.mktemp("cifar"), {}
    with np.load(root / "tests" / "data" / "cifar10_test_1000.npz") as data:
        for i, (image, k) in enumerate(zip(data["images"][:120], data["labels"])):
            path = folder / NAMES[k] / f"{i:03}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
            known[str(path)] = int(k)
    return folder, dict(sorted(known.items()))


@pytest.fixture(scope="module")
def logits(cifar):
    """Of each picture in the order of the paths."""
    model = ViTHybridForImageClassification.from_pretrained(default_model())
    processor = ViTHybridImageProcessor.from_pretrained(default_model())
    return np.concatenate([model(processor(Image.open(path), return_tensors="np").pixel_values).logits
                           for path in cifar[1]])


def documents(capsys, *args):
    """The JSON that a command prints, and its exit code."""
    code = main([*map(str, args), "--format", "json", "--quiet"])
    return json.loads(capsys.readouterr().out), code


def test_evaluate_counts_what_the_model_answers(cifar, logits, capsys):
    folder, known = cifar
    truth = np.array(list(known.values()))
    order = np.argsort(-logits, axis=1)
    found, code = documents(capsys, "evaluate", folder)
    assert code == 0 and found["pictures"] == 120 and found["errors"] == []
    assert found["top1"]["right"] == (order[:, 0] == truth).sum() == 103
    assert found["top5"]["right"] == sum(k in row for k, row in zip(truth, order[:, :5]))
    for row in found["classes"]:
        mine = truth == row["index"]
        assert row["label"] == NAMES[row["index"]] and row["top1"]["count"] == mine.sum()
        assert row["top1"]["right"] == (order[mine, 0] == row["index"]).sum()
    assert len(found["classes"]) == 10 and found["top1"]["low"] < 103 / 120 < found["top1"]["high"]


def test_evaluate_as_text(cifar, logits, capsys):
    assert main(["evaluate", str(cifar[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "120 pictures" and lines[1].startswith("top-1  103 right  85.83 % (78.48 to 90.96)")
    assert [line.split()[0] for line in lines[5:]] == NAMES


@pytest.mark.slow
def test_labels_in_a_file_by_path_or_in_order_by_name_or_number(cifar, tmp_path, capsys):
    folder, known = cifar
    expected, _ = documents(capsys, "evaluate", folder)
    shuffled = np.random.default_rng(0).permutation(list(known.items())).tolist()
    (folder / "labels.csv").write_text("path,label\n" + "".join(
        f"{os.path.relpath(path, folder)},{NAMES[int(k)]}\n" for path, k in shuffled))
    (tmp_path / "order.csv").write_text("".join(f"{k}\n" for k in known.values()))
    (tmp_path / "whole.csv").write_text("".join(f"{path},{k}\r\n" for path, k in shuffled))
    for labels in folder / "labels.csv", tmp_path / "order.csv", tmp_path / "whole.csv":
        assert documents(capsys, "evaluate", folder, "--labels", labels) == (expected, 0), labels
    (folder / "labels.csv").unlink()


@pytest.mark.slow
def test_a_broken_picture_is_counted_and_listed(cifar, tmp_path, capsys):
    shutil.copytree(cifar[0], tmp_path / "pictures")
    broken = tmp_path / "pictures" / "dog" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    whole, _ = documents(capsys, "evaluate", cifar[0])
    found, code = documents(capsys, "evaluate", tmp_path / "pictures", "--batch", 3)
    assert code == 1 and found["pictures"] == 121 and found["top1"] == whole["top1"]
    (error,) = found["errors"]
    assert error["path"] == str(broken) and str(broken) in error["error"]
    assert main(["evaluate", str(tmp_path / "pictures")]) == 1
    printed = capsys.readouterr()
    assert "120 pictures, 1 more could not be read" in printed.out and str(broken) in printed.err


def test_classes_that_the_model_does_not_know_are_listed(cifar, tmp_path, capsys):
    for old, new in ("dog", "wolf"), ("cat", "10"), ("ship", "8"):
        shutil.copytree(cifar[0] / old, tmp_path / new)
    assert main(["evaluate", str(tmp_path)]) == 3
    told = capsys.readouterr().err
    assert "no label for 2 of 3 classes: '10', 'wolf'" in told and "'airplane'" in told and "'8'" not in told


@pytest.mark.parametrize("labels, told", [
    ("a.png,cat\n", "has no label for 120 of 120 pictures"),
    ("cat\ndog\n", "holds 2 labels for 120 pictures; expected one label per picture, or rows path,label"),
    ("", "holds no labels; expected one row per picture"),
    ("path,label\n", "holds no labels; expected one row per picture"),
    ("a,cat\nb\n", "row 2 is ['b']; expected path,label in every row, or label in every row"), ("a,b,c\n", "row 1 is"),
    ("\"" + "a" * 200_000 + "\"\n", "is not valid CSV"), ("a,\n", "row 1 is"),
    ("a,cat\na,dog\n", "'a' has two labels, 'cat' and 'dog'; expected one label per path"), ("a, \n", "row 1 is"),
    ('a.png, "cat, big"\n', "expected path,label in every row, or label in every row"),
    ('a.png, "cat"\n', "so the quote is a part of the label; expected the quote directly after the comma"),
    ("a.png;cat\nb.png;dog\n", "one field with ';' in it, for example 'a.png;cat'; expected a comma"),
    ("path;label\na.png;cat\n", "has no label for 120 of 120 pictures"),
    ("x/a.png,cat\n", "The paths in this file, such as 'x/a.png', were looked up in '"),
    ("a.png\tcat\nb.png\tdog\n", r"one field with '\t' in it"),
    ("a,cat\n".encode("utf-16"), "contains NUL bytes, which are typical of UTF-16; expected UTF-8"),
])
def test_files_of_labels_that_do_not_fit(labels, told, cifar, tmp_path, capsys):
    (tmp_path / "labels.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    assert main(["evaluate", str(cifar[0]), "--labels", str(tmp_path / "labels.csv")]) == 3
    assert told in capsys.readouterr().err


def test_a_table_of_a_german_excel(tmp_path):
    (tmp_path / "labels.csv").write_bytes("\ufeffpath;label\r\na, b.png;dog; big\r\nc.png;cat\r\n".replace(
        "dog; big", '"dog; big"').encode())
    sources = [str(tmp_path / name) for name in ("c.png", "a, b.png")]
    assert classes.of_file(tmp_path / "labels.csv", sources) == ["cat", "dog; big"]


def test_paths_in_the_only_folder_of_pictures(tmp_path, monkeypatch):
    """The current folder comes before the folder of the file, and this folder before the folder of pictures."""
    monkeypatch.chdir(tmp_path)
    sources = [str(folders(tmp_path / name, cat=1) / "cat" / "0.png") for name in ("photos", "more", ".")]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "labels.csv").write_text("cat/0.png,a\n")
    path = "tables/labels.csv"
    assert classes.of_file(path, sources[:1], ["photos"]) == ["a"]
    assert classes.of_file(path, sources[2:], ["photos"]) == ["a"]
    for inputs in (), ["photos", "more"], ["photos/cat/0.png"]:
        with pytest.raises(ValueError, match="such as 'cat/0.png', were looked up in ") as refused:
            classes.of_file(path, sources[:1], inputs)
        assert f"'{tmp_path}', '{tmp_path}/tables'" in str(refused.value)
    with open(path, "a") as file:
        file.write("photos/cat/0.png,b\n")
    assert classes.of_file(path, sources[:1], ["photos"]) == ["b"]


def test_names_of_two_forms_of_unicode_are_equal(tmp_path):
    """macOS writes "ö" as two characters."""
    one, two = "K\u00f6ter", "Ko\u0308ter"
    (tmp_path / "labels.csv").write_text(f"{one}.png,{two}\n{two}2.png,{one}\n", "utf-8")
    sources = [str(tmp_path / f"{name}.png") for name in (two, f"{one}2")]
    assert classes.of_file(tmp_path / "labels.csv", sources) == [one, one]
    assert classes.class_numbers([one, two], ["dog", two]) == classes.class_numbers([one, two], ["dog", one]) == [1, 1]
    assert classes.of_paths([f"a/{two}/1.png", f"a/{one}/2.png"]) == [one, one]
    folders(tmp_path / "photos", **{two: 1})
    assert classes.of_folders([tmp_path / "photos"])[1] == [one]


def test_white_space_around_a_label_is_none_of_it(tmp_path):
    (tmp_path / "labels.csv").write_text("path, label\n b.png,\tcat \na.png, big cat\n")
    assert classes.of_file(tmp_path / "labels.csv", [str(tmp_path / " b.png"), str(tmp_path / "a.png")]) == [
        "cat", "big cat"]
    (tmp_path / "labels.csv").write_text("label\ncat; kitten\n dog\n")
    assert classes.of_file(tmp_path / "labels.csv", ["a", "b"]) == ["cat; kitten", "dog"]


def test_a_picture_on_stdin_has_a_label_too(cifar, tmp_path, capsys, monkeypatch):
    path, k = next(iter(cifar[1].items()))
    with open(path, "rb") as file:
        data = file.read()
    for label, code in ("a.png,cat", 3), (f"-,{k}", 0), (f"{k}", 0):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        (tmp_path / "labels.csv").write_text(f"{label}\n")
        assert main(["evaluate", "-", "--labels", str(tmp_path / "labels.csv")]) == code
        printed = capsys.readouterr()
        assert "1 of 1 pictures: '-'. " in printed.err if code else printed.out.startswith("1 pictures\n")


def test_without_a_dash_stdin_is_left_alone(cifar, tmp_path, capsys, monkeypatch):
    (tmp_path / "labels.csv").write_text("3\n")
    monkeypatch.setattr(sys, "stdin", None)                 # as in a program without a terminal
    found, code = documents(capsys, "evaluate", next(iter(cifar[1])), "--labels", tmp_path / "labels.csv")
    assert code == 0 and found["top1"]["count"] == 1


def test_names_that_are_no_text_have_labels_too(tmp_path):
    """Commas, quotes, line ends, and bytes that are not UTF-8."""
    names = [os.fsdecode(name) for name in (b'a,"b".png', b"line\nend.png", b"\xff.png")]
    with open(tmp_path / "labels.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        import csv
        csv.writer(file).writerows([name, f"c{i}"] for i, name in enumerate(names))
    sources = [str(tmp_path / name) for name in reversed(names)]
    assert classes.of_file(tmp_path / "labels.csv", sources) == ["c2", "c1", "c0"]


def test_folders_that_are_no_folders_of_folders(cifar, tmp_path, capsys):
    assert main(["evaluate", str(cifar[0] / "dog")]) == 3
    assert "holds 0 folders and 9 pictures beside them" in capsys.readouterr().err
    assert main(["evaluate", next(iter(cifar[1]))]) == 3
    assert ("is not a folder; expected a folder that contains one folder per class. For single pictures, "
            "give --truth") in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 3
    assert "holds 0 folders and 0 pictures" in capsys.readouterr().err


def folders(root, **counts):
    """A folder of folders: {name: the number of pictures of noise in it}."""
    rng = np.random.default_rng(4)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("paths", [[], ["cat.png", "dog.png"], ["a/cat.png", "a/dog.png"], ["a/x.png", "y.png"],
                                   ["/a/b/x.png", "c/y.png"], ["-", "a/b.png"]])
def test_paths_that_state_no_class(paths):
    with pytest.raises(ValueError, match="do not state their classes"):
        classes.of_paths(paths)


def test_the_class_of_a_path():
    assert classes.of_paths(["/p/b/1.png", "/p/a/c/2.png", "/p/b/3.png"]) == ["b", "a", "b"]
    assert classes.of_paths(["b/1.png", "./a/2.png"]) == ["b", "a"]


def test_hidden_folders_are_no_classes_and_folders_in_a_class_are_none(tmp_path):
    folders(tmp_path, **{"dog": 1, "cat": 1, ".cache": 2, "dog/old": 1})
    sources, names = classes.of_folders([tmp_path])
    assert [os.path.relpath(path, tmp_path) for path in sources] == ["cat/0.png", "dog/0.png", "dog/old/0.png"]
    assert names == ["cat", "dog", "dog"]


@pytest.mark.parametrize("verb", [["evaluate"], ["probe", "fit", "-o", "head.h5"]])
def test_a_class_without_a_picture_does_not_vanish(verb, tmp_path, capsys, monkeypatch):
    """An empty folder, one whose pictures have other names, and one that may not be read."""
    monkeypatch.chdir(tmp_path)
    folders(tmp_path / "mine", cat=2, dog=2, owl=0, bee=0)
    (tmp_path / "mine" / "bee" / "notes.txt").write_text("none yet")
    assert main([*verb, "mine"]) == 3
    told = capsys.readouterr().err
    assert "classes without a picture: 'mine/bee', 'mine/owl'; expected at least one picture per class" in told
    opened = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path)
    monkeypatch.setattr(os, "scandir", scandir)             # root may read every folder
    assert main([*verb, "mine"]) == 3
    assert "Permission denied: 'mine/dog'" in capsys.readouterr().err


def test_a_name_that_is_no_text_is_refused_before_anything_is_computed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(teach, "features_of", lambda *_: pytest.fail("computed"))
    folders(tmp_path / "mine", **{"cat": 2, os.fsdecode(b"\xff\xfe"): 2})
    for path in find_pictures([str(tmp_path / "mine")], recursive=True):
        with open(tmp_path / "labels.csv", "ab") as file:
            file.write(os.fsencode(f"{path},{os.path.basename(os.path.dirname(path))}\n"))
    for more in [], ["--labels", str(tmp_path / "labels.csv")]:
        assert main(["probe", "fit", str(tmp_path / "mine"), *more, "-o", str(tmp_path / "head.h5")]) == 3
        assert r"expected names of classes in UTF-8, found '\udcff\udcfe'" in capsys.readouterr().err


def test_a_class_of_one_picture_is_refused_before_anything_is_computed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(teach, "features_of", lambda *_: pytest.fail("computed"))
    assert main(["probe", "fit", str(folders(tmp_path / "mine", cat=2, dog=1)), "-o", str(tmp_path / "head.h5")]) == 3
    assert "fewer than two pictures of 'dog'; expected" in capsys.readouterr().err


def test_a_label_that_the_model_has_twice_is_unclear():
    with pytest.raises(ValueError, match="classes of the model share a label: 'crane'; give the numbers of these"):
        classes.class_numbers(["crane", "dog"], ["crane", "dog", "crane"])
    assert classes.class_numbers(["2", "dog", "0"], ["crane", "dog", "crane"]) == [2, 1, 0]


# ------------------------------------------------------------------ probe fit

@pytest.mark.parametrize("method", ["logistic", "ridge"])
def test_probe_fit_from_folders_and_from_features_give_one_head(method, cifar, tmp_path, capsys):
    """A head of three classes; the pictures that it was fitted to are then evaluated with it."""
    for name in ("cat", "frog", "ship"):
        shutil.copytree(cifar[0] / name, tmp_path / "mine" / f"my {name}")
    paths = sorted(str(path) for path in (tmp_path / "mine").rglob("*.png"))
    (tmp_path / "labels.csv").write_text("".join(f"{p},{os.path.basename(os.path.dirname(p))}\n" for p in paths[::-1]))
    assert main(["embed", "-r", str(tmp_path / "mine"), "-o", str(tmp_path / "x.h5"), "--quiet"]) == 0
    capsys.readouterr()
    fit = ["probe", "fit", "--method", method]
    report, code = documents(capsys, *fit, tmp_path / "mine", "-o", tmp_path / "a.h5", "--confusion",
                             tmp_path / "matrix.png")
    other, _ = documents(capsys, *fit, tmp_path / "x.h5", "--labels", tmp_path / "labels.csv", "-o", tmp_path / "b.h5")
    assert code == 0 and {**other, "head": ""} == {**report, "head": ""}
    documents(capsys, *fit, tmp_path / "x.h5", "-o", tmp_path / "c.h5")
    written = [(tmp_path / f"{name}.h5").read_bytes() for name in "abc"]
    assert written[0] == written[1] == written[2]
    head = read_head(tmp_path / "a.h5")
    assert head.labels == report["labels"] == ["my cat", "my frog", "my ship"]
    assert head[3:6] == (sha256(default_model()), "norm", "token") and head.made["method"] == method
    matrix = np.array(report["confusion"])
    assert matrix.sum() == len(paths) == report["pictures"] and np.trace(matrix) == report["accuracy"]["right"]
    assert report["accuracy"]["accuracy"] > 0.8 < report["neighbours"]["accuracy"]
    with Image.open(tmp_path / "matrix.png") as picture:
        assert picture.format == "PNG" and picture.text["Title"] == "Confusion matrix of the cross-validation"

    found, _ = documents(capsys, "evaluate", tmp_path / "mine", "--head", tmp_path / "a.h5")
    values = files.read(tmp_path / "x.h5").values
    answers = (values @ head.kernel + head.bias).argmax(1)
    truth = [head.labels.index(name) for name in classes.of_file(tmp_path / "labels.csv", paths)]
    assert found["top1"]["right"] == (answers == truth).sum() and "top5" not in found
    classify = pipeline("image-classification", default_model(), head=tmp_path / "a.h5")
    assert [classify(path, top_k=1)[0]["label"] for path in paths[::9]] == [head.labels[k] for k in answers[::9]]


def test_probe_fit_goes_on_without_a_broken_picture(cifar, tmp_path, capsys):
    """The folder has a name that ends like a file of features."""
    mine = tmp_path / "mine.h5"
    for name in ("cat", "ship"):
        shutil.copytree(cifar[0] / name, mine / name)
    whole, _ = documents(capsys, "probe", "fit", mine, "-o", tmp_path / "head.h5")
    (mine / "cat" / "broken.png").write_bytes(b"GIF89a")
    report, code = documents(capsys, "probe", "fit", mine, "-o", tmp_path / "again.h5")
    assert code == 1 and report["failed"] == 1 and whole["failed"] == 0
    assert {**report, "failed": 0, "head": ""} == {**whole, "head": ""}


def test_probe_fit_names_the_pictures_without_features(tmp_path, capsys):
    folders(tmp_path / "mine", cat=3, dog=3)
    broken = tmp_path / "mine" / "cat" / "broken.png"
    broken.write_bytes(b"GIF89a")
    assert main(["embed", str(tmp_path / "mine"), "-r", "-o", str(tmp_path / "x.h5"), "--quiet"]) == 1
    command = ["probe", "fit", str(tmp_path / "x.h5"), "-o", str(tmp_path / "head.h5"), "--folds", "3"]
    capsys.readouterr()
    assert main(command) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "broken.png" in line]
    assert len(lines) == 1 and lines[0].startswith(f"nphybrid: {broken}: ")
    assert main([*command, "--quiet"]) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", ["evaluate", "finetune"])
def test_a_model_in_place_of_a_folder(verb, tmp_path, capsys):
    output = ["-o", str(tmp_path / "o.h5")] if verb == "finetune" else []
    assert main([verb, str(default_model()), *output]) == 3
    error = capsys.readouterr().err
    assert "expected a folder that contains one folder per class. A model is given with --model" in error
    assert "--truth" not in error


def test_probe_fit_tells_that_it_takes_features(capsys):
    with pytest.raises(SystemExit):
        main(["probe", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "FOLDER_OR_FEATURES [FOLDER_OR_FEATURES ...]" in told and (
        "One .h5, .npy or .parquet file that `nphybrid embed` wrote is also accepted. Without --truth," in told)


def test_probe_fit_does_not_lose_a_class(tmp_path, capsys):
    """If all pictures of one class are broken, or all pictures of all classes."""
    folders(tmp_path / "mine", cat=2, dog=2, owl=2)
    for names, told in (["owl"], "'owl'"), (["cat", "dog"], "'cat', 'dog', 'owl'"):
        for name in names:
            for i in range(2):
                (tmp_path / "mine" / name / f"{i}.png").write_bytes(b"GIF89a")
        assert main(["probe", "fit", str(tmp_path / "mine"), "-o", str(tmp_path / "head.h5")]) == 3
        assert f"fewer than two pictures of {told} could be read; expected" in capsys.readouterr().err
        assert not (tmp_path / "head.h5").exists()


def test_features_of_no_picture_have_their_width(tmp_path):
    model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    found, errors = teach.features_of(model, "", [str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    assert found.values.shape == (0, 192) and found.values.dtype == np.float32 and sorted(errors) == [0, 1]


@pytest.mark.parametrize("suffix", [".h5", ".npy"])
def test_probe_fit_from_features_of_which_some_failed(suffix, cifar, tmp_path, capsys):
    """The labels are those of the whole list, by path or in its order, as of a folder of the same pictures."""
    for name in ("cat", "ship"):
        shutil.copytree(cifar[0] / name, tmp_path / "mine" / name)
    (tmp_path / "mine" / "cat" / "000.png").write_bytes(b"GIF89a")
    x, paths = tmp_path / f"x{suffix}", sorted(map(str, (tmp_path / "mine").rglob("*.png")))
    names = [os.path.basename(os.path.dirname(path)) for path in paths]
    assert main(["embed", "-r", str(tmp_path / "mine"), "-o", str(x), "--quiet"]) == 1
    capsys.readouterr()
    expected, code = documents(capsys, "probe", "fit", tmp_path / "mine", "-o", tmp_path / "a.h5")
    assert code == 1 and expected["failed"] == 1
    for rows in names, map(",".join, zip(paths, names)):
        (tmp_path / "labels.csv").write_text("\n".join(rows))
        found, code = documents(capsys, "probe", "fit", x, "--labels", tmp_path / "labels.csv", "-o", tmp_path / "b.h5")
        assert code == 1 and {**found, "head": ""} == {**expected, "head": ""}
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_of_features_must_be_there_and_of_the_model(cifar, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("".join(f"{path},{k}\n" for path, k in cifar[1].items()))
    line = ["probe", "fit", str(tmp_path / "x.h5"), "--labels", str(tmp_path / "labels.csv"), "--method", "ridge",
            "-o", str(tmp_path / "head.h5")]
    assert main(line) == 3
    assert f"the feature file {tmp_path / 'x.h5'} does not exist" in capsys.readouterr().err
    assert main(["embed", "-r", str(cifar[0]), "-o", str(tmp_path / "x.h5"), "--quiet"]) == 0
    assert main([*line, "--model", str(tmp_path / "nothing")]) == 3
    assert str(tmp_path / "nothing") in capsys.readouterr().err
    network("vit").save(tmp_path / "other.h5")
    assert main([*line, "--model", str(tmp_path / "other.h5")]) == 3
    assert (f"contains features of a model with SHA-256 {sha256(default_model())}; expected "
            f"{sha256(tmp_path / 'other.h5')}, the SHA-256 of {tmp_path / 'other.h5'}\n") in capsys.readouterr().err
    assert not (tmp_path / "head.h5").exists()
    assert main([*line, "--model", str(default_model())]) == 0


@pytest.mark.parametrize("options", ["--folds 1", "--folds 0", "--seed -1"])
def test_probe_fit_refuses_numbers_before_it_computes(options, cifar, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["probe", "fit", str(cifar[0]), "-o", str(tmp_path / "head.h5"), *options.split()])
    assert f"argument {options.split()[0]}: found" in capsys.readouterr().err


def test_probe_fit_refuses(cifar, tmp_path, capsys):
    os.makedirs(tmp_path / "mine" / "one")
    shutil.copytree(cifar[0] / "dog", tmp_path / "mine" / "dog")
    shutil.copy(next(iter(cifar[1])), tmp_path / "mine" / "one" / "only.png")
    assert main(["probe", "fit", str(tmp_path / "mine"), "-o", str(tmp_path / "head.h5")]) == 3
    assert "fewer than two pictures of 'one'" in capsys.readouterr().err and not (tmp_path / "head.h5").exists()
    assert main(["probe", "fit", str(tmp_path / "mine"), "-o", str(tmp_path / "head.txt")]) == 3
    assert "cannot be written; expected a name that ends in .h5\n" in capsys.readouterr().err
    main(["embed", str(cifar[0] / "dog"), "-o", str(tmp_path / "x.h5"), "--state", "stem", "--pool", "none", "--quiet"])
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "-o", str(tmp_path / "head.h5")]) == 3
    assert capsys.readouterr().err == (f"nphybrid: {tmp_path / 'x.h5'}: the paths of the pictures do not state their "
                                       "classes; expected one folder per class, or --truth with the classes of the "
                                       "pictures\n")
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "more", "-o", str(tmp_path / "head.h5")]) == 3
    assert "x.h5 is a feature file; expected only one input\n" in capsys.readouterr().err
    names = [f"c{i % 2}\n" for i in range(len(os.listdir(cifar[0] / "dog")))]
    (tmp_path / "labels.csv").write_text("".join(names))
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "--labels", str(tmp_path / "labels.csv"),
                 "-o", str(tmp_path / "head.h5")]) == 3
    assert "one vector per picture" in capsys.readouterr().err
    before = (tmp_path / "x.h5").read_bytes()
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "--labels", str(tmp_path / "labels.csv"),
                 "-o", str(tmp_path / "x.h5")]) == 3
    assert "cannot be written, because it is also an input file\n" in capsys.readouterr().err
    assert (tmp_path / "x.h5").read_bytes() == before


def test_a_head_of_another_state_says_why_it_cannot_be_a_models(cifar, tmp_path, capsys):
    main(["embed", "-r", str(cifar[0]), "-o", str(tmp_path / "x.h5"), "--state", "stages.1", "--quiet"])
    (tmp_path / "labels.csv").write_text("".join(f"{path},{k}\n" for path, k in cifar[1].items()))
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "--labels", str(tmp_path / "labels.csv"), "--folds", "3",
                 "-o", str(tmp_path / "head.h5")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(cifar[0]), "--head", str(tmp_path / "head.h5")]) == 3
    assert "reads the state stages.1.1 with pool mean" in capsys.readouterr().err


def test_equal_logits_are_answered_by_the_smaller_number(root):
    """With 40 classes, an unstable sort may change the order of equal logits."""
    logits = np.repeat(np.float32([0, 2, 1, 2]), 10)[None]

    def model(_):
        return SimpleNamespace(logits=logits)
    model.num_threads, model.config = 1, SimpleNamespace(id2label={k: str(k) for k in range(40)})
    found = evaluate.evaluate_model(model, ViTHybridImageProcessor.from_pretrained(default_model()),
                               [str(root / "examples" / "images" / "cat.png")], [13])
    assert found.answers.tolist() == [[10, 11, 12, 13, 14]]


@pytest.mark.parametrize("classes, told", [
    ([], "found 1 pictures and 0 classes; expected one class for each picture"),
    ([3, 4], "found 1 pictures and 2 classes"),
    ([10], "classes: found 10; expected indices from 0 to 9"),
    (["cat"], "classes: found 'cat'; expected indices from 0 to 9")])
def test_classes_that_do_not_fit(classes, told):
    """They are refused before a picture is read."""
    model = ViTHybridForImageClassification.from_pretrained(default_model())
    with pytest.raises(ValueError, match=told):
        evaluate.evaluate_model(model, model.processor, ["missing.png"], classes)


def test_right_counts_those_among_the_best():
    found = evaluate.Evaluation(["a", "b", "c"], np.array([1, 2]), np.array([[1, 0, 2], [0, 1, 2]]), [])
    assert evaluate.count_right(found, 1) == (1, 2) and evaluate.count_right(found, 1, 2) == (0, 1)
    assert evaluate.count_right(found, 5, 2) == (1, 1)
