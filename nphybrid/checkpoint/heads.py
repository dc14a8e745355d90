"""A head: a classifier of your own classes, in a small file.

    head.h5     arrays     kernel (D, K), bias (K,), float32
                documents  head: format and version; labels, K names; model, the SHA-256 of the file of the model whose
                           features it reads; state and pool, which features; made, how it was fitted
                in the layout of tensorfile/hdf5.py, with checksums

It replaces the classifier of a model that reads the same features: `from_pretrained(path, head="head.h5")`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import tensorfile
from ..config import Config
from ..tensorfile import FilePath, FormatError
from ..text import shortened
from ..trace import first_non_finite
from .files import Checkpoint, sha256

FORMAT, VERSION = "nphybrid head", 1


class Head(NamedTuple):
    """A linear classifier of features: features @ kernel + bias."""
    kernel: np.ndarray                    # float32 (D, K)
    bias: np.ndarray                      # float32 (K,)
    labels: list[str]                     # K names, none twice
    model: str | None                     # the SHA-256 of the model's file; None allows any model
    state: str                            # the state of the forward pass that it reads
    pool: str                             # how that state is pooled
    made: dict[str, Any]                  # how it was fitted: JSON


def write_head(path: FilePath, head: Head) -> None:
    """Writes a Head, whole or not at all.  Raises FormatError for one that `read_head` would refuse, OSError."""
    arrays = {"kernel": np.asarray(head.kernel, np.float32), "bias": np.asarray(head.bias, np.float32)}
    document = {"format": FORMAT, "version": VERSION, **head._asdict()}
    document = {key: value for key, value in document.items() if key not in arrays}
    _checked(path, arrays, {"head": document})
    tensorfile.write_h5(path, arrays, {"head": document})


def read_head(path: FilePath) -> Head:
    """The Head in a file.  Raises FormatError for a file that breaks a rule, OSError if it cannot be opened.

    >>> import tempfile
    >>> head = Head(np.zeros((2, 3)), np.zeros(3), ["a", "b", "c"], None, "norm", "token", {"by": "hand"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_head(folder + "/head.h5", head)
    ...     read_head(folder + "/head.h5")[2:]
    (['a', 'b', 'c'], None, 'norm', 'token', {'by': 'hand'})
    """
    return _checked(path, *tensorfile.read_h5(path))


def head_reads(config: Config) -> tuple[str, str]:
    """The state that the classifier of a network reads, and how it is pooled.  Config -> state, pool

    >>> from nphybrid import PRESETS
    >>> head_reads(PRESETS["R50+ViT-B/16"]), head_reads(PRESETS["BiT-R50x1"])
    (('norm', 'token'), ('pooler', 'none'))
    """
    if not config.blocks:
        return "pooler", "none"
    if config.pre_logits:
        return "pre_logits", "none"
    return ("pool_norm", "none") if config.norm_pooled else ("norm", config.pool)


def with_head(source: Checkpoint, head: Head, network_config: Config, name: str) -> Checkpoint:
    """The Checkpoint of a classifier with another head: its arrays, its labels.

    name: the name of the classifier's layer, such as "classifier". Raises ValueError for a head of another model, width
    or state.
    """
    state, pool = head_reads(network_config)
    if (head.state, head.pool) != (state, pool):
        raise ValueError(f"the head reads the state {head.state} with pool {head.pool}, but the classifier of "
                         f"{source.path} reads {state} with pool {pool}: fit the head to features of those")
    width = network_config.pre_logits or network_config.width or network_config.widths[-1]
    if len(head.kernel) != width:
        raise ValueError(f"the head reads {len(head.kernel):,} features, but {source.path} has {width:,}")
    if head.model is not None and head.model != (found := sha256(source.path)):
        raise ValueError(f"the head was fitted to features of the model with SHA-256 {head.model}, but {source.path} "
                         f"has {found}. If they are the same network in two files, give head=head._replace(model=None)")
    # A bare model's pooler goes too: no classifier has one.
    arrays = {key: array for key, array in source.arrays.items()
              if not key.startswith("classifier.") and "pooler." not in key}
    arrays |= {f"{name}.weight": np.ascontiguousarray(head.kernel.T), f"{name}.bias": head.bias}
    config = {key: value for key, value in source.config.items() if key != "num_labels"}
    config |= {"id2label": dict(enumerate(head.labels)), "label2id": {name: k for k, name in enumerate(head.labels)},
               "problem_type": None}
    return source._replace(arrays=arrays, config=config)


def _checked(path: FilePath, arrays: Mapping[str, np.ndarray], documents: Mapping[str, Any]) -> Head:
    """The Head in the contents of a file."""
    if sorted(arrays) != ["bias", "kernel"] or sorted(documents) != ["head"]:
        raise FormatError(f"{path} is not a head: it holds the arrays {shortened(sorted(arrays))} and the documents "
                          f"{shortened(sorted(documents))}; expected bias and kernel, and head")
    document = documents["head"]
    _check_document(path, document)
    kernel, bias, labels = arrays["kernel"], arrays["bias"], document["labels"]
    if kernel.ndim != 2 or kernel.shape[1:] != bias.shape or bias.shape != (len(labels),):
        raise FormatError(f"{path}: kernel {list(kernel.shape)}, bias {list(bias.shape)} and {len(labels)} labels do "
                          "not fit; expected [D, K], [K] and K")
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise FormatError(f"{path}: {name} is {array.dtype}; expected finite float32")
        if first_non_finite(array):
            raise FormatError(f"{path}: {name} is not finite; expected finite float32")
    return Head(kernel, bias, labels, document["model"], document["state"], document["pool"], document["made"])


def _check_document(path: FilePath, document: Any) -> None:
    """Refuses a document that does not describe a head."""
    keys = {"format", "version", *Head._fields} - {"kernel", "bias"}
    if not isinstance(document, dict) or document.keys() != keys:
        raise FormatError(f"{path}: head is {shortened(document)}; expected an object of {', '.join(sorted(keys))}")
    found = document["format"], document["version"]
    if found != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {shortened(found)}; expected {(FORMAT, VERSION)}")
    kinds = {"model": ((str, type(None)), "a string or null"), "state": (str, "a string"), "pool": (str, "a string"),
             "made": (dict, "an object"), "labels": (list, "an array")}
    for key, (kind, expected) in kinds.items():
        if not isinstance(document[key], kind):
            raise FormatError(f"{path}: {key} of the head is {shortened(document[key])}; expected {expected}")
    labels = document["labels"]
    if not labels or not all(isinstance(name, str) for name in labels) or len(set(labels)) < len(labels):
        raise FormatError(f"{path}: labels are {shortened(labels)}; expected names, none of them twice")
