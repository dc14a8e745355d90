"""The border: what users hand in is checked here, once, and turned to what the walk expects."""
import itertools
from dataclasses import replace

import numpy as np

from ..trace import NonFiniteError, first_non_finite


def as_array(x):
    """Anything that NumPy takes for an array; of a torch tensor its values, on the CPU and without gradients."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"expected an array, or lists of one shape; found a {type(x).__name__} of mixed shapes"
                         ) from None


def pixels(pixel_values, channels, dtype, size=None):
    """(B, C, H, W) floats, as Hugging Face has them -> (B, H, W, C) of `dtype`, contiguous.

    size (H, W) is demanded where it is given. Raises ValueError or TypeError, which name what was found and what
    was expected, and NonFiniteError for a pixel that is NaN or infinite.
    """
    if pixel_values is None:
        raise ValueError("pixel_values is missing: give what the image processor returned, (B, C, H, W)")
    x = as_array(pixel_values)
    if x.dtype.kind != "f":
        raise TypeError(f"pixel_values are {x.dtype}; expected floats (B, {channels}, H, W): "
                        "pictures become that by the image processor")
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


def finite(x, name):
    """x, if every number in it is finite; else NonFiniteError with the place of the first that is not."""
    if where := first_non_finite(x):
        raise NonFiniteError(f"{name} holds {x[where]} at {list(where)} of shape {list(x.shape)}; "
                             "expected finite numbers")
    return x


def head_mask(mask, blocks, heads, dtype):
    """(A,) or (L, A) numbers -> (L, A) of `dtype`; None stays None."""
    if mask is None:
        return None
    mask = as_array(mask)
    if mask.dtype.kind not in "biuf" or mask.shape not in ((heads,), (blocks, heads)):
        raise ValueError(f"head_mask is {mask.dtype} of shape {mask.shape}; "
                         f"expected numbers ({heads},) or ({blocks}, {heads})")
    return finite(np.broadcast_to(mask, (blocks, heads)).astype(dtype), "head_mask")


def masked_patches(mask, mask_token, images, patches):
    """bool_masked_pos, bools or 0 and 1 of (B, N) -> bool (B, N); None stays None."""
    if mask is None:
        return None
    if mask_token is None:
        raise ValueError("bool_masked_pos needs a mask token, and this model has none: "
                         "build it with use_mask_token=True")
    mask = as_array(mask)
    if mask.shape != (images, patches) or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"bool_masked_pos is {mask.dtype} of shape {mask.shape}; "
                         f"expected bools ({images}, {patches})")
    return mask.astype(bool)


def threads(number):
    """A number of threads, or None for every core."""
    if number is not None and (type(number) is not int or number < 1):
        raise ValueError(f"num_threads is {number!r}; expected an int of 1 or more, or None")
    return number


def fits(sizes):
    """Raises ValueError for a picture whose map is not filled by whole patches, with the nearest sizes that do."""
    short = [axis for axis, cells in enumerate(sizes.feature_map[:2]) if cells < sizes.patch or cells % sizes.patch]
    if short:
        near = " x ".join(" or ".join(map(str, _nearest(sizes, axis))) for axis in (0, 1))
        height, width, _ = sizes.feature_map
        raise ValueError(f"{sizes.image[0]} x {sizes.image[1]} pixels make a map of {height} x {width} cells, which "
                         f"patches of {sizes.patch} x {sizes.patch} do not fill; the nearest sizes that do: {near}")


def _nearest(sizes, axis):
    """The nearest lengths of an axis in pixels that patches fill: itself, or the next below and above."""
    def cells(n):
        return replace(sizes, image=(n, n)).feature_map[0]

    def good(n):
        return cells(n) >= sizes.patch and cells(n) % sizes.patch == 0
    n = sizes.image[axis]
    below = next((k for k in range(n, 0, -1) if good(k)), None)
    above = next(k for k in itertools.count(n) if good(k))
    return [above] if below in (None, above) else [below, above]
