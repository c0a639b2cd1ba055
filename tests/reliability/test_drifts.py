"""Drifts that users meet, each found and repaired by the next run; what only a deep look can see, by a deep run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.machine import distributions
from tests.conftest import Channel
from tests.reliability import changes
from tests.reliability.world import PLAYBOOK, World, site_packages

pytestmark = [pytest.mark.engine, pytest.mark.kernel, pytest.mark.proof, pytest.mark.sampled(2)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, channel: Channel) -> World:
    made = World(tmp_path_factory.mktemp("drifts"), channel)
    ran = made.run()
    assert ran.status == 0, ran.errors
    made.keep()
    return made


def module_deleted(name: str) -> Callable[[World], None]:
    return lambda world: (site_packages(world.prefix) / f"{name}.py").unlink()


def module_edited(name: str) -> Callable[[World], None]:
    """In place: the inode, the size and the time of the content stay, and every other link to it changes too."""

    def edit(world: World) -> None:
        path = site_packages(world.prefix) / f"{name}.py"
        before, content = path.stat(), path.read_bytes()
        with open(path, "r+b") as stream:
            stream.write(content.swapcase())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return edit


def install_killed(name: str) -> Callable[[World], None]:
    """METADATA is there, RECORD and a module are not."""

    def kill(world: World) -> None:
        folder = site_packages(world.prefix)
        (info,) = folder.glob(f"{name}-*.dist-info")
        assert (info / "METADATA").exists()
        (info / "RECORD").unlink()
        (folder / f"{name}.py").unlink()

    return kill


def half_made_and_filled_by_uv(world: World) -> None:
    """The package whose record was lost stands there in another version."""
    changes.environment_half_made(world)
    changes.conda_package_downgraded_by_uv(world)


def python_is_a_dangling_link(world: World) -> None:
    python = world.prefix / "bin/python"
    python.unlink()
    python.symlink_to(Path("/nowhere/python"))


FOUND_BY_EVERY_RUN: dict[str, Callable[[World], None]] = {
    "1 pip.conf edited": changes.pip_conf_edited,
    "2 kernel.json edited": changes.kernel_edited,
    "2 kernel.json deleted": changes.kernel_spec_deleted,
    "3 a package of pip downgraded": changes.pip_package_changed_by_pip,
    "3 a package of conda downgraded": changes.conda_package_downgraded_by_pip,
    "7 python is a dangling link": python_is_a_dangling_link,
    "8 a dist-info of conda deleted": changes.dist_info_of_conda_removed,
    "8 a dist-info of pip deleted": changes.dist_info_of_pip_removed,
    "9 pip.conf made world-writable": changes.pip_conf_made_world_writable,
    "10 an environment half made": changes.environment_half_made,
    "10 an environment half made, and a package of it installed by uv": half_made_and_filled_by_uv,
    "12 conda-meta tells another version": changes.conda_record_of_another_version,
}
FOUND_BY_A_DEEP_RUN: dict[str, Callable[[World], None]] = {
    "4 a module of pip deleted": module_deleted("apple"),
    "4 a module of conda deleted": module_deleted("six"),
    "5 a module of pip edited": module_edited("apple"),
    "5 a module of conda edited": module_edited("six"),
    "11 an install of pip killed": install_killed("apple"),
    "11 an install of conda killed": install_killed("six"),
}


@pytest.mark.parametrize("drift", FOUND_BY_EVERY_RUN)
def test_found_and_repaired_by_every_run(world: World, drift: str) -> None:
    _drifts_and_is_repaired(world, FOUND_BY_EVERY_RUN[drift])


@pytest.mark.parametrize("drift", FOUND_BY_A_DEEP_RUN)
def test_found_and_repaired_by_a_deep_run(world: World, drift: str) -> None:
    _drifts_and_is_repaired(world, FOUND_BY_A_DEEP_RUN[drift], "--deep")


def _drifts_and_is_repaired(world: World, drift: Callable[[World], None], *options: str) -> None:
    world.restore()
    world.run()
    assert world.differences(files=True) == []
    drift(world)
    assert world.differences(files=True) != [], "it is a drift"
    repaired = world.run(*options)
    assert repaired.status == 0, repaired.errors
    assert "changed" in repaired.statuses
    assert world.differences(files=True) == []
    assert world.run(*options).all_ok


def test_a_stray_package_goes_from_an_exact_environment(
    tmp_path_factory: pytest.TempPathFactory, channel: Channel
) -> None:
    """The sixth drift: neither the playbook nor what it asks for needs the package."""
    exact = PLAYBOOK.replace("        name: demo\n", "        name: demo\n        exact: true\n")
    world = World(tmp_path_factory.mktemp("exact"), channel, exact)
    assert world.run().status == 0
    assert world.run("--no-witness").all_ok
    before = distributions.installed(world.prefix).keys()
    changes.stray_package_added(world)
    assert distributions.installed(world.prefix).keys() > before
    repaired = world.run()
    assert repaired.status == 0, repaired.errors
    assert distributions.installed(world.prefix).keys() == before
    assert world.run("--no-witness").all_ok
