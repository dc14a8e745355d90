"""The verb `models` lists the published models that can be loaded."""
from .options import add_format, show

DESCRIPTION = """\
List published models that nphybrid can load: the hybrids and BiT of Hugging Face, timm and Google, and some plain ViTs.
Other plain ViTs of these sources can be loaded by their names, too, such as the google/vit-... models. The list has the
size of each model, its top-1 accuracy on ImageNet as its authors or timm published it, and the command that loads it.
Models that are already in the cache of the Hugging Face hub are marked. Nothing is downloaded. The names of the hub
need the package huggingface_hub: pip install huggingface_hub.
"""

EXAMPLES = """\
examples:
  nphybrid models
  nphybrid models --format json
  nphybrid classify cat.png --model google/vit-hybrid-base-bit-384
"""


def add(verb):
    """Add the option of `models` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_format(verb)


def run(args):
    """Print the list."""
    from ..modelfile import published
    show(args, published.document(), published.text())
    return 0
