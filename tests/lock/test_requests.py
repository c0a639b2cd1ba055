"""What tasks request, collected by environment: no process is started, and what cannot be locked is refused."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.lock import requests
from nbprovision.lock.places import Places
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ProvisionError
from nbprovision.system import commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "team"
    folder.mkdir()
    return folder


def collected(folder: Path, machine: Machine, tasks: str) -> list[EnvironmentRequest]:
    path = folder / "team.yml"
    path.write_text(f"- tasks:\n{textwrap.indent(textwrap.dedent(tasks).strip(), '    ')}\n")
    return requests.collect(path, machine, Catalogue(), {"team": "risk"})


def test_loops_conditions_and_variables_are_evaluated(
    folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "run", None)  # no process
    wanted = collected(
        folder,
        machine,
        """
        - ensure_conda_env: {name: "{{ item }}", packages: [python], channels: [conda-forge]}
          loop: ["{{ team }}", fraud]
        - ensure_conda_pkg: {envs: [fraud, risk], packages: [six], channels: [./mine]}
        - ensure_pip_pkg: {env: fraud, packages: [humanize]}
          when: nb.platform == "studio"
        - ensure_pip_pkg: {env: risk, packages: [humanize]}
        - ensure_conda_env: {name: old, state: absent}
        - ensure_pip_pkg: {env: risk, packages: [tabulate], state: absent}
        """,
    )
    assert [(entry.name, entry.kind, entry.specs) for entry in wanted] == [
        ("fraud", "conda", ("python", "six")),
        ("risk", "conda", ("python", "six")),
    ]
    assert [[requirement.name for requirement in entry.wanted.wanted] for entry in wanted] == [[], ["humanize"]]
    origin = wanted[0].origin(Places(folder, machine.home, machine.user_home))
    assert origin.channels == ("https://conda.anaconda.org/conda-forge", "https://playbook.invalid/mine")


def test_a_task_that_depends_on_a_condition_of_the_run_is_locked(folder: Path, machine: Machine) -> None:
    (wanted,) = collected(
        folder,
        machine,
        """
        - ensure_command: {argv: [date]}
          register: result
        - ensure_conda_env: {name: fraud, packages: [python], channels: [conda-forge]}
          when: result.changed
        """,
    )
    assert wanted.name == "fraud"


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            """
            - ensure_command: {argv: [date]}
              register: result
            - ensure_conda_env: {name: fraud, packages: ["{{ result.stdout }}"], channels: [conda-forge]}
            """,
            "'ensure_conda_env' cannot be locked: variable 'result' is only known after",
        ),
        (
            """
            - ensure_conda_env: {prefix: ./a/x, packages: [python], channels: [conda-forge]}
            - ensure_conda_env: {prefix: ./b/x, packages: [python], channels: [conda-forge]}
            """,
            "two environments have the name x",
        ),
        (
            """
            - ensure_conda_env: {name: x, packages: [python=3.12], channels: [conda-forge]}
            - ensure_conda_pkg: {env: x, packages: [python=3.11], channels: [conda-forge]}
            """,
            "no version satisfies both 'python=3.11' and 'python=3.12'",
        ),
        (
            """
            - ensure_venv: {name: x, requirements: [one.txt]}
            - ensure_pip_pkg: {env: x, requirements: [two.txt]}
            """,
            "two requirements files for the same environment name different indexes",
        ),
        ("- ensure_pip_pkg: {env: nowhere, packages: [six]}", "nowhere"),
        ("- ensure_pip_pkg: {system: true, packages: [six]}", "cannot be locked"),
        ("- ensure_conda_env: {nam: x}", "ensure_conda_env has no parameter 'nam'"),
    ],
)
def test_what_cannot_be_locked_is_refused(folder: Path, machine: Machine, tasks: str, message: str) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(f"--index-url https://{name}.example/simple\nsix\n")
    with pytest.raises(ProvisionError) as caught:
        collected(folder, machine, tasks)
    assert message in str(caught.value)
    assert caught.value.exit_status == 4
    assert caught.value.position is not None
    assert caught.value.cure


def test_indexes_are_those_that_the_playbook_configures(folder: Path, machine: Machine) -> None:
    """Whether it has run here or not; those of a requirements file come after."""
    for name in [name for name in machine.env if name.startswith(("PIP_", "UV_"))]:
        del machine.env[name]
    machine.env["PIP_CONFIG_FILE"] = str(folder / "none")
    (folder / "more.txt").write_text("--extra-index-url https://more.example/simple\nsix --hash=sha256:" + "0" * 64)
    (wanted,) = collected(
        folder,
        machine,
        """
        - ensure_pip_index: {url: "https://reader:pa55w0rd@own.example/simple"}
        - ensure_venv: {name: x, requirements: [more.txt]}
        """,
    )
    origin = wanted.origin(Places(folder, machine.home, machine.user_home))
    assert origin.indexes == ("https://own.example/simple", "https://more.example/simple")
    assert origin.requirements == (f"six --hash=sha256:{'0' * 64}",)
    assert "pa55w0rd" not in str(origin)
