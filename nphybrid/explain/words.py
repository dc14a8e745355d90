"""What the page says differently from network to network."""
from ..api.scores import scoring

# A BiT network's own stem has no norm: its first unit begins with one.
FOLLOWS = {"bottleneck": "norm, activation and a 3 × 3 pool, again in steps of two, follow",
           "preactivation": "a 3 × 3 pool, again in steps of two, follows"}
STANDARDIZED = {"variance": "√(var(w) + ε)", "deviation": "(√var(w) + ε)"}
READS = {"token": "the class token", "mean": "the mean of the tokens"}
SCORING = {
    "softmax": "The softmax turns logits into scores that add up to 1: a logit that is larger by one means a score "
               "that is 2.7 times as large.",
    "sigmoid": "The sigmoid turns each logit into a score between 0 and 1, and 0 into one half.",
}


def words(model, facts):
    """Phrases for the steps' texts, by the name that stands there in braces."""
    config, steps = model.network_config, facts["steps"]
    said = {
        "made": " and ".join(["convolutions"] * ("stem" in steps) + ["attention"] * ("tokens" in steps)),
        "photograph": "{} × {} pixels".format(*facts["picture"]), **_photograph(model.processor, steps["photograph"]),
        "follows": FOLLOWS[config.unit], "standardized": STANDARDIZED[config.ws_form], "unit": config.unit,
        "filters": config.stem, "products": 49 * config.channels,
        "joins": ", and a learned class token, which stands for no place, goes first" if config.class_token else "",
        "walk": "pooled" if config.blocks else "bit",
    }
    if "tokens" in steps:
        said["tokens"], said["width"] = steps["tokens"]["shape"]
        said["cell"] = "{} × {}".format(*steps["tokens"]["cell"])
        said["reader"], said["stored"] = READS[config.pool], _stored(**steps["attention"])
    if "answer" in steps:
        classes = steps["answer"]["classes"]
        said["logits"] = f"{classes:,} logit" + "s" * (classes != 1)
        said["score"] = scoring(model.config)
        said["scoring"] = SCORING[said["score"]]
        said["reading"] = "; ViT, equation 4 is what it reads" if config.pool == "token" and config.blocks else ""
        said["reads"] = READS[config.pool] if config.blocks else "the mean of the last map"
        said["reads"] += ", through a layer with tanh" * bool(config.pre_logits)
    return said


def _photograph(processor, told):
    """What happened to the picture before it was one."""
    (height, width, _), resized = told["shape"], told["resized"]
    done = ["resized"] * processor.get("do_resize", True)
    done += ["cut to its middle"] * (height < resized[0] or width < resized[1])
    done += ["framed with zeros"] * (height > resized[0] or width > resized[1])
    cut = height < resized[0] or width < resized[1]
    if any(told["mean"]) or set(told["std"]) != {1}:
        scaled = "every colour value is shifted and scaled"
    else:
        scaled = "its colour values stay as they are" if told["factor"] == 1 else "every colour value is scaled"
    return {"prepared": " and ".join(done) or "taken as it is", "scaled": scaled,
            "framed": "; the frame is what the model sees" * cut}


def _stored(side, bits, **_):
    added = "" if side == 1 else f"The weights of {side} × {side} cells are added up and shown as one. "
    off = "." if bits == 16 else ": each is off by at most 0.2 % of the largest in its map."
    return f"{added}The weights are kept in {bits} bits{off}"


def lead(facts):
    """The page in two sentences."""
    steps, (height, width, _) = facts["steps"], facts["steps"]["photograph"]["shape"]
    becomes = [f"{height} × {width} pixels"] + ["maps"] * ("stem" in steps) + ["tokens"] * ("tokens" in steps)
    path = ", ".join(f"{a} become {b}" for a, b in zip(becomes, becomes[1:]))
    looks = ", and tokens look at each other" if "tokens" in steps else ""
    best = steps["answer"]["labels"][0] if "answer" in steps else None
    answer = f" It answers “{best['label']}”, with a score of {best['score']:.3f}." if best else ""
    return f"{facts['name']} walks through a network of {facts['parameters']:,} learned numbers: {path}{looks}.{answer}"
