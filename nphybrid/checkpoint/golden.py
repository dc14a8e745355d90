"""The golden input, a built-in picture for every network, and the golden values, a state of its forward pass.

An `.h5` file stores the golden values. A program that reads the file and computes the same values from the golden input
computes the same network.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tensorfile import FilePath, FormatError
from ..text import shortened


def golden_input(config: Any) -> np.ndarray:
    """The golden input of a network: a picture, by an integer formula.  -> pixel_values float64 (1, H, W, C) in [-1, 1]

    The pixel of row i, column j, channel c is ((7 i + 13 j + 29 c + i j) mod 256) / 127.5 - 1.
    """
    i, j, c = np.ogrid[:config.image[0], :config.image[1], :config.channels]
    return ((7 * i + 13 * j + 29 * c + i * j) % 256 / 127.5 - 1)[None]


def golden_state(manifest: Mapping[str, Any], path: FilePath) -> tuple[str, np.ndarray] | None:
    """The golden values in a manifest.  -> (name of their state, float64 values), or None

    Raises FormatError for anything else than a name and numbers.
    """
    golden = manifest.get("golden")
    if golden is None:
        return None
    state, values = (golden.get("state"), golden.get("values")) if isinstance(golden, dict) else (None, None)
    numbers = isinstance(values, list) and values and all(type(value) in (int, float) for value in values)
    if not isinstance(state, str) or not numbers:
        raise FormatError(f"{path}: golden is {shortened(golden)}; expected the name of a state and its values, a "
                          "list of numbers")
    return state, np.array(values, np.float64)
