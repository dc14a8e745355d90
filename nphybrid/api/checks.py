"""Every input of a model is checked here, once, and converted to what the network expects."""
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Config
from ..trace import NonFiniteError, first_non_finite


def as_array(x: Any) -> np.ndarray:
    """Anything that NumPy converts, or a PyTorch tensor, as an array.  Raises ValueError for lists of mixed shapes."""
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
    """pixel_values, floats (B, C, H, W), as a contiguous array (B, H, W, C) of `dtype`.

    channels: the expected C. size: the expected (H, W); None accepts every size. Raises ValueError or TypeError for
    inputs that the network cannot take, and NonFiniteError for NaN or infinity.
    """
    if pixel_values is None:
        raise ValueError("pixel_values is missing; expected the output of the image processor, (B, C, H, W)")
    x = as_array(pixel_values)
    if x.dtype.kind != "f":
        raise TypeError(f"pixel_values are {x.dtype}; expected floats (B, {channels}, H, W), which the image processor "
                        "makes of pictures")
    if x.ndim != 4:
        hint = "; one picture is pixel_values[None]" if x.ndim == 3 else ""
        raise ValueError(f"pixel_values have shape {x.shape}; expected (B, {channels}, H, W){hint}")
    if x.shape[1] != channels:
        hint = "; are the channels last? x.transpose(0, 3, 1, 2)" if x.shape[3] == channels else ""
        raise ValueError(f"pixel_values have {x.shape[1]} channels (shape {x.shape}); expected {channels}{hint}")
    if size is not None and x.shape[2:] != tuple(size):
        raise ValueError(f"pixel_values are {x.shape[2]} x {x.shape[3]} pixels; this model expects "
                         f"{size[0]} x {size[1]} (interpolate_pos_encoding=True resizes its positions)")
    if 0 in x.shape:
        raise ValueError(f"pixel_values are empty: shape {x.shape}")
    with np.errstate(over="ignore"):
        x = finite(x.astype(dtype, copy=False), "pixel_values")
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def finite(x: np.ndarray, name: str) -> np.ndarray:
    """x itself.  Raises NonFiniteError with the place of the first number that is not finite."""
    if where := first_non_finite(x):
        raise NonFiniteError(f"{name} holds {x[where]} at {list(where)} of shape {list(x.shape)}; "
                             "expected finite numbers")
    return x


def head_mask(mask: npt.ArrayLike | None, blocks: int, heads: int, dtype: npt.DTypeLike) -> np.ndarray | None:
    """A head mask, numbers (A,) or (L, A), as an array (L, A) of `dtype`.  None stays None.

    Raises ValueError for other shapes and types, NonFiniteError for NaN or infinity.
    """
    if mask is None:
        return None
    array = as_array(mask)
    if array.dtype.kind not in "biuf" or array.shape not in ((heads,), (blocks, heads)):
        raise ValueError(f"head_mask is {array.dtype} of shape {array.shape}; "
                         f"expected numbers ({heads},) or ({blocks}, {heads})")
    return finite(np.broadcast_to(array, (blocks, heads)).astype(dtype), "head_mask")


def masked_patches(mask: npt.ArrayLike | None, mask_token: Any, images: int, patches: int) -> np.ndarray | None:
    """bool_masked_pos, bools or 0 and 1 of shape (B, N), as bool (B, N).  None stays None.

    mask_token: that of the model, or None. Raises ValueError if the model has none, and for other masks.
    """
    if mask is None:
        return None
    if mask_token is None:
        raise ValueError("bool_masked_pos needs a mask token, and this model has none: "
                         "build it with use_mask_token=True")
    array = as_array(mask)
    if array.shape != (images, patches) or not np.isin(array, (0, 1)).all():
        raise ValueError(f"bool_masked_pos is {array.dtype} of shape {array.shape}; "
                         f"expected bools ({images}, {patches})")
    return array.astype(bool)


def threads(number: int | None) -> int | None:
    """num_threads itself: an int of at least 1, or None for every core.  Raises ValueError for others."""
    if number is not None and (type(number) is not int or number < 1):
        raise ValueError(f"num_threads is {number!r}; expected an int of 1 or more, or None")
    return number


def check_patches_fill(config: Config) -> None:
    """Raise ValueError if whole patches do not fill the feature map.  The message has the nearest sizes that work."""
    height, width, _ = config.feature_map
    if _filled(height, config.patch) and _filled(width, config.patch):
        return
    near = " x ".join(" or ".join(map(str, _nearest_lengths(config, axis))) for axis in (0, 1))
    raise ValueError(f"{config.image[0]} x {config.image[1]} pixels make a map of {height} x {width} cells, which "
                     f"patches of {config.patch} x {config.patch} do not fill; the nearest sizes that do: {near}")


def _filled(cells, patch):
    return cells >= patch and cells % patch == 0


def _nearest_lengths(config, axis):
    """The nearest lengths of an axis in pixels that patches fill: the present one, or the next below and above."""
    def works(n):
        cells = replace(config, image=(n, n)).feature_map[0]
        return _filled(cells, config.patch)

    n = config.image[axis]
    below = next((k for k in range(n, 0, -1) if works(k)), None)
    above = next(k for k in itertools.count(n) if works(k))
    return [above] if below in (None, above) else [below, above]
