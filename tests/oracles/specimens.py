"""Small valid files of each format, as bytes: what the tables of verdicts and the fuzzer start from."""
import hashlib
import json
import struct
import tempfile
from pathlib import Path

import h5py
import numpy as np

from nphybrid import BitConfig, ViTHybridConfig
from nphybrid.tensorfile import write_h5


def blob(header, data=b"", length=None):
    """The bytes of a safetensors file with this header (JSON value or raw bytes), however wrong."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype="F32", shape=(1,), begin=0, end=4, **more):
    """One line of a safetensors header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


F4 = bytes(4)
GOOD = {"w": entry()}


def safetensors():
    """Header and data of a file with five types, a 0-size array and metadata."""
    header = {"__metadata__": {"format": "pt"}, "a": entry("F64", (2,), 0, 16),
              "b": entry("F32", (3, 2), 16, 40), "c": entry("BF16", (2,), 40, 44),
              "d": entry("U8", (4,), 44, 48), "e": entry("F16", (0, 2), 48, 48)}
    return header, bytes(range(48))


def h5(arrays, documents):
    """The bytes that write_h5 writes."""
    with tempfile.TemporaryDirectory() as folder:
        write_h5(folder + "/m.h5", arrays, documents)
        return Path(folder, "m.h5").read_bytes()


def few_arrays():
    """An .h5 whose links stand in the group's own header."""
    return h5({"a": np.arange(6, dtype="f4").reshape(2, 3), "scale": np.float64(2), "nothing": np.zeros((0, 3), "i8")},
              {"config": {"a": [1, 2]}, "manifest": {"v": 1}})


def many_arrays():
    """An .h5 whose links fill a heap with a tree of names beside it."""
    rng = np.random.default_rng(1)
    return h5({f"layer.{i}.weight": rng.standard_normal((i + 1, 7)).astype("f4") for i in range(12)},
              {"config": {"labels": ["chat", "forêt"]}, "manifest": {"v": 1}})


def sign(dataset, digits="0" * 64):
    """Gives an HDF5 dataset the attribute that write_h5 gives it."""
    dataset.attrs.create("sha256", np.bytes_(digits))


def checked(group, name, array):
    """A dataset as write_h5 makes it, for files that are wrong in one other place only."""
    dataset = group.create_dataset(name, data=array)
    sign(dataset, hashlib.sha256(np.asarray(array).tobytes()).hexdigest())
    return dataset


def hybrid_config():
    """A small ViT Hybrid's config.json, as a dict."""
    return ViTHybridConfig(
        backbone_config=dict(layer_type="bottleneck", depths=[1, 2], hidden_sizes=[32, 48], embedding_size=16,
                             num_groups=4, global_padding="SAME", embedding_dynamic_padding=True,
                             out_features=["stage2"]),
        image_size=32, patch_size=2, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        id2label={0: "cat", 1: "dog", 2: "eel"}, problem_type="single_label_classification").to_dict()


def bit_config():
    """A small BiT's config.json, as a dict."""
    return BitConfig(embedding_size=16, hidden_sizes=[32, 48], depths=[1, 2], num_groups=4, num_labels=3).to_dict()


def write_secret(folder, content):
    """A file beside the others, secret.h5, whose dataset `w` no reader of the others may ever return."""
    with h5py.File(Path(folder, "secret.h5"), "w") as file:
        checked(file, "w", np.frombuffer(content, np.uint8))
