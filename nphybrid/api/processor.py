"""`ViTHybridImageProcessor`, with the options, inputs and JSON file of the transformers class of this name.

This file checks the options and converts every picture to an array (H, W, C). image.py computes the pixels.
"""
import copy
import json
import operator
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import image
from ..dialects.processors import CLIP, spelled_out
from ..pictures.resample import TF_BILINEAR
from ..text import did_you_mean
from .arguments import path_argument, refuse_arguments, without_arguments
from .checks import as_array
from .hints import check_cpu

LAYOUTS = ("channels_first", "channels_last")
SIZE_KEYS = ({"shortest_edge"}, {"height", "width"}, {"shortest_edge", "longest_edge"}, {"longest_edge"},
             {"max_height", "max_width"})
OPTIONS = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
           "do_normalize", "image_mean", "image_std", "do_convert_rgb", "crop_rounding")
# The largest number of pixels in one picture, after resizing and after cropping.
# Without MAX_PIXELS, a picture of 1 x 65,500 pixels could become a picture of 384 x 25,152,000 pixels.
MAX_PIXELS = 64_000_000

Size = dict[str, int] | tuple[int, int] | int
Numbers = list[float] | float


class BatchFeature(dict[str, Any]):
    """A dictionary whose keys are also attributes.

    >>> inputs = BatchFeature(pixel_values=[1, 2])
    >>> inputs.pixel_values is inputs["pixel_values"]
    True
    """

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}; its keys are {', '.join(map(repr, self))}")

    def to(self, device: Any = "cpu", dtype: Any = None, non_blocking: bool = False) -> "BatchFeature":
        """Returns the arrays unchanged.  Raises ValueError for a device that is not the CPU, and for another dtype."""
        check_cpu(device, dtype, getattr(self.get("pixel_values"), "dtype", None))
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class ViTHybridImageProcessor:
    """Converts pictures to `pixel_values`.

    With the same version of Pillow, ViTHybridImageProcessor in transformers gives results that are equal bit for bit. A
    picture is converted to RGB, resized, cropped at the centre, multiplied by `rescale_factor` and normalized. A
    picture that is smaller than the crop is padded with zeros. The defaults of the options are those of transformers.
    Every checkpoint has its own options. The published hybrid has a size of 384 pixels, and a mean and std of 0.5.

    Args:
        `do_resize`: whether to resize.

        `size`: the size in pixels after resizing. `{"shortest_edge": n}` or n makes the short side n pixels long
            and keeps the ratio of the sides. A key `longest_edge` is ignored, as in transformers.
            `{"height": h, "width": w}` or `(h, w)` can change the ratio of the sides. Default: 224.

        `resample`: a filter of Pillow or "tf-bilinear". The filters of Pillow are 0 nearest, 1 Lanczos, 2 bilinear,
            3 bicubic (default), 4 box and 5 Hamming. Newer versions of Pillow have more filters. "tf-bilinear" is the
            float32 interpolation of Google's JAX code. In this code, the pixels stay in 0..255, so pass
            `do_rescale=False`.

        `do_center_crop`: whether to crop.

        `crop_size`: the size of the crop in pixels: `{"height": h, "width": w}`, `(h, w)`, or n for a square.
            Default: 224.

        `do_rescale`: whether to multiply the pixels by `rescale_factor`.

        `rescale_factor`: a number, by default 1/255, which converts bytes to fractions.

        `do_normalize`: whether to subtract `image_mean` and divide by `image_std`.

        `image_mean`, `image_std`: a number, or one number per channel. The defaults are the numbers of CLIP.

        `do_convert_rgb`: whether to convert Pillow pictures of all modes to RGB. The conversion by Pillow drops alpha
            and replaces 16-bit grey values above 255 by 255. For files with alpha or 16 bits, `nphybrid.open_picture`
            is better. Arrays are not converted to RGB. If `image_mean` is a list with one number and `do_normalize` is
            True, Pillow pictures are converted to grey instead, for networks with one channel.

        `crop_rounding`: "floor" (default) or "half_even", for a crop that removes an odd number of rows or columns.
            "floor" removes one row less above the crop than below the crop. "half_even" removes an even number of rows
            above the crop, as timm does. Columns are removed by the same rule. A saved file has the key crop_rounding
            only if the value is "half_even".

        `**kwargs`: other keys of a `preprocessor_config.json`, which are kept and saved unchanged.

    >>> processor = ViTHybridImageProcessor(size=384, crop_size=384, image_mean=0.5, image_std=0.5)
    >>> inputs = processor(np.zeros((480, 640, 3), np.uint8), return_tensors="np")
    >>> inputs.pixel_values.shape, inputs.pixel_values.dtype, float(inputs.pixel_values.min())
    ((1, 3, 384, 384), dtype('float32'), -1.0)
    """

    model_input_names = ["pixel_values"]
    crop_rounding = "floor"

    def __init__(self, do_resize: bool = True, size: Size | None = None,
                 resample: int | str = Image.Resampling.BICUBIC, do_center_crop: bool = True,
                 crop_size: Size | None = None, do_rescale: bool = True, rescale_factor: float = 1 / 255,
                 do_normalize: bool = True, image_mean: Numbers | None = None,
                 image_std: Numbers | None = None, do_convert_rgb: bool = True,
                 crop_rounding: str = "floor", **kwargs: Any) -> None:
        self.do_resize = do_resize
        self.size = _size_dict({"shortest_edge": 224} if size is None else size, "size", square=False)
        self.resample = resample
        self.do_center_crop = do_center_crop
        self.crop_size = _size_dict(224 if crop_size is None else crop_size, "crop_size", square=True)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = list(CLIP[0]) if image_mean is None else image_mean
        self.image_std = list(CLIP[1]) if image_std is None else image_std
        self.do_convert_rgb = do_convert_rgb
        if crop_rounding != type(self).crop_rounding:
            self.crop_rounding = crop_rounding
        # Files from transformers can have these three keys, which are not options.
        for name in ("image_processor_type", "feature_extractor_type", "_valid_processor_keys"):
            kwargs.pop(name, None)
        for name, value in kwargs.items():
            if hasattr(type(self), name):
                raise ValueError(f"found a key {name!r}; expected another name, because the image processor has a "
                                 f"method or attribute {name!r}")
            setattr(self, name, value)

    def preprocess(self, images: Any, do_resize: bool | None = None, size: Size | None = None,
                   resample: int | str | None = None, do_center_crop: bool | None = None,
                   crop_size: Size | None = None, do_rescale: bool | None = None,
                   rescale_factor: float | None = None, do_normalize: bool | None = None,
                   image_mean: Numbers | None = None, image_std: Numbers | None = None,
                   do_convert_rgb: bool | None = None,
                   return_tensors: str | None = None, data_format: str | None = "channels_first",
                   input_data_format: str | None = None, *, crop_rounding: str | None = None,
                   max_pixels: int = MAX_PIXELS) -> BatchFeature:
        """Convert pictures to `pixel_values`.

        Args:
            `images`: a picture, a batch of pictures, or a list of pictures and batches. A picture is a Pillow picture
                or an array (H, W, C), (C, H, W) or (H, W). A batch is an array (B, H, W, C) or (B, C, H, W). Pixels
                are 0..255, or fractions in 0..1. For fractions, pass `do_rescale=False`. PyTorch tensors are accepted
                as arrays.

            `do_resize` ... `do_convert_rgb`, `crop_rounding`: options that replace the options of the processor.

            `return_tensors`: "np" for one array (B, C, H, W), or None for a list of B arrays (C, H, W).

            `data_format`: the layout of the result, "channels_first" or "channels_last". If data_format is None, the
                result has the layout of the first picture.

            `input_data_format`: the layout of the arrays, "channels_first" or "channels_last". If input_data_format is
                None, the first picture decides the layout of all arrays. If the first axis of the first picture has
                length 1 or 3, the layout is "channels_first". For an array (H, W), the result has no channel axis.

            `max_pixels`: the largest number of pixels in a picture, after resizing and after cropping.

        Returns:
            A dictionary with the key and attribute `pixel_values`. The arrays of the result are float32, with three
            exceptions. Floats that are neither resized nor rescaled keep their dtype. Without rescaling and
            normalizing, integers that are not resized keep their dtype, and whole numbers that Pillow resizes become
            bytes.

        Raises:
            TypeError: an item of `images` is not a picture.

            ValueError: an option or a picture cannot be used. The error message has the value found and the expected
                value.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f"return_tensors is {_option_value(return_tensors)!r}; expected \"np\" or None; for "
                             "PyTorch, use \"np\" and then torch.from_numpy(inputs.pixel_values)")
        for name, layout in (("data_format", data_format), ("input_data_format", input_data_format)):
            if layout is not None and layout not in LAYOUTS:
                raise ValueError(f"{name} must be {LAYOUTS[0]!r}, {LAYOUTS[1]!r} or None; "
                                 f"found {_option_value(layout)!r}")
        given = dict(do_resize=do_resize, size=size, resample=resample, do_center_crop=do_center_crop,
                     crop_size=crop_size, do_rescale=do_rescale, rescale_factor=rescale_factor,
                     do_normalize=do_normalize, image_mean=image_mean, image_std=image_std,
                     do_convert_rgb=do_convert_rgb, crop_rounding=crop_rounding)
        options = {name: getattr(self, name) if value is None else value for name, value in given.items()}
        steps = _steps(**options)

        pictures = list(_single_pictures(images))
        convert = _boolean("do_convert_rgb", options["do_convert_rgb"])
        mode = _converted_mode(convert, options)
        arrays = [_pixels(picture, mode) for picture in pictures]
        if not arrays:
            raise ValueError("images has no picture; expected one or more pictures")
        first = arrays[0]
        if steps.factor is not None and first.dtype != np.uint8 and first.min() >= 0 and first.max() <= 1:
            warnings.warn("the pixels are in 0..1, and do_rescale is True; for pixels in 0..1, pass do_rescale=False",
                          stacklevel=3)
        layout = input_data_format or _layout(pictures, arrays)
        layouts = [LAYOUTS[1] if isinstance(x, Image.Image) else layout for x in pictures]
        results = [_prepare(x, b, steps, layouts[b], data_format or layouts[0], max_pixels)
                   for b, x in enumerate(arrays)]
        if return_tensors == "np":
            shapes = {x.shape for x in results}
            if len(shapes) > 1:
                raise ValueError("return_tensors is \"np\", but the results have the shapes "
                                 f"{sorted(shapes)}; expected one shape (use a crop), or return_tensors=None")
            # np.array makes a contiguous array with channels first. np.stack would keep channels last in memory.
            return BatchFeature(pixel_values=np.array(results))
        return BatchFeature(pixel_values=results)

    def __call__(self, images: Any, *, do_resize: bool | None = None, size: Size | None = None,
                 resample: int | str | None = None, do_center_crop: bool | None = None,
                 crop_size: Size | None = None, do_rescale: bool | None = None,
                 rescale_factor: float | None = None, do_normalize: bool | None = None,
                 image_mean: Numbers | None = None, image_std: Numbers | None = None,
                 do_convert_rgb: bool | None = None, return_tensors: str | None = None,
                 data_format: str | None = "channels_first", input_data_format: str | None = None,
                 crop_rounding: str | None = None, max_pixels: int = MAX_PIXELS) -> BatchFeature:
        """Convert pictures to `pixel_values`, as `preprocess` does.  All options must be keyword arguments.

        >>> processor = ViTHybridImageProcessor(crop_size=32)
        >>> processor(Image.new("L", (64, 48)), return_tensors="np").pixel_values.shape
        (1, 3, 32, 32)
        """
        return self.preprocess(
            images, do_resize=do_resize, size=size, resample=resample, do_center_crop=do_center_crop,
            crop_size=crop_size, do_rescale=do_rescale, rescale_factor=rescale_factor, do_normalize=do_normalize,
            image_mean=image_mean, image_std=image_std, do_convert_rgb=do_convert_rgb, return_tensors=return_tensors,
            data_format=data_format, input_data_format=input_data_format, crop_rounding=crop_rounding,
            max_pixels=max_pixels)

    @classmethod
    def from_dict(cls, image_processor_dict: dict, **kwargs: Any) -> "ViTHybridImageProcessor":
        """Make a processor from the keys of a `preprocessor_config.json`.

        If the keys name another class of transformers, such as DeiTImageProcessor, the processor computes the pixels of
        this class (dialects/processors.py). `kwargs`: options that replace keys of the file. Raises TypeError for an
        unknown option. Raises ValueError for a bad value, and for a class whose pixels nphybrid does not compute.

        >>> ViTHybridImageProcessor.from_dict({"size": 384}, do_normalize=False).size
        {'shortest_edge': 384}
        """
        if not isinstance(image_processor_dict, Mapping):
            raise TypeError(f"image_processor_dict has type {_type_name(image_processor_dict)}; expected a dictionary "
                            "of options")
        unknown = [name for name in kwargs if name not in OPTIONS and name not in image_processor_dict]
        if unknown:
            raise TypeError(f"unknown option {', '.join(unknown)}; the options are {', '.join(OPTIONS)}"
                            + did_you_mean(unknown[0], OPTIONS))
        return cls(**spelled_out({**copy.deepcopy(dict(image_processor_dict)), **kwargs}))

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike | None = None, *, revision: str | None = None,
                        token: str | bool | None = None, cache_dir: str | os.PathLike | None = None,
                        local_files_only: bool = False, **kwargs: Any) -> "ViTHybridImageProcessor":
        """Read an image processor.

        `path`: a `preprocessor_config.json`, a folder that has a `preprocessor_config.json`, or an `.h5` file. The name
        "owner/name" of a model on the hub is also accepted. `revision`: a branch, tag or commit on the hub. `token`,
        `cache_dir`, `local_files_only`: as in huggingface_hub. `kwargs`: options that replace the options of the file.
        Other arguments of transformers are accepted if they change no result (arguments.py). Raises FileNotFoundError
        if the file does not exist. Raises OSError if the hub cannot be reached. Raises ValueError if the file does not
        have the options of a processor.
        """
        from ..checkpoint import Access, read_processor

        place = path_argument(path, kwargs)
        access, kwargs = Access(token, cache_dir, local_files_only), without_arguments(kwargs)
        return cls.from_dict(read_processor(place, revision, access), **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **arguments: Any) -> list[str]:
        """Write `preprocessor_config.json` into a folder.  -> [path of the file]

        If the folder is missing, the folder is created. If an error occurs, no incomplete file remains. `arguments`:
        arguments of transformers that change no result (arguments.py).
        """
        from ..tensorfile import write_atomically

        refuse_arguments("save_pretrained", arguments)
        file = Path(save_directory) / "preprocessor_config.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(file) as partial:
            partial.write_text(self.to_json_string(), encoding="utf-8")
        return [str(file)]

    def to_dict(self) -> dict[str, Any]:
        """Returns all options, all other keys of the processor, and the name of the class as `image_processor_type`."""
        return {**copy.deepcopy(vars(self)), "image_processor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """Returns the text of `preprocessor_config.json`, with the keys in alphabetical order."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, default=lambda x: x.tolist()) + "\n"

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def _steps(do_resize, size, resample, do_center_crop, crop_size, do_rescale, rescale_factor, do_normalize,
           image_mean, image_std, do_convert_rgb, crop_rounding):
    """Check the options of a processor and make `Steps` from them.

    The options of omitted steps are not checked, except size and crop_size.
    """
    size = _size_dict(size, "size", square=False)
    crop_size = _size_dict(crop_size, "crop_size", square=True)
    steps = image.Steps(size=None, crop=None, factor=None, mean=None)
    if _boolean("do_resize", do_resize):
        if isinstance(resample, bool) or resample not in (*Image.Resampling, TF_BILINEAR):
            filters = ", ".join(f"{x} {x.name.lower()}" for x in Image.Resampling)
            raise ValueError(f"resample is {resample!r}; expected {TF_BILINEAR!r} or one of Pillow's filters, "
                             f"{filters}")
        if "shortest_edge" not in size and "height" not in size:
            raise ValueError(f"size is {size}; expected the key 'shortest_edge', or the keys 'height' and 'width'")
        edges = size["shortest_edge"] if "shortest_edge" in size else (size["height"], size["width"])
        steps = steps._replace(size=edges, resample=resample if isinstance(resample, str) else int(resample))
    if _boolean("do_center_crop", do_center_crop):
        if "height" not in crop_size:
            raise ValueError(f"crop_size is {crop_size}; expected the keys 'height' and 'width'")
        if crop_rounding not in image.CROP_ROUNDINGS:
            raise ValueError(f"crop_rounding must be {' or '.join(map(repr, image.CROP_ROUNDINGS))}; "
                             f"found {crop_rounding!r}")
        steps = steps._replace(crop=(crop_size["height"], crop_size["width"]), crop_rounding=crop_rounding)
    if _boolean("do_rescale", do_rescale):
        factor = _numbers(rescale_factor, "rescale_factor")
        if np.ndim(factor):
            raise ValueError(f"rescale_factor must be one number; found {rescale_factor!r}")
        steps = steps._replace(factor=factor)
    if _boolean("do_normalize", do_normalize):
        steps = steps._replace(mean=_numbers(image_mean, "image_mean"), std=_numbers(image_std, "image_std"))
        if not np.all(steps.std):
            raise ValueError(f"image_std must not be zero; found {image_std!r}")
    return steps


def steps_of(processor: ViTHybridImageProcessor) -> image.Steps:
    """The steps that prepare a picture, from the options of an image processor.

    Raises ValueError for an option that cannot be used.

    >>> steps_of(ViTHybridImageProcessor(size=384, crop_size=384, image_mean=0.5, image_std=0.5)).size
    384
    """
    return _steps(**{name: getattr(processor, name) for name in OPTIONS})


def _boolean(name, value):
    """Converts an option such as do_resize to a bool.  None, which is null in JSON, becomes False."""
    if value is None or isinstance(value, (bool, np.bool_)) or value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be True or False; found {value!r}")


def _size_dict(size, name, square):
    """Converts a size (an int, a pair or a dictionary) to a new dictionary of ints.

    If `square` is True, an int means the height and the width. Otherwise, an int means the short side.
    """
    if isinstance(size, (list, tuple)):
        if len(size) != 2:
            raise ValueError(f"{name} as a sequence must be (height, width); found {size!r}")
        size = {"height": size[0], "width": size[1]}
    elif not isinstance(size, Mapping):
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if set(size) not in SIZE_KEYS:
        raise ValueError(f"{name} must be n, {{'shortest_edge': n}} or {{'height': h, 'width': w}}; "
                         f"found {size!r}")
    return {key: _edge(value, f"{name}[{key!r}]") for key, value in size.items()}


def _edge(value: Any, name: str) -> int:
    """Converts a length in pixels to an int.  A length such as 384.0 in a JSON file becomes 384."""
    whole: Any = int(value) if isinstance(value, float) and value.is_integer() else value
    try:
        # Pillow cannot make a picture with 2**31 or more rows or columns.
        if isinstance(value, bool) or not 1 <= operator.index(whole) < 2**31:
            raise TypeError
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected a whole number of pixels from 1 to 2**31 - 1") from None
    return operator.index(whole)


def _numbers(value, name):
    """Converts a number to a float, and a list with one number per channel to an array (C,)."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in "iuf" and array.ndim <= 1 and np.isfinite(array).all():
            return float(array) if array.ndim == 0 else array
    except ValueError:
        pass
    raise ValueError(f"{name} must be a finite number or a list of finite numbers; found {value!r}")


def _single_pictures(images):
    """Yields every single picture in `images`: Pillow pictures, and arrays of 2 or 3 axes.

    `images`: a picture, a batch, or a list of pictures, batches and lists.
    """
    if isinstance(images, Image.Image):
        yield images
    elif isinstance(images, (list, tuple)):
        for item in images:
            yield from _single_pictures(item)
    elif hasattr(images, "__array__"):
        array = as_array(images)
        if array.ndim not in (2, 3, 4):
            raise ValueError(f"images has an array of shape {array.shape}; expected 2 or 3 axes for a picture, or 4 "
                             "axes for a batch")
        yield from array if array.ndim == 4 else (array,)
    else:
        raise TypeError(f"images has an item of type {_type_name(images)}; expected only Pillow pictures and arrays "
                        "(nphybrid.open_picture reads files)")


def _converted_mode(convert, options):
    """Returns the mode to which Pillow pictures are converted, or None."""
    mean = options["image_mean"]
    if options["do_normalize"] and isinstance(mean, (list, tuple)) and len(mean) == 1:
        return "L"
    return "RGB" if convert else None


def _pixels(picture, mode):
    """Converts a Pillow picture to an array and checks the array.  -> (H, W, C), (C, H, W) or (H, W)"""
    if not isinstance(picture, Image.Image):
        array = picture
    elif mode is not None:
        try:
            array = image.rgb(picture) if mode == "RGB" else np.array(picture.convert(mode))[:, :, None]
        except ValueError as error:
            raise ValueError(f"Pillow cannot convert a picture of mode {picture.mode} to {mode}: {error}") from error
    elif picture.mode in ("P", "PA"):
        raise ValueError(f"a picture has mode {picture.mode}, whose pixels are palette indices; expected colours, or "
                         "do_convert_rgb=True")
    else:
        array = np.array(picture)
    if array.dtype.kind not in "buif":
        raise ValueError(f"the pixels of a picture have dtype {array.dtype}; expected integers or floating-point "
                         "numbers")
    if 0 in array.shape:
        raise ValueError(f"a picture has shape {array.shape}; expected at least one pixel")
    return array


def _layout(pictures, arrays):
    """Returns the layout of all arrays, which depends on the shape of the first array with three axes."""
    # A Pillow picture always has channels last. If it has 3 rows, transformers wrongly assumes channels first.
    if isinstance(pictures[0], Image.Image):
        return LAYOUTS[1]
    shape = next((x.shape for x in arrays if x.ndim == 3), (1, 1))
    first, last = shape[0] in (1, 3), shape[-1] in (1, 3)
    if not first and not last:
        raise ValueError(f"a picture has shape {shape}; expected a first or last axis of length 1 or 3, or the "
                         f"argument input_data_format={LAYOUTS[0]!r} or {LAYOUTS[1]!r}")
    if first and last and len(shape) == 3:
        warnings.warn(f"a picture has shape {shape}, and the first axis is used as the channels; to use another "
                      "axis, pass input_data_format", stacklevel=4)
    return LAYOUTS[0] if first else LAYOUTS[1]


def _prepare(x, b, steps, layout, data_format, max_pixels):
    """Applies the steps to picture b of the batch.

    `layout`: the layout of the picture. `data_format`: the layout of the result.
    """
    flat = x.ndim == 2
    if flat:
        x = x[:, :, None]
    elif layout == "channels_first":
        x = x.transpose(1, 2, 0)
    H, W, C = x.shape
    if steps.size is not None and steps.resample != TF_BILINEAR and C > 4:
        raise ValueError(f"picture {b} has {C} channels (layout {layout}); expected 1 to 4 channels, which Pillow can "
                         "resize")
    if steps.mean is not None:
        for name, numbers in (("image_mean", steps.mean), ("image_std", steps.std)):
            if np.ndim(numbers) and np.size(numbers) != C:
                raise ValueError(f"picture {b} has {C} channels (layout {'grey' if flat else layout}), but {name} has "
                                 f"{np.size(numbers)} numbers; expected one number for each channel")
    sizes = []
    if steps.size is not None:
        sizes.append(image.resized_size(H, W, steps.size))
    if steps.crop is not None:
        sizes.append(steps.crop)
    for h, w in sizes:
        if h * w > max_pixels:
            raise ValueError(f"picture {b} has {H} x {W} pixels and would become {h} x {w} pixels; expected at most "
                             f"max_pixels, {max_pixels:,} pixels")
    x = image.prepare(x, steps)
    if flat:
        return x[:, :, 0]
    return x.transpose(2, 0, 1) if data_format == "channels_first" else x


def _option_value(option):
    """Returns the value of an enumeration member, and any other option unchanged."""
    return getattr(option, "value", option)


def _type_name(thing):
    """The name of the type of `thing` for a message, or "None" if `thing` is None."""
    return "None" if thing is None else type(thing).__name__
