"""What the folders of the package bring, found by the names of their modules: no list of them is kept anywhere."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_NAME = __name__.partition(".")[0]


def names(*prefixes: str) -> dict[str, str]:
    """The modules whose names begin in one of these ways: name to the whole name, sorted."""
    found = {}
    for folder in os.scandir(_PACKAGE):
        if folder.is_dir():
            for entry in os.listdir(folder.path):
                name, ending = os.path.splitext(entry)
                if ending == ".py" and name.startswith(prefixes):
                    found[name] = f"{_NAME}.{folder.name}.{name}"
    return dict(sorted(found.items()))


def beside(name: str) -> Iterator[ModuleType]:
    """The module of this name of every folder that has one, imported, sorted by folder."""
    for folder in sorted(os.listdir(_PACKAGE)):
        if os.path.isfile(os.path.join(_PACKAGE, folder, f"{name}.py")):
            yield importlib.import_module(f"{_NAME}.{folder}.{name}")
