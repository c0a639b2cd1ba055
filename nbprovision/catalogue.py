"""The kinds of task, found by their file names: ``ensure_x.py`` holds ``EnsureX``, ``restart_x.py`` ``RestartX``."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from nbprovision.model import subjects
from nbprovision.model.task import Task, class_name


class Catalogue(Mapping[str, type[Task[Any]]]):
    """Every kind of task by its key in a playbook; a module is imported when its task is asked for."""

    def __init__(self) -> None:
        self._imported: dict[str, type[Task[Any]]] = {}

    def __getitem__(self, kind: str) -> type[Task[Any]]:
        if kind not in self._imported:
            module = importlib.import_module(_modules()[kind])
            self._imported[kind] = getattr(module, class_name(kind))
        return self._imported[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(_modules())

    def __len__(self) -> int:
        return len(_modules())


@functools.cache
def _modules() -> dict[str, str]:
    return subjects.modules(beginning=("ensure_", "restart_"))
