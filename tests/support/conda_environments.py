"""The environment ``x`` of made-up packages: the channel they come from, the task that makes it, and what is in it then."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.result import Change
from tests.support.conda_packages import TinyChannel


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    """alpha in three versions, beta which needs an alpha below 2, gamma alone."""
    channel = TinyChannel(tmp_path / "tiny")
    for version in ("1.0", "1.1", "2.0"):
        channel.add("alpha", version)
    channel.add("beta", "1.0", depends=["alpha <2"])
    channel.add("gamma", "3.1")
    return channel


def env_of(channel: TinyChannel, *packages: str, **more: Any) -> EnsureCondaEnv:
    return EnsureCondaEnv(**{"name": "x", "packages": list(packages), "channels": [channel.url], **more})


def prefix_of(machine: Machine) -> Path:
    return machine.home / "envs/x"


def versions(prefix: Path) -> dict[str, str]:
    return {record.name: record.version for record in installed(prefix)}


def moves(changes: tuple[Change, ...]) -> list[tuple[str, str, str | None, str | None]]:
    return [(one.action, one.target, one.before, one.after) for one in changes if one.kind == "package"]


def conda_reads(history: str) -> list[tuple[list[str], list[str]]]:
    """Revisions as conda.history.History parses them: what was added and removed, what was asked for."""
    revisions: list[tuple[list[str], list[str]]] = []
    for line in history.splitlines():
        if re.match(r"==>\s*(.+?)\s*<==", line):
            revisions.append(([], []))
        elif line.startswith("# update specs: "):
            revisions[-1][1].extend(eval(line.removeprefix("# update specs: "), {}))  # a literal, as conda reads it
        elif line and not line.startswith("#"):
            revisions[-1][0].append(line)
    return revisions
