"""Whatever an installed package's list of files says, and wherever links in an environment lead: nothing outside goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine import package_files
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from nbprovision.system import process
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge
from tests.support.wheels import make_wheel

LIST = "{outside}/absolute\n../../../../precious/above\nevil/linked\nevil.py\n.\n..\n../../../bin\nevil\n\x00\n"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Files outside of every environment."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("absolute", "above", "linked"):
        (folder / name).write_text("years of work\n")
    return folder


def whole(folder: Path) -> bool:
    return {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("absolute", "above", "linked"), "years of work\n"
    )


@pytest.fixture
def tampered(tmp_path: Path, precious: Path) -> Path:
    """A virtual environment with a distribution whose RECORD and whose package's folder lead out of it."""
    prefix = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (packages,) = prefix.glob("lib/python3.*/site-packages")
    info = packages / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "INSTALLER").write_text("pip\n")
    names = LIST.format(outside=precious).split("\n")[:-1]
    names += ["evil-1.0.dist-info/METADATA", "evil-1.0.dist-info/RECORD"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    (packages / "evil.py").write_text("")
    (packages / "evil").symlink_to(precious)
    return prefix


@pytest.mark.engine
@pytest.mark.parametrize("state", ["absent", "present"])
def test_uv_removes_nothing_outside(
    state: str, tampered: Path, precious: Path, machine: Machine, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "evil", "2.0")
    machine.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    wish = "evil" if state == "absent" else "evil==2.0"
    with pytest.raises(TaskFailed, match="is not changed") as caught:
        converge(EnsurePipPkg(env=str(tampered), packages=[wish], state=state), machine)
    assert str(precious) in caught.value.cause
    assert whole(precious)


@pytest.mark.engine
def test_what_does_not_move_is_no_obstacle(tampered: Path, precious: Path, machine: Machine, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "good", "2.0")
    machine.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    converge(EnsurePipPkg(env=str(tampered), packages=["good"]), machine)
    assert whole(precious)


def test_removal_by_hand_takes_files_of_the_environment_alone(tampered: Path, precious: Path) -> None:
    (info,) = tampered.glob("lib/python3.*/site-packages/evil-1.0.dist-info")
    package_files.remove_distribution(tampered, info)
    assert whole(precious)
    assert not info.exists()
    assert not (info.parent / "evil.py").exists()
    assert (tampered / "bin/python").exists()  # `../../../bin` and `.` are folders, with what others have there


@pytest.mark.engine
@pytest.mark.parametrize(
    "name", ["../precious/above", "{outside}/absolute", "share/link/linked", "share/../../precious/above"]
)
def test_conda_packages_remove_nothing_outside(name: str, precious: Path, machine: Machine, tmp_path: Path) -> None:
    channel = TinyChannel(tmp_path / "channel")
    channel.add("good", "1.0")
    channel.add("good", "2.0")
    prefix = tmp_path / "env"
    converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["good=1.0"]), machine)
    (prefix / "share/link").symlink_to(precious)
    (record,) = prefix.glob("conda-meta/good-1.0-*.json")
    document = json.loads(record.read_text())
    path = name.format(outside=precious)
    document["files"].append(path)
    document["paths_data"]["paths"].append({"_path": path, "path_type": "hardlink"})
    record.write_text(json.dumps(document))
    with pytest.raises(TaskFailed, match="is not changed") as caught:
        converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["good=2.0"]), machine)
    assert str(precious) in caught.value.cause
    assert whole(precious)
    converge(EnsureCondaEnv(prefix=str(prefix), state="absent"), machine)
    assert whole(precious)


class Odd(NamedTuple):
    """A package that the engine itself refuses."""

    files: dict[str, str]
    listed: tuple[str, ...] = ()
    entry_points: tuple[str, ...] = ()


ODD = {
    "entry point": Odd({"site-packages/m.py": "x"}, entry_points=("../../evil = m:main",)),
    "entry point elsewhere": Odd({"site-packages/m.py": "x"}, entry_points=("{outside}/evil = m:main",)),
    "no list": Odd({"info/paths.json": "[" * 100_000}),
    "NUL": Odd({"ok": "x"}, listed=("a\0b",)),
}


@pytest.mark.engine
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_conda_packages_that_the_engine_refuses(
    kind: str, there: bool, precious: Path, machine: Machine, tmp_path: Path
) -> None:
    channel = TinyChannel(tmp_path / "channel")
    channel.add("good", "1.0")
    channel.add("python", "3.11.0", files={"bin/python": "x"})
    prefix = tmp_path / "envs/env"
    if there:
        converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["good", "python"]), machine)
    odd = ODD[kind]
    channel.add(
        "evil",
        "1.0",
        files=odd.files,
        listed=odd.listed,
        noarch="python" if odd.entry_points else "generic",
        entry_points=[text.format(outside=precious) for text in odd.entry_points],
    )
    with pytest.raises(TaskFailed, match="could not be installed") as caught:
        converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["evil", "python"]), machine)
    assert "panic" not in caught.value.cause
    assert whole(precious)
    assert {path.name for path in prefix.parent.iterdir()} <= {"env"}
    if there:
        assert (prefix / "share/good.txt").read_text() == "good 1.0\n"
        assert not list(prefix.glob("conda-meta/evil*"))


@pytest.mark.engine
def test_what_the_engine_writes_after_a_failure_goes_with_it(machine: Machine, tmp_path: Path) -> None:
    """It reports the first package that fails, and its threads go on linking the others."""
    channel = TinyChannel(tmp_path / "channel")
    large = [f"large{number}" for number in range(30)]
    for name in large:
        channel.add(name, "1.0", files={f"share/{name}/{part}/{file}": "x" for part in range(10) for file in range(30)})
    channel.add("good", "1.0")
    converge(EnsureCondaEnv(prefix=str(tmp_path / "other/env"), channels=[channel.url], packages=large), machine)
    channel.add("evil", "1.0", files={"ok": "x"}, listed=["lost"])
    for number in range(4):
        prefix = tmp_path / f"envs{number}/env"
        converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["good"]), machine)
        wanted = EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["evil", *large])
        with pytest.raises(TaskFailed, match="could not be installed"), process.kept_children():
            converge(wanted, machine)
        assert [path.name for path in prefix.parent.iterdir()] == ["env"]


@pytest.mark.engine
def test_a_build_that_is_a_path_is_unpacked_nowhere(machine: Machine, tmp_path: Path) -> None:
    channel = TinyChannel(tmp_path / "channel")
    channel.add("evil", "1.0")
    index = tmp_path / "channel/noarch/repodata.json"
    index.write_text(index.read_text().replace('"build": "0"', '"build": "/../../../../escaped"'))
    before = set(tmp_path.rglob("escaped*"))
    with pytest.raises(TaskFailed) as caught:
        converge(EnsureCondaEnv(prefix=str(tmp_path / "env"), channels=[channel.url], packages=["evil"]), machine)
    assert caught.value.cause
    assert set(tmp_path.rglob("escaped*")) == before


@pytest.mark.engine
def test_links_that_stay_inside_are_no_obstacle(machine: Machine, tmp_path: Path) -> None:
    channel = TinyChannel(tmp_path / "channel")
    channel.add("link", "1.0", files={"lib/x": "x"}, links={"share/lib": "../lib", "out": "/etc"})
    channel.add("below", "1.0", files={"lib64/y": "y", "share/lib/z": "z"}, depends=["link"])
    prefix = tmp_path / "env"
    converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["link"]), machine)
    (prefix / "lib64").symlink_to("lib")
    converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["below"]), machine)
    assert (prefix / "lib/y").read_text() == "y"
    assert (prefix / "share/lib/z").read_text() == "z"


@pytest.mark.engine
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
@pytest.mark.parametrize("name", ["share", "bin", "lib/python3.11/site-packages", "opt/deep"])
def test_conda_packages_are_not_installed_through_a_link(
    name: str, there: bool, precious: Path, machine: Machine, tmp_path: Path
) -> None:
    channel = TinyChannel(tmp_path / "channel")
    channel.add("first", "1.0", files={"etc/first": "x"})
    channel.add("second", "1.0", files={f"{name}/second": "x"})
    prefix = tmp_path / "env"
    if there:
        converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["first"]), machine)
    else:
        (prefix / "conda-meta").mkdir(parents=True)
    (prefix / name).parent.mkdir(parents=True, exist_ok=True)
    (prefix / name).symlink_to(precious)
    (prefix / "lib64").symlink_to("lib")
    with pytest.raises(TaskFailed) as caught:
        converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["second"]), machine)
    assert str(precious) in caught.value.cause
    assert whole(precious)
    assert (prefix / "etc/first").exists() == there
    (prefix / name).unlink()
    converge(EnsureCondaEnv(prefix=str(prefix), channels=[channel.url], packages=["second"]), machine)


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["uv", "pip"])
def test_distributions_are_not_installed_through_a_link(
    engine: Literal["uv", "pip"], precious: Path, machine: Machine, tmp_path: Path
) -> None:
    prefix = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (packages,) = prefix.glob("lib/python3.*/site-packages")
    packages.rmdir()
    packages.symlink_to(precious)
    make_wheel(tmp_path / "wheels", "good", "2.0")
    machine.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    with pytest.raises(TaskFailed, match="is not changed") as caught:
        converge(EnsurePipPkg(env=str(prefix), packages=["good"], engine=engine), machine)
    assert str(precious) in caught.value.cause
    assert whole(precious)
