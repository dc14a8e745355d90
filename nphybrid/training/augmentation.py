"""Random changes of pictures for training.

Each function takes a Generator of NumPy. `generator` makes the Generator of one picture in one epoch, so a picture is
changed in the same way for any number of threads, and also after a run was resumed.

A picture is uint8 (H, W, 3). `erased` and `mixed` change pixel_values.
"""
import math

import numpy as np
from PIL import Image


def generator(seed: int, epoch: int, picture: int) -> np.random.Generator:
    """The Generator for a picture, given by its position in the list, in an epoch.

    >>> generator(0, 1, 2).random() == generator(0, 1, 2).random() != generator(0, 2, 2).random()
    True
    """
    # default_rng([seed, epoch, picture]) would give picture 0 the random numbers of default_rng([seed, epoch]).
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, picture)))


def random_resized_crop(picture: np.ndarray, size: tuple[int, int], rng: np.random.Generator,
                        scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3),
                        resample: int = Image.Resampling.BICUBIC) -> np.ndarray:
    """Cut a random box, and resize it to `size` (height, width).

    The box has a random share of the picture's area, between the two numbers of `scale`, and a random ratio of width to
    height. If ten boxes do not fit into the picture, the largest box at the centre is cut. Szegedy et al. 2015, section
    6; the same rule as RandomResizedCrop in torchvision.
    """
    H, W = picture.shape[:2]
    top, left, height, width = _random_box(H, W, rng, scale, ratio) or _largest_box(H, W, ratio)
    box = Image.fromarray(picture[top:top + height, left:left + width])
    return np.asarray(box.resize((size[1], size[0]), Image.Resampling(resample)))


def _random_box(H, W, rng, scale, ratio):
    """A random box (top, left, height, width) in (H, W), or None if ten boxes do not fit."""
    for _ in range(10):
        area = H * W * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= W and 0 < height <= H:
            top, left = rng.integers(H - height + 1), rng.integers(W - width + 1)
            return int(top), int(left), height, width
    return None


def _largest_box(H, W, ratio):
    """The largest box (top, left, height, width) at the centre of (H, W) with a ratio between the two numbers."""
    width, height = min(W, round(H * ratio[1])), min(H, round(W / ratio[0]))
    return (H - height) // 2, (W - width) // 2, height, width


def padded_crop(picture: np.ndarray, rng: np.random.Generator, padding: int = 4) -> np.ndarray:
    """Pad a picture by reflection, and cut a random box of the old size.  He et al. 2015, section 4.2"""
    H, W = picture.shape[:2]
    padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)), "reflect")
    top, left = rng.integers(2 * padding + 1, size=2)
    return padded[top:top + H, left:left + W]


def flipped(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror left and right with probability 1/2."""
    return picture[:, ::-1] if rng.random() < 0.5 else picture


def erased(x: np.ndarray, rng: np.random.Generator, probability: float = 0.5,
           scale: tuple[float, float] = (0.02, 0.33), ratio: tuple[float, float] = (0.3, 3.3)) -> np.ndarray:
    """Set a random box of pixel_values (C, H, W) to 0, with the given probability.  Zhong et al. 2017, algorithm 1

    If ten boxes do not fit into the picture, nothing is set to 0, as in RandomErasing in torchvision.
    """
    if rng.random() >= probability:
        return x
    _, H, W = x.shape
    box = _random_box(H, W, rng, scale, ratio)
    if box is None:
        return x
    top, left, height, width = box
    x = x.copy()
    x[:, top:top + height, left:left + width] = 0
    return x


def mixed(x: np.ndarray, targets: np.ndarray, rng: np.random.Generator, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Mix each picture of a batch with another picture of the batch.  Zhang et al. 2017, eq. 1

    x is share * x + (1 - share) * x in another order, and so are the targets. `share` is a random number with the
    distribution Beta(alpha, alpha). `x`: (B, C, H, W). `targets`: (B, K), the probability of each class.
    """
    share = x.dtype.type(rng.beta(alpha, alpha))
    order = rng.permutation(len(x))
    return share * x + (1 - share) * x[order], share * targets + (1 - share) * targets[order]
