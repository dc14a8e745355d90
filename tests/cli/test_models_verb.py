"""`nphybrid models`: the sizes are those of the published files, and each command can be parsed."""
import json
import shlex
import sys

import pytest

from nphybrid import cli
from nphybrid.__main__ import main
from nphybrid.checkpoint import hub
from nphybrid.modelfile import published

# From timm 1.0.31 on PyTorch's meta device, for 1,000 classes.
PARAMETERS = {("R+ViT-Ti/16", 224): 6_337_704, ("R+ViT-Ti/16", 384): 6_355_944, ("R26+ViT-S/32", 224): 36_431_912,
              ("R26+ViT-S/32", 384): 36_468_392, ("R50+ViT-B/16", 384): 98_950_952, ("R50+ViT-L/32", 224): 328_994_856,
              ("R50+ViT-L/32", 384): 329_092_136, ("BiT-R50x1", 448): 25_549_352, ("BiT-R50x3", 448): 217_319_080,
              ("BiT-R101x1", 448): 44_541_480, ("BiT-R101x3", 448): 387_934_888, ("BiT-R152x2", 448): 236_335_208,
              ("BiT-R152x4", 480): 936_533_224}
# From timm's results-imagenet.csv, in millions.
MILLIONS = {("ViT-S/16", 384): 22.20, ("ViT-B/16", 224): 86.57, ("ViT-B/16", 384): 86.86, ("ViT-B/32", 384): 88.30,
            ("ViT-L/16", 224): 304.33, ("ViT-L/16", 384): 304.72}


def listed(capsys):
    assert main(["models", "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_sizes_are_those_of_the_published_files(capsys):
    compared = set()
    for model in listed(capsys):
        key = model["network"], model["pixels"]
        if model["classes"] == 1000 and key in PARAMETERS:
            assert model["parameters"] == PARAMETERS[key], key
            compared.add(key)
        elif model["classes"] == 1000 and key in MILLIONS:
            assert round(model["parameters"] / 1e6, 2) == MILLIONS[key], key
            compared.add(key)
    assert compared == {*PARAMETERS, *MILLIONS}
    # Google's files of ImageNet-21k have 40, 170 and 1,337 MiB.
    sizes = [4 * model["parameters"] / 2**20 for model in listed(capsys)
             if "augreg/" in model["name"] and model["classes"] == 21843]
    assert [round(size) for size in sizes] == [40, 170, 1337]


def test_every_command_can_be_parsed(capsys):
    models = listed(capsys)
    assert len({model["name"] for model in models}) == len(models) and {model["source"] for model in models} == {
        "huggingface", "timm", "google"}
    for model in models:
        words = shlex.split(model["command"])
        if model["source"] == "google":
            curl, words = words[:3], words[4:]
            assert curl == ["curl", "-LO", model["name"]] and words[-1] == model["name"].rpartition("/")[2]
        else:
            assert hub.is_name(model["name"]) and words[-1] == model["name"]
        found = cli.make_parser().parse_args(words[1:])
        assert found.verb == ("classify" if model["classes"] else "embed")


def test_the_text_has_each_model_and_its_command(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for model in listed(capsys):
        assert f"  {model['command']}\n" in text
    assert "  98,950,952  396     384    1,000  85.0 %" in text


def test_models_in_the_cache_are_marked(tmp_path, monkeypatch, capsys):
    hub_package = pytest.importorskip("huggingface_hub")
    commit = "0" * 40
    folder = tmp_path / "models--google--bit-50"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr(hub_package.constants, "HF_HUB_CACHE", str(tmp_path))
    assert not hub.is_cached("google/bit-50"), "the weights are missing"
    (folder / "snapshots" / commit / "model.safetensors").touch()
    assert [model["name"] for model in listed(capsys) if model["cached"]] == ["google/bit-50"]


def test_without_huggingface_hub_nothing_is_cached(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert not any(model["cached"] for model in listed(capsys))


@pytest.mark.parametrize("line", ["classify x.png --model", "embed x.png -o x.npy --model", "convert"])
def test_a_preset_has_no_weights(line, capsys):
    more = ["m.h5"] if line == "convert" else []
    assert main([*line.split(), "R50+ViT-B/16", *more]) == 3
    assert capsys.readouterr().err == (
        "nphybrid: R50+ViT-B/16 is a preset, which has sizes and no weights; expected a file, a folder or owner/name. "
        "`nphybrid models` lists published weights, such as --model google/vit-hybrid-base-bit-384. Only bench and "
        "summary accept a preset\n")


@pytest.mark.parametrize("name", ["vit-hybrid-base-bit-384", "resnetv2_50x1_bit.goog_in21k"])
def test_a_name_without_its_owner_gets_a_suggestion(name, capsys):
    assert main(["classify", "x.png", "--model", name]) == 3
    told = capsys.readouterr().err
    owner = "google" if name.startswith("vit") else "timm"
    assert told == f"nphybrid: {name}: no such file or folder. Did you mean {owner}/{name}?\n"
    assert main(["models"]) == 0 and f" {owner}/{name}\n" in capsys.readouterr().out


def test_a_preset_without_published_weights(capsys):
    assert main(["classify", "x.png", "--model", "R26+ViT-B/32"]) == 3
    assert "but no weights of this network are published" in capsys.readouterr().err
    assert "R26+ViT-B/32" not in {model.network for model in published.PUBLISHED}


def test_a_misspelt_preset(capsys):
    assert main(["summary", "R50+ViT-B/17"]) == 3
    assert capsys.readouterr().err.endswith(". Did you mean R50+ViT-B/16?\n")
