"""An environment that begins as a copy of another, offline: of the platform's, on the volume."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nbprovision.conda import clone, health
from nbprovision.conda.ensure_conda_env import EnsureCondaEnv
from nbprovision.conda.records import all_details
from nbprovision.machine import distributions, image
from nbprovision.machine.environments import installed
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import ParameterError, TaskFailed, UnknownEnvironment
from nbprovision.pip import engine, requirements_files
from tests.conftest import Channel
from tests.support.conda_packages import PLACEHOLDER, TinyChannel
from tests.support.driver import converge, planned
from tests.support.provided_conda import Instance
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


@pytest.fixture
def tiny(tmp_path: Path) -> TinyChannel:
    made = TinyChannel(tmp_path / "tiny")
    made.add("core", "1.0", files={"bin/core": f"#!{PLACEHOLDER}/bin/sh\n", "share/core.txt": "core\n"})
    made.add("lib", "1.0", depends=["core"])
    made.add("more", "1.0", depends=["core"])
    return made


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path, tiny: TinyChannel) -> Instance:
    made = Instance(env, tmp_path / "root")
    made.provide("python3", tiny.url, "lib")
    shutil.rmtree(made.machine.cache)  # images keep none
    return made


CLONE = """
    - tasks:
        - ensure_conda_env: {name: mine, clone: python3, channels: ['file:///nowhere/at/all']}
    """


def test_a_copy_needs_no_channel_and_no_cache(instance: Instance) -> None:
    before = image.content(instance.prefix("python3"))
    [planned_only] = instance.run(CLONE, check=True)
    create = planned_only.changes[0]
    assert (create.action, create.target, create.after) == ("create", "mine", f"a copy of {instance.prefix('python3')}")
    [result] = instance.run(CLONE)
    prefix = instance.root / "home/ec2-user/SageMaker/envs/mine"
    assert result.status == "changed", result.error
    assert image.content(prefix) == before == image.content(instance.prefix("python3"))
    assert (prefix / "bin/core").read_text() == f"#!{prefix}/bin/sh\n"
    assert os.access(prefix / "bin/core", os.X_OK) == os.access(instance.prefix("python3") / "bin/core", os.X_OK)
    assert not os.path.samefile(prefix / "share/core.txt", instance.prefix("python3") / "share/core.txt")
    assert "+" in (prefix / "conda-meta/history").read_text()
    assert [(one.status, one.proof) for one in instance.run(CLONE)] == [("ok", "witness")]
    assert [one.status for one in instance.run(CLONE, deep=True, witness=False)] == ["ok"]


def test_more_than_the_copy(instance: Instance, tiny: TinyChannel) -> None:
    playbook = CLONE.replace("file:///nowhere/at/all", tiny.url).replace("clone:", "packages: [more], clone:")
    [result] = instance.run(playbook)
    assert [(one.action, one.target) for one in result.changes][:2] == [("create", "mine"), ("install", "more")]
    prefix = instance.root / "home/ec2-user/SageMaker/envs/mine"
    assert {record.name for record in installed(prefix)} == {"core", "lib", "more"}
    assert health.requested(all_details(installed(prefix))).keys() == {"lib", "more"}
    assert [one.status for one in instance.run(playbook, witness=False)] == ["ok"]


def test_a_copy_that_was_cut_off_is_finished(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    put_records = clone._Copy._put_records
    monkeypatch.setattr(clone._Copy, "_put_records", lambda *args: (_ for _ in ()).throw(OSError(28, "full")))
    assert "cannot copy" in str(instance.run(CLONE)[0].error)
    monkeypatch.setattr(clone._Copy, "_put_records", put_records)
    [result] = instance.run(CLONE)
    assert result.status == "changed"
    prefix = instance.root / "home/ec2-user/SageMaker/envs/mine"
    assert image.content(prefix) == image.content(instance.prefix("python3"))


def test_no_room(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone, "_RESERVE", 10**18)
    [result] = instance.run(CLONE)
    assert "not enough space for a copy of python3" in str(result.error)
    assert not (instance.root / "home/ec2-user/SageMaker/envs/mine/conda-meta").exists()


def test_one_of_the_same_playbook(instance: Instance, tiny: TinyChannel) -> None:
    results = instance.run(f"""
        - tasks:
            - ensure_conda_env: {{name: first, packages: [core], channels: ['{tiny.url}']}}
            - ensure_conda_env: {{name: second, clone: first}}
        """)
    assert [one.status for one in results] == ["changed", "changed"]


def test_words_that_make_no_sense(instance: Instance) -> None:
    with pytest.raises(ParameterError):
        EnsureCondaEnv(name="x", clone="y", state="absent")
    with pytest.raises(ParameterError, match="cannot begin as a copy of itself"):
        EnsureCondaEnv(prefix="/some/where", clone="/some/where").requires(instance.machine)
    with pytest.raises(TaskFailed, match="is not a conda environment to copy"):
        planned(EnsureCondaEnv(name="x", clone="/nowhere/at/all"), instance.machine)
    with pytest.raises(
        UnknownEnvironment, match=r"there is no environment 'python4'; did you mean 'python3'"
    ) as caught:
        instance.run(CLONE.replace("python3", "python4"))
    assert "mine" not in caught.value.cause, "the copy is not there to be copied"


class TestStrings:
    """Within a binary a prefix takes the place of another one, and everything behind it stays where it was."""

    @pytest.fixture
    def copy(self, machine: Machine, tmp_path: Path) -> clone._Copy:
        (tmp_path / "old/conda-meta").mkdir(parents=True)
        return clone._Copy(machine, tmp_path / "old", tmp_path / "longer/than/old")

    def test_length_and_place(self, copy: clone._Copy, tmp_path: Path) -> None:
        old, new = os.fsencode(tmp_path / "old"), os.fsencode(tmp_path / "longer/than/old")
        content = b"\x7fELF\0" + old + b"/lib:" + old + b"/bin" + b"\0" * 400 + b"END" + old + b"er\0"
        entry = {"prefix_placeholder": "x" * 250}
        found = copy._renamed_in_binary(content, "lib.so", entry)
        assert len(found) == len(content)
        assert found.startswith(b"\x7fELF\0" + new + b"/lib:" + new + b"/bin\0")
        assert found.endswith(b"END" + old + b"er\0")

    def test_too_long(self, copy: clone._Copy, tmp_path: Path) -> None:
        with pytest.raises(TaskFailed, match="is too long for a copy of"):
            copy._renamed_in_binary(os.fsencode(tmp_path / "old") + b"\0" * 900, "x", {"prefix_placeholder": "short"})


def test_a_copy_of_a_real_python_runs(machine: Machine, channel: Channel, tmp_path: Path) -> None:
    """With what pip installed there: its scripts run the copy's own Python, and its RECORD is true."""
    first = EnsureCondaEnv(name="first", packages=["python", "pip"], channels=[channel.url])
    converge(first, machine)
    source = machine.prefix_of("first")
    entry_points = "[console_scripts]\ngreet = greeter:main\n"
    files = {"greeter.py": GREETER, "greeter-1.0.dist-info/entry_points.txt": entry_points}
    wheel = make_wheel(tmp_path, "greeter", "1.0", files=files)
    engine.install(machine, source, requirements_files.read([str(wheel)], (), (), {}))
    converge(EnsureCondaEnv(name="second", clone="first"), machine)
    prefix = machine.prefix_of("second")
    said = subprocess.run([prefix / "bin/greet"], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(prefix), "2"]
    (greeter,) = distributions.installed(prefix)["greeter"]
    assert greeter.files_missing(digests=machine.digests) == []
    records = installed(prefix)
    assert [health.broken_file(prefix, one, digests=machine.digests, records=records) for one in records] == [
        None
    ] * len(records)
    for record in records:
        for entry in json.loads(record.path.read_text())["paths_data"]["paths"]:
            if entry.get("sha256_in_prefix") and entry["path_type"] == "hardlink":
                content = (prefix / entry["_path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == entry["sha256_in_prefix"], entry["_path"]
                assert os.fsencode(source) + b"/" not in content


GREETER = """
import sys
def main():
    print(sys.prefix, 1 + 1)
"""
