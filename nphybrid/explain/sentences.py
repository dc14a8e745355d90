"""The sentences and phrases of the page that depend on the network and the picture."""
import re

from ..api.scores import scoring
from ..ops import NARROW, reference

# The stem of a preactivation network has no norm, because the first residual unit begins with a norm.
POOL = "a 3 × 3 max pool, which keeps the largest number of each 3 × 3 cells, in steps of two cells."
NORM = "a norm, which gives the channels a common scale (see the next step)"
FOLLOWS = {"bottleneck": f"The next operations are {NORM}; {{0}} (an activation: a function of each number alone); "
                         f"and {POOL}",
           "preactivation": f"Next is {POOL}"}
# What the page says where it shows the first weights.
LEARNED = "{} are learned: training on pictures with known labels found them."
STANDARDIZED = {"variance": "√(var(w) + ε)", "deviation": "(√var(w) + ε)"}
# What the colours of a filter show, by the number of channels of the picture.
FILTER_COLOURS = {1: "Grey is a weight of 0, and white is a large weight",
                  3: "The red, green and blue of a square show its three weights. Grey is 0, and bright is positive"}
# The place of the norms in a residual unit.
NORMS = {"bottleneck": "A norm follows each of them, and {0} follows the first two norms and the sum",
         "preactivation": "A norm and {0} precede each of them"}
# The source of a residual unit, and the projection of its shortcut.
UNITS = {"bottleneck": ("He et al. 2015, equations 1 and 2", "a 1 × 1 convolution and a norm"),
         "preactivation": ("He et al. 2016, figure 4e", "a 1 × 1 convolution")}
# What a unit would do if its convolutions gave only zeros: relu keeps an input that a relu made.
PASSES = "the unit would pass its input on"
KEEPS = " (a relu made the input, so it has no negative number for this relu to change)"
# What stands around the sum of a residual unit in its equation, and around the input of the projection.
AROUND = {"bottleneck": ("{0}(", ")", "", ""), "preactivation": ("", "", "{0}(norm1(", "))")}
HYBRID = (" This network is a hybrid: first convolutions, then attention. Its convolutions have already mixed "
          "neighbouring pixels, and the zeros that they read at the border leave traces in the cells. So the position "
          "vectors can matter less here than in a network without convolutions.")
OPENS_LAST = " The page opens at the last block; block 0 is the first."
READS = {"token": "the class token", "mean": "the mean of the tokens"}
SCORING = {
    "softmax": "The softmax turns the logits into scores. The scores of all labels add up to 1. If the logits of two "
               "labels differ by 1, the larger score is 2.7 times the smaller score.",
    "sigmoid": "The sigmoid turns each logit into a score between 0 and 1. A logit of 0 gives a score of 0.5.",
    "none": "The score is the logit itself, because the network was trained to predict a number.",
}


# What the image processor does to a picture. The page of a network that it computes also reads these phrases.
PREPARED = {
    "resized": "resized", "cropped": "cropped to its centre", "padded": "padded with zeros",
    "unchanged": "used at its own size", "framed": ". The frame marks the input of the network",
}


# What the activations do.
SMOOTH = "keeps large numbers almost as they are, and turns a negative number into a number between {} and 0"
GELU = ("multiplies a number x by {} a normal number of mean 0 and variance 1 is below x. It "
        + SMOOTH.format("\u22120.171"))
EXPLAINED = {
    "relu": "relu, which turns negative numbers into 0",
    "gelu": f"gelu, which {GELU.format('the probability that')}",
    "gelu_new": f"gelu_new, which {GELU.format('almost the probability that')}",
    "gelu_pytorch_tanh": f"gelu_pytorch_tanh, which {GELU.format('almost the probability that')}",
    "quick_gelu": f"quick_gelu, which {SMOOTH.format('−0.164')}",
    "silu": f"silu, which {SMOOTH.format('−0.279')}",
    "selu": "selu, which multiplies positive numbers by 1.05, and keeps negative numbers above −1.76",
    "tanh": "tanh, which turns each number into a number between −1 and 1",
    "sigmoid": "sigmoid, which turns each number into a number between 0 and 1",
}


def sentences(model, facts: dict) -> dict:
    """The texts of the placeholders in the HTML files of the steps.  -> {name: text}"""
    config, steps = model.network_config, facts["steps"]
    width, height = facts["picture"]
    text = {
        "made": kind_of_network(steps), "photograph": f"{height} × {width} pixels", **_photograph(steps["photograph"]),
        "follows": FOLLOWS[config.unit].format(EXPLAINED[config.backbone_activation]), "unit": config.unit,
        "learned": LEARNED.format("The weights"),
        "learned_in_tokens": "" if config.stem else f" {LEARNED.format('The numbers of the matrix and the bias')}",
        "standardized": STANDARDIZED[config.ws_form], "channels": _channels(config.channels),
        "filters": config.stem, "image_channels": config.channels, "products": 49 * config.channels,
        "groups": config.groups, "unit_norms": NORMS[config.unit].format(config.backbone_activation),
        "filter_colours": FILTER_COLOURS.get(config.channels, "The colours show the first weights of a square"),
        "network": "pooled" if config.blocks else "bit",
        "class_token": "", "unit_activation": "",
    }
    if config.unit == "bottleneck":
        text["unit_activation"] = f", then {config.backbone_activation}"
    text["standardized_why"] = " (the next step says how)" if "norms" in steps else ""
    # The stem of a preactivation network has no activation, so its units come first.
    explained = f" The activation is {EXPLAINED[config.backbone_activation]}."
    text["unit_says"] = explained if config.unit == "preactivation" else ""
    text["unit_source"], text["unit_projection"] = UNITS[config.unit]
    text["unit_passes"] = PASSES
    if config.unit == "bottleneck":
        activation = config.backbone_activation
        text["unit_passes"] += KEEPS if activation == "relu" else f" through {activation}"
    for part, around in zip(("sum_opens", "sum_closes", "shortcut_opens", "shortcut_closes"), AROUND[config.unit]):
        text[part] = around.format(config.backbone_activation)
    if "unit" in steps:
        text["reach"] = ", ".join(f"{side} × {side} pixels in stage {s}" for s, side in
                                  enumerate(stage["reach"] for stage in steps["stages"]))
        text["unit_place"] = f"the last unit of stage {len(steps['stages']) - 1}"
    if config.class_token:
        text["class_token"] = (" The first token, the class token, starts with a learned vector, the same for every "
                               "picture. The attention in the blocks adds numbers of the cells to it"
                               + (", and the classifier at the end reads it." if config.pool == "token" else "."))
    if "tokens" in steps:
        text["tokens"], text["width"] = steps["tokens"]["shape"]
        text["cell"] = "{} × {}".format(*steps["tokens"]["cell"])
        text["reader"] = READS[config.pool]
        text["blocks_follow"] = f"{_plural(config.blocks, 'block')} follow{'s' if config.blocks == 1 else ''}"
        text["hybrid"] = HYBRID if config.stem else ""
        text["opens_last"] = OPENS_LAST if facts["inside"]["layer"] is None and config.blocks > 1 else ""
        high, wide = steps["tokens"]["grid"]
        cells = f"The {high} × {wide} = {_plural(high * wide, 'cell')}"
        makes = " and the class token make" if config.class_token else " make" if high * wide > 1 else " makes"
        text["count_of_tokens"] = f"{cells}{makes} {_plural(text['tokens'], 'token')}."
        text["mlp_says"] = f" Their activation is {EXPLAINED[config.activation]}."
        text["number_of_attention"] = list(steps).index("attention") + 1
        text["with_biases"] = ", each with a learned bias," if config.qkv_bias else ""
        text["cells_only"] = ", without the weight of the class token" if config.class_token else ""
        text |= _covered(list(steps), config.stem, model.learned().tokens.mask)
        text["stored"] = _stored(steps["attention"]["side"], steps["attention"]["bits"])
        text |= _inside(facts)
        name = reference.ACTIVATIONS[config.activation].function.__name__
        text["activation"] = name if hasattr(reference, name) else "activate"     # tanh is a function of NumPy
    if "answer" in steps:
        text |= _answer(model, steps["answer"], "changes" in steps)
    return text


def _covered(steps, stem, mask):
    """Phrases about cells that the reader hides, and pixels that the reader paints."""
    if "changes" not in steps:
        return {"rollout_check": ""}
    hide, paint = steps.index("changes") + 1, steps.index("paint") + 1
    pixels = f" The vectors of other cells still depend on its pixels: to remove these, paint them (step {paint})."
    return {"rollout_check": f": hide the cell (step {hide}) or paint it (step {paint}), and compare the scores",
            "hidden_vector": "zeros" if mask is None else "the learned mask token",
            "hidden_pixels": pixels if stem else ""}


def _plural(count, noun):
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _channels(count):
    """What the channels of a picture are."""
    return {1: "The only channel is the grey level", 3: "The channels are the colours red, green and blue"}.get(
        count, f"A pixel has {count} numbers, one in each channel")


def kind_of_network(steps):
    """The operations of the network: convolutions, attention, or both."""
    parts = []
    if "stem" in steps:
        parts.append("convolutions")
    if "tokens" in steps:
        parts.append("attention")
    return " and ".join(parts)


def _photograph(facts):
    """Phrases about the changes that the image processor made to the picture."""
    (height, width, _), resized = facts["shape"], facts["resized"]
    cropped = height < resized[0] or width < resized[1]
    done = []
    if facts["do_resize"]:
        done.append(PREPARED["resized"])
    if cropped:
        done.append(PREPARED["cropped"])
    if height > resized[0] or width > resized[1]:
        done.append(PREPARED["padded"])
    if any(facts["mean"]) or set(facts["std"]) != {1}:
        scaled = "Every colour value is shifted and scaled."
    elif facts["factor"] != 1:
        scaled = "Every colour value is scaled."
    else:
        scaled = "The colour values are not changed."
    return {"prepared": " and ".join(done) or PREPARED["unchanged"], "scaled": scaled,
            "framed": PREPARED["framed"] if cropped else ""}


def _stored(side, bits):
    """Sentences about the precision of the stored attention weights.  16 bits are as exact as the numbers shown."""
    if bits == 16:
        return ""
    text = f"This page stores each weight in {bits} bits."
    text += " The error of a weight is at most 0.2 % of the largest weight in the same map."
    if side > 1:
        text = f"The weights of {side} × {side} cells are added up and shown as one weight. {text}"
    return text


def _inside(facts):
    """Sentences about the blocks and tokens whose inside the page stores.  They are empty if the page computes it."""
    layer, token = facts["inside"]["layer"], facts["inside"]["token"]
    last_only = facts["steps"]["weight"]["first"] > 0
    weights = "This page stores the queries and keys only for the last block." if last_only else ""
    if layer is None:
        return {"weight_stored": weights, "context_stored": "", "inside_stored": "", "units_stored": ""}
    name = "the class token" if token < facts["steps"]["tokens"]["class"] else f"token {token}"
    stored = f"This page stores these numbers only for {name} in the last block, which is block {layer}."
    return {"weight_stored": weights, "inside_stored": stored,
            "context_stored": f"This page stores the values only for the last block, which is block {layer}.",
            "units_stored": f"{stored} It shows the {len(facts['steps']['mlp']['units'])} of "
                            f"{facts['steps']['mlp']['width']:,} hidden units that add the longest vectors."}


def _answer(model, facts, changes):
    """Phrases about the input of the classifier, and about the scores."""
    config, score = model.network_config, scoring(model.config)
    equation, reads = "", "the mean of all cells"
    if config.blocks:
        reads = READS[config.pool]
        if config.pool == "token":
            equation = " reads the class token, after the last block and a last layer norm. ViT, equation 4"
    if config.pre_logits:
        reads = f"the result of a tanh layer on {reads}"
    count, shown = facts["classes"], len(facts["labels"])
    best = f"those that are among the best {shown} now or without changes" if changes else f"the best {shown}"
    return {"labels_shown": f" Of {count:,} labels, the page shows {best}." if shown < count else "",
            "without_changes": ", without changes" if changes else "",
            "logits": _plural(count, "logit"), "score": score,
            "other_softmax": ", but not of the softmax that makes the scores" if score == "softmax" else "",
            "scoring": SCORING[score], "reading": equation, "reads": reads}


def lead(facts: dict, dtype: str, computes: bool) -> str:
    """The first sentences of the page, with the placeholders {name}, {label} and {score}.

    `dtype`: the dtype of the model. `computes`: whether the page can compute the network.
    """
    steps, (height, width, _) = facts["steps"], facts["steps"]["photograph"]["shape"]
    pixels = f"{height}\u00a0×\u00a0{width} pixels"                            # no line ends beside the ×
    parts = []
    if "stem" in steps:
        parts.append(f"Convolutions turn the {pixels} into smaller grids of numbers.")
    if "tokens" in steps:
        whole = "the last grid" if "stem" in steps else f"the {pixels}"
        parts.append(f"Parts of {whole} become vectors, and attention mixes the numbers of these vectors.")
    text = (f"This page follows {{name}} through a network of {facts['parameters']:,} parameters. The "
            "parameters are numbers: training changes them step by step, until the answers fit many pictures with "
            f"known labels. {' '.join(parts)}")
    if "answer" in steps:
        text += " The answer is “{label}”, with a score of {score}."
    if dtype in NARROW:
        text += f" The factors of matrix products are rounded to {dtype}."
        if computes:
            text += " What the page itself computes, for example for another picture, is not rounded."
    return text


def filled_lead(facts: dict) -> str:
    """The first sentences of the page, for its picture."""
    words = {"name": facts["name"]}
    if "answer" in facts["steps"]:
        best = facts["steps"]["answer"]["labels"][0]
        words |= {"label": best["label"], "score": f"{best['score']:.3f}"}
    return re.sub(r"\{(\w+)\}", lambda match: words[match[1]], facts["lead"])
