"""Environments are found where conda finds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbprovision.machine.environments import CondaFacts, installed
from nbprovision.machine.machine import Machine
from nbprovision.machine.platform import Platform
from nbprovision.system import unfinished


def environment(prefix: Path) -> Path:
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/history").touch()
    return prefix


def facts(machine: Machine, **env: str) -> CondaFacts:
    return CondaFacts({**machine.env, **env}, machine.user_home, machine.home, machine.platform, machine.root)


def test_nothing_there(machine: Machine) -> None:
    assert machine.conda.environments() == []
    assert machine.conda.executable is None
    assert machine.conda.pkgs_dirs == []
    assert machine.conda.new_prefix("x") == machine.home / "envs/x"


def test_an_installation_and_its_environments(machine: Machine, home: Path, tmp_path: Path) -> None:
    base = environment(home / "miniforge3")
    (base / "bin").mkdir()
    (base / "bin/conda").touch(mode=0o755)
    one = environment(base / "envs/one")
    two = environment(home / ".conda/envs/two")
    own = environment(machine.home / "envs/own")
    outside = environment(tmp_path / "outside")
    (base / "envs/no-environment").mkdir()
    environment(base / "envs/.hidden")
    (home / ".conda/environments.txt").write_text(f"{outside}\n{one}\n/gone\nrelative\n")
    conda = facts(machine)
    assert {found.name: found.prefix for found in conda.environments()} == {
        "base": base, "one": one, "two": two, "own": own, "outside": outside,
    }  # fmt: skip
    assert conda.executable == base / "bin/conda"
    assert conda.envs_dirs == [base / "envs", home / ".conda/envs"]
    assert conda.pkgs_dirs == [base / "pkgs", home / ".conda/pkgs"]
    assert conda.new_prefix("x") == base / "envs/x"
    assert conda.prefix_of("base") == base


def test_of_two_with_one_name_the_first_counts(machine: Machine, tmp_path: Path) -> None:
    first, second = environment(tmp_path / "a/env"), environment(tmp_path / "b/env")
    conda = facts(machine, CONDA_ENVS_DIRS=f"{tmp_path}/a:{tmp_path}/b")
    assert conda.prefix_of("env") == first
    assert conda.names() == ["env"]
    assert [found.prefix for found in conda.environments()] == [first, second]
    assert conda.new_prefix("x") == tmp_path / "a/x"


def test_one_environment_by_two_paths_is_one(machine: Machine, tmp_path: Path) -> None:
    real = environment(tmp_path / "real/env")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    conda = facts(machine, CONDA_ENVS_DIRS=f"{tmp_path}/real:{tmp_path}/link")
    assert [found.prefix for found in conda.environments()] == [real]


def test_conda_by_variable_and_by_path(machine: Machine, tmp_path: Path) -> None:
    for name in ("named", "on-path"):
        base = environment(tmp_path / name)
        (base / "bin").mkdir()
        (base / "bin/conda").touch(mode=0o755)
    on_path = f"/usr/bin:{tmp_path}/on-path/bin"
    assert facts(machine, PATH=on_path).base == tmp_path / "on-path"
    both = facts(machine, PATH=on_path, CONDA_EXE=f"{tmp_path}/named/bin/conda")
    assert both.base == tmp_path / "named"
    assert both.names() == ["base", "on-path"]


def test_a_notebook_instance(env: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc/opt/ml").mkdir(parents=True)
    (root / "etc/opt/ml/sagemaker-notebook-instance-config.json").touch()
    volume = root / "home/ec2-user/SageMaker"
    anaconda = environment(root / "home/ec2-user/anaconda3")
    environment(anaconda / "envs/python3")
    made_here = environment(anaconda / "envs/mine")
    (made_here / "conda-meta/nbprovision").touch()
    environment(volume / "envs/fraud")
    conda = Machine(env, root=root).conda
    assert conda.new_prefix("x") == volume / "envs/x"
    assert {found.name: (found.provided, found.ours) for found in conda.environments()} == {
        "base": (True, False), "python3": (True, False), "mine": (False, True), "fraud": (False, False),
    }  # fmt: skip


def test_in_studio_new_environments_survive_a_restart(env: dict[str, str], tmp_path: Path) -> None:
    """/opt/conda is the image's, and writable; the home folder is what is kept."""
    root = tmp_path / "root"
    home = root / "home/sagemaker-user"
    (root / "opt/ml/metadata").mkdir(parents=True)
    (root / "opt/ml/metadata/resource-metadata.json").write_text('{"DomainId": "d-1", "SpaceName": "s"}')
    environment(root / "opt/conda")
    home.mkdir(parents=True)
    conda = Machine({**env, "HOME": str(home)}, root=root).conda
    assert conda.base == root / "opt/conda"
    assert conda.new_prefix("x") == home / ".conda/envs/x"


def test_the_unfinished_are_flagged(machine: Machine) -> None:
    environment(machine.home / "envs/half")
    unfinished.mark(machine.home / "envs/half", "test")
    [found] = machine.conda.environments()
    assert found.unfinished


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_installation_that_is_not_ours_to_write(machine: Machine, home: Path) -> None:
    base = environment(home / "miniforge3")
    base.chmod(0o555)
    assert facts(machine).envs_dirs == [home / ".conda/envs", base / "envs"]


def test_records_are_told_by_their_names(tmp_path: Path) -> None:
    meta = environment(tmp_path) / "conda-meta"
    for name in ("python-dateutil-2.9.0-pyh_0.json", "zlib-1.3-h1_0.json", "state", "notes.json", "a-b.json"):
        (meta / name).touch()
    assert [(one.name, one.version, one.build) for one in installed(tmp_path)] == [
        ("python-dateutil", "2.9.0", "pyh_0"), ("zlib", "1.3", "h1_0"),
    ]  # fmt: skip
    assert installed(tmp_path / "nowhere") == []


def test_default_channel(machine: Machine, home: Path) -> None:
    assert machine.conda.channels() == ["https://conda.anaconda.org/conda-forge"]
    (home / ".condarc").write_text("channels: [defaults]\n")
    machine.forget()
    assert machine.conda.channels() == ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"]
    assert machine.conda.channels(["a", "a"]) == ["https://conda.anaconda.org/a"]


def test_the_server_of_studio_shares_the_images_base(machine: Machine) -> None:
    """Which is no environment of the server's own: tasks may name it, and its kernel is one of the user's."""
    machine.__dict__["platform"] = Platform("studio", "a test", machine.root / "home", machine.root / "opt/conda")
    conda = facts(machine)
    assert conda.server is None
    base = environment(machine.root / "opt/conda")
    (base / "bin").mkdir()
    assert facts(machine).server is None
    (base / "bin/jupyter-lab").touch()
    conda = facts(machine)
    assert conda.server == base
    assert not any(found.jupyter_server for found in conda.environments())
