"""The source code on the page, and the shapes beside it."""
import html
import inspect
import re
import sys

import numpy as np
import pytest

from nphybrid import backbone, encoder, tokens
from nphybrid.explain import page as pages
from nphybrid.explain.shapes import recorded
from nphybrid.explain.source import highlighted, source_html
from nphybrid.model import bit, hybrid
from nphybrid.ops import reference

from oracles import sights

STEPS = "".join(step.read_text("utf-8") for step in (pages.HERE / "steps").glob("*.html"))
for placeholder, name in (("unit", "preactivation"), ("network", "bit"), ("activation", "gelu")):
    STEPS = STEPS.replace(f"{{{placeholder}}}", name)
PATHS = re.findall(r'data-function="([\w.]+)"', STEPS)


@pytest.mark.parametrize("path", PATHS)
def test_source_is_that_of_the_function(path):
    """Every character except spaces, in order; comments at the right lose their #."""
    shown = re.search("<code>(.*)</code>", source_html(path), re.DOTALL)[1]
    module, _, name = path.rpartition(".")
    source = inspect.getsource(getattr(__import__(module, fromlist=[name]), name))
    squeezed = re.sub(r"\s", "", html.unescape(re.sub("<[^>]*>", "", re.sub('<span class="shape">', "#", shown))))
    assert squeezed == re.sub(r"\s", "", source)


def test_source_keeps_its_lines_where_they_mean_something():
    source = ('def f(x):\n    """One\n    two.\n\n    >>> f(1)\n    2\n    """\n    # Why\n'
              '    return g(\n        x,\n        1)   # (B)\n')
    lines = re.findall(r'<span class="line">(.*?)</span>(?:<span class="shape">(.*?)</span>)?</span>',
                       highlighted(source))
    plain = [html.unescape(re.sub("<[^>]*>", "", line)) for line, _ in lines]
    assert plain == ["def f(x):", '    """One two.', "", "    >>> f(1)", "    2", '    """', "    # Why",
                     "    return g(x, 1)"]
    assert lines[-1][1] == "(B)" and "padding-left: 8ch; text-indent: -8ch" in lines[-1][0]


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_a_page_shows_the_source_of_its_activation(cat_picture, activation):
    model = sights.network("vit")
    state, processor = model.state_dict(), model.processor
    model = type(model)(type(model.config).from_dict({**model.config.to_dict(), "hidden_act": activation}),
                        engine="reference")
    model.load_state_dict(state)
    model.processor = processor
    name = reference.ACTIVATIONS[activation].function.__name__
    shown = {"tanh": "activate"}.get(name, name)
    assert f"<summary>{shown} <span>in nphybrid/ops/reference.py" in pages.page(model, cat_picture)


def test_a_function_is_open_in_the_step_that_shows_it_first(case, cat_picture):
    """Later steps show it closed, with a link to the first step."""
    first, again = {}, []
    steps = re.findall('<section class="step" id="(.*?)"(.*?)</section>', pages.page(case[0], cat_picture), re.DOTALL)
    for number, (step, text) in enumerate(steps, 1):
        sources = re.findall(r'<details class="source" data-function="(\w+)"( open)?>.*?</details>(.*)', text)
        for name, is_open, after in sources:
            if name in first:
                again.append(name)
                assert not is_open and '<a href="#{}">step {}</a>'.format(*first[name]) in after
            else:
                assert is_open and "is first shown" not in after
            first.setdefault(name, (step, number))
    assert set(again) >= ({"attention", "block"} if case[0].network_config.blocks else {"preactivation"})


# Functions of the page, and the name before their states in a trace.
SCOPES = {backbone.stem: "stem.", backbone.bottleneck: "stages.0.0.", backbone.preactivation: "stages.0.0.",
          tokens.tokens: "tokens.", encoder.block: "blocks.0.", encoder.attention: "blocks.0.", hybrid: "", bit: ""}


def test_shapes_beside_the_source_are_those_of_the_pass(case):
    """Beside a line that records a state stands the shape of the state, and beside a line that did not run, nothing."""
    model, trace, scene = case
    compared = 0
    for function, scope in SCOPES.items():
        shown = source_html(f"{function.__module__}.{function.__name__}", scene.shapes)
        lines = re.findall(r'<span class="line"><span [^>]*>(.*?)</span>(?:<span class="shape">(.*?)</span>)?</span>',
                           shown)
        for line, shape in lines:
            name = re.match(r" *\w+ = out\[(?:<i[^>]*>)?&quot;(\w+)&quot;", line)
            if not name or scope + name[1] not in trace:
                assert not name or not shape, line
                continue
            units = {trace[state].shape for state in trace if re.fullmatch(rf"stages\.\d\.\d\.{name[1]}", state)}
            varies = scope.startswith("stages") and len(units) > 1
            assert html.unescape(shape) in ("", *([] if varies else [str(trace[scope + name[1]].shape)]),
                                            *(["(B, H, W, M)", "(B, H', W', M)", "(B, H', W', O)"] if varies else []))
            compared += shape == str(trace[scope + name[1]].shape)
    assert compared >= (9 if model.network_config.blocks else 3)


def test_a_pass_is_observed_only_in_its_block():
    before = sys.gettrace()
    with pytest.raises(ZeroDivisionError), recorded() as shapes:
        tokens.patches(np.zeros((1, 4, 4, 3)), 2)
        assert sys.gettrace() is not before
        1 / 0
    assert sys.gettrace() is before and {(1, 4, 12)} in shapes.values()


def test_source_is_marked():
    shown = highlighted(inspect.getsource(encoder.attention))
    assert '<i class="keyword">def</i> attention' in shown
    assert '<span class="shape">(B, 577, 768)</span>' in shown
    assert '<i class="string">&quot;&quot;&quot;Multi-head self-attention' in shown
    assert "B &lt; C" in highlighted("B < C")
