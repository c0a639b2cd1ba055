"""Finds the tasks, rules and facts of the package by the names of their modules, so that there is no list of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType

_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_NAME = __name__.partition(".")[0]


def modules(*, beginning: str | tuple[str, ...] = "", ending: str = "") -> dict[str, str]:
    """The modules in the package's folders whose names begin and end in this way: name to whole name, sorted."""
    names = {}
    for folder in os.scandir(_PACKAGE):
        for entry in os.listdir(folder.path) if folder.is_dir() else ():
            name, suffix = os.path.splitext(entry)
            if suffix == ".py" and name.startswith(beginning) and name.endswith(ending):
                names[name] = f"{_NAME}.{folder.name}.{name}"
    return dict(sorted(names.items()))


def imported(ending: str) -> Iterator[ModuleType]:
    """The modules whose names end in this way, imported, sorted by name."""
    for name in modules(ending=ending).values():
        yield importlib.import_module(name)
