"""A head: the classifier of your own classes, in a small file of its own.

    head.h5     arrays     kernel (D, K), bias (K,), float32
                documents  head: format and version; labels, K names; model, the SHA-256 of the file of the model whose
                           features it reads; state and pool, which features; made, how it was fitted
                in the layout of tensorfile/hdf5.py, checksums and all

It takes the place of a model's own classifier where it reads what that reads: `from_pretrained(path, head="head.h5")`.
"""
from typing import NamedTuple

import numpy as np

from .. import tensorfile
from ..tensorfile import FormatError
from ..text import shortened
from ..trace import first_non_finite
from .files import sha256

FORMAT, VERSION = "nphybrid head", 1


class Head(NamedTuple):
    """A linear classifier of features: features @ kernel + bias."""
    kernel: np.ndarray                    # float32 (D, K)
    bias: np.ndarray                      # float32 (K,)
    labels: list                          # of K str, no name twice
    model: str | None                     # the SHA-256 of the model's file; None goes with any
    state: str                            # the state of the walk that it reads, and how it is pooled
    pool: str
    made: dict                            # how: JSON


def write_head(path, head):
    """Write a Head, all or nothing.  Raises FormatError for one that `read_head` would refuse, OSError."""
    arrays = {"kernel": np.asarray(head.kernel, np.float32), "bias": np.asarray(head.bias, np.float32)}
    document = {"format": FORMAT, "version": VERSION, **head._asdict()}
    document = {key: value for key, value in document.items() if key not in arrays}
    _checked(path, arrays, {"head": document})
    tensorfile.write_h5(path, arrays, {"head": document})


def read_head(path):
    """The Head in a file.  Raises FormatError for a file that breaks a rule, OSError if it cannot be opened.

    >>> import tempfile
    >>> head = Head(np.zeros((2, 3)), np.zeros(3), ["a", "b", "c"], None, "norm", "token", {"by": "hand"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_head(folder + "/head.h5", head)
    ...     read_head(folder + "/head.h5")[2:]
    (['a', 'b', 'c'], None, 'norm', 'token', {'by': 'hand'})
    """
    return _checked(path, *tensorfile.read_h5(path))


def _checked(path, arrays, documents):
    """The Head in what a file holds."""
    if sorted(arrays) != ["bias", "kernel"] or sorted(documents) != ["head"]:
        raise FormatError(f"{path} is no head: it holds the arrays {shortened(sorted(arrays))} and the documents "
                          f"{shortened(sorted(documents))}; expected bias and kernel, and head")
    kernel, bias, told = arrays["kernel"], arrays["bias"], documents["head"]
    keys = {"format", "version", *Head._fields} - {"kernel", "bias"}
    if not isinstance(told, dict) or told.keys() != keys:
        raise FormatError(f"{path}: head is {shortened(told)}; expected an object of {', '.join(sorted(keys))}")
    if (told["format"], told["version"]) != (FORMAT, VERSION):
        raise FormatError(f"{path}: format and version are {shortened((told['format'], told['version']))}; expected "
                          f"{(FORMAT, VERSION)}")
    for key, kinds in (("model", (str, type(None))), ("state", str), ("pool", str), ("made", dict), ("labels", list)):
        if not isinstance(told[key], kinds):
            raise FormatError(f"{path}: {key} of the head is {shortened(told[key])}")
    labels = told["labels"]
    if not all(isinstance(name, str) for name in labels) or len({*labels}) < len(labels) or not labels:
        raise FormatError(f"{path}: labels are {shortened(labels)}; expected names, none of them twice")
    if kernel.ndim != 2 or kernel.shape[1:] != bias.shape or bias.shape != (len(labels),):
        raise FormatError(f"{path}: kernel {list(kernel.shape)}, bias {list(bias.shape)} and {len(labels)} labels do "
                          "not fit; expected [D, K], [K] and K")
    for name, array in arrays.items():
        if array.dtype != np.float32 or first_non_finite(array):
            raise FormatError(f"{path}: {name} is {array.dtype}"
                              + (", and not finite" if first_non_finite(array) else "") + "; expected finite float32")
    return Head(kernel, bias, labels, *(told[key] for key in ("model", "state", "pool", "made")))


# ---------------------------------------------------------------- in the place of a classifier

def head_reads(sizes):
    """The state that a network's classifier reads, and how it is pooled.  Config -> state, pool

    >>> from nphybrid import PRESETS
    >>> head_reads(PRESETS["R50+ViT-B/16"]), head_reads(PRESETS["BiT-R50x1"])
    (('norm', 'token'), ('pooler', 'none'))
    """
    if not sizes.blocks:
        return "pooler", "none"
    if sizes.pre_logits:
        return "pre_logits", "none"
    return ("pool_norm", "none") if sizes.norm_pooled else ("norm", sizes.pool)


def with_head(source, head, sizes, name):
    """The Checkpoint of a classifier with another head: its arrays, its labels.

    sizes: the network's Config; name: what its classifier is called, such as "classifier". Raises ValueError for a
    head of another model, width or state.
    """
    reads = head_reads(sizes)
    if (head.state, head.pool) != reads:
        raise ValueError(f"the head reads the state {head.state} with pool {head.pool}, but the classifier of "
                         f"{source.path} stands behind {reads[0]} with pool {reads[1]}: fit it to features of those")
    width = sizes.pre_logits or sizes.width or sizes.widths[-1]
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
