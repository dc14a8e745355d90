"""The scene as one HTML file: a frame, the steps that the network has, their scripts, the arrays.

Every step is two files of its name in `steps/`: what is said (.html) and what is drawn and touched (.js). In the HTML
`{a.b}` is a fact, and `<pre data-function="module.name">` is filled with that function's source.
"""
import base64
import html
import importlib
import inspect
import io
import json
import keyword
import re
import tokenize
import zlib
from pathlib import Path

from . import colours
from .scene import scene

HERE = Path(__file__).parent
STEPS = ("photograph", "stem", "stages", "tokens", "positions", "attention", "weight", "distance", "rollout", "road", "answer")
POSTER = 640                              # pixels of the longest side of the original picture, as the page shows it


def page(model, picture, name="picture"):
    """The interactive page of one picture's walk.  -> str, a whole HTML file that needs no other

    model: a model with an image processor; picture: a Pillow picture, as `open_picture` returns it; name: what to call
    it. Raises ValueError for a model without an image processor, or a picture that it cannot resize.

    >>> from nphybrid import ViTHybridForImageClassification, default_model, open_picture
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> text = page(model, open_picture("examples/images/cat.png"), "cat.png")
    >>> text[:15], len(text) < 2e6
    ('<!doctype html>', True)
    """
    facts, arrays = scene(model, picture)
    facts |= {"name": name, "picture": list(picture.size), "colours": {
        "sequential": colours.SEQUENTIAL, "diverging": colours.DIVERGING, "categories": colours.CATEGORIES}}
    facts["arrays"] = {key: {"shape": array.codes.shape, "type": str(array.codes.dtype), "row": array.row}
                       for key, array in arrays.items()}
    facts["words"] = words(model, facts)
    there = [step for step in STEPS if step in facts["steps"]]
    parts = {
        "name": html.escape(name), "lead": html.escape(lead(facts)), "made": facts["words"]["made"],
        "poster": poster(picture), "style": text("page.css"),
        "steps": "\n".join(step_html(step, number + 1, facts) for number, step in enumerate(there)),
        "facts": json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c"),
        "arrays": "\n".join(array_html(key, array) for key, array in arrays.items()),
        "script": "\n".join([text("page.js"), *(text(f"steps/{step}.js") for step in there), "start();"])}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text("page.html"))


def words(model, facts):
    """What the texts say differently from network to network."""
    config, processor, steps, said = model.sizes, model.processor, facts["steps"], {}
    done = [(processor.get("do_resize", True), "resized"), (processor.get("do_center_crop", True), "cut to its middle")]
    said["prepared"] = " and ".join(word for does, word in done if does) or "taken as it is"
    said["made"] = " and ".join(["convolutions"] * ("stem" in steps) + ["attention"] * ("tokens" in steps))
    said["photograph"] = "{} × {} pixels".format(*facts["picture"])
    said["unit"], said["filters"], said["products"] = config.unit, config.stem, 49 * config.channels
    said["walk"] = "pooled" if config.blocks else "bit"
    said["joins"] = ", and a learned class token, which stands for no place, goes first" if config.class_token else ""
    said["last"] = config.blocks - 1
    if "attention" in steps:
        (said["tokens"], said["width"]), side = steps["tokens"]["shape"], steps["attention"]["side"]
        said["cell"] = "{} × {}".format(*steps["tokens"]["cell"])
        said["stored"] = "The weights are kept in 16 bits." if side == 1 else (
            f"The weights on {side} × {side} cells are added up and shown as one. They are kept in 8 bits: each is off by at "
            "most 0.2 % of the largest in its row.")
    if "answer" in steps:
        said["reads"] = ("the class token" if config.pool == "token" else "the mean of the tokens") \
            if config.blocks else "the mean of the last map"
        several = model.config.problem_type == "multi_label_classification" or model.config.num_labels == 1
        said["score"] = "sigmoid" if several else "softmax"
        said["scoring"] = ("The sigmoid turns each logit into a score between 0 and 1, and 0 into one half." if several else
                           "The softmax turns logits into scores that add up to 1: a logit that is larger by one means a "
                           "score that is 2.7 times as large.")
    return said


def lead(facts):
    """The page in two sentences."""
    steps, (height, width, channels) = facts["steps"], facts["steps"]["photograph"]["shape"]
    becomes = [f"{height} × {width} pixels"] + ["maps"] * ("stem" in steps) + ["tokens"] * ("tokens" in steps)
    path = ", ".join(f"{a} become {b}" for a, b in zip(becomes, becomes[1:]))
    looks = ", and tokens look at each other" if "tokens" in steps else ""
    best = steps["answer"]["labels"][0] if "answer" in steps else None
    answer = f" It answers “{best['label']}”, with a score of {best['score']:.3f}." if best else ""
    return f"{facts['name']} walks through a network of {facts['parameters']:,} learned numbers: {path}{looks}.{answer}"


def text(name):
    """One of the files beside this one."""
    return (HERE / name).read_text("utf-8")


def poster(picture):
    """The original, small, as a data URI."""
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((POSTER, POSTER))
    small.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def array_html(name, array):
    """Codes and scales, compressed, as text that HTML does not touch."""
    return "\n".join(f'<script type="application/octet-stream" id="{part}">'
                     f"{base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode()}</script>"
                     for part, numbers in ((f"{name}-codes", array.codes), (f"{name}-scales", array.scales))
                     if numbers is not None)


def step_html(step, number, facts):
    """One step's file, with its number, facts and sources filled in."""
    filled = re.sub(r"\{([\w.]+)\}", lambda found: html.escape(str(fact(facts, found[1], number))),
                    text(f"steps/{step}.html"))
    return re.sub(r'<pre data-function="([\w.]+)"></pre>', lambda found: source_html(found[1]), filled)


def fact(facts, path, number):
    """A fact by its path, "steps.tokens.grid"; one of the words; or "number", that of the step."""
    if path == "number":
        return number
    facts = {**facts, **facts["words"]}
    for key in path.split("."):
        facts = facts[int(key) if key.isdecimal() else key]
    return ", ".join(map(str, facts)) if isinstance(facts, list) else facts


def source_html(path):
    """A function's own source, line by line; the shapes in its right column stand apart."""
    module, _, name = path.rpartition(".")
    source = inspect.getsource(getattr(importlib.import_module(module), name)).rstrip()
    where = f'{module.replace(".", "/")}.py'
    return (f'<figure class="source"><figcaption>{name} <span>in {where}</span></figcaption>'
            f'<pre tabindex="0" aria-label="source of {name}"><code>{highlighted(source)}</code></pre></figure>')


def highlighted(source):
    """Python as HTML: keywords, strings and comments are marked; a comment behind code becomes the line's second half.

    >>> highlighted("x = tokens(x)    # (B, T, D)")
    '<span class="line"><span style="...">x = tokens(x)</span><span class="shape">(B, T, D)</span></span>'
    """
    lines = [[""] for _ in source.splitlines()]
    end = (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
        (row, column), before = token.start, source.splitlines()[token.start[0] - 1:token.start[0]]
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            continue
        gap = before[0][end[1] if end[0] == row else 0:column]
        end = token.end
        if token.type == tokenize.COMMENT and before[0][:column].strip():
            lines[row - 1].append(html.escape(token.string.lstrip("# ")))
            continue
        kind = {tokenize.STRING: "string", tokenize.COMMENT: "comment"}.get(token.type)
        kind = "keyword" if keyword.iskeyword(token.string) else kind
        for i, part in enumerate(token.string.split("\n")):
            marked = f'<i class="{kind}">{html.escape(part)}</i>' if kind else html.escape(part)
            lines[row - 1 + i][0] += (html.escape(gap) if i == 0 else "") + marked
    return "".join(line_html(*line) for line in lines)


def line_html(code, shape=None):
    """A line that, where it does not fit, goes on under its beginning: prose there, code a little further in."""
    plain = re.sub("<[^>]*>", "", code)
    prose = code.lstrip().startswith(('<i class="string">', '<i class="comment">'))
    begins = len(plain) - len(plain.lstrip(" ")) + (0 if prose else 4)
    beside = f'<span class="shape">{shape}</span>' if shape else ""
    return (f'<span class="line"><span style="padding-left: {begins}ch; text-indent: -{begins}ch">{code.rstrip()}</span>'
            f"{beside}</span>")
