"""Describes dialects, which are families of checkpoints that name and store the arrays of a network differently.

    what differs              Hugging Face            timm                      JAX (Google)
    convolution kernels       (O, C, KH, KW)          (O, C, KH, KW)            (KH, KW, C, O), as in nphybrid
    query, key, value kernels three arrays (D, D)     one array (3 D, D)        three arrays (D, A, K)
    kernels of linear layers  (O, C)                  (O, C)                    (C, O), as in nphybrid
    numbers of stages, units  from 0                  from 0                    from 1; units of BiT with two digits
    numbers of blocks         from 0                  from 0                    from 0
    sizes of the network      config.json             shapes, config.json       shapes
    image processor           a JSON file             config.json               as in the published code

O and C are the numbers of output and input channels.  A kernel has KH rows and KW columns.  D is the token width.  A is
the number of heads, and K is the width of a head.

Each family is described in one file.  The module `guess` recognizes the dialect of a file by the names of a few arrays.
The module `shapes` computes the configuration from the shapes of the arrays.  The module `translate` converts names and
layouts to Hugging Face's, without reading an array.  The code of other folders uses the other dialects only to read and
write files.

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
    # A function that computes the configuration, with Hugging Face's keys, from {name: shape} and config.json (or {}).
    config: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    # A function that returns the table of names and layouts for a Config.
    names: Callable[[Any], Table]
    # A function that computes the options of the image processor from the configuration and config.json (or {}).
    processor: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]


DIALECTS = {
    "timm": Dialect(timm.MARKS, dict, timm.timm_config, timm.timm_names, timm.timm_processor),
    "JAX": Dialect(google.JAX_MARKS, google.one_numbering, lambda shapes, card: google.jax_config(shapes),
                   google.jax_names, lambda config, card: google.for_jax(config["image_size"])),
    "BiT": Dialect(google.BIT_MARKS, dict, lambda shapes, card: google.bit_config(shapes), google.jax_names,
                   lambda config, card: google.for_bit()),
}
