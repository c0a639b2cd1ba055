"""pylock files: joined over platforms, written as TOML that others read, split again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from packaging.pylock import Pylock, PylockSelectError

from nbprovision.lock import pylock
from nbprovision.lock.places import Places
from nbprovision.system import toml_document

FOLDER = Path("/team/team.lock")
PLACES = Places(Path("/team"), Path("/home/me/.state"), Path("/home/me"))
PYTHONS = {"linux-64": "3.12.4", "linux-aarch64": "3.12.4"}
DIGEST = {"sha256": "0" * 64}


def wheel(name: str, tag: str = "py3-none-any", version: str = "1.0") -> dict[str, Any]:
    return {"url": f"https://u:pw@host/{name}-{version}-{tag}.whl", "hashes": DIGEST}


def package(name: str, *wheels: dict[str, Any], version: str = "1.0", **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, **more, "wheels": list(wheels)}


def joined(first: list[dict[str, Any]], second: list[dict[str, Any]], **pythons: str) -> dict[str, Any]:
    results = {"linux-64": {"packages": first}, "linux-aarch64": {"packages": second}}
    document = pylock.join(
        results, PYTHONS | {name.replace("_", "-"): text for name, text in pythons.items()}, FOLDER, PLACES
    )
    Pylock.from_dict(document)
    return document


class TestJoin:
    def test_wheels_of_both_platforms_are_in_one_package(self) -> None:
        pure, x86, arm = wheel("a"), wheel("b", "cp312-cp312-linux_x86_64"), wheel("b", "cp312-cp312-linux_aarch64")
        document = joined([package("b", x86), package("a", pure)], [package("a", pure), package("b", arm)])
        assert [(entry["name"], len(entry["wheels"])) for entry in document["packages"]] == [("a", 1), ("b", 2)]
        assert not any("marker" in entry for entry in document["packages"])
        assert "pw" not in str(document)

    def test_different_versions_have_markers(self) -> None:
        newer = package("a", wheel("a", version="2.0"), version="2.0")
        document = joined([package("a", wheel("a"))], [newer])
        assert [(entry["version"], entry["marker"]) for entry in document["packages"]] == [
            ("1.0", "platform_machine == 'x86_64'"),
            ("2.0", "platform_machine == 'aarch64'"),
        ]

    def test_markers_of_uv_are_dropped_as_they_hold(self) -> None:
        document = joined([package("a", wheel("a"), marker="sys_platform != 'win32'")], [package("a", wheel("a"))])
        assert [("marker" in entry) for entry in document["packages"]] == [False]

    def test_the_environments_are_named(self) -> None:
        document = joined([package("a", wheel("a"))], [package("a", wheel("a"))], linux_aarch64="3.9.1")
        assert document["requires-python"] == ">=3.9"
        assert document["environments"] == [
            "python_version == '3.12' and platform_machine == 'x86_64' and sys_platform == 'linux'",
            "python_version == '3.9' and platform_machine == 'aarch64' and sys_platform == 'linux'",
        ]
        for machine, version, fits in (
            ("x86_64", "3.12.9", True),
            ("x86_64", "3.13.0", False),
            ("riscv", "3.12.0", False),
        ):
            environment = {"platform_machine": machine, "sys_platform": "linux"}
            environment |= {"python_full_version": version, "python_version": version.rpartition(".")[0]}
            select = Pylock.from_dict(document).select(environment=environment)  # type: ignore[arg-type]
            if fits:
                assert [entry.name for entry, _ in select] == ["a"]
            else:
                with pytest.raises(PylockSelectError):
                    list(select)

    def test_files_beside_the_playbook_have_relative_paths(self) -> None:
        local = {"url": "file:///team/wheels/a%20b/a-1.0-py3-none-any.whl", "hashes": DIGEST}
        other = {"url": "file:///srv/b-1.0-py3-none-any.whl", "hashes": DIGEST}
        document = joined([package("a", local), package("b", other)], [])
        assert [entry["wheels"][0]["path"] for entry in document["packages"]] == [
            "../wheels/a b/a-1.0-py3-none-any.whl",
            "/srv/b-1.0-py3-none-any.whl",
        ]
        project = {"name": "mine", "directory": {"path": "/team/mine", "editable": True}}
        assert joined([project], [project])["packages"] == [
            {"name": "mine", "directory": {"path": "../mine", "editable": True}}
        ]

    def test_a_file_without_packages_is_valid(self) -> None:
        """The environment has all that is requested: that is locked as well."""
        document = pylock.join({"linux-64": {"packages": []}}, PYTHONS, FOLDER, PLACES)
        assert Pylock.from_dict(toml_document.load(pylock.dump(document))).packages == []

    def test_each_platform_gets_its_part_back(self) -> None:
        newer = package("a", wheel("a", version="2.0"), version="2.0")
        document = joined([package("a", wheel("a")), package("b", wheel("b"))], [newer, package("b", wheel("b"))])
        for platform, version in (("linux-64", "1.0"), ("linux-aarch64", "2.0")):
            part = pylock.for_platform(document, platform)
            assert [(entry["name"], entry["version"]) for entry in part["packages"]] == [("a", version), ("b", "1.0")]
            assert pylock.has_platform(document, platform)
        assert not pylock.has_platform({"environments": []}, "linux-64")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Also what needs quotes."""
    document = {
        "lock-version": "1.0",
        "environments": ["a == 'b'"],
        "created-by": "nbprovision",
        "packages": [
            {
                "name": "a",
                "version": "1.0",
                "vcs": {"type": "git", "url": 'https://host/a"b\\c\té\x7f.git', "commit-id": "0" * 40},
                "index": "https://host/simple",
                "wheels": [
                    {"url": "x", "size": 3, "upload-time": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc),
                     "hashes": {"sha256": "0", "odd key.": "1"}},
                ],
                "tool": {"flag": True, "numbers": [1, 2], "none": []},
            }
        ],
    }  # fmt: skip
    path = tmp_path / "pylock.toml"
    path.write_text(pylock.dump(document))
    assert pylock.read(path) == document


def test_the_name_of_a_file_has_no_further_dot() -> None:
    assert pylock.file_name("fraud") == "pylock.fraud.toml"
    assert pylock.file_name("fraud-3.12+x") == "pylock.fraud-3-12-x.toml"
    assert pylock.file_name("a.b", {"pylock.a-b.toml", "pylock.a-b-2.toml"}) == "pylock.a-b-3.toml"
