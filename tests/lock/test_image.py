"""Environments that the platform's image brings: only additions are locked, around what the image has."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from nbprovision.catalogue import Catalogue
from nbprovision.conda.ensure_conda_pkg import EnsureCondaPkg
from nbprovision.lock import folder, locked_run, pylock, requests
from nbprovision.lock.folder import Lock
from nbprovision.lock.make import Upgrade, make
from nbprovision.lock.requests import EnvironmentRequest
from nbprovision.machine import image
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import conda_subdir
from nbprovision.model.errors import InvalidPlaybook, TaskFailed, UnknownEnvironment
from tests.support import provided_conda
from tests.support.conda_packages import TinyChannel
from tests.support.driver import planned
from tests.support.provided import Instance
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine


class Repository:
    """A team's playbook, and the lock beside it."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.playbook = path / "team.yml"
        self.folder = path / "team.lock"

    def write(self, tasks: str) -> None:
        self.playbook.write_text(f"- tasks:\n{textwrap.indent(textwrap.dedent(tasks).strip(), '    ')}\n")

    def collected(self, machine: Machine, images: tuple[str, ...] = ()) -> list[EnvironmentRequest]:
        return requests.collect(self.playbook, machine, Catalogue(), {}, images=images)

    def locked(self, machine: Machine, *platforms: str) -> Lock:
        wanted = self.collected(machine)
        made = make(machine, wanted, self.folder, platforms or (conda_subdir(),), upgrade=Upgrade())
        folder.replace(self.folder, made.files)
        return folder.read(self.folder, home=machine.user_home)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def packages(lock: Lock, name: str) -> dict[str, str]:
    path = lock.environments[name].pylock
    return {} if path is None else {entry["name"]: entry["version"] for entry in pylock.read(path)["packages"]}


class TestPip:
    @pytest.fixture
    def instance(self, tmp_path: Path, env: dict[str, str]) -> Instance:
        instance = Instance(tmp_path / "machine", {**env, "PIP_CONFIG_FILE": "/dev/null"})
        instance.provide("python3", ("beta", "1.0"), ("gamma", "1.0"))
        make_wheel(instance.wheels, "pear", "1.0", requires=["beta>=1"])
        make_wheel(instance.wheels, "fig", "1.0", requires=["beta>=2"])
        for version in ("1.0", "2.0"):
            make_wheel(instance.wheels, "beta", version)
        return instance

    def test_only_what_is_added_is_locked(self, repository: Repository, instance: Instance) -> None:
        repository.write("- ensure_pip_pkg: {env: python3, packages: [pear]}")
        lock = repository.locked(instance.machine())
        assert packages(lock, "python3") == {"pear": "1.0"}
        origin = lock.environments["python3"].origin
        assert origin.kind == "image"
        assert origin.platforms == (conda_subdir(),)
        assert origin.image is not None
        assert lock.stale(repository.collected(instance.machine())) == []

    def test_an_install_does_not_become_part_of_the_image(self, repository: Repository, instance: Instance) -> None:
        """The baseline of the boot counts, not what a run has installed since."""
        repository.write("- ensure_pip_pkg: {env: python3, packages: [pear]}")
        image.record_baselines(instance.machine())
        instance.bring(instance.anaconda / "envs/python3", "pear", "1.0")
        lock = repository.locked(instance.machine())
        assert packages(lock, "python3") == {"pear": "1.0"}

    def test_a_change_of_the_image_is_refused_or_permitted(self, repository: Repository, instance: Instance) -> None:
        repository.write("- ensure_pip_pkg: {env: python3, packages: [fig]}")
        with pytest.raises(TaskFailed) as caught:
            repository.locked(instance.machine())
        assert "the image brings beta 1.0" in caught.value.cause
        assert "allow_platform_changes" in caught.value.cure
        repository.write("- ensure_pip_pkg: {env: python3, packages: [fig, beta>=2], allow_platform_changes: true}")
        assert packages(repository.locked(instance.machine()), "python3") == {"beta": "2.0", "fig": "1.0"}

    def test_another_image_is_mentioned(
        self, repository: Repository, instance: Instance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository.write("- ensure_pip_pkg: {env: python3, packages: [pear]}")
        lock = repository.locked(instance.machine())
        monkeypatch.setattr(image, "_sight", lambda prefix: "another boot")
        instance.bring(instance.anaconda / "envs/python3", "delta", "1.0")
        wanted = repository.collected(instance.machine())
        assert (lock.stale(wanted), lock.moved(wanted)) == ([], ["python3"])

    def test_a_machine_without_the_image_checks_but_cannot_lock(
        self, repository: Repository, instance: Instance, env: dict[str, str], tmp_path: Path
    ) -> None:
        repository.write("- ensure_pip_pkg: {env: python3, packages: [pear]}")
        lock = repository.locked(instance.machine())
        laptop = {**instance.env, "HOME": str(tmp_path / "laptop")}
        with pytest.raises(UnknownEnvironment) as unknown:
            repository.collected(Machine(laptop, root=tmp_path / "laptop"))
        assert "lock on a machine that has it" in unknown.value.cure
        assert unknown.value.position is not None
        wanted = repository.collected(Machine(laptop, root=tmp_path / "laptop"), tuple(lock.images))
        assert lock.stale(wanted) == []
        with pytest.raises(TaskFailed, match="python3 cannot be locked on this machine"):
            make(Machine(laptop, root=tmp_path / "laptop"), wanted, repository.folder, ["linux-64"], upgrade=Upgrade())

    def test_an_environment_that_nobody_makes_is_refused(self, repository: Repository, instance: Instance) -> None:
        by_hand = instance.volume / "envs/mine"
        (by_hand / "conda-meta").mkdir(parents=True)
        repository.write("- ensure_pip_pkg: {env: mine, packages: [pear]}")
        with pytest.raises(InvalidPlaybook, match="mine cannot be locked") as caught:
            repository.collected(instance.machine())
        assert caught.value.cure == "create it by ensure_conda_env or ensure_venv"


class TestConda:
    @pytest.fixture
    def channel(self, tmp_path: Path) -> TinyChannel:
        channel = TinyChannel(tmp_path / "tiny")
        for version in ("1.0", "2.0"):
            channel.add("alpha", version)
        channel.add("beta", "1.0", depends=["alpha"])
        channel.add("gamma", "1.0", depends=["alpha >=2"])
        return channel

    @pytest.fixture
    def instance(self, tmp_path: Path, env: dict[str, str], channel: TinyChannel) -> provided_conda.Instance:
        instance = provided_conda.Instance(env, tmp_path / "machine")
        instance.provide("python3", channel.url, "alpha=1.0")
        return instance

    def test_packages_are_added_around_those_of_the_image(
        self, repository: Repository, instance: provided_conda.Instance, channel: TinyChannel
    ) -> None:
        repository.write(f"- ensure_conda_pkg: {{env: python3, packages: [beta], channels: ['{channel.url}']}}")
        lock = repository.locked(instance.machine)
        assert [entry.name for entry in lock.environments["python3"].conda[conda_subdir()]] == ["beta"]
        repository.write(f"- ensure_conda_pkg: {{env: python3, packages: [gamma], channels: ['{channel.url}']}}")
        with pytest.raises(TaskFailed, match=f"python3 for {conda_subdir()}: the requested packages are incompatible"):
            repository.locked(instance.machine)

    def test_a_copy_has_the_images_packages_and_the_locked_ones(
        self, repository: Repository, instance: provided_conda.Instance, channel: TinyChannel
    ) -> None:
        repository.write(
            f"- ensure_conda_env: {{name: copy, clone: python3, packages: [beta], channels: ['{channel.url}']}}"
        )
        lock = repository.locked(instance.machine)
        assert [entry.name for entry in lock.environments["copy"].conda[conda_subdir()]] == ["beta"]
        assert lock.environments["copy"].origin.image is not None

    def test_a_copy_of_an_environment_of_the_playbook_has_its_packages(
        self, repository: Repository, instance: provided_conda.Instance, channel: TinyChannel
    ) -> None:
        repository.write(f"""
            - ensure_conda_env: {{name: first, packages: [beta], channels: ['{channel.url}']}}
            - ensure_conda_env: {{name: second, clone: first, packages: [gamma], channels: ['{channel.url}']}}
        """)
        lock = repository.locked(instance.machine, "linux-64", "linux-aarch64")
        names = {
            name: [package.name for package in entry.conda["linux-64"]] for name, entry in lock.environments.items()
        }
        assert names == {"first": ["alpha", "beta"], "second": ["alpha", "beta", "gamma"]}

    def test_what_the_image_has_already_needs_no_package(
        self, repository: Repository, instance: provided_conda.Instance, channel: TinyChannel
    ) -> None:
        repository.write(f"- ensure_conda_pkg: {{env: python3, packages: [alpha], channels: ['{channel.url}']}}")
        lock = repository.locked(instance.machine)
        assert lock.environments["python3"].conda == {}
        run = locked_run.locked(repository.playbook, instance.machine, Catalogue(), {}, frozen=False)
        machine = instance.machine
        machine.locked = run.environments
        task = EnsureCondaPkg(env="python3", packages=["alpha"], channels=[channel.url])
        assert planned(task, machine) == ()
