"""The model that a file, a folder or the hub holds, of the class that its configuration names."""


from ..checkpoint import opened
from .bit import BitBackbone, BitForImageClassification, BitModel
from .vit_hybrid import ViTForImageClassification, ViTHybridForImageClassification, ViTHybridModel, ViTModel

CLASSIFIERS = {"vit-hybrid": ViTHybridForImageClassification, "vit": ViTForImageClassification,
               "bit": BitForImageClassification}

CLASSES = {kind.__name__: kind for kind in (*CLASSIFIERS.values(), ViTHybridModel, ViTModel, BitModel, BitBackbone)}

BARE = {"vit-hybrid": ViTHybridModel, "vit": ViTModel, "bit": BitModel}


def class_of(fields, where):
    """The class that a `config.json` names under `architectures`; else the classifier of its model_type."""
    named = fields.get("architectures") or [None]
    kind = str(fields.get("model_type")).replace("_", "-")
    if kind not in CLASSIFIERS:
        raise ValueError(f"{where}: model_type is {fields.get('model_type')!r}; "
                         f"expected one of {', '.join(CLASSIFIERS)}")
    first = named[0] if isinstance(named, list) else None
    return CLASSES.get(first, CLASSIFIERS[kind]) if isinstance(first, str) else CLASSIFIERS[kind]


def load(path, revision=None, bare=False, head=None, **options):
    """The model that a file, a folder or the hub holds, of the class its configuration names, or of its bare one,
    without a head, or with a head its classifier.  options: those of `from_pretrained`, which says what is raised."""
    with opened(path, revision) as source:
        kind = class_of(source.config, path)
        if bare or head is not None:
            kind = (BARE if bare else CLASSIFIERS)[kind.config_class.model_type]
        return kind.from_checkpoint(source, head=head, **options)
