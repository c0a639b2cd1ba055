"""`nbprovision lock --check`: fresh or stale, with the spec, channel or index that changed, and without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nbprovision.__main__ import main
from nbprovision.catalogue import Catalogue
from nbprovision.lock import folder as lock_folder
from nbprovision.lock import requests
from nbprovision.lock.index import LockedOrigin, Origin, differences
from nbprovision.lock.places import PLAYBOOK
from nbprovision.machine.machine import Machine
from nbprovision.model.errors import InvalidPlaybook
from nbprovision.pip import requirements_files
from tests.support.locking import Team

RECORDED = Path(__file__).parents[1] / "data/locks"

TASKS = """
    - ensure_pip_index: {{url: "{url}/simple"{more}}}
    - ensure_conda_env: {{name: fraud, packages: [{specs}], channels: [{channels}]{extra}}}
    - ensure_pip_pkg: {{env: fraud, packages: [{requirements}]}}
"""


def tasks(team: Team, **values: str) -> str:
    standard = {
        "url": team.server.url,
        "specs": "python, beta",
        "channels": f'"{team.url}", ./channel',
        "requirements": "pear",
        "more": "",
        "extra": "",
    }
    return TASKS.format(**standard | values)


@pytest.fixture
def locked(team: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Team:
    """A fresh lock; from now on nothing answers."""
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name)
    team.write(tasks(team))
    assert team.lock() == 0, capsys.readouterr().err
    team.server.files.clear()
    team.server.requests.clear()
    return team


@pytest.mark.engine
class TestCheck:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"specs": "python, beta, alpha>=1"}, ["fraud: spec added: alpha>=1"]),
            ({"specs": "python=3.12, beta"}, ["fraud: spec added: python=3.12", "fraud: spec removed: python"]),
            ({"channels": "./channel"}, ["fraud: channel removed: URL"]),
            ({"channels": '"URL", ./channel, ./other'}, ["fraud: channel added: https://playbook.invalid/other"]),
            (
                {"channels": './channel, "URL"'},
                ["fraud: the order of the channels: URL, PLACE/channel -> PLACE/channel, URL"],
            ),
            ({"requirements": "pear, plum<2"}, ["fraud: requirement added: plum<2"]),
            ({"requirements": '"pear @ https://HOST/pear-1.0-py3-none-any.whl"'},
             ["fraud: requirement added: pear @ https://HOST/pear-1.0-py3-none-any.whl",
              "fraud: requirement removed: pear"]),
            ({"more": ", extra_urls: https://more.example/simple"}, ["fraud: index added: https://more.example/simple"]),
            ({"url": "https://other.example"},
             ["fraud: index added: https://other.example/simple", "fraud: index removed: SERVER/simple"]),
            ({"extra": ', cuda: "12.4"'}, ["fraud: CUDA: none -> 12.4"]),
        ],
    )  # fmt: skip
    def test_what_changed_is_named(
        self, locked: Team, capsys: pytest.CaptureFixture[str], values: dict[str, str], expected: list[str]
    ) -> None:
        values = {name: text.replace("URL", locked.url) for name, text in values.items()}
        locked.write(tasks(locked, **values))
        files = locked.files()
        capsys.readouterr()
        assert locked.lock("--check") == 3
        wanted = [
            text.replace("URL", locked.url).replace("PLACE", PLAYBOOK).replace("SERVER", locked.server.url)
            for text in expected
        ]
        assert capsys.readouterr().out.splitlines() == [f"stale: {text}" for text in wanted]
        assert locked.server.requests == []
        assert locked.files() == files

    def test_an_unchanged_playbook_is_fresh(self, locked: Team, capsys: pytest.CaptureFixture[str]) -> None:
        """Whatever its order and its comments are."""
        locked.write(tasks(locked, specs="beta, python"))
        locked.playbook.write_text("# a comment\n" + locked.playbook.read_text())
        capsys.readouterr()
        assert locked.lock("--check") == 0
        assert capsys.readouterr().out == "team.lock is fresh\n"
        assert locked.lock("--check", "--format", "json") == 0
        document = {"lock": str(locked.lock_folder), "status": "fresh", "stale": []}
        assert json.loads(capsys.readouterr().out) == document
        assert locked.server.requests == []

    def test_other_environments_and_platforms_are_named(self, locked: Team, capsys: pytest.CaptureFixture[str]) -> None:
        locked.write("""
            - ensure_conda_env: {name: risk, packages: [python], channels: [./channel]}
        """)
        capsys.readouterr()
        assert locked.lock("--check", "--platform", "linux-aarch64") == 3
        assert capsys.readouterr().out.splitlines() == [
            "stale: the platform linux-aarch64 is not in the lock",
            "stale: fraud: the playbook no longer has the environment",
            "stale: risk: the environment is not in the lock",
        ]

    def test_a_missing_lock_is_stale(self, team: Team, capsys: pytest.CaptureFixture[str]) -> None:
        team.standard()
        assert team.lock("--check", "--format", "json") == 3
        assert json.loads(capsys.readouterr().out)["stale"] == [f"{team.lock_folder} does not exist"]

    def test_check_and_upgrade_exclude_each_other(self, team: Team) -> None:
        team.standard()
        assert team.lock("--check", "--upgrade") == 5

    def test_a_run_can_ask_the_same(self, locked: Team) -> None:
        read = lock_folder.read(locked.lock_folder)
        wanted = requests.collect(locked.playbook, Machine(), Catalogue(), {})
        assert read.stale(wanted) == []
        locked.write(tasks(locked, specs="python"))
        wanted = requests.collect(locked.playbook, Machine(), Catalogue(), {})
        assert read.stale(wanted) == ["fraud: spec removed: beta"]


class TestDifferences:
    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ({"kind": "conda"}, {"kind": "virtual"}, "x: the kind of environment: conda -> virtual"),
            ({"python": "3.12"}, {"python": "3.13"}, "x: Python: 3.12 -> 3.13"),
            ({"pins": ("a=1",)}, {}, "x: pin removed: a=1"),
            ({}, {"constraints": ("a<2",)}, "x: constraint added: a<2"),
        ],
    )
    def test_each_is_named(self, before: dict[str, object], after: dict[str, object], expected: str) -> None:
        locked, wanted = LockedOrigin(**before), Origin(**after)  # type: ignore[arg-type]
        assert differences({"x": locked}, {"x": wanted}) == [expected]
        assert differences({"x": locked}, {"x": Origin(**before)}) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "index.json").unlink(), "the lock does not exist"),
        (lambda folder: (folder / "index.json").write_text("{"), "the lock cannot be read"),
        (lambda folder: (folder / "index.json").write_text('{"version": 99}'), "has version 99"),
        (lambda folder: (folder / "pixi.lock").unlink(), "the lock is incomplete"),
        (lambda folder: (folder / "pixi.lock").write_text("version: 7\nenvironments: ["), "pixi.lock is not YAML"),
        (
            lambda folder: (folder / "pixi.lock").write_text("version: 7\n"),
            "pixi.lock has no mapping in `environments`",
        ),
        (lambda folder: (folder / "pylock.x.toml").unlink(), "the lock is incomplete"),
        (
            lambda folder: (folder / "index.json").write_text(
                '{"environments": {"x": {"specs": ["a"], "platforms": ["linux-64"]}}}'
            ),
            "the lock is incomplete",
        ),
    ],
)
def test_a_damaged_lock_is_an_error_with_a_cure(tmp_path: Path, damage: object, expected: str) -> None:
    folder = tmp_path / "team.lock"
    folder.mkdir()
    (folder / "index.json").write_text(
        '{"version": 1, "platforms": ["linux-64"], "environments": {"x": {"specs": ["a"], "pylock": "pylock.x.toml"}}}'
    )
    (folder / "pixi.lock").write_text("version: 7\nplatforms: []\nenvironments: {}\npackages: []\n")
    (folder / "pylock.x.toml").write_text('lock-version = "1.0"\ncreated-by = "x"\npackages = []\n')
    assert lock_folder.read(folder).environments["x"].conda == {}
    damage(folder)  # type: ignore[operator]
    with pytest.raises(InvalidPlaybook) as caught:
        lock_folder.read(folder)
    assert expected in caught.value.message
    assert caught.value.cure


@pytest.mark.parametrize("name", ["index.json", "pixi.lock", "pylock.fraud.toml"])
def test_the_conflict_markers_of_a_merge_are_found(locked: Team, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """By the check of CI too, which needs none of the packages."""
    path = locked.lock_folder / name
    first, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, "<<<<<<< HEAD\n", lines[0], "=======\n", lines[0], ">>>>>>> topic\n", *lines[1:]]))
    for command in (["lock", "--check"], ["lock"], ["run", "--locked"]):
        capsys.readouterr()
        assert main([*command, str(locked.playbook)]) == 4
        error = capsys.readouterr().err
        assert f"{path}:2:1: " in error
        assert "why: it has the conflict markers of a merge" in error
        assert "git checkout --ours" in error
        assert "then lock again: nbprovision lock PLAYBOOK" in error


def test_line_ends_of_another_system_make_no_lock_stale(locked: Team) -> None:
    for path in (locked.playbook, *locked.lock_folder.iterdir()):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert locked.lock("--check") == 0


def test_a_stale_lock_is_written_again_with_the_same_variables(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.write(f"""
        - ensure_conda_env: {{name: fraud, packages: [python, "{{{{ spec }}}}"], channels: ["{team.url}"]}}
    """)
    assert team.lock("-e", "spec=alpha") == 0
    assert team.lock("-e", "spec=alpha", "--check") == 0
    assert main(["run", str(team.playbook), "--locked", "-e", "spec=beta"]) == 4
    assert f"write it again: nbprovision lock {team.playbook} -e spec=..." in capsys.readouterr().err


def test_a_lock_of_an_earlier_version_is_read(team: Team) -> None:
    """The folder was written by the first version that had locks; it is never written anew."""
    shutil.copytree(RECORDED / "1", team.lock_folder)
    team.write("""
        - ensure_conda_env: {name: fraud, packages: [python, pip, beta], channels: ["https://channels.example/team"]}
        - ensure_pip_pkg: {env: fraud, packages: [pear]}
    """)
    assert team.lock("--check") == 0
    fraud = lock_folder.read(team.lock_folder).environments["fraud"]
    assert {platform: len(packages) for platform, packages in fraud.conda.items()} == {
        "linux-64": 4,
        "linux-aarch64": 4,
    }
    pip = next(package for package in fraud.conda["linux-aarch64"] if package.name == "pip")
    assert (pip.version, pip.noarch, pip.depends) == ("24.0", "python", ["python"])
    assert len(pip.sha256) == 64
    assert fraud.pylock is not None
    (locked,) = requirements_files.read((), [fraud.pylock], (), {}).locks
    assert [(entry.name, entry.version) for entry in locked.packages] == [("pear", "1.0"), ("plum", "1.0")]


def test_an_index_of_the_machines_own_makes_no_lock_stale(locked: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    index = json.loads((locked.lock_folder / "index.json").read_text())["environments"]["fraud"]["indexes"]
    assert index == [f"{locked.server.url}/simple"]
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://laptop.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/opt/wheels")
    assert locked.lock("--check") == 0
