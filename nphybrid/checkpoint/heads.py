"""Reads and writes heads.  A head is a linear classifier for your own classes, in a small file.

The file of a head holds two arrays and one document:

    The array `kernel` is float32 (D, K), for D features and K classes.
    The array `bias` is float32 (K,).
    The document `head` is a JSON object.

The document `head` has these keys:

    The keys `format` and `version` have the values "nphybrid head" and 1.
    The key `labels` holds the names of the K classes.
    The key `model` holds the SHA-256 of the model's file, or null, which allows any model.
    The key `state` holds the name of the state that the head reads in the forward pass.
    The key `pool` describes how the state is pooled.
    The key `made` describes how the head was fitted.

The file has the layout of tensorfile/hdf5.py, with checksums.  `from_pretrained(path, head="head.h5")` replaces the
classifier of a model with the head.  The classifier and the head must read the same state.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .. import tensorfile
from ..config import Config
from ..params import shapes
from ..tensorfile import FilePath, FormatError
from ..text import shortened
from ..trace import first_non_finite
from .files import Checkpoint, sha256

FORMAT, VERSION = "nphybrid head", 1


class Head(NamedTuple):
    """A linear classifier of features: features @ kernel + bias."""
    kernel: np.ndarray                    # float32 (D, K)
    bias: np.ndarray                      # float32 (K,)
    labels: list[str]                     # K different names
    model: str | None                     # the SHA-256 of the model's file; None allows any model
    state: str                            # the name of the state that the head reads
    pool: str                             # how the state is pooled
    made: dict[str, Any]                  # how the head was fitted: a JSON object


def write_head(path: FilePath, head: Head) -> None:
    """Writes a Head to a file, completely or not at all.

    Raises FormatError for a Head that `read_head` would refuse. Raises OSError if the file cannot be written.
    """
    arrays = {"kernel": np.asarray(head.kernel, np.float32), "bias": np.asarray(head.bias, np.float32)}
    document = {"format": FORMAT, "version": VERSION, **head._asdict()}
    document = {key: value for key, value in document.items() if key not in arrays}
    _checked(path, arrays, {"head": document})
    tensorfile.write_h5(path, arrays, {"head": document})


def read_head(path: FilePath) -> Head:
    """Reads the Head in a file.

    Raises FormatError for a file that breaks a rule of its format. Raises OSError if the file cannot be opened.

    >>> import tempfile
    >>> head = Head(np.zeros((2, 3)), np.zeros(3), ["a", "b", "c"], None, "norm", "token", {"by": "hand"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_head(folder + "/head.h5", head)
    ...     read_head(folder + "/head.h5")[2:]
    (['a', 'b', 'c'], None, 'norm', 'token', {'by': 'hand'})
    """
    return _checked(path, *tensorfile.read_h5(path))


def head_reads(config: Config) -> tuple[str, str]:
    """Returns the name of the state that a network's classifier reads, and how it is pooled.  Config -> state, pool

    >>> from nphybrid import PRESETS
    >>> head_reads(PRESETS["R50+ViT-B/16"]), head_reads(PRESETS["BiT-R50x1"])
    (('norm', 'token'), ('pooler', 'none'))
    """
    if not config.blocks:
        return "pooler", "none"
    if config.pre_logits:
        return "pre_logits", "none"
    return ("pool_norm", "none") if config.norm_pooled else ("norm", config.pool)


def classifier_width(config: Config) -> int:
    """Returns the number of features that a network's classifier reads, also if the network has no classifier.

    >>> from nphybrid import PRESETS
    >>> classifier_width(PRESETS["R50+ViT-B/16"]), classifier_width(PRESETS["BiT-R50x1"])
    (768, 2048)
    """
    head = shapes(replace(config, classes=1)).head
    assert head is not None
    return head.kernel[0]


def _original(source: Checkpoint) -> str | None:
    """Returns the SHA-256 of the model whose weights were rounded for a file with narrow weights, or None."""
    origin = source.manifest.get("source")
    return origin.get("sha256") if "dtype" in source.manifest and isinstance(origin, dict) else None


def with_head(source: Checkpoint, head: Head, network_config: Config, name: str) -> Checkpoint:
    """Returns a copy of a Checkpoint in which a head replaces the last layer and the labels.

    `name` is the name of the classifier's layer, such as "classifier". A file with narrow weights accepts the heads of
    the model from which it was converted. Raises ValueError if the head is for another model, another width or another
    state.
    """
    state, pool = head_reads(network_config)
    if (head.state, head.pool) != (state, pool):
        raise ValueError(f"the head reads the state {head.state} with pool {head.pool}, but the classifier of "
                         f"{source.path} reads the state {state} with pool {pool}. Fit the head to features of the "
                         f"state {state} with pool {pool}")
    width = classifier_width(network_config)
    if len(head.kernel) != width:
        raise ValueError(f"the head reads {len(head.kernel):,} features, but {source.path} has {width:,} features")
    if head.model is not None and head.model not in (_original(source), found := sha256(source.path)):
        raise ValueError(f"the head was fitted to features of the model with SHA-256 {head.model}, but {source.path} "
                         f"has the SHA-256 {found}. If both files hold the same network, pass "
                         "head=head._replace(model=None)")
    # A network with a classifier has no pooler and no mask token. Those of a bare model are removed.
    arrays = {key: array for key, array in source.arrays.items()
              if not key.startswith("classifier.") and "pooler." not in key and not key.endswith(".mask_token")}
    arrays |= {f"{name}.weight": np.ascontiguousarray(head.kernel.T), f"{name}.bias": head.bias}
    config = {key: value for key, value in source.config.items() if key != "num_labels"}
    config |= {"id2label": dict(enumerate(head.labels)), "label2id": {name: k for k, name in enumerate(head.labels)},
               "problem_type": None}
    return source._replace(arrays=arrays, config=config)


def _checked(path: FilePath, arrays: Mapping[str, np.ndarray], documents: Mapping[str, Any]) -> Head:
    """Checks the contents of a file, and returns its Head."""
    if sorted(arrays) != ["bias", "kernel"] or sorted(documents) != ["head"]:
        raise FormatError(f"{path} is not a head: it holds the arrays {shortened(sorted(arrays))} and the documents "
                          f"{shortened(sorted(documents))}; expected the arrays bias and kernel, and the document head")
    document = documents["head"]
    _check_document(path, document)
    kernel, bias, labels = arrays["kernel"], arrays["bias"], document["labels"]
    if kernel.ndim != 2 or kernel.shape[1:] != bias.shape or bias.shape != (len(labels),):
        raise FormatError(f"{path}: the shapes of kernel {list(kernel.shape)} and bias {list(bias.shape)} do not fit "
                          f"{len(labels)} labels; expected [D, K], [K] and K labels")
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise FormatError(f"{path}: the dtype of {name} is {array.dtype}; expected float32")
        if first_non_finite(array):
            raise FormatError(f"{path}: {name} holds a value that is not finite; expected finite numbers")
    return Head(kernel, bias, labels, document["model"], document["state"], document["pool"], document["made"])


def _check_document(path: FilePath, document: Any) -> None:
    """Raises FormatError if a document does not describe a head."""
    keys = {"format", "version", *Head._fields} - {"kernel", "bias"}
    if not isinstance(document, dict) or document.keys() != keys:
        raise FormatError(f"{path}: head is {shortened(document)}; expected an object with the keys "
                          f"{', '.join(sorted(keys))}")
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
        raise FormatError(f"{path}: labels are {shortened(labels)}; expected a list of different names")
