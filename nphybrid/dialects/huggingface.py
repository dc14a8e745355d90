"""The names of the arrays in Hugging Face's dialect, and the image processor of Hugging Face's plain ViT."""

from collections.abc import Mapping
from typing import Any

from .layout import CONV, PATCH, ROW, TABLE, Mark, Table, linear_entries, norm_entries, prefixed

MARKS = (
    Mark("huggingface hybrid", ("vit.embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight",)),
    Mark("huggingface hybrid", ("embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight",)),
    Mark("huggingface vit", ("vit.embeddings.patch_embeddings.projection.weight",),
         lacks="vit.embeddings.patch_embeddings.backbone."),
    Mark("huggingface vit", ("embeddings.patch_embeddings.projection.weight",),
         lacks="embeddings.patch_embeddings.backbone."),
    Mark("huggingface bit", ("bit.embedder.convolution.weight",)),
    Mark("huggingface bit", ("embedder.convolution.weight",)),
)

# The defaults of ViTImageProcessor. The number 2 is Pillow's bilinear filter.
VIT_PROCESSOR = {"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2, "do_center_crop": False,
                 "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
                 "image_std": [0.5] * 3, "do_convert_rgb": False}

_UNIT = "encoder.stages.{stage}.layers.{unit}"
_BLOCK = "encoder.layer.{block}"

BIT: Table = {
    "stem.conv": ("embedder.convolution.weight", CONV),
    **norm_entries("stem.norm", "embedder.norm"),
    "stages.*.*.conv1": (f"{_UNIT}.conv1.weight", CONV),
    **norm_entries("stages.*.*.norm1", f"{_UNIT}.norm1"),
    "stages.*.*.conv2": (f"{_UNIT}.conv2.weight", CONV),
    **norm_entries("stages.*.*.norm2", f"{_UNIT}.norm2"),
    "stages.*.*.conv3": (f"{_UNIT}.conv3.weight", CONV),
    **norm_entries("stages.*.*.norm3", f"{_UNIT}.norm3"),
    "stages.*.*.proj": (f"{_UNIT}.downsample.conv.weight", CONV),
    **norm_entries("stages.*.*.norm_proj", f"{_UNIT}.downsample.norm"),
    **norm_entries("features_norm", "norm"),
}

VIT: Table = {
    **linear_entries("tokens.proj", "embeddings.patch_embeddings.projection", PATCH),
    "tokens.cls": ("embeddings.cls_token", ROW),
    "tokens.positions": ("embeddings.position_embeddings", TABLE),
    "tokens.mask": ("embeddings.mask_token", ROW),
    **norm_entries("blocks.*.norm1", f"{_BLOCK}.layernorm_before"),
    **linear_entries("blocks.*.query", f"{_BLOCK}.attention.attention.query"),
    **linear_entries("blocks.*.key", f"{_BLOCK}.attention.attention.key"),
    **linear_entries("blocks.*.value", f"{_BLOCK}.attention.attention.value"),
    **linear_entries("blocks.*.out", f"{_BLOCK}.attention.output.dense"),
    **norm_entries("blocks.*.norm2", f"{_BLOCK}.layernorm_after"),
    **linear_entries("blocks.*.fc1", f"{_BLOCK}.intermediate.dense"),
    **linear_entries("blocks.*.fc2", f"{_BLOCK}.output.dense"),
    **norm_entries("norm", "layernorm"),
    **linear_entries("pooler", "pooler.dense"),
    # Hugging Face's ViT has no layers pool_norm and pre_logits. Their names are from this package.
    **norm_entries("pool_norm", "pool_norm"),
    **linear_entries("pre_logits", "pre_logits"),
}


def hybrid_names(prefix: str) -> Table:
    """Returns names and layouts of arrays in a hybrid or plain ViT.  prefix: "vit." with a classifier, "" without"""
    backbone = f"{prefix}embeddings.patch_embeddings.backbone.bit."
    return {**prefixed(backbone, BIT), **prefixed(prefix, VIT), **linear_entries("head", "classifier")}


def bit_names(prefix: str) -> Table:
    """Returns names and layouts of arrays in a BiT.  prefix: "bit." for classifier or backbone, "" for a bare model"""
    return {**prefixed(prefix, BIT), **linear_entries("head", "classifier.1")}


def for_vit(options: Mapping[str, Any], model_type: str | None) -> Mapping[str, Any]:
    """Returns the options of a preprocessor_config.json.  If ViTImageProcessor wrote it, adds this class's defaults.

    By default ViTImageProcessor resizes both sides with Pillow's bilinear filter, and does not crop. If the file does
    not name the class that wrote it, the `model_type` of config.json decides.

    >>> for_vit({"image_processor_type": "ViTImageProcessor", "size": 384}, "vit")["size"]
    {'height': 384, 'width': 384}
    """
    kind = options.get("image_processor_type") or options.get("feature_extractor_type")
    if kind:
        is_vit = str(kind).startswith(("ViTImageProcessor", "ViTFeatureExtractor"))
    else:
        is_vit = model_type == "vit"
    if not is_vit:
        return options
    given = {key: value for key, value in options.items() if value is not None}
    if type(options.get("size")) is int:
        given["size"] = {"height": options["size"], "width": options["size"]}
    return {**VIT_PROCESSOR, **given}
