"""The guard on what the platform's image brought, for pip tasks: real uv and real pip in environments of an instance."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nbprovision.machine import distributions, image
from tests.support.provided import Instance, content, versions
from tests.support.wheels import make_wheel

pytestmark = [pytest.mark.engine, pytest.mark.sampled(2)]

ENGINES = pytest.mark.parametrize("engine", ["uv", "pip"])
BROUGHT = {"apple": "1.0", "grape": "1.0"}


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    """The image brought apple 1.0, which no index has, and grape, which needs it."""
    made = Instance(tmp_path, env)
    for name in ("python3", "JupyterSystemEnv"):
        prefix = made.provide(name, ("apple", "1.0"))
        made.bring(prefix, "grape", "1.0", requires=("apple<2",))
    for version in ("1.5", "2.0"):
        make_wheel(made.wheels, "apple", version)
    make_wheel(made.wheels, "grape", "2.0", requires=["apple>=2"])
    make_wheel(made.wheels, "pear", "1.0", requires=["apple<2", "plum"])
    make_wheel(made.wheels, "pear", "2.0", requires=["apple>=2"])
    make_wheel(made.wheels, "plum", "1.0")
    make_wheel(made.wheels, "melon", "1.0", requires=["apple>=1.5"])
    return made


@pytest.fixture
def prefix(instance: Instance) -> Path:
    return instance.anaconda / "envs/python3"


def task(packages: str, engine: str, more: str = "", env: str = "python3") -> str:
    return f"- ensure_pip_pkg: {{packages: [{packages}], env: {env}, engine: {engine}{more}}}"


@ENGINES
def test_what_can_be_had_without_moving_the_image_is_had_so(instance: Instance, prefix: Path, engine: str) -> None:
    """The newest pear wants another apple; an older one does not."""
    assert instance.good(task("pear", engine)) == ["changed"]
    assert versions(prefix) == {**BROUGHT, "pear": "1.0", "plum": "1.0"}
    assert instance.good(task("pear", engine)) == ["ok"]


@ENGINES
def test_a_pin_exists_and_installs_when_it_is_pasted(instance: Instance, prefix: Path, engine: str) -> None:
    before = content(prefix)
    error = instance.bad(task('"pear>=2", plum', engine))
    assert "what the platform provides in python3" in error.message
    assert error.cause == "apple 1.0 -> 2.0 (for pear>=2; needed by grape)"
    assert "allow_platform_changes: true" in error.cure
    assert content(prefix) == before
    pin = re.search(r"`(pear==[^`]*)`", error.cure)
    assert pin is not None, error.cure
    assert instance.good(task(f'"{pin[1]}", plum', engine)) == ["changed"]
    assert versions(prefix) == {**BROUGHT, "pear": "1.0", "plum": "1.0"}


@ENGINES
def test_there_is_no_pin(instance: Instance, prefix: Path, engine: str) -> None:
    before = content(prefix)
    error = instance.bad(task('"melon>=1"', engine))
    assert "apple 1.0 -> 2.0" in error.cause
    assert "changes none of these" not in error.cure
    assert error.cure.startswith("set `allow_platform_changes: true`")
    assert content(prefix) == before


@ENGINES
def test_with_permission_it_is_done_and_written_down(instance: Instance, prefix: Path, engine: str) -> None:
    tasks = task("melon", engine, ", allow_platform_changes: true")
    assert instance.good(tasks) == ["changed"]
    assert versions(prefix)["apple"] == "2.0"
    known = image.baseline_of(instance.machine(), prefix)
    assert known is not None
    assert [(one.name, one.before, one.after) for one in known.permitted] == [("apple", "1.0", "2.0")]
    assert instance.good(tasks) == ["ok"]
    # What was changed with permission is where the next install leaves it.
    assert instance.good(task("plum", engine)) == ["changed"]
    assert versions(prefix)["apple"] == "2.0"


@ENGINES
def test_with_permission_what_need_not_move_does_not(instance: Instance, prefix: Path, engine: str) -> None:
    assert instance.good(task("pear", engine, ", allow_platform_changes: true")) == ["changed"]
    assert versions(prefix) == {**BROUGHT, "pear": "1.0", "plum": "1.0"}


@ENGINES
def test_what_is_asked_for_is_the_images_own(instance: Instance, prefix: Path, engine: str) -> None:
    error = instance.bad(task("apple==1.5", engine))
    assert "apple 1.0 -> 1.5 (for apple==1.5; needed by grape)" in error.cause
    assert "`apple==1.0`" in error.cure
    assert versions(prefix) == BROUGHT
    assert instance.good(task("apple==1.0", engine)) == ["ok"]


@ENGINES
def test_the_images_own_from_somewhere_else(instance: Instance, prefix: Path, engine: str) -> None:
    wheel = make_wheel(instance.playbook.parent / "mine", "apple", "1.0")
    error = instance.bad(task(str(wheel), engine))
    assert "apple 1.0 ->" in error.cause
    assert versions(prefix) == BROUGHT


@ENGINES
def test_latest_moves_only_what_the_image_did_not_bring(instance: Instance, prefix: Path, engine: str) -> None:
    make_wheel(instance.wheels, "plum", "0.9")
    instance.good(task("plum==0.9", engine))
    assert instance.good(task("plum, apple, grape", engine, ", state: latest")) == ["changed"]
    assert versions(prefix) == {**BROUGHT, "plum": "1.0"}
    results = instance.run(task("plum, apple, grape", engine, ", state: latest"), witness=False)
    assert [result.status for result in results] == ["ok"]


@ENGINES
def test_what_the_image_brought_is_not_uninstalled(instance: Instance, prefix: Path, engine: str) -> None:
    instance.good(task("plum", engine))
    error = instance.bad(task("plum, apple", engine, ", state: absent"))
    assert "apple 1.0 -> removed (needed by grape)" in error.cause
    assert "plum" not in error.cause
    assert versions(prefix) == {**BROUGHT, "plum": "1.0"}
    assert instance.good(task("plum", engine, ", state: absent")) == ["changed"]
    assert instance.good(task("grape", engine, ", state: absent, allow_platform_changes: true")) == ["changed"]
    known = image.baseline_of(instance.machine(), prefix)
    assert known is not None
    assert [(one.name, one.after) for one in known.permitted] == [("grape", None)]


@ENGINES
def test_a_requirements_file_with_hashes(instance: Instance, prefix: Path, engine: str) -> None:
    import hashlib

    lines = []
    for name, version in (("pear", "2.0"), ("apple", "2.0")):
        data = (instance.wheels / f"{name}-{version}-py3-none-any.whl").read_bytes()
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n")
    path = instance.playbook.parent / "hashed.txt"
    path.write_text("".join(lines))
    tasks = f"- ensure_pip_pkg: {{requirements: {path}, env: python3, engine: {engine}}}"
    assert "apple 1.0 -> 2.0" in instance.bad(tasks).cause
    assert versions(prefix) == BROUGHT
    data = (instance.wheels / "plum-1.0-py3-none-any.whl").read_bytes()
    path.write_text(f"plum==1.0 --hash=sha256:{hashlib.sha256(data).hexdigest()}\n")
    assert instance.good(tasks) == ["changed"]
    assert versions(prefix) == {**BROUGHT, "plum": "1.0"}


def test_check_refuses_too(instance: Instance, prefix: Path) -> None:
    before = content(prefix)
    (result,) = instance.run(task("melon", "uv"), check=True)
    assert result.error is not None
    assert content(prefix) == before


def test_a_link_leads_to_the_same_guard(instance: Instance, prefix: Path) -> None:
    (instance.volume / "mine").symlink_to(prefix)
    instance.bring(instance.anaconda, "apple", "1.0")
    for where in (f"env: {instance.volume}/mine", f"python: {instance.volume}/mine/bin/python", "system: true"):
        error = instance.bad(f"- ensure_pip_pkg: {{packages: melon, {where}}}")
        assert "apple 1.0 -> 2.0" in error.cause
    assert versions(prefix) == BROUGHT


def test_an_environment_of_ones_own_is_not_guarded(instance: Instance, tmp_path: Path) -> None:
    from tests.support.provided import conda_environment

    own = conda_environment(instance.volume / "envs/own")
    instance.bring(own, "apple", "1.0")
    assert instance.good(task("melon", "uv", env="own")) == ["changed"]
    assert versions(own)["apple"] == "2.0"


def test_a_target_folder_leaves_the_environment_alone(instance: Instance, prefix: Path) -> None:
    folder = instance.volume / "packages"
    assert instance.good(task("melon", "uv", f", target: {folder}")) == ["changed"]
    assert "melon" in distributions.in_folder(folder)
    assert versions(prefix) == BROUGHT


def test_the_servers_environment_is_guarded_as_well(instance: Instance) -> None:
    server = instance.anaconda / "envs/JupyterSystemEnv"
    error = instance.bad(task("melon", "uv", ", jupyter_server: true", env="JupyterSystemEnv"))
    assert "apple 1.0 -> 2.0" in error.cause
    assert instance.good(task("plum", "uv", ", jupyter_server: true", env="JupyterSystemEnv")) == ["changed"]
    assert versions(server) == {**BROUGHT, "plum": "1.0"}


def test_debris_does_not_open_the_way(instance: Instance, prefix: Path) -> None:
    """With a distribution in the way of which nothing is left, no engine can say what it would do before that is gone."""
    site = distributions.site_packages(prefix)
    assert site is not None
    (site / "cherry-1.0.dist-info").mkdir()
    for engine in ("uv", "pip"):
        instance.bad(task("melon", engine))
        assert {name: versions(prefix)[name] for name in BROUGHT} == BROUGHT


def test_every_environment_of_all(instance: Instance, prefix: Path) -> None:
    other = instance.provide("pytorch", ("apple", "1.5"))
    assert instance.good("- ensure_pip_pkg: {packages: [pear], envs: all}") == ["changed"]
    assert versions(prefix)["apple"] == "1.0"
    assert versions(other) == {"apple": "1.5", "pear": "1.0", "plum": "1.0"}


def test_what_other_tasks_install_by_the_way_moves_nothing_either(instance: Instance, prefix: Path) -> None:
    """ipykernel, and the pip section of an environment file."""
    make_wheel(instance.wheels, "ipykernel", "7.0", requires=["apple>=2"])
    before = content(prefix / "lib")
    error = instance.bad("- ensure_kernel: {env: python3}")
    assert "apple" in error.cause
    instance.bring(prefix, "pip", "24.0")
    before = content(prefix / "lib")
    file = instance.playbook.with_name("environment.yml")
    file.write_text("dependencies:\n  - pip:\n    - pear>=2\n")
    error = instance.bad(f"- ensure_conda_env: {{prefix: '{prefix}', file: '{file}'}}")
    assert "apple" in error.cause
    assert content(prefix / "lib") == before
