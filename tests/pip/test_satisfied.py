"""What of the requirements is not there, told from the folders of distributions alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nbprovision.machine import distributions
from nbprovision.pip.requirements import marker_environment, parse
from nbprovision.pip.satisfied import by_source, conflicts, unsatisfied

PYTHON = marker_environment("3.12.1")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIT = "https://git.example/team/lab"


def distribution(folder: Path, name: str, version: str = "1.0", *, requires: str = "", **direct_url: Any) -> None:
    """A distribution as installers leave it behind."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    depends = f"Requires-Dist: {requires}\n" if requires else ""
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{depends}")
    (place / "RECORD").write_text("")
    if direct_url:
        (place / "direct_url.json").write_text(json.dumps(direct_url))


def faults(folder: Path, *packages: str, constraints: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    found = distributions.in_folder(folder)
    wanted, bounds = ([parse(text) for text in texts] for texts in (packages, constraints))
    return [(need.name, need.reason) for need in unsatisfied(wanted, bounds, found, PYTHON)]


def test_a_constraint_for_another_python_binds_nobody(tmp_path: Path) -> None:
    distribution(tmp_path, "apple")
    assert faults(tmp_path, "apple", constraints=("apple<1",)) == [("apple", "version")]
    assert faults(tmp_path, "apple", constraints=("apple<1; python_version < '3'",)) == []


def test_what_no_parser_knows_is_no_dependency(tmp_path: Path) -> None:
    """Old distributions have such lines, and pip passes over them as well."""
    distribution(tmp_path, "apple", requires="pytz (>dev)")
    assert faults(tmp_path, "apple") == []
    assert conflicts(distributions.in_folder(tmp_path), PYTHON) == []


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (f"git+{GIT}", False),  # the branch that is the default may have been another when v1 was asked for
        (f"git+{GIT}@v1", True),
        (f"git+https://reader:word@{GIT.removeprefix('https://')}@v1", True),
        (f"git+{GIT}@{COMMIT[:9]}", True),
        (f"git+{GIT}@v2", False),
        (f"git+{GIT}-more@v1", False),
        (f"hg+{GIT}@v1", False),
    ],
)
def test_a_repository_is_there_where_it_was_installed_from_that_place(wanted: str, there: bool, tmp_path: Path) -> None:
    git = {"vcs": "git", "requested_revision": "v1", "commit_id": COMMIT}
    distribution(tmp_path, "lab", url=GIT, vcs_info=git)
    assert faults(tmp_path, f"lab @ {wanted}") == ([] if there else [("lab", "source")])


def test_a_source_that_tells_no_name_is_known_by_where_it_came_from(tmp_path: Path) -> None:
    distribution(tmp_path, "apple")
    git = {"vcs": "git", "requested_revision": "v1", "commit_id": COMMIT}
    distribution(tmp_path, "lab", url=GIT, vcs_info=git)
    found = distributions.in_folder(tmp_path)
    assert by_source(parse(f"git+{GIT}@v1"), found) == "lab"
    assert by_source(parse(f"git+{GIT}@v2"), found) is None
    assert faults(tmp_path, f"git+{GIT}@v1") == []
    assert faults(tmp_path, f"git+{GIT}@v2") == [(f"git+{GIT}@v2", "missing")]


def test_a_file_is_there_where_place_and_digest_are_those_asked_for(tmp_path: Path) -> None:
    url, digest = "https://files.example/apple-1.0.tar.gz", hashlib.sha256(b"").hexdigest()
    distribution(tmp_path, "apple", url=url, archive_info={"hashes": {"sha256": digest}})
    assert faults(tmp_path, f"apple @ {url}#sha256={digest}") == []
    assert faults(tmp_path, f"apple @ {url}#sha256={'0' * 64}") == [("apple", "source")]
    assert faults(tmp_path, f"apple @ {url.replace('files', 'mirror')}") == [("apple", "source")]
