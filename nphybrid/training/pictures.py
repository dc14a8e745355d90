"""The pictures of a training run: the split into training and validation, and the batches of an epoch."""
import itertools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..api.processor import ViTHybridImageProcessor
from ..batch.inputs import open_source
from .augmentation import flipped, generator, random_resized_crop


class Labelled(NamedTuple):
    """Pictures with known classes."""
    sources: list[Any]                    # paths, or anything else that `open_picture` accepts
    classes: np.ndarray                   # int (n,)

    def part(self, chosen: np.ndarray) -> "Labelled":
        """The pictures at the positions `chosen`."""
        return Labelled([self.sources[i] for i in chosen], self.classes[chosen])


def split(classes: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide pictures into a training part and a validation part.  Returns the positions of both parts.

    `classes` holds the class of each picture. `share` is the share of the validation part in each class, from 0 to
    below 1. Every class keeps at least two pictures for training, if it has two.

    >>> known, held_out = split(np.array([0, 1] * 4), 0.25, seed=0)
    >>> len(known), len(held_out)
    (6, 2)
    """
    if not 0 <= share < 1:
        raise ValueError(f"validation: found {share}; expected a number from 0 to below 1")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(classes), bool)
    for k in np.unique(classes):
        of_class = rng.permutation(np.flatnonzero(classes == k))
        held_out[of_class[:max(min(round(share * len(of_class)), len(of_class) - 2), 0)]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def order_of_epoch(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which the n training pictures are used in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class Preparer:
    """Turns a picture into pixel_values (C, H, W), with the random changes of an epoch."""

    def __init__(self, processor: ViTHybridImageProcessor, augment: str, seed: int):
        self.processor = processor
        self.augment = augment
        self.seed = seed
        size: Any = processor.crop_size if processor.do_center_crop else processor.size
        self.size = (size["height"], size["width"]) if "height" in size else None
        if augment != "none" and self.size is None:
            raise ValueError(f"augment: the image processor makes pictures of different sizes (size {size}); expected "
                             "a height and a width, or augment none")

    def __call__(self, source: Any, epoch: int, position: int) -> np.ndarray:
        """Prepare a picture for training.  `position`: the position of the picture in the list."""
        if self.augment == "none" or self.size is None:
            return self.plain(source)
        rng = generator(self.seed, epoch, position)
        resample = self.processor.resample if isinstance(self.processor.resample, int) else 3
        picture = random_resized_crop(np.asarray(open_source(source)), self.size, rng, resample=resample)
        if self.augment == "crop-flip":
            picture = flipped(picture, rng)
        return self.processor(Image.fromarray(picture), do_resize=False, do_center_crop=False,
                              return_tensors="np").pixel_values[0]

    def plain(self, source: Any) -> np.ndarray:
        """Prepare a picture as for inference."""
        return self.processor(open_source(source), return_tensors="np").pixel_values[0]


def batches(prepare: Callable[[int], np.ndarray], positions: Sequence[int], size: int
            ) -> Generator[np.ndarray, None, None]:
    """Yield pixel_values (B, C, H, W) of `size` pictures at a time.  The next batch is prepared in the meantime.

    `prepare` is a function that gets a position.
    """
    if not positions:
        return
    chunks = [positions[i:i + size] for i in range(0, len(positions), size)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [[pool.submit(prepare, int(i)) for i in chunk] for chunk in chunks[:1]]
        for following in itertools.chain(chunks[1:], [()]):
            waiting.append([pool.submit(prepare, int(i)) for i in following])
            yield np.stack([job.result() for job in waiting.pop(0)])
