"""Changes by hand: what users, other tools and accidents do to a machine between two runs.

Each takes the world and does something to it, or nothing where its subject is not there at the moment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nbprovision.machine.machine import Machine
from nbprovision.pip import uv_command
from tests.reliability.world import World, copy, site_packages

Change = Callable[[World], None]
CHANGES: dict[str, Change] = {}


def change(function: Change) -> Change:
    """Take note of a change under its name."""
    CHANGES[function.__name__] = function
    return function


# ---------------------------------------------------------------------------------------------------------- packages


@change
def pip_package_removed_by_uv(world: World) -> None:
    uv(world, "uninstall", "apple")


@change
def pip_package_removed_by_pip(world: World) -> None:
    pip(world, "uninstall", "--yes", "pear")


@change
def pip_package_changed_by_uv(world: World) -> None:
    uv(world, "install", "--no-deps", "apple==1.1" if world.values["apple"] == "1.0" else "apple==1.0")


@change
def pip_package_changed_by_pip(world: World) -> None:
    pip(world, "install", "--no-deps", "pear==1.1" if world.values["pear"] == "1.0" else "pear==1.0")


@change
def conda_package_downgraded_by_uv(world: World) -> None:
    uv(world, "install", "--no-deps", "six==1.16.0")


@change
def conda_package_downgraded_by_pip(world: World) -> None:
    pip(world, "install", "--no-deps", "idna==3.7")


@change
def conda_package_removed_by_uv(world: World) -> None:
    uv(world, "uninstall", "six")


@change
def stray_package_added(world: World) -> None:
    uv(world, "install", "--no-deps", "stray")


@change
def conda_package_swapped(world: World) -> None:
    """Record and distribution are another version's, as after a downgrade by conda that told no history."""
    if _alive(world):
        _take_out(world, "six")
        ours, theirs = site_packages(world.prefix), site_packages(world.other)
        for found in [*theirs.glob("six-*.dist-info"), theirs / "six.py"]:
            _put(found, ours / found.name)
        for record in (world.other / "conda-meta").glob("six-*.json"):
            shutil.copy2(record, world.prefix / "conda-meta")


@change
def conda_record_removed(world: World) -> None:
    for record in (world.prefix / "conda-meta").glob("six-*.json"):
        record.unlink()


@change
def conda_record_of_another_version(world: World) -> None:
    """conda-meta tells one version, dist-info another."""
    if (world.prefix / "conda-meta").is_dir():
        conda_record_removed(world)
        for record in (world.other / "conda-meta").glob("six-*.json"):
            shutil.copy2(record, world.prefix / "conda-meta")


@change
def dist_info_of_conda_removed(world: World) -> None:
    _remove(world, "idna-*.dist-info")


@change
def dist_info_of_pip_removed(world: World) -> None:
    _remove(world, "apple-*.dist-info")


@change
def metadata_of_pip_removed(world: World) -> None:
    _remove(world, "apple-*.dist-info/METADATA")


@change
def record_of_a_dependency_removed(world: World) -> None:
    """apple is not only asked for but what pear needs; take it from pear's side."""
    _remove(world, "pear-*.dist-info/RECORD")


@change
def kernel_package_removed(world: World) -> None:
    uv(world, "uninstall", "ipykernel")


# ------------------------------------------------------------------------------------------------------ environments


@change
def environment_deleted(world: World) -> None:
    shutil.rmtree(world.prefix, ignore_errors=True)


@change
def environment_renamed(world: World) -> None:
    aside = world.prefix.with_name("renamed")
    shutil.rmtree(aside, ignore_errors=True)
    if world.prefix.exists():
        world.prefix.rename(aside)


@change
def environment_swapped(world: World) -> None:
    """Another environment stands in its place, and it in the other's."""
    if world.prefix.exists():
        there = world.prefix.with_name("there")
        shutil.rmtree(there, ignore_errors=True)
        copy(world.other, there, linked=True)
        world.prefix.rename(world.prefix.with_name("between"))
        there.rename(world.prefix)
        world.prefix.with_name("between").rename(there)


@change
def environment_half_made(world: World) -> None:
    """A kill in the middle: the mark is there, a record and a distribution are not yet."""
    if _alive(world):
        (world.prefix / ".nbprovision-unfinished").write_text('{"task":"ensure_conda_env","made":false}')
        conda_record_removed(world)
        shutil.rmtree(site_packages(world.prefix) / "idna", ignore_errors=True)


@change
def interpreter_dangles(world: World) -> None:
    for path in (world.prefix / "bin").glob("python3.*"):
        if re.fullmatch(r"python3\.\d+", path.name):
            path.unlink()


@change
def unregistered(world: World) -> None:
    (world.home / ".conda/environments.txt").unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------------- kernels


@change
def kernel_edited(world: World) -> None:
    _edit(world.kernels / "demo/kernel.json", "Python (demo)", "Snake of the demo")


@change
def kernel_edited_to_equal_size(world: World) -> None:
    _edit(world.kernels / "tool/kernel.json", "Tool of", "Fool of")


@change
def kernel_replaced_by_one_of_equal_size(world: World) -> None:
    path = world.kernels / "demo/kernel.json"
    if path.exists():
        other = path.with_name("new")
        other.write_text(path.read_text().replace("Python (demo)", "Python (omed)"))
        os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        other.chmod(0o600)
        other.replace(path)


@change
def kernel_edited_and_mtime_set_back(world: World) -> None:
    _edit(world.kernels / "demo/kernel.json", "ipykernel_launcher", "ipykernel_rehcnual", set_back=True)


@change
def kernel_mode_changed(world: World) -> None:
    for name in ("demo", "tool"):
        if (world.kernels / name / "kernel.json").is_file():
            (world.kernels / name / "kernel.json").chmod(0o666)


@change
def kernel_spec_deleted(world: World) -> None:
    (world.kernels / "demo/kernel.json").unlink(missing_ok=True)


@change
def kernel_launcher_deleted(world: World) -> None:
    (world.kernels / "demo/activate.sh").unlink(missing_ok=True)


@change
def kernel_deleted(world: World) -> None:
    shutil.rmtree(world.kernels / "tool", ignore_errors=True)


@change
def kernel_becomes_a_link(world: World) -> None:
    """The link leads to an equal file at first."""
    path = world.kernels / "demo/kernel.json"
    if path.is_file() and not path.is_symlink():
        path.rename(world.home / "kernel-a.json")
        path.symlink_to(world.home / "kernel-a.json")


@change
def link_of_a_kernel_retargeted(world: World) -> None:
    path = world.kernels / "demo/kernel.json"
    if path.is_file():
        other = world.home / "kernel-b.json"
        other.write_text(path.read_text().replace("Python (demo)", "Python (omed)"))
        path.unlink()
        path.symlink_to(other)


# ------------------------------------------------------------------------------------------------------------ indexes


@change
def pip_conf_edited(world: World) -> None:
    _edit(world.pip_conf, "https://", "https://x")


@change
def pip_conf_edited_to_equal_size_and_mtime_set_back(world: World) -> None:
    _edit(world.pip_conf, "example", "elpmaxe", set_back=True)


@change
def pip_conf_made_world_writable(world: World) -> None:
    if world.pip_conf.exists():
        world.pip_conf.chmod(0o666)


@change
def pip_conf_deleted(world: World) -> None:
    world.pip_conf.unlink(missing_ok=True)


@change
def pip_conf_extended(world: World) -> None:
    """What is not the playbook's stays, and is no drift."""
    if world.pip_conf.exists() and "[freeze]" not in world.pip_conf.read_text():
        with world.pip_conf.open("a") as stream:
            stream.write("[freeze]\ntimeout = 9\n")


# ------------------------------------------------------------------------------------------------------------- inputs


@change
def requirements_touched(world: World) -> None:
    world.requirements.touch()


@change
def requirements_edited(world: World) -> None:
    """In place, to the same size: in the same clock tick as the run before it, where the machine is quick enough."""
    world.values["pear"] = "1.1" if world.values["pear"] == "1.0" else "1.0"
    with world.requirements.open("r+") as stream:
        stream.write(f"pear=={world.values['pear']}")


@change
def requirements_edited_and_mtime_set_back(world: World) -> None:
    before = world.requirements.stat()
    requirements_edited(world)
    os.utime(world.requirements, ns=(before.st_atime_ns, before.st_mtime_ns))


@change
def requirements_become_a_link(world: World) -> None:
    """The link is retargeted each time."""
    target = world.project / f"requirements-{world.values['pear']}.txt"
    if world.requirements.is_symlink():
        requirements_edited(world)
        target = world.project / f"requirements-{world.values['pear']}.txt"
    target.write_text(f"pear=={world.values['pear']}\n")
    world.requirements.unlink()
    world.requirements.symlink_to(target)


@change
def variable_changed(world: World) -> None:
    """In place, to the same size."""
    new = "1.1" if world.values["apple"] == "1.0" else "1.0"
    _edit(world.playbook, f'apple: "{world.values["apple"]}"', f'apple: "{new}"')
    world.values["apple"] = new


@change
def conda_variable_changed(world: World) -> None:
    new = "1.16.0" if world.values["six"] == "1.17.0" else "1.17.0"
    _edit(world.playbook, f'six: "{world.values["six"]}"', f'six: "{new}"', set_back=True)
    world.values["six"] = new


@change
def environment_variable_changed(world: World) -> None:
    world.values["team"] = "blue" if world.values["team"] == "teal" else "teal"
    world.env["TEAM"] = world.values["team"]


# --------------------------------------------------------------------------------------------------- the tool's records


@change
def state_deleted(world: World) -> None:
    shutil.rmtree(world.tool / "state", ignore_errors=True)


@change
def state_cut_short(world: World) -> None:
    for path in (world.tool / "state").glob("*.state"):
        path.write_bytes(path.read_bytes()[:-20])


@change
def state_is_garbage(world: World) -> None:
    for path in (world.tool / "state").glob("*.state"):
        path.write_bytes(os.urandom(500))


@change
def state_of_another_version(world: World) -> None:
    for path in (world.tool / "state").glob("*.state"):
        path.write_bytes(path.read_bytes().replace(b"nbprovision-state ", b"nbprovision-state 9", 1))


@change
def home_of_the_user_lost(world: World) -> None:
    """A restart on a machine whose volume alone stays."""
    for entry in list(world.home.iterdir()):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


# ------------------------------------------------------------------------------------------------------------- helpers


def uv(world: World, command: str, *words: str) -> None:
    """Let uv change the environment, as a user would in a terminal."""
    if _alive(world):
        tool = uv_command.find(Machine(world.env))
        assert tool is not None
        offline = ["--no-index", "--find-links", str(world.wheels)] if command == "install" else []
        _tried(world, [str(tool), "pip", command, "--python", str(world.prefix / "bin/python"), *offline, *words])


def pip(world: World, command: str, *words: str) -> None:
    """Let pip do so."""
    if _alive(world):
        offline = ["--no-index", "--find-links", str(world.wheels)] if command == "install" else []
        python = str(world.prefix / "bin/python")
        _tried(world, [sys.executable, "-m", "pip", "--python", python, command, *offline, *words])


def _tried(world: World, words: list[str]) -> None:
    """Whether it works is not the point: what is half broken already may stop it."""
    env = {**world.env, "UV_CACHE_DIR": str(world.root / "uv"), "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run(words, env=env, capture_output=True, check=False, cwd="/")


def _alive(world: World) -> bool:
    return os.access(world.prefix / "bin/python", os.X_OK)


def _remove(world: World, pattern: str) -> None:
    for folder in world.prefix.glob("lib/python3.*/site-packages"):
        for found in folder.glob(pattern):
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()


def _take_out(world: World, name: str) -> None:
    for folder in world.prefix.glob("lib/python3.*/site-packages"):
        for found in [*folder.glob(f"{name}-*.dist-info"), folder / f"{name}.py"]:
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)
    for record in (world.prefix / "conda-meta").glob(f"{name}-*.json"):
        record.unlink()


def _put(source: Path, target: Path) -> None:
    if source.is_dir():
        copy(source, target)
    else:
        shutil.copy2(source, target)


def _edit(path: Path, old: str, new: str, *, set_back: bool = False) -> None:
    """Edit in place."""
    if not path.is_file():
        return
    status = path.stat()
    text = path.read_text().replace(old, new)
    with path.open("r+") as stream:
        stream.write(text)
        stream.truncate()
    if set_back:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
