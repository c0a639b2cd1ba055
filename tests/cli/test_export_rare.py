"""An export of environments in which there is little, or something that cannot be read, and of secrets that come twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nbprovision.cli.export import exported
from nbprovision.machine.machine import Machine


@pytest.fixture
def prefix(machine: Machine) -> Path:
    """A conda environment in which nothing is installed."""
    folder = machine.home / "envs/x"
    (folder / "conda-meta").mkdir(parents=True)
    (folder / "conda-meta/history").touch()
    return folder


def kernel(folder: Path, prefix: Path, **more: Any) -> Path:
    folder.mkdir(parents=True)
    spec = {"argv": [f"{prefix}/bin/tool", "{connection_file}"], "display_name": folder.name, "language": "x", **more}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return folder / "kernel.json"


def tasks(text: str) -> list[dict[str, Any]]:
    (play,) = yaml.safe_load(text)
    found: list[dict[str, Any]] = play["tasks"]
    return found


def test_an_empty_environment_is_one_all_the_same(machine: Machine, prefix: Path) -> None:
    assert prefix.is_dir()
    assert tasks(exported(machine, ["x"], pinned=False)) == [
        {"name": "The environment x", "ensure_conda_env": {"name": "x"}}
    ]


def test_kernels_that_come_with_ipykernel_and_those_that_cannot_be_read_are_left_out(
    machine: Machine, prefix: Path
) -> None:
    own = prefix / "share/jupyter/kernels"
    kernel(own / "python3", prefix)
    kernel(own / "mine", prefix)
    kernel(own / "odd", prefix).write_text('{"argv": "tool"}')
    _, made = tasks(exported(machine, ["x"], pinned=False))
    assert made["ensure_kernel"]["name"] == "mine"
    assert made["ensure_kernel"]["scope"] == "env"


def test_a_secret_that_comes_twice_has_one_variable_and_is_told_once(
    machine: Machine, prefix: Path, home: Path
) -> None:
    folder = home / ".local/share/jupyter/kernels"
    variables = {
        "API_TOKEN": "pearl-77",
        "URL": "https://me:pearl-99@h.example/",
        "AGAIN": "https://you:pearl-99@i.example/",
    }
    for name in ("one", "two"):
        kernel(folder / name, prefix, env=variables)
    text = exported(machine, ["x"], pinned=False)
    assert "pearl" not in text
    assert text.count("Set the variable API_TOKEN before a run") == 1
    assert text.count("Set the variable EXPORTED_SECRET_1 before a run") == 1
    assert "EXPORTED_SECRET_2" not in text
    _, one, two = tasks(text)
    assert one["ensure_kernel"]["environment"] == two["ensure_kernel"]["environment"]
    assert one["ensure_kernel"]["environment"]["AGAIN"].startswith("https://you:{{ lookup('env', 'EXPORTED_SECRET_1')")
