"""A flipped bit anywhere in a converted .h5: the file is refused, or everything in it is as it was."""
import random

import numpy as np
import pytest

from nphybrid import FormatError, ViTHybridConfig, ViTHybridForImageClassification, checkpoint
from nphybrid.tensorfile import h5_documents

pytestmark = pytest.mark.slow

FLIPS = 1000
# So small that half of its file is the library's own structures.
CONFIG = ViTHybridConfig(
    backbone_config=dict(layer_type="bottleneck", depths=[1], hidden_sizes=[8], embedding_size=8, num_groups=2,
                         global_padding="same", embedding_dynamic_padding=True, out_features=["stage1"]),
    image_size=16, patch_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    id2label={0: "chat", 1: "forêt", 2: "猫"})


def everything(path):
    """Every array, and every field of configuration, processor and manifest: labels among them."""
    held = checkpoint.read(path)
    arrays = {name: (array.dtype, array.shape, np.asarray(array).tobytes()) for name, array in held.arrays.items()}
    return arrays, ViTHybridConfig.from_dict(held.config), held.processor, held.manifest


def test_a_thousand_flipped_bits(tmp_path):
    good, bad = tmp_path / "good.h5", tmp_path / "bad.h5"
    model = ViTHybridForImageClassification(CONFIG, engine="reference", seed=1)
    model.processor = {"size": {"shortest_edge": 16}, "image_mean": [0.5, 0.25, 0.125]}
    model.save(good, source={"name": "a folder", "sha256": "0" * 64})
    data, whole, told = good.read_bytes(), everything(good), {"array or document": 0, "structure": 0, "the same": 0}
    for at in random.Random(0).sample(range(8 * len(data)), FLIPS):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        bad.write_bytes(flipped)
        try:
            assert everything(bad) == whole, f"bit {at % 8} of byte {at // 8}"
            told["the same"] += 1
        except FormatError as error:
            told["array or document" if "checksum does not match" in str(error) else "structure"] += 1
    print(f"{FLIPS} bits of {len(data)} bytes: {told}")
    assert min(told.values()) > 20


def test_each_document_has_a_checksum(tmp_path):
    """Aimed where a random bit seldom falls: every byte of every document."""
    good, bad = tmp_path / "good.h5", tmp_path / "bad.h5"
    checkpoint.write_h5(good, {}, {"depth": 1}, {"size": 2}, {"source": "a"})
    data, texts = good.read_bytes(), [b'{"depth":1}', b'{"size":2}', b'{"source":"a","format":"nphybrid","version":1}']
    for start, text in [(data.index(text), text) for text in texts]:
        for at in range(start, start + len(text)):
            bad.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
            try:
                h5_documents(bad)
            except FormatError as error:
                assert "checksum does not match" in str(error)
            else:
                raise AssertionError(f"byte {at} of {text} may change")
