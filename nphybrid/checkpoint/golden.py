"""The golden input and the golden values of a network.

The golden input is a picture that a formula defines.  The golden values are the first values (at most 4096) of one
state of the forward pass for the golden input.  An `.h5` file stores the golden values of its network.  A program that
computes the golden values from the golden input computes this network correctly.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tensorfile import FilePath, FormatError
from ..text import shortened


def golden_input(config: Any) -> np.ndarray:
    """Returns the golden input of a network.  -> pixel_values float64 (1, H, W, C) in [-1, 1]

    The value in row i, column j and channel c is ((7 i + 13 j + 29 c + i j) mod 256) / 127.5 - 1.
    """
    i, j, c = np.ogrid[:config.image[0], :config.image[1], :config.channels]
    return ((7 * i + 13 * j + 29 * c + i * j) % 256 / 127.5 - 1)[None]


def golden_state(manifest: Mapping[str, Any], path: FilePath) -> tuple[str, np.ndarray] | None:
    """Returns the name of the state with golden values, and these values in float64; None if there are none.

    Raises FormatError if the state has no name, or if its values are not numbers.
    """
    golden = manifest.get("golden")
    if golden is None:
        return None
    state, values = (golden.get("state"), golden.get("values")) if isinstance(golden, dict) else (None, None)
    numbers = isinstance(values, list) and values and all(type(value) in (int, float) for value in values)
    if not isinstance(state, str) or not numbers:
        raise FormatError(f"{path}: golden is {shortened(golden)}; expected an object with the keys state (a "
                          "name) and values (a list of numbers)")
    return state, np.array(values, np.float64)


def golden_error(found: np.ndarray, golden: np.ndarray) -> float:
    """Returns max|found - golden| / std(golden).

    If all golden values are equal, their standard deviation is 0, and the divisor is max|golden|. If this is 0 too, the
    divisor is 1.

    >>> golden_error(np.array([1.0, 2.5]), np.array([1.0, 3.0]))
    0.5
    >>> golden_error(np.array([3.0]), np.array([4.0])), golden_error(np.array([0.1, 0.3]), np.zeros(2))
    (0.25, 0.3)
    """
    return float(np.abs(found - golden).max() / (golden.std() or np.abs(golden).max() or 1))
