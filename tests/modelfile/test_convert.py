"""Between any two formats arrays are exact, and what a format cannot hold is refused, or listed."""
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, ViTConfig, ViTForImageClassification, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridModel)
from nphybrid.__main__ import main
from nphybrid.api.load import load
from nphybrid.api.processor import ViTHybridImageProcessor
from nphybrid.dialects.timm import for_timm
from nphybrid.modelfile.convert import _architecture, convert, target_format

pytestmark = pytest.mark.slow

ENCODER = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, num_labels=7,
               initializer_range=0.3)
BACKBONE = dict(layer_type="bottleneck", global_padding="SAME", embedding_dynamic_padding=True, embedding_size=32,
                hidden_sizes=[128, 256], depths=[1, 2])
# As timm computes: what every format but Google's can hold.
TIMM = {"name": "timm", "resampling": "antialiased"}
JAX = {"name": "JAX", "resampling": "linear", "gn_eps": 1e-6, "ws_form": "deviation", "ws_eps": 1e-5}


def hybrid(dialect, **fields):
    return ViTHybridForImageClassification(ViTHybridConfig(
        backbone_config=BACKBONE, image_size=64, dialect=dialect, **{**ENCODER, **fields}), engine="reference")


def plain(dialect, **fields):
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, dialect=dialect, **{**ENCODER, **fields}),
                                     engine="reference")


def bit(dialect):
    return BitForImageClassification(BitConfig(embedding_size=32, hidden_sizes=[128, 256], depths=[1, 2], num_labels=7,
                                               dialect=dialect), engine="reference")


MODELS = {"hybrid": hybrid({}), "plain": plain({}), "bit": bit({}), "timm": hybrid(TIMM, layer_norm_eps=1e-6),
          "stem": ViTHybridForImageClassification(ViTHybridConfig(
              backbone_config={**BACKBONE, "hidden_sizes": [], "depths": []}, image_size=64, patch_size=8, **ENCODER),
              engine="reference"),
          "jax": hybrid(JAX, layer_norm_eps=1e-6, hidden_act="gelu_new"),
          "mean": plain({**TIMM, "pool": "mean", "norm_pooled": True}, layer_norm_eps=1e-6)}
TARGETS = {"h5": "model.h5", "huggingface": "folder", "timm": "card", "google": "model.npz"}


def same_arrays(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mean"])
@pytest.mark.parametrize("first, second", list(itertools.permutations(TARGETS, 2)))
def test_arrays_are_exact_through_any_two_formats(name, first, second, tmp_path):
    """Where numerics are lost, arrays are not."""
    convert(MODELS[name], tmp_path / TARGETS[first], first, lossy=True)
    once = load(tmp_path / TARGETS[first], engine="reference")
    convert(once, tmp_path / TARGETS[second], second, lossy=True)
    same_arrays(load(tmp_path / TARGETS[second], engine="reference"), MODELS[name])


@pytest.mark.parametrize("target", ["h5", "huggingface", "timm", "google"])
def test_float64_weights_stay_float64(target, tmp_path):
    """The command reads them as float64, and every format stores them so."""
    small = MODELS["jax" if target == "google" else "timm"]
    rng = np.random.default_rng(0)
    state = {name: array * (1 + 1e-10 * rng.standard_normal(array.shape)) for name, array in small.state_dict().items()}
    exact = type(small)(small.config, state_dict=state, engine="reference", dtype="float64")
    exact.save(tmp_path / "exact.h5")
    place = tmp_path / TARGETS[target]
    assert main(["convert", str(tmp_path / "exact.h5"), str(place), "--to", target, "--lossy"]) == 0
    again = load(place, engine="reference", dtype="float64")
    for name, array in exact.state_dict().items():
        assert np.array_equal(again.state_dict()[name], array), name
    assert any(np.any(array != np.float32(array)) for array in state.values())


@pytest.mark.parametrize("name, target", [("hybrid", "huggingface"), ("plain", "huggingface"), ("bit", "huggingface"),
                                          ("timm", "timm"), ("mean", "timm")])
def test_its_own_format_loses_nothing(name, target, tmp_path):
    lost, moved = convert(MODELS[name], tmp_path / TARGETS[target], target)
    again = load(tmp_path / TARGETS[target], engine="reference", dtype="float64")
    assert (lost, moved) == ([], 0.0) and again.network_config.__dict__ | {"feature_stage": 0} == \
        MODELS[name].network_config.__dict__ | {"feature_stage": 0}
    same_arrays(load(tmp_path / TARGETS[target], engine="reference"), MODELS[name])


# what is converted, into what, and what each loss is called
LOSSES = [
    ("jax", "huggingface", ["network's ws_form", "network's ws_eps", "network's gn_eps", "network's resampling"]),
    ("jax", "timm", ["network's activation", "network's ws_form", "network's ws_eps", "network's gn_eps",
                     "network's resampling"]),
    ("hybrid", "timm", ["network's ln_eps", "network's resampling"]),
    ("hybrid", "google", ["network's activation", "network's ws_form", "network's ws_eps", "network's gn_eps",
                          "network's ln_eps", "network's resampling"]),
    ("bit", "google", ["network's ws_eps"]), ("bit", "timm", [])]


@pytest.mark.parametrize("name, target, told", LOSSES)
def test_what_a_format_cannot_hold_is_refused_or_listed(name, target, told, tmp_path):
    path = tmp_path / TARGETS[target]
    if not told:
        assert convert(MODELS[name], path, target) == ([], 0.0)
        return
    with pytest.raises(ValueError, match="cannot hold") as refusal:
        convert(MODELS[name], path, target)
    assert not path.exists()
    lost, moved = convert(MODELS[name], path, target, lossy=True)
    assert sorted(loss.what for loss in lost) == sorted("the " + what for what in told)
    assert all(loss.what in str(refusal.value) for loss in lost) and 0 < moved < 0.1
    exact, other = (model(golden(model)).logits for model in (
        load_exact(MODELS[name]), load(path, engine="reference", dtype="float64")))
    assert np.abs(exact - other).max() / exact.std() == pytest.approx(moved, rel=1e-6)


def load_exact(model):
    return type(model)(model.config, state_dict=model.state_dict(), engine="reference", dtype="float64")


def golden(model):
    i, j, c = np.ogrid[:model.network_config.image[0], :model.network_config.image[1], :3]
    return ((7 * i + 13 * j + 29 * c + i * j) % 256 / 127.5 - 1)[None].transpose(0, 3, 1, 2)


@pytest.mark.parametrize("target, losses", [("timm", []), ("huggingface", ["crop_rounding"]),
                                            ("google", ["crop_rounding", "crop_size", "do_center_crop"])])
def test_preprocessing_is_kept_or_told(target, losses, tmp_path):
    cfg = {"input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.25] * 3}
    model = hybrid(TIMM, layer_norm_eps=1e-6)
    model.processor = for_timm(cfg)
    lost, _ = convert(model, tmp_path / TARGETS[target], target, lossy=True)
    told = {loss.what.removeprefix("the processor's ") for loss in lost if "processor" in loss.what}
    assert set(losses) <= told and bool(told) == bool(losses)
    again = load(tmp_path / TARGETS[target], engine="reference").processor
    assert ViTHybridImageProcessor.from_dict(again).crop_rounding == ("floor" if losses else "half_even")


def test_a_bit_of_another_size_goes_through_timm(tmp_path):
    """It takes pictures of any size; its processor says of which."""
    model = bit({"name": "timm"})
    model.processor = for_timm({"input_size": [3, 448, 448], "interpolation": "bilinear", "crop_pct": 1.0,
                                "mean": [0.5] * 3, "std": [0.5] * 3})
    assert convert(model, tmp_path / "card", "timm") == ([], 0.0)
    assert load(tmp_path / "card", engine="reference").processor["crop_size"] == {"height": 448, "width": 448}


def test_a_folder_is_new_or_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    convert(MODELS["plain"], tmp_path / "folder")
    before = {file.name: file.read_bytes() for file in (tmp_path / "folder").iterdir()}
    with pytest.raises(FileExistsError, match="expected the name of a new folder"):
        convert(MODELS["plain"], tmp_path / "folder")
    assert {file.name: file.read_bytes() for file in (tmp_path / "folder").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_timm_card_says_what_timm_would_build_otherwise(tmp_path):
    for name, expected in (("timm", {"num_heads": 2}), ("mean", {"num_heads": 2, "fc_norm": True})):
        convert(MODELS[name], tmp_path / name, "timm")
        card = json.loads((tmp_path / name / "config.json").read_text())
        assert card["model_args"] == expected and "architecture" not in card
    model = plain({**TIMM, "pool": "mean", "class_token": False}, layer_norm_eps=1e-6)
    convert(model, tmp_path / "card", "timm")
    card = json.loads((tmp_path / "card" / "config.json").read_text())
    assert card["model_args"] == {"num_heads": 2, "fc_norm": False, "class_token": False}
    assert load(tmp_path / "card", engine="reference").network_config == model.network_config


def published(blocks=12, hidden=768, depths=(), stem=0, width=192, patch=16):
    return replace(MODELS["plain"].network_config, blocks=blocks, hidden=hidden, depths=depths, stem=stem, width=width,
                   patch=patch, image=(224, 224))


@pytest.mark.parametrize("config, name", [
    (published(), "vit_tiny_patch16_224"), (published(hidden=100), None), (published(blocks=11), None),
    (published(depths=(3, 4, 9), stem=64, width=768, hidden=3072), "vit_base_r50_s16_224"),
    (published(depths=(3, 4, 9), stem=64, width=768, hidden=3072, blocks=2), None),
    (published(blocks=0, depths=(3, 4, 6, 3), stem=192), "resnetv2_50x3_bit"),
    (published(blocks=0, depths=(3, 8, 36, 3), stem=64), None), (published(blocks=0, depths=(1, 2), stem=32), None)])
def test_a_timm_card_names_published_networks_only(config, name):
    assert _architecture(config) == ({"architecture": name} if name else {})


def test_labels_are_kept_or_told(tmp_path):
    model = hybrid(TIMM, layer_norm_eps=1e-6, id2label={i: f"kind {i}" for i in range(7)}, num_labels=None)
    convert(model, tmp_path / "card", "timm")
    assert load(tmp_path / "card", engine="reference").config.id2label == model.config.id2label
    with pytest.raises(ValueError, match="the labels: 'kind 0' becomes 'LABEL_0'"):
        convert(model, tmp_path / "model.npz")


def test_a_network_that_could_not_be_read_back_is_refused(tmp_path):
    with pytest.raises(ValueError, match="because the arrays 'norm.bias', 'norm.scale' would be missing"):
        convert(MODELS["mean"], tmp_path / "folder", lossy=True)
    assert not (tmp_path / "folder").exists()


def test_widths_that_do_not_fit_the_groups_of_a_format(tmp_path):
    """timm has 32 groups in every group norm; this network has 8."""
    backbone = {**BACKBONE, "embedding_size": 16, "hidden_sizes": [64], "depths": [1], "num_groups": 8}
    model = ViTHybridForImageClassification(ViTHybridConfig(backbone_config=backbone, image_size=64, **ENCODER),
                                            engine="reference")
    with pytest.raises(ValueError, match="the format timm cannot hold this network: in this format, num_groups is 32; "
                                         "expected a divisor of 16"):
        convert(model, tmp_path / "m", "timm", lossy=True)
    assert not (tmp_path / "m").exists()


def test_several_labels_at_once_are_told(tmp_path):
    model = hybrid(TIMM, layer_norm_eps=1e-6, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="the problem_type: 'multi_label_classification' becomes None"):
        convert(model, tmp_path / "card", "timm")
    assert convert(hybrid({}, problem_type="multi_label_classification"), tmp_path / "folder") == ([], 0.0)


def test_a_timm_file_is_left_where_it_is(tmp_path, monkeypatch):
    """Convolution kernels are read there again, from wherever the process is by then."""
    convert(MODELS["timm"], tmp_path / "card", "timm")
    monkeypatch.chdir(tmp_path)
    model = load("card", engine="reference")
    monkeypatch.chdir("/")
    same_arrays(model, MODELS["timm"])


def test_a_pooler_and_a_mask_token_are_lost_to_timm(tmp_path):
    config = ViTHybridConfig(backbone_config=BACKBONE, image_size=64, dialect=TIMM, layer_norm_eps=1e-6, **ENCODER)
    model = ViTHybridModel(config, use_mask_token=True, engine="reference")
    with pytest.raises(ValueError) as refusal:
        convert(model, tmp_path / "card", "timm")
    assert all(f"the array {name}: present becomes missing" in str(refusal.value)
               for name in ("pooler.kernel", "pooler.bias", "tokens.mask"))


@pytest.mark.parametrize("target, to, told", [
    ("a.h5", "timm", "is a target of format h5, not timm"), ("a.npz", "huggingface", "of format google"),
    ("a.safetensors", None, "is the name of a file; the target of format huggingface is a folder"),
    ("a.safetensors", "google", "a.safetensors: expected a name that ends in .npz for the format google"),
    ("a.npy", "h5", "a.npy: expected a name that ends in .h5 for the format h5"),
    ("a.safetensors", "timm", "the target of format timm is a folder"),
    ("a.H5", None, "a.H5 is the name of a file"), ("a.NPZ", "timm", "a.NPZ is the name of a file"),
    ("a.onnx", "huggingface", "a.onnx is the name of a file"), ("a.pt", None, "a.pt is the name of a file"),
    ("a.xyz", None, "a.xyz ends in .xyz; expected .h5, .npz or the name of a folder. With --to huggingface, a")])
def test_targets_that_make_no_sense(target, to, told):
    with pytest.raises(ValueError, match=told):
        target_format(target, to)


@pytest.mark.parametrize("target, to", [("a.b/c", None), ("v1.0/", None), ("v1.0", "huggingface"), ("a.in21k", "timm"),
                                        (".hidden", None)])
def test_folders_with_points_in_their_names(target, to):
    assert target_format(target, to) == (to or "huggingface")


def test_the_source_is_not_overwritten(tmp_path, capsys):
    source, link, names = (tmp_path / name for name in ("model.h5", "link.h5", "names.txt"))
    MODELS["hybrid"].save(source)
    link.symlink_to(source)
    names.write_text("".join(f"{i}\n" for i in range(7)))
    before = source.read_bytes()
    for target in source, link:
        assert main(["convert", str(source), str(target), "--class-names", str(names)]) == 3
        assert "cannot be written, because it is also an input file" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_the_command(tmp_path, capsys):
    source, target = tmp_path / "model.h5", tmp_path / "model.npz"
    MODELS["hybrid"].save(source)
    assert main(["convert", str(source), str(target)]) == 3 and not target.exists()
    assert "the network's gn_eps: 1e-05 becomes 1e-06" in capsys.readouterr().err
    assert main(["convert", str(source), str(target), "--lossy"]) == 0
    shown = capsys.readouterr()
    assert "parameters" in shown.out and "\nthe logits of a built-in picture change by " in shown.err
    assert shown.err.startswith("lost properties:\n") and shown.err.endswith(" of their standard deviation\n")
    assert main(["convert", str(source), str(tmp_path / "folder")]) == 0
    capsys.readouterr()
    assert main(["convert", "missing.h5", str(tmp_path / "folder")]) == 3       # before the source is read
    assert "folder already exists; expected the name of a new folder" in capsys.readouterr().err
    for name, told in (("no/x.h5", "no does not exist"), ("folder.h5", "it exists and is not a regular file"),
                       ("model.h5/sub", "model.h5 is not a folder"), ("model.h5/a/b", "model.h5 is not a folder")):
        (tmp_path / "folder.h5").mkdir(exist_ok=True)
        assert main(["convert", "missing.h5", str(tmp_path / name)]) == 3
        assert f"{tmp_path / name} cannot be written, because" in (err := capsys.readouterr().err) and told in err, err
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["model_type"] == "vit-hybrid"
