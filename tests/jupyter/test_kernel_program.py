"""The program and the pictures of a kernel: ``~``, the PATH, ``logo``, and what other tasks put into its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbprovision.files.ensure_file import EnsureFile
from nbprovision.jupyter.ensure_kernel import EnsureKernel
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed
from tests.support.driver import converge

CONNECTION = "{connection_file}"


def _folder(task: EnsureKernel, machine: Machine) -> Path:
    return Path(next(iter(task.provides(machine))).identity)


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_tilde_is_the_home_folder_in_every_word(machine: Machine) -> None:
    """Jupyter starts a kernel without a shell, so that ``~`` would be a folder of that name."""
    program = _program(machine.user_home / "bin/my kernel")
    task = EnsureKernel(argv=["~/bin/my kernel", "-f", CONNECTION, "~/notes", "~", "a~/b", "~x"], name="mine")
    assert converge(task, machine)
    written = json.loads((_folder(task, machine) / "kernel.json").read_text())["argv"]
    home = str(machine.user_home)
    assert written == [f"{home}/bin/my kernel", "-f", CONNECTION, f"{home}/notes", home, "a~/b", "~x"]
    assert program in set(task.witnesses(machine))
    assert converge(task, machine) == ()


def test_a_program_below_the_home_folder_that_is_missing_is_an_error(machine: Machine) -> None:
    task = EnsureKernel(argv=["~/bin/none", CONNECTION], name="mine")
    with pytest.raises(TaskFailed, match=f"there is no program {machine.user_home}/bin/none"):
        task.plan(task.read(machine))


def test_the_home_of_somebody_else_is_refused() -> None:
    with pytest.raises(ParameterError, match="relative path"):
        EnsureKernel(argv=["~root/bin/x", CONNECTION], name="mine")


def test_a_bare_program_that_is_on_no_path_is_told(machine: Machine, tmp_path: Path) -> None:
    """Only a warning: the server may have another PATH. One that is there, and the server's own Python, are none."""
    folder = tmp_path / "bin"
    _program(folder / "there")
    machine.env["PATH"] = str(folder)
    for name, expected in (("gone", True), ("there", False), ("python3", False), ("python", False)):
        task = EnsureKernel(argv=[name, CONNECTION], name="mine")
        warnings = task.plan(task.read(machine)).warnings
        assert any(f"'{name}'" in text for text in warnings) is expected, (name, warnings)


def test_a_logo_takes_the_place_of_every_picture(machine: Machine, tmp_path: Path) -> None:
    task = EnsureKernel(argv=["/bin/sh", CONNECTION], name="mine")
    converge(task, machine)
    folder = _folder(task, machine)
    png, svg = tmp_path / "a.PNG", tmp_path / "b.svg"
    png.write_bytes(b"png")
    svg.write_bytes(b"<svg/>")
    with_png = EnsureKernel(argv=["/bin/sh", CONNECTION], name="mine", logo=str(png))
    with_svg = EnsureKernel(argv=["/bin/sh", CONNECTION], name="mine", logo=str(svg))
    for wanted, names in ((with_png, {"logo-32x32.png", "logo-64x64.png"}), (with_svg, {"logo-svg.svg"})):
        assert converge(wanted, machine)
        assert {path.name for path in folder.iterdir()} == {"kernel.json", *names}
        assert converge(wanted, machine) == ()
        (folder / min(names)).write_bytes(b"harmed")
        assert converge(wanted, machine)
    svg.write_bytes(b"<svg>another</svg>")
    assert converge(with_svg, machine)
    assert (folder / "logo-svg.svg").read_bytes() == b"<svg>another</svg>"
    assert converge(task, machine)
    assert [path.name for path in folder.iterdir()] == ["kernel.json"]


def test_a_logo_that_is_none_is_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="PNG or SVG"):
        EnsureKernel(argv=["/bin/sh", CONNECTION], name="mine", logo="/x/logo.jpg")
    task = EnsureKernel(argv=["/bin/sh", CONNECTION], name="mine", logo=str(tmp_path / "none.svg"))
    with pytest.raises(TaskFailed, match=r"none\.svg cannot be read"):
        task.read(machine)
    assert [one.parameter for one in task.inputs(machine)] == ["logo"]


@pytest.mark.parametrize("name", ["logo-64x64.png", "logo-svg.svg"])
def test_a_picture_of_another_task_stays(machine: Machine, tmp_path: Path, name: str) -> None:
    """Two tasks that would each undo what the other does never come to rest."""
    prefix = tmp_path / "envs/fraud"
    site_packages = prefix / "lib/python3.11/site-packages"
    (site_packages / "ipykernel/resources").mkdir(parents=True)
    (site_packages / "ipykernel-7.0.dist-info").mkdir()
    for file in ("METADATA", "RECORD"):
        (site_packages / "ipykernel-7.0.dist-info" / file).write_text("")
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/ipykernel-7.0-0.json").write_text("{}")
    (site_packages / "ipykernel/resources" / name).write_bytes(b"ipykernel's")
    _program(prefix / "bin/python")
    kernel = EnsureKernel(prefix=str(prefix), name="fraud")
    picture = EnsureFile(path=str(_folder(kernel, machine) / name), content="the team's", mode="0640")
    for first, second in ((kernel, picture), (picture, kernel)):
        converge(first, machine)
        converge(second, machine)
        assert converge(first, machine) == ()
        assert converge(second, machine) == ()
    assert (_folder(kernel, machine) / name).read_text() == "the team's"
