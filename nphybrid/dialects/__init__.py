"""Describes families of checkpoints: names and layouts of arrays, configuration, preparation of pictures.

    what differs              Hugging Face            timm                      JAX (Google)
    convolution kernels       (O, C, KH, KW)          (O, C, KH, KW)            (KH, KW, C, O), as here
    query, key, value         three, (D, D)           one, (3 D, D)             three, (D, A, K)
    kernels of linear layers  (O, C)                  (O, C)                    (C, O), as here
    stages, units             from 0                  from 0                    from 1; units of BiT in two digits
    blocks                    from 0                  from 0                    from 0
    sizes of the network      config.json             shapes, config.json       shapes
    image processor           a JSON file             config.json               as in the published code

Each family has one file.  The module `guess` recognizes the dialect of a file by a few names.  The module `shapes`
computes the configuration from the shapes of the arrays.  The module `translate` gives the arrays Hugging Face's names
and layouts, and reads no array.  The code of other folders knows only Hugging Face's dialect.

A new dialect needs one file like timm.py, and one row in DIALECTS.  The names and shapes are from timm 1.0.31,
google-research/vision_transformer and google-research/big_transfer.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..tensorfile import Stored
from . import google, timm
from .layout import Mark, Table


class Dialect(NamedTuple):
    """The description of one family of checkpoints."""

    # The names by which a file of the family is recognized.
    marks: tuple[Mark, ...]
    # A function that converts variants of the names to the published names.
    renumbered: Callable[[Mapping[str, Stored]], dict[str, Stored]]
    # A function of {name: shape} and config.json (or {}) that returns the configuration with Hugging Face's keys.
    config: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    # A function of a Config that returns the table of names and layouts.
    names: Callable[[Any], Table]
    # A function of the configuration and config.json (or {}) that returns the options of the image processor.
    processor: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


DIALECTS = {
    "timm": Dialect(timm.MARKS, dict, timm.timm_config, timm.timm_names, timm.timm_processor),
    "JAX": Dialect(google.JAX_MARKS, google.one_numbering, lambda shapes, card: google.jax_config(shapes),
                   google.jax_names, lambda config, card: google.for_jax(config["image_size"])),
    "BiT": Dialect(google.BIT_MARKS, dict, lambda shapes, card: google.bit_config(shapes), google.jax_names,
                   lambda config, card: google.for_bit()),
}
