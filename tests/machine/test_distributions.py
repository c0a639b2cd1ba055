"""What is read of Python distributions from folders and files: old ones, broken ones, odd ones."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from nbprovision.machine import distributions
from nbprovision.machine.digests import Digests


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "env/lib/python3.11/site-packages"
    folder.mkdir(parents=True)
    return folder


def add(site: Path, name: str, *rows: str) -> distributions.Distribution:
    """A distribution 1.0 with these rows in its RECORD."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{row}\n" for row in rows))
    (found,) = distributions.in_folder(site)[name]
    return found


def row(path: Path, algorithm: str = "sha256") -> str:
    content = path.read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest()).rstrip(b"=").decode()
    return f"{path.name},{algorithm}={digest},{len(content)}"


class TestEggInfo:
    """What setup.py and old conda packages have left: folders or files, with or without a version in the name."""

    @pytest.mark.parametrize(
        ("entry", "name", "version"),
        [
            ("Old_Name-1.5-py3.11.egg-info", "old-name", "1.5"),
            ("old-2.0.egg-info", "old", "2.0"),
            ("old.egg-info", "old", "3.0"),
        ],
    )
    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_the_version_is_in_the_name_or_within(
        self, entry: str, name: str, version: str, kind: str, site: Path
    ) -> None:
        told = site / entry
        if kind == "folder":
            told.mkdir()
            told /= "PKG-INFO"
        told.write_text("Metadata-Version: 1.1\nName: old\nVersion: 3.0\n\nVersion: of the description\n")
        (found,) = distributions.in_folder(site)[name]
        assert (found.version, found.legacy, found.broken) == (version, True, False)

    def test_one_that_tells_nothing_has_no_version(self, site: Path) -> None:
        (site / "old.egg-info").mkdir()
        assert distributions.in_folder(site)["old"][0].version == "0"

    def test_its_requirements_get_the_form_of_today(self, site: Path) -> None:
        folder = site / "old-1.0.egg-info"
        folder.mkdir()
        (folder / "requires.txt").write_text(
            "six>=1.0\n# a remark\n\n[:python_version<'3.8']\nimportlib-metadata\n"
            "[security]\ncryptography\n[test:sys_platform=='linux']\npytest>=3\npytest-cov\n"
        )
        assert distributions.in_folder(site)["old"][0].requires == (
            "six>=1.0",
            "importlib-metadata; (python_version<'3.8')",
            'cryptography; extra == "security"',
            "pytest>=3; (sys_platform=='linux') and extra == \"test\"",
            "pytest-cov; (sys_platform=='linux') and extra == \"test\"",
        )

    def test_without_a_list_it_requires_nothing(self, site: Path) -> None:
        (site / "old-1.0.egg-info").touch()
        assert distributions.in_folder(site)["old"][0].requires == ()


def test_what_only_looks_like_a_distribution_is_none(site: Path) -> None:
    for name in ("versionless.dist-info", "~ix-1.0.dist-info", "module.py"):
        (site / name).mkdir()
    assert distributions.in_folder(site) == {}
    assert distributions.in_folder(site / "nowhere") == {}


class TestSeveralPythons:
    """An update of Python leaves the folder of the one before, with what pip put there."""

    @pytest.fixture
    def prefix(self, tmp_path: Path) -> Path:
        for name in ("python3.9", "python3.13", "python3.11", "python2.7"):
            (tmp_path / "env/lib" / name / "site-packages").mkdir(parents=True)
        return tmp_path / "env"

    def chosen(self, prefix: Path) -> str:
        folder = distributions.site_packages(prefix)
        assert folder is not None
        return folder.parent.name

    def test_the_newest_counts_where_nobody_says(self, prefix: Path) -> None:
        assert self.chosen(prefix) == "python3.13"
        assert distributions.python_version(prefix) == "3.13"

    @pytest.mark.parametrize("line", ["version = 3.11.7", "version_info = 3.11.7.final.0", "VERSION=3.11"])
    def test_that_of_the_virtual_environment_counts(self, line: str, prefix: Path) -> None:
        (prefix / "pyvenv.cfg").write_text(f"home = /usr/bin\nno pair\n{line}\n")
        assert self.chosen(prefix) == "python3.11"

    def test_that_of_condas_record_counts(self, prefix: Path) -> None:
        (prefix / "conda-meta").mkdir()
        (prefix / "conda-meta/python-dateutil-3.9-0.json").touch()
        (prefix / "conda-meta/python-3.9.18-h955ad1f_0.json").touch()
        assert self.chosen(prefix) == "python3.9"
        assert distributions.python_version(prefix) == "3.9.18"

    def test_that_which_the_program_leads_to_counts(self, prefix: Path) -> None:
        (prefix / "bin").mkdir()
        (prefix / "bin/python").symlink_to("python3.11")
        assert self.chosen(prefix) == "python3.11"

    def test_one_without_a_folder_leaves_the_others(self, prefix: Path) -> None:
        (prefix / "pyvenv.cfg").write_text("version = 3.12.1\n")
        assert self.chosen(prefix) == "python3.13"

    def test_without_a_python_there_is_none(self, tmp_path: Path) -> None:
        assert distributions.site_packages(tmp_path) is None
        assert distributions.python_version(tmp_path) is None


class TestFilesOfARecord:
    @pytest.fixture
    def digests(self, tmp_path: Path) -> Digests:
        return Digests(tmp_path / "digests")

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512", "md5"])
    def test_a_changed_byte_shows_by_the_digest_alone(self, algorithm: str, site: Path, digests: Digests) -> None:
        (site / "x.py").write_text("x = 1\n")
        one = add(site, "x", row(site / "x.py", algorithm))
        assert one.files_missing(digests=digests) == []
        (site / "x.py").write_text("x = 2\n")
        assert one.files_missing() == []
        assert one.files_missing(digests=digests) == [site / "x.py"]

    @pytest.mark.parametrize("digest", ["sha999=abc", "shake_128=abc", "nonsense"])
    def test_a_digest_that_nobody_knows_says_nothing(self, digest: str, site: Path, digests: Digests) -> None:
        (site / "x.py").write_text("x = 1\n")
        assert add(site, "x", f"x.py,{digest},6").files_missing(digests=digests) == []

    def test_no_pipe_in_the_place_of_a_file_is_waited_for(self, site: Path, digests: Digests) -> None:
        (site / "x.py").touch()
        one = add(site, "x", row(site / "x.py"))
        (site / "x.py").unlink()
        os.mkfifo(site / "x.py")
        assert one.files_missing(digests=digests) == [site / "x.py"]

    def test_a_file_that_cannot_be_read_is_as_good_as_none(
        self, site: Path, digests: Digests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (site / "x.py").touch()
        one = add(site, "x", row(site / "x.py"))

        def refuse(*_: object) -> str:
            raise PermissionError  # which root, who may run these tests, never meets

        monkeypatch.setattr(Digests, "of", refuse)
        assert one.files_missing(digests=digests) == [site / "x.py"]

    def test_of_what_conda_brought_only_what_lies_beside_it_is_looked_at(self, site: Path) -> None:
        one = add(site, "x", "x.py,,6", "gone.py,,6", "../../../bin/x,,6", "/opt/x,,6", "x.pyc,,6")
        (site / "x.py").write_text("of another size")
        (one.path / "INSTALLER").write_text("conda\n")
        assert one.files_missing() == [site / "gone.py"]

    def test_a_record_counts_as_far_as_it_can_be_read(self, site: Path) -> None:
        one = add(site, "x", "x\0.py,,", "", "y.py", f"{'z' * 200_000},,", "never.py,,")
        assert list(distributions.recorded(one.path)) == ["x.py", "y.py"]

    def test_harm_is_looked_for_where_the_file_has_other_names(self, site: Path, tmp_path: Path) -> None:
        """Only the environments that have the same version, and of these only those where it is the same file."""
        (site / "shared.py").write_text("x")
        (site / "own.py").write_text("x")
        one = add(site, "x", "shared.py,,6", "own.py,,6", "gone.py,,6")
        others = [tmp_path / name for name in ("shares", "copied", "has-not", "is-none")]
        for prefix in others[:3]:
            folder = prefix / "lib/python3.12/site-packages"
            folder.mkdir(parents=True)
            if prefix.name != "has-not":
                add(folder, "x")
        os.link(site / "shared.py", others[0] / "lib/python3.12/site-packages/shared.py")
        (others[1] / "lib/python3.12/site-packages/shared.py").write_text("x")
        assert list(distributions.harmed_elsewhere(one, others)) == [
            (site / "shared.py", site / "shared.py"),
            (site / "shared.py", others[0] / "lib/python3.12/site-packages/shared.py"),
        ]
