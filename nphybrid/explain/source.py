"""Show Python source as HTML, with one line per statement.  The lines of a long statement are joined."""
import html
import importlib
import inspect
import io
import keyword
import re
import tokenize

from .shapes import beside


def source_html(path: str, shapes: dict | None = None, earlier: tuple[str, int] | None = None) -> str:
    """The name, the file and the source of a function, as HTML.

    `path` is the full name of the function, such as "nphybrid.backbone.stem". `shapes` are the shapes of a forward
    pass, as `shapes.recorded` returns them. They replace the shapes of the source. `earlier` are the name and the
    number of an earlier step that shows the function. Then the source is closed, and has a link to this step.
    """
    module, _, name = path.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    lines, first = inspect.getsourcelines(function)
    source, file = "".join(lines), inspect.getsourcefile(function)
    where = f'{module.replace(".", "/")}.py'
    found = None if shapes is None else {row: shapes.get((file, first + row - 1)) for row in range(1, len(lines) + 1)}
    details = (f'<details class="source" data-function="{name}"{"" if earlier else " open"}>'
               f'<summary>{name} <span>in {where}</span></summary>'
               f'<pre><code>{highlighted(source, found)}</code></pre></details>')
    if not earlier:
        return details
    link = '<a href="#{}">step {}</a>'.format(*earlier)
    return f'<div>{details}<p class="hint again">{name} is first shown in {link}.</p></div>'


def highlighted(source: str, shapes: dict | None = None) -> str:
    """Python source as HTML, in which keywords, strings and comments are marked.

    A comment that follows code on the same line is shown in a separate column. `shapes` are the shapes that replace
    shapes in these comments, by the number of the line: {1: {(1, 65, 192)}, ...}. A shape of a line that did not run
    becomes an empty text.

    >>> highlighted("x = tokens(x)    # (B, T, D)")    # doctest: +ELLIPSIS
    '<span class="line"><span style="...">x = tokens(x)</span><span class="shape">(B, T, D)</span></span>'
    """
    lines, line, shape, depth, end = [], "", None, 0, (0, 0)
    for kind, text, start, stop, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind == tokenize.NEWLINE or (kind == tokenize.NL and not depth):
            lines.append(line_html(line, shape))
            line, shape = "", None
        elif kind == tokenize.COMMENT and line:
            shape = text.lstrip("# ") if shapes is None else beside(text, shapes.get(start[0]))
        elif text.strip():
            line += _space(line, start, end)
            first, *others = paragraphs(text) if kind == tokenize.STRING else [text]
            line += marked(kind, first)
            for paragraph in others:
                lines.append(line_html(line))
                line = marked(kind, paragraph)
            if text in ("(", "[", "{"):
                depth += 1
            elif text in (")", "]", "}"):
                depth -= 1
        end = stop
    return "".join(lines)


def _space(line, start, end):
    """The space before a token.

    `start` is the (row, column) at which the token begins. `end` is the (row, column) at which the previous token ends.
    """
    if not line:
        return " " * start[1]
    if start[0] == end[0]:
        return " " * (start[1] - end[1])
    return "" if line[-1] in "([{" else " "


def paragraphs(text):
    """Split a docstring into lines.  Each paragraph becomes one line, and the lines of an example stay separate.

    >>> paragraphs("One\\n  two.\\n\\n  >>> f(1)\\n  2")
    ['One two.', '', '  >>> f(1)', '  2']
    """
    lines, example = [], False
    for line in text.split("\n"):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not lines or not line.strip() or not lines[-1].strip() or example or set(line.strip()) <= set("\"'"):
            lines.append(line if line.strip() else "")
        else:
            lines[-1] += " " + line.strip()
    return lines


def marked(kind, text):
    """A token of Python source as HTML."""
    if kind == tokenize.STRING:
        name = "string"
    elif kind == tokenize.COMMENT:
        name = "comment"
    elif keyword.iskeyword(text):
        name = "keyword"
    else:
        return html.escape(text)
    return f'<i class="{name}">{html.escape(text)}</i>'


def line_html(code, shape=None):
    """A line of the listing as HTML.

    The browser wraps a long line. Wrapped prose keeps the indentation of the line. Wrapped code is indented by 4 more
    spaces.
    """
    plain = re.sub("<[^>]*>", "", code)
    prose = code.lstrip().startswith(('<i class="string">', '<i class="comment">'))
    begins = len(plain) - len(plain.lstrip(" ")) + (0 if prose else 4)
    style = f"padding-left: {begins}ch; text-indent: -{begins}ch"
    beside = f'<span class="shape">{html.escape(shape)}</span>' if shape is not None else ""
    return f'<span class="line"><span style="{style}">{code.rstrip()}</span>{beside}</span>'
