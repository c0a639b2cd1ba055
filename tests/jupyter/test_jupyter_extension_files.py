"""`ensure_jupyter_extension` without packages: which Jupyter is meant, and what its files of configuration then say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbprovision.jupyter.ensure_jupyter_extension import EnsureJupyterExtension
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnknownEnvironment
from tests.support.driver import converge, planned


@pytest.fixture
def prefix(machine: Machine, tmp_path: Path) -> Path:
    """An environment with a jupyter that the PATH leads to, by a link."""
    prefix = tmp_path / "jupyter"
    (prefix / "bin").mkdir(parents=True)
    for name in ("python", "jupyter"):
        (prefix / "bin" / name).write_text("#!/bin/sh\n")
        (prefix / "bin" / name).chmod(0o755)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/jupyter").symlink_to(prefix / "bin/jupyter")
    machine.env["PATH"] = str(tmp_path / "links")
    return prefix


def page(home: Path) -> Any:
    return json.loads((home / ".jupyter/labconfig/page_config.json").read_text())


def test_extensions_of_the_lab_are_switched_off_and_on(machine: Machine, home: Path, prefix: Path) -> None:
    off = EnsureJupyterExtension(lab={"@team/tool:plugin": False, "@jupyterlab/a": True})
    (change,) = converge(off, machine)
    assert change.action == "create"
    assert page(home) == {"disabledExtensions": {"@team/tool:plugin": True}}
    assert off.plan(off.read(machine)).warnings == (
        f"JupyterLab has no prebuilt extension '@team/tool:plugin' in {prefix}",
    )
    (prefix / "share/jupyter/labextensions/@team/tool").mkdir(parents=True)
    (prefix / "share/jupyter/labextensions/@team/tool/package.json").write_text("{}")
    assert off.plan(off.read(machine)).warnings == ()
    converge(EnsureJupyterExtension(lab={"@team/tool:plugin": True}), machine)
    assert page(home) == {"disabledExtensions": {"@team/tool:plugin": False}}
    converge(EnsureJupyterExtension(lab={"@team/tool:plugin": True}, state="absent"), machine)
    assert page(home) == {"disabledExtensions": {}}


def test_what_the_environment_switches_off_is_switched_on_for_the_user(
    machine: Machine, home: Path, prefix: Path
) -> None:
    converge(EnsureJupyterExtension(lab={"@jupyterlab/a": False}, scope="env"), machine)
    assert json.loads((prefix / "etc/jupyter/labconfig/page_config.json").read_text()) == {
        "disabledExtensions": {"@jupyterlab/a": True}
    }
    converge(EnsureJupyterExtension(lab={"@jupyterlab/a": True}), machine)
    assert page(home) == {"disabledExtensions": {"@jupyterlab/a": False}}


def test_extensions_of_the_server(machine: Machine, home: Path, prefix: Path) -> None:
    path = home / ".jupyter/jupyter_server_config.json"
    path.parent.mkdir()
    path.write_text('{"ServerApp": {"ip": "0.0.0.0", "jpserverextensions": {"a": true}}, "X": 1}')
    converge(EnsureJupyterExtension(server={"b": True, "a": False}), machine)
    assert json.loads(path.read_text()) == {
        "ServerApp": {"ip": "0.0.0.0", "jpserverextensions": {"a": False, "b": True}},
        "X": 1,
    }
    converge(EnsureJupyterExtension(server={"b": True}, state="absent"), machine)
    assert json.loads(path.read_text())["ServerApp"]["jpserverextensions"] == {"a": False}


def test_all_other_settings_keep_their_form(machine: Machine, home: Path, prefix: Path) -> None:
    path = home / ".jupyter/jupyter_server_config.json"
    path.parent.mkdir()
    path.write_text(
        '{\n    "ServerApp": {\n        "iopub_data_rate_limit": 1e10,\n        "jpserverextensions": {"a": true, "c": true}\n    }\n}'
    )
    converge(EnsureJupyterExtension(server={"b": True, "a": False}), machine)
    converge(EnsureJupyterExtension(server={"c": True}, state="absent"), machine)
    assert path.read_text() == (
        '{\n    "ServerApp": {\n        "iopub_data_rate_limit": 1e10,\n'
        '        "jpserverextensions": {"a": false, "b": true}\n    }\n}'
    )


def test_a_list_of_older_days_is_understood(machine: Machine, home: Path, prefix: Path) -> None:
    path = home / ".jupyter/labconfig/page_config.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"disabledExtensions": ["@jupyterlab/a"]}')
    assert planned(EnsureJupyterExtension(lab={"@jupyterlab/a": False}), machine) == ()
    converge(EnsureJupyterExtension(lab={"@jupyterlab/a": False}, state="absent"), machine)
    assert page(home) == {"disabledExtensions": {}}
    path.write_text('{"disabledExtensions": ["@jupyterlab/a"]}')


@pytest.mark.parametrize("damaged", ["{", "[]", "[" * 100000])
def test_a_damaged_file_is_left_alone(machine: Machine, home: Path, prefix: Path, damaged: str) -> None:
    path = home / ".jupyter/jupyter_server_config.json"
    path.parent.mkdir()
    path.write_text(damaged)
    with pytest.raises(TaskFailed, match="cannot be edited"):
        planned(EnsureJupyterExtension(server={"a": True}), machine)


def test_a_planted_link_is_not_followed(machine: Machine, home: Path, prefix: Path, tmp_path: Path) -> None:
    (home / ".jupyter").mkdir()
    (home / ".jupyter/jupyter_server_config.json").symlink_to(tmp_path / "victim")
    with pytest.raises(TaskFailed, match="out of its folder"):
        planned(EnsureJupyterExtension(server={"a": True}), machine)


def test_without_a_jupyter_that_is_said(machine: Machine) -> None:
    machine.env["PATH"] = "/no/such"
    with pytest.raises(UnknownEnvironment, match="this machine has no Jupyter server"):
        EnsureJupyterExtension(server={"a": True}).requires(machine)


@pytest.mark.parametrize(
    ("parameters", "key", "said"),
    [
        ({}, "packages", "none of `packages`, `lab`, `server` and `name`"),
        ({"lab": {"": True}}, "lab", "not a valid name of an extension"),
        ({"server": {"a\nb": True}}, "server", "not a valid name of an extension"),
        ({"packages": "a b c"}, "packages", "a b c"),
    ],
)
def test_what_makes_no_sense_is_refused(parameters: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said) as caught:
        EnsureJupyterExtension(**parameters)
    assert caught.value.key == key
