"""Resizing as in Google's JAX code against PyTorch's bilinear interpolation, which is the same without antialiasing."""
import numpy as np
import pytest

from nphybrid.api.processor import ViTHybridImageProcessor
from nphybrid.dialects.google import for_jax
from nphybrid.dialects.timm import for_timm
from nphybrid.pictures.resample import tf_bilinear

from oracles.pictures import noise
from tools.on_demand import on_demand

torch = on_demand("torch")


def torchs(x, height, width):
    """(H, W, C) uint8 -> (h, w, C) float32"""
    y = torch.from_numpy(x).permute(2, 0, 1)[None].float()
    y = torch.nn.functional.interpolate(y, (height, width), mode="bilinear", align_corners=False, antialias=False)
    return y[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("H, W, h, w", [(1, 1, 5, 3), (480, 640, 384, 384), (97, 131, 224, 224), (640, 427, 224, 384),
                                        (1000, 33, 16, 64), (384, 384, 384, 384)])
def test_tf_bilinear_is_pytorchs(H, W, h, w):
    x = noise(1, H, W, 3)
    # Of 255. Observed 1.7e-3, on noise: the place of a pixel is a float32, which PyTorch rounds otherwise.
    assert np.abs(tf_bilinear(x, h, w) - torchs(x, h, w)).max() < 1e-2


def test_jax_of_the_processor():
    x = noise(2, 333, 500, 3)
    found = ViTHybridImageProcessor(**for_jax(384))(x).pixel_values[0]
    expected = (torchs(x, 384, 384) - 127.5) / 127.5
    assert np.abs(found - expected.transpose(2, 0, 1)).max() < 1e-4


def test_timms_arithmetic_is_the_processors():
    """ToTensor and Normalize of torchvision on every byte, in PyTorch: the same bits."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    x = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    options = for_timm({"input_size": [3, 16, 16], "interpolation": "bicubic", "crop_pct": 1.0, "mean": mean,
                        "std": std})
    y = torch.from_numpy(x).permute(2, 0, 1).float().div(255)
    y = y.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
    assert ViTHybridImageProcessor(**options)(x).pixel_values[0].tobytes() == y.contiguous().numpy().tobytes()
