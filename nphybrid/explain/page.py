"""Write the interactive page as one HTML file with all texts, scripts and arrays.

Every step of the page has two files in `steps/`: a text (.html) and a script (.js). The script draws the pictures of
the step, and reacts to the pointer and to keys. In the text, `{a.b}` is the placeholder of a fact or a sentence. The
element `<pre data-function="module.name">` is replaced by the source of the function `module.name`. If the page
computes the network, `twins.js` shows the JavaScript function of the same name beside this source.
"""
import base64
import html
import io
import json
import re
import zlib
from pathlib import Path

from ..checkpoint.files import DEFAULT_MODEL
from . import colours
from .inside import COMPUTED
from .scene import photograph, scene
from .sentences import PREPARED, filled_lead, lead, sentences
from .source import source_html
from .worker import network_facts, network_html, obstacle

HERE = Path(__file__).parent
POSTER = 640                              # the longest side of the original picture on the page, in pixels
NO_OTHER_PICTURE = """\
<p class="hint" id="stored">This page cannot compute the network for another picture, because {}.</p>"""
# The scripts that the steps share, in the order in which the page runs the scripts.
SHARED = ("numbers.js", "colours.js", "choice.js", "element.js", "board.js", "chart.js", "cells.js", "inside.js",
          "convolution.js", "overview.js", "gallery.js", "picture.js", "camera.js", "paints.js", "acts.js", "link.js",
          "differences.js", "questions.js", "twins.js")
# The steps in which the reader changes the network or its input, on pages that compute the network.
ACTING = "changes", "inputs", "paint", "differences", "experiments"


def page(model, picture, name: str = "picture", others=()) -> str:
    """The interactive page about the forward pass of one picture, as HTML that needs no other file.

    `model` is a model with an image processor. `picture` is a Pillow picture, as `open_picture` returns it. `name` is
    the name of the picture on the page. `others` are more pictures that the reader can choose, as [(name, picture),
    ...]. Raises ValueError for a model without an image processor, for a picture that the image processor cannot
    resize, and for more than one picture if the page cannot compute the network.

    >>> from nphybrid import ViTHybridForImageClassification, default_model, open_picture
    >>> model = ViTHybridForImageClassification.from_pretrained(default_model(), engine="reference")
    >>> html = page(model, open_picture("examples/images/cat.png"), "cat.png")
    >>> html[:15], len(html) < 5e6
    ('<!doctype html>', True)
    """
    facts, arrays, shapes = scene(model, picture)
    facts |= {"name": name, "path": path_of(model), "picture": list(picture.size), "colours": {
        "sequential": colours.SEQUENTIAL, "diverging": colours.DIVERGING, "categories": colours.CATEGORIES,
        "categories_on_dark": colours.CATEGORIES_ON_DARK}}
    reason = obstacle(model)
    computes = reason is None
    if computes:
        leave_to_the_worker(facts, arrays)
    if computes and {"tokens", "answer"} <= facts["steps"].keys():
        facts["steps"] |= {step: {} for step in ACTING}
    facts["sentences"] = sentences(model, facts)
    facts["lead"], facts["prepared"] = lead(facts, model.dtype, computes), PREPARED
    if others and not computes:
        raise ValueError(f"expected one picture, found {1 + len(others)}: the page can show only one, because {reason}")
    more, posters = add_pictures(model, name, others, facts)
    arrays |= more
    facts["arrays"] = {key: {"shape": array.codes.shape, "type": str(array.codes.dtype), "row": array.row}
                       for key, array in arrays.items()}
    facts["network"] = network_facts(model) if computes else None
    first_shown = {}
    parts = {
        "name": html.escape(name), "lead": html.escape(filled_lead(facts)), "made": facts["sentences"]["made"],
        "choices": "a cell, a block or a head" if "attention" in facts["steps"] else "a cell or a channel",
        "filled": " A filled button is chosen, or its change is in force." if "attention" in facts["steps"] else "",
        "poster": poster(picture), "style": file_text("page.css"),
        "steps": "\n".join(step_html(step, number, facts, shapes, first_shown)
                           for number, step in enumerate(facts["steps"], 1)),
        "facts": json.dumps(facts, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "arrays": "\n".join(array_html(key, array) for key, array in arrays.items()),
        "gallery": gallery_html(posters) if others else "",
        "another": file_text("picture.html") if computes else NO_OTHER_PICTURE.format(html.escape(str(reason))),
        "changed": file_text("changes.html") if "changes" in facts["steps"] else "",
        "network": network_html(model) if computes else "",
        "script": "\n".join(map(file_text, [*SHARED, *(f"steps/{step}.js" for step in facts["steps"]), "start.js"]))}
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], file_text("page.html"))


def path_of(model):
    """The last part of the path of a model, or None for the model of this package, which `default_model` finds."""
    name = Path(model.name_or_path).name
    return None if name == DEFAULT_MODEL else name


def leave_to_the_worker(facts, arrays):
    """Leave out what the worker computes when the page starts, for all blocks, tokens and hidden units."""
    for name in COMPUTED:
        arrays.pop(name, None)
    if "inside" in facts:
        facts["inside"] = {"layer": None, "token": None}
        facts["steps"]["mlp"]["units"] = None


def add_pictures(model, name, others, facts):
    """Add the names and sizes of all pictures to the facts.  -> the pixels of the others as arrays, their posters

    Metadata of the pictures, such as the place of a photograph, do not become part of the page.
    """
    facts["pictures"], arrays = [{"name": name}], {}
    for i, (other, picture) in enumerate(others, 1):
        prepared, arrays[f"picture-{i}"] = photograph(picture, model.image_processor())
        facts["pictures"].append({"name": other, "picture": list(picture.size), "shape": prepared["shape"],
                                  "resized": prepared["resized"][:2]})
    return arrays, [poster(picture) for _, picture in others]


def gallery_html(posters):
    """The place of the buttons for the pictures of the page, and small copies of all pictures except the first."""
    images = "\n".join(f'<img id="poster-{i}" src="{source}" alt="" hidden>' for i, source in enumerate(posters, 1))
    return f'<div id="gallery" role="group" aria-label="The pictures of this page"></div>\n{images}'


def file_text(name):
    """The text of a file in the folder of this module."""
    return (HERE / name).read_text("utf-8")


def poster(picture):
    """A small copy of the original picture, as a data URI."""
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((POSTER, POSTER))
    small.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def array_html(name, array):
    """The codes and the scales of an array as HTML elements.  The elements hold compressed bytes in base64."""
    return "\n".join(f'<script type="application/octet-stream" id="{part}">'
                     f"{base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode()}</script>"
                     for part, numbers in ((f"{name}-codes", array.codes), (f"{name}-scales", array.scales))
                     if numbers is not None)


def step_html(step, number, facts, shapes, first_shown):
    """The HTML of one step, in which facts, sentences and sources replace the placeholders.

    `first_shown` is {function: (step, number)} of the functions that earlier steps show. The step adds its functions.
    """
    filled = re.sub(r"\{([\w.]+)\}", lambda match: html.escape(str(fact(facts, match[1], number))),
                    file_text(f"steps/{step}.html"))

    def source(match):
        earlier = first_shown.setdefault(match[1], (step, number))
        return source_html(match[1], shapes, None if earlier == (step, number) else earlier)
    return re.sub(r'<pre data-function="([\w.]+)"></pre>', source, filled)


def fact(facts, path, number):
    """The value of a placeholder in the text of a step.

    A placeholder is the path of a fact ("steps.tokens.grid"), or the name of a sentence. The placeholder "number" is
    the number of the step.
    """
    if path == "number":
        return number
    facts = {**facts, **facts["sentences"]}
    for key in path.split("."):
        facts = facts[int(key) if key.isdecimal() else key]
    return ", ".join(map(str, facts)) if isinstance(facts, list) else facts
