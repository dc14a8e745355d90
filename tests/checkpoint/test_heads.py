"""Heads: their files, and what becomes of a model that takes one."""
import json

import numpy as np
import pytest

from nphybrid import (BitForImageClassification, FormatError, ViTForImageClassification,
                      ViTHybridForImageClassification, ViTHybridModel, checkpoint, pipeline, tensorfile)
from nphybrid.__main__ import main
from nphybrid.api import extractor
from nphybrid.api.load import load
from nphybrid.checkpoint import Head, read_head, write_head

from oracles.sights import KINDS, network

CLASSES = {"bit": BitForImageClassification, "vit": ViTForImageClassification, "mean": ViTForImageClassification}


def head_for(model, path, K=3, seed=0):
    """A head of random numbers that goes with a model in a file."""
    rng = np.random.default_rng(seed)
    state, pool = checkpoint.head_reads(model.network_config)
    width = model.network_config.width or model.network_config.widths[-1]
    return Head(rng.standard_normal((width, K)).astype(np.float32), rng.standard_normal(K).astype(np.float32),
                [f"mine {k}" for k in range(K)], checkpoint.sha256(path), state, pool, {"method": "by hand"})


@pytest.fixture(params=[kind for kind in KINDS if kind != "headless"])
def taught(request, tmp_path):
    """A model in a file, the class of it, and a head for it."""
    model = network(request.param)
    model.save(tmp_path / "m.h5")
    return model, CLASSES.get(request.param, ViTHybridForImageClassification), head_for(model, tmp_path / "m.h5")


def test_what_is_written_is_read(tmp_path):
    head = Head(np.float32([[1, 2], [3, -4], [5, 6]]), np.float32([0.5, -1]), ["Katze", "犬"], "ab" * 32, "norm",
                "token", {"strength": 0.1})
    write_head(tmp_path / "head.h5", head)
    found = read_head(tmp_path / "head.h5")
    assert (found.kernel == head.kernel).all() and (found.bias == head.bias).all() and found[2:] == head[2:]
    assert found.kernel.dtype == found.bias.dtype == np.float32
    again = (tmp_path / "head.h5").read_bytes()
    write_head(tmp_path / "head.h5", head)
    assert (tmp_path / "head.h5").read_bytes() == again


GOOD = {"format": "nphybrid head", "version": 1, "labels": ["a", "b"], "model": None, "state": "norm", "pool": "token",
        "made": {}}
KERNEL, BIAS = np.zeros((3, 2), np.float32), np.zeros(2, np.float32)


@pytest.mark.parametrize("change, told", [
    ({"version": 2}, "format and version are"), ({"format": "x"}, "format and version are"),
    ({"labels": ["a", "a"]}, "expected a list of different names"),
    ({"labels": []}, "expected a list of different names"),
    ({"labels": ["a", 1]}, "expected a list of different names"),
    ({"labels": "ab"}, "the head is 'ab'; expected an array"),
    ({"labels": ["a", "b", "c"]}, "do not fit 3 labels"), ({"model": 3}, "is 3; expected a string or null"),
    ({"state": None}, "state of the head"), ({"made": []}, "made of the head"),
    ({"more": 1}, "expected an object with the keys"),
    ({"kernel": np.zeros((3, 3), np.float32)}, "do not fit"), ({"bias": np.zeros((1, 2), np.float32)}, "do not fit"),
    ({"kernel": np.zeros(6, np.float32)}, "do not fit"), ({"bias": np.zeros(2)}, "bias is float64"),
    ({"kernel": np.float32([[0, 1], [np.nan, 0], [0, 0]])}, "not finite"), ({"extra": BIAS}, "is not a head: it holds"),
])
def test_files_that_break_a_rule_are_refused(change, told, tmp_path):
    arrays = {"kernel": KERNEL, "bias": BIAS} | {k: v for k, v in change.items() if isinstance(v, np.ndarray)}
    document = GOOD | {k: v for k, v in change.items() if not isinstance(v, np.ndarray)}
    tensorfile.write_h5(tmp_path / "head.h5", arrays, {"head": document})
    with pytest.raises(FormatError, match=told) as refused:
        read_head(tmp_path / "head.h5")
    assert str(tmp_path / "head.h5") in str(refused.value)


def test_a_model_is_no_head_and_a_bad_head_is_not_written(tmp_path):
    network("vit").save(tmp_path / "m.h5")
    with pytest.raises(FormatError, match="is not a head"):
        read_head(tmp_path / "m.h5")
    with pytest.raises(FormatError, match="expected a list of different names"):
        write_head(tmp_path / "head.h5", Head(KERNEL, BIAS, ["a", "a"], None, "norm", "token", {}))
    assert not (tmp_path / "head.h5").exists()


def test_the_logits_are_those_of_the_head_on_the_features(taught, tmp_path):
    """The head's features by the state that it names, times the kernel, in float64."""
    bare, kind, head = taught
    write_head(tmp_path / "head.h5", head)
    model = kind.from_pretrained(tmp_path / "m.h5", head=tmp_path / "head.h5", engine="reference")
    assert model.config.id2label == {0: "mine 0", 1: "mine 1", 2: "mine 2"} and model.config.num_labels == 3
    assert model.config.label2id["mine 2"] == 2
    size = model.network_config.image if model.network_config.blocks else (64, 64)
    x = np.random.default_rng(1).standard_normal((2, 3, *size)).astype(np.float32)
    features = extractor.extractor(bare, x[:1]).compute(x).astype(np.float64)
    expected = features @ head.kernel + head.bias
    assert np.abs(model(x).logits - expected).max() < 1e-5 * np.abs(expected).max()
    assert (np.abs(model(x).logits) > 0.01).any()


def test_the_whole_is_saved_and_loaded(taught, tmp_path):
    _, kind, head = taught
    model = kind.from_pretrained(tmp_path / "m.h5", head=head, engine="reference")
    model.save(tmp_path / "whole.h5")
    model.save_pretrained(tmp_path / "whole")
    image = model.network_config.image if model.network_config.blocks else (64, 64)
    x = np.random.default_rng(1).standard_normal((1, 3, *image))
    for path in (tmp_path / "whole.h5", tmp_path / "whole"):
        again = load(path, engine="reference")
        assert type(again) is kind and again.config.id2label == model.config.id2label
        assert (again(x.astype(np.float32)).logits == model(x.astype(np.float32)).logits).all()
        assert again.processor == model.processor


def test_one_class_is_right_whatever_the_model_was_trained_for(tmp_path):
    """A model of many labels at once answers with sigmoids; the classes of a head exclude each other."""
    model = network("vit")
    model.config.problem_type = "multi_label_classification"
    model.save(tmp_path / "m.h5")
    picture = np.random.default_rng(1).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    own, taught = (pipeline("image-classification", load(tmp_path / "m.h5", head=head, engine="reference"))
                   for head in (None, head_for(model, tmp_path / "m.h5")))
    assert own.model.config.problem_type == "multi_label_classification" and taught.model.config.problem_type is None
    shares = [sum(answer["score"] for answer in pipe(picture)) for pipe in (own, taught)]
    assert abs(shares[0] - 1) > 0.01 and shares[1] == pytest.approx(1, abs=1e-6)


def test_a_bare_model_becomes_a_classifier(tmp_path):
    bare = network("headless")
    bare.save(tmp_path / "m.h5")
    head = head_for(bare, tmp_path / "m.h5")
    for model in (load(tmp_path / "m.h5", head=head, engine="reference"),
                  ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5", head=head, engine="reference")):
        x = np.random.default_rng(1).standard_normal((1, 3, 40, 40)).astype(np.float32)
        expected = bare(x).last_hidden_state[:, 0] @ head.kernel + head.bias
        assert np.abs(model(x).logits - expected).max() < 1e-5
    with pytest.raises(ValueError, match="ViTHybridModel has no classifier that the head can replace; expected a class "
                                         "with a classifier"):
        ViTHybridModel.from_pretrained(tmp_path / "m.h5", head=head)


@pytest.mark.parametrize("change, told", [
    (dict(state="blocks.1"), "reads the state blocks.1 with pool token, but the classifier .* reads the state "
                             "norm with pool"),
    (dict(pool="mean"), "reads the state norm with pool mean"),
    (dict(model="00" * 32), "fitted to features of the model with SHA-256 0000"),
    (dict(kernel=np.zeros((25, 3), np.float32)), "reads 25 features, but .* has 24"),
])
def test_heads_of_something_else_are_refused(change, told, tmp_path):
    model = network("hybrid")
    model.save(tmp_path / "m.h5")
    head = head_for(model, tmp_path / "m.h5")._replace(**change)
    with pytest.raises(ValueError, match=told):
        ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5", head=head)
    if "model" in change:                                   # the way out that the message names
        ViTHybridForImageClassification.from_pretrained(tmp_path / "m.h5", head=head._replace(model=None))


def test_classify_answers_with_a_head_and_resumes_with_no_other(tmp_path, root, capsys):
    model = network("hybrid")
    model.save(tmp_path / "m.h5")
    for seed in (0, 1):
        write_head(tmp_path / f"head{seed}.h5", head_for(model, tmp_path / "m.h5", seed=seed))
    cat, out = str(root / "examples" / "images" / "cat.png"), str(tmp_path / "rows.jsonl")
    line = ["classify", cat, "--model", str(tmp_path / "m.h5"), "--engine", "reference", "--format", "jsonl"]
    assert main([*line, "--head", str(tmp_path / "head0.h5"), "-o", out]) == 0
    row, = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    taught = load(tmp_path / "m.h5", head=tmp_path / "head0.h5", engine="reference")
    logits = taught(taught.prepared(cat)).logits[0].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert [label["label"] for label in row["labels"]] == [f"mine {k}" for k in np.argsort(-logits)]
    assert np.allclose([label["score"] for label in row["labels"]], np.sort(shares)[::-1], atol=1e-6)
    capsys.readouterr()
    assert main([*line, "--head", str(tmp_path / "head1.h5"), "-o", out, "--resume"]) == 3
    assert "cannot be continued, because another run wrote it: head (found " in capsys.readouterr().err
