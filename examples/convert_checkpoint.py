"""Converts a checkpoint of PyTorch (.pth, .pt, .bin, .ckpt, .pth.tar) to safetensors, which nphybrid reads.

    pip install torch safetensors
    python examples/convert_checkpoint.py checkpoint.pth.tar
    python examples/convert_checkpoint.py model_best.pth.tar model.safetensors --key state_dict_ema

A checkpoint of PyTorch is a pickle, which can run code. So torch loads it with weights_only=True, which creates only
tensors, numbers, texts and a few harmless classes. A checkpoint that needs other classes is refused with their names.

A training script often keeps the weights in an object under a key such as `state_dict` or `model`, beside an optimizer,
a number of epochs, or averages of the weights. The script looks for the weights under the keys of KEYS, in this order,
and prints which key it uses and which other keys also hold weights. `--key` chooses another key. The names of the
tensors do not change: nphybrid removes prefixes such as `module.` itself. A pytorch_model.bin.index.json is converted
with all its shards. Put the config.json of the model into the folder of the new file.
"""
import argparse
import codecs
import json
import pathlib
import sys
import types
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

# The keys under which training scripts keep weights. Averages come last.
KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights", "student",
        "teacher", "state_dict_ema", "model_ema", "ema_model", "ema")
ORIGIN = "converted_from"                 # the key of the path of the checkpoint in the metadata of the new file
# What training scripts keep beside the weights, and what no code runs for: their arguments, paths, numbers of NumPy.
# The name of NumPy's function is not the same in NumPy 1 and NumPy 2.
SCALAR = np.float64(0).__reduce__()[0]
HARMLESS = [argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath,
            (SCALAR, "numpy.core.multiarray.scalar"), (SCALAR, "numpy._core.multiarray.scalar"), codecs.encode,
            np.dtype, *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool"))]


class Refused(Exception):
    """The reason why a checkpoint cannot be converted."""


def refuse_other_kinds(path):
    """Raises Refused for a file that is no pickle: an empty file, or a page that was downloaded in its place."""
    with open(path, "rb") as file:
        head = file.read(200).lstrip().lower()
    for start, kind in ((b"<", "an HTML page or another text with tags; the download may have failed"),
                        (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull` to get the file"),
                        (b"{", "a JSON file, which holds no weights")):
        if head.startswith(start):
            raise Refused(f"{path} is {kind}")
    if not head:
        raise Refused(f"{path} is empty")


def loaded(path):
    """The object in a pickle, loaded without running code."""
    refuse_other_kinds(path)
    try:
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        try:
            with torch.serialization.safe_globals(HARMLESS):
                needed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:                 # a file of another kind
            needed = []
        if not needed:
            raise Refused(f"{path} is damaged, or is no checkpoint of PyTorch "
                          f"({type(error).__name__}: {next(iter(str(error).splitlines()), '')})") from None
        raise Refused(f"{path} cannot be loaded without running code from the file: it holds objects of "
                      f"{', '.join(needed)}. Load it with the program that wrote it, and save only the weights: "
                      "torch.save(model.state_dict(), 'weights.pth')") from None


def tensors_in(value):
    """The tensors of an object {name: tensor}; other values are left out.  {} for any other object"""
    if not isinstance(value, dict):
        return {}
    return {name: tensor for name, tensor in value.items() if isinstance(name, str) and torch.is_tensor(tensor)}


def places(document, path=()):
    """Every place with tensors, the outermost last: {keys: tensors}.  Weights can be at most four keys deep."""
    found = {}
    if isinstance(document, dict) and len(path) < 4:
        for key in KEYS:
            found |= places(document.get(key), (*path, key))
    tensors = tensors_in(document)
    return found | ({path: tensors} if tensors else {})


def at(document, key):
    """The value at a place such as model.state_dict; None if there is no such place."""
    for part in key.split("."):
        document = document.get(part) if isinstance(document, dict) else None
    return document


def weights(document, key=None):
    """The weights of a checkpoint, the name of their place, and the names of other places with weights."""
    found = {".".join(keys): tensors for keys, tensors in places(document).items()}
    if key is not None and key not in found and (tensors := tensors_in(at(document, key))):
        found |= {key: tensors}
    if not found or key not in (None, *found):
        held = ", ".join(map(str, list(document)[:20])) if isinstance(document, dict) else type(document).__name__
        raise Refused(f"found no weights under {key or 'any of ' + ', '.join(KEYS)}; the checkpoint holds {held}. To "
                      "choose another key, pass --key")
    chosen = next(iter(found)) if key is None else key
    if chosen == "" and key is None:
        inner = [name for name, value in document.items() if tensors_in(value)]
        if inner:
            raise Refused(f"the checkpoint holds tensors beside {', '.join(map(str, inner))}, which hold tensors, too. "
                          "To choose one of them, pass --key")
    return found[chosen], chosen, [name for name in found if name != chosen]


def shards(path):
    """The paths of the pickles of a checkpoint."""
    if path.suffix != ".json":
        return [path]
    try:
        return [path.parent / name for name in sorted(set(json.loads(path.read_text())["weight_map"].values()))]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refused(f"{path} is no index of shards, with the names of files in weight_map ({error})") from None


def convert(path, target, key=None):
    """Writes the weights of a checkpoint to a file of safetensors.  -> a line about each pickle"""
    tensors, lines = {}, []
    for file in shards(path):
        found, place, others = weights(loaded(file), key)
        tensors |= found
        lines.append(f"{file}: {len(found):,} tensors" + (f" under the key {place}" if place else ""))
        lines += [f"  also holds weights under the key {other}; --key {other} converts these"
                  for other in others if other]
    try:
        # safetensors holds every tensor on its own, also tensors that share memory in the checkpoint.
        single = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(single, target, {"format": "pt", ORIGIN: str(path)})
    except (ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise Refused(f"{target} cannot be written: {str(error).splitlines()[0]}") from None
    return lines


def origin(target):
    """The path of the checkpoint from which this script wrote the file; None if this script did not write it."""
    try:
        with safetensors.safe_open(target, "pt") as file:
            return (file.metadata() or {}).get(ORIGIN)
    except (OSError, safetensors.SafetensorError):      # a folder, or a file of another kind
        return None


def main(arguments=None):
    """Converts the checkpoint that the command line names.  -> exit code"""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path, nargs="?", help="default: model.safetensors beside the checkpoint")
    parser.add_argument("--key", help="the place of the weights, such as state_dict_ema or model.module")
    args = parser.parse_args(arguments)
    target = args.target or args.checkpoint.parent / "model.safetensors"
    if not target.parent.is_dir():
        print(f"{target.parent}: no such folder; expected a folder for the new file {target.name}", file=sys.stderr)
        return 2
    source = origin(target) if target.exists() else str(args.checkpoint)
    if source is None or Path(source).resolve() != args.checkpoint.resolve():
        print(f"{target} exists, and " + ("this script did not write it" if source is None else
              f"holds the weights of {source}") + "; expected the name of a new file", file=sys.stderr)
        return 2
    try:
        print(*convert(args.checkpoint, target, args.key), f"wrote {target}", sep="\n")
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
