"""What the files of the package import, read from their source: imports inside functions count too."""
import ast
from functools import cache
from pathlib import Path

import nphybrid

PACKAGE = Path(nphybrid.__file__).resolve().parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(file):
    """The dotted name of a file inside the package; "" is the package itself.

    >>> module_name("ops/amx.py"), module_name("ops/__init__.py"), module_name("__init__.py")
    ('ops.amx', 'ops', '')
    """
    return ".".join(Path(file).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {module_name(file) for file in SOURCES}


@cache
def nodes(source):
    """The nodes of a file's syntax tree; parsed once, because many tests ask."""
    return list(ast.walk(ast.parse(source)))


@cache
def imports(source):
    """The top-level packages that a file imports, relative ones as ".name"."""
    names = set()
    for node in nodes(source):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or "").split(".")[0])
    return names


def users(package):
    """The files that import a package."""
    return {name for name, source in SOURCES.items() if package in imports(source)}


def imported_names(file):
    """(module, name) of each relative import of a file: `from .ops import amx` is ("ops", "amx"), whatever amx is."""
    package = module_name(file).split(".") if module_name(file) else []
    if not file.endswith("__init__.py"):
        package = package[:-1]
    found = set()
    for node in nodes(SOURCES[file]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[:len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            found |= {(".".join(base), alias.name) for alias in node.names}
    return found


def imported_modules(file):
    """The modules of the package that a file of it imports, without the package itself."""
    modules = set()
    for base, name in imported_names(file):
        inner = f"{base}.{name}" if base else name
        modules.add(inner if inner in MODULES else base)
    return modules - {"", module_name(file)}
