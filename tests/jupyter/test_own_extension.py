"""`ensure_jupyter_extension: {name: nbprovision}`: the folder in the user's data folder of Jupyter, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import nbprovision
from nbprovision.jupyter.ensure_jupyter_extension import EnsureJupyterExtension
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError
from nbprovision.report import status_file
from nbprovision.report.status_file import Lost
from nbprovision.system.files import tree
from tests.support import on_volume
from tests.support.driver import converge, planned

PRESENT = EnsureJupyterExtension(name="nbprovision")
SOURCE = Path(nbprovision.__file__).parent / "labextension"


def content(folder: Path) -> dict[str, bytes | None]:
    return {name: (folder / name).read_bytes() if (folder / name).is_file() else None for name in tree(folder)}


@pytest.fixture
def folder(home: Path) -> Path:
    return home / ".local/share/jupyter/labextensions/nbprovision"


def test_it_is_installed_and_removed_without_a_jupyter(machine: Machine, home: Path, folder: Path) -> None:
    machine.env["PATH"] = "/no/such"
    (change,) = converge(PRESENT, machine)
    assert (change.action, change.target) == ("create", str(folder))
    assert content(folder) == content(SOURCE)
    load = json.loads((folder / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    assert (folder / load).is_file()
    assert planned(PRESENT, machine) == ()
    (change,) = converge(EnsureJupyterExtension(name="nbprovision", state="absent"), machine)
    assert change.action == "remove"
    assert not folder.exists()
    assert planned(EnsureJupyterExtension(name="nbprovision", state="absent"), machine) == ()


def test_the_data_folder_of_jupyter_is_honoured(machine: Machine, home: Path, tmp_path: Path) -> None:
    machine.env["JUPYTER_DATA_DIR"] = str(tmp_path / "data")
    converge(PRESENT, machine)
    assert content(tmp_path / "data/labextensions/nbprovision") == content(SOURCE)
    assert not (home / ".local").exists()


def _link(folder: Path) -> None:
    (folder.parent / "victim").mkdir()
    (folder.parent / "victim/mine").touch()
    shutil.rmtree(folder)
    folder.symlink_to("victim")


def _manifest_folder(folder: Path) -> None:
    (folder / "package.json").unlink()
    (folder / "package.json").mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        _link,
        _manifest_folder,
        lambda folder: shutil.rmtree(folder / "static"),
        lambda folder: (folder / "package.json").write_text("{}"),
        lambda folder: (folder / "static/remoteEntry.old.js").touch(),
        lambda folder: shutil.copytree(folder / "static", folder / "old/static"),
        lambda folder: (folder / "static").chmod(0o700),
        lambda folder: (shutil.rmtree(folder), folder.touch()),
    ],
)
def test_a_damaged_one_is_put_right(machine: Machine, folder: Path, damage: Callable[[Path], object]) -> None:
    converge(PRESENT, machine)
    damage(folder)
    (change,) = converge(PRESENT, machine)
    assert change.action == "write"
    assert content(folder) == content(SOURCE)
    assert not (folder.parent / "victim").exists() or (folder.parent / "victim/mine").exists()


@pytest.mark.parametrize(
    "more", [{"scope": "env"}, {"env": "JupyterSystemEnv"}, {"packages": ["x"]}, {"lab": {"a": True}}]
)
def test_it_goes_into_no_environment(machine: Machine, more: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="name"):
        EnsureJupyterExtension(name="nbprovision", **more)  # type: ignore[arg-type]


def test_another_name_is_refused() -> None:
    with pytest.raises(ParameterError, match="takes only 'nbprovision'") as caught:
        EnsureJupyterExtension(name="jupyterlab-git").check()
    assert caught.value.cure == "write packages: with the names that pip knows"


def test_a_restart_loses_it_and_the_next_start_puts_it_back(
    env: dict[str, str], home: Path, folder: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "SageMaker"
    volume.mkdir()
    playbook = volume / "team.yml"
    playbook.write_text("- tasks:\n    - ensure_jupyter_extension: {name: nbprovision}\n")
    assert "changed=1" in on_volume.nbprovision(env, volume, "run", playbook).stdout
    again = on_volume.nbprovision(env, volume, "run", playbook, "--format", "json")
    assert json.loads(again.stdout)["tasks"][0]["proof"] == "witness"
    before = content(folder)
    shutil.rmtree(home / ".local")
    status = status_file.read(volume, volume / ".nbprovision")
    assert status is not None
    status_file.write(volume, msgspec.structs.replace(status, lost=(Lost("python3", ("lightgbm 4.6.0",), "x"),)))
    done = on_volume.nbprovision(env, volume, "run", playbook)
    assert "changed=1" in done.stdout, done.stdout + done.stderr
    assert content(folder) == before
    status = status_file.read(volume, volume / ".nbprovision")
    assert status is not None
    assert (status.state, status.lost) == ("ready", ()), "what the stop has lost cannot be lost again"
    assert [name for name in os.listdir(home) if name != ".local"] == []
