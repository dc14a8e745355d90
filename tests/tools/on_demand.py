"""Modules that are imported at their first use: collecting the tests of parity does not import PyTorch."""
import importlib

import pytest

# What setup.cfg lists under `parity`, as it is imported: without one of these a test is skipped, without any other
# module, such as one of this checkout that has moved, it fails.
OPTIONAL = {"torch", "transformers", "flax", "jax", "sklearn", "threadpoolctl"}


class Module:
    """A module that is imported when one of its attributes is read. If it needs a package of OPTIONAL that is not
    installed, the running test is skipped."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith(("_", "pytest_")):        # pytest and doctest look these up in every object
            raise AttributeError(attribute)
        try:
            module = importlib.import_module(self._name)
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] not in OPTIONAL:
                raise
            pytest.skip(f"no module {error.name}", allow_module_level=True)
        return getattr(module, attribute)


def on_demand(name):
    """A module by its full name.

    >>> colours = on_demand("colorsys")
    >>> colours.rgb_to_hsv(1, 0, 0)
    (0.0, 1.0, 1)
    >>> on_demand("a_module_that_moved").anything
    Traceback (most recent call last):
    ModuleNotFoundError: No module named 'a_module_that_moved'
    """
    return Module(name)
