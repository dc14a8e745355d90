"""Python source as HTML, line by line."""
import html
import importlib
import inspect
import io
import keyword
import re
import tokenize


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
    style = f"padding-left: {begins}ch; text-indent: -{begins}ch"
    return f'<span class="line"><span style="{style}">{code.rstrip()}</span>{beside}</span>'
