"""Names, globs, paths, ``all`` and exceptions: which environments are meant, by folders alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbprovision.conda.ensure_conda_pkg import EnsureCondaPkg
from nbprovision.machine import selectors
from nbprovision.machine.machine import Machine
from nbprovision.machine.selectors import select
from nbprovision.model.errors import UnknownEnvironment
from nbprovision.system import unfinished


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Machine:
    """A notebook instance on the image that has `pytorch`, with an environment of the user's on its volume."""
    made = Machine(env, root=tmp_path / "root")
    anaconda = made.root / "home/ec2-user/anaconda3"
    (made.root / "home/ec2-user/SageMaker").mkdir(parents=True)
    for prefix in (anaconda, *(anaconda / "envs" / name for name in ("JupyterSystemEnv", "pytorch", "python3"))):
        environment(prefix)
    environment(anaconda / "envs/R", python=False)
    environment(made.root / "home/ec2-user/SageMaker/envs/fraud")
    return made


def environment(prefix: Path, *, python: bool = True) -> Path:
    (prefix / "conda-meta").mkdir(parents=True)
    if python:
        (prefix / "lib/python3.10/site-packages").mkdir(parents=True)
    return prefix


def names(machine: Machine, *texts: str, **more: object) -> list[str]:
    return [name for name, _ in select(machine, texts, **more)]  # type: ignore[arg-type]


def test_all_is_every_environment_but_the_servers(instance: Machine) -> None:
    assert names(instance, "all") == ["base", "R", "python3", "pytorch", "fraud"]
    assert names(instance, "all", with_python=True) == ["base", "python3", "pytorch", "fraud"]
    assert names(instance, "*") == names(instance, "all")
    server = [one for one in instance.conda.environments() if one.jupyter_server]
    assert [one.name for one in server] == ["JupyterSystemEnv"]


def test_no_glob_matches_the_servers(instance: Machine) -> None:
    with pytest.raises(UnknownEnvironment, match=r"'Jupyter\*' matches no environment"):
        select(instance, ["Jupyter*"])
    folder = instance.root / "home/ec2-user/anaconda3/envs"
    assert names(instance, f"{folder}/*") == ["R", "python3", "pytorch"]
    assert select(instance, ["JupyterSystemEnv"]) == [("JupyterSystemEnv", folder / "JupyterSystemEnv")]


def test_what_is_named_twice_is_meant_once(instance: Machine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(instance.root / "home/ec2-user/anaconda3/envs/pytorch")
    assert names(instance, "python3", "py*", "python3") == ["python3", "pytorch"]
    assert names(instance, "py*", excluded=[str(tmp_path / "link")]) == ["python3"]
    assert names(instance, str(tmp_path / "own")) == [str(tmp_path / "own")]


def test_exceptions(instance: Machine) -> None:
    assert names(instance, "all", excluded=["base", "py*", "nothing*"]) == ["R", "fraud"]
    with pytest.raises(UnknownEnvironment, match=r"'pytroch'; did you mean 'pytorch'\?, which `except` names"):
        select(instance, ["all"], excluded=["pytroch"])
    with pytest.raises(UnknownEnvironment, match="leaves no environment"):
        select(instance, ["py*"], excluded=["p*"])
    assert select(instance, ["py*"], excluded=["p*"], allow_empty=True) == []


def test_an_unknown_name_lists_what_is_there(instance: Machine) -> None:
    with pytest.raises(UnknownEnvironment) as caught:
        select(instance, ["pyton3"])
    assert "did you mean 'python3'?" in caught.value.message
    assert caught.value.cause == "known here: R, base, fraud, python3, pytorch"


def test_a_name_that_an_image_change_took_away_is_hinted_at(instance: Machine) -> None:
    for find in (lambda: select(instance, ["pytorch_p310"]), lambda: instance.prefix_of("pytorch_p310")):
        with pytest.raises(UnknownEnvironment) as caught:
            find()
        assert "this machine has 'pytorch'; image changes rename environments; write pytorch*" in caught.value.cure


@pytest.mark.parametrize("text", ["all", "py*"])
def test_env_is_for_one(instance: Machine, text: str) -> None:
    with pytest.raises(UnknownEnvironment) as caught:
        instance.prefix_of(text)
    assert f"write `{text}` under `envs`" in caught.value.cure


def test_a_glob_that_matches_nothing(instance: Machine) -> None:
    with pytest.raises(UnknownEnvironment, match=r"'tensorflow\*' matches no environment") as caught:
        select(instance, ["tensorflow*", "py*"])
    assert "allow_empty: true" in caught.value.cure
    assert names(instance, "tensorflow*", "py*", allow_empty=True) == ["python3", "pytorch"]


def test_nothing_is_known(machine: Machine) -> None:
    with pytest.raises(UnknownEnvironment, match="no environment is known here"):
        select(machine, ["all"])
    assert select(machine, ["all"], allow_empty=True) == []


def test_environments_that_the_playbook_makes(instance: Machine, tmp_path: Path) -> None:
    instance.declared["later"] = tmp_path / "later"
    assert "later" in names(instance, "all", with_python=True)
    assert names(instance, "lat*") == ["later"]
    task = EnsureCondaPkg(envs="la*", packages=["a"])
    assert [one.name for one in task.selection(instance)] == ["later"]
    instance.declared["last"] = tmp_path / "last"  # by a task behind it in the playbook
    assert [one.name for one in task.selection(instance)] == ["later"]


def test_two_of_one_name(instance: Machine, tmp_path: Path) -> None:
    other = environment(instance.user_home / ".conda/envs/fraud")
    found = dict(select(instance, ["all"]))
    (by_path,) = (name for name in found if name.endswith("/fraud"))
    assert {found["fraud"], Path(by_path)} == {other, instance.root / "home/ec2-user/SageMaker/envs/fraud"}


def test_a_half_made_one_is_its_own_tasks_business(instance: Machine) -> None:
    prefix = instance.root / "home/ec2-user/SageMaker/envs/half"
    unfinished.mark(prefix, "ensure_conda_env")
    (prefix / "conda-meta").mkdir()
    assert "half" not in names(instance, "all")
    instance.declared["half"] = prefix
    assert "half" in names(instance, "all", with_python=True)


@pytest.fixture
def watched(instance: Machine) -> Callable[[], dict[Path, tuple[int, int] | None]]:
    def look() -> dict[Path, tuple[int, int] | None]:
        instance.forget()
        found: dict[Path, tuple[int, int] | None] = {}
        for path in selectors.sources(instance, ["all"]):
            found[path] = (path.stat().st_mtime_ns, path.stat().st_ino) if path.exists() else None
        return found

    return look


def test_whatever_changes_the_selection_changes_a_witness(
    instance: Machine, watched: Callable[[], dict[Path, tuple[int, int] | None]], tmp_path: Path
) -> None:
    volume = instance.root / "home/ec2-user/SageMaker"
    (volume / "envs/empty").mkdir()
    elsewhere = environment(tmp_path / "elsewhere/own")

    def registers() -> None:
        instance.conda.registry.parent.mkdir(exist_ok=True)
        instance.conda.registry.write_text(f"{elsewhere}\n")

    def configures() -> None:
        environment(tmp_path / "more/third")
        (instance.user_home / ".condarc").write_text(f"envs_dirs: [{tmp_path / 'more'}]\n")

    changes: list[Callable[[], object]] = [
        lambda: environment(volume / "envs/new"),
        (volume / "envs/empty/conda-meta").mkdir,
        registers,
        configures,
        lambda: environment(instance.user_home / "miniconda3"),
    ]
    for number, change in enumerate(changes):
        before, seen = len(names(instance, "all")), watched()
        change()
        now = watched()
        assert any(now.get(path) != identity for path, identity in seen.items()), number
        assert len(names(instance, "all")) == before + 1, number


def test_plain_names_need_no_witness_of_a_list(instance: Machine) -> None:
    assert list(selectors.sources(instance, ["python3", "/a/path"])) == []
