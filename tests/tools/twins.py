"""The functions of the page's worker, which are twins of Python functions."""
import re

from nphybrid.explain import worker

SCRIPT = worker.script()
# Functions that the page shows only in Python.
ONLY_PYTHON = {"standardize"}             # the weights in the page are standardized


def functions():
    """{name: (comment, arguments, body)} of all functions of the worker."""
    functions = re.findall(r"((?:^//.*\n)*)^(?:function (\w+)\((.*)\) \{\n([\s\S]*?)^\}|const (\w+) = (.*?) =>\s"
                           r"([\s\S]*?);)$", SCRIPT, re.MULTILINE)
    return {name or short: (comment, arguments or few.strip("()"), body or value)
            for comment, name, arguments, body, short, few, value in functions}
