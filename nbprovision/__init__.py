"""Bring a notebook machine to the state that a playbook describes.

The functions of the Python API are made when they are first asked for: importing this package costs the start-up path
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"


def __dir__() -> list[str]:
    import importlib

    return ["__version__", *dir(importlib.import_module("nbprovision.api"))]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    import importlib

    # Not `from nbprovision import api`, which would ask this function for "api" first.
    return getattr(importlib.import_module("nbprovision.api"), name)
