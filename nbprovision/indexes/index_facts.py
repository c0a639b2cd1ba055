"""Facts about package indexes, for templates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbprovision.indexes import index_settings
from nbprovision.machine.machine import Machine
from nbprovision.machine.variables import Fact

_PYPI = "https://pypi.org/simple"


def _url(machine: Machine) -> str:
    return index_settings.effective(machine.env, machine.user_home, root=machine.root).index_url or _PYPI


def _files(machine: Machine) -> Iterable[Path]:
    yield from index_settings.pip_files(machine.env, machine.user_home, None, machine.root)
    yield index_settings.user_uv_toml(machine.env, machine.user_home)
    yield index_settings.system_uv_toml(machine.env, machine.root)


FACTS = {"index_url": Fact(_url, _files, "the package index that pip uses here")}
