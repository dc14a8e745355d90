"""The scene as one HTML file: a frame, the steps that the network has, their scripts, the arrays.

Every step is two files of its name in `steps/`: what is said (.html) and what is drawn and touched (.js). In the HTML
`{a.b}` is a fact, and `<pre data-function="module.name">` is filled with that function's source.
"""
import base64
import html
import io
import json
import re
import zlib
from pathlib import Path

from . import colours
from .scene import scene
from .source import source_html
from .words import lead, words

HERE = Path(__file__).parent
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
    parts = {
        "name": html.escape(name), "lead": html.escape(lead(facts)), "made": facts["words"]["made"],
        "poster": poster(picture), "style": text("page.css"),
        "steps": "\n".join(step_html(step, number + 1, facts) for number, step in enumerate(facts["steps"])),
        "facts": json.dumps(facts, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "arrays": "\n".join(array_html(key, array) for key, array in arrays.items()),
        "script": "\n".join(map(text, ["page.js", "convolution.js", "overview.js",
                                       *(f"steps/{step}.js" for step in facts["steps"])]))}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text("page.html"))


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
