"""The uv backend where uv fails, is another's, or must be asked twice: how it is found, and what is made of its words."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import NotBegun, TaskFailed
from nbprovision.pip import uv_command
from nbprovision.pip.request import Move, Request
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


@pytest.fixture
def prefix(tmp_path: Path, env: dict[str, str]) -> Path:
    """A virtual environment; a folder of wheels, and nothing else, is where packages come from."""
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "apple", "1.0")
    for name in list(env):
        if name.startswith(("PIP_INDEX", "PIP_EXTRA", "UV_")):
            del env[name]
    env.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    made = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    return made


def request(prefix: Path, *lines: str) -> Request:
    return Request(prefix=prefix, python=prefix / "bin/python", lines=lines)


def versions(prefix: Path) -> dict[str, str]:
    return {name: one.version for name, (one, *_) in distributions.installed(prefix).items()}


def stand_in(machine: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """A uv of the user's on the PATH, where none came with the tool; ``$UV`` is the real one."""
    real = uv_command.find(machine)
    monkeypatch.setattr(uv_command, "_own", lambda: None)
    uv = folder / "bin/uv"
    uv.parent.mkdir()
    uv.write_text(f"#!/bin/sh\nUV={real}\n{script}\n")
    uv.chmod(0o755)
    machine.env["PATH"] = f"{uv.parent}:{machine.env['PATH']}"
    return uv


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left on any volume counts as little."""
    monkeypatch.setattr(uv_command, "_PLENTY", 1 << 80)


def test_a_uv_on_the_path_does_where_none_came_with_the_tool(
    prefix: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = stand_in(machine, tmp_path, monkeypatch, 'exec "$UV" "$@"')
    assert uv_command.find(machine) == uv
    assert uv_command.perform(machine, request(prefix, "apple")) == [Move("apple", None, "1.0")]


def test_without_any_uv_it_is_said_what_to_do(
    prefix: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uv_command, "_own", lambda: None)
    machine.env["PATH"] = str(tmp_path / "nothing")
    with pytest.raises(TaskFailed, match="uv is missing") as caught:
        uv_command.uninstall(machine, prefix, ["apple"])
    assert caught.value.cure == "install uv, or use pip"


@pytest.mark.usefixtures("little_room")
def test_where_there_is_little_room_the_work_is_rehearsed_and_then_done(prefix: Path, machine: Machine) -> None:
    assert uv_command.perform(machine, request(prefix, "apple")) == [Move("apple", None, "1.0")]
    assert uv_command.perform(machine, request(prefix, "apple")) == []
    assert versions(prefix) == {"apple": "1.0"}
    assert sorted(path.name for path in prefix.parent.iterdir()) == ["home", "nbprovision", "root", "venv", "wheels"]


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("form", ["NAME @ URL", "PATH"])
@pytest.mark.parametrize("cached", [False, True])
def test_no_index_is_asked_for_what_comes_from_a_file(
    form: str, cached: bool, prefix: Path, machine: Machine, tmp_path: Path
) -> None:
    """Without a network that would take the run's patience, and an index may have another package of that name."""
    wheel = make_wheel(tmp_path / "elsewhere", "plum", "2.0")
    line = form.replace("NAME", "plum").replace("URL", wheel.as_uri()).replace("PATH", str(wheel))
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.setblocking(False)
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
            machine.env.pop(name, None)
        machine.env["PIP_INDEX_URL"] = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        machine.env["NBPROVISION_NETWORK_TIMEOUT"] = machine.env["UV_HTTP_TIMEOUT"] = "1"
        machine.env["NBPROVISION_NETWORK_PATIENCE"] = machine.env["UV_HTTP_RETRIES"] = "0"
        if cached:
            uv_command.perform(machine, request(prefix, line))
            uv_command.uninstall(machine, prefix, ["plum"])
        uv_command.perform(machine, request(prefix, line))
        with pytest.raises(BlockingIOError):  # nobody has connected
            index.accept()
    assert versions(prefix) == {"plum": "2.0"}


def test_what_an_install_would_bring_is_told_apart() -> None:
    said = """\
Would download 2 packages
 - apple==1.0
 + apple==2.0
 + plum @ file:///a%20b/plum-2.0-py3-none-any.whl
 ~ fig==1.0 (from file:///fig-1.0-py3-none-any.whl#sha256=ab)
 + pear==1.0 (from https://u:****@host/pear-1.0-py3-none-any.whl)
"""
    assert uv_command._incoming(said) == (
        ["apple==2.0"],
        ["plum @ file:///a%20b/plum-2.0-py3-none-any.whl", "fig @ file:///fig-1.0-py3-none-any.whl#sha256=ab"],
        1,
    )
    assert uv_command._incoming("") == ([], [], 0)


@pytest.mark.usefixtures("little_room")
def test_a_rehearsal_that_fills_the_disk_is_no_beginning(
    prefix: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = 'case "$*" in *--target*) echo "error: No space left on device (os error 28)" >&2; exit 2;; esac\n'
    stand_in(machine, tmp_path, monkeypatch, full + 'exec "$UV" "$@"')
    with pytest.raises(NotBegun, match="cannot install the requested packages") as caught:
        uv_command.perform(machine, request(prefix, "apple"))
    assert "the disk is full" in caught.value.cause
    assert versions(prefix) == {}


@pytest.mark.usefixtures("little_room")
def test_a_rehearsal_that_fails_for_another_reason_keeps_nothing_from_being_done(
    prefix: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = 'case "$*" in *--target*) echo "error: no such thing" >&2; exit 2;; esac\n'
    stand_in(machine, tmp_path, monkeypatch, odd + 'exec "$UV" "$@"')
    uv_command.perform(machine, request(prefix, "apple"))
    assert versions(prefix) == {"apple": "1.0"}


def test_how_long_uv_waits_is_the_users_to_say(
    prefix: Path, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(machine, tmp_path, monkeypatch, 'echo "waits $UV_HTTP_TIMEOUT, again $UV_HTTP_RETRIES" >&2; exit 2')
    machine.env["UV_HTTP_TIMEOUT"], machine.env["UV_HTTP_RETRIES"] = "7", "9"
    with pytest.raises(TaskFailed) as caught:
        uv_command.perform(machine, request(prefix, "apple"))
    assert "waits 7, again 9" in caught.value.cause


def test_what_cannot_be_uninstalled_is_told_in_uvs_words(prefix: Path, machine: Machine) -> None:
    with pytest.raises(TaskFailed, match=f"cannot uninstall from {prefix}") as caught:
        uv_command.uninstall(machine, prefix, ["apple"], python=prefix / "bin/python9")
    assert "python9" in caught.value.cause


def test_a_cache_that_cannot_be_cleaned_is_told_in_uvs_words(prefix: Path, machine: Machine, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("a file\n")
    machine.env["UV_CACHE_DIR"] = str(cache)
    with pytest.raises(TaskFailed, match="cannot remove damaged packages from uv's cache") as caught:
        uv_command.evict(machine, ["apple"], prefix)
    assert str(cache) in caught.value.cause
