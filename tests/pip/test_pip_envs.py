"""One pip task for several environments, chosen by names, globs, ``all`` and exceptions, on a notebook instance."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import nbprovision
from nbprovision.model.errors import InvalidPlaybook, ParameterError, UnknownEnvironment
from nbprovision.system import unfinished
from tests.support.conda_packages import TinyChannel
from tests.support.provided import Instance, conda_environment, content, imported, versions
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.engine

IN_ALL = """
- ensure_pip_pkg:
    packages: apple
    envs: all
"""


@pytest.fixture
def instance(env: dict[str, str], tmp_path: Path) -> Instance:
    made = Instance(tmp_path, env)
    for name in ("JupyterSystemEnv", "python3", "pytorch"):
        made.provide(name)
    conda_environment(made.volume / "envs/fraud")
    (made.anaconda / "envs/R/conda-meta").mkdir(parents=True)
    make_wheel(made.wheels, "apple", "1.0")
    return made


def having_apple(instance: Instance) -> set[str]:
    places = [instance.anaconda, *(instance.anaconda / "envs").iterdir(), *(instance.volume / "envs").iterdir()]
    return {place.name for place in places if "apple" in versions(place)}


def test_all_environments_and_never_the_servers_own(instance: Instance) -> None:
    server = instance.anaconda / "envs/JupyterSystemEnv"
    before = content(server)
    (result,) = instance.run(IN_ALL)
    assert {change.target for change in result.changes} == {
        f"apple in {n}" for n in ("base", "python3", "pytorch", "fraud")
    }
    assert having_apple(instance) == {"anaconda3", "python3", "pytorch", "fraud"}
    assert imported(instance.anaconda / "envs/pytorch", "import apple; print(apple.version)") == "1.0"
    assert content(server) == before
    (again,) = instance.run(IN_ALL)
    assert (again.status, again.proof) == ("ok", "witness")


def test_an_environment_that_appears_later_is_seen_by_the_next_run(instance: Instance) -> None:
    instance.good(IN_ALL)
    instance.good(IN_ALL)
    conda_environment(instance.volume / "envs/risk")
    (result,) = instance.run(IN_ALL)
    assert [change.target for change in result.changes] == ["apple in risk"]
    (again,) = instance.run(IN_ALL)
    assert (again.status, again.proof) == ("ok", "witness")


def test_globs_names_and_exceptions(instance: Instance) -> None:
    tasks = """
    - ensure_pip_pkg:
        packages: apple
        envs: [py*, fraud, "tensorflow*"]
        except: [python?]
        allow_empty: true
    """
    assert instance.good(tasks) == ["changed"]
    assert having_apple(instance) == {"pytorch", "fraud"}
    assert instance.good(tasks) == ["ok"]


def test_what_an_earlier_task_makes_is_meant_too(instance: Instance, tmp_path: Path) -> None:
    """As long as it is not made it may get a Python; this one does not, as a check knows."""
    channel = TinyChannel(tmp_path / "channel")
    channel.add("tiny", "1.0")
    tasks = f"""
    - ensure_pip_pkg: {{packages: apple, envs: r*, allow_empty: true}}
    - ensure_conda_env: {{name: risk, packages: [tiny], channels: ["{channel.url}"]}}
    - ensure_pip_pkg: {{packages: apple, envs: "[fr]*"}}
    """
    first, _, last = instance.run(tasks, check=True)
    assert first.changes == ()
    assert {change.target for change in last.changes} == {"apple"}, "in fraud alone, as in the run below"
    assert instance.good(tasks) == ["ok", "changed", "changed"]
    assert having_apple(instance) == {"fraud"}
    assert not unfinished.is_marked(instance.volume / "envs/risk")
    assert instance.good(tasks) == ["ok", "ok", "ok"]
    unfinished.mark(instance.volume / "envs/risk", "ensure_conda_env")
    assert instance.good(tasks) == ["ok", "ok", "ok"]
    assert not unfinished.is_marked(instance.volume / "envs/risk")


def test_a_name_that_an_image_change_took_away(instance: Instance) -> None:
    with pytest.raises(UnknownEnvironment) as caught:
        instance.run("- ensure_pip_pkg: {packages: apple, envs: [pytorch_p310, python3]}")
    assert "this machine has 'pytorch'" in caught.value.cure
    assert having_apple(instance) == set()
    both = "- ensure_pip_pkg: {packages: apple, envs: [pytorch*]}"
    assert instance.good(both) == ["changed"]
    (instance.anaconda / "envs/pytorch").rename(instance.anaconda / "envs/pytorch_p312")
    conda_environment(instance.anaconda / "envs/pytorch_p313")
    assert instance.good(both) == ["changed"]
    assert having_apple(instance) == {"pytorch_p312", "pytorch_p313"}


def test_the_servers_environment_needs_a_word_of_its_own(instance: Instance) -> None:
    server = instance.anaconda / "envs/JupyterSystemEnv"
    before = content(server)
    link = instance.volume / "server"
    link.symlink_to(server)
    for where in (
        "env: JupyterSystemEnv",
        f"envs: [python3, {server}]",
        f"python: {server}/bin/python",
        f"env: {link}",
    ):
        with pytest.raises(InvalidPlaybook) as caught:
            instance.run(f"- ensure_pip_pkg: {{packages: apple, {where}}}")
        assert "Jupyter server itself" in caught.value.message
        assert "jupyter_server: true" in caught.value.cure
    assert content(server) == before
    assert instance.good("- ensure_pip_pkg: {packages: apple, env: JupyterSystemEnv, jupyter_server: true}") == [
        "changed"
    ]
    assert versions(server) == {"apple": "1.0"}


def test_words_that_make_no_sense_together(instance: Instance) -> None:
    for word in ("except: python3", "allow_empty: true"):
        with pytest.raises(InvalidPlaybook, match=f"`{word.partition(':')[0]}` needs `envs`") as caught:
            instance.run(f"- ensure_pip_pkg: {{packages: apple, env: python3, {word}}}")
        assert caught.value.position is not None
        assert caught.value.position.column > len("    - ensure_pip_pkg: {packages: apple, env: python3, ")
    with pytest.raises(InvalidPlaybook, match=r"no parameter 'excepts'; did you mean 'except'\?"):
        instance.run("- ensure_pip_pkg: {packages: apple, envs: all, excepts: base}")
    with pytest.raises(InvalidPlaybook, match="'except' takes a string or a list of strings"):
        instance.run("- ensure_pip_pkg: {packages: apple, envs: all, except: {a: b}}")


def test_in_python_it_is_called_except_(instance: Instance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in instance.env.items():
        monkeypatch.setenv(name, text)
    assert "except_" in inspect.signature(nbprovision.ensure_pip_pkg).parameters
    for name in ("one", "two"):
        conda_environment(Path(instance.env["HOME"]) / ".conda/envs" / name)
    result = nbprovision.ensure_pip_pkg(packages="apple", envs=["one", "two"], except_=["t*"])
    assert [change.target for change in result.changes] == ["apple"]
    with pytest.raises(ParameterError, match=r"no parameter 'excep'"):
        nbprovision.ensure_pip_pkg(packages="apple", envs="one", excep="two")
