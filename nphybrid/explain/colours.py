"""Two colour scales and a palette for readers with and without a colour-vision deficiency, on screen and in print.

`SEQUENTIAL` is for magnitudes and goes from dark to light. It is the scale viridis, by Stéfan van der Walt and
Nathaniel Smith (CC0). `DIVERGING` is for signed numbers and goes from blue (negative) over white to orange (positive).
It has the hues of Okabe and Ito's palette, and becomes darker towards both ends.
"""
import numpy as np

SEQUENTIAL = ("440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26",
              "fde725")
DIVERGING = ("023858", "0a5a94", "0072b2", "56a5d3", "a9d2ea", "ffffff", "f8cf9f", "ec9d52", "d55e00", "a04400",
             "6b2c00")
# Based on the palette of Okabe and Ito (2008). Each colour has a contrast of at least 3 : 1 against white.
CATEGORIES = ("0072b2", "d55e00", "00875f", "aa4499", "555555")
CATEGORIES_ON_DARK = ("56b4e9", "f08a4b", "35c191", "d98cc8", "aaa498")    # the same hues, for a dark background


def rgb(colour: str) -> tuple[int, ...]:
    """The red, green and blue of a colour that is written as six hexadecimal digits.  "ff8000" -> (255, 128, 0)"""
    return tuple(bytes.fromhex(colour))


def coloured(x: np.ndarray, low: float, high: float, scale: tuple = SEQUENTIAL) -> np.ndarray:
    """The colours of numbers on a scale from `low` to `high`.  (...) -> (..., 3) uint8

    A number below `low` gets the first colour of the scale. A number above `high` gets the last colour.

    >>> coloured(np.array([-1., 0, 1]), -1, 1, DIVERGING).tolist()
    [[2, 56, 88], [255, 255, 255], [107, 44, 0]]
    """
    stops = np.array([rgb(colour) for colour in scale], np.float64)
    place = np.clip((x - low) / (high - low or 1), 0, 1) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
