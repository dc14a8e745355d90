"""`probe fit` and `evaluate` on CIFAR-10 pictures as files: what they count, write, list and refuse."""
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, pipeline
from nphybrid.__main__ import main
from nphybrid.apps import classes, evaluate, features
from nphybrid.checkpoint import read_head, sha256

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
    """What a command prints as JSON, and its exit code."""
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
    ("a.png,cat\n", "has no label for 120 of 120 pictures"), ("cat\ndog\n", "holds 2 labels for 120 pictures"),
    ("", "holds no labels"), ("path,label\n", "holds no labels"), ("a,cat\nb\n", "row 2 is"), ("a,b,c\n", "row 1 is"),
    ("\"" + "a" * 200_000 + "\"\n", "is no CSV"), ("a,\n", "row 1 is"),
    ("a,cat\na,dog\n", "'a' is both 'cat' and 'dog'"),
])
def test_files_of_labels_that_do_not_fit(labels, told, cifar, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text(labels)
    assert main(["evaluate", str(cifar[0]), "--labels", str(tmp_path / "labels.csv")]) == 3
    assert told in capsys.readouterr().err


def test_names_that_are_no_text_have_labels_too(tmp_path):
    """Commas, quotes, line ends, and bytes that are no UTF-8."""
    names = [os.fsdecode(name) for name in (b'a,"b".png', b"line\nend.png", b"\xff.png")]
    with open(tmp_path / "labels.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        import csv
        csv.writer(file).writerows([name, f"c{i}"] for i, name in enumerate(names))
    sources = [str(tmp_path / name) for name in reversed(names)]
    assert classes.of_file(tmp_path / "labels.csv", sources) == ["c2", "c1", "c0"]


def test_folders_that_are_no_folders_of_folders(cifar, tmp_path, capsys):
    assert main(["evaluate", str(cifar[0] / "dog")]) == 3
    assert "pictures beside its folders and 0 in them" in capsys.readouterr().err
    assert main(["evaluate", next(iter(cifar[1]))]) == 3
    assert "give --labels" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 3


def test_a_label_that_the_model_has_twice_is_unclear():
    with pytest.raises(ValueError, match="more than one label of the model is 'crane'"):
        classes.numbered(["crane", "dog"], ["crane", "dog", "crane"])
    assert classes.numbered(["2", "dog", "0"], ["crane", "dog", "crane"]) == [2, 1, 0]


# ------------------------------------------------------------------ probe fit

@pytest.mark.parametrize("method", ["logistic", "ridge"])
def test_probe_fit_from_folders_and_from_features_give_one_head(method, cifar, tmp_path, capsys):
    """The head of three classes, on which the pictures it was fitted to are then evaluated."""
    for name in ("cat", "frog", "ship"):
        shutil.copytree(cifar[0] / name, tmp_path / "mine" / f"my {name}")
    paths = sorted(str(path) for path in (tmp_path / "mine").rglob("*.png"))
    (tmp_path / "labels.csv").write_text("".join(f"{p},{os.path.basename(os.path.dirname(p))}\n" for p in paths[::-1]))
    assert main(["embed", "-r", str(tmp_path / "mine"), "-o", str(tmp_path / "x.h5"), "--quiet"]) == 0
    capsys.readouterr()
    report, code = documents(capsys, "probe", "fit", tmp_path / "mine", "-o", tmp_path / "a.h5", "--method", method,
                             "--confusion", tmp_path / "matrix.png")
    other, _ = documents(capsys, "probe", "fit", tmp_path / "x.h5", "--labels", tmp_path / "labels.csv", "--method",
                         method, "-o", tmp_path / "b.h5")
    assert code == 0 and {**other, "head": ""} == {**report, "head": ""}
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    head = read_head(tmp_path / "a.h5")
    assert head.labels == report["labels"] == ["my cat", "my frog", "my ship"]
    assert head[3:6] == (sha256(default_model()), "norm", "token") and head.made["method"] == method
    matrix = np.array(report["confusion"])
    assert matrix.sum() == len(paths) == report["pictures"] and np.trace(matrix) == report["accuracy"]["right"]
    assert report["accuracy"]["accuracy"] > 0.8 < report["neighbours"]["accuracy"]
    assert Image.open(tmp_path / "matrix.png").format == "PNG"

    found, _ = documents(capsys, "evaluate", tmp_path / "mine", "--head", tmp_path / "a.h5")
    values = features.read(tmp_path / "x.h5").values
    answers = (values @ head.kernel + head.bias).argmax(1)
    truth = [head.labels.index(name) for name in classes.of_file(tmp_path / "labels.csv", paths)]
    assert found["top1"]["right"] == (answers == truth).sum() and "top5" not in found
    classify = pipeline("image-classification", default_model(), head=tmp_path / "a.h5")
    assert [classify(path, top_k=1)[0]["label"] for path in paths[::9]] == [head.labels[k] for k in answers[::9]]


def test_probe_fit_goes_on_without_a_broken_picture(cifar, tmp_path, capsys):
    for name in ("cat", "ship"):
        shutil.copytree(cifar[0] / name, tmp_path / "mine" / name)
    whole, _ = documents(capsys, "probe", "fit", tmp_path / "mine", "-o", tmp_path / "head.h5")
    (tmp_path / "mine" / "cat" / "broken.png").write_bytes(b"GIF89a")
    report, code = documents(capsys, "probe", "fit", tmp_path / "mine", "-o", tmp_path / "again.h5")
    assert code == 1 and report["failed"] == 1 and whole["failed"] == 0
    assert {**report, "failed": 0, "head": ""} == {**whole, "head": ""}


def test_probe_fit_refuses(cifar, tmp_path, capsys):
    os.makedirs(tmp_path / "mine" / "one")
    shutil.copytree(cifar[0] / "dog", tmp_path / "mine" / "dog")
    shutil.copy(next(iter(cifar[1])), tmp_path / "mine" / "one" / "only.png")
    assert main(["probe", "fit", str(tmp_path / "mine"), "-o", str(tmp_path / "head.h5")]) == 3
    assert "fewer than two pictures of 'one'" in capsys.readouterr().err and not (tmp_path / "head.h5").exists()
    assert main(["probe", "fit", str(tmp_path / "mine"), "-o", str(tmp_path / "head.txt")]) == 3
    assert "ends in .h5" in capsys.readouterr().err
    main(["embed", str(cifar[0] / "dog"), "-o", str(tmp_path / "x.h5"), "--state", "stem", "--pool", "none", "--quiet"])
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "-o", str(tmp_path / "head.h5")]) == 3
    assert "--labels for its pictures" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("dog\n" * len(os.listdir(cifar[0] / "dog")))
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "--labels", str(tmp_path / "labels.csv"),
                 "-o", str(tmp_path / "head.h5")]) == 3
    assert "one vector per picture" in capsys.readouterr().err


def test_a_head_of_another_state_says_why_it_cannot_be_a_models(cifar, tmp_path, capsys):
    main(["embed", "-r", str(cifar[0]), "-o", str(tmp_path / "x.h5"), "--state", "stages.1", "--quiet"])
    (tmp_path / "labels.csv").write_text("".join(f"{path},{k}\n" for path, k in cifar[1].items()))
    assert main(["probe", "fit", str(tmp_path / "x.h5"), "--labels", str(tmp_path / "labels.csv"), "--folds", "3",
                 "-o", str(tmp_path / "head.h5")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(cifar[0]), "--head", str(tmp_path / "head.h5")]) == 3
    assert "reads the state stages.1.1 with pool mean" in capsys.readouterr().err


def test_equal_logits_are_answered_by_the_smaller_number():
    found = evaluate.Evaluation(["a", "b", "c"], np.array([1, 2]), np.array([[1, 0, 2], [0, 1, 2]]), [])
    assert evaluate.right(found, 1) == (1, 2) and evaluate.right(found, 1, 2) == (0, 1)
    assert evaluate.right(found, 5, 2) == (1, 1)
