"""The facts as text: what a person reads of the states that a machine can be in."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nbprovision.cli.facts import document
from nbprovision.machine.machine import Machine
from nbprovision.report import facts_text


@pytest.fixture
def content(machine: Machine, home: Path) -> dict[str, Any]:
    """The document of a machine with one environment and one kernel."""
    prefix = machine.home / "envs/fraud"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/python-3.11.7-0.json").write_text(
        json.dumps({"build": "0", "depends": [], "name": "python", "version": "3.11.7", "files": []})
    )
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(sys.executable)
    folder = home / ".local/share/jupyter/kernels/k"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({"argv": ["/bin/cat"], "display_name": "K", "language": "python"}))
    return document(machine)


def line(content: dict[str, Any], start: str) -> str:
    return next(one for one in facts_text.text(content).splitlines() if one.startswith(start))


def test_the_server_of_jupyter_has_a_star(content: dict[str, Any]) -> None:
    assert "*" not in facts_text.text(content)
    content["environments"][0]["jupyter_server"] = True
    assert line(content, "fraud* ")
    assert line(content, "* the Jupyter server runs from it")


def test_how_far_an_environment_is_from_its_image(content: dict[str, Any]) -> None:
    (one,) = content["environments"]
    one["made_by"], one["distance"] = "platform", None
    assert "the first run after a restart records it" in line(content, "fraud: ")
    moves = [("new", None, "1.0"), ("gone", "1.0", None), ("core", "1.0", "2.0")]
    one["distance"] = [{"name": name, "from": a, "to": b, "permitted": name == "core"} for name, a, b in moves]
    told = "fraud differs from its image: new 1.0 added, gone 1.0 removed, core 1.0 -> 2.0 (permitted)"
    assert line(content, "fraud differs") == told
    one["distance"] *= 3
    assert line(content, "fraud differs").endswith(" and 4 more")


def test_what_conda_command_there_is(content: dict[str, Any]) -> None:
    assert line(content, "conda ").split(maxsplit=1)[1] == "none found"
    installation = {"conda": "24.1.0", "mamba": None, "prefix": "/opt/conda", "provided": True}
    content["conda"]["installations"] = [installation, {**installation, "conda": None, "provided": False}]
    content["conda"]["command"] = "/opt/conda/bin/conda"
    text = facts_text.text(content)
    assert "conda      conda 24.1.0 in /opt/conda (platform)\n" in text
    assert "conda      no conda command in /opt/conda\n" in text
    assert "           command /opt/conda/bin/conda\n" in text


def test_what_a_kernel_starts(content: dict[str, Any]) -> None:
    (one,) = content["kernels"]
    for program, exists, told in (
        (None, None, "nothing"),
        ("/x/python", False, "/x/python (missing)"),
        ("bash", None, "bash"),
    ):
        one["program"], one["program_exists"] = program, exists
        assert f"  {told}  " in line(content, "k ")


@pytest.mark.parametrize(
    ("size", "told"),
    [(999, "999 B"), (1000, "1.0 kB"), (123_400, "123 kB"), (5e6, "5.0 MB"), (2e11, "200 GB"), (2.5e15, "2500.0 TB")],
)
def test_sizes_for_a_person(content: dict[str, Any], size: float, told: str) -> None:
    content["together"] = int(size)
    assert line(content, "together ").split(maxsplit=1)[1] == f"{told}, shared files counted once"
