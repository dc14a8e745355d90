"""R50+ViT-B/16 at 384 x 384: are float32 and bfloat16 as accurate as PyTorch's?

The truth is PyTorch's float64: where nphybrid computed another network, its error would grow, not PyTorch's.
`pytest -rP tests/parity/test_base_accuracy.py` prints the figures of one seed, with `-m exhaustive` those of five.
"""
import numpy as np
import pytest

from nphybrid.testing import torch_twin

from tools.on_demand import on_demand

torch, parity = on_demand("torch"), on_demand("parity_with_torch")


def torch_logits(peer, pictures, dtype):
    """PyTorch's logits of each picture as NumPy arrays."""
    peer = peer.to(dtype)
    with torch.inference_mode():
        logits = [peer(torch.from_numpy(x).to(dtype)).logits for x in pictures]
    return [x.numpy() if dtype == torch.float64 else x.float().numpy() for x in logits]


def ratios_of(seed):
    """nphybrid's error / PyTorch's, of a photograph and of noise.  -> {dtype: [two ratios]}"""
    model = parity.network("R50+ViT-B/16", seed, engine="reference")
    assert model.num_parameters() == 98_950_952
    noise = np.random.default_rng(seed).standard_normal((1, 3, 384, 384), np.float32)
    pictures = [parity.picture((384, 384)), noise]
    peer = torch_twin(model, torch.float64)              # of float32 weights: narrowing it again loses nothing
    truths = torch_logits(peer, pictures, torch.float64)
    ratios = {}
    for dtype in ("float32", "bfloat16"):
        theirs = torch_logits(peer, pictures, getattr(torch, dtype))
        fast = type(model)(model.config, state_dict=model.state_dict(), dtype=dtype)
        ratios[dtype] = [parity.error(fast(x).logits, truth) / parity.error(y, truth)
                         for x, y, truth in zip(pictures, theirs, truths)]
    return ratios


@pytest.mark.parametrize("seeds", [
    pytest.param([0], marks=pytest.mark.slow, id="one seed"),
    pytest.param([0, 1, 2, 3, 4], marks=pytest.mark.exhaustive, id="five seeds")])
def test_logits_are_as_accurate_as_pytorch(seeds, tolerance):
    found = [ratios_of(seed) for seed in seeds]
    for dtype in ("float32", "bfloat16"):
        ratios = [ratio for of_seed in found for ratio in of_seed[dtype]]
        print(f"{dtype}: median ratio {np.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
        assert np.median(ratios) <= tolerance[f"{dtype} base logits, ratio"], ratios


@pytest.mark.exhaustive
def test_the_reference_is_the_same_network(tolerance):
    """The reference engine in float64 takes half a minute for the picture."""
    model = parity.network("R50+ViT-B/16", 0, engine="reference", dtype="float64")
    photograph = parity.picture((384, 384))
    (theirs,) = torch_logits(torch_twin(model, torch.float64), [photograph], torch.float64)
    apart = np.abs(model(photograph).logits - theirs).max() / np.abs(theirs).max()
    assert apart <= tolerance["same network, float64"]    # observed 1.8e-14
