"""A file per family of checkpoints: its names and layouts, its configuration, its preparation of pictures.

    what differs              Hugging Face            timm                      JAX (Google)
    convolution kernels       (O, C, KH, KW)          (O, C, KH, KW)            (KH, KW, C, O), as here
    query, key, value         three, (D, D)           one, (3 D, D)             three, (D, A, K)
    kernels of linear layers  (O, C)                  (O, C)                    (C, O), as here
    stages, units             from 0                  from 0                    from 1; units of BiT in two digits
    blocks                    from 0                  from 0                    from 0
    sizes of the network      config.json             shapes, config.json       shapes
    image processor           a JSON file             config.json               that of the published code

A file is recognized by a few of its names (`guess`), its sizes are read from the shapes (`shapes`), and its arrays get
Hugging Face's names and layouts without being read (`translate`).  So all that follows knows one dialect.

A new dialect is one file like `timm`, and one row of DIALECTS.  Sources of names and shapes: timm 1.0.31,
google-research/vision_transformer, google-research/big_transfer.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..tensorfile import Stored
from . import google, timm
from .layout import Mark, Table


class Dialect(NamedTuple):
    """What is known about the files of one family."""

    # How they are recognized.
    marks: tuple[Mark, ...]
    # Variants of the names -> the published names.
    renumbered: Callable[[Mapping[str, Stored]], dict[str, Stored]]
    # ({name: shape}, config.json or {}) -> the configuration in Hugging Face's keys.
    config: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    # Config -> the table of names and layouts.
    names: Callable[[Any], Table]
    # (configuration, config.json or {}) -> the options of the image processor.
    processor: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


DIALECTS = {
    "timm": Dialect(timm.MARKS, dict, timm.timm_config, timm.timm_names, timm.timm_processor),
    "JAX": Dialect(google.JAX_MARKS, google.one_numbering, lambda shapes, card: google.jax_config(shapes),
                   google.jax_names, lambda config, card: google.for_jax(config["image_size"])),
    "BiT": Dialect(google.BIT_MARKS, dict, lambda shapes, card: google.bit_config(shapes), google.jax_names,
                   lambda config, card: google.for_bit()),
}
