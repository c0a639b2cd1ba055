"""Which Python a path stands for, where its packages are, and who may change them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nbprovision.machine.interpreters import (
    Interpreter,
    Target,
    is_managed,
    no_python,
    probe,
    system_python,
    system_witnesses,
    target_of,
)
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.system import log


def dist_info(folder: Path, name: str, version: str) -> None:
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)


def interpreter(prefix: Path, *folders: Path) -> Interpreter:
    """What one in no environment says of itself."""
    return Interpreter(
        executable=str(prefix / "bin/python3"),
        prefix=str(prefix),
        base=str(prefix),
        version="3.12.1",
        stdlib=str(prefix / "lib"),
        folders=[str(folder) for folder in folders],
    )


def conda_environment(prefix: Path) -> Path:
    """As far as files go: its records, and a Python that would not run."""
    for folder in ("conda-meta", "bin", "lib/python3.12/site-packages"):
        (prefix / folder).mkdir(parents=True)
    (prefix / "conda-meta/history").touch()
    (prefix / "conda-meta/python-3.12.1-0.json").write_text("{}")
    (prefix / "bin/python").write_text("#!/bin/sh\n")
    (prefix / "bin/python").chmod(0o755)
    return prefix


def test_a_link_into_an_environment_stands_for_it(machine: Machine, tmp_path: Path) -> None:
    prefix = conda_environment(tmp_path / "env")
    link = tmp_path / "bin/python3"
    link.parent.mkdir()
    link.symlink_to(prefix / "bin/python")
    assert target_of(machine, link, "mine") == Target(prefix, link, "mine")


def test_of_a_system_all_folders_count_and_the_first_wins(tmp_path: Path) -> None:
    """Debian's packages are in another folder than those of pip."""
    own, debian = tmp_path / "site-packages", tmp_path / "dist-packages"
    dist_info(own, "apple", "2.0")
    dist_info(debian, "apple", "1.0")
    dist_info(debian, "pear", "1.0")
    said = interpreter(Path("/usr"), own, debian)
    found = Target(Path("/usr"), Path("/usr/bin/python3"), "system", said).installed()
    assert {name: [one.version for one in several] for name, several in found.items()} == {
        "apple": ["2.0"],
        "pear": ["1.0"],
    }


def test_without_a_python_every_place_where_one_may_appear_is_watched(machine: Machine, tmp_path: Path) -> None:
    machine.env["PATH"] = f"{tmp_path}/a:relative:{tmp_path}/b"
    places = [tmp_path / "a/python3", tmp_path / "b/python3"]
    assert system_python(machine) is None
    assert list(system_witnesses(machine)) == places
    places[0].parent.mkdir()
    places[0].symlink_to(sys.executable)
    assert system_python(machine) == places[0]
    assert list(system_witnesses(machine)) == places[:1]


def test_an_environment_made_from_a_managed_python_is_its_owners(tmp_path: Path) -> None:
    prefix = conda_environment(tmp_path / "env")
    target = Target(prefix, prefix / "bin/python", "env")
    assert not is_managed(target)
    (prefix / "lib/python3.12/EXTERNALLY-MANAGED").touch()
    assert is_managed(target)
    (prefix / "pyvenv.cfg").write_text("version = 3.12.1\n")
    assert not is_managed(target)


def test_a_managed_python_in_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/EXTERNALLY-MANAGED").touch()
    said = interpreter(tmp_path, tmp_path)
    with pytest.raises(TaskFailed, match="is managed by the system") as caught:
        is_managed(Target(tmp_path, Path("/usr/bin/python3"), "system", said))
    assert "-m venv" in caught.value.cure


def test_why_there_is_no_python_and_what_helps(tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    target = Target(prefix, prefix / "bin/python", "env")
    assert no_python(target).cure == "create it first: ensure_conda_env or ensure_venv"
    (prefix / "bin").mkdir(parents=True)
    assert no_python(target).cure == "add python to the packages of its ensure_conda_env"
    target.python.symlink_to("/nowhere/python3")
    assert "/nowhere/python3, which does not exist" in no_python(target).cause


def test_what_is_no_program_is_not_asked(machine: Machine, tmp_path: Path) -> None:
    python = tmp_path / "bin/python3"
    assert probe(machine, python) is None
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    assert probe(machine, python) is None
    python.chmod(0o755)  # runs, and says nothing
    os.utime(python, ns=(1, 1))
    assert probe(machine, python) is None


def test_a_wrapper_is_asked_in_every_run(machine: Machine, tmp_path: Path) -> None:
    """It may lead elsewhere tomorrow; an interpreter itself is asked once."""
    wrapper = tmp_path / "shims/python3"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    asked: list[str] = []
    log.listen(lambda event, fields: asked.append(str(fields["command"])) if event == "command" else None)
    try:
        for _ in range(2):
            for python in (wrapper, Path(sys.executable)):
                said = probe(Machine(machine.env, root=machine.root), python)
                assert said is not None
                assert said.version.startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    finally:
        log.listen(None)
    assert [command.split()[0] for command in asked].count(str(wrapper)) == 2
    assert [command.split()[0] for command in asked].count(sys.executable) == 1
