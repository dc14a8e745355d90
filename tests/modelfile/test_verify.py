"""`nphybrid verify`: sound files pass with every engine; changed weights, damaged bytes and wrong engines do not."""
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import (PRESETS, BitBackbone, BitConfig, FormatError, ViTHybridConfig, ViTHybridForImageClassification,
                      default_model)
from nphybrid.__main__ import main
from nphybrid.modelfile import verify
from nphybrid.modelfile.verify import PUBLISHED, Published, verify_model
from nphybrid.ops import PAIRS, kernels
from nphybrid.tensorfile import read_h5, write_h5

EXACT = "10 numbers of logits, reference float64: max|a - b| / max|b|"


@pytest.fixture(scope="module")
def original():
    """Arrays and documents of the model that comes along."""
    return read_h5(default_model())


@pytest.fixture
def rewrite(original, tmp_path):
    """A function that writes them with other arrays or another manifest; all checksums are right."""
    def written(arrays=(), **manifest):
        documents = {**original.documents, "manifest": {**original.documents["manifest"], **manifest}}
        write_h5(tmp_path / "m.h5", {**original.arrays, **dict(arrays)}, documents)
        return tmp_path / "m.h5"
    return written


def failed(checks):
    return [check.what for check in checks if not check.ok]


# ---------------------------------------------------------------- what passes

def test_text(capsys):
    assert main("verify --engine reference --dtype float64".split()) == 0
    head, checksums, exact = capsys.readouterr().out.splitlines()
    assert head == "check                                                         bound      found"
    assert checksums == "SHA-256 of 117 arrays                                         as stored  as stored  ok"
    assert re.fullmatch(re.escape(EXACT) + r"  1\.0e-09    \d\.\de[+-]\d\d    ok", exact)


def test_json(capsys):
    assert main("verify --engine reference --format json".split()) == 0
    checks = json.loads(capsys.readouterr().out)
    assert [list(check) for check in checks] == [["what", "bound", "found", "ok"]] * 3
    assert checks[1]["bound"] == 1e-9 and checks[1]["found"] < 1e-11 and all(check["ok"] for check in checks)


@pytest.mark.parametrize("engine, dtype", PAIRS)
def test_every_engine(engine, dtype):
    checks = verify_model(default_model(), engine, dtype)
    assert failed(checks) == [] and f"{engine} {dtype}" in checks[-1].what
    assert checks[-1].bound == verify.BOUNDS[engine, dtype]
    assert len(checks) == 2 + ((engine, dtype) != ("reference", "float64"))


def test_every_pair_of_engine_and_dtype_has_a_bound():
    assert set(verify.BOUNDS) == set(PAIRS)


def test_a_network_without_a_head(tmp_path):
    """Its golden values are of the last state there is, the first 4,096 of them."""
    config = BitConfig(embedding_size=16, hidden_sizes=[32, 48], depths=[1, 2], num_groups=4)
    BitBackbone(config, engine="reference", seed=3).save(tmp_path / "m.h5")
    checks = verify_model(tmp_path / "m.h5", engine="reference")
    assert failed(checks) == [] and checks[1].what.startswith("48 numbers of pooler")


def test_one_class(tmp_path):
    """A single number has no spread to be measured by."""
    config = ViTHybridConfig(image_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=1,
                             intermediate_size=8, backbone_config=dict(
                                 embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2, global_padding="same",
                                 layer_type="bottleneck", embedding_dynamic_padding=True))
    ViTHybridForImageClassification(config, engine="reference", seed=3).save(tmp_path / "m.h5")
    assert failed(verify_model(tmp_path / "m.h5", engine="reference")) == []


def test_every_option_reaches_the_model(monkeypatch):
    seen, build = [], verify.build_model
    monkeypatch.setattr(verify, "build_model",
                        lambda source, **options: seen.append(options) or build(source, **options))
    verify_model(default_model(), "numba", "float32", precision="high")
    assert seen == [dict(engine="reference", dtype="float64"),
                    dict(engine="numba", dtype="float32", precision="high")]


# ---------------------------------------------------------------- what does not

def test_what_an_error_is_measured_by(original, rewrite):
    """In float64 the largest value, in float32 the spread of all."""
    golden = original.documents["manifest"]["golden"]
    values = np.array(golden["values"])
    values[4] += 0.01
    _, exact, rounded = verify_model(rewrite(golden={**golden, "values": values.tolist()}), engine="reference")
    assert exact.found == pytest.approx(0.01 / np.abs(values).max(), rel=1e-9)
    assert rounded.found == pytest.approx(0.01 / np.sqrt(np.mean((values - values.mean()) ** 2)), rel=1e-3)


@pytest.mark.parametrize("name, index, change", [
    ("classifier.bias", 3, 1e-6), ("vit.encoder.layer.1.attention.attention.value.bias", 7, 1e-4),
    ("vit.embeddings.patch_embeddings.backbone.bit.embedder.norm.bias", 5, 1e-4)])
def test_a_changed_bias_is_found(name, index, change, original, rewrite, capsys):
    array = original.arrays[name].copy()
    array[index] += change
    path = rewrite({name: array})
    assert failed(verify_model(path, "reference", "float64")) == [EXACT]
    assert main(["verify", str(path), "--engine", "reference"]) == 1
    assert re.search(re.escape(EXACT) + r"  1\.0e-09 +\d\.\de-\d\d +FAILED\n", capsys.readouterr().out)


def test_a_swapped_query_and_key_is_found(original, rewrite):
    """Of one shape, finite, with right checksums: only the logits tell."""
    layer = "vit.encoder.layer.2.attention.attention."
    swapped = {f"{layer}{a}.{leaf}": original.arrays[f"{layer}{b}.{leaf}"]
               for a, b in (("query", "key"), ("key", "query")) for leaf in ("weight", "bias")}
    assert EXACT in failed(verify_model(rewrite(swapped), engine="reference"))


def test_damaged_bytes_are_named_and_nothing_is_computed(original, rewrite, capsys):
    path = rewrite()
    data = bytearray(path.read_bytes())
    for name in "classifier.weight", "vit.layernorm.bias":
        data[data.index(original.arrays[name].tobytes()) + 9] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(path), "--engine", "reference"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and re.search("SHA-256 of 117 arrays  as stored  'classifier.weight', 'vit.layernorm.bias'  "
                                         "FAILED", lines[1])


@pytest.mark.parametrize("operation, wrong", [
    ("layer_norm", lambda right: lambda x, p, eps: right(x, p, 1e-2)),
    ("linear", lambda right: lambda x, p: right(x, p) * np.float32(1.001)),
], ids=["eps", "scale"])
def test_a_wrong_kernel_is_found(operation, wrong, monkeypatch):
    monkeypatch.setattr(kernels, operation, wrong(getattr(kernels, operation)))
    checks = verify_model(default_model(), "numba", "float32")
    assert failed(checks) == ["10 numbers of logits, numba float32: max|a - b| / std(b)"]


# ---------------------------------------------------------------- what cannot be verified

NO_GOLDEN = "expected an object with the keys state (a name) and values (a list of numbers)"


@pytest.mark.parametrize("golden, told", [
    (None, "stores no golden logits to compare with; expected an .h5 file that "
           "`nphybrid convert SOURCE TARGET.h5` wrote"),
    ("0.5", "golden is '0.5'; " + NO_GOLDEN),
    ({"state": "logits"}, NO_GOLDEN),
    ({"state": "logits", "values": []}, NO_GOLDEN),
    ({"state": 3, "values": [1.0]}, NO_GOLDEN),
    ({"state": "logits", "values": [1.0, True]}, NO_GOLDEN),
    ({"state": "logits", "values": ["1"]}, NO_GOLDEN),
    ({"state": "logits", "values": [0.5] * 11},
     "golden holds 11 numbers of the state 'logits'; this network has 10 numbers"),
    ({"state": "soul", "values": [0.5]}, "1 numbers of the state 'soul'; this network has no state of this name"),
], ids=str)
def test_golden_values_of_another_make(golden, told, rewrite):
    with pytest.raises(FormatError, match=re.escape(told)):
        verify_model(rewrite(golden=golden), engine="reference")


def test_refusals_exit_with_3(tmp_path, capsys):
    ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference").save_pretrained(tmp_path)
    for path, told in ((tmp_path, "nphybrid convert SOURCE TARGET.h5"), (tmp_path / "nowhere", "no such file"),
                       (tmp_path / "model.safetensors", "is only a part of a model")):
        assert main(["verify", str(path), "--engine", "reference"]) == 3
        printed = capsys.readouterr()
        assert told in printed.err and printed.out == ""
    assert main(["verify", "--engine", "numba", "--dtype", "float64"]) == 3
    assert "one of the dtypes float32, bfloat16, int8" in capsys.readouterr().err


# ---------------------------------------------------------------- the published logits

@pytest.fixture
def cats(root):
    return root / "examples" / "images" / "cat.png"


@pytest.fixture
def stand_in(cats, monkeypatch):
    """The bundled network in the place of the published one; its logits as `classify` found them, rounded."""
    model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="numba")
    from nphybrid import ViTHybridImageProcessor, open_picture
    picture = open_picture(cats)
    pixels = ViTHybridImageProcessor.from_pretrained(default_model())(picture, return_tensors="np").pixel_values
    logits = tuple(np.round(model(pixels).logits[0, :3].astype(float), 4))
    stand_in = Published("the stand-in", model.network_config, ("cat.png", *picture.size), logits, "cat")
    monkeypatch.setattr(verify, "PUBLISHED", stand_in)
    return stand_in


def test_published_logits(stand_in, cats, capsys):
    assert main(["verify", "--engine", "reference", "--image", str(cats)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"published logits of the stand-in: max\|a - b\| +1\.0e-03 +\d\.\de-05 +ok", lines[-2])
    assert lines[-1].split() == ["published", "label", "cat", "cat", "ok"]


@pytest.mark.parametrize("field, wrong, what", [
    ("logits", lambda logits: (*logits[:2], logits[2] + 2e-3), "published logits of the stand-in: max|a - b|"),
    ("label", lambda _: "dog", "published label")])
def test_other_logits_than_the_published(field, wrong, what, stand_in, cats, monkeypatch):
    monkeypatch.setattr(verify, "PUBLISHED", stand_in._replace(**{field: wrong(getattr(stand_in, field))}))
    assert failed(verify_model(default_model(), "reference", "float64", image=cats)) == [what]


def test_pictures_and_networks_that_nothing_is_published_about(stand_in, cats, rewrite, original, monkeypatch):
    other = stand_in._replace(picture=("cats.png", 640, 480))
    monkeypatch.setattr(verify, "PUBLISHED", other)
    with pytest.raises(ValueError, match=r"cat\.png has \d+ x \d+ pixels; logits are published for cats\.png, which "
                                         r"has 640 x 480 pixels"):
        verify_model(default_model(), "reference", "float64", image=cats)
    monkeypatch.setattr(verify, "PUBLISHED", PUBLISHED)
    with pytest.raises(ValueError, match="published for google/vit-hybrid-base-bit-384, and this file holds another "
                                         "network"):
        verify_model(default_model(), "reference", "float64", image=cats)
    monkeypatch.setattr(verify, "PUBLISHED", stand_in)
    documents = {key: each for key, each in original.documents.items() if key != "processor"}
    path = rewrite()
    write_h5(path, original.arrays, documents)
    with pytest.raises(ValueError, match="came without an image processor"):
        verify_model(path, "reference", "float64", image=cats)


def test_the_published_network_is_recognized():
    """By the sizes and numerics of its config.json; with another eps, or as timm's, it is another."""
    fields = dict(model_type="vit-hybrid", backbone_featmap_shape=[1, 1024, 24, 24], hidden_act="gelu", image_size=384,
                  layer_norm_eps=1e-12, patch_size=1, num_labels=1000, backbone_config=dict(
                      model_type="bit", depths=[3, 4, 9], hidden_sizes=[256, 512, 1024, 2048], embedding_size=64,
                      layer_type="bottleneck", global_padding="SAME", embedding_dynamic_padding=True, num_groups=32,
                      out_features=["stage3"], out_indices=[3], stage_names=["stem", "stage1", "stage2", "stage3"]))
    assert ViTHybridConfig.from_dict(fields).network_config() == PUBLISHED.network_config
    assert ViTHybridConfig.from_dict(fields, layer_norm_eps=1e-6).network_config() != PUBLISHED.network_config
    assert replace(PUBLISHED.network_config, feature_stage=-1) == PRESETS["R50+ViT-B/16"]
