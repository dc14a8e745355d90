"""The options of `classify` and its like: formats, scores, thresholds, wide rows, class names, image processors."""
import csv
import io
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model
from nphybrid.__main__ import main
from nphybrid.api.scores import SCORES
from nphybrid.batch import cluster, resume, rows
from nphybrid.cli import options

FAST = ("--engine", "reference")


@pytest.fixture(scope="module")
def model():
    return ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")


@pytest.fixture
def folder(cat, tmp_path, monkeypatch):
    """A folder with two pictures and a broken one between them.  The current folder is above it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    shutil.copy(cat, "pictures/a.png")
    (tmp_path / "pictures" / "b.png").write_bytes(cat.read_bytes()[:5000])
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (65, 38, 3), np.uint8)).save("pictures/c.png")
    return tmp_path


def printed_rows(capsys, *args, code=0):
    """The rows that `nphybrid classify … --format json` prints."""
    assert main(["classify", *map(str, args), *FAST, "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def usage_error(capsys, line):
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2
    return capsys.readouterr().err


# ---------------------------------------------------------------- formats

@pytest.mark.parametrize("name, begin", [
    ("x.csv", b"position,path,index,label,score,error\n"), ("x.CSV", b"position,path,index,label,score,error\n"),
    ("x.json", b"[\n{"), ("x.jsonl", b'{"position": 0, '), ("x.ndjson", b'{"position": 0, '), ("x.txt", b"cat"),
    ("x", b"cat"), (".hidden", b"cat")])
def test_the_suffix_decides_the_format(name, begin, cat, tmp_path):
    assert main(["classify", str(cat), *FAST, "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_the_option_decides_before_the_suffix(cat, tmp_path):
    for name in "x.csv", "x.log":
        assert main(["classify", str(cat), *FAST, "-o", str(tmp_path / name), "--format", "json"]) == 0
        assert json.loads((tmp_path / name).read_bytes())[0]["position"] == 0


@pytest.mark.parametrize("name", ["x.tsv", "x.xlsx", "x.csv.gz"])
def test_a_suffix_of_another_format_is_refused(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = usage_error(capsys, f"classify a.png -o {name}")
    assert f"ends in .{name.rpartition('.')[2]}; expected .txt, .json, .jsonl, .ndjson, .csv, or the option" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["classify a.png --wide", "classify a.png --wide -o x.json"])
def test_only_csv_is_wide(line, capsys):
    assert "--wide needs --format csv, or --output FILE.csv" in usage_error(capsys, line)


def test_a_terminal_shows_the_classes_of_the_bundled_model(cat, tmp_path, monkeypatch, capsys):
    (tmp_path / "names.txt").write_text("\n".join(f"name {i}" for i in range(10)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    told = "nphybrid: the bundled model knows only 10 classes: airplane, automobile, bird, cat, "
    for more, shown in ([], True), (["--quiet"], False), (["--class-names", str(tmp_path / "names.txt")], False):
        assert main(["classify", str(cat), *FAST, *more]) == 0
        assert (told in capsys.readouterr().err) == shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert main(["classify", str(cat), *FAST]) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("name, told", [
    ("x.json", "; only a jsonl or csv file can be continued, and "), ("x.csv", "; the same command with --resume")])
def test_a_stopped_run_says_whether_it_can_be_continued(name, told, cat, tmp_path, monkeypatch, capsys):
    def stop(*args, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(rows, "labelled_fields", stop)
    assert main(["classify", str(cat), *FAST, "-o", str(tmp_path / name)]) == 130
    assert f"stopped after 0 of 1 pictures{told}" in capsys.readouterr().err


# ---------------------------------------------------------------- wide rows and thresholds

def test_a_wide_file_has_a_row_for_each_picture(folder, capsys):
    expected = printed_rows(capsys, "pictures", "--top-k", 3, code=1)
    assert main(["classify", "pictures", *FAST, "--top-k", "3", "--wide", "-o", "x.csv"]) == 1
    with open("x.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["path"] for row in found] == ["pictures/a.png", "pictures/b.png", "pictures/c.png"]
    for row, other in zip(found, expected):
        assert row["error"] == other.get("error", "")
        for i in range(3):
            label = other["labels"][i] if "labels" in other else {"index": "", "label": "", "score": ""}
            assert {name: row[f"{name}_{i + 1}"] for name in label} == {key: str(value) for key, value in label.items()}


def test_a_wide_file_has_at_most_one_column_for_each_class(cat, capsys):
    assert main(["classify", str(cat), *FAST, "--top-k", "99", "--wide", "--format", "csv"]) == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert len(header) == len(row) == 2 + 3 * 10 + 1


@pytest.mark.parametrize("more", [(), ("--wide",), ("--threshold", "0.3"), ("--wide", "--threshold", "0.3")])
def test_an_interrupted_csv_file_is_continued(more, folder):
    line = ["classify", "pictures", *FAST, *more, "-o", "x.csv"]
    assert main(line) == 1
    whole = (folder / "x.csv").read_bytes()
    for size in range(0, len(whole), 101):
        (folder / "x.csv").write_bytes(whole[:size])
        assert main([*line, "--resume"]) == 1
        assert (folder / "x.csv").read_bytes() == whole, size


def test_a_file_with_other_scores_is_not_continued(folder, capsys):
    line = ["classify", "pictures/a.png", *FAST, "-o", "x.csv"]
    assert main(line) == 0
    for more in ["--wide"], ["--threshold", "0.3"], ["--function-to-apply", "none"]:
        assert main([*line, *more, "--resume"]) == 3
        assert "cannot be continued, because another run wrote it" in capsys.readouterr().err
    assert main([*line, "--resume"]) == 0


def test_labels_below_the_threshold_are_left_out(folder, capsys):
    everything = printed_rows(capsys, "pictures/a.png", "pictures/c.png")
    score = everything[0]["labels"][1]["score"]
    found = printed_rows(capsys, "pictures/a.png", "pictures/c.png", "--threshold", repr(score))
    for row, other in zip(found, everything):
        assert row["labels"] == [label for label in other["labels"] if label["score"] >= score]
    assert len(found[0]["labels"]) == 2, "a score that is equal to the threshold is not below it"


def test_a_picture_without_a_label_has_its_row(folder, capsys):
    line = ["classify", "pictures", *FAST, "--threshold", "1"]
    assert main(line) == 1
    told = f"  {rows.NO_LABEL}\n"
    assert capsys.readouterr().out == f"pictures/a.png\n{told}pictures/b.png: error\npictures/c.png\n{told}"
    assert main([*line, "--format", "csv"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "0,pictures/a.png,,,," and lines[3] == "2,pictures/c.png,,,,"
    assert resume.COLUMNS == rows.columns()


@pytest.mark.parametrize("text", ["nan", "inf", "x"])
def test_a_threshold_is_a_number(text, capsys):
    assert f"found {text}; expected a finite number" in usage_error(capsys, f"classify a.png --threshold {text}")


@pytest.mark.parametrize("more", ["", " --function-to-apply sigmoid"])
def test_a_threshold_that_fits_no_score_is_refused(more, cat, tmp_path, capsys):
    for threshold in "50", "-0.1":
        line = f"classify {cat} --engine reference -o {tmp_path}/x.csv --threshold={threshold}{more}"
        told = usage_error(capsys, line)
        function = more.split()[-1] if more else "softmax"
        assert f"argument --threshold: found {threshold}; the scores of {function} are between 0 and 1" in told
    assert not (tmp_path / "x.csv").exists()
    (row,) = printed_rows(capsys, cat, "--threshold", "2", "--function-to-apply", "none")
    assert 0 < len(row["labels"]) < 5


# ---------------------------------------------------------------- scores

@pytest.mark.parametrize("function", [None, *options.FUNCTIONS])
def test_the_function_that_computes_the_scores(function, cat, model, capsys):
    more = () if function is None else ("--function-to-apply", function)
    (row,) = printed_rows(capsys, cat, "--top-k", 10, *more)
    logits = model(model.prepared(str(cat))).logits[0].astype(np.float64)
    expected = {"sigmoid": 1 / (1 + np.exp(-logits)), "none": logits}.get(
        function, np.exp(logits) / np.exp(logits).sum())
    assert sorted(label["index"] for label in row["labels"]) == list(range(10))
    for label in row["labels"]:
        assert label["score"] == pytest.approx(expected[label["index"]], rel=1e-6)      # observed: 1.1e-7


def test_the_functions_are_those_of_the_pipeline():
    assert options.FUNCTIONS == tuple(SCORES)


# ---------------------------------------------------------------- class names and truth

def test_the_old_names_of_options_still_work(folder, capsys):
    (folder / "names.txt").write_text("\n".join(f"name {i}" for i in range(10)))
    (folder / "truth.csv").write_text("pictures/a.png,name 3\npictures/c.png,name 0\n")
    found = [printed_rows(capsys, "pictures/a.png", option, "names.txt") for option in ("--class-names", "--labels")]
    assert found[0] == found[1] and found[0][0]["labels"][0]["label"] == "name 3"
    reports = []
    for option in "--truth", "--labels":
        line = ["evaluate", "pictures/a.png", "pictures/c.png", option, "truth.csv", "--class-names", "names.txt"]
        assert main([*line, *FAST, "--format", "json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == reports[1] and [row["label"] for row in reports[0]["classes"]] == ["name 0", "name 3"]
    with pytest.raises(SystemExit):
        main(["classify", "--help"])
    usage = capsys.readouterr().out
    assert "--class-names FILE" in usage and "--labels FILE" not in usage


# ---------------------------------------------------------------- image processors

@pytest.fixture
def bare(folder, model):
    """A folder of the bundled model without its image processor, and the file of another image processor."""
    model.save_pretrained(folder / "bare")
    file = folder / "bare" / "preprocessor_config.json"
    fields = {**json.loads(file.read_text()), "image_mean": [0.1, 0.2, 0.3], "size": {"shortest_edge": 80}}
    file.unlink()
    (folder / "other.json").write_text(json.dumps(fields))
    return folder / "bare", folder / "other.json"


def test_another_image_processor(bare, cat, model, capsys):
    (row,) = printed_rows(capsys, cat, "--model", bare[0], "--processor", bare[1], "--function-to-apply", "none")
    with Image.open(cat) as picture:
        pixels = ViTHybridImageProcessor.from_pretrained(bare[1])(picture.convert("RGB"), return_tensors="np")
        usual = model.image_processor()(picture.convert("RGB"), return_tensors="np")
    logits = model(pixels.pixel_values).logits[0]
    assert [label["score"] for label in row["labels"]] == sorted(map(float, logits), reverse=True)[:5]
    assert not np.array_equal(model(usual.pixel_values).logits[0], logits)


def test_a_class_of_image_processors_keeps_its_meaning_without_its_folder(bare, cat, capsys):
    """A ViTImageProcessor resizes both sides, in a folder and in a file alone."""
    fields = {"image_processor_type": "ViTImageProcessor", "size": 64, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (bare[0] / "preprocessor_config.json").write_text(json.dumps(fields))
    expected = printed_rows(capsys, "pictures/c.png", "--model", bare[0])
    shutil.move(bare[0] / "preprocessor_config.json", bare[1])
    assert printed_rows(capsys, "pictures/c.png", "--model", bare[0], "--processor", bare[1]) == expected


@pytest.mark.parametrize("line", ["embed pictures/a.png -o x.npy", "evaluate pictures/a.png --truth truth.csv",
                                  "explain pictures/a.png -o x.html", "trace pictures/a.png",
                                  "figures attention pictures/a.png -o x.png"])
def test_every_verb_takes_an_image_processor(line, bare, folder, capsys):
    (folder / "truth.csv").write_text("pictures/a.png,cat\n")
    line = [*line.split(), "--model", str(bare[0]), *FAST]
    assert main([*line, "--processor", str(bare[1])]) == 0


def test_a_worker_of_a_cluster_takes_the_image_processor(bare, cat):
    fields = json.loads(bare[1].read_text())
    prepare, _ = cluster.load_functions(cluster.job(str(bare[0]), processor=fields, engine="reference"))
    expected = ViTHybridImageProcessor.from_dict(fields)(Image.open(cat), return_tensors="np")
    assert np.array_equal(prepare(str(cat)), expected.pixel_values[0])


def test_features_take_no_image_processor(tmp_path, capsys):
    line = f"probe fit x.h5 --truth t.csv --processor p.json -o {tmp_path}/h.h5"
    assert main(line.split()) == 3
    assert "x.h5 is a feature file, whose pictures are already prepared" in capsys.readouterr().err


def test_an_image_processor_with_bad_options_is_refused(tmp_path, cat, capsys):
    (tmp_path / "p.json").write_text('{"size": "large"}')
    assert main(["classify", str(cat), *FAST, "--processor", str(tmp_path / "p.json")]) == 3
    assert "p.json: size['shortest_edge'] is 'large'; expected" in capsys.readouterr().err


def test_a_misspelt_state_gets_a_suggestion(cat, tmp_path, capsys):
    assert main(["embed", str(cat), *FAST, "-o", str(tmp_path / "x.npy"), "--state", "block.3"]) == 3
    assert capsys.readouterr().err.endswith("lists all names. Did you mean blocks.3?\n")
