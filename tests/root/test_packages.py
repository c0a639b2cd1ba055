"""Packages of the system: what the databases of dpkg and rpm say, and how the programs are called.

A stand-in takes the place of dnf and rpm, which Debian lacks; tests/container/test_root_packages.py has the real apt.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from nbprovision.root import packages, tools


def wanted(*names: str, state: str = "present", seconds: int = 20) -> dict[str, object]:
    return {"packages": list(names), "state": state, "seconds": seconds}


def dpkg(root: Path, text: str) -> str:
    path = root / "var/lib/dpkg/status"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(root)


def rpm(root: Path, *names: str) -> Path:
    """A database as rpm 4.18 makes its table of names."""
    path = root / "var/lib/rpm/rpmdb.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        database.execute(
            "CREATE TABLE 'Name' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL, "
            "FOREIGN KEY (hnum) REFERENCES 'Packages'(hnum))"
        )
        database.execute("CREATE INDEX 'Name_key_idx' ON 'Name'(key ASC)")
        database.executemany("INSERT INTO Name VALUES (?, 1, 0)", [(name,) for name in names])
    (path.parent / "rpmdb.sqlite-wal").touch()  # rpm leaves an empty one
    return path


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["install ok installed"], "installed"),
        (["hold ok installed"], "installed"),
        (["deinstall ok config-files"], ""),
        (["unknown ok not-installed"], ""),
        ([], ""),
        (["install ok half-configured"], "broken"),
        (["install reinstreq half-installed"], "broken"),
        (["install reinstreq installed"], "broken"),
        (["deinstall ok config-files", "install ok installed"], "installed"),  # two architectures
        (["install ok unpacked", "unknown ok not-installed"], "broken"),
    ],
)
def test_states_of_dpkg(tmp_path: Path, statuses: list[str], expected: str) -> None:
    stanza = "Package: small\nStatus: %s\nArchitecture: all\nDescription: x\n Package: other\n more\n"
    others = "Package: small-er\nStatus: install ok installed\n\n", "Package: smal\nStatus: install ok installed\n\n"
    root = dpkg(tmp_path, others[0] + "\n".join(stanza % status for status in statuses) + "\n" + others[1])
    assert packages.state("small", root) == expected
    assert packages.state("other", root) == ""


def test_the_database_is_read_again_when_it_changes(tmp_path: Path) -> None:
    root = dpkg(tmp_path, "Package: a\nStatus: install ok installed\n")
    assert packages.differences(wanted("a", "b"), root) == ["install b"]
    dpkg(tmp_path, "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: install ok installed\n")
    assert packages.differences(wanted("a", "b"), root) == []
    assert packages.differences(wanted("a", "c", state="absent"), root) == ["remove a"]


def test_the_removal_that_was_cut_off_is_not_yet_done(tmp_path: Path) -> None:
    root = dpkg(tmp_path, "Package: a\nStatus: deinstall ok half-installed\n")
    assert packages.differences(wanted("a", state="absent"), root) == ["remove a"]
    assert packages.differences(wanted("a"), root) == ["install a"]


def test_a_hostile_database(tmp_path: Path) -> None:
    root = dpkg(tmp_path, "Package: a\nPackage: b\n\0\xff\nStatus:\n\n\n")
    assert packages.state("a", root) == ""
    (tmp_path / "var/lib/dpkg/status").unlink()
    (tmp_path / "var/lib/dpkg/status").symlink_to("/etc/passwd")
    with pytest.raises(tools.Trouble, match="is a link"):
        packages.state("a", root)


def test_states_of_rpm(tmp_path: Path) -> None:
    rpm(tmp_path, "small-agent", "bash")
    assert packages.differences(wanted("small-agent", "small", "bash"), str(tmp_path)) == ["install small"]
    assert packages.differences(wanted("bash", "x", state="absent"), str(tmp_path)) == ["remove bash"]


@pytest.mark.parametrize("damage", ["in part", "not a database", "missing"])
def test_rpm_is_asked_where_its_database_cannot_be_read(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rpm(tmp_path, "a")
    if damage == "in part":
        (path.parent / "rpmdb.sqlite-wal").write_bytes(b"x")
    elif damage == "not a database":
        path.write_bytes(b"x" * 5000)
    else:
        path.unlink()
    with pytest.raises(tools.Trouble, match="package database cannot be read"):
        packages.state("a", str(tmp_path))
    monkeypatch.setattr(packages, "_in_rpm_database", lambda _name, _root: None)
    monkeypatch.setattr(packages, "_has_dpkg", lambda _root: False)
    monkeypatch.setattr(tools, "program", lambda name: "/bin/true" if name == "rpm" else "")
    assert packages.state("a", "/") == "installed"


@pytest.fixture
def amazon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for dnf and rpm, which write down how they are called and do as they are told."""
    for name in ("dnf", "rpm"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/called\ncat {tmp_path}/says 2>/dev/null\nexit $(cat {tmp_path}/status)\n'
        )
        (tmp_path / name).chmod(0o755)
    (tmp_path / "status").write_text("0")
    monkeypatch.setattr(packages, "_has_dpkg", lambda _root: False)
    monkeypatch.setattr(packages, "_in_rpm_database", lambda name, _root: name == "old")
    monkeypatch.setattr(tools, "program", lambda name: str(tmp_path / name))
    return tmp_path


def test_dnf_gets_exact_names(amazon: Path) -> None:
    packages.bring_about(wanted("old", "new", "other"))
    packages.bring_about(wanted("old", "new", state="absent"))
    first, second = (amazon / "called").read_text().splitlines()
    assert first.startswith("dnf -y ")
    assert first.endswith(" install-n new other")
    assert second == "rpm -e -- old"


@pytest.mark.parametrize(
    ("says", "kind", "shown"),
    [
        ("Error: Failed to download metadata for repo 'amazonlinux': Cannot download", tools.Unreachable, "Failed to"),
        (
            "No match for argument: new\nError: Unable to find a match: new",
            tools.Trouble,
            "Unable to find a match: new",
        ),
        ("error: Failed dependencies:\n\told is needed by other", tools.Trouble, "Failed dependencies"),
        ("", tools.Trouble, "it failed"),
    ],
)
def test_failures_of_dnf(amazon: Path, says: str, kind: type[tools.Trouble], shown: str) -> None:
    (amazon / "status").write_text("1")
    (amazon / "says").write_text(says)
    with pytest.raises(tools.Trouble, match=shown) as caught:
        packages.bring_about(wanted("new"))
    assert type(caught.value) is kind


def test_dnf_is_ended_in_time(amazon: Path) -> None:
    (amazon / "dnf").write_text("#!/bin/sh\nsleep 60\n")
    with pytest.raises(tools.Trouble, match="dnf took more than"):
        packages.bring_about(wanted("new", seconds=2))
