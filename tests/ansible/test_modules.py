"""The modules of the collection, by the oldest supported ansible-core and the newest."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.conftest import CORES
from tests.support.ansible_controller import Controller

pytestmark = [pytest.mark.proof, pytest.mark.network]

CANARY = "canary-in-a-mine"


def files_below(folder: Path) -> dict[str, str]:
    """The texts of all files."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): path.read_text(errors="replace") for path in paths}


@pytest.mark.parametrize("controller", CORES, indirect=True)
def test_tasks_change_the_machine_and_the_second_time_they_are_ok(controller: Controller, home: Path) -> None:
    tasks: list[dict[str, Any]] = [
        {"ensure_file": {"path": "~/motd", "content": "Good morning\n", "mode": "0640"}},
        {"ensure_env_var": {"name": "EDITOR", "value": "{{ editor }}"}},
        {"ensure_line": {"path": "~/profile", "create": True, "line": "umask 027"}},
        {"task": {"kind": "ensure_block", "parameters": {"path": "~/profile", "block": "umask 022"}}},
        {  # `executable` is an option of connections as well
            "ensure_command": {
                "shell": "echo $0 $A > ran",
                "creates": "~/ran",
                "chdir": "~",
                "executable": "/bin/bash",
            },
            "environment": {"A": "b c"},
        },
    ]
    first = controller.play(tasks, vars={"editor": "nano"})
    assert [(each["status"], each["changed"], each["failed"]) for each in first] == [("changed", True, False)] * 5, (
        first
    )
    assert (home / "motd").read_text() == "Good morning\n"
    assert (home / "motd").stat().st_mode & 0o777 == 0o640
    assert (home / "ran").read_text() == "/bin/bash b c\n"
    assert first[0]["changes"][0]["action"] == "create"
    again = controller.play(tasks, vars={"editor": "nano"})
    assert [(each["status"], each["changed"]) for each in again] == [("ok", False)] * 5, again


# What went wrong when a prototype passed arguments on as Ansible's modules do, and what is said now.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mode: 0644, which YAML reads as 420": ({"ensure_file": {"path": "~/a", "mode": 420}}, "write the value in quotes"),
    "line: 3.10, which YAML reads as 3.1": ({"ensure_line": {"path": "~/a", "create": True, "line": 3.1}}, "write the value in quotes"),
    "a relative path": ({"ensure_file": {"path": "a", "content": ""}}, "has the relative path 'a'"),
    "an unknown parameter": ({"ensure_file": {"path": "~/a", "contents": ""}}, "did you mean 'content'?"),
    "an unknown option": ({"ensure_file": {"path": "~/a", "nbprovision_hom": "x"}}, "unknown option nbprovision_hom"),
    "an unknown task": ({"task": {"kind": "ensure_fil"}}, "did you mean 'ensure_file'?"),
    "a date, which JSON lacks": (
        {"ensure_line": {"path": "~/a", "create": True, "line": dt.date(2026, 1, 31)}},
        "Ansible reads 2026-01-31 as another type than text; write it in quotes",
    ),
    "a way to another user without standard input": (
        {"ensure_file": {"path": "~/a"}, "become": True, "become_method": "ansible.builtin.su"},
        "become_method su cannot pass standard input",
    ),
    "commas, which Ansible's lists split": ({"ensure_pip_pkg": {"env": "no-such", "packages": "idna>=1,<2"}}, "no-such"),
    "a missing tool": ({"ensure_file": {"path": "~/a", "nbprovision_command": "/no/such"}}, "nbprovision_command names /no/such"),
}  # fmt: skip


@pytest.mark.parametrize("controller", CORES, indirect=True)
def test_no_trap_is_silent(controller: Controller, home: Path) -> None:
    results = controller.play([task for task, _ in REFUSED.values()])
    for case, (_, words), result in zip(REFUSED, REFUSED.values(), results, strict=True):
        assert result["failed"], f"{case}: {result}"
        assert words in result["msg"], f"{case}: {result}"
    assert not (home / "a").exists()


@pytest.mark.parametrize("controller", CORES, indirect=True)
def test_values_are_texts_and_secrets_are_nowhere_else(controller: Controller, home: Path, tmp_path: Path) -> None:
    results = controller.play(
        [
            {"ensure_file": {"path": "~/braces", "content": "{{ '{' ~ '{ x }}' }}"}},
            {"ensure_file": {"path": "~/secret", "content": "{{ password }}"}, "no_log": True},
            {"ensure_command": {"argv": ["/bin/false", "{{ password }}"]}, "no_log": True},
            {  # a variable that ends with a line, and has a quote
                "ensure_command": {"shell": 'printf %s "$TOKEN" | wc -c > length', "creates": "~/length", "chdir": "~"},
                "environment": {"TOKEN": "{{ password }}'\n"},
            },
        ],
        "-vvv",
        *controller.vault("password", CANARY),
    )
    assert (home / "braces").read_text() == "{{ x }}", "a value is not templated a second time"
    assert (home / "secret").read_text() == CANARY
    assert [result["failed"] for result in results] == [False, False, True, False]
    assert (home / "length").read_text().strip() == str(len(CANARY) + 2)
    assert CANARY not in controller.output
    assert {path for path, text in files_below(tmp_path).items() if CANARY in text} == {str(home / "secret")}


def test_check_mode_and_diff(controller: Controller, home: Path) -> None:
    tasks: list[dict[str, Any]] = [
        {"ensure_file": {"path": "~/motd", "content": "Good morning\n"}},
        {"ensure_venv": {"name": "plots"}},
        {"ensure_kernel": {"env": "plots", "name": "plots"}},
        {"ensure_kernel": {"env": "plost", "name": "plots"}},
        {"restart_jupyter": {}},
    ]
    motd, venv, kernel, typo, restart = controller.play(tasks, "--check", "--diff")
    assert (motd["changed"], motd["diff"][0]["after"]) == (True, "Good morning\n")
    assert "+Good morning" in controller.output
    assert venv["changed"], venv
    assert (kernel["changed"], kernel["msg"]) == (True, "will change after ensure_venv plots")
    assert typo["failed"], "an environment that no task makes"
    assert not restart["failed"], "a task among others, not only a handler"
    assert sorted(path.name for path in home.iterdir() if not path.name.startswith(".")) == []


@pytest.mark.parametrize("controller", ["2.17"], indirect=True)
def test_the_documentation_is_shown(controller: Controller) -> None:
    document = controller.doc("ensure_kernel")
    assert document["doc"]["options"]["validate"]["type"] == "bool"
    assert "nbprovision.notebook.ensure_kernel:" in document["examples"]
    assert "nbprovision_home" in document["doc"]["options"]


@pytest.mark.parametrize("controller", ["newest"], indirect=True)
def test_a_missing_tool_is_installed(
    controller: Controller, offline: dict[str, str], home: Path, tmp_path: Path
) -> None:
    """With the controller's own wheel; what it needs comes from the folder of wheels, as from an index."""
    wheels = offline.pop("NBPROVISION_SOURCE")
    controller.env |= {**offline, "UV_FIND_LINKS": wheels, "PIP_FIND_LINKS": wheels, "UV_OFFLINE": "1"}
    controller.env["PATH"] = offline["PATH"]
    task = {"ensure_file": {"path": "~/motd", "content": "a", "nbprovision_home": str(tmp_path / "tool")}}
    (checked,) = controller.play([task], "--check")
    assert checked["skipped"]
    assert "check mode installs nothing" in checked["msg"]
    assert not (tmp_path / "tool").exists()
    (result,) = controller.play([task])
    assert result["changed"], result
    assert (home / "motd").read_text() == "a"
    assert (tmp_path / "tool/venv/bin/nbprovision").exists()
