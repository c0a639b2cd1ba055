"""A release is one archive of the same bytes for the same files."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbprovision import __version__
from nbprovision.catalogue import Catalogue
from nbprovision.cli.lint import assumed
from nbprovision.fleet import release
from nbprovision.fleet.release import HEAD_BYTES, Release, fleet_of, packed
from nbprovision.lifecycle.payload import Payload
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook

PLAYBOOK = """\
- vars_files: [more.yml]
  tasks:
    - ensure_file: {path: ~/motd, src: files/motd}
    - ensure_command: {argv: ["{{ playbook_dir }}/files/hello"], creates: ~/hello}
"""


def make(playbook: Path, machine: Machine) -> Release:
    there = assumed("notebook-instance", {"PATH": "/usr/bin:/bin"}, Path("/"))
    return release.make("fraud", playbook, there, lambda: machine, Catalogue())


def written(folder: Path) -> Path:
    (folder / "files").mkdir(parents=True)
    (folder / "files/motd").write_bytes(b"good\0morning")
    (folder / "files/hello").write_text("#!/bin/sh\ntouch ~/hello\n")
    (folder / "files/hello").chmod(0o755)
    (folder / "more.yml").write_text("a: 1\n")
    (folder / "team.yml").write_text(PLAYBOOK)
    return folder / "team.yml"


def test_it_has_the_playbook_and_all_that_it_names(tmp_path: Path, machine: Machine) -> None:
    made = make(written(tmp_path / "a"), machine)
    assert made.digest == hashlib.sha256(made.content).hexdigest()
    assert made.name == f"releases/{made.digest}/release.tar"
    with tarfile.open(fileobj=io.BytesIO(made.content)) as archive:
        members = archive.getmembers()
        head = archive.extractfile(members[0])
        assert head is not None
        assert head.read().decode() == f"format=1\nplaybook=team.yml\ntool={__version__}\nfleet=fraud\n"
    assert [(member.name, oct(member.mode)) for member in members] == [
        ("RELEASE", "0o644"),
        ("files/files/hello", "0o755"),
        ("files/files/motd", "0o644"),
        ("files/more.yml", "0o644"),
        ("files/team.yml", "0o644"),
    ]
    assert {(member.uid, member.gid, member.mtime, member.isreg()) for member in members} == {(0, 0, 0, True)}


def test_the_same_files_are_the_same_bytes(tmp_path: Path, machine: Machine) -> None:
    first = make(written(tmp_path / "a"), machine)
    shutil.copytree(tmp_path / "a", tmp_path / "b/c")
    (tmp_path / "b/c/other").write_text("not named by the playbook")
    second = make(tmp_path / "b/c/team.yml", machine)
    assert second.content == first.content
    (tmp_path / "b/c/more.yml").write_text("a: 2\n")
    assert make(tmp_path / "b/c/team.yml", machine).digest != first.digest


def test_a_playbook_that_a_run_would_refuse_is_refused(tmp_path: Path, machine: Machine) -> None:
    playbook = written(tmp_path / "a")
    playbook.write_text("- tasks:\n    - ensure_fil: {path: ~/x}\n")
    with pytest.raises(InvalidPlaybook, match="ensure_file") as caught:
        make(playbook, machine)
    assert caught.value.position is not None
    assert caught.value.position.line == 2


def test_a_missing_file_is_refused(tmp_path: Path, machine: Machine) -> None:
    playbook = written(tmp_path / "a")
    (tmp_path / "a/files/motd").unlink()
    with pytest.raises(InvalidPlaybook, match="motd"):
        make(playbook, machine)


def test_a_secret_is_refused(tmp_path: Path, machine: Machine) -> None:
    playbook = written(tmp_path / "a")
    secret = "ghp_" + "a1B2" * 9
    (tmp_path / "a/files/motd").write_text(f"token = {secret}\n")
    with pytest.raises(InvalidPlaybook) as caught:
        make(playbook, machine)
    assert "the release" in str(caught.value)
    assert secret not in str(caught.value)


LOCKED = """\
- tasks:
    - ensure_venv: {{path: ~/venv, packages: [pear]}}
"""


@pytest.mark.engine
def test_its_lock_goes_with_it(tmp_path: Path, machine: Machine, env: dict[str, str]) -> None:
    from nbprovision.conda.locking import PLATFORMS
    from nbprovision.lock import folder as lock_folder
    from nbprovision.lock import make as make_lock
    from nbprovision.lock import requests
    from nbprovision.lock.make import Upgrade
    from tests.support.file_server import serving_files
    from tests.support.locking import put_index
    from tests.support.wheels import make_wheel

    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "pear", "1.0")
    with serving_files() as server:
        server.content_type = "text/html"
        put_index(server, tmp_path / "wheels")
        playbook = tmp_path / "team.yml"
        playbook.write_text(LOCKED.format())
        env["PIP_INDEX_URL"] = env["UV_DEFAULT_INDEX"] = f"{server.url}/simple"

        def here() -> Machine:
            return Machine(env, root=machine.root)

        folder = lock_folder.folder_of(playbook)
        wanted = requests.collect(playbook, here(), Catalogue(), {})
        lock_folder.replace(folder, make_lock.make(here(), wanted, folder, list(PLATFORMS), upgrade=Upgrade()).files)
        there = assumed("notebook-instance", {"PATH": "/usr/bin:/bin"}, Path("/"))
        made = release.make("fraud", playbook, there, here, Catalogue())
        assert made.locked
        with tarfile.open(fileobj=io.BytesIO(made.content)) as archive:
            names = archive.getnames()
            head = archive.extractfile("RELEASE")
            assert head is not None
            assert "locked=1\n" in head.read().decode()
        assert "files/team.lock/index.json" in names
        playbook.write_text(LOCKED.format().replace("pear", "plum"))
        with pytest.raises(InvalidPlaybook, match="is stale"):
            release.make("fraud", playbook, there, here, Catalogue())


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_have_a_fleet_or_none(content: bytes) -> None:
    assert fleet_of(content) == ""


def test_the_first_bytes_name_the_fleet() -> None:
    content = packed("fraud", "team.yml", Payload({"team.yml": b"- tasks: []\n" * 1000}), {})
    assert fleet_of(content[:HEAD_BYTES]) == "fraud"
