"""Tasks that do nothing, for the tests of the playbook reader: it is handed its tasks and knows none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from nbprovision.model.errors import ParameterError
from nbprovision.model.task import Strings, Task, parameter


class EnsureKernel(Task[None], frozen=True, kw_only=True):
    env: Annotated[str, parameter("Name or path of the environment.", extra={"path": "if-slash"})]
    name: Annotated[str | None, parameter("Name of the kernel.")] = None
    display_name: Annotated[str | None, parameter("Shown in the launcher.")] = None
    environment: Annotated[dict[str, str], parameter("Environment variables.")] = {}
    scope: Annotated[Literal["user", "system", "env"], parameter("Where.")] = "user"
    validate: Annotated[bool, parameter("Start it.")] = False
    timeout: Annotated[int, msgspec.Meta(ge=1), parameter("Seconds.")] = 60

    def check(self) -> None:
        if self.name is not None and not re.fullmatch(r"[a-z0-9._-]+", self.name):
            raise ParameterError("name", "a kernel's name has small letters only", cure="rename it")


class EnsurePipPkg(Task[None], frozen=True, kw_only=True):
    packages: Annotated[Strings | None, parameter("What to install.")] = None
    requirements: Annotated[Strings | None, parameter("Files.", extra={"path": True})] = None
    find_links: Annotated[Strings | None, parameter("Folders.", extra={"path": "if-dot"})] = None
    env: Annotated[str | None, parameter("Where.", extra={"path": "if-slash"})] = None


class Lazy(Mapping[str, type[Task[Any]]]):
    """As the real catalogue: names are cheap, classes are asked for by name."""

    def __init__(self) -> None:
        self.kinds: dict[str, type[Task[Any]]] = {"ensure_kernel": EnsureKernel, "ensure_pip_pkg": EnsurePipPkg}
        self.asked: list[str] = []

    def __getitem__(self, kind: str) -> type[Task[Any]]:
        self.asked.append(kind)
        return self.kinds[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.kinds)

    def __len__(self) -> int:
        return len(self.kinds)


CATALOGUE = Lazy()
