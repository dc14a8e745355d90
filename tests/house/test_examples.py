"""Every example runs, prints what it shows, and the one page equals the package."""

import numpy as np
import pytest

from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor, default_model, open_picture

from tools.process import run_example as run

pytestmark = pytest.mark.slow


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


def test_time_kernels(root):
    """Its check against the reference runs; its figures are the machine's."""
    printed = run(root, "time_kernels.py", "--seconds", "0.01")
    assert "GFLOP/s" in printed and printed.splitlines()[-1].startswith("first calls: ")


def test_parity_with_torch(root, children_with_scipy):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    printed = run(root, "parity_with_torch.py")
    assert printed.splitlines()[-1] == "same label: yes" and "blocks.3" in printed
