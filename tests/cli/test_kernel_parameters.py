"""A kernel that is there, in the words of the task that would make it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbprovision.cli.export import kernel_parameters as parameters
from nbprovision.cli.inventory import KernelInfo

PYTHON = ["/e/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
ACTIVATED = ["/e/share/nbprovision/activate.sh", *PYTHON]


@pytest.fixture
def said(tmp_path: Path) -> Any:
    """What is made of a kernel.json."""

    def found(spec: Any, **more: Any) -> dict[str, Any] | None:
        folder = tmp_path / "k"
        folder.mkdir(exist_ok=True)
        (folder / "kernel.json").write_text(spec if isinstance(spec, str) else json.dumps(spec))
        known = {"display_name": "K", "language": "python", "scope": "user", "prefix": "/e", "program": None}
        kernel = KernelInfo(name="k", folder=str(folder), program_exists=None, hidden_by=None, **(known | more))
        return parameters(kernel, tmp_path / "e", "mine")

    return found


@pytest.mark.parametrize("spec", ["{", "[]", "{}", '{"argv": "bash"}'])
def test_what_cannot_be_read_is_nothing(said: Any, spec: str) -> None:
    assert said(spec) is None


def test_of_a_kernel_that_we_made_only_what_is_no_default(said: Any) -> None:
    spec = {
        "argv": ACTIVATED,
        "env": {"PYTHONNOUSERSITE": "1", "A": "b"},
        "metadata": {"debugger": True, "nbprovision": {"prefix": "/e"}},
    }
    assert said(spec) == {"env": "mine", "name": "k", "display_name": "K", "environment": {"A": "b"}}


def test_everything_that_a_task_can_say_of_one(said: Any) -> None:
    spec = {
        "argv": PYTHON,
        "interrupt_mode": "message",
        "metadata": {"debugger": False, "team": {"a": 1}, "nbprovision": {"validated": "ipykernel 6.29"}},
    }
    assert said(spec, scope="system", display_name=None) == {
        "env": "mine",
        "name": "k",
        "display_name": "k",
        "user_site": True,
        "activate": False,
        "validate": True,
        "scope": "system",
        "interrupt_mode": "message",
        "metadata": {"debugger": False, "team": {"a": 1}},
    }


def test_one_of_another_language_goes_by_its_command(said: Any) -> None:
    argv = ["/e/bin/R", "--args", "{connection_file}"]
    found = said({"argv": argv, "interrupt_mode": "none", "metadata": "x", "env": []}, language="R")
    assert found == {"argv": argv, "name": "k", "display_name": "K", "language": "R"}
