"""R50+ViT-B/16 at 384 x 384: is float32 as accurate as PyTorch's?  Five seeds, a photograph and noise.

`pytest -rP tests/parity/test_base_accuracy.py` prints the figure.
"""
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch  # noqa: E402
from parity_with_torch import error, network, picture, twin  # noqa: E402


def test_logits_are_as_accurate_as_pytorch(tolerance):
    ratios = []
    for seed in range(5):
        fast = network("R50+ViT-B/16", seed)
        assert fast.num_parameters() == 98_950_952
        exact = type(fast)(fast.config, state_dict=fast.state_dict(), engine="reference", dtype="float64")
        peer = twin(fast)
        noise = np.random.default_rng(seed).standard_normal((1, 3, 384, 384), np.float32)
        for x in picture((384, 384)), noise:
            truth = exact(x).logits
            with torch.inference_mode():
                own = error(peer(torch.from_numpy(x)).logits.numpy(), truth)
            ratios.append(error(fast(x).logits, truth) / own)
    print(f"median ratio {np.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    assert np.median(ratios) <= tolerance["float32 base logits, ratio"], ratios
