"""Functions that check every input of a model and convert the inputs to arrays."""
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..ops import NARROW, dtype_name
from ..trace import NonFiniteError, first_non_finite


def as_array(x: Any) -> np.ndarray:
    """Converts a PyTorch tensor or any value that NumPy accepts to an array.

    Raises ValueError for lists of mixed shapes.
    """
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"expected an array, or lists of one shape; found a {type(x).__name__} of mixed shapes"
                         ) from None


def pixels(pixel_values: npt.ArrayLike | None, channels: int, dtype: npt.DTypeLike,
           size: tuple[int, int] | None = None) -> np.ndarray:
    """Check pixel_values and make a contiguous array of `dtype`.  (B, C, H, W) -> (B, H, W, C)

    `channels`: the expected C. `size`: the expected (H, W), or None to accept every size. Raises ValueError or
    TypeError for inputs that do not fit the network, and NonFiniteError for NaN or infinity.
    """
    if pixel_values is None:
        raise ValueError("pixel_values is missing; expected the output of the image processor, (B, C, H, W)")
    if isinstance(pixel_values, Mapping):
        raise TypeError(f"pixel_values is a {type(pixel_values).__name__}; expected an array. Call model(**inputs) "
                        "with the result of the image processor")
    x = as_array(pixel_values)
    if x.dtype.kind != "f":
        raise TypeError(f"pixel_values are {x.dtype}; expected floats (B, {channels}, H, W), the output of the image "
                        "processor")
    if x.ndim != 4:
        hint = "; for one picture, pass pixel_values[None]" if x.ndim == 3 else ""
        raise ValueError(f"pixel_values have shape {x.shape}; expected (B, {channels}, H, W){hint}")
    if x.shape[1] != channels:
        hint = "; if the channels are last, pass pixel_values.transpose(0, 3, 1, 2)" if x.shape[3] == channels else ""
        raise ValueError(f"pixel_values have {x.shape[1]} channels (shape {x.shape}); expected {channels}{hint}")
    if size is not None and x.shape[2:] != tuple(size):
        raise ValueError(f"pixel_values are {x.shape[2]} x {x.shape[3]} pixels; this model expects {size[0]} x "
                         f"{size[1]}; with interpolate_pos_encoding=True, the model accepts other sizes")
    if 0 in x.shape:
        raise ValueError(f"pixel_values have shape {x.shape}; expected an array that is not empty")
    with np.errstate(over="ignore"):
        x = finite(x.astype(dtype, copy=False), "pixel_values")
    # For few channels, this is faster than np.ascontiguousarray(x.transpose(0, 2, 3, 1)).
    y = np.empty((len(x), *x.shape[2:], channels), x.dtype)
    for c in range(channels):
        y[..., c] = x[:, c]
    return y


def finite(x: np.ndarray, name: str) -> np.ndarray:
    """Returns x unchanged.  Raises NonFiniteError with the index of the first NaN or infinity."""
    if where := first_non_finite(x):
        raise NonFiniteError(f"{name} holds {x[where]} at {list(where)} of shape {list(x.shape)}; "
                             "expected finite numbers")
    return x


def head_mask(mask: npt.ArrayLike | None, blocks: int, heads: int, dtype: npt.DTypeLike) -> np.ndarray | None:
    """Check a head mask, numbers (A,) or (L, A), and make an array (L, A) of `dtype`.  None stays None.

    L is `blocks`, and A is `heads`. Raises ValueError for other shapes and types, and NonFiniteError for NaN or
    infinity.
    """
    if mask is None:
        return None
    array = as_array(mask)
    if array.dtype.kind not in "biuf" or array.shape not in ((heads,), (blocks, heads)):
        raise ValueError(f"head_mask is {array.dtype} of shape {array.shape}; "
                         f"expected numbers ({heads},) or ({blocks}, {heads})")
    return finite(np.broadcast_to(array, (blocks, heads)).astype(dtype), "head_mask")


def masked_patches(mask: npt.ArrayLike | None, mask_token: Any, images: int, patches: int) -> np.ndarray | None:
    """Check bool_masked_pos and make a bool array (B, N).  None stays None.

    `mask`: bools (B, N), or an array (B, N) of 0 and 1. B is `images`, and N is `patches`. `mask_token`: the mask token
    of the model, or None. Raises ValueError for masks of another shape or with other values, and for every mask if the
    model has no mask token.
    """
    if mask is None:
        return None
    if mask_token is None:
        raise ValueError("bool_masked_pos needs a mask token, but this model has no mask token: "
                         "build the model with use_mask_token=True")
    array = as_array(mask)
    if array.shape != (images, patches) or not np.isin(array, (0, 1)).all():
        raise ValueError(f"bool_masked_pos is {array.dtype} of shape {array.shape}; "
                         f"expected bools ({images}, {patches})")
    return array.astype(bool)


def threads(number: int | None) -> int | None:
    """Check the value of num_threads and return it.  Raises ValueError if it is neither None nor an int above 0."""
    if number is not None and (type(number) is not int or number < 1):
        raise ValueError(f"num_threads is {number!r}; expected an int of 1 or more, or None")
    return number


def narrow_dtype(dtype: npt.DTypeLike, model_dtype: Any, stored_dtype: str | None) -> str:
    """Check the dtype of the weights in a file with narrow weights, for a model of the dtype `model_dtype`.

    `stored_dtype`: the dtype of the narrow weights in the file of the model, or None. Raises ValueError for a dtype
    that is not narrow, and for a model whose weights would be rounded twice.
    """
    name: Any = dtype_name(dtype)
    if name not in NARROW:
        raise ValueError(f"dtype: expected None, {' or '.join(NARROW)}, found {name}")
    if model_dtype in NARROW and name != stored_dtype:
        raise ValueError(f"expected a model with dtype float32 or float64, found {model_dtype}, whose weights would be "
                         "rounded twice")
    return name


def check_patches_fill(config: Config) -> None:
    """Raise ValueError if whole patches do not fill the feature map.

    The error message has the nearest possible picture sizes.
    """
    height, width, _ = config.feature_map
    if _filled(height, config.patch) and _filled(width, config.patch):
        return
    heights, widths = (" or ".join(map(str, _nearest_lengths(config, axis))) for axis in (0, 1))
    raise ValueError(f"a picture of {config.image[0]} x {config.image[1]} pixels has a feature map of {height} x "
                     f"{width} cells, which patches of {config.patch} x {config.patch} cells do not fill; the nearest "
                     f"possible sizes have a height of {heights} pixels and a width of {widths} pixels")


def _filled(cells, patch):
    return cells >= patch and cells % patch == 0


def _nearest_lengths(config, axis):
    """The lengths in pixels nearest to config.image[axis] at which patches fill the feature map."""
    def works(n):
        cells = replace(config, image=(n, n)).feature_map[0]
        return _filled(cells, config.patch)

    n = config.image[axis]
    below = next((k for k in range(n, 0, -1) if works(k)), None)
    above = next(k for k in itertools.count(n) if works(k))
    return [above] if below in (None, above) else [below, above]
