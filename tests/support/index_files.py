"""The files that ensure_pip_index writes for a user whose environment names no index."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from nbprovision.indexes.ensure_pip_index import EnsurePipIndex

URL = "https://mirror.example/simple"


def index(**parameters: Any) -> EnsurePipIndex:
    """The task, with a URL unless another is given."""
    return EnsurePipIndex(**{"url": URL, **parameters})


def without_index_variables(env: dict[str, str]) -> dict[str, str]:
    """No index by variables."""
    return {name: value for name, value in env.items() if not name.startswith(("PIP_", "UV_"))}


@pytest.fixture
def pip_conf(home: Path) -> Path:
    """The user's pip.conf, in a folder that is there."""
    (home / ".config/pip").mkdir(parents=True)
    return home / ".config/pip/pip.conf"


@pytest.fixture
def uv_toml(home: Path) -> Path:
    """The user's uv.toml, in a folder that is there."""
    (home / ".config/uv").mkdir(parents=True)
    return home / ".config/uv/uv.toml"


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)
