"""Python source as HTML, a statement a line: what the file breaks at its right margin, the page breaks at its own."""
import html
import importlib
import inspect
import io
import keyword
import re
import tokenize


def source_html(path):
    """A function's own source, with its name and file.  path: "nphybrid.backbone.stem" """
    module, _, name = path.rpartition(".")
    source = inspect.getsource(getattr(importlib.import_module(module), name))
    where = f'{module.replace(".", "/")}.py'
    return (f'<details class="source" open><summary>{name} <span>in {where}</span></summary>'
            f'<pre><code>{highlighted(source)}</code></pre></details>')


def highlighted(source):
    """Python as HTML: keywords, strings and comments are marked; a comment behind code becomes the line's second half.

    >>> highlighted("x = tokens(x)    # (B, T, D)")
    '<span class="line"><span style="...">x = tokens(x)</span><span class="shape">(B, T, D)</span></span>'
    """
    lines, line, shape, depth, end = [], "", None, 0, (0, 0)
    for kind, text, start, stop, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind == tokenize.NEWLINE or (kind == tokenize.NL and not depth):
            lines.append(line_html(line, shape))
            line, shape = "", None
        elif kind == tokenize.COMMENT and line:
            shape = html.escape(text.lstrip("# "))
        elif text.strip():
            line += " " * (start[1] if not line else start[1] - end[1] if start[0] == end[0] else line[-1] not in "([{")
            first, *others = paragraphs(text) if kind == tokenize.STRING else [text]
            line += marked(kind, first)
            for paragraph in others:
                lines.append(line_html(line))
                line = marked(kind, paragraph)
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        end = stop
    return "".join(lines)


def paragraphs(text):
    """The lines of a string: those of a paragraph become one, those of an example stay as they are.

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
    """A token as HTML."""
    name = {tokenize.STRING: "string", tokenize.COMMENT: "comment"}.get(kind, "keyword" * keyword.iskeyword(text))
    return f'<i class="{name}">{html.escape(text)}</i>' if name else html.escape(text)


def line_html(code, shape=None):
    """A line that, where it does not fit, goes on under its beginning: prose there, code a little further in."""
    plain = re.sub("<[^>]*>", "", code)
    prose = code.lstrip().startswith(('<i class="string">', '<i class="comment">'))
    begins = len(plain) - len(plain.lstrip(" ")) + (0 if prose else 4)
    style = f"padding-left: {begins}ch; text-indent: -{begins}ch"
    beside = f'<span class="shape">{shape}</span>' if shape else ""
    return f'<span class="line"><span style="{style}">{code.rstrip()}</span>{beside}</span>'
