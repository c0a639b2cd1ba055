"""``deep``: what is in the files counts, also where the packages' caches and other environments share the harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.machine import digests as file_digests
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import TaskFailed
from nbprovision.pip.ensure_pip_pkg import EnsurePipPkg
from tests.reliability.world import make_wheels, site_packages
from tests.support.conda_packages import TinyChannel
from tests.support.driver import converge, planned

pytestmark = pytest.mark.engine


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    channel = TinyChannel(tmp_path / "tiny")
    channel.add("alpha", "1.0")
    channel.add("beta", "1.0")
    return channel


def env_of(channel: TinyChannel, name: str, *, deep: bool = False) -> EnsureCondaEnv:
    return EnsureCondaEnv(name=name, packages=["alpha", "beta"], channels=[channel.url], deep=deep)


def edit_in_place(path: Path, old: str, new: str) -> None:
    """The same inode, the same size, the same time of the content."""
    before = path.stat()
    text = path.read_text()
    assert len(old) == len(new)
    assert old in text
    with open(path, "r+") as stream:
        stream.write(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class TestConda:
    def test_an_edit_of_equal_size_is_found_and_mended(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "x"), machine)
        file = machine.home / "envs/x/share/alpha.txt"
        edit_in_place(file, "1.0", "6.6")
        assert planned(env_of(tiny, "x"), machine) == ()
        (change,) = converge(env_of(tiny, "x", deep=True), machine)
        assert (change.action, change.target) == ("repair", "alpha")
        assert change.before == "share/alpha.txt has another content"
        assert file.read_text() == "alpha 1.0\n"

    def test_every_environment_that_shares_the_file_is_mended(self, machine: Machine, tiny: TinyChannel) -> None:
        for name in ("x", "y", "z"):
            converge(env_of(tiny, name), machine)
        files = [machine.home / "envs" / name / "share/alpha.txt" for name in ("x", "y", "z")]
        cached = machine.cache / "pkgs/alpha-1.0-0/share/alpha.txt"
        assert len({file.stat().st_ino for file in [*files, cached]}) == 1, "they share it"
        edit_in_place(files[0], "1.0", "6.6")
        changes = converge(env_of(tiny, "x", deep=True), machine)
        assert {change.target for change in changes} == {"alpha", str(files[1]), str(files[2])}
        assert [file.read_text() for file in [*files, cached]] == ["alpha 1.0\n"] * 4
        assert planned(env_of(tiny, "y", deep=True), machine) == ()

    def test_offline_it_says_what_cannot_be_had(
        self, machine: Machine, tiny: TinyChannel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        converge(env_of(tiny, "x"), machine)
        edit_in_place(machine.home / "envs/x/share/alpha.txt", "1.0", "6.6")
        shutil.move(tiny.path, tiny.path.with_name("away"))
        with pytest.raises(TaskFailed, match=r"alpha|tiny") as failed:
            converge(env_of(tiny, "x", deep=True), machine)
        assert str(tiny.path) in failed.value.text
        assert [record.name for record in installed(machine.home / "envs/x")] == ["alpha", "beta"]
        shutil.move(tiny.path.with_name("away"), tiny.path)
        converge(env_of(tiny, "x", deep=True), machine)

    def test_what_two_packages_bring_may_be_any_ones(self, machine: Machine, tiny: TinyChannel) -> None:
        converge(env_of(tiny, "x"), machine)
        alpha, beta = (record.path for record in installed(machine.home / "envs/x"))
        content = json.loads(beta.read_text())
        (entry,) = json.loads(alpha.read_text())["paths_data"]["paths"]
        content["paths_data"]["paths"].append({**entry, "sha256": "0" * 64, "sha256_in_prefix": None})
        beta.write_text(json.dumps(content))
        assert planned(env_of(tiny, "x", deep=True), machine) == (), "alpha's won"
        edit_in_place(machine.home / "envs/x/share/alpha.txt", "1.0", "6.6")
        assert planned(env_of(tiny, "x", deep=True), machine) != ()


class TestPip:
    @pytest.fixture
    def there(self, machine: Machine, tmp_path: Path) -> list[Path]:
        """Two environments with apple, which share its files with uv's cache."""
        make_wheels(tmp_path / "wheels")
        machine.env.update({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")})
        prefixes = [machine.home / "envs" / name for name in ("one", "two")]
        for prefix in prefixes:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
            (prefix / "conda-meta").mkdir()
            machine.forget()
            converge(EnsurePipPkg(env=str(prefix), packages=["apple==1.0"]), machine)
        return prefixes

    def test_uvs_cache_does_not_bring_the_harm_back(self, machine: Machine, there: list[Path]) -> None:
        files = [site_packages(prefix) / "apple.py" for prefix in there]
        text = files[0].read_text()
        assert files[0].samefile(files[1]), "they share it"
        edit_in_place(files[0], "1.0", "6.6")
        task = EnsurePipPkg(env=str(there[0]), packages=["apple==1.0"], deep=True)
        (change,) = converge(task, machine)
        assert (change.action, change.target) == ("reinstall", "apple")
        assert [file.read_text() for file in files] == [text, text]

    def test_offline_it_says_what_cannot_be_had(self, machine: Machine, there: list[Path], tmp_path: Path) -> None:
        edit_in_place(site_packages(there[0]) / "apple.py", "1.0", "6.6")
        shutil.move(tmp_path / "wheels", tmp_path / "away")
        task = EnsurePipPkg(env=str(there[0]), packages=["apple==1.0"], deep=True)
        with pytest.raises(TaskFailed, match=r"apple|wheels"):
            converge(task, machine)
        assert (site_packages(there[0]) / "apple.py").exists(), "harmed, but still there"
        shutil.move(tmp_path / "away", tmp_path / "wheels")
        converge(task, machine)


class TestDigests:
    def test_a_file_is_read_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "file"
        file.write_text("content")
        read: list[object] = []
        whole = file_digests.digest_of
        monkeypatch.setattr(file_digests, "digest_of", lambda path: read.append(path) or whole(path))
        monkeypatch.setattr(file_digests, "_SETTLED_NS", 0)
        digests = file_digests.Digests(tmp_path / "kept")
        first = digests.of(file, file.stat())
        digests.save()
        again = file_digests.Digests(tmp_path / "kept")
        assert again.of(file, file.stat()) == first
        assert len(read) == 1
        edit_in_place(file, "con", "kon")
        assert again.of(file, file.stat()) != first

    def test_what_changed_just_now_is_not_remembered(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_text("content")
        digests = file_digests.Digests(tmp_path / "kept")
        digests.of(file, file.stat())
        digests.save()
        assert not (tmp_path / "kept").exists()

    @pytest.mark.parametrize("content", [b"", b"garbage", b"\x81\xa1a\x01"])
    def test_garbage_is_no_harm(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "kept").write_bytes(content)
        file = tmp_path / "file"
        file.write_text("content")
        assert len(file_digests.Digests(tmp_path / "kept").of(file, file.stat())) == 64


def test_a_deep_result_is_not_left_to_witnesses(machine: Machine, tiny: TinyChannel) -> None:
    task = env_of(tiny, "x", deep=True)
    assert task.holds_for(machine) == 0
    assert env_of(tiny, "x").holds_for(machine) is None
    daily = EnsureCondaEnv(name="x", packages=["alpha"], deep=True, refresh_every="1d")
    assert daily.holds_for(machine) == 86400
