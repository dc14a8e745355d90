"""The table of rooms in CONTRIBUTING.md is true: no import goes up, and none goes in a circle."""
import re
from graphlib import TopologicalSorter

import pytest

from tools.imports import MODULES, SOURCES, imported_modules, imported_names, module_name


@pytest.fixture(scope="module")
def table(root):
    """{room: the rooms that its row names}, in the order of the table."""
    text = (root / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)/?` \|[^|]+\|([^|]*)\|$", text, re.MULTILINE)
    return {room: re.findall(r"`(\w+)`", names) for room, names in rows}


def room_of(module):
    return module.split(".")[0]


def allowed(table, room):
    """The rooms that a room may import: those of its row, and those that they may import."""
    return {other for name in table[room] for other in (name, *allowed(table, name))}


def test_every_room_has_a_row_and_names_only_rooms_above_it(table):
    rooms = {room_of(module_name(file)) for file in SOURCES} - {"", "__main__"}
    assert set(table) == rooms
    order = list(table)
    for room, names in table.items():
        assert all(order.index(name) < order.index(room) for name in names), room


def test_no_import_goes_up(table):
    wrong = []
    for file in SOURCES:
        room = room_of(module_name(file))
        if room not in ("", "__main__"):
            others = {room_of(module) for module in imported_modules(file)} - {room}
            wrong += [f"{file} imports {other}" for other in others - allowed(table, room)]
    assert wrong == []


def test_the_package_itself_gives_only_modules_and_the_version():
    """`from .. import pipeline` would import batch/pipeline.py, and no row of the table would show it."""
    names = {name for file in SOURCES for module, name in imported_names(file) if module == ""}
    assert names - MODULES == {"__version__"}


def test_no_import_goes_in_a_circle():
    """Files, not rooms: `prepare` raises CycleError, which names the files of a circle."""
    graph = {module_name(file): imported_modules(file) for file in SOURCES if file != "__init__.py"}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("line, file", [("from ..cli import main", "ops/tile.py"),
                                        ("from . import kernels", "ops/jit.py")])
def test_a_wrong_import_is_noticed(table, line, file, monkeypatch):
    """One that goes up, and one in a circle; both inside a function."""
    monkeypatch.setitem(SOURCES, file, f"{SOURCES[file]}\n\ndef late():\n    {line}\n")
    with pytest.raises((AssertionError, ValueError)):
        test_no_import_goes_up(table)
        test_no_import_goes_in_a_circle()
