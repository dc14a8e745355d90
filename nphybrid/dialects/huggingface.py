"""The names of the arrays in Hugging Face's dialect."""

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
