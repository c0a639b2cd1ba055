"""Exact packages and the cache of unpacked ones: what it has is used if its bytes are the locked ones, and only then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from nbprovision.conda import rattler, solution
from nbprovision.conda.query import Package
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.system import unfinished
from nbprovision.system.process import Child
from tests.support.conda_environments import env_of, prefix_of
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned
from tests.support.exact_packages import ALPHA, Write, evil, locked
from tests.support.file_server import FileServer
from tests.support.lock_files import pixi_lock

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]


def test_a_check_finds_a_replaced_archive(machine: Machine, tiny: TinyChannel, write: Write, tmp_path: Path) -> None:
    path = write(tiny, "alpha=1.0")
    (tiny.path / "noarch" / ALPHA).write_bytes(evil(tmp_path))
    with pytest.raises(TaskFailed, match="is not installed") as caught:
        planned(locked(path), machine)
    assert "is not the file in the lock" in caught.value.cause


@pytest.mark.parametrize("served", [False, True], ids=["a folder", "a server"])
def test_what_lies_in_the_cache_from_other_bytes_is_fetched_again(
    machine: Machine, tiny: TinyChannel, write: Write, server: FileServer, tmp_path: Path, served: bool
) -> None:
    other = TinyChannel(tmp_path / "evil")
    other.add("alpha", "1.0", files={"share/alpha.txt": "something else\n"})
    converge(env_of(other, "alpha", name="other"), machine)
    converge(locked(write(tiny, "alpha=1.0", url=f"{server.url}/chan" if served else "")), machine)
    assert (prefix_of(machine) / "share/alpha.txt").read_text() == "alpha 1.0\n"


def test_a_missing_archive_is_not_replaced_by_the_cache(
    machine: Machine, tiny: TinyChannel, write: Write, tmp_path: Path
) -> None:
    """Nothing shows from which bytes the package in the cache was unpacked."""
    other = TinyChannel(tmp_path / "evil")
    other.add("alpha", "1.0", files={"share/alpha.txt": "something else\n"})
    converge(env_of(other, "alpha", name="other"), machine)
    path = write(tiny, "alpha=1.0")
    (tiny.path / "noarch" / ALPHA).unlink()
    with pytest.raises(NotBegun, match="is not installed") as caught:
        converge(locked(path), machine)
    assert "does not exist" in caught.value.cause


def test_what_is_in_the_cache_is_fetched_once(
    machine: Machine, tiny: TinyChannel, write: Write, server: FileServer
) -> None:
    path = write(tiny, "alpha=1.0", "gamma=3.1", url=f"{server.url}/chan")
    converge(locked(path), machine)
    again = Machine(machine.env, home=machine.home, root=machine.root)
    converge(locked(path, name="y"), again)
    assert len(server.requests) == 2
    assert os.stat(machine.home / "envs/y/share/alpha.txt").st_nlink == 3, "both share it with the cache"


def test_an_archive_is_read_once(
    machine: Machine, tiny: TinyChannel, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine hashes what it unpacks, and links nothing before it has compared all of it."""
    machine.applies = True
    monkeypatch.setattr(solution, "_fault", lambda *_: pytest.fail("it is hashed before that, too"))
    converge(locked(write(tiny, "alpha=1.0", "gamma=3.1")), machine)
    assert (prefix_of(machine) / "share/alpha.txt").exists()


@pytest.mark.parametrize("lost", ["info/index.json", "info"])
@pytest.mark.parametrize("exists", [False, True], ids=["new", "existing"])
def test_a_damaged_package_in_the_cache_does_not_bring_other_bytes(
    machine: Machine, tiny: TinyChannel, write: Write, tmp_path: Path, lost: str, exists: bool
) -> None:
    """The engine would unpack it again by itself, without a look at the lock."""
    path = write(tiny, "alpha=1.0", "gamma=3.1")
    converge(locked(path), machine)
    [package] = (machine.cache / "pkgs").glob("alpha*0")
    (shutil.rmtree if lost == "info" else os.unlink)(package / lost)
    good = (tiny.path / "noarch" / ALPHA).read_bytes()
    (tiny.path / "noarch" / ALPHA).write_bytes(evil(tmp_path))
    if exists:
        (prefix_of(machine) / "conda-meta/alpha-1.0-0.json").unlink()
    else:
        shutil.rmtree(prefix_of(machine))
    again = Machine(machine.env, home=machine.home, root=machine.root)
    again.applies = True
    with pytest.raises(NotBegun) as caught:
        converge(locked(path), again)
    assert "is not the file in the lock" in caught.value.cause
    (tiny.path / "noarch" / ALPHA).write_bytes(good)
    unfinished.clear(prefix_of(machine))
    again.forget()
    converge(locked(path), again)
    assert (prefix_of(machine) / "share/alpha.txt").read_text() == "alpha 1.0\n"


def test_an_old_package_without_a_list_of_paths_stays_in_the_cache(
    machine: Machine, tiny: TinyChannel, write: Write
) -> None:
    """Those from before 2017 have `info/files` alone."""
    path = write(tiny, "alpha=1.0")
    converge(locked(path), machine)
    [package] = (machine.cache / "pkgs").glob("alpha*0")
    (package / "info/paths.json").unlink()
    (tiny.path / "noarch" / ALPHA).unlink()
    solution.take_damaged_out(solution_of("alpha", "1.0"), machine.cache / "pkgs")
    assert package.is_dir()
    converge(locked(path, name="y"), Machine(machine.env, home=machine.home, root=machine.root))
    assert (machine.home / "envs/y/share/alpha.txt").read_text() == "alpha 1.0\n"


def solution_of(name: str, version: str) -> list[Package]:
    return [Package(name=name, version=version, build="0")]


def test_a_package_in_the_cache_that_lacks_a_file_is_unpacked_again(
    machine: Machine, tiny: TinyChannel, write: Write
) -> None:
    path = write(tiny, "alpha=1.0", "gamma=3.1")
    converge(locked(path), machine)
    [package] = (machine.cache / "pkgs").glob("alpha*0")
    (package / "share/alpha.txt").unlink()
    shutil.rmtree(prefix_of(machine))
    again = Machine(machine.env, home=machine.home, root=machine.root)
    with pytest.raises(TaskFailed, match="could not be installed") as caught:
        converge(locked(path), again)
    assert "run again" in caught.value.cure
    unfinished.clear(prefix_of(machine))
    converge(locked(path), Machine(machine.env, home=machine.home, root=machine.root))
    assert (prefix_of(machine) / "share/alpha.txt").read_text() == "alpha 1.0\n"


def test_an_archive_of_another_size_is_not_even_unpacked(
    machine: Machine, tiny: TinyChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may fill the disk."""
    path = pixi_lock(tmp_path / "pixi.lock", tiny, {"default": ["alpha=1.0"]})
    (tiny.path / "noarch" / ALPHA).write_bytes(evil(tmp_path) + b"more")
    machine.applies = True
    monkeypatch.setattr(rattler.ExactSolution, "_fetch", lambda *_: pytest.fail("it was"))
    with pytest.raises(NotBegun) as caught:
        converge(locked(path), machine)
    assert "is not the file in the lock" in caught.value.cause


def test_what_is_in_the_cache_is_not_asked_for(
    machine: Machine, tiny: TinyChannel, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tiny, "alpha=1.0", "gamma=3.1")
    asked: list[str] = []
    call = Child.call

    def noted(child: Child, request: Any, *more: Any) -> Any:
        asked.append(type(request).__name__)
        return call(child, request, *more)

    monkeypatch.setattr(Child, "call", noted)
    converge(locked(path), machine)
    assert asked == ["ExactRequest", "FetchRequest", "InstallRequest"]
    asked.clear()
    converge(locked(path, name="y"), Machine(machine.env, home=machine.home, root=machine.root))
    assert asked == ["ExactRequest", "InstallRequest"]
