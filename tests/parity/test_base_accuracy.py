"""R50+ViT-B/16 at 384 x 384: are float32 and bfloat16 as accurate as PyTorch's?  Five seeds, a photograph and noise.

`pytest -rP tests/parity/test_base_accuracy.py` prints the figures.
"""
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch  # noqa: E402
from parity_with_torch import error, network, picture  # noqa: E402

from nphybrid.testing import torch_twin  # noqa: E402


def test_logits_are_as_accurate_as_pytorch(tolerance):
    ratios = {"float32": [], "bfloat16": []}
    for seed in range(5):
        exact = network("R50+ViT-B/16", seed, engine="reference", dtype="float64")
        assert exact.num_parameters() == 98_950_952
        noise = np.random.default_rng(seed).standard_normal((1, 3, 384, 384), np.float32)
        pictures = picture((384, 384)), noise
        truths = [exact(x).logits for x in pictures]
        for dtype in ratios:
            fast = type(exact)(exact.config, state_dict=exact.state_dict(), dtype=dtype)
            peer = torch_twin(exact, dtype, "sdpa")
            for x, truth in zip(pictures, truths):
                with torch.inference_mode():
                    theirs = peer(torch.from_numpy(x).to(getattr(torch, dtype))).logits.float().numpy()
                ratios[dtype].append(error(fast(x).logits, truth) / error(theirs, truth))
    for dtype, found in ratios.items():
        print(f"{dtype}: median ratio {np.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}")
        assert np.median(found) <= tolerance[f"{dtype} base logits, ratio"], found
