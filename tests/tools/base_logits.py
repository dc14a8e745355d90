"""PyTorch's logits of R50+ViT-B/16 at 384 x 384 for five seeds of random weights, kept in tests/data/base_logits.npz.

    PYTHONPATH=.:tests:examples python tests/tools/base_logits.py

computes the logits again, in 10 minutes on a processor without bfloat16 instructions.

For each seed there are two pictures, a photograph and noise. Arrays of the file:
    truth     float64 (5, 2, 1000), logits of PyTorch in float64
    float32   float64 (5, 2), the error of PyTorch's float32 logits: max|x - truth| / std(truth)
    bfloat16  float64 (5, 2), the error of PyTorch's bfloat16 logits
"""
from pathlib import Path

import numpy as np

from nphybrid.api.presets import fresh
from nphybrid.testing import telling_weights, torch_twin

from tools.on_demand import on_demand

torch, parity = on_demand("torch"), on_demand("parity_with_torch")

FILE = Path(__file__).resolve().parents[1] / "data" / "base_logits.npz"
SEEDS = range(5)
DTYPES = "float32", "bfloat16"


def base_model():
    """R50+ViT-B/16 whose weights do not matter."""
    return fresh("R50+ViT-B/16", engine="reference")


def pictures(seed):
    """The photograph and noise: two arrays float32 (1, 3, 384, 384)."""
    noise = np.random.default_rng(seed).standard_normal((1, 3, 384, 384), np.float32)
    return [parity.picture((384, 384)), noise]


def pytorch_results(model, seed):
    """What the file keeps of one seed, from PyTorch.  -> {name of the array: a row of it}"""
    with_weights = type(model)(model.config, state_dict=telling_weights(model, seed), engine="reference")
    peer = torch_twin(with_weights, torch.float64)      # of float32 weights: conversion to float32 is exact
    truths = [_logits(peer, x, "float64") for x in pictures(seed)]
    results = {"truth": np.concatenate(truths)}
    for dtype in DTYPES:
        peer = peer.to(getattr(torch, dtype))
        results[dtype] = np.array([parity.error(_logits(peer, x, dtype), truth)
                                   for x, truth in zip(pictures(seed), truths)])
    return results


def _logits(peer, pixel_values, dtype):
    with torch.inference_mode():
        return peer(torch.from_numpy(pixel_values).to(getattr(torch, dtype))).logits.double().numpy()


def main():
    """Compute all seeds and write the file."""
    model = base_model()
    rows = []
    for seed in SEEDS:
        rows.append(pytorch_results(model, seed))
        print(f"seed {seed}:", *(f"{dtype} {rows[-1][dtype]}" for dtype in DTYPES), flush=True)
    np.savez(FILE, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})


if __name__ == "__main__":
    main()
