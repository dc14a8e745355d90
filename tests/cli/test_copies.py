"""`classify --copy-to` and `--save-drawn`: which file is copied where, and what is never replaced."""
import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from nphybrid import tensorfile
from nphybrid.__main__ import main
from nphybrid.batch import copies
from nphybrid.cli import classify
from nphybrid.explain import drawing, labelled

LINE = ["classify", "in", "-r", "--engine", "reference"]


@pytest.fixture
def pictures(cat, tmp_path, monkeypatch):
    """The folder `in` with two pictures of one name, a broken picture, and a picture stored on its side."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("in/b")
    shutil.copy(cat, "in/1.png")
    noise = np.random.default_rng(2).integers(0, 256, (65, 38, 3), np.uint8)
    Image.fromarray(noise).save("in/b/1.PNG")
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save("in/side.jpg", exif=exif)
    return tmp_path


def labels_of(capsys, *more):
    """{path: labels} of the pictures that can be read."""
    assert main([*LINE, *more, "--format", "json"]) == 1
    return {row["path"]: row.get("labels") for row in json.loads(capsys.readouterr().out)}


def files(folder):
    return sorted(os.path.relpath(os.path.join(path, name), folder) for path, _, names in os.walk(folder)
                  for name in names)


def test_pictures_are_copied_to_the_folder_of_their_label(pictures, capsys):
    before = {name: (pictures / "in" / name).read_bytes() for name in files("in")}
    labels = labels_of(capsys, "--copy-to", "out")
    first = {path: found[0]["label"] for path, found in labels.items() if found}
    copied = {"in/1.png": "1.png", "in/b/1.PNG": "1-2.PNG", "in/side.jpg": "side.jpg"}
    assert files("out") == sorted(f"{first[path]}/{name}" for path, name in copied.items())
    for path, name in copied.items():
        assert (pictures / "out" / first[path] / name).read_bytes() == (pictures / path).read_bytes()
    assert {name: (pictures / "in" / name).read_bytes() for name in files("in")} == before


@pytest.mark.parametrize("wide", [[], ["--wide"]])
def test_a_row_has_the_paths_of_its_copies(wide, pictures):
    line = [*LINE, "--copy-to", "out", "--save-drawn", "drawn", "--top-k", "2", "-o"]
    assert main([*line, "x.csv", *wide]) == 1
    with open("x.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[-3:] == ["copy", "drawn", "error"] and len(rows) == (4 if wide else 7)
    for row in rows:
        if row[-1]:
            assert row[1] == "in/broken.png" and row[-3:-1] == ["", ""]
            continue
        assert (pictures / row[-3]).read_bytes() == (pictures / row[1]).read_bytes()
        assert os.path.dirname(row[-2]) == str(pictures / "drawn") and os.path.isfile(row[-2])
    shutil.rmtree("out"), shutil.rmtree("drawn")
    assert main([*line, "x.jsonl"]) == 1
    found = {row["path"]: row for row in map(json.loads, (pictures / "x.jsonl").read_text().splitlines())}
    for row in rows:
        assert [found[row[1]].get(name, "") for name in ("copy", "drawn")] == row[-3:-1]


def test_pictures_below_the_threshold_have_a_folder(pictures, capsys):
    labels_of(capsys, "--copy-to", "out", "--threshold", "1")
    assert files("out") == ["no label/1-2.PNG", "no label/1.png", "no label/side.jpg"]


def test_labels_are_drawn_below_the_upright_picture(pictures, capsys):
    labels_of(capsys, "--save-drawn", "out", "--top-k", "2")
    assert files("out") == ["1-2.png", "1.png", "side.jpg"]
    with Image.open("out/1-2.png") as drawn, Image.open("in/b/1.PNG") as picture:
        pixels = np.asarray(drawn)
        assert np.array_equal(pixels[:65, :38], np.asarray(picture)), "the pixels of the picture do not change"
        assert (pixels[65:] < 128).any() and (pixels[:65, 38:] == 255).all()
    with Image.open("out/side.jpg") as drawn:
        assert drawn.height == 38 + 2 * 21 + 7 and not drawn.getexif().get(0x0112)


def test_a_name_that_cannot_be_drawn_is_a_number_and_told_once(pictures, capsys, monkeypatch):
    monkeypatch.setattr(drawing, "SYSTEM_FONTS", ())
    names = ["Kätzchen"] * 10
    names[3] = "חתול"
    (pictures / "names.txt").write_text("\n".join(names), "utf-8")
    drawn = []
    monkeypatch.setattr(labelled, "write", lambda page, x, y, line, size: drawn.append(line.split()[0]))
    shutil.copy("in/1.png", "in/2.png")
    assert main(["classify", "in/1.png", "in/2.png", "--engine", "reference", "--save-drawn", "out", "--top-k", "2",
                 "--class-names", "names.txt"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert drawn == [*drawn[:2]] * 2 and drawn[0] == "#3" and len(lines) == 2
    start = "nphybrid: the drawn copies show"
    assert lines[0] == f"{start} #3 instead of a name that cannot be drawn: חתול"
    assert lines[1] == f"{start} {drawn[1]} instead of a name that cannot be drawn: Kätzchen"


@pytest.mark.parametrize("option", ["--copy-to", "--save-drawn"])
def test_copies_are_written_atomically(option, pictures, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device", os.fspath(target))
    monkeypatch.setattr(os, "replace", fail)
    assert main(["classify", "in/1.png", "--engine", "reference", option, "out"]) == 1
    assert files("out") == []


def test_more_labels_need_more_lines():
    picture = Image.new("RGB", (400, 100))
    heights = [labelled.with_lines(picture, ["a label"] * count).height for count in range(1, 4)]
    assert np.diff(heights).tolist() == [21, 21]
    assert labelled.with_lines(picture, ["a long label, " * 20]).width > 400
    narrow = labelled.with_lines(Image.new("RGB", (12, 20_000)), ["a label"])
    assert narrow.width < 100 and narrow.height < 20_100


@pytest.mark.parametrize("option", ["--copy-to", "--save-drawn"])
def test_no_file_is_replaced(option, pictures, capsys):
    os.mkdir("out")
    (pictures / "out" / "1.png").write_text("mine")
    for folder, told in (("out", "the folder {} is not empty"), ("in/1.png", "{} is not a folder")):
        assert main([*LINE, option, folder]) == 3
        assert told.format(os.path.realpath(folder)) in capsys.readouterr().err
    assert (pictures / "out" / "1.png").read_text() == "mine" and files("out") == ["1.png"]


@pytest.mark.parametrize("option", ["--copy-to", "--save-drawn"])
def test_a_copy_that_fails_does_not_end_the_run(option, pictures, capsys, monkeypatch):
    """The disk is full for one of three pictures. Its row is written, the exit code is 1, and stderr names it."""
    def write(path):
        if "side" in str(path):
            raise OSError(28, "No space left on device", str(path))
        return tensorfile.write_atomically(path)
    for module in copies, labelled:
        monkeypatch.setattr(module, "write_atomically", write)
    assert main(["classify", "in/1.png", "in/side.jpg", "in/b/1.PNG", "--engine", "reference", "--format", "json",
                 option, "out"]) == 1
    captured = capsys.readouterr()
    assert [row["path"] for row in json.loads(captured.out)] == ["in/1.png", "in/side.jpg", "in/b/1.PNG"]
    assert len(files("out")) == 2
    lines = captured.err.splitlines()
    assert "no copy of in/side.jpg: " in lines[0] and "No space left on device" in lines[0]
    assert lines[-1] == "nphybrid: copies that could not be written: 1"


@pytest.mark.parametrize("option", ["--copy-to", "--save-drawn"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_that_is_put_into_the_folder_is_not_followed(kind, option, pictures, capsys, monkeypatch):
    """Another program puts a link into the folder while the run goes on."""
    (pictures / "mine").mkdir()
    (pictures / "mine" / "1.png").write_text("mine")
    label = labels_of(capsys)["in/1.png"][0]["label"]
    begin = classify._begin

    def put_link(*arguments):
        folder = pictures / "out" / label if option == "--copy-to" and kind == "file" else pictures / "out"
        folder.mkdir(parents=True)
        if kind == "file":
            (folder / "1.png").symlink_to(pictures / "mine" / "1.png")
        elif option == "--copy-to":
            (folder / label).symlink_to(pictures / "mine")
        else:
            (folder / "1.png").symlink_to(pictures / "mine")
        return begin(*arguments)
    monkeypatch.setattr(classify, "_begin", put_link)
    assert main(["classify", "in/1.png", "--engine", "reference", option, "out"]) == 1
    assert "leads through a symbolic link to" in capsys.readouterr().err
    assert files("mine") == ["1.png"] and (pictures / "mine" / "1.png").read_text() == "mine"


def test_a_folder_of_a_glob_is_an_input(pictures, capsys):
    assert main(["classify", "i*", "-r", "--engine", "reference", "--copy-to", "in/out"]) == 3
    assert "lies in the input folder in;" in capsys.readouterr().err and not (pictures / "in" / "out").exists()


def test_one_folder_for_both_is_refused(pictures, capsys):
    assert main([*LINE, "--copy-to", "out", "--save-drawn", "./out"]) == 3
    assert "expected two folders" in capsys.readouterr().err and not os.path.exists("out")


def test_an_interrupted_run_copies_the_rest(pictures, capsys):
    line = [*LINE, "--copy-to", "out", "-o", "x.jsonl"]
    assert main(line) == 1
    whole, rows = files("out"), (pictures / "x.jsonl").read_bytes()
    shutil.rmtree("out")
    (pictures / "x.jsonl").write_bytes(rows[:10])
    assert main([*line, "--resume"]) == 1
    assert files("out") == whole and (pictures / "x.jsonl").read_bytes() == rows
    capsys.readouterr()
    assert main(line) == 3
    assert ("/out is not empty; expected a new or an empty folder for the copies. The same command with --resume "
            "continues the run that wrote it\n") in capsys.readouterr().err
    assert main([*LINE, "-o", "x.jsonl", "--resume"]) == 3, "without --copy-to, it is another run"
    told = f"another run wrote it: copy-to (found {pictures}/out, expected none). Repeat the pictures and the options"
    assert told in capsys.readouterr().err
    shutil.copy("in/1.png", "in/2.png")
    assert main([*line, "--resume"]) == 3
    assert "another run wrote it: list (found 4 pictures, expected 5 pictures). " in capsys.readouterr().err
    os.remove("in/1.png")
    assert main([*line, "--resume"]) == 3
    told = "list (found 4 pictures, expected as many, but other paths or another order). "
    assert f"another run wrote it: {told}" in capsys.readouterr().err
    assert main([*line[:-1], "y.jsonl"]) == 3 and "--resume continues" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--copy-to", "--save-drawn"])
def test_only_the_same_run_continues_a_folder_that_is_not_empty(option, pictures, capsys):
    os.mkdir("out")
    (pictures / "out" / "1.png").write_text("mine")
    line = [*LINE, option, "out", "-o", "x.jsonl", "--resume"]
    assert main(line) == 3 and "out is not empty" in capsys.readouterr().err
    (pictures / "x.jsonl").write_bytes(b"")
    (pictures / "x.jsonl.run.json").write_text("{}")
    assert main(line) == 3 and "out is not empty" in capsys.readouterr().err, "the file of another run"
    assert (pictures / "out" / "1.png").read_text() == "mine" and files("out") == ["1.png"]
    os.remove("out/1.png")
    assert main(line) == 1
    whole = files("out")
    (pictures / "x.jsonl").write_bytes(b"")
    assert main(line) == 1 and files("out") == whole, "the first run was stopped before its first row"


@pytest.mark.parametrize("option", ["--copy-to", "--save-drawn"])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_folder_with_inputs_is_refused(option, resume, pictures, capsys):
    before = {name: (pictures / "in" / name).read_bytes() for name in files("in")}
    (pictures / "link").symlink_to("in", target_is_directory=True)
    lies, contains = "lies in the input folder in", "contains the input"
    for inputs, folder, told in ((["in", "-r"], "in/new", lies), (["in", "-r"], "link/new", lies), (["in"], "in", lies),
                                 (["in/b"], "in", contains), (["link/1.png"], "in", contains),
                                 (["in/b/1.PNG"], ".", contains)):
        line = ["classify", *inputs, "--engine", "reference", "-o", "x.jsonl", option, folder, *resume]
        assert main(line) == 3
        error = capsys.readouterr().err
        assert told in error or not resume and "is not empty" in error
    assert {name: (pictures / "in" / name).read_bytes() for name in files("in")} == before
    assert not os.path.exists("x.jsonl") and not os.path.exists("in/new")


def test_a_folder_that_is_not_searched_can_lie_in_an_input_folder(pictures):
    assert main(["classify", "in", "--engine", "reference", "--copy-to", "in/new", "--quiet"]) == 1
    assert len(files("in/new")) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        copies.refuse_pipes([b"", str(tmp_path / "missing"), str(tmp_path), str(tmp_path / "pipe")])


@pytest.mark.parametrize("label", ["../../x", "/etc/passwd", "..", ".", "a\0b", "C:\\x", "a/" * 300, "猫" * 300,
                                   "\ud800", "x\n", "con", "COM1.txt", " "])
def test_a_label_never_leads_out_of_the_folder(label, tmp_path):
    (name,) = copies.folder_names([label])
    os.makedirs(tmp_path / "out" / name)
    assert os.listdir(tmp_path / "out") == [name] and os.listdir(tmp_path) == ["out"]
    assert not set(name) & set('<>:"/\\|?*') and len(name.encode()) <= 210
    assert name.partition(".")[0].lower() not in copies.RESERVED


def test_different_labels_have_different_folders_and_equal_labels_one():
    names = copies.folder_names(["no label", "crane", "Crane", "crane", "No label", "a/b", "a:b"])
    assert names[1] == names[3] and len({name.casefold() for name in names}) == 6
    names = copies.folder_names(["no label", "a/b", "a:b", "a_b (2)", "a:b", "A_B (3)"])
    assert names[2] == names[4] and len({name.casefold() for name in names}) == 5


def test_names_of_copies_are_unique_where_letter_case_does_not_count():
    sources = ["a/1.jpg", "b/1.JPG", "c/1.heic", "d/1.png", "1-2.png", b"x", b"y"]
    for suffix in str, lambda end: ".png":
        names = copies.file_names(sources, suffix)
        assert len({name.casefold() for name in names}) == len(sources)
    assert names[:4] == ["1.png", "1-2.png", "1-3.png", "1-4.png"]
