"""examples/convert_checkpoint.py converts what training scripts save, or says why not."""
import argparse
import json
import pathlib
import shlex
import subprocess
import sys

import numpy as np
import pytest

from nphybrid import FormatError
from nphybrid.api.load import load
from nphybrid.tensorfile import read_safetensors, write_safetensors

from oracles.cases import normal
from oracles.published import telling, timm_vit
from tools.on_demand import on_demand

torch = on_demand("torch")
safetensors = on_demand("safetensors")

ARRAYS = telling(timm_vit(D=64, L=1, F=8, classes=3, depths=(1,), widths=(128,)))


class Model:
    """A class of somebody's own program."""


def state(factor=1):
    return {name: torch.from_numpy(np.array(array * factor, np.float32)) for name, array in ARRAYS.items()}


def shared():
    tensors = state()
    return {**tensors, "norm.bias": tensors["blocks.0.norm1.bias"]}


def deep(levels):
    """An object inside an object, and so on."""
    document = {"weight": torch.zeros(1)}
    for _ in range(levels):
        document = {"model": document}
    return document


# {name: (what is saved, the key that is used, the prefix of the names)}
SAVED = {
    "bare": (lambda: state(), "", ""),
    "a state_dict": (lambda: {"epoch": 3, "arch": "vit", "state_dict": state(), "metric": 80.1}, "state_dict", ""),
    "arguments and an average": (lambda: {"epoch": 3, "state_dict": state(), "state_dict_ema": state(2),
                                          "args": argparse.Namespace(lr=1e-3, out=pathlib.PurePosixPath("x"))},
                                 "state_dict", ""),
    "a model and an optimizer": (lambda: {"model": state(), "optimizer": {
        "state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}},
                                 "model", ""),
    "Lightning": (lambda: {"state_dict": {f"model.{name}": tensor for name, tensor in state().items()}, "callbacks": {},
                           "hyper_parameters": {"lr": 0.1}, "global_step": 7}, "state_dict", "model."),
    "a number of NumPy": (lambda: {"model_state_dict": state(), "best": np.float64(0.8), "n": np.int64(3)},
                          "model_state_dict", ""),
    "DataParallel in an object": (lambda: {"model": {"state_dict": {f"module.{name}": tensor
                                                                     for name, tensor in state().items()}}},
                                  "model.state_dict", "module."),
    "only an average": (lambda: {"state_dict_ema": state(), "n": 1}, "state_dict_ema", ""),
}


def convert(*arguments):
    import convert_checkpoint
    return convert_checkpoint.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_what_training_scripts_save(name, zipped, tmp_path, capsys):
    document, key, prefix = SAVED[name]
    torch.save(document(), tmp_path / "x.pth.tar", _use_new_zipfile_serialization=zipped)
    assert convert(tmp_path / "x.pth.tar") == 0
    assert (f"under the key {key}\n" if key else "tensors\n") in capsys.readouterr().out
    found = read_safetensors(tmp_path / "model.safetensors")
    assert found.keys() == {prefix + name for name in ARRAYS}
    assert all(np.array_equal(found[prefix + name], array) for name, array in ARRAYS.items())
    # nphybrid reads the result: the answer is that of the bare weights.
    write_safetensors(tmp_path / "bare.safetensors", ARRAYS)
    a, b = (load(tmp_path / file, engine="reference") for file in ("model.safetensors", "bare.safetensors"))
    x = normal(1, 1, 3, *b.network_config.image)
    assert a(x).logits.tobytes() == b(x).logits.tobytes()


def test_shared_storage(tmp_path):
    torch.save(shared(), tmp_path / "x.pth")
    assert convert(tmp_path / "x.pth") == 0
    found = read_safetensors(tmp_path / "model.safetensors")
    assert np.array_equal(found["norm.bias"], ARRAYS["blocks.0.norm1.bias"])


def test_the_average_on_demand(tmp_path, capsys):
    torch.save(SAVED["arguments and an average"][0](), tmp_path / "x.pth")
    assert convert(tmp_path / "x.pth") == 0
    assert "also holds weights under the key state_dict_ema; --key state_dict_ema" in capsys.readouterr().out
    assert convert(tmp_path / "x.pth", tmp_path / "y.safetensors", "--key", "state_dict_ema") == 0
    assert np.array_equal(read_safetensors(tmp_path / "y.safetensors")["norm.bias"], 2 * ARRAYS["norm.bias"])


def test_another_checkpoint_does_not_replace_the_first(tmp_path, capsys):
    for i in 1, 2:
        torch.save(state(i), tmp_path / f"epoch{i}.pth")
    assert convert(tmp_path / "epoch1.pth") == 0 and convert(tmp_path / "epoch1.pth") == 0
    assert convert(tmp_path / "epoch2.pth") == 2
    assert f"holds the weights of {tmp_path / 'epoch1.pth'}; expected the name of a new" in capsys.readouterr().err
    assert np.array_equal(read_safetensors(tmp_path / "model.safetensors")["norm.bias"], ARRAYS["norm.bias"])
    assert convert(tmp_path / "epoch2.pth", tmp_path / "second.safetensors") == 0


def test_shards(tmp_path):
    names = list(ARRAYS)
    parts = {"a.bin": names[::2], "b.bin": names[1::2]}
    for file, part in parts.items():
        torch.save({name: state()[name] for name in part}, tmp_path / file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": {name: file for file, part in parts.items() for name in part}}))
    assert convert(tmp_path / "pytorch_model.bin.index.json") == 0
    assert read_safetensors(tmp_path / "model.safetensors").keys() == ARRAYS.keys()


@pytest.mark.parametrize("document, told", [
    (lambda: deep(200), "found no weights under any of state_dict, .*; the checkpoint holds model"),
    (lambda: {"state_dict": {"a": torch.zeros(2).to_sparse()}}, "model.safetensors cannot be written: "),
    (Model, "it holds objects of .*test_convert_checkpoint.Model. Load it with the program that wrote it"),
    (lambda: {"model": Model(), "epoch": 1}, "objects of .*Model"),
    (lambda: {"epoch": torch.tensor(3), "my_weights": state()}, "the checkpoint holds tensors beside my_weights"),
    (lambda: {"epoch": 1, "metric": 0.5}, "found no weights under any of state_dict, .*; the checkpoint holds epoch")])
def test_what_cannot_be_converted(document, told, tmp_path, capsys):
    import re
    torch.save(document(), tmp_path / "x.pth")
    assert convert(tmp_path / "x.pth") == 1
    assert re.search(told, capsys.readouterr().err) and not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("content, told", [
    (b"", "x.pth is empty"), (b"\n <!DOCTYPE html><html>Not found</html>", "x.pth is an HTML page or another text"),
    (b"version https://git-lfs.github.com/spec/v1\n", "x.pth is a Git LFS pointer"),
    (b'{"a": 1}', "x.pth is a JSON file"),
    (b"PK\3\4 cut off", "x.pth is damaged, or is no checkpoint of PyTorch"), (b"\x80", "x.pth is damaged, or is no"),
    (bytes(range(256)), "x.pth is damaged, or is no checkpoint of PyTorch"), (None, "x.pth")])
def test_what_is_no_checkpoint(content, told, tmp_path, capsys):
    """One line, and no new file."""
    if content is not None:
        (tmp_path / "x.pth").write_bytes(content)
    assert convert(tmp_path / "x.pth") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0] and not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": 3}', '{"a": 1}'])
def test_what_is_no_index(index, tmp_path, capsys):
    (tmp_path / "x.json").write_text(index)
    assert convert(tmp_path / "x.json") == 1 and "x.json is no index of shards" in capsys.readouterr().err


def test_the_place_of_the_new_file(tmp_path, capsys):
    torch.save(state(), tmp_path / "x.pth")
    assert convert(tmp_path / "x.pth", tmp_path / "none" / "y.safetensors") == 2
    assert "none: no such folder; expected a folder for the new file y.safetensors" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("mine")
    for target in tmp_path, tmp_path / "notes.txt":
        assert convert(tmp_path / "x.pth", target) == 2
        assert "exists, and this script did not write it" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("key", [None, "run.best.weights"])
def test_weights_below_several_keys(key, tmp_path):
    inner = {"state_dict": {"model": {"module": state()}}} if key is None else {"run": {"best": {"weights": state()}}}
    torch.save(inner, tmp_path / "x.pth")
    assert convert(tmp_path / "x.pth", *(["--key", key] if key else [])) == 0
    assert read_safetensors(tmp_path / "model.safetensors").keys() == ARRAYS.keys()


def test_a_file_of_somebody_else_is_not_replaced(tmp_path, capsys):
    torch.save(state(), tmp_path / "x.pth")
    write_safetensors(tmp_path / "model.safetensors", {"a": np.zeros(1, np.float32)})
    assert convert(tmp_path / "x.pth") == 2 and "exists, and this script did not write it" in capsys.readouterr().err
    assert convert(tmp_path / "x.pth", tmp_path / "y.safetensors") == 0
    assert convert(tmp_path / "x.pth", tmp_path / "y.safetensors") == 0


@pytest.mark.slow
def test_the_line_in_the_error(tmp_path, root):
    """The line that the error prints converts the file."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    torch.save({"state_dict": state()}, folder / "x.pth")
    with pytest.raises(FormatError, match="A pickle is never opened here") as caught:
        load(folder / "x.pth")
    line = str(caught.value).splitlines()[1].strip()
    command = shlex.split(line)
    assert command[:2] == ["python", "examples/convert_checkpoint.py"]
    subprocess.run([sys.executable, *command[1:]], cwd=root, check=True, capture_output=True)
    assert read_safetensors(folder / "model.safetensors").keys() == ARRAYS.keys()
