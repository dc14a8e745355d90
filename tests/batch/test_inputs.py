"""The inputs of a command become its list of pictures."""
import io
import os
import random
import shutil
import sys
from collections import Counter

import pytest
from PIL import Image

from nphybrid import PictureError
from nphybrid.__main__ import main
from nphybrid.batch.inputs import find_pictures, left_out_text, open_source
from nphybrid.pictures.decode import FORMATS, begins_as_picture


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with files such as people have, as the current folder."""
    for name in ("b.JPG", "a.png", "B.webp", "é.tiff", "notes.txt", ".hidden.png", "c.d/z.png", "c.d/a.gif", "c/a.bmp",
                 ".thumbnails/a.png", "empty/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)


def test_a_folder_in_the_order_of_its_bytes(tree):
    assert find_pictures(["."]) == ["./B.webp", "./a.png", "./b.JPG", "./link.png", "./é.tiff"]


def test_recursive_in_the_order_of_whole_paths(tree):
    """"c.d" comes before "c/": a dot is a smaller byte than a slash. Links to folders are not followed."""
    expected = "B.webp a.png b.JPG c.d/a.gif c.d/z.png c/a.bmp link.png é.tiff"
    assert find_pictures(["."], recursive=True) == [f"./{name}" for name in expected.split()]


def test_inputs_keep_their_order_and_come_as_often_as_they_are_named(tree):
    assert find_pictures(["notes.txt", "c", "a.png", "c", "again"])[:4] == ["notes.txt", "c/a.bmp", "a.png", "c/a.bmp"]
    assert find_pictures(["again"])[0] == "again/B.webp"


def test_globs(tree):
    assert find_pictures(["*.[pt]*"]) == ["a.png", "link.png", "notes.txt", "é.tiff"]
    assert find_pictures(["c*"]) == ["c/a.bmp", "c.d/a.gif", "c.d/z.png"], "a folder that a glob matches is a folder"
    os.remove("again")
    assert find_pictures(["**/*.png"]) == ["a.png", "c.d/z.png", "link.png"]
    assert find_pictures(["[x].png"]) == ["[x].png"]
    open("[x].png", "w").close()
    assert find_pictures(["[x].png"]) == ["[x].png"], "a name that exists is no glob"


def test_what_gives_no_picture_stands_in_the_list(tree):
    names = ["empty", "nothing.png", "*.gif"]
    assert find_pictures(names) == names
    for name, told in zip(names, ["^the folder empty contains no picture; expected files whose names end in .jpg, "
                                  ".png, … The option -r also searches the folders inside a folder.$",
                                  "no such file", "no such file"]):
        with pytest.raises((PictureError, OSError), match=told):
            open_source(name)


def test_a_folder_that_may_not_be_read_is_not_called_empty(tree, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", path)
    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(PermissionError, match="empty"):
        open_source("empty")


def test_a_folder_that_may_not_be_read_stands_in_the_list(tree, monkeypatch):
    scandir = os.scandir

    def refused(path):
        if path == "./c":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)
    monkeypatch.setattr(os, "scandir", refused)
    found = find_pictures(["."], recursive=True)
    assert "./c" in found and "./c/a.bmp" not in found and "./c.d/z.png" in found


@pytest.mark.parametrize("data, names", [
    (b"b.png\na.png\n", ["b.png", "a.png"]),
    (b"b.png\r\na.png", ["b.png", "a.png"]),
    (b"b\n.png\0a\r\n.png\0\xff.png\0", ["b\n.png", "a\r\n.png", os.fsdecode(b"\xff.png")]),
    (b"\nb.png\n\n", ["b.png"]),
    (b"b.png\r\na.png\nc.png\n", ["b.png", "a.png", "c.png"]),
    (b"\xef\xbb\xbfb.png\n", ["b.png"]),
    (b"BMW.jpg\nP6.png\nGIF89a.gif\n", ["BMW.jpg", "P6.png", "GIF89a.gif"]),
    (b"P1 2 3.pbm\n", ["P1 2 3.pbm"]),
    (b"*.png\n-\n", ["*.png", "-"]),
    (b"c\n", ["c/a.bmp"]),
], ids=["lines", "CRLF", "NUL", "empty lines", "mixed ends", "BOM",
        "names like signatures", "names like a header", "no globs", "folder"])
def test_a_list_on_stdin(tree, data, names):
    assert find_pictures(["-"], stdin=io.BytesIO(data)) == names


def test_between_other_inputs(tree):
    assert find_pictures(["a.png", "-", "c"], stdin=io.BytesIO(b"x")) == ["a.png", "x", "c/a.bmp"]
    assert find_pictures(["-"], stdin=io.BytesIO(b"")) == [b""], "an empty stdin is a picture that cannot be read"


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_on_stdin(format):
    """A picture of every format, complete, and cut off anywhere after its signature."""
    file = io.BytesIO()
    try:
        Image.effect_noise((33, 21), 50).convert("RGB").save(file, format)
    except (OSError, KeyError) as error:
        pytest.skip(f"this Pillow writes no {format}: {error}")
    data = file.getvalue()
    assert find_pictures(["-"], stdin=io.BytesIO(data)) == [data]
    if format in ("PNG", "JPEG", "TIFF", "AVIF", "JPEG2000"):
        assert all(begins_as_picture(data[:random.Random(i).randrange(16, len(data))]) for i in range(50))


# ---------------------------------------------------------------- what a folder has beside the pictures

@pytest.mark.parametrize("recursive, expected", [
    (False, {".txt": 1, "hidden": 2, "inner folder": 4}),
    (True, {".txt": 1, ".md": 1, "hidden": 2, "folder link": 1})])
def test_everything_in_a_folder_is_listed_or_counted(tree, recursive, expected):
    left_out = Counter()
    find_pictures(["."], recursive, left_out=left_out)
    assert left_out == expected
    find_pictures(["notes.txt", "a.png", "nothing", "*.txt"], left_out=left_out)
    assert left_out == expected, "a file that is named is not left out"


@pytest.mark.parametrize("left_out, told", [
    ({".b": 1, ".a": 1, ".c": 1_000}, "1,000 .c, 1 .a, 1 .b"), ({"inner folder": 1}, "1 inner folder. The option -r"),
    ({"inner folder": 2, "folder link": 3}, "3 folder links, 2 inner folders. "), ({".\x1b[2J": 1}, r"1 '.\x1b[2J'"),
    ({f".{i:02d}": 1 for i in range(20)}, "1 .10, 1 .11, 8 with other suffixes")])
def test_the_line_about_what_is_left_out(left_out, told):
    assert told in left_out_text(Counter(left_out)) and left_out_text(Counter(left_out)).isprintable()


@pytest.fixture
def phone(cat, tmp_path):
    """A folder from a phone."""
    folder = tmp_path / "phone"
    folder.mkdir()
    Image.open(cat).convert("RGB").save(folder / "IMG_0001.JPG")
    for name in ("IMG_0002.HEIC", "IMG_0003.heif"):
        (folder / name).write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(400))
    (folder / "IMG_0004.jxl").write_bytes(b"\xff\x0a" + bytes(300))
    (folder / "IMG_0005.DNG").write_bytes(b"II*\0" + bytes(300))
    shutil.copy(folder / "IMG_0001.JPG", folder / "IMG_0006")
    (folder / "IMG_0001.MP4").touch()
    (folder / ".DS_Store").touch()
    return folder


def test_a_folder_of_a_phone(phone, monkeypatch, capsys):
    """Without pillow-heif, a HEIC picture is a picture that cannot be read, and not one that is left out."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    command = ["classify", str(phone), "--engine", "reference", "--format", "csv", "--top-k", "1"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 4 and "IMG_0001.JPG,3,cat" in captured.out
    for text in captured.out, captured.err:
        for name in "IMG_0002.HEIC", "IMG_0003.heif":
            assert f"{name}: is a HEIC picture, which needs the package pillow-heif: pip install pillow-heif" in text
    told = "nphybrid: left out in folders: 1 .dng, 1 .jxl, 1 .mp4, 1 hidden, 1 without a suffix\n"
    assert told in captured.err
    assert main([*command, "--quiet"]) == 1 and capsys.readouterr().err == ""


def test_folders_of_classes_tell_what_they_leave_out(phone, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    photos = phone.parent / "photos"
    shutil.copytree(phone, photos / "cat")
    (photos / "notes.txt").touch()
    assert main(["evaluate", str(photos), "--engine", "reference"]) == 1
    captured = capsys.readouterr()
    assert "left out in folders: 1 .dng, 1 .jxl, 1 .mp4, 1 .txt, 1 hidden, " in captured.err
    assert captured.out.startswith("1 pictures, 2 more could not be read\n")


@pytest.mark.parametrize("data, told", [
    (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "is a video (MP4 or MOV), not a picture"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0", "is a video (MP4 or MOV), not a picture"),
    (b"%PDF-1.7\n", "is a PDF file, not a picture"), (b"\xfe\\\0", r"it begins with '\xfe\\\x00'")])
def test_files_that_are_no_pictures_are_named(data, told, tmp_path):
    (tmp_path / "x.jpg").write_bytes(data + b"A" * 3)
    with pytest.raises(PictureError) as refused:
        open_source(str(tmp_path / "x.jpg"))
    assert str(refused.value).startswith(f"{tmp_path}/x.jpg: ") and told.rstrip("'") in str(refused.value)


def test_a_heic_without_the_package_names_the_package(phone, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r"IMG_0002.HEIC: is a HEIC picture, which needs the package pillow-heif"):
        open_source(str(phone / "IMG_0002.HEIC"))
