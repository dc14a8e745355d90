"""What the page says differently from network to network."""
from ..api.pipeline import scoring


def words(model, facts):
    """Phrases for the steps' texts, by the name that stands there in braces."""
    config, processor, steps = model.sizes, model.processor, facts["steps"]
    done = [(processor.get("do_resize", True), "resized"), (processor.get("do_center_crop", True), "cut to its middle")]
    said = {
        "made": " and ".join(["convolutions"] * ("stem" in steps) + ["attention"] * ("tokens" in steps)),
        "photograph": "{} × {} pixels".format(*facts["picture"]),
        "prepared": " and ".join(word for does, word in done if does) or "taken as it is",
        "follows": FOLLOWS[config.unit], "unit": config.unit, "filters": config.stem, "products": 49 * config.channels,
        "joins": ", and a learned class token, which stands for no place, goes first" if config.class_token else "",
        "last": config.blocks - 1, "walk": "pooled" if config.blocks else "bit",
    }
    if "tokens" in steps:
        said["tokens"], said["width"] = steps["tokens"]["shape"]
        said["cell"] = "{} × {}".format(*steps["tokens"]["cell"])
        said["stored"] = _stored(steps["attention"]["side"])
    if "answer" in steps:
        said["score"] = scoring(model.config)
        said["scoring"] = SCORING[said["score"]]
        said["reading"] = "; ViT, equation 4 is what it reads" if config.pool == "token" and config.blocks else ""
        said["reads"] = READS[config.pool] if config.blocks else "the mean of the last map"
    return said


# A BiT network's own stem has no norm: its first unit begins with one.
FOLLOWS = {"bottleneck": "norm, activation and a 3 × 3 pool, again in steps of two, follow",
           "preactivation": "a 3 × 3 pool, again in steps of two, follows"}
READS = {"token": "the class token", "mean": "the mean of the tokens"}
SCORING = {
    "softmax": "The softmax turns logits into scores that add up to 1: a logit that is larger by one means a score "
               "that is 2.7 times as large.",
    "sigmoid": "The sigmoid turns each logit into a score between 0 and 1, and 0 into one half.",
}


def _stored(side):
    if side == 1:
        return "The weights are kept in 16 bits."
    return (f"The weights on {side} × {side} cells are added up and shown as one. They are kept in 8 bits: each is off "
            "by at most 0.2 % of the largest in its row.")


def lead(facts):
    """The page in two sentences."""
    steps, (height, width, _) = facts["steps"], facts["steps"]["photograph"]["shape"]
    becomes = [f"{height} × {width} pixels"] + ["maps"] * ("stem" in steps) + ["tokens"] * ("tokens" in steps)
    path = ", ".join(f"{a} become {b}" for a, b in zip(becomes, becomes[1:]))
    looks = ", and tokens look at each other" if "tokens" in steps else ""
    best = steps["answer"]["labels"][0] if "answer" in steps else None
    answer = f" It answers “{best['label']}”, with a score of {best['score']:.3f}." if best else ""
    return f"{facts['name']} walks through a network of {facts['parameters']:,} learned numbers: {path}{looks}.{answer}"
