"""The published models that nphybrid can load, with their sources and their accuracy.

The accuracies are top-1 on the validation set of ImageNet, in percent. They are those of timm's results-imagenet.csv,
or for Google's AugReg files those of the README of google-research/vision_transformer. nphybrid did not measure them.
"""
import math
from dataclasses import replace
from typing import NamedTuple

from .. import params
from ..checkpoint import hub
from ..config import PRESETS, Config
from ..text import table

VIT = "https://storage.googleapis.com/vit_models/"
BIT = "https://storage.googleapis.com/bit_models/"
SOURCES = {"huggingface": "Hugging Face", "timm": "timm, on the Hugging Face hub", "google": "Google, as .npz files"}


class Published(NamedTuple):
    """A published checkpoint."""
    source: str                           # a key of SOURCES
    network: str                          # the name of the network in its paper
    name: str                             # owner/name on the Hugging Face hub, or a URL
    pixels: int                           # the side of the training pictures
    classes: int                          # 1000: ImageNet, 21843: ImageNet-21k, 0: without a classifier
    accuracy: float | None = None         # in percent

    def parameters(self) -> int:
        """Return the number of parameters, which the shapes of the network give."""
        config = replace(NETWORKS[self.network], image=(self.pixels, self.pixels), classes=self.classes)
        return sum(math.prod(shape) for shape in params.named_leaves(params.shapes(config)).values())

    def command(self) -> str:
        """Return the command line that loads the model and uses it for the picture cat.png."""
        if self.source != "google":
            return f"{self._use()} --model {self.name}"
        file = self.name.rpartition("/")[2]
        return f"curl -LO '{self.name}' && {self._use()} --model {file}"

    def _use(self):
        return "nphybrid classify cat.png" if self.classes else "nphybrid embed cat.png -o features.h5"

    def is_cached(self) -> bool:
        """Return True if the weights are in the cache of the Hugging Face hub."""
        return self.source != "google" and hub.is_cached(self.name)


def _vit(patch, width, blocks, heads):
    return Config(stem=0, depths=(), widths=(), patch=patch, width=width, blocks=blocks, heads=heads, hidden=4 * width)


def _wider(preset, factor):
    return replace(PRESETS[preset], stem=64 * factor, widths=tuple(factor * width for width in (256, 512, 1024, 2048)))


# {name: Config}. ViT: Dosovitskiy et al. 2020, table 1; Steiner et al. 2021, table 2.
NETWORKS = {**PRESETS, "BiT-R101x3": _wider("BiT-R101x1", 3), "BiT-R152x4": _wider("BiT-R152x2", 4),
            "ViT-Ti/16": _vit(16, 192, 12, 3), "ViT-S/16": _vit(16, 384, 12, 6), "ViT-B/16": _vit(16, 768, 12, 12),
            "ViT-B/32": _vit(32, 768, 12, 12), "ViT-L/16": _vit(16, 1024, 24, 16)}

_TI, _S, _L = "R+ViT-Ti/16", "R26+ViT-S/32", "R50+ViT-L/32"
_AUGREG = {_TI: "augreg/R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
           _S: "augreg/R26_S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0",
           _L: "augreg/R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"}


def _timm_bit():
    found = [("BiT-R50x1", 448, 80.4), ("BiT-R50x3", 448, 84.0), ("BiT-R101x1", 448, 82.3), ("BiT-R101x3", 448, 84.4),
             ("BiT-R152x2", 448, 84.5), ("BiT-R152x4", 480, 84.9)]
    for network, pixels, accuracy in found:
        name = f"timm/resnetv2_{network.removeprefix('BiT-R')}_bit.goog_in21k"
        yield Published("timm", network, f"{name}_ft_in1k", pixels, 1000, accuracy)
        yield Published("timm", network, name, 224, 21843)


def _google_bit():
    for network in ("BiT-R50x1", "BiT-R50x3", "BiT-R101x1", "BiT-R101x3", "BiT-R152x2", "BiT-R152x4"):
        name = network.removeprefix("BiT-")
        yield Published("google", network, f"{BIT}BiT-M-{name}-ILSVRC2012.npz", 480, 1000)
        yield Published("google", network, f"{BIT}BiT-M-{name}.npz", 224, 21843)


PUBLISHED = (
    Published("huggingface", "R50+ViT-B/16", "google/vit-hybrid-base-bit-384", 384, 1000, 85.0),
    Published("huggingface", "BiT-R50x1", "google/bit-50", 448, 1000, 80.4),
    Published("huggingface", "ViT-B/16", "google/vit-base-patch16-224", 224, 1000),
    Published("huggingface", "ViT-B/16", "google/vit-base-patch16-384", 384, 1000),
    Published("timm", _TI, "timm/vit_tiny_r_s16_p8_224.augreg_in21k_ft_in1k", 224, 1000, 71.8),
    Published("timm", _TI, "timm/vit_tiny_r_s16_p8_384.augreg_in21k_ft_in1k", 384, 1000, 76.0),
    Published("timm", _TI, "timm/vit_tiny_r_s16_p8_224.augreg_in21k", 224, 21843),
    Published("timm", _S, "timm/vit_small_r26_s32_224.augreg_in21k_ft_in1k", 224, 1000, 81.9),
    Published("timm", _S, "timm/vit_small_r26_s32_384.augreg_in21k_ft_in1k", 384, 1000, 84.1),
    Published("timm", _S, "timm/vit_small_r26_s32_224.augreg_in21k", 224, 21843),
    Published("timm", "R50+ViT-B/16", "timm/vit_base_r50_s16_384.orig_in21k_ft_in1k", 384, 1000, 85.0),
    Published("timm", "R50+ViT-B/16", "timm/vit_base_r50_s16_224.orig_in21k", 224, 0),
    Published("timm", _L, "timm/vit_large_r50_s32_224.augreg_in21k_ft_in1k", 224, 1000, 84.4),
    Published("timm", _L, "timm/vit_large_r50_s32_384.augreg_in21k_ft_in1k", 384, 1000, 86.2),
    Published("timm", _L, "timm/vit_large_r50_s32_224.augreg_in21k", 224, 21843),
    *_timm_bit(),
    Published("timm", "ViT-S/16", "timm/vit_small_patch16_384.augreg_in21k_ft_in1k", 384, 1000, 83.8),
    Published("timm", "ViT-B/16", "timm/vit_base_patch16_224.augreg_in21k_ft_in1k", 224, 1000, 84.5),
    Published("timm", "ViT-B/16", "timm/vit_base_patch16_384.augreg_in21k_ft_in1k", 384, 1000, 86.0),
    Published("timm", "ViT-B/32", "timm/vit_base_patch32_384.augreg_in21k_ft_in1k", 384, 1000, 83.4),
    Published("timm", "ViT-L/16", "timm/vit_large_patch16_224.augreg_in21k_ft_in1k", 224, 1000, 85.8),
    Published("timm", "ViT-L/16", "timm/vit_large_patch16_384.augreg_in21k_ft_in1k", 384, 1000, 87.1),
    Published("google", "R50+ViT-B/16", f"{VIT}imagenet21k+imagenet2012/R50+ViT-B_16.npz", 384, 1000, 85.0),
    Published("google", _TI, f"{VIT}{_AUGREG[_TI]}--imagenet2012-steps_20k-lr_0.03-res_384.npz", 384, 1000, 75.4),
    Published("google", _S, f"{VIT}{_AUGREG[_S]}--imagenet2012-steps_20k-lr_0.01-res_384.npz", 384, 1000, 83.9),
    Published("google", _L, f"{VIT}{_AUGREG[_L]}--imagenet2012-steps_20k-lr_0.01-res_384.npz", 384, 1000, 86.0),
    *(Published("google", network, f"{VIT}{name}.npz", 224, 21843) for network, name in _AUGREG.items()),
    *_google_bit(),
)


def document() -> list[dict]:
    """Return the list of the published models as JSON."""
    return [{**model._asdict(), "parameters": model.parameters(), "command": model.command(),
             "cached": model.is_cached()} for model in PUBLISHED]


def text() -> str:
    """Return the list of the published models as text: a table for each source, then the commands of its models."""
    lines = []
    for source, title in SOURCES.items():
        models = [model for model in PUBLISHED if model.source == source]
        lines += [title, table([("network", "parameters", "MB", "pixels", "classes", "top-1", "", "model"),
                                *map(_cells, models)], "<>>>>><<"), ""]
        lines += [f"  {model.command()}" for model in models] + [""]
    return "\n".join(lines)


def _cells(model):
    accuracy = "-" if model.accuracy is None else f"{model.accuracy:.1f} %"
    parameters = model.parameters()
    return (model.network, f"{parameters:,}", f"{4 * parameters / 1e6:,.0f}", str(model.pixels), f"{model.classes:,}",
            accuracy, "cached" if model.is_cached() else "",
            model.name.rpartition("/")[2] if model.source == "google" else model.name)
