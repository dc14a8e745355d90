"""The names of the classes: the two lists that come along, and a file's."""
import json
from collections import Counter
from pathlib import Path

import pytest

from nphybrid import ViTHybridForImageClassification, checkpoint, default_model, labels
from nphybrid.__main__ import main
from nphybrid.classifier.classes import class_numbers
from nphybrid.tensorfile import FormatError

CIFAR10 = [f"class {i}" for i in range(9)] + ["class 3"]           # a name twice, as in both lists


@pytest.mark.parametrize("count, distinct, some", [
    (1000, 999, {0: "tench, Tinca tinca", 134: "crane", 207: "golden retriever", 281: "tabby, tabby cat",
                 517: "crane", 817: "sports car, sport car", 850: "teddy, teddy bear",
                 999: "toilet tissue, toilet paper, bathroom tissue"}),
    (21843, 21240, {0: "organism, being", 1: "benthos", 21842: "knothole"}),
])
def test_names(count, distinct, some):
    names = labels.names(count)
    assert (len(names), len(set(names))) == (count, distinct)
    assert {i: names[i] for i in some} == some


def test_both_lists_have_one_order():
    """Both follow the numbers of the synsets, so that the shorter is a part of the longer, but for the teddy bear."""
    whole = iter(labels.names(21843))
    part = [name for name in labels.names(1000) if name != "teddy, teddy bear"]
    assert len(part) == 999 and all(name in whole for name in part)


# ---------------------------------------------------------------- WordNet numbers

# From ImageNet's own list of synsets. There are two cranes, and a "maillot" beside a "maillot, tank suit".
NUMBERS = {"n01440764": 0, "n01443537": 1, "n02012849": 134, "n02123045": 281, "n03126707": 517, "n03710637": 638,
           "n03710721": 639, "n04399382": 850, "n15075141": 999}


@pytest.mark.parametrize("first_only", [False, True])
def test_wordnet_numbers_of_a_model_with_the_1000_classes(first_only):
    """Some models have only the first name of each class, such as "tench"."""
    model = [name.split(", ")[0] if first_only else name for name in labels.names(1000)]
    found = labels.wordnet_classes(model)
    assert {number: found[number] for number in NUMBERS} == {number: [k] for number, k in NUMBERS.items()}
    assert class_numbers(["n03126707", "n01440764", "n02012849", "n01440764"], model) == [517, 0, 134, 0]


def test_wordnet_numbers_of_a_model_with_the_21843_classes():
    model = labels.names(21843)
    found = labels.wordnet_classes(model)
    assert (found["n00004475"], found["n15102894"]) == ([0], [21842])
    assert all(len(places) == 1 for places in found.values() if places) and len(found) == 21844
    for number, k in NUMBERS.items():
        if number != "n04399382":                         # the teddy bear is not in the longer list
            assert model[found[number][0]] == labels.names(1000)[k]
    assert found["n02012849"] != found["n03126707"]


def test_wordnet_numbers_of_other_models_follow_the_names():
    """A model of a part of the classes, in an order of its own. Its places mean nothing."""
    model = ["tabby, tabby cat", "crane", "tench, Tinca tinca", "dog"]
    assert class_numbers(["n01440764", "n02123045"], model) == [2, 0]
    with pytest.raises(ValueError, match="no label for 1 of 2 classes: 'n01443537'"):
        class_numbers(["n01440764", "n01443537"], model)
    with pytest.raises(ValueError, match="several classes of the model share a label: 'n02012849'"):
        class_numbers(["n02012849"], ["crane", "crane"])
    assert class_numbers(["n01440764"], ["goldfish", "n01440764"]) == [1], "a label of the model itself comes first"
    with pytest.raises(ValueError, match="no label for 1 of 1 classes"):
        class_numbers(["n01440764"], [f"LABEL_{k}" for k in range(1000)])


def test_both_lists_of_wordnet_numbers_are_sorted_and_complete():
    for count, name in labels.WORDNET_FILES.items():
        numbers = labels.from_file(Path(labels.__file__).with_name(name))
        assert numbers == sorted({*numbers})
        assert class_numbers(numbers, labels.names(count)) == list(range(count))


def test_no_other_number_has_names():
    assert [labels.names(count) for count in (0, 10, 999, 21841)] == [None] * 4


def test_only_the_crane_is_twice():
    assert [name for name, times in Counter(labels.names(1000)).items() if times > 1] == ["crane"]


@pytest.mark.parametrize("text, expected", [
    ("cat\ndog", ["cat", "dog"]), ("cat\ndog\n", ["cat", "dog"]), ("cat\r\ndog\r\n", ["cat", "dog"]),
    ("\ufeffchat, félin\n犬\n", ["chat, félin", "犬"]), ("crane\ncrane\n", ["crane", "crane"]),
    ('["cat", "dog"]', ["cat", "dog"]), (' {"1": "dog", "0": "cat"}\n', ["cat", "dog"]),
    ("1, 2 and 3\ndog\n", ["1, 2 and 3", "dog"]),
    (json.dumps({str(i): f"c{i}" for i in reversed(range(11))}), [f"c{i}" for i in range(11)]),
])
def test_files(text, expected, tmp_path):
    (tmp_path / "labels").write_bytes(text.encode())
    assert labels.from_file(tmp_path / "labels") == expected


@pytest.mark.parametrize("data, message", [
    (b"", "holds no labels"), (b"[]", "holds no labels"), (b"{}", "holds no labels"),
    (b"cat\n\ndog\n", "line 2 is not a label: found ''"), (b"cat\n  \n", "line 2 is not a label: found '  '"),
    (b"cat\ndog\nc\xe9t\n", r"line 3 is not valid UTF-8: found b'\\xe9'"),
    (b"cat\nn2\tdog\n", r"line 2 holds characters that cannot be printed: found 'n2\\tdog'"),
    (b"cat\x0cdog\n", "line 1 holds characters"), (b"cat\rdog\r", "line 1 holds characters"),
    (b'["cat", 2]', "class 1 is not a label: found 2, expected a name"), (b'["cat", ""]', "class 1 is not a label"),
    (b'["cat", "a\\nb"]', "class 1 holds characters"), (b'["cat"', "is not valid JSON"),
    (b'{"0": "cat", "2": "dog"}', """has no label for class 1: found ['0', '2'], expected the keys "0" to "1"$"""),
    (b'{"0": "cat", "0": "dog"}', "duplicate key"), (b'{"00": "cat"}', "has no label for class 0"),
    (b"0,cat\n1,dog\n", "line 1 begins with the number of its class: found '0,cat', expected a name alone on each"),
    (b"1;cat\n2;dog\n", "line 1 begins with the number"), (b"0\tcat\n1\tdog\n", "line 1 begins with the number"),
    (b'{"cat": 0}', "has no label for class 0"), (b"x" * (labels.MOST_BYTES + 1), "is too long"),
], ids=lambda value: repr(value[:20]))
def test_faults_of_a_file_are_named(data, message, tmp_path):
    (tmp_path / "labels").write_bytes(data)
    with pytest.raises(FormatError, match=message.replace("[", r"\[")) as refused:
        labels.from_file(tmp_path / "labels")
    assert str(refused.value).startswith(str(tmp_path / "labels")) and len(str(refused.value)) < 400


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.txt"):
        labels.from_file(tmp_path / "nowhere.txt")


# ------------------------------------------------------------------ --labels

@pytest.fixture
def names(tmp_path):
    """A file with names for the ten classes of the default model."""
    (tmp_path / "names.txt").write_text("\n".join(CIFAR10))
    return tmp_path / "names.txt"


def test_classify_with_other_labels(names, root, capsys):
    cat = root / "examples" / "images" / "cat.png"
    shown = []
    for more in ([], ["--labels", str(names)]):
        assert main(["classify", str(cat), "--engine", "reference", "--format", "json", *more]) == 0
        shown.append(json.loads(capsys.readouterr().out)[0]["labels"])
    before, after = shown
    own = checkpoint.read_config(default_model())["label2id"]
    assert [label["label"] for label in after] == [CIFAR10[own[label["label"]]] for label in before]
    assert [label["score"] for label in after] == [label["score"] for label in before]


def test_convert_with_other_labels(names, tmp_path):
    target = tmp_path / "m.h5"
    assert main(["convert", str(default_model()), str(target), "--labels", str(names)]) == 0
    config = ViTHybridForImageClassification.from_pretrained(target, engine="reference").config
    assert list(config.id2label.values()) == CIFAR10 and config.label2id["class 3"] == 9 and len(config.label2id) == 9


@pytest.mark.parametrize("verb", ["classify x.png --engine reference", f"convert {default_model()} m.h5"])
def test_a_wrong_number_of_labels_is_refused(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nine.txt").write_text("\n".join(CIFAR10[:9]))
    assert main([*verb.split(), "--labels", "nine.txt"]) == 3
    assert capsys.readouterr().err == (
        "nphybrid: nine.txt contains 9 labels; expected 10, one for each class of the model\n")
    assert not (tmp_path / "m.h5").exists()
