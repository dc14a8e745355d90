"""Modules that are imported at their first use: collecting the tests of parity does not import PyTorch."""
import pytest


class Module:
    """A module that is imported when one of its attributes is read. If it is missing, the running test is skipped."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith(("_", "pytest_")):        # pytest and doctest look these up in every object
            raise AttributeError(attribute)
        return getattr(pytest.importorskip(self._name), attribute)


def on_demand(name):
    """A module by its full name.

    >>> colours = on_demand("colorsys")
    >>> colours.rgb_to_hsv(1, 0, 0)
    (0.0, 1.0, 1)
    """
    return Module(name)
