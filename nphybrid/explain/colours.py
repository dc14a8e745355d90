"""Two colour scales that read the same to the colour-blind, and in print.

`SEQUENTIAL` goes from nothing to much, dark to light: viridis, by Stéfan van der Walt and Nathaniel Smith (CC0).
`DIVERGING` goes from blue (less than zero) over white to orange: the ends of Okabe and Ito's palette.
"""
import numpy as np

SEQUENTIAL = ("440154", "482475", "414487", "355f8d", "2a788e", "21918c", "22a884", "44bf70", "7ad151", "bddf26",
              "fde725")
DIVERGING = ("023858", "0a5a94", "0072b2", "56a5d3", "a9d2ea", "ffffff", "f8cf9f", "ec9d52", "d55e00", "a04400",
             "6b2c00")
# After Okabe and Ito 2008, apart for every kind of sight; each at least 3 : 1 on white.
CATEGORIES = ("0072b2", "d55e00", "00875f", "aa4499", "555555")


def rgb(colour):
    """"ff8000" -> (255, 128, 0)"""
    return tuple(bytes.fromhex(colour))


def coloured(x, low, high, scale=SEQUENTIAL):
    """Numbers as colours; what lies beyond low and high gets the colours of the ends.  (...) -> (..., 3) uint8

    >>> coloured(np.array([-1., 0, 1]), -1, 1, DIVERGING).tolist()
    [[2, 56, 88], [255, 255, 255], [107, 44, 0]]
    """
    stops = np.array([rgb(colour) for colour in scale], np.float64)
    place = np.clip((x - low) / (high - low or 1), 0, 1) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), stops[:, i]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
