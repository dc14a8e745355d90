"""nphybrid: the Hybrid Vision Transformer in NumPy and Numba.

A convolutional backbone (BiT) turns a picture into a feature map, whose cells become the tokens of a transformer
encoder (ViT). Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", section 3.1, "Hybrid Architecture".

Read it in this order: config, params, image, backbone, tokens, encoder, model; then ops/reference.

The letters, in docstrings, comments and errors:

    B   images                  T   tokens = 1 + N             KH KW   taps of a kernel
    H W rows, columns           N   patches of the grid        C O     input, output channels
    P   side of a patch         D   width of a token           G       groups of a group norm
    A   heads                   K   width of a head, D = A K   M       width inside a bottleneck
    L   encoder blocks          F   hidden width of the MLP    MR NR MC KC NC  tile and cache blocks

The papers call the number of heads k and their width D_h. Where K counts classes, the text says so. "Upstream" is
Hugging Face transformers 4.57.6; a trace (trace.py) is the notebook in which a walk's states are kept by name.
"""
import importlib

__version__ = "0.1.0"

_HOME = {
    "ViTHybridConfig": "api.configs", "BitConfig": "api.configs",
    "ViTHybridImageProcessor": "api.processor", "BatchFeature": "api.processor",
    "ViTConfig": "api.configs", "ViTModel": "api.vit_hybrid", "ViTForImageClassification": "api.vit_hybrid",
    "ViTHybridModel": "api.vit_hybrid", "ViTHybridForImageClassification": "api.vit_hybrid",
    "BitModel": "api.bit", "BitBackbone": "api.bit", "BitForImageClassification": "api.bit",
    "pipeline": "batch.pipeline",
    "Config": "config", "PRESETS": "config", "Trace": "trace", "NonFiniteError": "trace",
    "FormatError": "tensorfile", "PictureError": "pictures.decode", "open_picture": "pictures.decode",
    "default_model": "checkpoint",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name):
    """Import a public name where it is first used: `import nphybrid` alone loads neither Numba nor h5py."""
    if name not in _HOME:
        raise AttributeError(f"module 'nphybrid' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
